"""Masks that choose groups of entries: whole ones, seeded within some, and counts per group."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from streamlab.diff.rules import Seeded, SeededCounts, SeededRows, Shared
from streamlab.errors import TrainingError
from streamlab.methods import FixedMaskTraining
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.api import TrainingJob
from streamlab.methods.gates.gated_stage import GateTraining
from streamlab.methods.gates.group_stage import GroupGatedStage
from streamlab.methods.masks.catalogue import MaskSettings
from streamlab.methods.masks.counts import shared_out
from streamlab.methods.masks.grouping import Groups, Unit, cut_into_groups
from streamlab.methods.masks.groups import MEASURES
from streamlab.methods.masks.measures import GroupScores, Measure
from streamlab.methods.masks.selection import MaskSelector, Selection
from streamlab.methods.training_loop import training_mode

MakeJob = Callable[..., TrainingJob]
UNITS: tuple[Unit, ...] = ("rows", "columns", "heads", "tensors")
# Half of so few steps must suffice for a mask.
HALF: dict[str, Any] = {"fixed_mask_share": 0.5}
BY: dict[str, Any] = {
    "change": HALF, "fisher": {"n_examples": 8}, "gates": HALF, "gradient": {}, "learned": HALF,
}  # fmt: skip


def select(job: TrainingJob, k: int, name: str, **settings: Any) -> Selection:
    selector: MaskSelector = TypeAdapter(MaskSettings).validate_python({"name": name, **settings})
    with training_mode(job):
        return selector.select(job, k)


def by(name: str) -> dict[str, Any]:
    return {"name": name, **BY[name]}


def matrices(job: TrainingJob) -> list[bool]:
    return [len(shape) > 1 for shape in job.layout.shapes]


def kept(job: TrainingJob, selection: Selection) -> list[torch.Tensor]:
    """Return 1 for every selected entry and 0 for the others, in the tensors' shapes."""
    masks = [torch.zeros(shape) for shape in job.layout.shapes]
    for mask, at in zip(masks, selection.positions, strict=True):
        mask.view(-1)[at] = 1.0
    return masks


def test_every_measure_is_in_this_suite() -> None:
    assert set(BY) == set(MEASURES)


@pytest.mark.parametrize("unit", UNITS)
def test_groups_partition_their_tensors(unit: Unit, make_job: MakeJob) -> None:
    layout = make_job().layout
    groups = cut_into_groups(layout, matrices(make_job()), unit, width=3, n_heads=2)

    numbers = [torch.arange(size, dtype=torch.float64) for size in layout.sizes]
    alone = [groups.positions(torch.arange(groups.n) == g) for g in range(groups.n)]
    totals = [sum(float(n[at].sum()) for n, at in zip(numbers, p, strict=True)) for p in alone]
    assert groups.totals(numbers).tolist() == pytest.approx(totals)
    assert groups.sizes.tolist() == [sum(at.numel() for at in part) for part in alone]
    assert int(groups.sizes.min()) > 0
    for index, (cut, size) in enumerate(zip(groups.cuts, layout.sizes, strict=True)):
        every = torch.cat([part[index] for part in alone]).sort().values
        assert every.tolist() == ([] if cut is None else list(range(size)))


def test_the_four_matrices_of_attention_share_their_heads(make_job: MakeJob) -> None:
    job = make_job()
    names = job.layout.names
    heads = cut_into_groups(job.layout, matrices(job), "heads", n_heads=2)

    assert heads.n == 4  # two in each of two layers
    assert heads.sizes.tolist() == [4 * 16 * 8] * 4
    cut = [name for name, cut in zip(names, heads.cuts, strict=True) if cut is not None]
    assert len(cut) == 8
    assert all(re.search(r"(query|key|value|attention\.output\.dense)\.weight$", n) for n in cut)
    second = heads.positions(torch.tensor([False, True, False, False]))
    found = {name: at for name, at in zip(names, second, strict=True) if at.numel()}
    assert {name.split(".")[2] for name in found} == {"0"}
    for name, at in found.items():
        line = at % 16 if "output" in name else at // 16
        assert sorted(set(line.tolist())) == list(range(8, 16))


