from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.errors import RegistryError
from streamlab.registry.artifacts import pack_counts, unpack_counts


@given(st.lists(st.integers(min_value=0, max_value=2**32 - 1), max_size=200))
def test_counts_come_back_as_they_were_packed(counts: list[int]) -> None:
    assert unpack_counts(pack_counts(counts)) == tuple(counts)


def test_the_blob_is_deflated_little_endian_uint32() -> None:
    blob = pack_counts([1, 256, 2**32 - 1])

    assert zlib.decompress(blob) == bytes.fromhex("01000000 00010000 ffffffff")


def test_counts_of_a_real_diff_take_few_bytes() -> None:
    counts = [1769 if number % 16 == 0 else 7 for number in range(104)]

    assert len(pack_counts(counts)) < 2 * len(counts)


@pytest.mark.parametrize("wrong", [-1, 2**32, 1.5, "1", None])
def test_a_number_that_is_no_count_is_refused(wrong: object) -> None:
    with pytest.raises(RegistryError, match="whole numbers in"):
        pack_counts([1, wrong])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "blob",
    [b"", b"not deflated", pack_counts([1, 2])[:-3], zlib.compress(struct.pack("<3H", 1, 2, 3))],
)
def test_a_damaged_blob_is_refused(blob: bytes) -> None:
    with pytest.raises(RegistryError, match="damaged"):
        unpack_counts(blob)
