"""The contract of a method: the job it receives, the result it returns, the settings all share."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from streamlab.config import Settings
from streamlab.diff.format.container import encode
from streamlab.diff.layout import Layout
from streamlab.diff.rules import Rule
from streamlab.diff.vector import DiffVector, Mode, SparseTensor

if TYPE_CHECKING:
    from torch import Tensor, nn

    from streamlab.diff.format.head import HeadType
    from streamlab.diff.format.values import ValueType
    from streamlab.methods.training_loop import TrainingLoop
    from streamlab.tasks.batches import Batch


class TrainingSettings(Settings):
    """Length, batch size, learning rates and device of a training, whatever the method."""

    batch_size: PositiveInt = 32
    """Examples per batch."""
    max_length: PositiveInt = 64
    """Tokens per example. Longer texts are truncated; their number is recorded."""
    epochs: Annotated[float, Field(gt=0, le=1e6)] = 6.0
    """Of all stages together."""
    min_steps: NonNegativeInt = 150
    """A small task trains for more epochs, up to this many steps."""
    max_steps: PositiveInt | None = None
    """Default: no limit."""
    max_seconds: PositiveFloat | None = None
    """Skip steps evenly if time runs short. How many depends on the machine, so such a training is
    not repeatable to the last bit."""
    accumulate: PositiveInt = 1
    """Batches per step."""
    patience: PositiveInt | None = None
    """End the last stage after this many evaluations without a better score on examples split from
    the training set, and keep the best weights. Default: no evaluation; the last weights are
    kept."""
    evaluate_every: PositiveInt = 20
    """Steps between evaluations, with `patience`."""
    learning_rate: PositiveFloat = 1e-4
    """Of the backbone, before the fixed mask."""
    head_learning_rate: PositiveFloat = 1e-3
    """Of the task head."""
    warmup_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    """The share of steps with a rising learning rate, of those before the fixed mask and again of
    those on it."""
    clip_norm: PositiveFloat = 1.0
    """Largest norm of the gradient; not applied to `head_only`."""
    dropout: Literal["base"] | Annotated[float, Field(ge=0.0, lt=1.0)] = "base"
    """`base`: as in the base's configuration. A short training learns faster with 0."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 on hardware that supports it."""
    gradient_checkpointing: bool | None = None
    """Keep the inputs of every layer alone and compute the rest again in the backward pass: less
    memory, a third more work, the same result to the last bit on a CPU. Default: no."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    """Threads per training. Changes the last bits of the result."""
    step: Literal["auto", "compiled", "eager"] = "auto"
    """`auto`: the compiled step if there is a C compiler, and on a GPU Triton; else `eager`, which
    is PyTorch."""

    @model_validator(mode="after")
    def _ordered_limits(self) -> Self:
        if self.max_steps is not None and self.max_steps < self.min_steps:
            raise ValueError(
                f"`max_steps` ({self.max_steps}) must not be below `min_steps` ({self.min_steps})"
            )
        return self

    def n_steps(self, n_batches: int) -> int:
        """Return the number of steps of a training with `n_batches` per epoch."""
        wanted = max(round(self.epochs * n_batches / self.accumulate), self.min_steps, 1)
        return wanted if self.max_steps is None else min(wanted, self.max_steps)


@dataclass(frozen=True)
class Progress:
    """One completed training step, as reported to `TrainingJob.watch`."""

    stage: str
    step: int  # of the whole training, from 1
    n_steps: int  # of the whole training
    loss: float
    density: float | None  # the share of gates that is open, or of weights kept, where it falls
    # Of the model on examples split from train, at every tenth of the steps; else, and where they
    # are NaN or infinite, None.
    held_back_loss: float | None = None
    held_back_score: float | None = None  # by the task's first metric


class Stages(Protocol):
    """States of finished training stages, by the digest of what they depend on."""

    def get(self, key: str) -> bytes | None:
        """Return a state as it was added, None where it is not held."""
        ...

    def add(self, key: str, state: bytes) -> None:
        """Hold a state, or not; never raise."""
        ...


@dataclass(frozen=True)
class FileTypes:
    """The types of the values and of the head in a diff file; None: not set."""

    values: ValueType | None = None
    head: HeadType | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One task to learn: the base under a new head, its batches and settings. For one training.

    `base` is read-only. `backbone` maps its names to the model's own parameters in the order of
    `layout`; `head` holds all other parameters.
    """

    task: str
    model: nn.Module
    layout: Layout
    base: Mapping[str, Tensor]
    backbone: Mapping[str, nn.Parameter]
    head: Mapping[str, nn.Parameter]
    n_batches: int  # per epoch
    # Of an epoch, from 0; each has the same examples. None: the caller computes the gradients.
    batches: Callable[[int], Iterator[Batch]] | None
    loss: Callable[[Tensor, Tensor], Tensor]  # of float32 logits and labels; the batch mean
    training: TrainingSettings
    seed: int
    watch: Callable[[Progress], None] = lambda _: None
    validate: Callable[[], float] | None = None  # score on examples split from train; higher wins
    # Loss and score of the model as it is on examples split from train, for the curves.
    held_back: Callable[[], tuple[float, float]] | None = None
    clock: Callable[[], float] = time.monotonic
    stages: Stages | None = None  # of equal trainings, from which a stage may be taken
    file_types: FileTypes = FileTypes()  # that the run's settings ask for
    # The bytes of the file of a change in types that are both set.
    file_bytes: Callable[[SparseChange, FileTypes], int] | None = None

    @cached_property
    def loop(self) -> TrainingLoop:
        """Return the one loop that all stages of this training run in."""
        from streamlab.methods.training_loop import TrainingLoop  # which imports torch

        return TrainingLoop(self, self.training.n_steps(self.n_batches))


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """The number of steps taken, and what a method records beside: densities, stage lengths."""

    n_steps: int
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON


