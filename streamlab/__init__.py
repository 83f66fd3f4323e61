"""streamlab: what it costs to keep a tuned model for every task that arrives."""

__version__ = "0.1.0"
