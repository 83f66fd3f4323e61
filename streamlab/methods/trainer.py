"""Diff pruning with the `Trainer` of `transformers`.

trainer = DiffPruningTrainer(model, DiffPruningConfig(output_dir="out"), train_dataset=examples)
trainer.train()
diff = trainer.finish()

The trainer's optimiser is a `DiffPruner`: its state is in the checkpoints, so that a training that
was stopped goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainingArguments

from streamlab.diff.checkpoints import PretrainedDiff
from streamlab.diff.format.head import HeadType
from streamlab.diff.format.values import ValueType
from streamlab.errors import UsageError
from streamlab.methods.api import TrainingSettings
from streamlab.methods.pruner import DiffPruner


@dataclass
class DiffPruningConfig(TrainingArguments):
    """Arguments of the `Trainer`, with the method and what it sets itself.

    `learning_rate` and `seed` mean what they do there. Raises UsageError for arguments of
    optimisers and schedules, which are the method's, and for types of training that it cannot do.
    """

    method: str | dict[str, Any] = "diff_pruning"
    method_settings: dict[str, Any] = field(default_factory=dict)
    head: list[str] | None = None
    head_learning_rate: float = 1e-3
    warmup_share: float = 0.1
    clip_norm: float = 1.0
    max_grad_norm: float = 0.0  # the method clips
    task: dict[str, Any] = field(default_factory=dict)

    _FIXED: ClassVar[Mapping[str, Any]] = {
        "max_grad_norm": 0.0, "warmup_steps": 0, "weight_decay": 0.0, "lr_scheduler_type": "linear",
        "fp16": False, "load_best_model_at_end": False,
    }  # fmt: skip
    _INSTEAD: ClassVar[Mapping[str, str]] = {
        "max_grad_norm": "Set `clip_norm`",
        "warmup_steps": "Set `warmup_share`",
        "fp16": "Set `bf16`",
    }

    def __post_init__(self) -> None:
        """Refuse what the method does not use."""
        super().__post_init__()  # type: ignore[no-untyped-call]
        for name, value in self._FIXED.items():
            if getattr(self, name) != value:
                raise UsageError(
                    f"Diff pruning does not use `{name}`, which is {getattr(self, name)!r}. "
                    f"{self._INSTEAD.get(name, 'Leave it out')}."
                )

    def training(self) -> dict[str, Any]:
        """Return the training settings of the method."""
        defaults = TrainingSettings()
        return {
            "learning_rate": self.learning_rate,
            "head_learning_rate": self.head_learning_rate,
            "warmup_share": self.warmup_share,
            "clip_norm": self.clip_norm,
            "batch_size": self.per_device_train_batch_size or defaults.batch_size,
            "accumulate": self.gradient_accumulation_steps,
        }


class DiffPruningTrainer(Trainer):
    """A `Trainer` that trains a model to a diff; the model's weights at the start are the base."""

    args: DiffPruningConfig

    def __init__(
        self,
        model: nn.Module | None = None,
        args: DiffPruningConfig | None = None,
        **given: Any,
    ) -> None:
        """Take what `Trainer` takes, but optimisers. Raises UsageError and ConfigError."""
        if args is None:
            args = DiffPruningConfig(output_dir="trainer_output")
        for name in ("optimizers", "optimizer_cls_and_kwargs"):
            if given.get(name) not in (None, (None, None)):
                raise UsageError(f"Diff pruning has its own optimiser. Leave `{name}` out.")
        super().__init__(model, args, **given)
        self._module: nn.Module = self.model  # type: ignore[assignment]  # there is one by now
        # Otherwise accumulated gradients would be summed, not averaged.
        if not _divides_by_items(self._module):
            self.model_accepts_loss_kwargs = False
        # A checkpoint is loaded into the model before the optimiser is made.
        self._start = {n: p.detach().clone() for n, p in self._module.named_parameters()}
        self.pruner: DiffPruner | None = None

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:  # noqa: ARG002
        """Return the optimiser that steps by the method; `create_scheduler` begins it."""
        self._stepped = _PrunerAsOptimizer(self._module, self.args.learning_rate)
        self.optimizer = self._stepped
        return self._stepped

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        """Begin the method, whose stages have learning rates of their own."""
        with torch.no_grad():
            for name, parameter in self._module.named_parameters():
                parameter.copy_(self._start[name])
        self.pruner = DiffPruner(
            self._module,
            n_steps=num_training_steps,
            head=self.args.head,
            method=self.args.method,
            training=self.args.training(),
            seed=self.args.seed,
            task=self.args.task,
            **self.args.method_settings,
        )
        self._stepped.pruner = self.pruner
        schedule = LambdaLR(optimizer or self._stepped, lambda _: 1.0)
        self.lr_scheduler, self._created_lr_scheduler = schedule, True
        return schedule

    def finish(
        self, *, values: ValueType | None = None, head: HeadType | None = None
    ) -> PretrainedDiff:
        """Return the diff, as `DiffPruner.finish` does. Raises UsageError before the last step."""
        if self.pruner is None:
            raise UsageError("Nothing was trained yet. Call `train` before `finish`.")
        return self.pruner.finish(values=values, head=head)


def _divides_by_items(model: nn.Module) -> bool:
    """Tell whether a model's loss is divided by the number of items in all accumulated batches."""
    loss: Any = getattr(model, "loss_function", None)
    return loss is not None and "num_items_in_batch" in signature(loss).parameters


class _PrunerAsOptimizer(torch.optim.Optimizer):
    """What the `Trainer` steps and saves: a `DiffPruner`, once there is one."""

    def __init__(self, model: nn.Module, learning_rate: float) -> None:
        super().__init__(model.parameters(), {"lr": learning_rate})
        self.pruner: DiffPruner | None = None

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        if self.pruner is not None:
            self.pruner.step()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() if self.pruner is None else self.pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.pruner is not None:
            self.pruner.load_state_dict(state_dict)
