"""The generator: MurmurHash3, uniform, and the same however it is asked."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from sklearn.utils import murmurhash3_32

from streamlab.diff.counter_hash import prefix
from streamlab.methods.gates.hard_concrete import FIRST_POSITION
from streamlab.methods.kernels.counter_rng import uniforms

CPU = torch.device("cpu")
N = 100_000

words = st.integers(0, 2**64 - 1)
steps = st.integers(0, 2**32 - 1)


def uniform(seed: int, step: int, position: int) -> float:
    """Return one number in (0, 1), as `uniforms` gives it."""
    return float(uniforms(seed, step, position, 1, CPU)[0])


def message(seed: int, step: int, position: int) -> bytes:
    """Return the bytes that are hashed: four little-endian words."""
    words = [seed >> 32, step, position >> 32, position]
    return np.array([word & 0xFFFFFFFF for word in words], dtype="<u4").tobytes()


def reference(seed: int, step: int, position: int) -> float:
    """Return the number by another implementation of the hash."""
    hashed = murmurhash3_32(message(seed, step, position), seed=seed & 0xFFFFFFFF, positive=True)
    return float((hashed >> 9) / 2**23 + 2.0**-24)


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [
        (b"", 0, 0),
        (b"", 1, 0x514E28B7),
        (b"", 0xFFFFFFFF, 0x81F16F39),
        (b"\xff\xff\xff\xff", 0, 0x76293B50),
        (b"\x21\x43\x65\x87", 0, 0xF55B516B),
        (b"\x21\x43\x65\x87", 0x5082EDEE, 0x2362F9DE),
        (b"\x00\x00\x00\x00", 0, 0x2362F9DE),
        (b"aaaa", 0x9747B28C, 0x5A97808A),
        (b"Hello, world!", 0x9747B28C, 0x24884CBA),
    ],
)
def test_the_reference_gives_the_published_vectors(data: bytes, seed: int, expected: int) -> None:
    assert murmurhash3_32(data, seed=seed, positive=True) == expected


def test_the_reference_passes_the_verification_that_comes_with_the_hash() -> None:
    # SMHasher: the hashes of 256 keys of every length up to 255, hashed once more.
    hashes = [murmurhash3_32(bytes(range(n)), seed=256 - n, positive=True) for n in range(256)]

    assert murmurhash3_32(struct.pack("<256I", *hashes), seed=0, positive=True) == 0xB0F57EE3


@settings(deadline=None, max_examples=300)
@given(seed=words, step=steps, position=words)
def test_every_number_is_the_hash_of_seed_step_and_position(
    seed: int, step: int, position: int
) -> None:
    assert uniform(seed, step, position) == reference(seed, step, position)


@pytest.mark.parametrize("position", [0, 2**31 - 1, 2**31, 2**32 - 1, 2**32, FIRST_POSITION])
def test_numbers_at_the_edges_of_a_word_are_the_hash(position: int) -> None:
    assert uniform(2**63 + 7, 2**32 - 1, position) == reference(2**63 + 7, 2**32 - 1, position)


def test_what_is_hashed_is_four_little_endian_words() -> None:
    assert message(0x1111111122222222, 3, 0x4444444455555555) == bytes.fromhex(
        "11111111 03000000 44444444 55555555"
    )


def test_the_prefix_depends_on_both_halves_of_the_seed_on_step_and_high_word() -> None:
    places = [(0, 0, 0), (1, 0, 0), (2, 0, 0), (1 << 32, 0, 0), (0, 1, 0), (0, 0, 1)]

    states = {prefix(*place) for place in places}

    assert len(states) == len(places)


@settings(deadline=None, max_examples=50)
@given(
    seed=words,
    step=steps,
    first=st.integers(0, 2**40),
    cuts=st.lists(st.integers(1, 300), min_size=1, max_size=6),
)
def test_blocks_of_any_size_give_the_same_numbers(
    seed: int, step: int, first: int, cuts: list[int]
) -> None:
    first -= first & 0xFFFF  # so that the range lies within one high word
    whole = uniforms(seed, step, first, sum(cuts), CPU)

    starts = np.cumsum([0, *cuts])[:-1]
    parts = [
        uniforms(seed, step, first + int(s), n, CPU) for s, n in zip(starts, cuts, strict=True)
    ]

    assert torch.equal(torch.cat(parts), whole)


def test_the_least_and_the_greatest_number_lie_inside_the_unit_interval() -> None:
    numbers = uniforms(0, 0, 0, 4_000_000, CPU)

    assert numbers.dtype == torch.float32
    assert 0.0 < float(numbers.min()) < 1e-6
    assert 1.0 - 1e-6 < float(numbers.max()) < 1.0


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 3])
@pytest.mark.parametrize("first", [0, 2**33 + 12_345])
def test_numbers_are_uniform(seed: int, first: int) -> None:
    numbers = uniforms(seed, 5, first, N, CPU).double().numpy()

    assert kstest(numbers, "uniform").statistic < 1.95 / math.sqrt(N)


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(np.corrcoef(first.double().numpy(), second.double().numpy())[0, 1])


@pytest.mark.parametrize("lag", [1, 2, 64, 65_536])
def test_neighbouring_positions_are_uncorrelated(lag: int) -> None:
    numbers = uniforms(9, 0, 0, N + lag, CPU)

    assert abs(correlation(numbers[:-lag], numbers[lag:])) < 4.0 / math.sqrt(N)


@pytest.mark.parametrize(("seed", "step"), [(9, 1), (9, 2), (9, 1000), (10, 0), (9 + 2**32, 0)])
def test_neighbouring_steps_and_seeds_are_uncorrelated(seed: int, step: int) -> None:
    here, there = uniforms(9, 0, 0, N, CPU), uniforms(seed, step, 0, N, CPU)

    assert abs(correlation(here, there)) < 4.0 / math.sqrt(N)
    assert abs(correlation((here - 0.5) ** 2, (there - 0.5) ** 2)) < 4.0 / math.sqrt(N)


def test_one_position_is_uniform_over_the_steps() -> None:
    numbers = np.array([uniform(4, step, 123) for step in range(2_000)])

    assert kstest(numbers, "uniform").statistic < 1.95 / math.sqrt(2_000)
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 4.0 / math.sqrt(2_000)
