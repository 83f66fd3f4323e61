"""The training loop that every stage of every method runs in, and early stopping."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from streamlab.errors import TrainingError
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.api import Progress, TrainingJob, TrainingSettings, TrainingSummary
from streamlab.tasks.batches import Batch, asked_logits

N_EVALUATIONS: Final = 10  # for the curves of a training
# Takes a share of the full learning rate; returns the density that `Progress` shows, if any.
TakeStep = Callable[[float], float | None]
_LONGEST_PLAIN: Final = 128  # tokens, up to which attention is computed plainly


class Stateful(Protocol):
    """An object that a stage of a training changes."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that its later steps depend on, beside the model; tensors need no copies."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take over what `state_dict` returned of an object made alike."""
        ...


Made = TypeVar("Made")


class EarlyStopping:
    """The best weights so far of the tensors that a stage trains, and how long ago they were best.

    `on_restore` is called after they are written back into these tensors. A score that is NaN is
    never the best.
    """

    def __init__(self, tensors: Iterable[Tensor], on_restore: Callable[[], None]) -> None:
        self._tensors = list(tensors)
        self._on_restore = on_restore
        self._best: list[Tensor] = []
        self._score = -float("inf")
        self.n_since_best = 0  # evaluations

    def offer(self, score: float) -> None:
        """Copy the tensors as they are now if `score` is the highest so far."""
        self.n_since_best += 1
        if score > self._score:
            self._score, self.n_since_best = score, 0
            self._best = [tensor.detach().clone() for tensor in self._tensors]

    def restore(self) -> None:
        """Write the best weights back, if any were offered."""
        if not self._best:
            return
        with torch.no_grad():
            for tensor, best in zip(self._tensors, self._best, strict=True):
                tensor.copy_(best)
        self._on_restore()


class TrainingLoop:
    """The steps of one training, stage by stage, over one endless sequence of batches."""

    def __init__(self, job: TrainingJob, n_steps: int) -> None:
        self._job = job
        self._batches = iter(()) if job.batches is None else endless(job.batches)
        self.n_steps = n_steps  # planned, of all stages together
        self._step = 0  # of those planned
        self.taken: Counter[str] = Counter()  # steps by stage
        self.reused = 0  # of these, those that an equal training took
        self._n_runs = 0  # begun so far: dense warm-up, gated, ...
        self._before = self._position()  # the step in progress
        self._holds: Sequence[Stateful] = ()
        self._made: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._resumed: Mapping[str, Any] | None = None
        self.device = next(job.model.parameters()).device

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Turn dropout on, seeded; on exit the model is in evaluation mode."""
        job = self._job
        with (
            seeded_dropout(job.seed, self.device),
            training_attention(job.model, job.training, self.device),
            gradient_checkpointing(job.model, job.training),
        ):
            job.model.train()
            yield
            job.model.eval()

    @property
    def n_left(self) -> int:
        """Return the number of planned steps that no stage has used yet."""
        return self.n_steps - self._step

    @property
    def n_taken(self) -> int:
        """Return the number of steps taken: below `n_steps` where time or patience ran out."""
        return self.taken.total()

    def summary(self, **details: Any) -> TrainingSummary:
        """Return the number of steps taken together with a method's own details."""
        if self.reused:
            details["reused_steps"] = self.reused
        return TrainingSummary(n_steps=self.n_taken, details=details)

    def run_last(
        self,
        stage: str,
        take_step: TakeStep,
        tensors: Iterable[Tensor],
        on_restore: Callable[[], None] = lambda: None,
    ) -> None:
        """Take all steps that are left; where `patience` is set, end on the best of `tensors`."""
        schedule = ramp(self.n_left, self._job.training.warmup_share)
        self.run_rest(stage, schedule, take_step, tensors, on_restore)

    def run_rest(
        self,
        stage: str,
        schedule: Sequence[float],
        take_step: TakeStep,
        tensors: Iterable[Tensor],
        on_restore: Callable[[], None] = lambda: None,
        *,
        holds: Sequence[Stateful] = (),
    ) -> None:
        """Take the last steps, by `schedule`; see `run_last`."""
        self.run(stage, schedule, take_step, EarlyStopping(tensors, on_restore), holds=holds)

    def run(
        self,
        stage: str,
        schedule: Sequence[float],
        take_step: TakeStep,
        early_stopping: EarlyStopping | None = None,
        *,
        holds: Sequence[Stateful] = (),
    ) -> list[Progress]:
        """Take one step for every share of the learning rate in `schedule`; return what was shown.

        `holds`: what the steps change beside the model. In a resumed loop, a stage that was at its
        end is passed over, whatever it holds, and the one that was in progress goes on. Raises
        TrainingError at the first loss that is NaN or infinite.
        """
        began, first = self._job.clock(), self._step
        shown: list[Progress] = []
        self._n_runs += 1
        self._holds = holds
        if self._resumed is not None:
            if self._n_runs < self._resumed["position"]["n_runs"]:
                self._step += len(schedule)
                self.taken[stage] += len(schedule)
                return shown
            self._go_on_with(self._resumed)
        while self._step < first + len(schedule):
            self._before = self._position()
            share = schedule[self._step - first]
            self._step += 1
            self.taken[stage] += 1
            value = self.backward(stage)
            density = take_step(share)
            for parameter in self._job.model.parameters():
                parameter.grad = None
            done = Progress(stage, self._step, self.n_steps, value, density)
            shown.append(self._evaluated(done))
            self._job.watch(shown[-1])
            last = first + len(schedule)
            if early_stopping is not None and self._should_stop(early_stopping, last):
                break
            self._step += self._n_to_skip(len(schedule), self._step - first, began)
        self._step = first + len(schedule)
        if early_stopping is not None:
            early_stopping.restore()
        return shown

    @property
    def n_batches_taken(self) -> int:
        """Return the number of batches that the steps so far took."""
        return self.n_taken * self._job.training.accumulate

    def remembered(self, key: str, make: Callable[[], Made]) -> Made:
        """Return what `make` makes, or made before the training was interrupted.

        `make` may take steps of the loop. What it makes is kept under `key`, which is used once.
        """
        if self._resumed is not None and key in self._resumed["made"]:
            made, position = self._resumed["made"][key]
            self._move_to(position)
        else:
            made = make()
        self._made[key] = made, self._position()
        return cast(Made, made)

    def state_dict(self) -> dict[str, Any]:
        """Return where the loop is, before the step in progress, and all that its stage holds."""
        return {
            "position": self._before,
            "made": dict(self._made),
            "holds": [one.state_dict() for one in self._holds],
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on, once the stages run, where another loop of an equal job was."""
        self._resumed = state

    def _go_on_with(self, state: Mapping[str, Any]) -> None:
        self._move_to(state["position"])
        for one, held in zip(self._holds, state["holds"], strict=True):
            one.load_state_dict(held)
        self._resumed = None

    def _position(self) -> dict[str, Any]:
        return {"n_runs": self._n_runs, "step": self._step, "taken": dict(self.taken)}

    def _move_to(self, position: Mapping[str, Any]) -> None:
        self._n_runs, self._step = position["n_runs"], position["step"]
        self.taken = Counter(position["taken"])

    def skip(self, stage: str, shown: Sequence[tuple[float, float | None, float | None]]) -> None:
        """Count and show the steps of a stage that an equal training took.

        `shown`: the loss of each, and loss and score on the held-back examples.
        """
        self.reused += len(shown)
        for value, held_back_loss, held_back_score in shown:
            self._step += 1
            self.taken[stage] += 1
            for _ in range(self._job.training.accumulate):
                next(self._batches)
            self._job.watch(
                Progress(
                    stage,
                    self._step,
                    self.n_steps,
                    value,
                    None,
                    held_back_loss=held_back_loss,
                    held_back_score=held_back_score,
                )
            )

    def backward(self, stage: str) -> float:
        """Accumulate the gradient of one step's batches; returns their mean loss."""
        n_batches, total = self._job.training.accumulate, 0.0
        for _ in range(n_batches):
            loss = batch_loss(
                self._job.model, next(self._batches), self._job.training, self._job.loss
            )
            loss = loss if n_batches == 1 else loss / n_batches
            value = float(loss.detach())
            self.check_loss(value, stage)
            loss.backward()
            total += value
        return total

    def _evaluated(self, done: Progress) -> Progress:
        """Evaluate the model for the curves where that is due, and leave no trace in it.

        Never where time is limited, of which it would take some.
        """
        job, tenths = self._job, N_EVALUATIONS * self._step
        due = tenths // self.n_steps > (tenths - N_EVALUATIONS) // self.n_steps
        if job.held_back is None or not due or job.training.max_seconds is not None:
            return done
        devices = [self.device] if self.device.type == "cuda" else []
        modes = [(module, module.training) for module in job.model.modules()]
        with torch.random.fork_rng(devices=devices):
            job.model.eval()
            found = [value if math.isfinite(value) else None for value in job.held_back()]
        for module, mode in modes:
            module.training = mode
        return replace(done, held_back_loss=found[0], held_back_score=found[1])

    def check_loss(self, value: float, stage: str) -> None:
        """Raise TrainingError for a loss that is NaN or infinite."""
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss of `{self._job.task}` became {value} at step {max(1, self._step)} of "
                f"{self.n_steps} ({stage}). Lower `training.learning_rate`, or train with "
                "`training.precision: fp32`."
            )

    def _should_stop(self, early_stopping: EarlyStopping, last: int) -> bool:
        """Evaluate when it is due; tell whether patience has run out."""
        job, training = self._job, self._job.training
        if training.patience is None or job.validate is None:
            return False
        # Counts steps taken: where steps are skipped, a planned multiple may never come up.
        if self.n_taken % training.evaluate_every and self._step < last:
            return False
        was_training = job.model.training
        job.model.eval()
        early_stopping.offer(job.validate())
        job.model.train(was_training)
        return early_stopping.n_since_best >= training.patience

    def _n_to_skip(self, n_steps: int, n_done: int, began: float) -> int:
        """Return how many steps to skip so that a stage of `n_steps` ends within its time.

        Every planned step of a training has the same share of `max_seconds`.
        """
        seconds = self._job.training.max_seconds
        if seconds is None:
            return 0
        due = (self._job.clock() - began) * self.n_steps / seconds
        # The last step is always taken: its learning rate is the smallest.
        return max(0, min(math.floor(due), n_steps - 1) - n_done)


