"""The stage in which gates are drawn and priced, and the price steers how many stay open."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator
from torch import Tensor
from torch.nn.utils import get_total_norm

from streamlab.config import GrownSettings
from streamlab.methods.adam import AdamRates
from streamlab.methods.gates import Stretch, expected_gate
from streamlab.methods.groups import GroupGates
from streamlab.methods.idle import find_rows_in_use
from streamlab.methods.landing import Descent
from streamlab.methods.loop import adam
from streamlab.methods.native import find_native_step
from streamlab.methods.penalty import FixedPenalty, Penalty, SteeredPenalty
from streamlab.methods.projection import budget
from streamlab.methods.step import Densities, GatedWeights

if TYPE_CHECKING:
    from streamlab.methods.contract import TrainingJob


class Gating(GrownSettings):
    """How gates start, move and are priced; `structured` adds one gate for every tensor."""

    later: ClassVar = frozenset({"landings"})

    structured: bool = True
    target_density: float = Field(default=0.005, gt=0.0, le=1.0)
    penalty_form: Literal["additive", "product"] = "additive"
    penalty: Literal["steered"] | PositiveFloat = "steered"  # a number: lambda, fixed
    steer_to: PositiveFloat = 4.0  # expected density at the end of the gated stage, over target
    steer_gain: PositiveFloat = 0.15
    steer_every: PositiveInt = 2
    steer_reach: float = Field(default=8.0, ge=1.0)  # lambda stays within this factor of its start
    landings: NonNegativeInt = 0  # moves of all gates, by which the stage ends at `steer_to`
    gate_start: float = 5.0  # log_alpha
    gate_rate: Literal["auto"] | PositiveFloat = "auto"  # auto: gate_travel over the steps
    gate_travel: PositiveFloat = 25.0  # how far a gate can move in log-odds
    gate_epsilon: Literal["auto"] | PositiveFloat = "auto"  # auto: a hundredth of the first price
    stretch: Stretch = Stretch()

    @field_validator("steer_to")
    @classmethod
    def _leaves_enough_open(cls, value: float) -> float:
        if value < 1.0:
            raise ValueError("`steer_to` below 1 would leave fewer open gates than are kept")
        return value


class GatedStage:
    """The gated weights of one job, the head beside them, and the price of a gate.

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
        self._gated = _gate(settings, job, moments)
        scale = _saliency(settings, self._gated)
        self._penalty = _pricing(settings, n_steps, scale)
        head = job.head.values()
        self._optimizer, self._set_share = adam([(head, job.training.head_learning_rate)])
        for parameter in head:
            self._optimizer.state[parameter] = moments.state[parameter]
        moments.state.clear()
        travel = settings.gate_travel / max(1, n_steps)
        self._gate_rates = AdamRates(
            rate=travel if settings.gate_rate == "auto" else settings.gate_rate,
            epsilon=0.01 * scale if settings.gate_epsilon == "auto" else settings.gate_epsilon,
        )
        self._price = self._penalty.update(-1, 1.0)
        self._goal = min(1.0, settings.steer_to * settings.target_density)
        n_moves = settings.landings
        self._descent = Descent(n_steps, n_moves, self._goal) if n_moves else None
        self.densities = Densities(1.0, 1.0)

    @property
    def n_closed_groups(self) -> int:
        """Return how many tensors' own gates are shut; 0 where there are none."""
        groups = self._gated.groups
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
        self.densities = self._gated.step(
            AdamRates(rate=job.training.learning_rate * share),
            self._gate_rates,
            penalty=self._price,
            product=self._settings.penalty_form == "product",
            grad_scale=scale,
        )
        self._price = self._penalty.update(self._gated.n_steps - 1, self.densities.expected)
        if self._descent is not None:
            wanted = self._descent.wanted(self._gated.n_steps, self.densities.expected)
            if wanted is not None:
                self.densities = self._gated.land(wanted)
        return self.densities.expected

    def end(self) -> None:
        """Land, where the settings have the gates land at all."""
        if self._descent is not None:
            self.densities = self._gated.land(self._goal)

    def expected_changes(self) -> list[Tensor]:
        """Return w E[z] E[z_group] of every entry, one flat tensor for each of the base's."""
        gated, stretch = self._gated, self._settings.stretch
        shares = [1.0] * len(gated.w) if gated.groups is None else list(gated.groups.expected)
        return gated.spread(
            [
                w * expected_gate(log_alpha, stretch) * float(share)
                for w, log_alpha, share in zip(gated.w, gated.log_alpha, shares, strict=True)
            ]
        )


def _gate(settings: Gating, job: TrainingJob, moments: torch.optim.AdamW) -> GatedWeights:
    native = None
    live = list(job.backbone.values())
    if live[0].device.type == "cpu" and job.training.step != "eager":
        native = find_native_step(job.training.threads)
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
    """Return |w| rms(g) of the entry that is just among the open ones at the end.

    A gate is held open by the gradient g w, and closed by the price: this is where the two
    meet, so a price that starts here fits any task, base and scale of the loss.
    """
    pairs = zip(gated.w, gated.w_square, strict=True)
    flat = torch.cat([w.abs() * square.sqrt() for w, square in pairs])
    n_open = budget(settings.steer_to * settings.target_density, gated.n_gated)
    n_open = min(flat.numel(), n_open)
    return max(float(flat.kthvalue(flat.numel() - n_open + 1).values), 1e-30)


def _pricing(settings: Gating, n_steps: int, start: float) -> Penalty:
    if settings.penalty != "steered":
        return FixedPenalty(settings.penalty)
    return SteeredPenalty(
        min(1.0, settings.steer_to * settings.target_density),
        n_steps,
        start=start,
        gain=settings.steer_gain,
        every=min(settings.steer_every, max(1, n_steps // 10)),
        share=0.8,
        reach=settings.steer_reach,
    )


def _moments_of(optimizer: torch.optim.AdamW, parameter: Tensor) -> tuple[Tensor, Tensor]:
    state = optimizer.state.get(parameter)
    if not state:
        return torch.zeros_like(parameter.data), torch.zeros_like(parameter.data)
    return state["exp_avg"], state["exp_avg_sq"]


def _n_steps_of(optimizer: torch.optim.AdamW) -> int:
    steps = [int(state["step"]) for state in optimizer.state.values() if state]
    return max(steps, default=0)
