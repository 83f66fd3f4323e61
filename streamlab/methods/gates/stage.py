"""The stage in which gates are drawn, priced, and brought down to as many as are to stay open."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, field_validator
from torch import Tensor
from torch.nn.utils import get_total_norm

from streamlab.config import Settings
from streamlab.errors import TrainingError
from streamlab.methods.adam import AdamRates
from streamlab.methods.gates.density_controller import Descent, land
from streamlab.methods.gates.group_gates import GroupGates
from streamlab.methods.gates.hard_concrete import Stretch, expected_gate, most_likely_open
from streamlab.methods.gates.unused_embeddings import find_rows_in_use
from streamlab.methods.kernels.gated_weights import GatedWeights
from streamlab.methods.kernels.native import find_native_step
from streamlab.methods.masks.topk import budget, nth_largest
from streamlab.methods.training import adam

if TYPE_CHECKING:
    from streamlab.methods.api import TrainingJob

# The least price of a gate: a hundredth of it, epsilon, is still told from 0 when it is squared
# and averaged in float32. Below it, gates would move by many times their rate.
_LEAST_PRICE: Final = 1e-16
# Adam's first steps go all the way: in a short stage they would settle a gate by one gradient.
_MOST_A_STEP: Final = 1.0  # log-odds


class Gating(Settings):
    """How gates start, move and are priced; `structured` adds one gate for every tensor."""

    structured: bool = True
    target_density: float = Field(default=0.005, gt=0.0, le=1.0)
    penalty_form: Literal["additive", "product"] = "additive"
    # steered: a price from what the open stage has learnt, and as many open as are wanted at
    # every step. A number: lambda, and nothing brings the density anywhere.
    penalty: Literal["steered"] | PositiveFloat = "steered"
    steer_to: PositiveFloat = 10.0  # expected density at the end of the gated stage, over target
    gate_start: float = 5.0  # log_alpha
    # auto: gate_travel over the steps, at most 1
    gate_rate: Literal["auto"] | PositiveFloat = "auto"
    gate_travel: PositiveFloat = 25.0  # how far a gate can move in log-odds
    gate_epsilon: Literal["auto"] | PositiveFloat = "auto"  # auto: a hundredth of the price
    stretch: Stretch = Stretch()

    @field_validator("steer_to")
    @classmethod
    def _leaves_enough_open(cls, value: float) -> float:
        if value < 1.0:
            raise ValueError("`steer_to` below 1 would leave fewer open gates than are kept")
        return value


class GatedStage:
    """The gated weights of one job, the head beside them, the price of a gate and the way down.

    `moments` is the optimiser that trained backbone and head before: its state is taken over,
    and cleared, since kept it would cost 8 bytes a parameter.
    """

    def __init__(
        self,
        settings: Gating,
        job: TrainingJob,
        moments: torch.optim.AdamW,
        *,
        n_steps: int,
    ) -> None:
        self._settings = settings
        self._job = job
        self.gated = _gate(settings, job, moments)
        given = settings.penalty
        self._price = _saliency(settings, self.gated) if given == "steered" else given
        head = job.head.values()
        self._optimizer, self._set_share = adam([(head, job.training.head_learning_rate)])
        for parameter in head:
            self._optimizer.state[parameter] = moments.state[parameter]
        moments.state.clear()
        travel = min(_MOST_A_STEP, settings.gate_travel / max(1, n_steps))
        self._gate_rates = AdamRates(
            rate=travel if settings.gate_rate == "auto" else settings.gate_rate,
            epsilon=(
                0.01 * self._price if settings.gate_epsilon == "auto" else settings.gate_epsilon
            ),
        )
        self._goal = min(1.0, settings.steer_to * settings.target_density)
        self.densities = self.gated.densities()
        self._descent = (
            Descent(n_steps, start=self.densities.expected, goal=self._goal)
            if given == "steered"
            else None
        )

    @property
    def n_closed_groups(self) -> int:
        """Return how many tensors' own gates are shut; 0 where there are none."""
        groups = self.gated.groups
        return 0 if groups is None else int((groups.deterministic <= 0).sum())

    def take_step(self, share: float) -> float:
        """Step with this share of the rates; returns the expected density."""
        job = self._job
        grads = [p.grad for p in job.model.parameters() if p.grad is not None]
        scale = min(1.0, job.training.clip_norm / (float(get_total_norm(grads)) + 1e-6))
        for parameter in job.head.values():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
        self._set_share(share)
        self._optimizer.step()
        self.densities = self.gated.step(
            AdamRates(rate=job.training.learning_rate * share),
            self._gate_rates,
            penalty=self._price,
            product=self._settings.penalty_form == "product",
            grad_scale=scale,
            shift=0.0 if self._descent is None else self._descent.shift(self.densities),
        )
        if not math.isfinite(self.densities.expected):
            raise self._no_numbers()
        return self.densities.expected

    def end(self) -> None:
        """Land on the density that was steered to, where one was.

        Raises TrainingError where gates are no numbers: the compiled step counts as if there
        were none such.
        """
        if not all(bool(torch.isfinite(log_alpha).all()) for log_alpha in self.gated.log_alpha):
            raise self._no_numbers()
        if self._descent is not None:
            self.densities = land(self.densities, self._descent.goal, self.gated.move)

    def _no_numbers(self) -> TrainingError:
        return TrainingError(
            f"The gates of `{self._job.task}` are no numbers any more after {self.gated.n_steps} "
            "steps of the gated stage. Lower `training.learning_rate`."
        )

    def changes(self) -> list[Tensor]:
        """Return what every entry has changed by, its gate read, flat, by the base's tensors.

        Steered: w where a gate is among those most likely open, as many as are wanted of those
        that have moved, and 0 elsewhere. With a given price: w E[z] E[z_group].
        """
        gated, stretch = self.gated, self._settings.stretch
        no_groups = np.ones(len(gated.w))
        if self._descent is None:
            shares = no_groups if gated.groups is None else gated.groups.expected
            pairs = zip(gated.log_alpha, shares.tolist(), strict=True)
            gates = (expected_gate(log_alpha, stretch) * share for log_alpha, share in pairs)
        else:
            opened = no_groups if gated.groups is None else gated.groups.open_probability
            n_open = budget(self._goal, gated.n_gated)
            pairs = zip(gated.w, gated.log_alpha, strict=True)
            moved = [torch.where(w != 0.0, log_alpha, -math.inf) for w, log_alpha in pairs]
            likely = most_likely_open(moved, opened.tolist(), n_open, stretch)
            gates = (is_open.to(torch.float32) for is_open in likely)
        return gated.spread([w * z for w, z in zip(gated.w, gates, strict=True)])