@contextmanager
def training_mode(job: TrainingJob) -> Iterator[TrainingLoop]:
    """Enter the job's loop; see `TrainingLoop.entered`."""
    with job.loop.entered():
        yield job.loop


def dense_step(job: TrainingJob) -> tuple[torch.optim.AdamW, TakeStep]:
    """Return Adam over backbone and head, and the function that takes a clipped step with it."""
    return adam_optimizer(
        (job.backbone.values(), job.training.learning_rate),
        (job.head.values(), job.training.head_learning_rate),
        clipped=job.model.parameters(),
        clip_norm=job.training.clip_norm,
    )


def clip_scale(norm: Tensor, clip_norm: float) -> Tensor:
    """Return the factor that brings a gradient's norm down to `clip_norm`, at most 1.

    One float64 number, left on the norm's device to avoid synchronisation.
    """
    return (clip_norm / (norm.double() + 1e-6)).clamp(max=1.0)


def head_values(job: TrainingJob) -> Mapping[str, NDArray[np.float32]]:
    """Copy the head from the model, as float32."""
    return {name: p.detach().float().cpu().numpy().copy() for name, p in job.head.items()}


def batch_loss(
    model: nn.Module,
    batch: Batch,
    training: TrainingSettings,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return the loss of a batch; `loss` takes float32 logits and labels."""
    device = next(model.parameters()).device
    batch = batch.to(device)
    bf16 = uses_bf16(training.precision, device)
    # Autocast around the forward only: its weight cache would serve stale weights after a step.
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        logits = asked_logits(model, batch)
    return loss(logits, batch.targets)


def endless(batches: Callable[[int], Iterator[Batch]]) -> Iterator[Batch]:
    """Yield the batches of epoch after epoch."""
    return itertools.chain.from_iterable(batches(epoch) for epoch in itertools.count())


def ramp(n_steps: int, warmup_share: float) -> list[float]:
    """Return shares of the learning rate: linear warm-up, then linear decay to 1 / n."""
    n_warmup = round(warmup_share * n_steps)
    rising = [(i + 1) / (n_warmup + 1) for i in range(n_warmup)]
    n_falling = n_steps - n_warmup
    return rising + [(n_falling - i) / n_falling for i in range(n_falling)]


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Tell whether to compute in bfloat16: requested, or `auto` on hardware that has it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without these instructions bfloat16 is emulated, many times slower than float32.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def training_attention(
    model: nn.Module, training: TrainingSettings, device: torch.device
) -> Iterator[None]:
    """Train with the attention that is fastest there; restore the model's own on exit.

    On a CPU in bfloat16 the backward of PyTorch's fused attention takes a quarter of a step of
    MiniLM, and that of plain matrix products a twentieth. These keep all attention weights, whose
    memory grows with the square of the length.
    """
    fused = [
        module
        for module in model.modules()
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation == "sdpa"
    ]
    on_cpu = device.type == "cpu" and uses_bf16(training.precision, device)
    if not on_cpu or training.max_length > _LONGEST_PLAIN:
        fused = []
    for module in fused:
        module.set_attn_implementation("eager")
    yield
    for module in fused:
        module.set_attn_implementation("sdpa")


@contextmanager
def gradient_checkpointing(model: nn.Module, training: TrainingSettings) -> Iterator[None]:
    """Train without keeping activations inside layers, where that is set.

    Raises TrainingError for a model that cannot.
    """
    if not training.gradient_checkpointing:
        yield
        return
    if not isinstance(model, PreTrainedModel) or not model.supports_gradient_checkpointing:
        raise TrainingError(
            f"`training.gradient_checkpointing` is set, and a {type(model).__name__} cannot do it. "
            "Leave it out."
        )
    cached = getattr(model.config, "use_cache", None)
    model.config.use_cache = False  # of a decoder's keys and values, which training has no use for
    model.activation_checkpointing_enable({"use_reentrant": False})
    yield
    model.activation_checkpointing_disable()
    if cached is None:
        del model.config.use_cache
    else:
        model.config.use_cache = cached


def set_dropout(model: nn.Module, share: float) -> None:
    """Set the probability of every dropout module, in place."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


@contextmanager
def seeded_dropout(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators that dropout uses; restore them on exit."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
