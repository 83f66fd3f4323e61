"""Diff pruning among seeded candidates: which of them stay, and what is stored of the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from streamlab.diff.format.container import decode, encode
from streamlab.diff.rules import Seeded, positions
from streamlab.diff.vector import DiffVector
from streamlab.methods import FixedMaskTraining
from streamlab.methods.api import SparseChange, TrainingJob
from streamlab.methods.fixed_mask import FixedMask
from streamlab.methods.masks.candidates import OpenCandidates
from streamlab.methods.masks.selection import Selection
from streamlab.methods.training_loop import training_mode

MakeJob = Callable[..., TrainingJob]
K = 400


def selected(job: TrainingJob, **settings: Any) -> Selection:
    with training_mode(job):
        return OpenCandidates(**settings).select(job, K)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_a_share_of_the_seeded_candidates_stays(
    share: float, ratio: float, make_job: MakeJob
) -> None:
    job = make_job()
    found = selected(job, share=share, candidate_ratio=ratio)

    assert isinstance(found.within, Seeded)
    assert found.rule is None
    assert sum(at.numel() for at in found.positions) == round(share * K)
    for at, every in zip(found.positions, positions(found.within, job.layout), strict=True):
        assert bool(np.isin(at.numpy(), every).all())


def test_the_expected_share_of_open_gates_reaches_the_wanted_one(make_job: MakeJob) -> None:
    details = selected(make_job(min_steps=60), share=0.5).details

    assert details["expected_share"] == pytest.approx(0.5, rel=0.01)
    assert details["steps_candidates"] == details["steps_gated"] == 12


def test_with_a_given_coefficient_the_penalty_alone_decides(make_job: MakeJob) -> None:
    shares = [
        selected(make_job(), l0_coefficient=coefficient).details["expected_share"]
        for coefficient in (1e-12, 1e3)
    ]

    assert shares[0] > shares[1]


def test_candidates_without_any_influence_close_first(make_job: MakeJob) -> None:
    job = make_job(min_steps=80)
    embeddings = "embeddings.position_embeddings.weight"  # of which a text of 8 words reads 8
    found = selected(job, tensors="position_embeddings|query", share=0.5, learning_rate=0.02)

    assert found.within is not None
    number = job.layout.names.index(embeddings)
    every = torch.from_numpy(positions(found.within, job.layout)[number].copy())
    width = job.layout.shapes[number][1]
    kept = torch.isin(every, found.positions[number])
    unused = every >= 8 * width
    assert float(kept[unused].float().mean()) < float(kept[~unused].float().mean())


def test_gated_values_enter_the_model_as_products(make_job: MakeJob) -> None:
    job = make_job()
    base, live = list(job.base.values()), list(job.backbone.values())
    at = [torch.arange(min(3, p.numel())) for p in live]
    values = [torch.full((p.numel(),), 0.5) for p in at]
    mask = FixedMask(live, base, Selection(at, values))
    gates = torch.rand(mask.values.numel(), generator=torch.Generator().manual_seed(0))
    mask.gate(gates)

    assert torch.equal(mask.entries(), 0.5 * gates)
    assert torch.equal(live[0].detach().view(-1)[:3], base[0].view(-1)[:3] + 0.5 * gates[:3])


def test_those_that_do_not_stay_are_zeros_of_the_rule(make_job: MakeJob) -> None:
    job = make_job()
    method = FixedMaskTraining.model_validate(
        {"mask": "candidates", "target_density": 0.02, "quantize": {"type": "sign"}}
    )
    trained = method.train(job)

    assert isinstance(trained, SparseChange)
    k = method.expected_entries(job.layout)
    assert sum(len(tensor) for tensor in trained.tensors) == k
    assert sum(np.count_nonzero(tensor.values) for tensor in trained.tensors) == round(0.5 * k)
    assert trained.rule is not None
    diff = DiffVector(job.layout, trained.tensors, trained.head, {}, rule=trained.rule)
    assert decode(encode(diff, value_type="ternary").data, job.layout).tensors == trained.tensors
    for tensor, where in zip(trained.tensors, positions(trained.rule, job.layout), strict=True):
        assert np.array_equal(tensor.positions, where)
        assert len(np.unique(np.abs(tensor.values[tensor.values != 0]))) <= 1
    for name, tensor in zip(job.backbone, trained.tensors, strict=True):
        rebuilt = job.base[name].numpy().copy()
        rebuilt.reshape(-1)[tensor.positions] += tensor.values
        assert rebuilt.tobytes() == job.backbone[name].detach().numpy().tobytes()


def test_types_without_a_code_for_zero_are_refused() -> None:
    with pytest.raises(ValidationError, match="stores zeros, for which 'int4' has no code"):
        FixedMaskTraining.model_validate({"mask": "candidates", "quantize": {"type": "int4"}})
