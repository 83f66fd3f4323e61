"""A gated stage in PyTorch: its gates, the controller of their density, its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.methods.adam import AdamSettings
from streamlab.methods.gates.density_controller import DensityController, correct
from streamlab.methods.gates.gated_stage import GateTraining, not_finite
from streamlab.methods.gates.hard_concrete import Densities, GroupGates

if TYPE_CHECKING:
    from streamlab.methods.api import TrainingJob

Vector = NDArray[np.float64]


class SteeredStage:
    """A stage with `n` gates; where `l0_coefficient: auto`, a controller steers their density.

    `share_of` weighs one number a gate into a share of all entries.
    """

    def __init__(
        self,
        settings: GateTraining,
        job: TrainingJob,
        n: int,
        share_of: Callable[[NDArray[np.bool_] | Vector], float],
        *,
        l0_coefficient: float,
        goal: float,
        n_steps: int,
    ) -> None:
        """`goal`: the density to end at, after `n_steps`."""
        self._job, self._share_of = job, share_of
        self._gate_adam = settings.gate_adam(l0_coefficient, n_steps)
        self._gates = GroupGates(n, settings.initial_log_alpha, settings.stretch, job.seed)
        self._n_steps = 0
        self.densities = self._measure()
        self._controller = (
            DensityController(n_steps, start=self.densities.expected, goal=goal)
            if settings.l0_coefficient == "auto"
            else None
        )

    def end(self) -> None:
        """Apply the controller's final correction, if there is one."""
        if self._controller is not None:
            self.densities = correct(self.densities, self._controller.goal, self._move)

    def state_dict(self) -> dict[str, Any]:
        """Return the gates, the controller, and what was measured at the start."""
        controller = self._controller
        return {
            "gates": self._gates.state_dict(),
            "n_steps": self._n_steps,
            "gate_adam": asdict(self._gate_adam),
            "densities": list(self.densities),
            "controller": None if controller is None else controller.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._gates.load_state_dict(state["gates"])
        self._n_steps = state["n_steps"]
        self._gate_adam = AdamSettings(**state["gate_adam"])
        self.densities = Densities(*state["densities"])
        if self._controller is not None:
            self._controller.load_state_dict(state["controller"])

    def _step_gates(self, gradient: Vector, penalty: float | Vector) -> None:
        """Step by `gradient` of the gates plus `penalty` * P(z > 0), and as the controller says.

        Raises TrainingError where the gates became NaN or infinite.
        """
        shift = 0.0 if self._controller is None else self._controller.shift(self.densities)
        self._gates.step(gradient, penalty, self._gate_adam)
        self._n_steps += 1
        self.densities = self._move(shift)
        if not math.isfinite(self.densities.expected):
            raise not_finite(self._job, self._n_steps)

    def _move(self, shift: float) -> Densities:
        self._gates.move(shift)
        return self._measure()

    def _measure(self) -> Densities:
        p, is_open = self._gates.open_probability, self._gates.deterministic > 0.0
        return Densities(
            expected=self._share_of(p),
            deterministic=self._share_of(is_open),
            slope=self._share_of(p * (1.0 - p)),
            reachable=1.0,
        )
