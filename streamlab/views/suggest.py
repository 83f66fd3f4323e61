"""What was probably meant by a name that leads nowhere."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a sentence that names what comes near `name`, else all that is known."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(f'`{n}`' for n in near)}?"
    return f"Known: {', '.join(known)}." if known else "There is none."
