"""Diff pruning in anyone's training loop, on any module of PyTorch.

pruner = DiffPruner(model, target_density=0.005, n_steps=1000, head=["classifier"])
for batch in loader:
    model(**batch).loss.backward()
    pruner.step()
diff = pruner.finish()

The methods are those of scenarios, with the loop turned inside out: a method runs in a greenlet of
its own until it needs the gradients of the next step, and goes on when `step` is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from greenlet import getcurrent, greenlet
from numpy.typing import NDArray
from torch import Tensor, nn

from streamlab.config import Settings, validate
from streamlab.diff.checkpoints import PretrainedDiff, backbone_and_head
from streamlab.diff.format.container import decode, encode, rounded
from streamlab.diff.format.head import HeadType
from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector
from streamlab.errors import UsageError
from streamlab.methods import MethodSettings
from streamlab.methods.api import (
    FileTypes,
    Progress,
    SparseChange,
    TrainingJob,
    TrainingSettings,
    TrainingSummary,
)
from streamlab.methods.kernels.selected_gradient import compute_whole, computes_selected
from streamlab.methods.masks.selection import Selection
from streamlab.methods.training_loop import TrainingLoop
from streamlab.units import counted

if TYPE_CHECKING:
    from streamlab.tasks.batches import Batch


class _Asked(Settings):
    method: MethodSettings
    training: TrainingSettings


class DiffPruner:
    """Steps a model in the caller's loop by a method that ends in a diff.

    The model is trained in place and holds the trained weights at the end. `model`: any module
    with float32 parameters, at the weights that are the base. `head`: names of modules or
    parameters that are trained and stored densely; of a model of `transformers` it is known.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        n_steps: int,
        head: Sequence[str] | None = None,
        method: str | Mapping[str, Any] = "diff_pruning",
        training: Mapping[str, Any] | None = None,
        seed: int = 0,
        task: Mapping[str, Any] | None = None,
        batches: Callable[[int], Iterator[Batch]] | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        watch: Callable[[Progress], None] | None = None,
        **settings: Any,
    ) -> None:
        """Take the base from the model, and begin.

        `method` and `training`: as in a scenario; `settings` are the method's. `task`: what is
        stored as the task's description. `batches` and `loss`, as in `TrainingJob`, are for masks
        that look at examples first (`fisher`, `gradient`). Raises UsageError and ConfigError.
        """
        named = {"name": method} if isinstance(method, str) else dict(method)
        threads = {"threads": torch.get_num_threads()}
        asked = validate(
            _Asked,
            {"method": named | settings, "training": threads | dict(training or {})},
            origin="DiffPruner",
        )
        if asked.method.artifact != "diff":
            raise UsageError(
                f"DiffPruner ends in a diff, and `{asked.method.name}` in a file of another kind. "
                "Use a method with a mask, such as `diff_pruning` or `fixed_mask`."
            )
        _refuse_distributed()
        _refuse_other_types(model)
        if n_steps < 1:
            raise UsageError(f"`n_steps` is {n_steps}. Give 1 or more.")
        layout, backbone, of_head = backbone_and_head(model, head)
        self._task = dict(task or {})
        self._trained_before = [(p, p.requires_grad) for p in model.parameters()]
        self._progress = Progress("", 0, n_steps, math.nan, None)
        self._watch = watch
        self._loss = math.nan
        self._caller = getcurrent()
        self._job = _CallersJob(
            task=str(self._task.get("name", "the task")),
            model=model,
            layout=layout,
            base={name: p.detach().clone() for name, p in backbone.items()},
            backbone=backbone,
            head=of_head,
            n_batches=0,
            batches=batches,
            loss=loss or _no_loss,
            training=asked.training,
            seed=seed,
            watch=self._note,
            file_bytes=lambda trained, types: trained.file_bytes(layout, self._task, types),
            n_steps=n_steps,
            await_gradients=self._await_gradients,
        )
        self._method = asked.method
        self._result: SparseChange | None = None
        self._begin(self._job)

    @property
    def stage(self) -> str:
        """Return the stage that took the last step."""
        return self._progress.stage

    @property
    def density(self) -> float | None:
        """Return the share of open gates after the last step, where there are gates."""
        return self._progress.density

    @property
    def n_steps_left(self) -> int:
        """Return how many steps the training still takes."""
        return self._progress.n_steps - self._progress.step

    def step(self, loss: float | Tensor | None = None) -> None:
        """Take a step by the gradients in the model, and clear them.

        Clips them, updates weights and gates, and begins the next stage when it is due. Batches
        whose gradients accumulate are the caller's: scale their losses. `loss` is checked and
        shown. Raises UsageError where no step is left or no parameter has a gradient, and
        TrainingError where the training broke down.
        """
        if self._result is not None:
            raise UsageError(
                f"All {counted(self._progress.n_steps, 'step')} are taken. Call `finish`, or begin "
                "with a larger `n_steps`."
            )
        model = self._job.model
        if all(p.grad is None for p in model.parameters()) and not computes_selected(model):
            raise UsageError("No parameter has a gradient. Call `loss.backward()` before `step`.")
        self._loss = math.nan if loss is None else float(torch.as_tensor(loss).detach())
        if loss is not None:
            self._job.loop.check_loss(self._loss, self.stage)
        self._go_on()

    def finish(
        self, *, values: ValueType | None = None, head: HeadType | None = None
    ) -> PretrainedDiff:
        """Return the diff; the model holds its weights.

        `values` and `head` round both to what a file of these types holds. Raises UsageError
        before the last step.
        """
        if self._result is None:
            raise UsageError(
                f"{self._progress.step} of {counted(self._progress.n_steps, 'step')} are taken. "
                "Take the others before `finish`, or begin with a smaller `n_steps`."
            )
        trained = self._result
        diff = trained.diff(self._job.layout, self._task)
        types = trained.stored_as or FileTypes()
        values, head = values or types.values, head or types.head
        if values is not None or head is not None:
            diff = rounded(diff, value_type=values or "fp32", head_type=head or "fp32")
            self._write(diff)
        for parameter, trains in self._trained_before:
            parameter.requires_grad_(trains)
        return PretrainedDiff.of(diff)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the steps to come depend on, the model's weights included.

        Plain containers and tensors, as `torch.load` reads them with `weights_only`; tensors are
        not copied.
        """
        job, diff = self._job, None
        if self._result is not None:
            whole = self._result.diff(job.layout, self._task)
            file = encode(whole, value_type="fp32", head_type="fp32").data
            diff = torch.frombuffer(bytearray(file), dtype=torch.uint8)
        loop = job.loop.state_dict()
        loop["made"] = {k: (_plain(made, job.layout), at) for k, (made, at) in loop["made"].items()}
        return {
            "trains": self._identity(),
            "loop": loop,
            "diff": diff,
            "stage": self.stage,
            "density": self.density,
            "step": self._progress.step,
            "model": {name: p.detach() for name, p in job.model.named_parameters()},
            "requires_grad": {name: p.requires_grad for name, p in job.model.named_parameters()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another pruner of the same base, method and number of steps was.

        Writes the weights of that step into the model. Raises UsageError for other settings.
        """
        for name, value in self._identity().items():
            if state["trains"].get(name) != value:
                raise UsageError(
                    f"The state is of a training with another {name}: {state['trains'].get(name)}, "
                    f"and here it is {value}. Begin with that of the state."
                )
        if not self._training.dead:
            self._training.throw()
        compute_whole(self._job.model)
        step, n_steps = state["step"], self._progress.n_steps
        self._progress = Progress(state["stage"], step, n_steps, math.nan, state["density"])
        self._job = replace(self._job)
        if state["diff"] is None:
            loop = dict(state["loop"])
            made = loop["made"].items()
            layout = self._job.layout
            loop["made"] = {key: (_made_of(key, one, layout), at) for key, (one, at) in made}
            self._job.loop.resume(loop)
            self._begin(self._job)
        else:
            diff = decode(state["diff"].numpy().tobytes(), self._job.layout)
            self._result = SparseChange(
                tensors=diff.tensors,
                head=diff.head,
                summary=TrainingSummary(n_steps=step),
                rule=diff.rule,
                mode=diff.mode,
            )
        with torch.no_grad():
            for name, parameter in self._job.model.named_parameters():
                parameter.copy_(state["model"][name])
                parameter.requires_grad_(state["requires_grad"][name])

    def _identity(self) -> dict[str, Any]:
        return {
            "base": self._job.layout.fingerprint,
            "method": self._method.model_dump(mode="json"),
            "training": self._job.training.model_dump(mode="json"),
            "seed": self._job.seed,
            "number of steps": self._progress.n_steps,
        }

    def _begin(self, job: TrainingJob) -> None:
        """Run the method until it needs its first gradients."""
        self._result = None
        self._training = greenlet(self._method.train)
        self._go_on(job)

    def _go_on(self, *given: TrainingJob) -> None:
        """Run the method until it needs gradients or is done."""
        self._caller = getcurrent()
        result = self._training.switch(*given)
        if self._training.dead:
            self._result = result

    def _await_gradients(self) -> float:
        self._caller.switch()
        return self._loss

    def _note(self, progress: Progress) -> None:
        self._progress = progress
        if self._watch is not None:
            self._watch(progress)

    @torch.no_grad()
    def _write(self, diff: DiffVector) -> None:
        """Write the base plus a diff into the model."""
        job = self._job
        for (name, parameter), tensor in zip(job.backbone.items(), diff.tensors, strict=True):
            where = torch.from_numpy(tensor.positions.copy()).to(parameter.device)
            added = torch.from_numpy(tensor.values.copy()).to(parameter.device)
            parameter.copy_(job.base[name])
            parameter.view(-1)[where] += added
        for name, parameter in job.head.items():
            parameter.copy_(torch.from_numpy(diff.head[name].copy()))


