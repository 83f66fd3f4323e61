"""What a method is handed, what it hands back, and the settings that every method shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from streamlab.config import Settings
from streamlab.diff.layout import Layout
from streamlab.diff.vector import SparseTensor

if TYPE_CHECKING:
    from torch import Tensor, nn


class TrainingSettings(Settings):
    """How long and how fast to train, whatever the method."""

    batch_size: PositiveInt = 32
    max_length: PositiveInt = 64  # tokens; longer texts are cut, and how many is recorded
    epochs: PositiveFloat = 6.0  # of all stages together
    min_steps: NonNegativeInt = 150  # a small task gets more epochs
    max_steps: PositiveInt | None = None
    # Steps are left out, evenly, where time runs short: how many is the machine's affair, so that
    # such a training cannot be repeated to the last bit.
    max_seconds: PositiveFloat | None = None
    accumulate: PositiveInt = 1  # batches to a step
    # Evaluations on rows split from train without a better score, after which the last stage
    # ends; the best weights are what is kept. None: no evaluation, and the last weights.
    patience: PositiveInt | None = None
    evaluate_every: PositiveInt = 20  # steps, where there is `patience`
    learning_rate: PositiveFloat = 1e-4
    head_learning_rate: PositiveFloat = 1e-3
    warmup_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    clip_norm: PositiveFloat = 1.0
    # base: as the base was trained. A short training learns sooner, and runs faster, at 0.
    dropout: Literal["base"] | Annotated[float, Field(ge=0.0, lt=1.0)] = "base"
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where it is in hardware
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: PositiveInt = 2  # part of what makes a result repeatable to the last bit
    step: Literal["auto", "compiled", "eager"] = "auto"  # auto: compiled where it can be

    @model_validator(mode="after")
    def _leaves_steps(self) -> Self:
        if self.max_steps is not None and self.max_steps < self.min_steps:
            raise ValueError(
                f"`max_steps` ({self.max_steps}) must not be below `min_steps` ({self.min_steps})"
            )
        return self

    def n_steps(self, n_batches: int) -> int:
        """Return the length of a training in steps, with `n_batches` to an epoch."""
        wanted = max(round(self.epochs * n_batches / self.accumulate), self.min_steps, 1)
        return wanted if self.max_steps is None else min(wanted, self.max_steps)


class Batch(Protocol):
    """Some rows as the model takes them; labels are whole numbers, or float32 to regress."""

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """Return the model's keyword arguments, each (n_rows, length)."""
        ...

    @property
    def labels(self) -> Tensor:
        """Return one label a row, (n_rows,)."""
        ...


@dataclass(frozen=True)
class Progress:
    """One training step, as a watcher sees it."""

    stage: str
    step: int  # of the whole training, from 1
    n_steps: int  # of the whole training
    loss: float
    density: float | None  # expected share of open gates, where there are gates


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One task to learn: a fresh model that is the base under a new head, and batches.

    `base` is read only; `backbone` maps its names to the model's own parameters, in the order
    of `layout`, and `head` holds the rest.
    """

    task: str
    model: nn.Module
    layout: Layout
    base: Mapping[str, Tensor]
    backbone: Mapping[str, nn.Parameter]
    head: Mapping[str, nn.Parameter]
    n_batches: int  # to an epoch
    # Of the epoch with that number, from 0. Every epoch holds the same rows.
    batches: Callable[[int], Iterator[Batch]]
    loss: Callable[[Tensor, Tensor], Tensor]  # of logits in float32 and labels
    training: TrainingSettings
    seed: int
    watch: Callable[[Progress], None] = lambda _: None
    validate: Callable[[], float] | None = None  # score on rows split from train; more is better
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Adapter:
    """The two files that PEFT keeps an adapter in: its weights, head included, and settings."""

    weights: bytes
    config: Mapping[str, Any]  # JSON


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training gave: a sparse change, a whole new backbone, or an adapter."""

    tensors: tuple[SparseTensor, ...] | None  # one for every tensor of the layout
    backbone: Mapping[str, Tensor] | None  # by the base's names, where everything changed
    head: Mapping[str, NDArray[np.float32]]  # none beside an adapter, which holds it
    n_steps: int
    adapter: Adapter | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON: densities, stage lengths


Artifact = Literal["diff", "checkpoint", "adapter"]


class Method(Protocol):
    """Learn one task. The settings of a method are the method."""

    @property
    def artifact(self) -> Artifact:
        """Return what a training leaves to be stored: the kind of `Trained` that `train` gives."""
        ...

    @property
    def name(self) -> str:
        """Return the name that scenarios and records use."""
        ...

    def train(self, job: TrainingJob) -> Trained:
        """Train `job.model` in place and return what is to be kept.

        Raises TrainingError where the loss is not finite.
        """
        ...
