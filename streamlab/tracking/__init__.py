"""Training curves followed elsewhere, while they grow: TensorBoard, Trackio, MLflow, W&B, plug-ins.

A tracker begins one series for each training. It never decides anything: what a run trains, stores
and scores is the same without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, cast

from streamlab.errors import UsageError
from streamlab.plugins import load

Ending = Literal["finished", "failed", "interrupted"]

# Each is the name of the package that it needs, and of the extra that installs it.
BUILTIN: Final[Mapping[str, str]] = MappingProxyType(
    {
        name: f"streamlab.tracking.{name}_tracker:begin"
        for name in ("tensorboard", "trackio", "mlflow", "wandb")
    }
)


@dataclass(frozen=True, kw_only=True)
class SeriesInfo:
    """One training to be followed."""

    project: str  # the scenario's name
    run: str  # unique in its home
    run_id: str  # unique everywhere: hexadecimal
    name: str  # of the series, unique in the run
    folder: Path  # for files of this series alone; not there yet
    config: Mapping[
        str, Any
    ]  # task, provider, seed, version, settings of method and training; JSON


class Series(Protocol):
    """The values of one training as they come."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add finite values by name at a step, from 1; MUST return soon."""
        ...

    def finish(self, ending: Ending) -> None:
        """Close the series: nothing follows."""
        ...


# Begins a series. One of the same `run_id` and `name`, which a process left that was stopped, MUST
# be replaced, so that no step is there twice.
Tracker = Callable[[SeriesInfo], Series]


def find_tracker(name: str) -> Tracker:
    """Return a tracker by its name. Raises UsageError where it is unknown or not installed."""
    if name in BUILTIN and find_spec(name) is None:
        raise UsageError(
            f"`tracking` names {name!r}, and its package is not installed. Install it with "
            f"`pip install 'streamlab[{name}]'`, or leave it out."
        )
    return cast(Tracker, load("streamlab.trackers", name, BUILTIN))
