"""What a diff holds is bounded before it is read, checked, and nobody's yet; then it is probed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from admission_samples import (
    KEEPING,
    LAYOUT,
    OPEN,
    VALUE_TYPES,
    admit,
    drawn,
    head_only,
    judged,
    packed,
    rule_broken,
    scaled,
    submitted,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.diff.format.container import decode, encode
from streamlab.diff.format.frame import read_frame
from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import RefusedError
from streamlab.stream.admission import (
    AdmissionContext,
    AdmissionSettings,
    check_probe,
    content_digest,
    verify,
)
from streamlab.stream.providers.forgeries import rewritten, with_nan

DATA = encode(drawn()).data


# Entries


@settings(deadline=None)
@given(st.floats(1e-4, 1))
def test_one_entry_over_the_density_is_refused(density: float) -> None:
    settings = AdmissionSettings(max_density=density)

    if drawn().n_entries - 1 < density * LAYOUT.n_gated:
        assert admit(submitted(DATA), settings)
    else:
        assert rule_broken(submitted(DATA), settings) == "entries"


def test_a_file_that_expands_is_refused_before_it_does() -> None:
    layout = Layout("cd" * 32, ("m",), ((2_000_000,),))
    every = np.arange(2_000_000)
    dense = SparseTensor(layout.shapes[0], every, np.ones(len(every), np.float32))
    data = encode(DiffVector(layout, (dense,), {}, {})).data
    assert len(data) < 5_000
    decode(DATA, LAYOUT)  # so that nothing is loaded for the first time while measured

    tracemalloc.start()
    with pytest.raises(RefusedError) as refusal:
        verify(submitted(data), layout=layout, settings=OPEN, known=AdmissionContext())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (refusal.value.rule, peak < 300_000) == ("entries", True)


# Positions and values


@pytest.mark.parametrize(
    "crafted",
    [
        lambda: packed(DATA, "positions.gaps", [2**32 - 1] * drawn().n_entries, "uint32"),
        lambda: packed(DATA, "positions.gaps", [0] * (drawn().n_entries - 1), "uint32"),
        lambda: packed(DATA, "positions.classes", [60_000] * 4, "uint16"),
        lambda: rewritten(read_frame(DATA), header={"k": drawn().n_entries - 1}),
        lambda: rewritten(read_frame(DATA), sections={"positions.counts": b"\xff" * 9}),
    ],
)
def test_positions_that_are_none_are_refused(crafted: Callable[[], bytes]) -> None:
    assert rule_broken(submitted(crafted())) == "positions"


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=drawn().n_entries, max_size=drawn().n_entries))
def test_whatever_the_gaps_are_the_positions_hold_or_are_refused(gaps: list[int]) -> None:
    found = judged(submitted(packed(DATA, "positions.gaps", gaps, "uint32")))

    if isinstance(found, str):
        assert found == "positions"
    else:
        for tensor in found.tensors:
            SparseTensor(tensor.shape, tensor.positions, tensor.values)  # raises DiffError


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(VALUE_TYPES), st.booleans())
def test_a_nan_anywhere_is_refused(seed: int, value_type: ValueType, head: bool) -> None:
    diff = head_only(seed) if head else drawn(seed)
    data = encode(diff, value_type=value_type).data

    assert rule_broken(submitted(with_nan(data, seed=seed))) == "values"


@settings(deadline=None)
@given(st.integers(0, drawn().n_entries - 1), st.sampled_from([0x7F80, 0xFF80, 0x7FFF, 0, 0x8000]))
def test_an_infinity_or_a_zero_among_the_values_is_refused(at: int, bits: int) -> None:
    codes = [0x3C00] * drawn().n_entries
    codes[at] = bits

    assert rule_broken(submitted(packed(DATA, "values.codes", codes, "uint16"))) == "values"


# Norm


@settings(deadline=None)
@given(st.floats(0.01, 10), st.floats(0.01, 10))
def test_a_change_larger_than_the_norm_is_refused(value: float, most: float) -> None:
    diff = scaled(value)
    values = np.concatenate([tensor.values for tensor in diff.tensors])
    norm = float(np.linalg.norm(values.astype(np.float64)))
    settings = AdmissionSettings(max_norm=most)

    if norm <= most:
        assert admit(submitted(encode(diff, value_type="fp32").data), settings)
    else:
        assert rule_broken(submitted(encode(diff, value_type="fp32").data), settings) == "norm"


@pytest.mark.parametrize("place", ["backbone", "head"])
def test_one_number_that_is_too_large_is_refused(place: str) -> None:
    diff = scaled(0.5)
    if place == "head":
        diff = replace(drawn(), head={"h": np.array([0.1, -0.5], np.float32)})
    data = encode(diff, value_type="fp32").data

    assert admit(submitted(data), AdmissionSettings(max_value=0.5))
    assert rule_broken(submitted(data), AdmissionSettings(max_value=0.49)) == "norm"


def test_numbers_whose_squares_overflow_are_refused() -> None:
    data = encode(scaled(3e38), value_type="fp32").data

    assert rule_broken(submitted(data), AdmissionSettings(max_value=1e39)) == "norm"


def test_a_diff_that_replaces_weights_is_refused() -> None:
    data = encode(replace(drawn(), mode="replace"), value_type="fp32").data

    assert rule_broken(submitted(data)) == "norm"


def test_the_norm_of_a_pruned_model_counts_the_weights_that_become_zero() -> None:
    rng = np.random.default_rng(4)
    base = {
        name: torch.from_numpy(rng.normal(size=shape).astype(np.float32))
        for name, shape in zip(LAYOUT.names, LAYOUT.shapes, strict=True)
    }
    diff = replace(drawn(), mode="prune")
    moved = []
    for weights, kept in zip(base.values(), diff.tensors, strict=True):
        before = weights.numpy().reshape(-1)
        now = np.zeros_like(before) if len(kept) else before.copy()
        now[kept.positions] = before[kept.positions] + kept.values
        moved.append(now - before)
    norm = float(np.linalg.norm(np.concatenate(moved).astype(np.float64)))
    submission = submitted(encode(diff, value_type="fp32").data)

    def admitted(max_norm: float) -> DiffVector:
        return verify(
            submission,
            layout=LAYOUT,
            settings=AdmissionSettings(max_norm=max_norm),
            known=AdmissionContext(),
            base=base,
        )

    assert admitted(1.0001 * norm) == diff
    with pytest.raises(RefusedError, match="the L2 norm of the change may be"):
        admitted(0.9999 * norm)


def test_a_pruned_model_is_refused_where_the_base_is_not_at_hand() -> None:
    data = encode(replace(drawn(), mode="prune"), value_type="fp32").data

    assert rule_broken(submitted(data)) == "norm"


# Duplicate


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KEEPING), st.text(max_size=5))
def test_a_copy_is_refused_however_it_is_written(
    seed: int, value_type: ValueType, told: str
) -> None:
    known = AdmissionContext(contents={content_digest(drawn(seed)): "`wire`"})
    copy = replace(drawn(seed), task={"told": told})
    data = encode(copy, value_type=value_type).data

    assert rule_broken(submitted(data), OPEN, known) == "duplicate"
    assert admit(submitted(data), AdmissionSettings(duplicates="allow"), known) is not None
    assert admit(submitted(encode(drawn(seed + 1)).data), OPEN, known) is not None


# Probe


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
def test_a_score_below_the_declared_one_is_refused_past_the_tolerance(
    declared: float, found: float, tolerance: float
) -> None:
    if found >= declared - tolerance:
        check_probe(declared, found, tolerance=tolerance)
    else:
        with pytest.raises(RefusedError) as refusal:
            check_probe(declared, found, tolerance=tolerance)
        assert refusal.value.rule == "probe"


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        (None, 0.9),
        (float("nan"), 0.9),
        (float("inf"), 0.9),
        (float("-inf"), 0.9),
        (0.5, float("nan")),
    ],
)
def test_a_score_that_is_none_is_refused(declared: float | None, found: float) -> None:
    with pytest.raises(RefusedError) as refusal:
        check_probe(declared, found, tolerance=1.0)

    assert refusal.value.rule == "probe"
