"""The training loop every method runs its stages through."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from streamlab.errors import TrainingError
from streamlab.methods.api import Batch, Progress, TrainingJob, TrainingSettings
from streamlab.methods.early_stopping import Best

# Takes a share of the full learning rate; returns the expected density where there are gates.
TakeStep = Callable[[float], float | None]


class Loop:
    """One pass after another over a job's batches, through as many stages as a method has."""

    def __init__(self, job: TrainingJob, n_steps: int) -> None:
        self._job = job
        self._batches = endless(job.batches)
        self._n_steps = n_steps
        self._step = 0  # of those planned
        self.taken: Counter[str] = Counter()  # steps by stage
        self.device = next(job.model.parameters()).device

    @property
    def n_taken(self) -> int:
        """Return how many steps were taken: fewer than planned where time or patience ran out."""
        return self.taken.total()

    def run(
        self,
        stage: str,
        schedule: Sequence[float],
        take_step: TakeStep,
        *,
        best: Best | None = None,
    ) -> None:
        """Take one step for every share of the learning rate in `schedule`.

        With `best`, which the last stage of a training has, it ends early where the settings
        say so, on the best weights. Raises TrainingError at the first loss that is not a finite
        number.
        """
        began, first = self._job.clock(), self._step
        while self._step < first + len(schedule):
            share = schedule[self._step - first]
            self._step += 1
            self.taken[stage] += 1
            value = self._backward(stage)
            density = take_step(share)
            for parameter in self._job.model.parameters():
                parameter.grad = None
            self._job.watch(Progress(stage, self._step, self._n_steps, value, density))
            if best is not None and self._is_enough(best, first + len(schedule)):
                break
            self._step += self._n_late(len(schedule), self._step - first, began)
        self._step = first + len(schedule)
        if best is not None:
            best.restore()

    def _backward(self, stage: str) -> float:
        """Gather the gradient of one step's batches; returns their mean loss."""
        n_batches, total = self._job.training.accumulate, 0.0
        for _ in range(n_batches):
            loss = batch_loss(
                self._job.model, next(self._batches), self._job.training, self._job.loss
            )
            loss = loss if n_batches == 1 else loss / n_batches
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingError(
                    f"The loss of `{self._job.task}` became {value} at step {self._step} of "
                    f"{self._n_steps} ({stage}). Lower `training.learning_rate`, or train with "
                    "`training.precision: fp32`."
                )
            loss.backward()
            total += value
        return total

    def _is_enough(self, best: Best, last: int) -> bool:
        """Evaluate when it is due; tell whether a better score has been missing for too long."""
        job, training = self._job, self._job.training
        if training.patience is None or job.validate is None:
            return False
        # Steps taken, not planned: where time runs short, no planned one need be such a multiple.
        if self.n_taken % training.evaluate_every and self._step < last:
            return False
        was_training = job.model.training
        job.model.eval()
        best.offer(job.validate())
        job.model.train(was_training)
        return best.n_since >= training.patience

    def _n_late(self, n_steps: int, n_done: int, began: float) -> int:
        """Return how many steps of a stage must be left out to end it within its share of time.

        Every step has the same share, so that a stage's are as many as its steps.
        """
        seconds = self._job.training.max_seconds
        if seconds is None:
            return 0
        due = (self._job.clock() - began) * self._n_steps / seconds
        # The last step is always taken: it is the one with hardly any learning rate left.
        return max(0, min(math.floor(due), n_steps - 1) - n_done)


def batch_loss(
    model: nn.Module,
    batch: Batch,
    training: TrainingSettings,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return the loss of a batch; `loss` takes logits in float32 and labels."""
    device = next(model.parameters()).device
    inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
    labels = batch.labels.to(device)
    bf16 = uses_bf16(training.precision, device)
    # Around the forward only: its weight cache would serve stale weights after a step.
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        logits = model(**inputs).logits.float()
    return loss(logits, labels)


def endless(batches: Callable[[int], Iterator[Batch]]) -> Iterator[Batch]:
    """Yield the batches of epoch after epoch."""
    return itertools.chain.from_iterable(batches(epoch) for epoch in itertools.count())


def ramp(n_steps: int, warmup_share: float) -> list[float]:
    """Return shares of the learning rate: up over the warm-up, then down to almost nothing."""
    n_warmup = round(warmup_share * n_steps)
    rising = [(i + 1) / (n_warmup + 1) for i in range(n_warmup)]
    n_falling = n_steps - n_warmup
    return rising + [(n_falling - i) / n_falling for i in range(n_falling)]


def adam(
    groups: Iterable[tuple[Iterable[nn.Parameter], float]],
) -> tuple[torch.optim.AdamW, Callable[[float], None]]:
    """Return fused Adam without weight decay over (parameters, rate), and its rate setter."""
    listed = [(list(parameters), rate) for parameters, rate in groups]
    rates = [rate for _, rate in listed]
    settings = [{"params": parameters, "lr": rate} for parameters, rate in listed]
    optimizer = torch.optim.AdamW(settings, weight_decay=0.0, fused=True)

    def set_share(share: float) -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share

    return optimizer, set_share


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Tell whether to compute in bfloat16: asked for, or `auto` and done by the hardware."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without these instructions bfloat16 is emulated, many times slower than float32.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def set_dropout(model: nn.Module, share: float) -> None:
    """Let every dropout of a model drop this share, in place."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


@contextmanager
def seeded_dropout(seed: int, device: torch.device) -> Iterator[None]:
    """Draw dropout from `seed`, and put the global generator back as it was."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
