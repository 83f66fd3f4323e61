"""Lines of a simulated device's log, and what they say together; nothing here needs a database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

PlacementAction = Literal["stored", "evicted", "rejected", "superseded", "rolled back", "revoked"]


@dataclass(frozen=True, kw_only=True)
class NewPlacement:
    """What became of a finished arrival's artifact on the simulated device of its run."""

    at_us: int  # of the run's virtual clock
    arrival_id: int
    action: PlacementAction
    device_bytes: int  # on the device after it
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PlacementRecord(NewPlacement):
    """A line of the device's log, with what it is about."""

    id: int
    run: str
    seed: int
    provider: str
    task: str
    version: int
    method: str


def find_full_us(log: Iterable[NewPlacement]) -> int | None:
    """Return when a device was first full: an artifact was rejected or evicted. None for never.

    In microseconds of the virtual clock.
    """
    full = (line.at_us for line in log if line.action in ("rejected", "evicted"))
    return min(full, default=None)
