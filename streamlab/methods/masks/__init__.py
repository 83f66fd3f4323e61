"""Mask selectors: rules that choose which entries of the base may change."""
