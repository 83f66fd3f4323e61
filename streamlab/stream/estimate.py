"""Estimates of what a scenario would train and store, and how long it would take."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass

import torch

from streamlab.diff.format.values import VALUE_BITS
from streamlab.methods.api import TrainingSettings
from streamlab.methods.training_loop import batch_loss, endless, seeded_dropout
from streamlab.stream.run_context import Classifiers, EncodedTask, RunContext
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.tasks.batches import n_batches, training_batches

_VALUE_BITS = {**VALUE_BITS, "auto": 16}  # it seldom chooses more than bf16
_TIMED_BATCHES = 2
_FORWARD_SHARE = 1 / 3  # of a step: the backward does twice the forward's work


@dataclass(frozen=True)
class PlannedArrival:
    """One future arrival: an upper bound of its size, and an estimate of its time."""

    arrival: Arrival
    source: str
    n_train_examples: int
    n_steps: int
    n_entries: int
    file_bytes: int
    seconds: float


def plan(context: RunContext) -> list[PlannedArrival]:
    """Plan every arrival of a scenario.

    Bytes: kept positions at the entropy of evenly drawn ones, values at their full width, and
    the head; real files are smaller, as their values compress and a rule has few positions to
    store, but for some hundred bytes of header and task.
    Seconds: the forward and backward of two batches of every task, timed here, times the steps;
    what runs beside it makes it longer.
    """
    timed: dict[tuple[str, int], float] = {}
    planned = []
    for arrival in arrivals(context.scenario):
        task = context.encoded(arrival)
        training = context.training(arrival.task)
        key = (arrival.task, arrival.seed)
        if key not in timed:
            timed[key] = _step_seconds(task, context.classifiers, training)
        n_steps = training.n_steps(n_batches(task.train, training.batch_size))
        expected = arrival.method.expected_entries(context.base.layout)
        n_entries = context.base.layout.n_gated if expected is None else expected
        # A diff without entries trains the head alone, which needs no backward of the backbone.
        frozen = arrival.method.artifact == "diff" and n_entries == 0
        planned.append(
            PlannedArrival(
                arrival=arrival,
                source=task.data.source.kind,
                n_train_examples=len(task.data.train),
                n_steps=n_steps,
                n_entries=n_entries,
                file_bytes=_bytes(context, arrival, n_entries),
                seconds=n_steps * timed[key] * (_FORWARD_SHARE if frozen else 1.0),
            )
        )
    return planned


def _bytes(context: RunContext, arrival: Arrival, n_entries: int) -> int:
    target = getattr(arrival.method, "target_bytes", None)
    if target is not None:
        return int(target)
    d = context.base.layout.n_gated
    task, training = context.encoded(arrival), context.training(arrival.task)
    head = 4 * sum(map(math.prod, context.classifiers.head_shapes(task, training).values()))
    if n_entries == d:
        return 4 * d + head
    p = n_entries / d
    position_bits = -math.log2(p) - (1 - p) / p * math.log2(1 - p) if n_entries else 0.0
    bits = n_entries * (position_bits + _VALUE_BITS[context.scenario.storage.values])
    return math.ceil(bits / 8) + head


def _step_seconds(task: EncodedTask, classifiers: Classifiers, training: TrainingSettings) -> float:
    """Time the forward and backward of two batches, after one that warms up."""
    model = classifiers.build(task, training, seed=0).train()
    batches = endless(
        lambda epoch: training_batches(
            task.train, batch_size=training.batch_size, seed=0, epoch=epoch
        )
    )
    began = 0.0
    with seeded_dropout(0, model.device):
        for number, batch in enumerate(itertools.islice(batches, 1 + _TIMED_BATCHES)):
            if number == 1:
                began = time.perf_counter()
            torch.autograd.backward(batch_loss(model, batch, training, task.data.loss))
    return (time.perf_counter() - began) / _TIMED_BATCHES
