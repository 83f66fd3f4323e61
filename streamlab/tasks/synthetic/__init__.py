"""Synthetic data in the shape of the nine GLUE tasks, from a grammar and a lexicon."""
