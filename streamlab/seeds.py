"""Seeds derived from identity, never from position: the same task gives the same bytes."""

from __future__ import annotations

import hashlib

from streamlab.hashing import canonical_json


def derived_seed(*parts: str | int) -> int:
    """Return 62 bits of the SHA-256 of `parts`, which name what the seed is for."""
    digest = hashlib.sha256(canonical_json(list(parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2
