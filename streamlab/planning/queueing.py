"""Tasks that arrive and wait for a place to be learnt at: a G/G/c queue, first come.

    arrivals   a_i by one of the processes of `streamlab.arrivals`
    service    s_i drawn from the training seconds that were measured
    one place  f_i = max(a_i, f_{i-1}) + s_i
                   = S_i + max_{j <= i} (a_j - S_{j-1})     S_i = s_1 + ... + s_i
    c places   task i begins when it has arrived and one of the c places is free

In whole microseconds, as the virtual clock of `streamlab.arrivals` counts, and with its result,
but for millions of tasks. Arrivals and services come from generators of their own, so that a
longer stream begins with the shorter one.
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
    """A stream of tasks and how it was served; all times are in seconds from the start."""

    process: Steady
    n_slots: int
    seed: int
    load: float  # the share of the places' time that the tasks ask for; from 1 on, waits only grow
    arrived: Seconds  # (n_tasks,)
    waited: Seconds  # (n_tasks,), before a place was free
    all_done: Seconds  # (n_tasks,), when this task and all before it are learnt


def serve(
    n_tasks: int,
    *,
    process: Steady,
    n_slots: int,
    service_seconds: Sequence[float],
    seed: int,
) -> Queue:
    """Let tasks arrive, wait and be learnt. Raises UsageError where that takes too many years."""
    gaps, services = np.random.SeedSequence(seed).spawn(2)
    arrived = times(process, n_tasks, seed=gaps)
    measured = np.rint(SECOND_US * np.asarray(service_seconds)).astype(np.int64)
    _check_countable(arrived, measured)
    draw = np.random.default_rng(services)
    service = measured[draw.integers(len(measured), size=n_tasks)]
    done = _one_place(arrived, service) if n_slots == 1 else _places(arrived, service, n_slots)
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
    """Raise UsageError unless the last task is done at a time of 64 bits, come what may."""
    if int(arrived[-1]) + len(arrived) * int(measured.max()) > np.iinfo(np.int64).max:
        raise UsageError(
            f"To learn {len(arrived):,} such tasks may take more than 290,000 years. "
            "Follow fewer tasks."
        )


def _one_place(arrived: Microseconds, service: Microseconds) -> Microseconds:
    worked = np.cumsum(service)
    latest: Microseconds = np.maximum.accumulate(arrived - (worked - service))
    return worked + latest


def _places(arrived: Microseconds, service: Microseconds, n_slots: int) -> Microseconds:
    if n_slots >= len(arrived):
        return arrived + service
    free = [0] * n_slots  # when each place is free again, the soonest first
    done = np.empty_like(arrived)
    for place, (at, takes) in enumerate(zip(arrived.tolist(), service.tolist(), strict=True)):
        done[place] = end = max(at, free[0]) + takes
        heapq.heapreplace(free, end)
    return done
