"""Mask selectors: which entries a rule chooses, and that they are the rule's alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from streamlab.diff.rules import WholeTensors, positions
from streamlab.errors import TrainingError
from streamlab.methods import DiffPruning, FixedMaskTraining, MethodSettings
from streamlab.methods.api import SparseChange, TrainingJob
from streamlab.methods.masks.catalogue import MASKS, MaskSettings
from streamlab.methods.masks.selection import MaskSelector, Selection, budget
from streamlab.methods.training_loop import training_mode
from streamlab.registry.records import RecordedScenario

MakeJob = Callable[..., TrainingJob]


def mask(name: str, **settings: Any) -> MaskSelector:
    return TypeAdapter(MaskSettings).validate_python({"name": name, **settings})


def selected(selector: MaskSelector, job: TrainingJob, k: int) -> Selection:
    with training_mode(job):
        return selector.select(job, k)


def scores_at(selection: Selection, scores: list[torch.Tensor]) -> torch.Tensor:
    pairs = zip(scores, selection.positions, strict=True)
    return torch.cat([score.reshape(-1)[at] for score, at in pairs])


@pytest.mark.parametrize("name", [name for name in MASKS if name != "tensors"])
def test_a_mask_has_k_ascending_positions_in_range(name: str, make_job: MakeJob) -> None:
    job, k = make_job(), 100
    selection = selected(mask(name), job, k)

    found = list(selection.positions)
    if selection.within is not None:
        found = list(Selection.by(selection.within, job.layout).positions)
    assert sum(at.numel() for at in found) == k
    for at, size in zip(found, job.layout.sizes, strict=True):
        assert bool((at.diff() > 0).all())
        assert at.numel() == 0 or 0 <= int(at[0]) <= int(at[-1]) < size


@pytest.mark.parametrize("name", [name for name in MASKS if name != "tensors"])
def test_a_mask_is_the_same_for_the_same_seed(name: str, make_job: MakeJob) -> None:
    first, again = (selected(mask(name), make_job(), 100) for _ in range(2))

    assert first.details == again.details
    assert first.rule == again.rule
    for one, other in zip(first.positions, again.positions, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(first.values or (), again.values or (), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["random", "magnitude", "gradient", "fisher", "shared", "counts"])
def test_only_matrices_are_chosen_from_unless_tensors_are_named(
    name: str, make_job: MakeJob
) -> None:
    job = make_job()

    everywhere = selected(mask(name), job, 200)
    queries = selected(mask(name, tensors=r"query\.weight$"), job, 200)

    for tensor, shape, one, other in zip(
        job.layout.names, job.layout.shapes, everywhere.positions, queries.positions, strict=True
    ):
        assert one.numel() == 0 or len(shape) == 2
        assert (other.numel() > 0) == tensor.endswith("query.weight")


@pytest.mark.parametrize("order", ["largest", "smallest"])
def test_magnitude_separates_the_base_by_size(order: str, make_job: MakeJob) -> None:
    job, k = make_job(), 50
    chosen = selected(mask("magnitude", order=order, tensors="."), job, k)

    sizes = [tensor.abs() for tensor in job.base.values()]
    every = torch.cat([size.reshape(-1) for size in sizes]).sort(descending=order == "largest")
    found = scores_at(chosen, sizes)
    assert sorted(found.tolist()) == sorted(every.values[:k].tolist())


def test_fisher_takes_the_squares_of_single_examples(make_job: MakeJob) -> None:
    job, k = make_job(dropout=0.0), 20
    job.model.eval()
    batch = next(iter(job.batches(0)))
    wanted = [torch.zeros_like(p) for p in job.backbone.values()]
    for i in range(3):
        inputs = {name: tensor[i : i + 1] for name, tensor in batch.inputs.items()}
        loss = job.loss(job.model(**inputs).logits, batch.labels[i : i + 1])
        for total, gradient in zip(
            wanted,
            torch.autograd.grad(loss, list(job.backbone.values()), allow_unused=True),
            strict=True,
        ):
            if gradient is not None:
                total += gradient.square()

    chosen = mask("fisher", n_examples=3, tensors=".").select(job, k)

    every = torch.cat([total.reshape(-1) for total in wanted]).sort(descending=True).values
    assert scores_at(chosen, wanted).sum() == pytest.approx(float(every[:k].sum()), rel=1e-4)


def test_a_rewound_mask_is_the_largest_change_and_starts_from_zero(make_job: MakeJob) -> None:
    change, rewound = (
        selected(mask(name, fixed_mask_share=0.5), make_job(), 60) for name in ("change", "rewound")
    )

    assert rewound.values is None
    assert change.values is not None
    for one, other in zip(change.positions, rewound.positions, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("structured", [False, True])
def test_a_learned_mask_is_that_of_diff_pruning(structured: bool, make_job: MakeJob) -> None:
    density = 0.02
    k = budget(density, make_job().layout.n_gated)
    density = k / make_job().layout.n_gated  # so that both mean the same number
    settings = {"structured": structured, "fixed_mask_share": 0.4}
    method = DiffPruning(target_density=density, **settings)
    learned = FixedMaskTraining(mask=mask("learned", **settings), target_density=density)

    one, other = method.train(make_job()), learned.train(make_job())

    assert isinstance(one, SparseChange)
    assert one.tensors == other.tensors
    assert one.summary == other.summary


def test_seeded_positions_lie_in_few_rows(make_job: MakeJob) -> None:
    job = make_job()
    chosen = selected(mask("rows", share=0.05), job, 80)

    rows = sum(
        len(set((at // shape[-1]).tolist()))
        for at, shape in zip(chosen.positions, job.layout.shapes, strict=True)
    )
    n_rows = sum(shape[0] for shape in job.layout.shapes if len(shape) > 1)
    assert rows < 0.15 * n_rows
    assert chosen.details["n_within"] <= 0.05 * job.layout.n_gated


@pytest.mark.parametrize("name", ["random", "rows", "counts", "groups", "shared"])
def test_a_seeded_mask_has_a_rule_that_regenerates_it(name: str, make_job: MakeJob) -> None:
    job = make_job()
    selection = selected(mask(name), job, 96)

    assert selection.rule is not None
    regenerated = positions(selection.rule, job.layout)
    for at, again in zip(selection.positions, regenerated, strict=True):
        np.testing.assert_array_equal(at.numpy(), again)


def test_more_entries_than_there_are_cannot_be_chosen(make_job: MakeJob) -> None:
    method = FixedMaskTraining(mask=mask("random", tensors="LayerNorm"), target_density=0.5)

    with pytest.raises(TrainingError, match=r"are to be retained, and the tensors 'LayerNorm'"):
        method.train(make_job())


def test_a_mask_of_tensors_takes_them_whole(make_job: MakeJob) -> None:
    job = make_job()
    method = FixedMaskTraining(mask=mask("tensors", tensors="LayerNorm"), learning_rate=1e-2)
    trained = method.train(job)

    assert isinstance(trained, SparseChange)
    assert trained.rule == WholeTensors(tuple("LayerNorm" in name for name in job.layout.names))
    for name, tensor in zip(job.layout.names, trained.tensors, strict=True):
        assert len(tensor) == (tensor.shape[0] if "LayerNorm" in name else 0)


def test_no_entry_at_all_is_a_training_error(make_job: MakeJob) -> None:
    with pytest.raises(TrainingError, match="The mask `tensors` selects no entry of the base"):
        FixedMaskTraining(mask=mask("tensors", tensors="nothing")).train(make_job())


def test_records_tell_masks_apart_by_label() -> None:
    adapter = TypeAdapter(MethodSettings)
    plain = adapter.validate_python({"name": "fixed_mask", "mask": "fisher"})
    named = adapter.validate_python({"name": "fixed_mask", "mask": "fisher", "label": "few"})

    assert (plain.label, named.label) == ("fisher_mask", "few")
    assert adapter.validate_python(adapter.dump_python(plain)) == plain
    tree = {"defaults": {"method": adapter.dump_python(plain)}}
    assert RecordedScenario(tree).primary_method == "fisher_mask"


class LastEntries(MaskSelector):
    """A selector of a test package: the last k entries of the last tensor."""

    name: str = "last"

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select the end of the last tensor."""
        *others, last = job.layout.sizes
        return Selection([*(torch.arange(0) for _ in others), torch.arange(last - k, last)])


def test_a_selector_of_another_package_is_one_class(make_job: MakeJob) -> None:
    method = FixedMaskTraining.model_validate(
        {"mask": f"{__name__}:LastEntries", "target_density": 1e-5}
    )
    trained = method.train(make_job())

    assert isinstance(trained, SparseChange)
    assert len(trained.tensors[-1]) == method.expected_entries(make_job().layout)


def test_an_unknown_mask_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValidationError, match=r"Unknown mask selector 'fischer'.*fisher"):
        FixedMaskTraining.model_validate({"mask": "fischer"})
