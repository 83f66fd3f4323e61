"""The same training on the CPU and, where there is one, on a GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from streamlab.fingerprint import fingerprint_tensors
from streamlab.methods import BitFit, DiffPruning, FullFinetuning, HeadOnly, Lora, NonAdaptive
from streamlab.methods.adam import AdamRates
from streamlab.methods.contract import Method, Progress, TrainingJob
from streamlab.methods.gates import Stretch
from streamlab.methods.groups import GroupGates
from streamlab.methods.projection import budget
from streamlab.methods.step import GatedWeights

MakeJob = Callable[..., TrainingJob]

MASK: dict[str, Any] = {"target_density": 0.02, "fixed_mask_rate": 2e-2, "fixed_mask_share": 1 / 3}
METHODS: dict[str, Method] = {
    "diff pruning": DiffPruning(**MASK),
    "a given price": DiffPruning(**MASK, penalty=1e-7, structured=False),
    "full finetuning": FullFinetuning(),
    "head only": HeadOnly(),
    "non-adaptive": NonAdaptive(**MASK),
    "bitfit": BitFit(rate=0.05),
    "lora": Lora(rate=0.1),
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
    if name != "head only":  # the features of a base of drawn weights tell nothing
        losses = [progress.loss for progress in shown]
        assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    if isinstance(METHODS[name], (DiffPruning, NonAdaptive)):
        assert trained.tensors is not None
        kept = sum(tensor.positions.size for tensor in trained.tensors)
        assert kept == budget(0.02, job.layout.n_gated)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("product", [False, True])
def test_a_gated_step_on_a_gpu_is_the_processors_to_rounding(product: bool) -> None:
    here, there = (gated_steps(device, product=product) for device in ("cpu", "cuda"))

    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other.cpu(), rtol=1e-4, atol=1e-5)


def gated_steps(device: str, *, product: bool) -> list[torch.Tensor]:
    """Take five steps; returns the model's tensors, w, log_alpha and what is open."""
    generator = torch.Generator().manual_seed(4)
    shapes = ((300, 301), (7,), (9, 4))

    def drawn() -> list[torch.Tensor]:
        return [torch.randn(shape, generator=generator).to(device) for shape in shapes]

    base, change, means, squares = drawn(), drawn(), drawn(), drawn()
    live = [torch.nn.Parameter(b + w) for b, w in zip(base, change, strict=True)]
    gated = GatedWeights(
        live,
        base,
        [(mean, square.abs()) for mean, square in zip(means, squares, strict=True)],
        n_moment_steps=5,
        log_alpha=2.0,
        stretch=Stretch(),
        groups=GroupGates(len(shapes), 1.0, Stretch(), 7),
        seed=7,
        native=None,
    )
    alpha = AdamRates(rate=0.4, epsilon=1e-3)
    counts: list[tuple[float, ...]] = []
    for _ in range(5):
        for parameter, gradient in zip(live, drawn(), strict=True):
            parameter.grad = gradient
        counts.append(
            gated.step(
                AdamRates(rate=1e-2), alpha, penalty=0.05, product=product, grad_scale=0.5,
                shift=-0.3,
            )
        )  # fmt: skip
    return [*[p.detach() for p in live], *gated.w, *gated.log_alpha, torch.tensor(counts)]