def test_a_base_without_the_groups_is_a_training_error(make_job: MakeJob) -> None:
    job = make_job()
    with pytest.raises(TrainingError, match="The base has no heads among the tensors"):
        select(job, 10, "groups", per="heads", tensors="embeddings", by=by("change"))


@pytest.mark.parametrize("name", ["groups", "counts"])
def test_more_entries_than_the_groups_have_cannot_be_chosen(name: str, make_job: MakeJob) -> None:
    with pytest.raises(TrainingError, match="are to be retained, and heads in 'matrices' have"):
        select(make_job(), 3000, name, per="heads", by=by("change"))


@pytest.mark.parametrize("name", BY)
@pytest.mark.parametrize("unit", UNITS)
def test_whole_groups_are_selected_but_for_the_last(
    unit: Unit, name: str, make_job: MakeJob
) -> None:
    job, k = make_job(), 1000
    selection = select(job, k, "groups", per=unit, by=by(name))

    groups = cut_into_groups(job.layout, matrices(job), unit, n_heads=2)
    taken = groups.totals([mask.reshape(-1) for mask in kept(job, selection)])
    touched = taken > 0
    assert int(taken.sum()) == k
    left_out = int((groups.sizes[touched] - taken[touched]).sum())
    assert left_out < int(groups.sizes[touched].max())
    assert selection.details["selected_groups"] == int(touched.sum())
    if unit == "rows":
        assert isinstance(selection.rule, SeededRows)
    if unit == "tensors":
        assert isinstance(selection.rule, Seeded)


@pytest.mark.parametrize("name", ["change", "gates", "learned"])
def test_whole_groups_start_from_what_a_training_has_changed(name: str, make_job: MakeJob) -> None:
    selection = select(make_job(), 200, "groups", by=by(name))

    assert selection.values is not None
    values = torch.cat(list(selection.values))
    assert values.numel() == 200
    assert int((values != 0).sum()) > 100


def test_groups_by_change_are_those_that_changed_most(make_job: MakeJob) -> None:
    job = make_job()
    selection = select(job, 10 * 16, "groups", tensors=r"query\.weight$", by=by("change"))

    # The model still holds what the finetuning has made of it.
    change = [
        (p.detach() - b).square().view(b.shape[0], -1).mean(1)
        for n, p, b in zip(job.backbone, job.backbone.values(), job.base.values(), strict=True)
        if n.endswith("query.weight")
    ]
    wanted = torch.cat(change).argsort(descending=True)[:10].sort().values
    rows = [
        at.reshape(-1, 16)[:, 0] // 16
        for n, at in zip(job.layout.names, selection.positions, strict=True)
        if n.endswith("query.weight")
    ]
    assert torch.cat([rows[0], rows[1] + 16]).tolist() == wanted.tolist()


def test_group_gates_reach_their_goal_and_close_groups_whole(make_job: MakeJob) -> None:
    job, k = make_job(), 200
    settings = {"name": "gates", "candidate_ratio": 3.0, "fixed_mask_share": 1 / 3}
    details = select(job, k, "groups", by=settings).details

    n = sum(size for size, on in zip(job.layout.sizes, matrices(job), strict=True) if on)
    assert details["expected_density"] == pytest.approx(3 * k / n, rel=0.006)
    assert details["density_before_correction"] < 0.5
    assert details["steps_dense_warmup"] + details["steps_gated"] == 16


def test_group_gates_of_rows_aim_at_the_share_that_is_selected(make_job: MakeJob) -> None:
    details = select(make_job(), 80, "rows", share=0.1, by=by("gates")).details

    assert details["expected_density"] == pytest.approx(0.2, rel=0.006)