@dataclass(frozen=True, kw_only=True)
class _CallersJob(TrainingJob):
    """A job whose gradients the caller computes: `await_gradients` returns a step's loss."""

    n_steps: int
    await_gradients: Callable[[], float]

    @cached_property
    def loop(self) -> TrainingLoop:
        return _CallersLoop(self)


class _CallersLoop(TrainingLoop):
    def __init__(self, job: _CallersJob) -> None:
        super().__init__(job, job.n_steps)
        self._await_gradients = job.await_gradients

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Leave modes, attention and random generators to the caller."""
        yield

    def backward(self, stage: str) -> float:  # noqa: ARG002 - the contract's
        return self._await_gradients()


def _plain(made: Selection | dict[int, NDArray[np.int64]], layout: Layout) -> dict[str, Any]:
    """Return what a loop remembers, a selection or rows in use, as containers and tensors."""
    if isinstance(made, Selection):
        return made.state_dict(layout)
    return {str(index): torch.from_numpy(rows) for index, rows in made.items()}


def _made_of(
    key: str, state: Mapping[str, Any], layout: Layout
) -> Selection | dict[int, NDArray[np.int64]]:
    if key == "selection":
        return Selection.of_state(state, layout)
    return {int(index): rows.numpy() for index, rows in state.items()}


def _refuse_distributed() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        n = torch.distributed.get_world_size()
        if n > 1:
            raise UsageError(
                f"DiffPruner trains in one process, and {n} train this model together. Start one."
            )


def _refuse_other_types(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise UsageError(
                f"`{name}` is {str(parameter.dtype).removeprefix('torch.')}, and DiffPruner trains "
                "float32. Load the model with `dtype=torch.float32`; compute under autocast."
            )


def _no_loss(_logits: Tensor, _labels: Tensor) -> Tensor:
    raise UsageError("This mask looks at examples first: give `batches` and `loss`.")
