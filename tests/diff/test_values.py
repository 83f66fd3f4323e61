from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.diff.format.values import round_values, widen_values
from streamlab.errors import DiffError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamlab.diff.format.values import ValueType

LEVELS = [("int8", 128), ("int4", 8), ("int2", 2), ("sign", 1)]
ANY_VALUE = st.floats(-(2.0**127), 2.0**127, width=32).filter(bool)


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def counts_of(*counts: int) -> NDArray[np.int64]:
    return np.array(counts, dtype=np.int64)


def there_and_back(
    values: NDArray[np.float32], counts: NDArray[np.int64], value_type: ValueType
) -> NDArray[np.float32]:
    return widen_values(round_values(values, counts, value_type), counts, value_type)


@settings(deadline=None, max_examples=50)
@given(st.lists(ANY_VALUE, min_size=1, max_size=50))
def test_bfloat16_rounds_as_torch_does(drawn: list[float]) -> None:
    values = floats(*drawn)

    back = there_and_back(values, counts_of(len(values)), "bf16")

    expected = torch.tensor(drawn, dtype=torch.float32).bfloat16().float().numpy()
    kept = expected != 0
    np.testing.assert_array_equal(back[kept], expected[kept])
    assert (np.sign(back) == np.sign(values)).all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-65_000, 65_000, width=32).filter(bool), min_size=1, max_size=50))
def test_float16_rounds_as_torch_does(drawn: list[float]) -> None:
    values = floats(*drawn)

    back = there_and_back(values, counts_of(len(values)), "fp16")

    expected = torch.tensor(drawn, dtype=torch.float32).half().float().numpy()
    kept = expected != 0
    np.testing.assert_array_equal(back[kept], expected[kept])
    assert (np.sign(back) == np.sign(values)).all()


@settings(deadline=None, max_examples=50)
@given(st.lists(ANY_VALUE, min_size=1, max_size=50))
def test_float32_is_kept_bit_for_bit(drawn: list[float]) -> None:
    values = floats(*drawn)

    back = there_and_back(values, counts_of(len(values)), "fp32")

    assert back.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("value_type", "smallest"), [("fp16", 2.0**-24), ("bf16", 2.0**-133), ("fp32", 2.0**-149)]
)
def test_a_value_too_small_takes_the_smallest_magnitude(
    value_type: ValueType, smallest: float
) -> None:
    tiny = floats(2.0**-149, -(2.0**-149))

    assert there_and_back(tiny, counts_of(2), value_type).tolist() == [smallest, -smallest]


@pytest.mark.parametrize(("value_type", "levels"), LEVELS)
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), log_spread=st.integers(-30, 30))
def test_integer_values_are_multiples_of_a_scale_and_never_zero(
    value_type: ValueType, levels: int, seed: int, log_spread: int
) -> None:
    rng = np.random.default_rng(seed)
    counts = counts_of(*rng.integers(0, 40, size=4), 1)
    values = (rng.laplace(size=counts.sum()) * 10.0**log_spread).astype(np.float32)
    values[values == 0] = 1

    codes = round_values(values, counts, value_type)
    back = widen_values(codes, counts, value_type)

    scales = np.repeat(codes.scales, counts[counts > 0])
    multiples = np.rint(back / scales)
    np.testing.assert_array_equal(back, multiples * scales)
    assert np.abs(multiples).max() <= levels
    assert np.abs(multiples).min() >= 1
    assert (np.sign(back) == np.sign(values)).all()


@pytest.mark.parametrize(("value_type", "levels"), [("int8", 128), ("int4", 8)])
def test_the_scale_leaves_less_error_than_reaching_for_the_largest_value(
    value_type: ValueType, levels: int
) -> None:
    rng = np.random.default_rng(5)
    values = rng.laplace(size=4000).astype(np.float32)
    counts = counts_of(1000, 3000)

    back = there_and_back(values, counts, value_type)

    for part, rounded in zip(
        np.split(values.astype(float), [1000]), np.split(back, [1000]), strict=True
    ):
        scale = np.abs(part).max() / levels
        naive = np.sign(part) * np.clip(np.rint(np.abs(part) / scale), 1, levels) * scale
        assert np.square(rounded - part).sum() < np.square(naive - part).sum()


