"""The gated stage with one gate per group of entries, and none of their own, in PyTorch.

    theta = base + z_group * w
    dL/dw = g z_group                       g: the gradient of theta
    dL/dz_group = sum of g w over the group
    penalty = lambda * entries of the group * P(z_group > 0)

All values are trained, and groups close as a whole while the expected density falls. Tensors
without groups are the base's again, and frozen. What concerns a group gate is divided by the mean
number of entries of a group, so that lambda and Adam's epsilon mean what they do for single ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from streamlab.methods.adam import AdamSettings, AdamState
from streamlab.methods.gates.gated_stage import (
    MIN_L0_COEFFICIENT,
    GateTraining,
    continued_head,
    moments_of,
    n_taken_with,
)
from streamlab.methods.gates.steered_stage import SteeredStage

if TYPE_CHECKING:
    from streamlab.methods.api import TrainingJob
    from streamlab.methods.masks.grouping import Groups


class GroupGatedStage(SteeredStage):
    """The weights of one job under group gates, with the head, lambda and the controller.

    `moments` is the optimiser of the dense warm-up, whose state is taken over and then cleared.
    `n_entries`: how many entries are to be retained; densities are shares of those in groups.
    """

    def __init__(
        self,
        settings: GateTraining,
        job: TrainingJob,
        moments: torch.optim.AdamW,
        groups: Groups,
        *,
        n_entries: int,
        n_steps: int,
    ) -> None:
        self._job, self._groups = job, groups
        self._sizes = groups.sizes.numpy().astype(np.float64)
        self._total, self._mean_size = float(self._sizes.sum()), float(self._sizes.mean())
        self._weights = self._take_over(moments)
        self._goal = min(1.0, settings.candidate_ratio * n_entries / self._total)
        given = settings.l0_coefficient
        self._l0_coefficient = self._saliency() if given == "auto" else given
        self._head, self._step_head = continued_head(job, moments)
        moments.state.clear()
        super().__init__(
            settings,
            job,
            groups.n,
            lambda each: float(each @ self._sizes) / self._total,
            l0_coefficient=self._l0_coefficient,
            goal=self._goal,
            n_steps=n_steps,
        )
        self._write()

    def _take_over(self, moments: torch.optim.AdamW) -> list[AdamState | None]:
        """Return w of every tensor with groups; the others become the base's."""
        n_steps, states = n_taken_with(moments), list[AdamState | None]()
        triples = zip(
            self._job.backbone.values(), self._job.base.values(), self._groups.cuts, strict=True
        )
        for live, base, cut in triples:
            if cut is None:
                live.data.copy_(base)
                live.requires_grad_(False)
                states.append(None)
                continue
            mean, square = moments_of(moments, live)
            pair = mean.clone(), square.clone()
            states.append(AdamState(live.detach() - base.to(live.device), pair, n_steps=n_steps))
        return states

    def take_step(self, share: float) -> float:
        """Step with this share of the learning rates; returns the expected density.

        Raises TrainingError where the gates became NaN or infinite.
        """
        scale = self._step_head(share)
        rate = AdamSettings(learning_rate=self._job.training.learning_rate * share)
        gates = self._spread_gates()
        slopes: list[Tensor | None] = []
        for state, live, gate in zip(
            self._weights, self._job.backbone.values(), gates, strict=True
        ):
            if state is None or gate is None:
                slopes.append(None)
                continue
            gradient = live.grad
            gradient = torch.zeros_like(live) if gradient is None else gradient * scale.float()
            slopes.append(gradient * state.value)
            state.step(gradient * gate, rate)
        self._step_gates(
            self._groups.totals(slopes).numpy() / self._mean_size,
            self._l0_coefficient * self._sizes / self._mean_size,
        )
        self._write()
        return self.densities.expected

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, the head's optimiser, the gates and their controller."""
        weights = [None if state is None else state.state_dict() for state in self._weights]
        return super().state_dict() | {
            "weights": weights,
            "head": self._head.state_dict(),
            "l0_coefficient": self._l0_coefficient,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; the model is not updated."""
        super().load_state_dict(state)
        for mine, given in zip(self._weights, state["weights"], strict=True):
            if mine is not None:
                mine.load_state_dict(given)
        self._head.load_state_dict(state["head"])
        self._l0_coefficient = state["l0_coefficient"]

    def scores(self) -> Tensor:
        """Return the mean w^2 of the groups that are most likely open, 0 for others; float64.

        So many are open that the wanted density is reached.
        """
        squares = [None if state is None else state.value.square() for state in self._weights]
        means = self._groups.totals(squares).numpy() / self._sizes
        order = np.argsort(-self._gates.log_alpha, kind="stable")
        before = np.cumsum(self._sizes[order]) - self._sizes[order]
        closed = order[before >= self._goal * self._total]
        means[closed] = 0.0
        return torch.from_numpy(means)

    def changes(self) -> list[Tensor]:
        """Return w of every tensor, flat; empty for tensors without groups."""
        live = self._job.backbone.values()
        return [
            p.new_zeros(0) if state is None else state.value.reshape(-1)
            for state, p in zip(self._weights, live, strict=True)
        ]

    def _saliency(self) -> float:
        """Return the saliency of the last group that may stay open, as in `gated_stage`.

        Of a group it is the root of the sum of w^2 v, per entry: its gradients add up at random.
        """
        squares = [
            None if state is None else state.value.square() * state.moments[1]
            for state in self._weights
        ]
        of_groups = np.sqrt(self._groups.totals(squares).numpy()) / self._sizes
        order = np.argsort(-of_groups, kind="stable")
        last = np.searchsorted(np.cumsum(self._sizes[order]), self._goal * self._total)
        found = of_groups[order[min(int(last), len(order) - 1)]]
        moved = of_groups[of_groups > 0.0]
        if found == 0.0 and len(moved):
            found = moved.min()
        return max(float(found), MIN_L0_COEFFICIENT)

    def _spread_gates(self) -> list[Tensor | None]:
        """Return the gates now in use, so that they broadcast over every tensor."""
        now = torch.from_numpy(self._gates.now).to(self._job.loop.device, torch.float32)
        return [
            None if state is None else self._groups.spread(index, now)
            for index, state in enumerate(self._weights)
        ]

    def _write(self) -> None:
        """Write the base plus the gated values into the model."""
        tensors = zip(
            self._weights,
            self._job.backbone.values(),
            self._job.base.values(),
            self._spread_gates(),
            strict=True,
        )
        for state, live, base, gate in tensors:
            if state is not None and gate is not None:
                live.data.copy_(base.to(live.device) + gate * state.value)