def test_a_step_under_group_gates_is_that_of_autograd(make_job: MakeJob) -> None:
    job = make_job(step="eager")
    groups = cut_into_groups(job.layout, matrices(job), "rows")
    moments, _ = adam_optimizer((job.backbone.values(), 1e-3), (job.head.values(), 1e-3))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in job.backbone.values():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    stage = GroupGatedStage(GateTraining(), job, moments, groups, n_entries=200, n_steps=10)
    slopes: list[torch.Tensor] = []
    totals = groups.totals
    object.__setattr__(groups, "totals", lambda v: (slopes.append(totals(v)), slopes[-1])[1])
    changes = [c.clone() for c in stage.changes()]
    gradients = []
    for p in [*job.backbone.values(), *job.head.values()]:
        p.grad = 1e-4 * torch.randn(p.shape, generator=generator)
        gradients.append(p.grad.clone().double())

    stage.take_step(1.0)

    gates = torch.ones(groups.n, dtype=torch.float64, requires_grad=True)
    loss = torch.zeros((), dtype=torch.float64)
    for index, (cut, w, gradient) in enumerate(zip(groups.cuts, changes, gradients, strict=False)):
        if cut is not None:
            theta = groups.spread(index, gates) * w.view(gradient.shape).double()
            loss = loss + (gradient * theta).sum()
    (wanted,) = torch.autograd.grad(loss, gates)
    torch.testing.assert_close(slopes[0], wanted, rtol=1e-4, atol=1e-9)
    for p, base, cut in zip(job.backbone.values(), job.base.values(), groups.cuts, strict=True):
        assert p.requires_grad == (cut is not None)
        assert cut is not None or torch.equal(p.detach(), base)


@pytest.mark.parametrize("name", BY)
def test_seeded_positions_lie_in_rows_by_any_measure(name: str, make_job: MakeJob) -> None:
    job = make_job()
    selection = select(job, 80, "rows", share=0.05, by=by(name))

    assert isinstance(selection.rule, SeededRows)
    assert selection.values is None
    assert 80 <= selection.details["n_within"] <= 0.05 * job.layout.n_gated


@pytest.mark.parametrize("name", BY)
@pytest.mark.parametrize("unit", UNITS)
def test_counts_follow_what_is_measured(unit: Unit, name: str, make_job: MakeJob) -> None:
    job, k = make_job(), 300
    selection = select(job, k, "counts", per=unit, by=by(name))

    groups = cut_into_groups(job.layout, matrices(job), unit, n_heads=2)
    taken = groups.totals([mask.reshape(-1) for mask in kept(job, selection)])
    assert int(taken.sum()) == k
    assert bool((taken <= groups.sizes).all())
    assert selection.details["empty_groups"] == int((taken == 0).sum())
    assert isinstance(selection.rule, SeededCounts) == (unit in ("rows", "tensors"))


def test_blocks_of_rows_have_counts_of_their_own(make_job: MakeJob) -> None:
    job = make_job()
    settings: dict[str, Any] = {"per": "rows", "width": 4, "by": by("gradient")}
    selection = select(job, 300, "counts", **settings)

    groups = cut_into_groups(job.layout, matrices(job), "rows", width=4)
    taken = groups.totals([mask.reshape(-1) for mask in kept(job, selection)]).numpy()
    with training_mode(again := make_job()):
        found = TypeAdapter(MaskSettings).validate_python({"name": "counts", **settings})
        scores = found.by.measure(again, groups, 300).scores.numpy()
    wanted = shared_out(scores * groups.sizes.numpy(), groups.sizes.numpy(), 300)
    assert taken.tolist() == wanted.tolist()


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 50)), min_size=1, max_size=30),
    st.floats(0, 1),
)
def test_what_is_shared_out_adds_up_and_fits(groups: list[tuple[float, int]], share: float) -> None:
    weights, sizes = (np.array(column) for column in zip(*groups, strict=True))
    k = int(share * sizes.sum())

    counts = shared_out(weights.astype(np.float64), sizes.astype(np.int64), k)

    assert counts.sum() == k
    assert (counts >= 0).all()
    assert (counts <= sizes).all()
    free = counts < sizes
    if free.sum() > 1 and weights[free].sum() > 0:  # those that are not full have their share
        wanted = counts[free].sum() * weights[free] / weights[free].sum()
        assert np.abs(counts[free] - wanted).max() < 2


