"""Tasks: types, examples and their sources, tokenising, batching and metrics."""
