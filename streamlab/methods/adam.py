"""Adam's constants (Kingma and Ba, 2015), shared by everything that takes its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class AdamRates:
    """The constants of Adam for one kind of parameter; the decays of its moments are all one's."""

    beta1: ClassVar[float] = 0.9
    beta2: ClassVar[float] = 0.999

    rate: float
    epsilon: float = 1e-8

    def corrections(self, n_steps: int) -> tuple[float, float]:
        """Return the factors that take the start at zero out of both moments."""
        return 1.0 / (1.0 - self.beta1**n_steps), 1.0 / (1.0 - self.beta2**n_steps)