@dataclass(frozen=True, kw_only=True)
class SparseChange:
    """Entries of the backbone, one `SparseTensor` per tensor of the layout, and a head.

    `rule` regenerates exactly the positions of the tensors; None: they are to be stored. `mode`:
    what the entries mean, as in a `DiffVector`. `stored_as`: the types of its file, where the
    method chose them to reach a size.
    """

    tensors: tuple[SparseTensor, ...]
    head: Mapping[str, NDArray[np.float32]]
    summary: TrainingSummary
    rule: Rule | None = None
    mode: Mode = "add"
    stored_as: FileTypes | None = None

    def diff(self, layout: Layout, task: Mapping[str, Any]) -> DiffVector:
        """Return the change as a diff with a task's description. Raises as DiffVector does."""
        return DiffVector(layout, self.tensors, self.head, task, self.mode, self.rule)

    def file_bytes(self, layout: Layout, task: Mapping[str, Any], types: FileTypes) -> int:
        """Return the bytes of the file in these types, both of which are set."""
        assert types.values is not None  # noqa: S101 - a method that asks for a size chose them
        assert types.head is not None  # noqa: S101
        diff = self.diff(layout, task)
        return len(encode(diff, value_type=types.values, head_type=types.head).data)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A new value for every tensor of the backbone, by the base's names, and a head."""

    backbone: Mapping[str, Tensor]
    head: Mapping[str, NDArray[np.float32]]
    summary: TrainingSummary


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """The file of an adapter, head included; see `adapter_file`."""

    data: bytes
    summary: TrainingSummary


TrainingResult = SparseChange | Checkpoint | Adapter
Artifact = Literal["diff", "checkpoint", "adapter"]


class Method(Settings):
    """A way to learn one task; the fields of a subclass are the method's settings."""

    artifact: ClassVar[Artifact]
    """The kind of artifact: a SparseChange is stored as `diff`, and so on."""

    name: str
    """The name that scenarios use."""

    label: str = Field(default="", max_length=200, pattern=r"^[\w.:-]*$")
    """The name that seeds and records use, so that a scenario can compare two settings of one
    method. Default: the method's name; of `fixed_mask`, the mask's; of `peft`, the type's; of
    `pruned_model`, one of its criterion."""

    @model_validator(mode="after")
    def _fill_in_label(self) -> Self:
        if not self.label:
            object.__setattr__(self, "label", self.default_label)  # frozen from here on
        return self

    @property
    def default_label(self) -> str:
        """Return the label of a method that is given none."""
        return self.name

    @abstractmethod
    def expected_entries(self, layout: Layout, /) -> int | None:
        """Return how many entries of the backbone will be stored; None: all of them."""

    @abstractmethod
    def train(self, job: TrainingJob) -> TrainingResult:
        """Train `job.model` in place and return what is to be stored.

        Raises TrainingError where the loss becomes NaN or infinite.
        """
