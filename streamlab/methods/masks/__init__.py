"""Which entries of the base may change."""
