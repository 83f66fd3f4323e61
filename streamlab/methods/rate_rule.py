"""The learning rate of a fixed mask, which follows its density.

rate(density) = rate at 0.5% * (0.5% / density) ^ power
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REFERENCE_DENSITY: Final = 0.005


@dataclass(frozen=True)
class RateRule:
    """A learning rate as a power of the density."""

    at_reference: float  # the rate at 0.5%
    power: float

    def rate(self, density: float) -> float:
        """Return the learning rate at a density.

        >>> round(RateRule(0.01, 0.5).rate(0.00125), 6)
        0.02
        """
        return float(self.at_reference * (REFERENCE_DENSITY / density) ** self.power)


# An Adam step moves every entry by about the learning rate, so that its length grows with the root
# of their number. What the rule loses against the best rates: docs/studies/two_layers.md.
DEFAULT_RULE: Final = RateRule(0.01, 0.5)
