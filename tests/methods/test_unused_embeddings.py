"""Embeddings of unused words are left out of the gated step, and nothing else changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamlab.methods.adam import AdamSettings
from streamlab.methods.api import SparseChange, TrainingJob
from streamlab.methods.diff_pruning import DiffPruning
from streamlab.methods.gates import gated_stage
from streamlab.methods.gates.hard_concrete import Densities, GroupGates, NoGroupGates, Stretch
from streamlab.methods.gates.unused_embeddings import find_used_rows
from streamlab.methods.kernels.gated_weights import (
    BLOCK_ENTRIES,
    BLOCK_ENTRIES_GPU,
    GatedWeights,
    cut,
)
from streamlab.methods.kernels.native import NativeStep

MakeJob = Callable[..., TrainingJob]
SHAPES = ((40, 6), (7,), (9, 4))
ROWS = np.array([0, 3, 4, 5, 20, 39])
W_ADAM, ALPHA_ADAM = AdamSettings(learning_rate=1e-2), AdamSettings(learning_rate=0.4, epsilon=1e-3)


def gated_weights(
    step: NativeStep | None, rows: dict[int, NDArray[np.int64]], *, groups: bool
) -> tuple[GatedWeights, list[torch.nn.Parameter]]:
    """Make gated weights whose first tensor has moved in ROWS alone."""
    generator = torch.Generator().manual_seed(4)
    base = [torch.randn(shape, generator=generator) for shape in SHAPES]
    change = [torch.randn(shape, generator=generator) for shape in SHAPES]
    moments = [
        (torch.randn(s, generator=generator), torch.rand(s, generator=generator)) for s in SHAPES
    ]
    unused = np.setdiff1d(np.arange(SHAPES[0][0]), ROWS)
    for tensor in (change[0], *moments[0]):
        tensor[unused] = 0.0
    live = [torch.nn.Parameter(b + w) for b, w in zip(base, change, strict=True)]
    gated = GatedWeights(
        live,
        base,
        moments,
        n_moment_steps=5,
        log_alpha=2.0,
        stretch=Stretch(),
        groups=GroupGates(len(SHAPES), 1.0, Stretch(), 7) if groups else NoGroupGates(len(SHAPES)),
        seed=7,
        kernels=step,
        used_rows=rows,
    )
    return gated, live


def take_steps(
    gated: GatedWeights,
    live: Sequence[torch.nn.Parameter],
    *,
    product: bool,
    shift: float = 0.0,
) -> list[Densities]:
    densities = []
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for parameter in live:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        gradient = live[0].grad
        assert gradient is not None
        used = gradient[ROWS].clone()
        gradient.zero_()[ROWS] = used
        densities.append(
            gated.step(
                W_ADAM,
                ALPHA_ADAM,
                l0_coefficient=0.05,
                product=product,
                grad_scale=0.5,
                shift=shift,
            )
        )
    return densities


@pytest.mark.parametrize(("groups", "product"), [(False, False), (True, False), (True, True)])
def test_leaving_unused_rows_out_changes_nothing(
    fused_step: NativeStep | None, groups: bool, product: bool
) -> None:
    whole, whole_live = gated_weights(fused_step, {}, groups=groups)
    part, part_live = gated_weights(fused_step, {0: ROWS}, groups=groups)

    whole_densities = take_steps(whole, whole_live, product=product)
    part_densities = take_steps(part, part_live, product=product)

    # float32 where they are counted one by one, float64 where one stands for all.
    np.testing.assert_allclose(whole_densities, part_densities, rtol=1e-5)
    assert 0.0 < part_densities[-1].expected < part_densities[0].expected < 1.0
    exact = {"rtol": 0.0, "atol": 0.0} if not groups else {"rtol": 1e-5, "atol": 1e-6}
    for one, other in zip(whole_live, part_live, strict=True):
        torch.testing.assert_close(one, other, **exact)
    for one, other in zip(whole.w, part.spread(part.w), strict=True):
        torch.testing.assert_close(one, other, **exact)
    in_use = whole.log_alpha[0].view(SHAPES[0])[ROWS].reshape(-1)
    torch.testing.assert_close(in_use, part.log_alpha[0], **exact)
    if isinstance(whole.groups, GroupGates) and isinstance(part.groups, GroupGates):
        np.testing.assert_allclose(whole.groups.log_alpha, part.groups.log_alpha, rtol=1e-6)


def test_unused_gates_move_with_all_others(fused_step: NativeStep | None) -> None:
    whole, whole_live = gated_weights(fused_step, {}, groups=True)
    part, part_live = gated_weights(fused_step, {0: ROWS}, groups=True)

    stepped = [
        take_steps(gated, live, product=False, shift=-0.7)[-1]
        for gated, live in ((whole, whole_live), (part, part_live))
    ]
    moved = [gated.move(-1.5) for gated in (whole, part)]

    np.testing.assert_allclose(stepped[0], stepped[1], rtol=1e-5)
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-5)
    assert moved[0].expected < 0.5 * stepped[0].expected


def test_unused_entries_hold_no_state_and_stay_the_base(fused_step: NativeStep | None) -> None:
    gated, live = gated_weights(fused_step, {0: ROWS}, groups=True)
    before = live[0].detach().clone()

    take_steps(gated, live, product=False)

    assert gated.w[0].numel() == gated.log_alpha[0].numel() == len(ROWS) * SHAPES[0][1]
    changed = (live[0].detach() != before).any(dim=1).nonzero().reshape(-1)
    assert set(changed.tolist()) <= set(ROWS.tolist())
    assert len(changed) > 0


@given(
    rows=st.sets(st.integers(0, 29), min_size=1).map(lambda rows: np.array(sorted(rows))),
    width=st.sampled_from([1, 5, BLOCK_ENTRIES // 3, BLOCK_ENTRIES, BLOCK_ENTRIES + 2]),
    most=st.sampled_from([10_000, BLOCK_ENTRIES, BLOCK_ENTRIES_GPU]),
)
def test_blocks_hold_every_entry_in_use_once_and_in_order(
    rows: NDArray[np.int64], width: int, most: int
) -> None:
    blocks = cut([(3,), (30, width), (4, 2)], {1: rows}, max_entries=most)

    assert blocks["count"].min() > 0
    assert blocks["count"].max() <= most
    wanted = (rows[:, None] * width + np.arange(width)).reshape(-1)
    for tensor, expected in ((0, np.arange(3)), (1, wanted), (2, np.arange(8))):
        here = blocks["tensor"] == tensor
        runs = zip(blocks["place"][here], blocks["count"][here], strict=True)
        found = np.concatenate([np.arange(place, place + count) for place, count in runs])
        np.testing.assert_array_equal(found, expected)
        ends = np.cumsum(blocks["count"][here])
        np.testing.assert_array_equal(blocks["first"][here], ends - blocks["count"][here])
        start = (0, 3, 3 + 30 * width)[tensor]
        np.testing.assert_array_equal(blocks["position"][here], start + blocks["place"][here])


def squares(job: TrainingJob, rows: Sequence[int]) -> list[torch.Tensor]:
    """Return second moments as training would have left them that reached only `rows`."""
    made = [torch.zeros_like(p.data) for p in job.backbone.values()]
    made[0][list(rows)] = 1.0
    return made


def test_the_used_rows_are_the_words_of_all_batches(make_job: MakeJob) -> None:
    job = make_job()
    words = {int(i) for batch in job.batches(0) for i in batch.inputs["input_ids"].reshape(-1)}
    assert 0 < len(words) < 200

    found = find_used_rows(job, squares(job, sorted(words)[:2]), n_steps=3)

    assert {number: rows.tolist() for number, rows in found.items()} == {0: sorted(words)}


def test_no_row_is_unused_before_a_step_or_where_a_gradient_reached_other_rows(
    make_job: MakeJob,
) -> None:
    job = make_job()
    words = {int(i) for batch in job.batches(0) for i in batch.inputs["input_ids"].reshape(-1)}
    stranger = next(word for word in range(200) if word not in words)

    assert find_used_rows(job, squares(job, []), n_steps=0) == {}
    assert find_used_rows(job, squares(job, [stranger]), n_steps=3) == {}


# At the second density more entries may stay open than have ever moved.
@pytest.mark.parametrize("density", [0.02, 0.1])
def test_a_training_is_the_same_with_and_without_unused_rows(
    density: float, make_job: MakeJob, native_step: NativeStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native_step is not None  # without it nothing is left out
    left_out: list[int] = []

    def find(*arguments: Any) -> dict[int, NDArray[np.int64]]:
        found = find_used_rows(*arguments)
        left_out.extend(200 - len(rows) for rows in found.values())
        return found

    def train() -> SparseChange:
        job = make_job()
        batches = list(job.batches(0))
        job = dataclasses.replace(job, batches=lambda _: iter(batches))
        return DiffPruning(structured=False, target_density=density).train(job)

    monkeypatch.setattr(gated_stage, "find_used_rows", find)
    part = train()
    monkeypatch.setattr(gated_stage, "find_used_rows", lambda *_: {})
    whole = train()

    assert [number > 0 for number in left_out] == [True]
    assert part.tensors is not None
    assert whole.tensors is not None
    for one, other in zip(part.tensors, whole.tensors, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4, atol=1e-7)
