"""Changes of tensors come back bit for bit, and as an independent coder in Python writes them."""

from __future__ import annotations

import numpy as np
import pytest
from exact_samples import AWKWARD, UNSIGNED, awkward, edge_case
from python_coder import PythonWriter

from streamlab.exact.coder import ChangeReader, ChangeWriter, Kind

DTYPES = sorted(UNSIGNED)
Pairs = list[tuple["np.ndarray | None", np.ndarray, Kind]]


def flat(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def written(pairs: Pairs) -> bytes:
    writer = ChangeWriter()
    parts = []
    for base, tuned, kind in pairs:
        writer.write(None if base is None else flat(base), flat(tuned), kind)
        parts.append(writer.take())
    return b"".join([*parts, writer.finish()])


def assert_comes_back(pairs: Pairs) -> bytes:
    data = written(pairs)
    reader = ChangeReader(np.frombuffer(data, dtype=np.uint8))
    for base, tuned, kind in pairs:
        found = reader.read(None if base is None else flat(base), kind)
        assert found.tobytes() == tuned.tobytes()
    assert reader.is_done
    return data


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bit_of_a_thousand_edge_cases_comes_back(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(1000 // len(DTYPES) + 1):
        base, tuned = edge_case(rng, dtype)
        assert_comes_back([(base, tuned, Kind(dtype, base.shape))])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_awkward_number_may_become_any_other(dtype: str) -> None:
    numbers = awkward(dtype)
    base, tuned = np.repeat(numbers, len(numbers)), np.tile(numbers, len(numbers))

    assert len(numbers) == 2 * len(AWKWARD[dtype])
    assert_comes_back([(base, tuned, Kind(dtype, base.shape))])


def test_tensors_that_follow_one_another_come_back_in_order() -> None:
    rng = np.random.default_rng(2)
    pairs: Pairs = []
    for number in range(60):
        dtype = DTYPES[number % 3]
        base, tuned = edge_case(rng, dtype)
        pairs.append((base, tuned, Kind(dtype, base.shape)))
    pairs.append((None, pairs[0][1], pairs[0][2]))

    assert_comes_back(pairs)


@pytest.mark.parametrize("dtype", ["I64", "U8", "F64", "BOOL"])
def test_numbers_of_other_types_come_back(dtype: str) -> None:
    rng = np.random.default_rng(3)
    kind = Kind(dtype, (7, 5))
    base = rng.integers(0, 2, kind.n_bytes, dtype=np.uint8)
    tuned = base.copy()
    tuned[3:9] ^= 1

    assert_comes_back([(base, base, kind), (base, tuned, kind), (None, tuned, kind)])


def test_what_does_not_change_takes_next_to_nothing() -> None:
    base = np.arange(1 << 16, dtype=np.uint16)
    pairs: Pairs = [(base, base, Kind("BF16", (256, 256)))] * 100

    assert len(assert_comes_back(pairs)) <= 4


def test_the_stream_is_what_the_description_in_python_writes() -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        pairs: Pairs = []
        for dtype in DTYPES:
            base, tuned = edge_case(rng, dtype)
            pairs.append((base, tuned, Kind(dtype, base.shape)))
            pairs.append((None, tuned, Kind(dtype, base.shape)))
        reference = PythonWriter()
        for one in pairs:
            reference.write(*one)

        assert written(pairs) == reference.finish()


def test_signs_of_changes_of_rank_one_take_less_than_half_a_bit_each() -> None:
    rng = np.random.default_rng(5)
    rows, columns = rng.choice([-1, 1], 200), rng.choice([-1, 1], 300)
    agreeing = np.outer(rows, columns)
    base = np.full((200, 300), 0x3F80, dtype=np.uint16)
    kind = Kind("BF16", base.shape)

    n_bytes = len(written([(base, base + agreeing.astype(np.uint16), kind)]))

    random = base + rng.choice([-1, 1], base.shape).astype(np.uint16)
    assert 8 * n_bytes / base.size < 0.5
    assert 0.95 < 8 * len(written([(base, random, kind)])) / base.size < 1.05


@pytest.mark.parametrize("change", ["shorter", "longer", "flipped"])
def test_other_data_are_read_within_bounds_and_told(change: str) -> None:
    rng = np.random.default_rng(6)
    base = rng.integers(0, 1 << 16, (40, 50), dtype=np.uint16)
    tuned = base + rng.integers(0, 3, base.shape, dtype=np.uint16)
    kind = Kind("BF16", base.shape)
    data = bytearray(written([(base, tuned, kind)]))
    if change == "shorter":
        del data[-2:]
    elif change == "longer":
        data += b"\x01\x02"
    else:
        data[len(data) // 2] ^= 0x10

    reader = ChangeReader(np.frombuffer(bytes(data), dtype=np.uint8))
    found = reader.read(flat(base), kind)

    assert len(found) == kind.n_bytes
    assert not (reader.is_done and found.tobytes() == tuned.tobytes())
