"""What a provider does with an order: train on its own rows, and answer with a submission."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streamlab.base import Base
from streamlab.diff.format.container import encode
from streamlab.diff.vector import DiffVector
from streamlab.inference.model import logits
from streamlab.methods.api import Adapter, Checkpoint, Progress, TrainingResult, TrainingSettings
from streamlab.registry.records import ArtifactKind
from streamlab.stream.artifacts import checkpoint_of, serving
from streamlab.stream.context import EncodedTask, RunContext, encode_task, fresh_model, train
from streamlab.stream.executors.process_limits import peak_bytes, reset_peak
from streamlab.stream.providers.behaviours import Behaviour, flip_labels, misbehave
from streamlab.stream.providers.quantization import Rounded, rounded
from streamlab.stream.schedule import Arrival
from streamlab.stream.submission import Submission, signed

Watch = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What an answer took, for the simulator's records; the lab trusts none of it."""

    n_steps: int
    training_seconds: float
    peak_memory_bytes: int
    details: Mapping[str, Any]  # JSON


@dataclass(frozen=True)
class Order:
    """What a provider is to answer to, and how it is to behave in this simulation."""

    arrival: Arrival
    behaviour: Behaviour = "honest"
    seed: int = 0  # of how it misbehaves
    earlier: tuple[Submission, ...] = ()  # what was admitted before, where it is to be misused


@dataclass(frozen=True)
class Answer:
    """A provider's submission, what it took, and how the provider came to behave."""

    submission: Submission
    effort: Effort
    behaved: Behaviour = "honest"


def answer(order: Order, context: RunContext, watch: Watch) -> Answer:
    """Train one arrival, pack what came of it, and misbehave as ordered.

    Raises TrainingError or DiffError where it breaks down, BaseMismatchError where the base is not
    what it was.
    """
    began, arrival = time.perf_counter(), order.arrival
    reset_peak()
    task = _rows(order, context)
    training = context.scenario.tasks[arrival.task].training
    context.base.check_unchanged()
    trained = train(arrival, task, context.base, training, watch)
    submission, facts = _packed(trained, arrival, task, context)
    submission, behaved = _handed_in(submission, order, context)
    effort = Effort(
        n_steps=trained.summary.n_steps,
        training_seconds=time.perf_counter() - began,
        peak_memory_bytes=peak_bytes(),
        details={**trained.summary.details, **facts},
    )
    return Answer(submission, effort, behaved)


def _rows(order: Order, context: RunContext) -> EncodedTask:
    """Return the rows to learn from, with wrong labels where that is the behaviour."""
    task = context.encoded(order.arrival)
    if order.behaviour != "label_flip":
        return task
    share = context.scenario.providers[order.arrival.provider].behaviour.flipped_labels
    training = context.scenario.tasks[order.arrival.task].training
    return encode_task(flip_labels(task.data, share=share, seed=order.seed), context.base, training)


def _handed_in(
    submission: Submission, order: Order, context: RunContext
) -> tuple[Submission, Behaviour]:
    """Sign a submission, and put something hostile in its place where that is the behaviour."""
    scenario, arrival, base = context.scenario, order.arrival, context.base.fingerprint
    private = context.find_private_key(arrival.provider, arrival.seed)
    if private is not None:
        submission = signed(submission, base=base, private=private)
    changed = misbehave(
        order.behaviour,
        submission,
        earlier=order.earlier,
        seed=order.seed,
        base=base,
        max_bytes=scenario.admission.max_bytes,
        private=private,
    )
    of_bytes = order.behaviour not in ("label_flip", "slow")
    return changed, "honest" if of_bytes and changed is submission else order.behaviour


def _packed(
    trained: TrainingResult, arrival: Arrival, task: EncodedTask, context: RunContext
) -> tuple[Submission, dict[str, Any]]:
    """Write what is to be stored as bytes, and say how it was rounded and what it does."""
    if isinstance(trained, Adapter):
        facts = {"adapter_config": dict(trained.config)}
        return _submission(arrival, "adapter", trained.weights), facts
    if isinstance(trained, Checkpoint):
        return _submission(arrival, "checkpoint", checkpoint_of(trained, context.base)), {}
    training = context.scenario.tasks[arrival.task].training
    said = _serving_facts(arrival, task, training)
    diff = DiffVector(context.base.layout, trained.tensors, trained.head, said)
    chosen = _written(diff, task, context, training)
    declared = _find_score(chosen, task, context.base, training)
    submission = _submission(arrival, "diff", chosen.encoded.data, declared)
    return submission, {"rounding": dict(chosen.facts)}


def _submission(
    arrival: Arrival, kind: ArtifactKind, data: bytes, declared: float | None = None
) -> Submission:
    return Submission(
        provider=arrival.provider,
        task=arrival.task,
        version=arrival.version,
        kind=kind,
        data=data,
        declared_score=declared,
    )


def _written(
    diff: DiffVector, task: EncodedTask, context: RunContext, training: TrainingSettings
) -> Rounded:
    values = context.scenario.storage.values
    if values == "auto":
        return rounded(diff, task, context.base, training)
    return Rounded(encode(diff, value_type=values), values, {"values": values})


def _find_score(
    chosen: Rounded, task: EncodedTask, base: Base, training: TrainingSettings
) -> float | None:
    """Return the score of the bytes on the rows held back; None where there are none."""
    rows = task.validation
    if not len(rows.labels):
        return None
    model, encoded = fresh_model(base, task.data, training, seed=0), chosen.encoded
    with serving(model, encoded.data, "diff", encoded.digest, base) as served:
        return task.data.primary_score(logits(served.model, rows), rows.labels)


def _serving_facts(
    arrival: Arrival, task: EncodedTask, training: TrainingSettings
) -> dict[str, Any]:
    """Return what whoever serves the diff must know beside its weights."""
    return {
        "task": arrival.task,
        "dataset": task.data.dataset,
        "kind": task.data.kind,
        "labels": list(task.data.labels),
        "pair": task.data.train[0].text2 is not None,
        "max_length": training.max_length,
        "metric": task.data.metrics[0].name,
        "method": arrival.method.name,
    }
