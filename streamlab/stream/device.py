"""A simulated device that keeps tasks' artifacts within a budget of bytes, in virtual time.

The budget is for the artifacts; the base is not counted. A new version of a task is written before
the old one is deleted, and both count until then: the device never exceeds its budget, and never
loses a version that it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, get_args

import numpy as np
import numpy.typing as npt
from pydantic import ByteSize, Field, NonNegativeFloat

from streamlab.config import Settings
from streamlab.registry.records import (
    DeviceRequests,
    EvictionPolicy,
    NewPlacement,
    PlacementAction,
)
from streamlab.seeds import derived_seed
from streamlab.units import DAY_US


class UseSettings(Settings):
    """Simulated requests: a Poisson process; the task of each follows Zipf's law."""

    rate_per_day: Annotated[float, Field(gt=0, le=1e6)]
    """Requests per day."""
    skew: NonNegativeFloat = 1.0
    """The r-th most popular task is requested in proportion to 1 / r^skew."""


class DeviceSettings(Settings):
    """A device: its bytes for artifacts, and what is evicted when they are full."""

    budget: Annotated[ByteSize, Field(gt=0)] | None = None
    """Capacity of the simulated device for artifacts. Default: no device."""
    policy: EvictionPolicy = "reject"
    """What happens to artifacts that do not fit the device."""
    uses: UseSettings | None = None
    """Simulated requests, for `evict_lru` and the hit rate of every policy."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """The artifact of a finished arrival, to be placed on the device."""

    arrival_id: int
    task: str
    n_bytes: int
    score: float  # on the primary metric; `evict_worst` compares it even between metrics


@dataclass
class _Resident:
    item: Item
    stored: int  # the number of events before it, which is unique
    used: int


_EVICTION_ORDER: Mapping[EvictionPolicy, Callable[[_Resident], tuple[float, int]]] = {
    "evict_lru": lambda resident: (0.0, resident.used),
    "evict_worst": lambda resident: (resident.item.score, resident.stored),
}


class Device:
    """The artifacts on one device; each change returns the lines that it adds to the log."""

    def __init__(self, budget: int, policy: EvictionPolicy = "reject") -> None:
        self._budget, self._policy = budget, policy
        self._resident: dict[str, _Resident] = {}
        self._known: dict[str, None] = {}
        self._n_events = 0
        self._now = 0
        self.n_hits = 0
        self.n_misses = 0

    @property
    def n_bytes(self) -> int:
        """Return the bytes of everything on the device."""
        return sum(resident.item.n_bytes for resident in self._resident.values())

    @property
    def items(self) -> tuple[Item, ...]:
        """Return the items on the device, in the order in which their tasks came first."""
        return tuple(resident.item for resident in self._resident.values())

    @property
    def known(self) -> tuple[str, ...]:
        """Return every task that was ever placed or rejected, in order."""
        return tuple(self._known)

    def place(self, item: Item, at_us: int) -> tuple[NewPlacement, ...]:
        """Store an artifact in place of the task's earlier one, evicting others by the policy.

        One for which no room can be made is rejected: nothing is evicted, and an earlier version
        stays. Raises ValueError for a time before the last one.
        """
        count = self._happen(at_us)
        self._known[item.task] = None
        going = self._find_room(item)
        if going is None:
            return (self._line(item, "rejected", self._why_rejected(item)),)
        log = []
        for resident in going:
            del self._resident[resident.item.task]
            log.append(self._line(resident.item, "evicted", f"for `{item.task}`"))
        old = self._resident.get(item.task)
        held = 0 if old is None else old.item.n_bytes
        self._resident[item.task] = _Resident(item, stored=count, used=count)
        log.append(self._line(item, "stored", beside=held))
        if old is not None:
            log.append(self._line(old.item, "superseded", f"by arrival {item.arrival_id}"))
        return tuple(log)

    def use(self, task: str, at_us: int) -> bool:
        """Count a request for a task, and return whether it was on the device."""
        count = self._happen(at_us)
        resident = self._resident.get(task)
        if resident is None:
            self.n_misses += 1
            return False
        resident.used = count
        self.n_hits += 1
        return True

    def _happen(self, at_us: int) -> int:
        if at_us < self._now:
            raise ValueError(f"The device is already at {self._now} us, got {at_us} us.")
        self._now = at_us
        self._n_events += 1
        return self._n_events

    def _find_room(self, item: Item) -> list[_Resident] | None:
        """Return what must be evicted so that an item fits, None where nothing makes it fit."""
        missing = self.n_bytes + item.n_bytes - self._budget
        order = _EVICTION_ORDER.get(self._policy)
        others = [r for name, r in self._resident.items() if name != item.task]
        going: list[_Resident] = []
        for resident in sorted(others, key=order) if order else ():
            if missing <= 0:
                break
            going.append(resident)
            missing -= resident.item.n_bytes
        return None if missing > 0 else going

    def _why_rejected(self, item: Item) -> str:
        if item.n_bytes > self._budget:
            return f"{item.n_bytes} bytes, more than the whole budget of {self._budget}"
        if item.task in self._resident:
            return f"no room for {item.n_bytes} bytes beside the earlier version"
        return f"no room for {item.n_bytes} bytes: {self.n_bytes} of {self._budget} are taken"

    def _line(
        self, item: Item, action: PlacementAction, note: str = "", *, beside: int = 0
    ) -> NewPlacement:
        return NewPlacement(
            at_us=self._now,
            arrival_id=item.arrival_id,
            action=action,
            device_bytes=self.n_bytes + beside,
            note=note,
        )


@dataclass(frozen=True, kw_only=True)
class DeviceHistory:
    """The log of a device, and how many simulated requests found their task on it."""

    log: tuple[NewPlacement, ...]
    n_hits: int
    n_misses: int


def simulate_device(
    settings: DeviceSettings, arrivals: Iterable[tuple[int, Item]], *, seed: int, until_us: int
) -> DeviceHistory:
    """Place artifacts at their times on an empty device, with the requests in between.

    `settings`: with a budget. `arrivals`: microseconds of the virtual clock, in ascending order.
    Requests continue until `until_us`; one at the time of an arrival comes after it. The same
    input gives the same history, so that an interrupted log can be completed. Raises ValueError
    as `place`.
    """
    device = Device(settings.budget or 0, settings.policy)
    uses = () if settings.uses is None else simulated_uses(settings.uses, seed, until_us)
    requests = iter(uses)
    request = next(requests, None)
    log: list[NewPlacement] = []
    for at_us, item in arrivals:
        while request is not None and request[0] < at_us:
            _answer(device, settings, request, seed)
            request = next(requests, None)
        log += device.place(item, at_us)
    while request is not None:
        _answer(device, settings, request, seed)
        request = next(requests, None)
    return DeviceHistory(log=tuple(log), n_hits=device.n_hits, n_misses=device.n_misses)


def simulate_policies(
    settings: DeviceSettings, arrivals: Sequence[tuple[int, Item]], *, seed: int, until_us: int
) -> tuple[DeviceRequests, ...]:
    """Count hits and misses of the same requests under every eviction policy.

    Empty where the settings simulate no requests. Other arguments and errors: `simulate_device`.
    """
    if settings.uses is None:
        return ()
    counted = []
    for policy in get_args(EvictionPolicy):
        other = settings.model_copy(update={"policy": policy})
        history = simulate_device(other, arrivals, seed=seed, until_us=until_us)
        counted.append(
            DeviceRequests(
                seed=seed, policy=policy, n_hits=history.n_hits, n_misses=history.n_misses
            )
        )
    return tuple(counted)


def simulated_uses(settings: UseSettings, seed: int, until_us: int) -> Iterator[tuple[int, float]]:
    """Yield the time of each request, in microseconds up to `until_us`, and a draw in [0, 1)."""
    draw = np.random.default_rng(derived_seed("uses", seed))
    at_us = 0.0
    while (at_us := at_us + draw.exponential(DAY_US / settings.rate_per_day)) <= until_us:
        yield int(at_us), float(draw.random())


def requested_task(tasks: Sequence[str], draw: float, *, skew: float, seed: int) -> str:
    """Return the task that a draw in [0, 1) requests, by Zipf's law.

    The popularity of tasks follows from their names and the seed, never from their order.
    """
    ranked, shares = _popularity(tuple(tasks), skew, seed)
    return ranked[min(int(np.searchsorted(shares, draw, side="right")), len(ranked) - 1)]


@lru_cache(maxsize=1)  # asked again for every request
def _popularity(
    tasks: tuple[str, ...], skew: float, seed: int
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Return tasks, the most popular first, and the share of requests down to each."""
    ranked = sorted(tasks, key=lambda task: (derived_seed("popularity", seed, task), task))
    weights = np.arange(1, len(ranked) + 1, dtype=np.float64) ** -skew
    return ranked, np.cumsum(weights) / weights.sum()


def _answer(
    device: Device, settings: DeviceSettings, request: tuple[int, float], seed: int
) -> None:
    at_us, draw = request
    if settings.uses is not None and device.known:
        device.use(requested_task(device.known, draw, skew=settings.uses.skew, seed=seed), at_us)
