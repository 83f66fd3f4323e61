"""What ends a training, or stretches a step: accumulation, budgets of steps and time, patience."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from streamlab.hashing import fingerprint_tensors
from streamlab.methods import BitFit, DiffPruning, FullFinetuning, HeadOnly, Lora, NonAdaptive
from streamlab.methods.api import (
    Method,
    Progress,
    SparseChange,
    TrainingJob,
    TrainingSettings,
)
from streamlab.methods.training_loop import set_dropout
from streamlab.tasks.batches import Batch

MakeJob = Callable[..., TrainingJob]

MASK: dict[str, Any] = {"target_density": 0.02, "fixed_mask_learning_rate": 2e-2}
METHODS: dict[str, Method] = {
    "diff pruning": DiffPruning(**MASK),
    "full finetuning": FullFinetuning(),
    "head only": HeadOnly(),
    "non-adaptive": NonAdaptive(**MASK),
    "bitfit": BitFit(),
    "lora": Lora(),
}

each_method = pytest.mark.parametrize("name", METHODS)


def weights(job: TrainingJob, *, half: bool = False) -> str:
    found = {n: p.detach() for n, p in job.model.named_parameters()}
    return fingerprint_tensors({n: p.half() if half else p for n, p in found.items()})


def doubled(job: TrainingJob) -> TrainingJob:
    """The same job with every batch twice."""

    def batches(epoch: int) -> Iterator[Batch]:
        for batch in job.batches(epoch):
            yield from (batch, batch)

    return dataclasses.replace(job, batches=batches, n_batches=2 * job.n_batches)


@each_method
def test_the_same_batch_twice_to_a_step_is_the_batch_once(name: str, make_job: MakeJob) -> None:
    # Gates sampled per batch instead of per step would make a difference.
    once, twice = make_job(), doubled(make_job(accumulate=2))
    for job in (once, twice):
        set_dropout(job.model, 0.0)

    first, other = METHODS[name].train(once), METHODS[name].train(twice)

    assert first.summary.n_steps == other.summary.n_steps == 24
    assert weights(once) == weights(twice)


@each_method
def test_patience_ends_the_last_stage_on_its_best_weights(name: str, make_job: MakeJob) -> None:
    half = name == "lora"  # which rounds them at the end
    seen: list[str] = []
    scores = iter([0.1, 0.8, 0.7, float("nan"), *[0.0] * 20])

    def validate() -> float:
        assert not job.model.training
        seen.append(weights(job, half=half))
        return next(scores)

    job = make_job(patience=2, evaluate_every=1)
    job = dataclasses.replace(job, validate=validate)
    trained = METHODS[name].train(job)

    assert len(seen) == 4
    assert len(set(seen)) == 4
    assert weights(job, half=half) == seen[1]
    assert trained.summary.n_steps < 24
    if isinstance(trained, SparseChange):
        kept = {n: base.clone() for n, base in job.base.items()}
        for tensor, sparse in zip(kept.values(), trained.tensors, strict=True):
            tensor.reshape(-1)[torch.from_numpy(sparse.positions.copy())] += torch.from_numpy(
                sparse.values.copy()
            )
        live = {n: p.detach() for n, p in job.backbone.items()}
        assert fingerprint_tensors(kept) == fingerprint_tensors(live)


def test_patience_evaluates_also_where_time_runs_short(make_job: MakeJob) -> None:
    # Every other step is left out, and so is every planned step whose number is even.
    n_evaluated, shown, ticks = itertools.count(), list[Progress](), itertools.count()
    job = make_job(max_seconds=12.0, patience=24, evaluate_every=2)
    job = dataclasses.replace(
        job,
        validate=lambda: float(next(n_evaluated)),
        watch=shown.append,
        clock=lambda: float(next(ticks)),
    )

    METHODS["full finetuning"].train(job)

    assert len({progress.step % 2 for progress in shown[:-1]}) == 1
    assert next(n_evaluated) >= len(shown) // 2


@pytest.mark.parametrize("n_steps", [2, 3, 4])
def test_even_the_shortest_training_warms_up_for_a_step(n_steps: int, make_job: MakeJob) -> None:
    trained = METHODS["diff pruning"].train(make_job(max_steps=n_steps))

    assert trained.summary.details["steps_dense_warmup"] == 1
    assert trained.summary.n_steps == n_steps


def test_without_patience_nothing_is_evaluated(make_job: MakeJob) -> None:
    def validate() -> float:
        raise AssertionError("not to be called")

    HeadOnly().train(dataclasses.replace(make_job(), validate=validate))


@each_method
def test_time_that_runs_short_leaves_out_steps_of_every_stage(name: str, make_job: MakeJob) -> None:
    shown: list[Progress] = []
    ticks = itertools.count()
    job = make_job(max_seconds=12.0)  # at a tick a step, which is half of what 24 steps take
    job = dataclasses.replace(job, watch=shown.append, clock=lambda: float(next(ticks)))
    whole = METHODS[name].train(make_job())

    trained = METHODS[name].train(job)

    assert trained.summary.n_steps == len(shown) < whole.summary.n_steps == 24
    assert shown[-1].step == 24
    steps = [progress.step for progress in shown]
    assert steps == sorted(set(steps))
    assert len(shown) <= 18


@pytest.mark.parametrize("shortened", ["time", "patience"])
@pytest.mark.parametrize("name", ["diff pruning", "non-adaptive"])
def test_the_lengths_of_stages_are_of_the_steps_taken(
    name: str, shortened: str, make_job: MakeJob
) -> None:
    shown: list[Progress] = []
    if shortened == "time":
        ticks = itertools.count()
        job = make_job(max_seconds=12.0)
        job = dataclasses.replace(job, clock=lambda: float(next(ticks)))
    else:
        job = make_job(patience=2, evaluate_every=1)
        job = dataclasses.replace(job, validate=lambda: 0.5)

    trained = METHODS[name].train(dataclasses.replace(job, watch=shown.append))

    stages = Counter(progress.stage for progress in shown)
    named = {"dense warm-up": "steps_dense_warmup", "finetune": "steps_finetune"}
    named |= {"gated": "steps_gated", "fixed mask": "steps_fixed_mask"}
    assert {key: n for key, n in trained.summary.details.items() if key.startswith("steps_")} == {
        named[stage]: n for stage, n in stages.items()
    }
    assert sum(stages.values()) == trained.summary.n_steps < 24


def test_a_training_takes_no_more_steps_than_it_may(make_job: MakeJob) -> None:
    assert HeadOnly().train(make_job(max_steps=5)).summary.n_steps == 5
    assert TrainingSettings(epochs=3, min_steps=0, accumulate=4).n_steps(100) == 75


def test_fewer_steps_at_most_than_at_least_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"`max_steps` \(5\) must not be below `min_steps`"):
        TrainingSettings(max_steps=5, min_steps=10)
