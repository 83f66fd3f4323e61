"""A finetuning that equal trainings share: the same bits, curve and random numbers."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from streamlab.methods import FixedMaskTraining
from streamlab.methods.api import Progress, SparseChange, TrainingJob

MakeJob = Callable[..., TrainingJob]
MASKS = ("change", "rewound", "rows", "counts", {"name": "groups", "by": "change"})


class Held(dict[str, bytes]):
    """Stages in memory."""

    def add(self, key: str, state: bytes) -> None:
        self[key] = state


class Trained:
    """One training, what it showed, and how many forward passes it took."""

    def __init__(
        self,
        make_job: MakeJob,
        stages: Held | None,
        *,
        mask: object = "change",
        learning_rate: float = 0.05,
        seed: int = 1,
        change: Callable[[TrainingJob], TrainingJob] = lambda job: job,
        **training: Any,
    ) -> None:
        self.shown: list[Progress] = []
        self.n_forward = 0
        method = FixedMaskTraining.model_validate(
            {"mask": mask, "target_density": 0.02, "learning_rate": learning_rate}
        )
        made = make_job(seed, **training)
        assert any(isinstance(m, nn.Dropout) and m.p > 0 for m in made.model.modules())
        job = change(dataclasses.replace(made, watch=self.shown.append, stages=stages))
        job.model.register_forward_pre_hook(self._count)
        with torch.random.fork_rng(devices=[]):
            self.change = method.train(job)
        self.job = job

    def _count(self, *_: object) -> None:
        self.n_forward += 1

    @property
    def digest(self) -> str:
        """Return the digest of everything that was learnt."""
        assert isinstance(self.change, SparseChange)
        digest = hashlib.sha256()
        for tensor in self.change.tensors:
            digest.update(tensor.positions.tobytes() + tensor.values.tobytes())
        for name, array in self.change.head.items():
            digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()


@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_gives_the_same_bits_with_and_without_sharing(
    mask: object, accumulate: int, make_job: MakeJob
) -> None:
    stages = Held()
    plain = Trained(make_job, None, mask=mask, accumulate=accumulate)
    first = Trained(make_job, stages, mask=mask, accumulate=accumulate)
    second = Trained(make_job, stages, mask=mask, accumulate=accumulate)

    assert plain.digest == first.digest == second.digest
    assert plain.shown == first.shown == second.shown
    n_shared = plain.change.summary.details["steps_finetune"]
    assert n_shared > 0
    assert plain.n_forward == first.n_forward == second.n_forward + accumulate * n_shared
    assert first.change.summary == plain.change.summary
    assert second.change.summary.details == {
        **plain.change.summary.details,
        "reused_steps": n_shared,
    }
    assert second.change.summary.n_steps == plain.change.summary.n_steps


def test_settings_of_the_mask_and_other_masks_share_one_finetuning(make_job: MakeJob) -> None:
    stages = Held()

    for mask in MASKS:
        for learning_rate in (0.05, 0.01):
            shared = Trained(make_job, stages, mask=mask, learning_rate=learning_rate)
            plain = Trained(make_job, None, mask=mask, learning_rate=learning_rate)
            assert shared.digest == plain.digest

    assert len(stages) == 1


def other_head(job: TrainingJob) -> TrainingJob:
    with torch.no_grad():
        job.head["classifier.bias"][0] += 0.1
    return job


def other_examples(job: TrainingJob) -> TrainingJob:
    def batches(epoch: int) -> Any:
        for number, batch in enumerate(job.batches(epoch)):
            if (epoch, number) == (1, 2):
                batch.inputs["input_ids"][3, 4] += 1
            yield batch

    return dataclasses.replace(job, batches=batches)


def other_dropout(job: TrainingJob) -> TrainingJob:
    for module in job.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.2
    return job


def other_class_weights(job: TrainingJob) -> TrainingJob:
    return dataclasses.replace(job, loss=partial(job.loss, class_weights=(0.5, 1.5)))


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 2},
        {"training_rate": 1e-3},
        {"epochs": 7.0},
        {"clip_norm": 0.5},
        {"change": other_head},
        {"change": other_examples},
        {"change": other_dropout},
        {"change": other_class_weights},
    ],
)
def test_another_training_shares_nothing(other: dict[str, Any], make_job: MakeJob) -> None:
    stages = Held()
    Trained(make_job, stages)

    def trained(stages: Held | None) -> Trained:
        given = dict(other)
        rate = given.pop("training_rate", 3e-3)

        def make(seed: int, **training: Any) -> TrainingJob:
            return make_job(seed, **{"learning_rate": rate, **training})

        return Trained(make, stages, **given)

    assert trained(stages).digest == trained(None).digest
    assert len(stages) == 2


def test_a_time_limit_shares_nothing(make_job: MakeJob) -> None:
    stages = Held()

    Trained(make_job, stages, max_seconds=1000.0)

    assert stages == {}


def test_rows_that_did_not_change_are_not_kept(make_job: MakeJob) -> None:
    stages = Held()
    trained = Trained(make_job, stages)
    (state,) = map(load, stages.values())

    positions = "model.bert.embeddings.position_embeddings.weight"
    rows = state[f"rows.{positions}"]
    assert rows.tolist() == list(range(8))  # of texts of eight words
    assert state[positions].shape[0] == 8 < trained.job.layout.shapes[1][0]
    assert f"rows.{positions.replace('position', 'word')}" not in state  # most of them are in use


def without_a_tensor(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(list(state.items())[1:])


def with_another_shape(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t[:1].clone() if n.endswith("query.weight") else t for n, t in state.items()}


def with_fewer_losses(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**state, "losses": state["losses"][1:].clone()}


def with_no_number(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**state, "losses": torch.full_like(state["losses"], np.nan)}


def with_a_row_outside(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t + 10_000 if n.startswith("rows.") else t for n, t in state.items()}


def with_a_row_too_few(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t[1:].clone() if n.startswith("rows.") else t for n, t in state.items()}


def with_no_generator(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**state, "random": torch.zeros_like(state["random"])}


@pytest.mark.parametrize(
    "damage",
    [
        without_a_tensor,
        with_another_shape,
        with_fewer_losses,
        with_no_number,
        with_a_row_outside,
        with_a_row_too_few,
        with_no_generator,
        None,
    ],
)
def test_a_state_that_does_not_fit_is_not_used(
    damage: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None, make_job: MakeJob
) -> None:
    stages = Held()
    plain = Trained(make_job, stages)
    ((key, state),) = stages.items()
    stages[key] = b"no state" if damage is None else save(damage(load(state)))

    again = Trained(make_job, stages)

    assert again.digest == plain.digest
    assert again.n_forward == plain.n_forward
    assert stages[key] == state  # held anew
