"""The content digest: the same for every way to write a diff, another for every other diff."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from admission_samples import BY_RULE, KEEPING, LAYOUT, VALUE_TYPES, drawn, head_only, ruled
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamlab.diff.format.codec import CodecName
from streamlab.diff.format.container import decode, encode, rounded
from streamlab.diff.format.head import HeadType
from streamlab.diff.format.values import ValueType
from streamlab.diff.rules import Rule
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.stream.admission import content_digest

SEEDS = st.integers(0, 10_000)


@settings(deadline=None)
@given(
    SEEDS,
    st.sampled_from(KEEPING),
    st.sampled_from(KEEPING),
    st.sampled_from(["pcodec", "xz"]),
    st.sampled_from(["fp32", "fp16"]),
    st.text(max_size=5),
)
def test_writing_a_diff_anew_changes_its_bytes_and_not_its_content(
    seed: int,
    first: ValueType,
    second: ValueType,
    codec: CodecName,
    head_type: HeadType,
    told: str,
) -> None:
    diff = drawn(seed)

    once = decode(encode(diff, value_type=first).data, LAYOUT)
    renamed = replace(once, task={"told": told})
    data = encode(renamed, value_type=second, codec=codec, head_type=head_type).data

    assert content_digest(decode(data, LAYOUT)) == content_digest(diff)


@pytest.mark.parametrize("value_type", KEEPING)
@pytest.mark.parametrize("rule", BY_RULE, ids=lambda rule: rule.name)
def test_writing_a_diff_by_rule_in_another_type_changes_no_content(
    rule: Rule, value_type: ValueType
) -> None:
    diff = ruled(rule)

    back = decode(encode(diff, value_type=value_type).data, LAYOUT)

    assert content_digest(back) == content_digest(diff)


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@pytest.mark.parametrize("diff", [drawn(), *map(ruled, BY_RULE)])
def test_writing_a_ternary_diff_in_another_type_changes_no_content(
    diff: DiffVector, value_type: ValueType
) -> None:
    ternary = rounded(diff, value_type="ternary")

    assert content_digest(rounded(ternary, value_type=value_type)) == content_digest(ternary)


@settings(deadline=None)
@given(SEEDS, SEEDS)
def test_two_trainings_have_the_same_content_only_if_they_are_one(one: int, other: int) -> None:
    same = content_digest(drawn(one)) == content_digest(drawn(other))

    assert same == (one == other)


def test_heads_that_differ_make_other_content_where_there_is_nothing_else() -> None:
    assert content_digest(head_only(1)) == content_digest(head_only(1))
    assert content_digest(head_only(1)) != content_digest(head_only(2))


def with_first(change: Callable[[SparseTensor], SparseTensor]) -> DiffVector:
    diff = drawn()
    first, *rest = diff.tensors
    return replace(diff, tensors=(change(first), *rest))


def moved(tensor: SparseTensor) -> SparseTensor:
    free = next(p for p in range(tensor.size) if p not in set(tensor.positions.tolist()))
    positions = np.sort(np.append(tensor.positions[1:], free))
    return SparseTensor(tensor.shape, positions, tensor.values)


def turned(tensor: SparseTensor) -> SparseTensor:
    values = tensor.values.copy()
    values[0] *= -1
    return SparseTensor(tensor.shape, tensor.positions, values)


@pytest.mark.parametrize("change", [moved, turned])
def test_another_place_or_another_direction_is_other_content(
    change: Callable[[SparseTensor], SparseTensor],
) -> None:
    assert content_digest(with_first(lambda tensor: tensor)) == content_digest(drawn())
    assert content_digest(with_first(change)) != content_digest(drawn())


@pytest.mark.parametrize("tiny", [-0.0, 1e-45, -1e-40, 1e-7, -5e-5])
def test_a_signed_zero_or_a_subnormal_number_makes_no_other_content(tiny: float) -> None:
    name, values = next(iter(drawn().head.items()))
    one, other = values.copy(), values.copy()
    one.flat[0], other.flat[0] = 0.0, tiny

    def digest(head: NDArray[np.float32]) -> str:
        return content_digest(replace(drawn(), head={**drawn().head, name: head}))

    assert digest(one) == digest(other)


def test_an_added_entry_that_changes_nothing_makes_no_other_content() -> None:
    def padded(tensor: SparseTensor) -> SparseTensor:
        free = next(p for p in range(tensor.size) if p not in set(tensor.positions.tolist()))
        places = np.append(tensor.positions, free)
        values = np.append(tensor.values, np.float32(1e-40))
        order = np.argsort(places)
        return SparseTensor(tensor.shape, places[order], values[order])

    assert content_digest(with_first(padded)) == content_digest(drawn())


def test_another_base_is_other_content() -> None:
    diff = drawn()
    elsewhere = replace(diff, layout=replace(LAYOUT, fingerprint="cd" * 32))

    assert content_digest(elsewhere) != content_digest(diff)
