"""Canonical JSON: one way to write one thing, so that equal things have equal digests.

Apart from the settings, so that a command that reads none does not load their library.
"""

from __future__ import annotations

import json
from typing import Any


def canonical_json(tree: Any) -> str:
    """Write JSON one way only: sorted keys, no spaces, no NaN, ASCII."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)
