from __future__ import annotations

import lzma
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.diff.format.codec import CODECS
from streamlab.errors import DiffFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamlab.diff.format.codec import CodecName

NAMES: tuple[CodecName, ...] = ("pcodec", "xz")
DTYPES = ("uint32", "uint16", "int16", "float16", "float32")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=50)
@given(raw=st.binary(max_size=400))
def test_any_numbers_come_back_bit_for_bit(name: CodecName, dtype: str, raw: bytes) -> None:
    item = np.dtype(dtype).itemsize
    numbers = np.frombuffer(raw[: len(raw) // item * item], dtype=dtype)

    data = CODECS[name].compress(numbers)
    back = CODECS[name].expand(data, np.dtype(dtype), len(numbers), "value-stream")

    assert back.dtype == dtype
    assert back.tobytes() == numbers.tobytes()


def test_single_bytes_come_back_by_xz() -> None:
    numbers = np.arange(-128, 128, dtype=np.int8)

    data = CODECS["xz"].compress(numbers)

    assert CODECS["xz"].expand(data, np.int8, 256, "value-stream").tolist() == numbers.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_more_than_one_page_comes_back(name: CodecName) -> None:
    numbers = np.random.default_rng(0).geometric(0.005, size=100_000).astype(np.uint32)

    data = CODECS[name].compress(numbers)

    back = CODECS[name].expand(data, np.uint32, len(numbers), "position-stream")
    np.testing.assert_array_equal(back, numbers)


@pytest.mark.parametrize("name", NAMES)
def test_stretches_of_any_length_come_back(name: CodecName) -> None:
    stretches = [1, 40_000, 2, 32_768, 70_001]
    numbers = np.random.default_rng(0).integers(0, 50, size=sum(stretches)).astype(np.uint32)

    data = CODECS[name].compress(numbers, stretches)

    back = CODECS[name].expand(data, np.uint32, len(numbers), "position-stream")
    np.testing.assert_array_equal(back, numbers)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [-1, 1, 50])
def test_another_number_of_numbers_is_refused(name: CodecName, wrong: int) -> None:
    data = CODECS[name].compress(np.arange(100, dtype=np.uint32))

    with pytest.raises(DiffFormatError, match="`position-stream`"):
        CODECS[name].expand(data, np.uint32, 100 + wrong, "position-stream")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("data", "count"), [(b"", 5), (b"\0", 0), (b"junk", 4)])
def test_what_is_no_stream_is_refused(name: CodecName, data: bytes, count: int) -> None:
    with pytest.raises(DiffFormatError, match="`value-stream`"):
        CODECS[name].expand(data, np.uint16, count, "value-stream")


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_of_another_type_is_refused(name: CodecName) -> None:
    data = CODECS[name].compress(np.arange(100, dtype=np.uint32))

    with pytest.raises(DiffFormatError, match="`value-stream`"):
        CODECS[name].expand(data, np.uint16, 100, "value-stream")


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_off_stream_is_refused(name: CodecName) -> None:
    data = CODECS[name].compress(np.arange(1000, dtype=np.uint32) ** 2)

    for length in range(1, len(data), 7):
        with pytest.raises(DiffFormatError):
            CODECS[name].expand(data[:length], np.uint32, 1000, "position-stream")


def test_bytes_after_an_xz_stream_are_refused() -> None:
    data = CODECS["xz"].compress(np.arange(100, dtype=np.uint32))

    with pytest.raises(DiffFormatError):
        CODECS["xz"].expand(data + b"\0\0\0\0", np.uint32, 100, "position-stream")


def expand_peak(data: bytes, count: int) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DiffFormatError):
            CODECS["xz"].expand(data, np.uint32, count, "position-stream")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_takes_no_more_memory_than_the_numbers_expected() -> None:
    filters: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 16}]
    bomb = lzma.compress(bytes(16 << 20), format=lzma.FORMAT_XZ, filters=filters)

    assert len(bomb) < 20_000
    assert expand_peak(bomb, count=1000) < 300_000


def test_a_dictionary_larger_than_the_limit_is_refused() -> None:
    filters: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}]
    data = lzma.compress(bytes(4000), format=lzma.FORMAT_XZ, filters=filters)

    with pytest.raises(DiffFormatError, match="damaged"):
        CODECS["xz"].expand(data, np.uint32, 1000, "position-stream")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_give_the_same_bytes(name: CodecName) -> None:
    numbers: NDArray[Any] = np.random.default_rng(1).normal(size=5000).astype(np.float32)

    assert CODECS[name].compress(numbers) == CODECS[name].compress(numbers.copy())
