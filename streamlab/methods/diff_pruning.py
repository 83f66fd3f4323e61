"""Diff pruning (Guo, Rush and Kim, 2021): learn which few weights to change, and by how much.

    minimise  E_z[ loss(base + z * w) ] + lambda E||z||_0,  then keep exactly k entries

Three stages. *Open*: every gate is 1, which is plain finetuning of w, so that w carries signal
before anything is pruned. *Gated*: gates are drawn and priced, and the price steers their
expected number down. *Fixed mask*: the k entries with the largest |w| E[z] stay, the rest is
the base again, and what stayed is trained on.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from torch.nn.utils import get_total_norm

from streamlab.config import Settings
from streamlab.methods.adam import AdamRates
from streamlab.methods.contract import Trained, TrainingJob
from streamlab.methods.gates import Stretch, expected_gate
from streamlab.methods.groups import GroupGates
from streamlab.methods.idle import find_rows_in_use
from streamlab.methods.loop import Loop, adam, ramp, seeded_dropout
from streamlab.methods.native import find_native_step
from streamlab.methods.penalty import FixedPenalty, Penalty, SteeredPenalty
from streamlab.methods.projection import budget, keep_largest
from streamlab.methods.stages import head_values, tune_all, tune_kept
from streamlab.methods.step import Densities, GatedWeights


class DiffPruning(Settings):
    """Settings of diff pruning; `structured` adds one gate for every tensor."""

    name: Literal["diff_pruning"] = "diff_pruning"
    structured: bool = True
    target_density: float = Field(default=0.005, gt=0.0, le=1.0)
    penalty_form: Literal["additive", "product"] = "additive"
    penalty: Literal["steered"] | PositiveFloat = "steered"  # a number: lambda, fixed
    steer_to: PositiveFloat = 4.0  # expected density at the end of the gated stage, over target
    steer_gain: PositiveFloat = 0.15
    steer_every: PositiveInt = 2
    steer_reach: float = Field(default=8.0, ge=1.0)  # lambda stays within this factor of its start
    gate_start: float = 5.0  # log_alpha
    gate_rate: Literal["auto"] | PositiveFloat = "auto"  # auto: gate_travel over the steps
    gate_travel: PositiveFloat = 25.0  # how far a gate can move in log-odds
    gate_epsilon: Literal["auto"] | PositiveFloat = "auto"  # auto: a hundredth of the first price
    fixed_mask_rate: PositiveFloat = 5e-3
    fixed_mask_share: float = Field(default=0.6, gt=0.0, lt=1.0)  # of all steps
    open_share: float = Field(default=0.5, ge=0.0, lt=1.0)  # of the steps before the fixed mask
    stretch: Stretch = Stretch()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.steer_to < 1.0:
            raise ValueError("`steer_to` below 1 would leave fewer open gates than are kept")
        if self.penalty == "steered" and self.open_share == 0.0:
            raise ValueError(
                "a steered `penalty` starts from what the open stage has learnt: raise "
                "`open_share` above 0, or give a number as `penalty`"
            )
        return self

    def train(self, job: TrainingJob) -> Trained:
        """Train in three stages; returns exactly round(density * d) entries."""
        n_steps = job.training.n_steps(job.n_batches)
        n_fixed = max(1, round(self.fixed_mask_share * n_steps))
        n_first = n_steps - n_fixed
        n_open = round(self.open_share * n_first)
        loop = Loop(job, n_steps)
        schedule = ramp(n_first, job.training.warmup_share)
        with seeded_dropout(job.seed, loop.device):
            job.model.train()
            moments = tune_all(loop, job, schedule[:n_open])
            gated, densities = self._tune_gated(loop, job, moments, schedule[n_open:])
            scores, values = self._rank(gated)
            positions = keep_largest(scores, budget(self.target_density, job.layout.n_gated))
            kept = [v[p] for v, p in zip(values, positions, strict=True)]
            groups = gated.groups
            del gated, scores, values
            tensors = tune_kept(
                loop, job, positions, kept, n_steps=n_fixed, rate=self.fixed_mask_rate
            )
            job.model.eval()
        return Trained(
            tensors=tensors,
            backbone=None,
            head=head_values(job),
            n_steps=n_steps,
            details={
                "steps_open": n_open,
                "steps_gated": n_first - n_open,
                "steps_fixed_mask": n_fixed,
                "expected_density": densities.expected,
                "deterministic_density": densities.deterministic,
                "closed_groups": 0 if groups is None else int((groups.deterministic <= 0).sum()),
                "empty_tensors": sum(p.numel() == 0 for p in positions),
            },
        )

    def _tune_gated(
        self, loop: Loop, job: TrainingJob, moments: torch.optim.AdamW, schedule: list[float]
    ) -> tuple[GatedWeights, Densities]:
        gated = self._gate(job, moments, loop.device)
        scale = self._saliency(gated)
        penalty = self._pricing(len(schedule), scale)
        optimizer, set_share = adam([(job.head.values(), job.training.head_learning_rate)])
        for parameter in job.head.values():
            optimizer.state[parameter] = moments.state[parameter]
        # What it held of the backbone is copied: kept, it would cost 8 bytes a parameter.
        moments.state.clear()
        travel = self.gate_travel / max(1, len(schedule))
        gate_rate = travel if self.gate_rate == "auto" else self.gate_rate
        epsilon = 0.01 * scale if self.gate_epsilon == "auto" else self.gate_epsilon
        price = penalty.update(-1, 1.0)
        densities = Densities(1.0, 1.0)

        def take_step(share: float) -> float:
            nonlocal price, densities
            grads = [p.grad for p in job.model.parameters() if p.grad is not None]
            scale = min(1.0, job.training.clip_norm / (float(get_total_norm(grads)) + 1e-6))
            for parameter in job.head.values():
                if parameter.grad is not None:
                    parameter.grad.mul_(scale)
            set_share(share)
            optimizer.step()
            densities = gated.step(
                AdamRates(rate=job.training.learning_rate * share),
                AdamRates(rate=gate_rate, epsilon=epsilon),
                penalty=price,
                product=self.penalty_form == "product",
                grad_scale=scale,
            )
            price = penalty.update(gated.n_steps - 1, densities.expected)
            return densities.expected

        loop.run("gated", schedule, take_step)
        return gated, densities

    def _gate(
        self, job: TrainingJob, moments: torch.optim.AdamW, device: torch.device
    ) -> GatedWeights:
        native = None
        if device.type == "cpu" and job.training.step != "eager":
            native = find_native_step(job.training.threads)
        live = list(job.backbone.values())
        groups = None
        if self.structured:
            groups = GroupGates(len(live), self.gate_start, self.stretch, job.seed)
        taken_over = [_moments_of(moments, parameter) for parameter in live]
        n_steps = _n_steps_of(moments)
        # Short runs of rows suit a loop in C, not one kernel after the other.
        rows = find_rows_in_use(job, [s for _, s in taken_over], n_steps) if native else {}
        return GatedWeights(
            live,
            list(job.base.values()),
            taken_over,
            n_moment_steps=n_steps,
            log_alpha=self.gate_start,
            stretch=self.stretch,
            groups=groups,
            seed=job.seed,
            native=native,
            rows_in_use=rows,
        )

    def _saliency(self, gated: GatedWeights) -> float:
        """Return |w| rms(g) of the entry that is just among the open ones at the end.

        A gate is held open by the gradient g w, and closed by the price: this is where the two
        meet, so a price that starts here fits any task, base and scale of the loss.
        """
        pairs = zip(gated.w, gated.w_square, strict=True)
        flat = torch.cat([w.abs() * square.sqrt() for w, square in pairs])
        n_open = min(flat.numel(), budget(self.steer_to * self.target_density, gated.n_gated))
        return max(float(flat.kthvalue(flat.numel() - n_open + 1).values), 1e-30)

    def _pricing(self, n_steps: int, start: float) -> Penalty:
        if self.penalty != "steered":
            return FixedPenalty(self.penalty)
        return SteeredPenalty(
            min(1.0, self.steer_to * self.target_density),
            n_steps,
            start=start,
            gain=self.steer_gain,
            every=min(self.steer_every, max(1, n_steps // 10)),
            share=0.8,
            reach=self.steer_reach,
        )

    def _rank(self, gated: GatedWeights) -> tuple[list[Tensor], list[Tensor]]:
        """Return |w| E[z] E[z_group] of every entry, and the same with its sign."""
        shares = [1.0] * len(gated.w) if gated.groups is None else list(gated.groups.expected)
        values = gated.spread(
            [
                w * expected_gate(log_alpha, self.stretch) * float(share)
                for w, log_alpha, share in zip(gated.w, gated.log_alpha, shares, strict=True)
            ]
        )
        return [value.abs() for value in values], values


def _moments_of(optimizer: torch.optim.AdamW, parameter: Tensor) -> tuple[Tensor, Tensor]:
    state = optimizer.state.get(parameter)
    if not state:
        return torch.zeros_like(parameter.data), torch.zeros_like(parameter.data)
    return state["exp_avg"], state["exp_avg_sq"]


def _n_steps_of(optimizer: torch.optim.AdamW) -> int:
    steps = [int(state["step"]) for state in optimizer.state.values() if state]
    return max(steps, default=0)
