"""The training loop every method runs its stages through."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamlab.errors import TrainingError
from streamlab.methods.contract import Batch, Progress, TrainingJob, TrainingSettings

# Takes a share of the full learning rate; returns the expected density where there are gates.
TakeStep = Callable[[float], float | None]


class Loop:
    """One pass after another over a job's batches, through as many stages as a method has."""

    def __init__(self, job: TrainingJob, n_steps: int) -> None:
        self._job = job
        self._batches = endless(job.batches)
        self._n_steps = n_steps
        self._step = 0
        self.device = next(job.model.parameters()).device

    def run(self, stage: str, schedule: Iterable[float], take_step: TakeStep) -> None:
        """Take one step for every share of the learning rate in `schedule`.

        Raises TrainingError at the first loss that is not a finite number.
        """
        for share in schedule:
            self._step += 1
            loss = batch_loss(self._job.model, next(self._batches), self._job.training)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingError(
                    f"The loss of `{self._job.task}` became {value} at step {self._step} of "
                    f"{self._n_steps} ({stage}). Lower `training.learning_rate`, or train with "
                    "`training.precision: fp32`."
                )
            loss.backward()
            density = take_step(share)
            for parameter in self._job.model.parameters():
                parameter.grad = None
            self._job.watch(Progress(stage, self._step, self._n_steps, value, density))


def batch_loss(model: nn.Module, batch: Batch, training: TrainingSettings) -> Tensor:
    """Return the loss of a batch: squared error for numbers, cross-entropy for classes."""
    device = next(model.parameters()).device
    inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
    labels = batch.labels.to(device)
    bf16 = uses_bf16(training.precision, device)
    # Around the forward only: its weight cache would serve stale weights after a step.
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        logits = model(**inputs).logits.float()
    if labels.is_floating_point():
        return functional.mse_loss(logits.squeeze(-1), labels)
    return functional.cross_entropy(logits, labels)


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
