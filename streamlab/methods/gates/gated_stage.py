"""The gated stage: weights and gates are trained together while the expected density falls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.utils import get_total_norm

from streamlab.config import Settings
from streamlab.errors import TrainingError
from streamlab.methods.adam import AdamSettings, adam_optimizer
from streamlab.methods.gates.density_controller import DensityController, correct
from streamlab.methods.gates.hard_concrete import (
    Densities,
    GroupGates,
    NoGroupGates,
    Stretch,
    expected_gate,
    most_likely_open,
)
from streamlab.methods.gates.unused_embeddings import find_used_rows
from streamlab.methods.kernels.availability import find_kernels
from streamlab.methods.kernels.gated_weights import GatedWeights
from streamlab.methods.masks.selection import budget, nth_largest
from streamlab.methods.training_loop import clip_scale

if TYPE_CHECKING:
    from streamlab.methods.api import TrainingJob

# A hundredth of it, epsilon, is still told from 0 when it is squared and averaged in float32.
# Below it, gates would move by many times their learning rate.
MIN_L0_COEFFICIENT: Final = 1e-16
# Adam's first steps have full length: in a short stage one gradient would decide a gate.
_MAX_GATE_STEP: Final = 1.0  # log-odds


class GateTraining(Settings):
    """Start, learning rate and L0 penalty of gates, whatever has a gate."""

    l0_coefficient: Literal["auto"] | PositiveFloat = "auto"
    """lambda. `auto`: measured after the dense warm-up, with a density controller; a number is used
    without one."""
    candidate_ratio: float = Field(default=10.0, ge=1.0)
    """Expected density at the end of the gated stage, relative to `target_density`."""
    initial_log_alpha: float = 5.0
    """log_alpha of all gates at the start."""
    gate_learning_rate: Literal["auto"] | PositiveFloat = "auto"
    """Of log_alpha. `auto`: `gate_travel` / steps of the stage, at most 1."""
    gate_travel: PositiveFloat = 25.0
    """Log-odds by which Adam can move a gate in the stage."""
    gate_epsilon: Literal["auto"] | PositiveFloat = "auto"
    """Adam's epsilon for log_alpha. `auto`: `l0_coefficient` / 100."""
    stretch: Stretch = Stretch()
    """The interval of the Hard-Concrete gate before clamping."""

    def gate_adam(self, l0_coefficient: float, n_steps: int) -> AdamSettings:
        """Return Adam's constants for log_alpha in a stage of `n_steps`."""
        rate, epsilon = self.gate_learning_rate, self.gate_epsilon
        travel = min(_MAX_GATE_STEP, self.gate_travel / max(1, n_steps))
        return AdamSettings(
            learning_rate=travel if rate == "auto" else rate,
            epsilon=0.01 * l0_coefficient if epsilon == "auto" else epsilon,
        )


class GateSettings(GateTraining):
    """Gates of single entries; `structured` adds one gate per tensor."""

    structured: bool = True
    """Add one group gate per tensor."""
    penalty_form: Literal["additive", "product"] = "additive"
    """How group gates are penalised: as in the released code (`additive`) or the paper
    (`product`)."""


