"""A base's layout, from its record."""

from __future__ import annotations

from streamlab.diff.layout import Layout
from streamlab.registry.records import NewBase


def recorded_layout(base: NewBase) -> Layout:
    """Return the layout that a base was recorded with. Raises ValueError where it has no tensor."""
    names, shapes = zip(*base.layout, strict=True)
    return Layout(base.fingerprint, names, shapes)
