"""A stored diff in use: load the base, apply a diff, predict, merge, switch."""
