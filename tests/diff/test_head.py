from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamlab.diff.format.head import HeadType, read_head, round_head, write_head
from streamlab.diff.format.values import INTEGER_BITS, round_values
from streamlab.errors import DiffError

HEAD_TYPES: tuple[HeadType, ...] = get_args(HeadType)


def drawn(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def on_grid(shape: tuple[int, int], largest: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw multiples of a scale for every row, up to `largest` of them."""
    rng = np.random.default_rng(seed)
    multiples = rng.integers(1, largest + 1, size=shape) * rng.choice([-1, 1], size=shape)
    return multiples.astype(np.float32) * rng.random((shape[0], 1)).astype(np.float32)


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), max_size=4).map(tuple), st.sampled_from(HEAD_TYPES))
def test_a_head_comes_back_as_it_was_rounded(shape: tuple[int, ...], head_type: HeadType) -> None:
    rounded = round_head({"h.bias": drawn((3,)), "h.weight": drawn(shape)}, head_type)

    back = read_head(write_head(rounded))

    assert list(back) == ["h.bias", "h.weight"]
    for name, tensor in rounded.items():
        assert back[name].widen().tobytes() == tensor.widen().tobytes()
        assert back[name].shape == tensor.shape


@pytest.mark.parametrize(
    ("head_type", "asked"), [(t, a) for i, t in enumerate(HEAD_TYPES[:4]) for a in HEAD_TYPES[i:]]
)
def test_what_lies_on_the_grid_of_a_type_of_fewer_bytes_keeps_every_bit(
    head_type: HeadType, asked: HeadType
) -> None:
    weights = on_grid((3, 96), 1 << INTEGER_BITS[head_type] - 1)

    tensor = round_head({"w": weights}, asked)["w"]

    assert tensor.head_type == head_type
    assert tensor.widen().tobytes() == weights.tobytes()


@pytest.mark.parametrize("head_type", HEAD_TYPES[:4])
def test_a_low_bit_tensor_takes_its_bits_and_a_scale_a_row(head_type: HeadType) -> None:
    weights = drawn((3, 384))

    section = write_head(round_head({"w": weights}, head_type))

    assert len(section) == 2 + 1 + 4 + 3 * 4 + 3 * 384 * INTEGER_BITS[head_type] // 8


@pytest.mark.parametrize("head_type", HEAD_TYPES[:4])
def test_rows_are_rounded_like_the_values_of_a_group(head_type: HeadType) -> None:
    weights = drawn((4, 50))
    codes = round_values(weights.reshape(-1), np.full(4, 50), head_type)

    tensor = round_head({"w": weights}, head_type)["w"]

    assert np.array_equal(tensor.codes.numbers, codes.numbers)
    assert np.array_equal(tensor.codes.scales, codes.scales)


def test_a_vector_has_one_scale() -> None:
    assert len(round_head({"b": drawn((5,))}, "int4")["b"].codes.scales) == 1


def test_halves_are_stored_in_two_bytes_though_four_are_asked_for() -> None:
    halves = {"w": drawn((2, 9)).astype(np.float16).astype(np.float32)}

    tensor = round_head(halves, "fp32")["w"]

    assert (tensor.head_type, tensor.widen().tobytes()) == ("fp16", halves["w"].tobytes())


def test_signs_of_zeros_survive_in_float_types() -> None:
    zeros = {"w": np.array([0.0, -0.0, 1e-3], np.float32)}

    assert round_head(zeros, "fp32")["w"].widen().tobytes() == zeros["w"].tobytes()


def test_a_large_entry_fits_every_type_but_fp16() -> None:
    large = {"w": np.array([[1e6, 3.0, 0.1]], np.float32)}

    for head_type in HEAD_TYPES:
        if head_type == "fp16":
            with pytest.raises(DiffError, match="head's `w` exceeds the range of fp16"):
                round_head(large, head_type)
        else:
            assert np.isfinite(round_head(large, head_type)["w"].widen()).all()


@pytest.mark.parametrize("head_type", HEAD_TYPES)
@pytest.mark.parametrize("shape", [(2, 64), (3, 64), (2,)])
def test_a_first_row_of_zeros_takes_no_bytes(shape: tuple[int, ...], head_type: HeadType) -> None:
    weights = drawn(shape)
    weights[0] = 0

    zeros, others = (
        round_head({"w": weights}, head_type)["w"],
        round_head({"w": weights[1:]}, head_type)["w"],
    )

    assert zeros.widen()[1:].tobytes() == others.widen().tobytes()
    assert not zeros.widen()[0].any()
    assert zeros.n_stored == others.n_stored == weights[1:].size
    assert len(write_head({"w": zeros})) == len(write_head({"w": others}))
    assert read_head(write_head({"w": zeros}))["w"].widen().tobytes() == zeros.widen().tobytes()


def test_a_negative_zero_or_a_single_row_is_stored() -> None:
    negative = np.array([[0.0, -0.0], [1.0, 2.0]], np.float32)
    single = np.zeros((1, 4), np.float32)

    assert round_head({"w": negative}, "fp32")["w"].widen().tobytes() == negative.tobytes()
    assert not round_head({"w": single}, "fp32")["w"].zero_row
