"""The gated stage of seeded candidates: one gate for each of few entries, in PyTorch.

theta = base + z * w        w, z: (k,), of the candidates
dL/dw = g z                 g: the gradient of theta
dL/dz = g w
penalty = lambda * P(z > 0)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from streamlab.methods.adam import AdamSettings
from streamlab.methods.gates.density_controller import DensityController, correct
from streamlab.methods.gates.gated_stage import MIN_L0_COEFFICIENT, not_finite
from streamlab.methods.gates.hard_concrete import Densities, GroupGates
from streamlab.methods.masks.selection import largest, nth_largest

if TYPE_CHECKING:
    from streamlab.methods.api import TrainingJob
    from streamlab.methods.fixed_mask import FixedMask
    from streamlab.methods.masks.candidates import OpenCandidates
    from streamlab.methods.quantizer import TrainedHead


class CandidateStage:
    """The values of one job's candidates under gates, with the head, lambda and the controller.

    `n_kept`: how many candidates are to stay. Densities are shares of the candidates.
    """

    def __init__(
        self,
        settings: OpenCandidates,
        job: TrainingJob,
        mask: FixedMask,
        head: TrainedHead,
        *,
        n_kept: int,
        learning_rate: float,
        n_steps: int,
    ) -> None:
        self._job, self._mask, self._head = job, mask, head
        self._learning_rate = learning_rate
        n = mask.values.numel()
        self._n_open = min(n, round(settings.candidate_ratio * n_kept))
        given = settings.l0_coefficient
        self._l0_coefficient = (
            max(nth_largest(mask.saliency(), self._n_open), MIN_L0_COEFFICIENT)
            if given == "auto"
            else given
        )
        self._gate_adam = settings.gate_adam(self._l0_coefficient, n_steps)
        self._gates = GroupGates(n, settings.initial_log_alpha, settings.stretch, job.seed)
        self._n_steps = 0
        self.densities = self._measure()
        self._controller = (
            DensityController(n_steps, start=self.densities.expected, goal=self._n_open / n)
            if given == "auto"
            else None
        )
        mask.gate(self._now())

    def take_step(self, share: float) -> float:
        """Step with this share of the learning rates; returns the expected share of open gates.

        Raises TrainingError where the gates became NaN or infinite.
        """
        gradient = self._mask.gradient()
        gradient = gradient * self._head.clip(gradient, self._job.training.clip_norm)
        self._head.step(share)
        of_values = gradient * self._now()
        of_gates = (gradient * self._mask.values).double().cpu().numpy()
        shift = 0.0 if self._controller is None else self._controller.shift(self.densities)
        self._gates.step(of_gates, self._l0_coefficient, self._gate_adam)
        self._gates.move(shift)
        self._mask.gate(self._now())
        self._mask.step(of_values, AdamSettings(learning_rate=self._learning_rate * share))
        self._n_steps += 1
        self.densities = self._measure()
        if not math.isfinite(self.densities.expected):
            raise not_finite(self._job, self._n_steps)
        return self.densities.expected

    def end(self) -> None:
        """Apply the controller's final correction, if there is one."""
        if self._controller is not None:
            self.densities = correct(self.densities, self._controller.goal, self._move)

    def changes(self) -> Tensor:
        """Return the values of the candidates that are most likely open, 0 for the others; (k,)."""
        likely = largest(torch.from_numpy(self._gates.log_alpha), self._n_open)
        return self._mask.values * likely.to(self._mask.values.device)

    def _now(self) -> Tensor:
        """Return the gates now in use, (k,) float32."""
        return torch.from_numpy(self._gates.now).to(self._mask.values)

    def _move(self, shift: float) -> Densities:
        self._gates.move(shift)
        return self._measure()

    def _measure(self) -> Densities:
        p, is_open = self._gates.open_probability, self._gates.deterministic > 0.0
        return Densities(
            expected=float(p.mean()),
            deterministic=float(is_open.mean()),
            slope=float((p * (1.0 - p)).mean()),
            reachable=1.0,
        )
