"""The end of the gated stage: how gates are read, and the refusal of NaN and infinity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from streamlab.errors import TrainingError
from streamlab.methods import DiffPruning
from streamlab.methods.api import TrainingJob
from streamlab.methods.gates import gated_stage
from streamlab.methods.gates.gated_stage import GatedStage
from streamlab.methods.gates.hard_concrete import GroupGates, expected_gate
from streamlab.methods.masks.selection import budget
from streamlab.methods.training_loop import TrainingLoop, dense_step, ramp

MakeJob = Callable[..., TrainingJob]


def stage_of(job: TrainingJob, settings: DiffPruning) -> GatedStage:
    """Return the gated stage after eight steps of finetuning and one of its own."""
    loop = TrainingLoop(job, 20)
    moments, take_step = dense_step(job)
    loop.run("dense warm-up", ramp(8, 0.1), take_step)
    density = settings.target_density
    stage = GatedStage(settings, job, moments, target_density=density, n_steps=4)
    loop.run("gated", [1.0], stage.take_step)
    return stage


@pytest.mark.parametrize("structured", [False, True])
def test_the_gates_most_likely_open_let_all_of_w_through_and_the_others_nothing(
    make_job: MakeJob, structured: bool
) -> None:
    job = make_job(step="eager")
    settings = DiffPruning(target_density=0.01, candidate_ratio=4.0, structured=structured)
    stage = stage_of(job, settings)
    generator = torch.Generator().manual_seed(3)
    gated = stage.gated
    for log_alpha in gated.log_alpha:
        log_alpha.normal_(-4.0, 3.0, generator=generator)
    if isinstance(gated.groups, GroupGates):
        gated.groups.log_alpha[::2] = -9.0

    changes = stage.changes()

    w = torch.cat(gated.w)
    shares = torch.cat(changes)[w != 0.0] / w[w != 0.0]
    is_open = shares == 1.0
    assert int(is_open.sum()) == budget(0.04, gated.n_gated)
    assert shares[~is_open].abs().max() == 0.0
    groups = torch.ones(len(gated.w)) if gated.groups is None else gated.groups.open_probability
    odds = torch.cat(
        [
            torch.sigmoid(log_alpha.double()) * float(group)
            for log_alpha, group in zip(gated.log_alpha, groups, strict=True)
        ]
    )[w != 0.0]
    assert float(odds[is_open].min()) > float(odds[~is_open].max())


def test_with_a_given_coefficient_gates_are_read_by_their_expectation(make_job: MakeJob) -> None:
    settings = DiffPruning(l0_coefficient=1e-7, structured=False)
    stage = stage_of(make_job(step="eager"), settings)

    changes = stage.changes()

    for change, w, log_alpha in zip(changes, stage.gated.w, stage.gated.log_alpha, strict=True):
        torch.testing.assert_close(change, w * expected_gate(log_alpha, settings.stretch))


@pytest.mark.parametrize("step", ["auto", "eager"])
@pytest.mark.parametrize("l0_coefficient", ["auto", 1e-7])
def test_gates_that_became_nan_end_the_training_with_the_task(
    make_job: MakeJob, step: str, l0_coefficient: str | float
) -> None:
    job = make_job(step=step)
    stage = stage_of(job, DiffPruning(target_density=0.01, l0_coefficient=l0_coefficient))
    stage.gated.log_alpha[2][:] = float("nan")
    for parameter in job.model.parameters():
        parameter.grad = torch.zeros_like(parameter)

    with pytest.raises(TrainingError, match=r"gates of `made_up` became NaN .* within 2 steps"):
        # The sums of the compiled step do not show a NaN; the end of the stage does.
        _ = stage.take_step(1.0), stage.end()


def test_a_step_that_cannot_be_compiled_is_not_replaced_where_it_was_asked_for(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gated_stage, "find_kernels", lambda *_: None)

    assert stage_of(make_job(), DiffPruning()).densities.expected < 1.0
    with pytest.raises(TrainingError, match=r"`made_up` .* `training.step: compiled`"):
        stage_of(make_job(step="compiled"), DiffPruning())
