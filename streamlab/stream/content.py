"""What a diff says, whichever way it is written: the digest by which copies are known.

A file can be written anew in another value type, by another codec, with another description or
with its head in half precision, and has other bytes each time. None of that changes

    the positions and the sign of the value at each;
    the head's names and shapes, and its entries rounded to half precision.

Two diffs that agree in these count as equal. Trained apart, two never do: they would have to
choose the same positions, move each the same way, and end with the same head.
"""

from __future__ import annotations

import hashlib
from itertools import chain

import numpy as np

from streamlab.diff.format.values import round_to_float16
from streamlab.diff.vector import DiffVector
from streamlab.hashing import canonical_json


def content_digest(diff: DiffVector) -> str:
    """Return the SHA-256, in hex, of what every way to write this diff has in common."""
    shapes = [[name, list(array.shape)] for name, array in sorted(diff.head.items())]
    outline = [diff.layout.fingerprint, diff.mode, list(diff.counts), shapes]
    digest = hashlib.sha256(canonical_json(outline).encode())
    # The outline says how many bytes of each follow, so that none can pass for another.
    entries = (
        part
        for tensor in diff.tensors
        for part in (tensor.positions.astype("<i8"), np.packbits(np.signbit(tensor.values)))
    )
    head = (
        round_to_float16(array, keep_non_zero=False).astype("<f2")
        for _, array in sorted(diff.head.items())
    )
    for part in chain(entries, head):
        digest.update(part.tobytes())
    return digest.hexdigest()