def test_a_count_per_tensor_follows_the_squared_change(make_job: MakeJob) -> None:
    job, k = make_job(), 400
    selection = select(job, k, "counts", by=by("change"))

    energy = np.array(
        [
            float((p.detach() - b).square().sum(dtype=torch.float64)) if b.ndim > 1 else 0.0
            for p, b in zip(job.backbone.values(), job.base.values(), strict=True)
        ]
    )
    counts = np.array([at.numel() for at in selection.positions])
    assert np.abs(counts - k * energy / energy.sum()).max() < 1


def test_shared_values_move_as_many_entries_each(make_job: MakeJob) -> None:
    method = FixedMaskTraining.model_validate(
        {"mask": {"name": "shared", "moves": 3}, "target_density": 0.011}
    )
    job = make_job()
    k = method.expected_entries(job.layout)
    trained = method.train(job)

    assert k % 3 == 0
    assert abs(k - 0.011 * job.layout.n_gated) <= 1.5
    assert isinstance(trained.rule, Shared)
    assert (trained.rule.n, trained.rule.s) == (k // 3, 3)
    entries = np.concatenate([tensor.values for tensor in trained.tensors])
    assert len(entries) == k
    values = trained.rule.values_of(entries)
    assert np.array_equal(trained.rule.entries_of(values), entries)
    assert 0.9 * len(values) < np.count_nonzero(values)
    with pytest.raises(ValueError, match="cannot be shared by 3"):
        method.mask.select(job, 100)


class BrokenGroups(Measure):
    """A measure that comes to nothing."""

    name: str = "broken"

    def measure(self, job: TrainingJob, groups: Groups, n: int) -> GroupScores:  # noqa: ARG002
        """Score no group."""
        return GroupScores(torch.full((groups.n,), float("nan")))


@pytest.mark.parametrize("name", ["groups", "rows", "counts"])
def test_groups_that_cannot_be_ranked_are_a_training_error(name: str, make_job: MakeJob) -> None:
    with pytest.raises(TrainingError, match="became NaN or infinite in training and cannot be"):
        select(make_job(), 48, name, by=f"{__name__}:BrokenGroups")


class FirstGroups(Measure):
    """A measure of a test package: the first groups matter most."""

    name: str = "first"

    def measure(self, job: TrainingJob, groups: Groups, n: int) -> GroupScores:
        """Score groups by their number."""
        assert n <= job.layout.n_gated
        return GroupScores(torch.arange(groups.n, 0, -1).double())


def test_a_measure_of_another_package_is_one_class(make_job: MakeJob) -> None:
    job = make_job()
    selection = select(job, 48, "groups", by=f"{__name__}:FirstGroups")

    first, *others = selection.positions
    assert first.tolist() == list(range(48))  # three rows
    assert all(at.numel() == 0 for at in others)
    assert selection.values is None


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"name": "groups", "by": "random"}, r"nknown mask selector 'random'.*gates"),
        ({"name": "groups", "by": {"name": "gates", "dense_warmup_share": 0}}, "raise `dense"),
        ({"name": "rows", "per": "columns"}, "'rows'"),
        ({"name": "counts", "width": 0}, "above 0"),
        ({"name": "counts", "width": 2}, "`width` is for `per: rows` and `per: columns`"),
        ({"name": "shared", "moves": 0}, "above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TypeAdapter(MaskSettings).validate_python(wrong)


def test_a_measure_is_dumped_with_its_settings_and_read_again() -> None:
    adapter: TypeAdapter[MaskSelector] = TypeAdapter(MaskSettings)
    rows = adapter.validate_python({"name": "rows", "by": {"name": "fisher", "n_examples": 7}})

    tree = adapter.dump_python(rows)

    assert tree["by"] == {"name": "fisher", "n_examples": 7, "tensors": "matrices"}
    assert adapter.validate_python(tree) == rows


def test_rows_stand_for_any_number_of_entries_before_they_are_chosen(make_job: MakeJob) -> None:
    layout = make_job().layout
    mask: MaskSelector = TypeAdapter(MaskSettings).validate_python({"name": "groups"})
    for k in range(1, 400):
        rule = mask.prototype(layout, k)
        assert rule is not None
        assert rule.n_entries(layout) == k
