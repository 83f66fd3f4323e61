"""Synthetic data in the shape of the nine GLUE tasks, from a grammar and a lexicon."""

from __future__ import annotations

from streamlab.tasks.synthetic.generator import describes, generate

__all__ = ["describes", "generate"]