def _gate(settings: Gating, job: TrainingJob, moments: torch.optim.AdamW) -> GatedWeights:
    native = None
    live = list(job.backbone.values())
    if live[0].device.type == "cpu" and job.training.step != "eager":
        native = find_native_step(job.training.threads)
    if native is None and job.training.step == "compiled":
        raise TrainingError(
            f"`{job.task}` was to be trained with `training.step: compiled`, on "
            f"`{live[0].device}`. That takes the CPU and a C compiler (`cc`, `gcc`, or what `CC` "
            "names). Install one, or leave `training.step` at `auto`."
        )
    groups = None
    if settings.structured:
        groups = GroupGates(len(live), settings.gate_start, settings.stretch, job.seed)
    taken_over = [_moments_of(moments, parameter) for parameter in live]
    n_steps = _n_steps_of(moments)
    # Short runs of rows suit a loop in C, not one kernel after the other.
    rows = find_rows_in_use(job, [s for _, s in taken_over], n_steps) if native else {}
    return GatedWeights(
        live,
        list(job.base.values()),
        taken_over,
        n_moment_steps=n_steps,
        log_alpha=settings.gate_start,
        stretch=settings.stretch,
        groups=groups,
        seed=job.seed,
        native=native,
        rows_in_use=rows,
    )


def _saliency(settings: Gating, gated: GatedWeights) -> float:
    """Return the saliency |w| sqrt(v) of the entry that is just among the open ones at the end.

    v is Adam's second moment of g as it stands, without the correction of its start: after an
    open stage of 50 steps sqrt(v) is 0.22 rms(g). A gate is held open by the gradient g w, and
    closed by the price: this is in scale with where the two meet, on any task and base and at
    any scale of the loss. Where fewer have moved than are to be open, the least that has.
    """
    pairs = zip(gated.w, gated.w_square, strict=True)
    n_open = budget(settings.steer_to * settings.target_density, gated.n_gated)
    flat = torch.cat([w.abs() * square.sqrt() for w, square in pairs])
    last = nth_largest(flat, n_open)
    if last == 0.0 and bool(flat.any()):
        last = float(flat[flat > 0.0].min())
    return max(last, _LEAST_PRICE)


def _moments_of(optimizer: torch.optim.AdamW, parameter: Tensor) -> tuple[Tensor, Tensor]:
    state = optimizer.state.get(parameter)
    if not state:
        return torch.zeros_like(parameter.data), torch.zeros_like(parameter.data)
    return state["exp_avg"], state["exp_avg_sq"]


def _n_steps_of(optimizer: torch.optim.AdamW) -> int:
    steps = [int(state["step"]) for state in optimizer.state.values() if state]
    return max(steps, default=0)
