"""The stream of codes: exact in every way it can be coded, and close to its entropy."""

from __future__ import annotations

import math
import random
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamlab.diff.format.ans import MAX_NUMBERS, ROOT_BITS, read_ans, write_ans
from streamlab.diff.format.code_stream import CODED, PACKED, read_codes, write_codes
from streamlab.diff.format.codec import CodecName
from streamlab.diff.format.values import (
    INTEGER_BITS,
    VALUE_BITS,
    ValueType,
    code_dtype,
    code_range,
    round_values,
)
from streamlab.errors import DiffFormatError

NAMES: tuple[CodecName, ...] = get_args(CodecName)
INTEGERS: list[ValueType] = [one for one in get_args(ValueType) if one in INTEGER_BITS]
LOW_BIT: list[ValueType] = ["sign", "ternary", "int2", "int4"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value_type", INTEGERS)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 3000), spread=st.sampled_from([0.1, 1.0]))
def test_few_bits_come_back_however_they_are_coded(
    name: CodecName, value_type: ValueType, seed: int, n: int, spread: float
) -> None:
    least, most = code_range(value_type)
    rng = np.random.default_rng(seed)
    codes = rng.integers(round(spread * least), 1 + round(spread * most), size=n).astype(np.int16)

    coding, data = write_codes(codes, value_type, name)
    back = read_codes(coding, data, value_type, name, n, "value-stream")

    assert back.dtype == code_dtype(value_type, name)
    np.testing.assert_array_equal(back, codes)
    assert len(data) <= -(-n * VALUE_BITS[value_type] // 8)


@pytest.mark.parametrize("value_type", ["fp32", "fp16", "bf16"])
@settings(deadline=None)
@given(raw=st.binary(max_size=64))
def test_wide_codes_are_packed_as_they_are(value_type: ValueType, raw: bytes) -> None:
    dtype = code_dtype(value_type, "xz")
    codes = np.frombuffer(raw[: len(raw) // dtype.itemsize * dtype.itemsize], dtype=dtype)

    coding, data = write_codes(codes, value_type, "xz")

    assert (coding, data) == (PACKED, codes.tobytes())
    assert read_codes(coding, data, value_type, "xz", len(codes), "x").tobytes() == data


@settings(deadline=None)
@given(st.lists(st.integers(0, 15), max_size=200), st.sampled_from([16, 17, 256]))
def test_any_symbols_come_back(symbols: list[int], n_symbols: int) -> None:
    w, data = write_ans(np.array(symbols, np.int64), n_symbols)

    assert read_ans(data, w, n_symbols, len(symbols), "x").tolist() == symbols


@pytest.mark.parametrize("value_type", LOW_BIT)
@pytest.mark.parametrize("k", [500, 2000, 10_000])
def test_few_codes_take_their_entropy_and_the_cost_of_their_frequencies(
    value_type: ValueType, k: int
) -> None:
    """Within 3% of k H + (m - 1)/2 log2 k bits."""
    for seed, values in enumerate(("normal", "laplace", "uniform")):
        drawn = getattr(np.random.default_rng(seed), values)(size=k) - (values == "uniform") / 2
        codes = round_values(drawn.astype(np.float32), np.array([k]), value_type).numbers
        _, counts = np.unique(codes, return_counts=True)
        bound = float((counts * np.log2(k / counts)).sum()) + (len(counts) - 1) / 2 * math.log2(k)

        assert 8 * len(write_codes(codes, value_type, "pcodec")[1]) <= 1.03 * bound


def test_even_bits_are_packed() -> None:
    signs = np.random.default_rng(0).integers(-1, 1, size=5000)

    assert write_codes(signs, "sign", "pcodec")[0] == PACKED


def test_uneven_bits_take_less_than_one_each() -> None:
    signs = -(np.random.default_rng(0).random(5000) < 0.1).astype(np.int16)

    coding, data = write_codes(signs, "sign", "pcodec")

    assert coding in ROOT_BITS
    assert 8 * len(data) < 0.5 * 5000


def test_codes_too_many_for_one_at_a_time_are_left_to_the_codec() -> None:
    codes = np.arange(MAX_NUMBERS + 1, dtype=np.int16) % 7 - 3

    assert write_codes(codes[:-1], "int4", "pcodec")[0] in ROOT_BITS
    assert write_codes(codes, "int4", "pcodec")[0] == CODED


def test_bits_are_packed_lowest_first() -> None:
    signs = np.array([0, -1, -1, 0, 0, -1, 0, 0, -1], dtype=np.int8)

    assert write_codes(signs, "sign", "xz") == (PACKED, b"\x26\x01")
    assert write_codes(np.array([1, -2, 0], np.int8), "int2", "xz") == (PACKED, b"\x09")
    assert write_codes(np.array([1, -1, 0], np.int8), "ternary", "xz") == (PACKED, b"\x0d")
    assert write_codes(np.array([-8, 7, 3], np.int8), "int4", "xz") == (PACKED, b"\x78\x03")


WRONG = [
    *((PACKED, data) for data in (b"", b"\0\0", b"\x08")),
    *((2, data) for data in (b"", b"\4", b"\1\1", b"\1\0")),
    *((CODED, data) for data in (b"", b"junk")),
    (8, b"\0"),
]


@pytest.mark.parametrize(("coding", "data"), WRONG)
def test_wrong_codes_are_refused_by_rule(coding: int, data: bytes) -> None:
    assert read_codes(PACKED, b"\7", "sign", "xz", 3, "x").tolist() == [-1, -1, -1]
    assert read_codes(2, b"\1", "sign", "xz", 3, "x").tolist() == [0, 0, 0]
    with pytest.raises(DiffFormatError, match="`value-stream`"):
        read_codes(coding, data, "sign", "xz", 3, "value-stream")


@pytest.mark.parametrize(("coding", "data"), [(PACKED, b"\0"), (CODED, b""), (2, b"\0")])
def test_no_codes_are_packed_in_no_bytes(coding: int, data: bytes) -> None:
    assert write_codes(np.zeros(0, np.int16), "sign", "xz") == (PACKED, b"")
    assert len(read_codes(PACKED, b"", "sign", "xz", 0, "x")) == 0
    with pytest.raises(DiffFormatError, match="`value-stream`"):
        read_codes(coding, data, "sign", "xz", 0, "value-stream")


def test_too_many_codes_are_refused_before_they_are_read() -> None:
    with pytest.raises(DiffFormatError, match="at most 16384 numbers"):
        read_codes(4, b"\0\0", "ternary", "xz", 2**31 - 1, "value-stream")


@pytest.mark.parametrize("value_type", INTEGERS)
def test_a_damaged_stream_is_refused_or_holds_as_many_codes(value_type: ValueType) -> None:
    rng = np.random.default_rng(3)
    codes: NDArray[Any] = round_values(
        rng.laplace(size=400).astype(np.float32), np.array([400]), value_type
    ).numbers
    n_symbols = 1 + code_range(value_type)[1] - code_range(value_type)[0]
    w, stream = write_ans(codes.astype(np.int64) % n_symbols, n_symbols)
    damage = random.Random(value_type)  # noqa: S311 - damage need not be secret
    refused = 0

    for _ in range(2000):
        mutant = bytearray(stream)
        for _ in range(damage.choice([1, 1, 3])):
            mutant[damage.randrange(len(mutant))] = damage.randrange(256)
        try:
            back = read_codes(w, bytes(mutant), value_type, "xz", 400, "value-stream")
        except DiffFormatError:
            refused += 1
        else:
            assert len(back) == 400
            assert (
                code_range(value_type)[0] <= back.min() <= back.max() <= code_range(value_type)[1]
            )

    assert refused > 1000
