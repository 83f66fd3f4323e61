"""Tasks: their rows from files, hub, package or generator; tokenising, batching, metrics."""