@pytest.mark.parametrize(("value_type", "levels"), LEVELS)
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(2.0**-100, 2.0**100, width=32))
def test_multiples_of_any_scale_come_back_bit_for_bit(
    value_type: ValueType, levels: int, seed: int, scale: float
) -> None:
    """Some of the multiples, not the largest either: what training through a quantiser returns."""
    rng = np.random.default_rng(seed)
    most = int(rng.integers(1, levels + 1))
    counts = counts_of(*rng.integers(1, 60, size=3))
    multiples = rng.integers(1, most + 1, size=counts.sum()) * rng.choice([-1, 1], counts.sum())
    scales = np.float32(scale) * rng.random(3).astype(np.float32) + np.float32(1e-30)
    values = multiples.astype(np.float32) * np.repeat(scales, counts)

    back = there_and_back(values, counts, value_type)

    assert back.tobytes() == values.tobytes()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_sign_is_kept_with_the_mean_magnitude_of_its_tensor(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = counts_of(5, 0, 70)
    values = rng.laplace(size=75).astype(np.float32)
    values[values == 0] = 1

    back = there_and_back(values, counts, "sign")

    for part, rounded in zip(np.split(values, [5]), np.split(back, [5]), strict=True):
        mean = np.abs(part).mean(dtype=np.float64)
        np.testing.assert_allclose(rounded, np.sign(part) * mean, rtol=1e-6)


@pytest.mark.parametrize("value_type", ["int8", "int4", "int2", "sign"])
def test_a_value_of_zero_counts_as_positive_in_integer_types(value_type: ValueType) -> None:
    back = there_and_back(floats(0.0, -0.0, 4.0, -4.0, 0.0), counts_of(4, 1), value_type)

    assert (np.sign(back) == [1, 1, 1, -1, 1]).all()


@pytest.mark.parametrize("value_type", ["fp32", "fp16", "bf16", "ternary"])
def test_a_value_of_zero_stays_zero_where_the_type_has_one(value_type: ValueType) -> None:
    codes = round_values(floats(0.0, 1.0), counts_of(2), value_type)

    assert widen_values(codes, counts_of(2), value_type, zeros=True).tolist() == [0.0, 1.0]


def test_ternary_rounds_to_zero_below_half_the_scale() -> None:
    values = floats(4.0, 4.4, -3.6, 0.1, -0.2, 1.2)

    back = widen_values(
        round_values(values, counts_of(6), "ternary"), counts_of(6), "ternary", zeros=True
    )

    np.testing.assert_allclose(back, [4, 4, -4, 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 0.7, 1e-44])
def test_ternary_values_on_their_grid_keep_every_bit(scale: float) -> None:
    values = np.float32(scale) * floats(1, 0, -1, 0, 0, 1, 0, 0, 0)
    counts = counts_of(6, 3)

    codes = round_values(values, counts, "ternary")

    assert codes.numbers.tolist() == [1, 0, -1, 0, 0, 1, 0, 0, 0]
    back = widen_values(codes, counts, "ternary", zeros=True)
    assert np.array_equal(back, values)


def test_every_tensor_has_its_own_scale() -> None:
    values = floats(8e-3, 1e-3, 8e3, 1e3)

    back = there_and_back(values, counts_of(2, 0, 2), "int4")

    np.testing.assert_allclose(back, values, rtol=1e-6)


@pytest.mark.parametrize(("value_type", "largest"), [("fp16", 7e4), ("bf16", 3.4028235e38)])
def test_a_value_too_large_for_its_type_is_refused(value_type: ValueType, largest: float) -> None:
    with pytest.raises(DiffError, match=f"{value_type} cannot represent the value"):
        round_values(floats(1.0, -largest), counts_of(2), value_type)


@pytest.mark.parametrize("value_type", ["int8", "int4", "int2", "sign", "ternary"])
def test_the_largest_floats_fit_into_integers(value_type: ValueType) -> None:
    largest = float(np.finfo(np.float32).max)

    back = there_and_back(floats(largest, -largest), counts_of(2), value_type)

    np.testing.assert_allclose(back, [largest, -largest], rtol=1e-6)
