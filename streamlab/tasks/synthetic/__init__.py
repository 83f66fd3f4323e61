"""Stand-ins for the nine GLUE tasks, written by our own grammar and lexicon."""

from __future__ import annotations

from streamlab.tasks.synthetic.catalogue import describes, generate

__all__ = ["describes", "generate"]
