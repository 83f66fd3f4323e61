from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.diff.format.varints import read_varints, write_varints
from streamlab.errors import DiffFormatError


@given(st.lists(st.integers(0, 2**35 - 1), max_size=20))
def test_numbers_come_back(numbers: list[int]) -> None:
    assert read_varints(write_varints(numbers), "rule-name") == numbers


def test_a_number_is_written_seven_bits_a_byte_lowest_first() -> None:
    assert write_varints([0, 127, 128, 300]) == bytes([0, 127, 0x80, 1, 0xAC, 2])


@pytest.mark.parametrize("data", [b"\x80", b"\x01\x80\x80", b"\x80\x00", b"\xff" * 9])
def test_a_number_cut_off_too_long_or_padded_is_refused(data: bytes) -> None:
    with pytest.raises(DiffFormatError, match="`rule-name`"):
        read_varints(data, "rule-name")
