"""Hard-Concrete gates, the gated stage, and the controller of the expected density."""
