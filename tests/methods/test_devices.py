"""Every method on the CPU and on a GPU, if there is one; single steps: test_fused_step.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from streamlab.hashing import fingerprint_tensors
from streamlab.methods import (
    BitFit,
    DiffPruning,
    FixedMaskTraining,
    FullFinetuning,
    HeadOnly,
    Lora,
    NonAdaptive,
    PrunedModel,
)
from streamlab.methods.api import Method, Progress, SparseChange, TrainingJob
from streamlab.methods.masks.selection import budget

MakeJob = Callable[..., TrainingJob]

MASK: dict[str, Any] = {
    "target_density": 0.02,
    "fixed_mask_learning_rate": 2e-2,
    "fixed_mask_share": 1 / 3,
}
METHODS: dict[str, Method] = {
    "diff pruning": DiffPruning(**MASK),
    "given coefficient": DiffPruning(**MASK, l0_coefficient=1e-7, structured=False),
    "full finetuning": FullFinetuning(),
    "head only": HeadOnly(),
    "non-adaptive": NonAdaptive(**MASK),
    "bitfit": BitFit(learning_rate=0.05),
    **{
        mask["name"]: FixedMaskTraining(
            mask=mask, target_density=0.02, learning_rate=5e-2, quantize={"type": "sign"}
        )
        for mask in (
            {"name": "groups", "by": {"name": "gates", "fixed_mask_share": 1 / 3}},
            {"name": "counts", "per": "rows", "by": "gradient"},
            {"name": "shared", "moves": 2},
        )
    },
    "lora": Lora(learning_rate=0.1),
    "magnitude pruning": PrunedModel(criterion="magnitude", keep=0.3),
    "movement pruning": PrunedModel(criterion="movement", keep=0.3),
}
on_a_gpu = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
)


def lay(job: TrainingJob, device: str, shown: list[Progress]) -> TrainingJob:
    """Bring model and base of a job to a device, as the engine does before it trains."""
    job.model.to(device)
    base = {name: tensor.to(device) for name, tensor in job.base.items()}
    return dataclasses.replace(job, base=base, watch=shown.append)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_a_gpu)])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_where_its_model_lies(
    name: str, device: str, make_job: MakeJob
) -> None:
    shown: list[Progress] = []
    job = lay(make_job(epochs=12.0), device, shown)
    base = fingerprint_tensors({n: t.cpu() for n, t in job.base.items()})

    trained = METHODS[name].train(job)

    assert {p.device.type for p in job.model.parameters()} == {device}
    assert fingerprint_tensors({n: t.cpu() for n, t in job.base.items()}) == base
    if name != "head only":  # the features of a random base carry no information
        losses = [progress.loss for progress in shown]
        assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    if isinstance(trained, SparseChange) and name not in ("head only", "bitfit"):
        kept = sum(tensor.positions.size for tensor in trained.tensors)
        pruned = isinstance(METHODS[name], PrunedModel)
        expected = METHODS[name].expected_entries(job.layout)
        assert kept == (expected if pruned else budget(0.02, job.layout.n_gated))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_a_gpu)])
def test_a_shared_finetuning_leaves_model_and_generators_where_it_would(
    device: str, make_job: MakeJob
) -> None:
    class Held(dict[str, bytes]):
        def add(self, key: str, state: bytes) -> None:
            self[key] = state

    method = FixedMaskTraining.model_validate({"mask": "change", "target_density": 0.02})
    stages, runs = Held(), []
    for _ in range(2):
        shown: list[Progress] = []
        job = lay(make_job(), device, shown)
        trained = method.train(dataclasses.replace(job, stages=stages))
        assert isinstance(trained, SparseChange)
        runs.append((shown, [tensor.values.tobytes() for tensor in trained.tensors]))

    assert len(stages) == 1
    assert trained.summary.details["reused_steps"] > 0
    assert runs[0] == runs[1]
