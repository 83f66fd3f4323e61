"""What a provider does with an order: train on its own examples, and answer with a submission."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamlab.diff.apply import applied
from streamlab.errors import OutOfMemoryError, TrainingError
from streamlab.inference.artifact_kinds import checkpoint_of, read_artifact
from streamlab.inference.model import logits
from streamlab.methods.api import (
    Adapter,
    FileTypes,
    Progress,
    SparseChange,
    Stages,
    TrainingJob,
    TrainingResult,
    TrainingSettings,
)
from streamlab.methods.training_loop import uses_bf16
from streamlab.registry.records import ArtifactKind, ReportedDetails
from streamlab.stream.environment import environment_digest
from streamlab.stream.executors.process_limits import peak_bytes, reset_peak
from streamlab.stream.providers.behaviours import Behaviour, flip_labels, misbehave
from streamlab.stream.providers.quantization import quantize
from streamlab.stream.run_context import EncodedTask, RunContext, encode_task, find_device
from streamlab.stream.schedule import Arrival
from streamlab.stream.submission import Submission, signed
from streamlab.tasks.batches import n_batches, training_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Watch = Callable[[Progress], None]
Outputs = NDArray[np.float32]

_N_COMPARED = 16
# Examples of an evaluation for the curves: as many as ten of them take a few percent of a training
# with, and so few only where it is very short.
_LEAST_HELD_BACK, _MOST_HELD_BACK = 8, 64
_TRAINED_PER_HELD_BACK = 128
_TOLERANCE = 1e-4  # of the largest output; a float32 difference restores a weight to its last bit


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What an answer took, for the simulator's records; the lab verifies none of it."""

    n_steps: int
    training_seconds: float
    peak_memory_bytes: int
    details: ReportedDetails = field(default_factory=ReportedDetails)


@dataclass(frozen=True)
class Order:
    """What a provider is to answer, and how it is to behave in this simulation."""

    arrival: Arrival
    behaviour: Behaviour = "honest"
    seed: int = 0  # of how it misbehaves
    session: str = ""  # what its signature must cover of the run; see `session_of`
    earlier: Submission | None = None  # admitted before, which the behaviour misuses
    alone: bool = False  # to be answered while nothing else runs: it ran out of memory before


@dataclass(frozen=True)
class Answer:
    """A provider's submission, what it took, and how the provider really behaved."""

    submission: Submission
    effort: Effort
    behaviour: Behaviour = "honest"


def answer(order: Order, context: RunContext, watch: Watch) -> Answer:
    """Train one arrival, pack the result, and misbehave as ordered.

    Raises TrainingError or DiffError where it breaks down, OutOfMemoryError where it finds no
    memory on the GPU, BaseMismatchError where the base was changed.
    """
    began, arrival = time.perf_counter(), order.arrival
    training = context.training(arrival.task)
    torch.set_num_threads(training.threads)
    device = find_device(training.device)
    reset_peak()
    if device.type == "cuda":
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)
    task = _examples(order, context)
    context.base.check_unchanged()
    with _explained(arrival):
        trained, outputs = _train(arrival, task, context, watch)
        submission, details = _pack(trained, outputs, arrival, task, context)
    submission, behaviour = _submit(submission, order, context)
    if device.type == "cuda":
        details = replace(details, peak_gpu_bytes=torch.cuda.max_memory_allocated(device))
    effort = Effort(
        n_steps=trained.summary.n_steps,
        training_seconds=time.perf_counter() - began,
        peak_memory_bytes=peak_bytes(),
        details=details,
    )
    return Answer(submission, effort, behaviour)


@contextmanager
def _explained(arrival: Arrival) -> Iterator[None]:
    """Turn whatever torch raises for want of memory into an OutOfMemoryError."""
    try:
        yield
    except (RuntimeError, TrainingError) as error:
        if not _is_out_of_memory(error) and not _is_out_of_memory(error.__cause__):
            raise
        reason = str(error.__cause__ or error).partition("\n")[0][:300]
        raise OutOfMemoryError(f"`{arrival.task}` ran out of memory: {reason}") from error


