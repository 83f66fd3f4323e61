"""A stored diff in use."""
