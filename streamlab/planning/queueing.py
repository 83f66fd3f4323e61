"""A G/G/c queue of tasks that arrive and wait for training, first come, first served.

    arrivals   a_i by one of the processes of `streamlab.arrivals`
    service    s_i sampled from measured training seconds
    one slot   f_i = max(a_i, f_{i-1}) + s_i
                   = S_i + max_{j <= i} (a_j - S_{j-1})     S_i = s_1 + ... + s_i
    c slots    task i starts when it has arrived and one of c slots is free

Times are whole microseconds, and results equal those of the virtual clock, but for millions of
tasks. Arrivals and services have separate random generators, so that a longer stream begins with
the shorter one.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamlab.arrivals.arrival_processes import Steady, times
from streamlab.errors import UsageError
from streamlab.units import DAY_US, SECOND_US

DAY = DAY_US / SECOND_US
Seconds = NDArray[np.float64]
Microseconds = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A served stream of tasks; times in seconds from the start."""

    process: Steady
    n_slots: int
    seed: int
    load: float  # requested share of the slots' time; from 1 on, waits grow without bound
    arrived: Seconds  # (n_tasks,)
    waited: Seconds  # (n_tasks,), until a slot was free
    all_done: Seconds  # (n_tasks,), end of this task and all before it


def serve(
    n_tasks: int,
    *,
    process: Steady,
    n_slots: int,
    service_seconds: Sequence[float],
    seed: int,
) -> Queue:
    """Simulate the queue. Raises UsageError for times beyond 64-bit microseconds."""
    gaps, services = np.random.SeedSequence(seed).spawn(2)
    arrived = times(process, n_tasks, seed=gaps)
    measured = np.rint(SECOND_US * np.asarray(service_seconds)).astype(np.int64)
    _check_countable(arrived, measured)
    draw = np.random.default_rng(services)
    service = measured[draw.integers(len(measured), size=n_tasks)]
    done = _one_slot(arrived, service) if n_slots == 1 else _slots(arrived, service, n_slots)
    return Queue(
        process=process,
        n_slots=n_slots,
        seed=seed,
        load=process.rate_per_day * float(measured.mean()) / DAY_US / n_slots,
        arrived=arrived / SECOND_US,
        waited=(done - service - arrived) / SECOND_US,
        all_done=np.maximum.accumulate(done) / SECOND_US,
    )


def _check_countable(arrived: Microseconds, measured: Microseconds) -> None:
    """Raise UsageError unless the last end fits 64 bits in the worst case."""
    if int(arrived[-1]) + len(arrived) * int(measured.max()) > np.iinfo(np.int64).max:
        raise UsageError(
            f"Training {len(arrived):,} such tasks may take more than 290,000 years. Simulate "
            "fewer tasks."
        )


def _one_slot(arrived: Microseconds, service: Microseconds) -> Microseconds:
    worked = np.cumsum(service)
    latest: Microseconds = np.maximum.accumulate(arrived - (worked - service))
    return worked + latest


def _slots(arrived: Microseconds, service: Microseconds, n_slots: int) -> Microseconds:
    if n_slots >= len(arrived):
        return arrived + service
    free = [0] * n_slots  # when each slot is free again, as a heap
    done = np.empty_like(arrived)
    for place, (at, takes) in enumerate(zip(arrived.tolist(), service.tolist(), strict=True)):
        done[place] = end = max(at, free[0]) + takes
        heapq.heapreplace(free, end)
    return done
