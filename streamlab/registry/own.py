"""What a run's scenario says of the run itself: its own method and its seeds."""

from __future__ import annotations

from collections.abc import Sequence

from streamlab.registry.records import RunRecord


def own_method(run: RunRecord) -> str:
    """Return the name of the scenario's own method, which its baselines are compared with."""
    return str(run.scenario["defaults"]["method"]["name"])


def own_seeds(run: RunRecord) -> Sequence[int]:
    """Return the scenario's seeds, as written."""
    return [int(seed) for seed in run.scenario["seeds"]]