def _is_out_of_memory(error: BaseException | None) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _examples(order: Order, context: RunContext) -> EncodedTask:
    """Return the examples to learn from, with wrong labels where that is the behaviour."""
    task = context.encoded(order.arrival)
    if order.behaviour != "label_flip":
        return task
    share = context.scenario.providers[order.arrival.provider].behaviour.flipped_labels
    flipped = flip_labels(task.data, share=share, seed=order.seed)
    return encode_task(flipped, context.base, context.training(order.arrival.task))


def _train(
    arrival: Arrival, task: EncodedTask, context: RunContext, watch: Watch
) -> tuple[TrainingResult, Outputs]:
    """Train one arrival on a fresh copy of the base.

    Returns the result and the trained model's outputs on the validation examples. Raises
    TrainingError where it breaks down, BaseMismatchError where it changed the base.
    """
    base, training, seed = context.base, context.training(arrival.task), arrival.training_seed
    model = context.classifiers.build(task, training, seed=seed)
    parameters = dict(model.named_parameters())
    storage = context.scenario.storage
    types = FileTypes(
        None if storage.values == "auto" else storage.values,
        None if storage.head == "auto" else storage.head,
    )
    job = TrainingJob(
        task=arrival.task,
        model=model,
        layout=base.layout,
        base={name: tensor.to(model.device) for name, tensor in base.tensors.items()},
        backbone={name: parameters[full] for name, full in base.full_names.items()},
        head={name: parameters[name] for name in base.parts(task.data.type.model_class).head},
        n_batches=n_batches(task.train, training.batch_size),
        batches=lambda epoch: training_batches(
            task.train, batch_size=training.batch_size, seed=seed, epoch=epoch
        ),
        loss=task.data.loss,
        training=training,
        seed=seed,
        watch=watch,
        validate=None if training.patience is None else partial(_validation_score, model, task),
        held_back=partial(_held_back, model, task, training, _n_held_back(task, training)),
        stages=_stages(context, training),
        file_types=types,
        file_bytes=lambda trained, types: trained.file_bytes(
            base.layout, _serving_facts(arrival, task, training, context), types
        ),
    )
    try:
        trained = arrival.method.train(job)
    except (ValueError, RuntimeError, LookupError, TypeError, ArithmeticError) as error:
        raise TrainingError(
            f"The training of `{arrival.task}` broke down: {type(error).__name__}: {error}"
        ) from error
    base.check_unchanged()
    return trained, logits(model.eval(), task.validation)


def _stages(context: RunContext, training: TrainingSettings) -> Stages | None:
    """Return the stages of equal trainings on this machine, if they are kept."""
    return None if context.stages is None else context.stages.within(environment_digest(training))


def _validation_score(model: PreTrainedModel, task: EncodedTask) -> float:
    """Score a model in training on the examples split from train, by the task's first metric."""
    return task.data.primary_score(logits(model, task.validation), task.validation.labels)


