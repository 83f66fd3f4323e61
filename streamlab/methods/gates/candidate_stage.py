"""The gated stage of seeded candidates: one gate for each of few entries, in PyTorch.

theta = base + z * w        w, z: (k,), of the candidates
dL/dw = g z                 g: the gradient of theta
dL/dz = g w
penalty = lambda * P(z > 0)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from streamlab.methods.adam import AdamSettings
from streamlab.methods.gates.gated_stage import MIN_L0_COEFFICIENT
from streamlab.methods.gates.steered_stage import SteeredStage
from streamlab.methods.masks.selection import largest, nth_largest

if TYPE_CHECKING:
    from streamlab.methods.api import TrainingJob
    from streamlab.methods.fixed_mask import FixedMask
    from streamlab.methods.masks.candidates import OpenCandidates
    from streamlab.methods.quantizer import TrainedHead


class CandidateStage(SteeredStage):
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
        self._mask, self._head, self._learning_rate = mask, head, learning_rate
        n = mask.values.numel()
        self._n_open = min(n, round(settings.candidate_ratio * n_kept))
        given = settings.l0_coefficient
        self._l0_coefficient = (
            max(nth_largest(mask.saliency(), self._n_open), MIN_L0_COEFFICIENT)
            if given == "auto"
            else given
        )
        super().__init__(
            settings,
            job,
            n,
            lambda each: float(each.mean()),
            l0_coefficient=self._l0_coefficient,
            goal=self._n_open / n,
            n_steps=n_steps,
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
        self._step_gates(of_gates, self._l0_coefficient)
        self._mask.gate(self._now())
        self._mask.step(of_values, AdamSettings(learning_rate=self._learning_rate * share))
        return self.densities.expected

    def state_dict(self) -> dict[str, Any]:
        """Return the gates and their controller; mask and head have states of their own."""
        return super().state_dict() | {"l0_coefficient": self._l0_coefficient}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        super().load_state_dict(state)
        self._l0_coefficient = state["l0_coefficient"]

    def changes(self) -> Tensor:
        """Return the values of the candidates that are most likely open, 0 for the others; (k,)."""
        likely = largest(torch.from_numpy(self._gates.log_alpha), self._n_open)
        return self._mask.values * likely.to(self._mask.values.device)

    def _now(self) -> Tensor:
        """Return the gates now in use, (k,) float32."""
        return torch.from_numpy(self._gates.now).to(self._mask.values)
