"""Exact differences between two checkpoints, of any number of changed weights."""
