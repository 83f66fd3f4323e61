"""Where the examples of a task come from: files, hub, package or synthetic data."""