class GatedStage:
    """The gated weights of one job with the head, the L0 coefficient and the controller.

    `moments` is the optimiser of the dense warm-up. Its state is taken over and then cleared,
    which frees 8 bytes per parameter.
    """

    def __init__(
        self,
        settings: GateSettings,
        job: TrainingJob,
        moments: torch.optim.AdamW,
        *,
        target_density: float,
        n_steps: int,
    ) -> None:
        self._settings = settings
        self._job = job
        self.gated = _gated_weights(settings, job, moments)
        candidate_density = settings.candidate_ratio * target_density
        given = settings.l0_coefficient
        self._l0_coefficient = (
            _saliency(self.gated, candidate_density) if given == "auto" else given
        )
        self._head, self._step_head = continued_head(job, moments)
        moments.state.clear()
        self._gate_adam = settings.gate_adam(self._l0_coefficient, n_steps)
        self._goal = min(1.0, candidate_density)
        self.densities = self.gated.settle()
        self._controller = (
            DensityController(n_steps, start=self.densities.expected, goal=self._goal)
            if given == "auto"
            else None
        )

    def take_step(self, share: float) -> float:
        """Step with this share of the learning rates; returns the expected density.

        It is that of the step before on a GPU with Triton, where a step is not waited for. Raises
        TrainingError where the gates became NaN or infinite.
        """
        job = self._job
        scale = self._step_head(share)
        self.densities = self.gated.step(
            AdamSettings(learning_rate=job.training.learning_rate * share),
            self._gate_adam,
            l0_coefficient=self._l0_coefficient,
            product=self._settings.penalty_form == "product",
            grad_scale=scale,
            shift=0.0 if self._controller is None else self._controller.shift(self.gated.settle()),
        )
        if not math.isfinite(self.densities.expected):
            raise not_finite(self._job, self.gated.n_steps)
        return self.densities.expected

    def end(self) -> None:
        """Apply the controller's final correction, if there is one.

        Raises TrainingError where the gates became NaN or infinite, which the sums of the
        compiled step do not show.
        """
        self.densities = self.gated.settle()
        if not all(bool(torch.isfinite(log_alpha).all()) for log_alpha in self.gated.log_alpha):
            raise not_finite(self._job, self.gated.n_steps)
        if self._controller is not None:
            self.densities = correct(self.densities, self._controller.goal, self.gated.move)

    def state_dict(self) -> dict[str, Any]:
        """Return weights and gates, the head's optimiser, lambda and the controller."""
        controller = self._controller
        return {
            "gated": self.gated.state_dict(),
            "head": self._head.state_dict(),
            "l0_coefficient": self._l0_coefficient,
            "gate_adam": asdict(self._gate_adam),
            "densities": list(self.densities),
            "controller": None if controller is None else controller.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; the model is not updated."""
        self.gated.load_state_dict(state["gated"])
        self._head.load_state_dict(state["head"])
        self._l0_coefficient = state["l0_coefficient"]
        self._gate_adam = AdamSettings(**state["gate_adam"])
        self.densities = Densities(*state["densities"])
        if self._controller is not None:
            self._controller.load_state_dict(state["controller"])

    def changes(self) -> list[Tensor]:
        """Return the change of every entry, flat, one tensor per tensor of the base.

        With the controller: w of the moved entries that are most likely open, in the wanted
        number, and 0 elsewhere. With a given coefficient: w E[z] E[z_group].
        """
        gated, stretch = self.gated, self._settings.stretch
        if self._controller is None:
            pairs = zip(gated.log_alpha, gated.groups.expected.tolist(), strict=True)
            gates = (expected_gate(log_alpha, stretch) * share for log_alpha, share in pairs)
        else:
            group_open = gated.groups.open_probability
            n_open = budget(self._goal, gated.n_gated)
            pairs = zip(gated.w, gated.log_alpha, strict=True)
            moved = [torch.where(w != 0.0, log_alpha, -math.inf) for w, log_alpha in pairs]
            likely = most_likely_open(moved, group_open.tolist(), n_open, stretch)
            gates = (is_open.to(torch.float32) for is_open in likely)
        return gated.spread([w * z for w, z in zip(gated.w, gates, strict=True)])


def continued_head(
    job: TrainingJob, moments: torch.optim.AdamW
) -> tuple[torch.optim.AdamW, Callable[[float], Tensor]]:
    """Return an optimiser of the head, which takes over the moments, and its step.

    The step takes a share of the learning rate, scales the head's gradients so that the norm of all
    gradients is at most `clip_norm`, and returns that scale, for the gradients of the backbone.
    """
    head = list(job.head.values())
    optimizer, step_head = adam_optimizer((head, job.training.head_learning_rate))
    for parameter in head:
        optimizer.state[parameter] = moments.state[parameter]

    def step(share: float) -> Tensor:
        grads = [p.grad for p in job.model.parameters() if p.grad is not None]
        scale = clip_scale(get_total_norm(grads), job.training.clip_norm)
        for parameter in head:
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
        step_head(share)
        return scale

    return optimizer, step


def not_finite(job: TrainingJob, n_steps: int) -> TrainingError:
    """Return the error of gates that became NaN or infinite in a stage of `n_steps`."""
    return TrainingError(
        f"The gates of `{job.task}` became NaN or infinite within {n_steps} "
        "steps of the gated stage. Lower `training.learning_rate`."
    )


def _gated_weights(
    settings: GateSettings, job: TrainingJob, moments: torch.optim.AdamW
) -> GatedWeights:
    live = list(job.backbone.values())
    kernels = find_kernels(job.training.step, live[0].device, job.training.threads)
    if kernels is None and job.training.step == "compiled":
        raise TrainingError(
            f"`{job.task}` was to be trained with `training.step: compiled` on "
            f"`{live[0].device}`. The compiled step needs a C compiler (`cc`, `gcc`, or the value "
            "of `CC`), and Triton on a GPU. Install them, or leave `training.step` at `auto`."
        )
    groups = (
        GroupGates(len(live), settings.initial_log_alpha, settings.stretch, job.seed)
        if settings.structured
        else NoGroupGates(len(live))
    )
    pairs = [moments_of(moments, parameter) for parameter in live]
    n_steps = n_taken_with(moments)
    # Short runs of rows suit one pass over blocks, but not one operation after another.
    used_rows = {}
    if kernels:
        squares = [square for _, square in pairs]
        used_rows = job.loop.remembered("rows", lambda: find_used_rows(job, squares, n_steps))
    return GatedWeights(
        live,
        list(job.base.values()),
        pairs,
        n_moment_steps=n_steps,
        log_alpha=settings.initial_log_alpha,
        stretch=settings.stretch,
        groups=groups,
        seed=job.seed,
        kernels=kernels,
        used_rows=used_rows,
    )


def _saliency(gated: GatedWeights, candidate_density: float) -> float:
    """Return the saliency |w| sqrt(v) of the last entry that may stay open: the L0 coefficient.

    The gradient g w holds a gate open and the L0 penalty closes it, so this is on the scale at
    which they balance, whatever the task, the base and the scale of the loss. v is Adam's second
    moment of g without bias correction: after 50 steps of warm-up sqrt(v) is 0.22 rms(g). Where
    fewer entries have moved than may stay open, it is the least saliency above 0.
    """
    pairs = zip(gated.w, gated.w_square, strict=True)
    flat = torch.cat([w.abs() * square.sqrt() for w, square in pairs])
    last = nth_largest(flat, budget(candidate_density, gated.n_gated))
    if last == 0.0 and bool(flat.any()):
        last = float(flat[flat > 0.0].min())
    return max(last, MIN_L0_COEFFICIENT)


def n_taken_with(optimizer: torch.optim.AdamW) -> int:
    """Return the number of steps that an optimiser has taken."""
    return max((int(state["step"]) for state in optimizer.state.values() if state), default=0)


def moments_of(optimizer: torch.optim.AdamW, parameter: Tensor) -> tuple[Tensor, Tensor]:
    """Return both moments of a parameter, not copies; zeros where it was never stepped."""
    state = optimizer.state.get(parameter)
    if not state:
        return torch.zeros_like(parameter.data), torch.zeros_like(parameter.data)
    return state["exp_avg"], state["exp_avg_sq"]