def _n_held_back(task: EncodedTask, training: TrainingSettings) -> int:
    """Return how many examples to evaluate on for the curves."""
    n_steps = training.n_steps(n_batches(task.train, training.batch_size))
    n_trained = n_steps * training.batch_size * training.accumulate
    return min(max(n_trained // _TRAINED_PER_HELD_BACK, _LEAST_HELD_BACK), _MOST_HELD_BACK)


def _held_back(
    model: PreTrainedModel, task: EncodedTask, training: TrainingSettings, n_examples: int
) -> tuple[float, float]:
    """Evaluate a model in training on a few examples split from train, as it computes in it."""
    examples = task.validation.first(n_examples)
    bf16 = uses_bf16(training.precision, model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        outputs = logits(model, examples)
    return task.data.loss_of(outputs, examples.labels), task.data.primary_score(
        outputs, examples.labels
    )


def _pack(
    trained: TrainingResult,
    outputs: Outputs,
    arrival: Arrival,
    task: EncodedTask,
    context: RunContext,
) -> tuple[Submission, ReportedDetails]:
    """Write what is to be stored as bytes, and report how.

    Raises TrainingError where these bytes would not answer as the trained model does.
    """
    details = ReportedDetails(
        training=trained.summary.details, trained_score=_finite_score(outputs, task)
    )
    training = context.training(arrival.task)
    if not isinstance(trained, SparseChange):
        if isinstance(trained, Adapter):
            submission = _submission(arrival, "adapter", trained.data)
        else:
            as_difference = context.scenario.storage.checkpoints == "difference"
            data = checkpoint_of(trained, context.base, as_difference=as_difference)
            submission = _submission(arrival, "checkpoint", data)
        model_class = task.data.type.model_class
        artifact = read_artifact(
            submission.kind, submission.data, context.base, model_class=model_class
        )
        exact = context.classifiers.clean(task, training, dtype=torch.float32)
        with artifact.applied_to(exact) as served:
            _check_kept(served.model, task, outputs, arrival)
        return submission, details
    diff = trained.diff(context.base.layout, _serving_facts(arrival, task, training, context))
    model = context.classifiers.clean(task, training, dtype=torch.float32)
    with applied(model, diff):
        _check_kept(model, task, outputs, arrival)
    if context.base.dtype != torch.float32:
        model = context.classifiers.clean(task, training)
    storage = context.scenario.storage
    types = trained.stored_as or FileTypes(None, None)
    written = quantize(
        diff,
        task,
        model,
        outputs,
        values=types.values or storage.values,
        head=types.head or storage.head,
    )
    most = getattr(arrival.method, "target_bytes", None)
    if most is not None and len(written.encoded.data) > most:
        raise TrainingError(
            f"The file of `{arrival.task}` has {len(written.encoded.data):,} bytes, more than the "
            f"{most:,} of `target_bytes`, so that it was not submitted. Lower it a little."
        )
    declared = task.data.primary_score(written.outputs, task.validation.labels)
    details = replace(
        details,
        quantization=written.details,
        lost_by_rounding=_difference(details.trained_score, declared),
    )
    return _submission(arrival, "diff", written.encoded.data, declared), details


def _finite_score(outputs: Outputs, task: EncodedTask) -> float | None:
    score = task.data.primary_score(outputs, task.validation.labels)
    return score if math.isfinite(score) else None


def _difference(trained: float | None, stored: float) -> float | None:
    return None if trained is None or not math.isfinite(stored) else trained - stored


def _check_kept(
    stored: PreTrainedModel, task: EncodedTask, trained: Outputs, arrival: Arrival
) -> None:
    """Raise TrainingError where what is stored, unrounded, does not answer as was trained.

    A few examples suffice: a number that is left out changes the outputs of all of them.
    """
    trained = trained[:_N_COMPARED]
    change = float(np.abs(logits(stored, task.validation.first(_N_COMPARED)) - trained).max())
    if not change <= _TOLERANCE * max(1.0, float(np.abs(trained).max())):
        raise TrainingError(
            f"What `{arrival.method.label}` stores for `{arrival.task}` does not answer as the "
            f"model it trained: outputs on the validation examples differ by up to {change:.3g}. "
            "The method leaves something out that it trains; mend it, or use another base."
        )


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


def _serving_facts(
    arrival: Arrival, task: EncodedTask, training: TrainingSettings, context: RunContext
) -> dict[str, Any]:
    """Return what serving a diff needs to know beside its weights."""
    of_type, base = task.data.type, context.base
    frozen = base.parts(of_type.model_class).frozen_digest
    return {
        "task": arrival.task,
        "dataset": task.data.dataset,
        "kind": task.data.kind,
        "labels": list(task.data.labels),
        **of_type.serving_facts(task.data.train, base.tokenizer),
        **({} if frozen is None else {"frozen_head": frozen}),
        **({} if base.settings.dtype is None else {"dtype": base.settings.dtype}),
        "max_length": training.max_length,
        "metric": task.data.metrics[0].name,
        "method": arrival.method.label,
    }


def _submit(
    submission: Submission, order: Order, context: RunContext
) -> tuple[Submission, Behaviour]:
    """Sign a submission, and put something hostile in its place where that is the behaviour."""
    scenario, arrival, base = context.scenario, order.arrival, context.base.fingerprint
    private = context.find_private_key(arrival.provider, arrival.seed)
    if private is not None:
        submission = signed(submission, base=base, session=order.session, private=private)
    changed = misbehave(
        order.behaviour,
        submission,
        earlier=order.earlier,
        seed=order.seed,
        base=base,
        session=order.session,
        max_bytes=scenario.admission.max_bytes,
        private=private,
    )
    concerns_bytes = order.behaviour not in ("label_flip", "slow")
    return changed, "honest" if concerns_bytes and changed is submission else order.behaviour
