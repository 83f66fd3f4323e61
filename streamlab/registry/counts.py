"""Per-tensor counts as one blob: little-endian uint32, deflated.

As rows they would be a hundred million at a million arrivals.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from streamlab.errors import RegistryError


def pack_counts(counts: Sequence[int]) -> bytes:
    """Pack counts, each in [0, 2**32). Raises RegistryError for any other number."""
    try:
        return zlib.compress(
            struct.pack(f"<{len(counts)}I", *counts), level=1
        )  # no larger than others
    except struct.error as error:
        raise RegistryError(
            f"Per-tensor counts must be whole numbers in [0, 2**32), got {list(counts)!r}."
        ) from error


def unpack_counts(blob: bytes) -> tuple[int, ...]:
    """Return the counts that `pack_counts` packed. Raises RegistryError for a damaged blob."""
    try:
        plain = zlib.decompress(blob)
        return struct.unpack(f"<{len(plain) // 4}I", plain)
    except (zlib.error, struct.error) as error:
        raise RegistryError(
            f"The per-tensor counts of a stored diff are damaged: {error}. "
            "Restore the registry from a copy."
        ) from error
