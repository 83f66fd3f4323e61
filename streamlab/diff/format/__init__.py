"""The diff file: frame, positions, values and head."""
