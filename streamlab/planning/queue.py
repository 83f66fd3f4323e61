"""Tasks that arrive at random and wait for a place to be learnt at: a G/G/c queue, first come.

    arrivals   a Poisson process:  a_i = a_{i-1} + Exp(rate)
    service    s_i drawn from the training seconds that were measured
    one place  f_i = max(a_i, f_{i-1}) + s_i
                   = S_i + max_{j <= i} (a_j - S_{j-1})     S_i = s_1 + ... + s_i
    c places   task i begins when it has arrived and one of the c places is free

Arrivals and services come from generators of their own, so that a longer stream begins with the
shorter one.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY = 86_400.0
Seconds = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A stream of tasks and how it was served; all times are in seconds from the start."""

    rate_per_day: float
    n_slots: int
    seed: int
    load: float  # the share of the places' time that the tasks ask for; from 1 on, waits only grow
    arrived: Seconds  # (n_tasks,)
    waited: Seconds  # (n_tasks,), before a place was free
    all_done: Seconds  # (n_tasks,), when this task and all before it are learnt


def serve(
    n_tasks: int,
    *,
    rate_per_day: float,
    n_slots: int,
    service_seconds: Sequence[float],
    seed: int,
) -> Queue:
    """Let tasks arrive, wait and be learnt."""
    gaps, services = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    arrived = np.cumsum(gaps.exponential(DAY / rate_per_day, n_tasks))
    measured = np.asarray(service_seconds, dtype=np.float64)
    service = measured[services.integers(len(measured), size=n_tasks)]
    done = _one_place(arrived, service) if n_slots == 1 else _places(arrived, service, n_slots)
    return Queue(
        rate_per_day=rate_per_day,
        n_slots=n_slots,
        seed=seed,
        load=float(rate_per_day / DAY * measured.mean() / n_slots),
        arrived=arrived,
        # A sum of large times less its parts may come out below nothing by a rounding.
        waited=np.maximum(done - service - arrived, 0.0),
        all_done=np.maximum.accumulate(done),
    )


def _one_place(arrived: Seconds, service: Seconds) -> Seconds:
    worked = np.cumsum(service)
    latest: Seconds = np.maximum.accumulate(arrived - (worked - service))
    return worked + latest


def _places(arrived: Seconds, service: Seconds, n_slots: int) -> Seconds:
    if n_slots >= len(arrived):
        return arrived + service
    free = [0.0] * n_slots  # when each place is free again, the soonest first
    done = np.empty_like(arrived)
    for place, (at, takes) in enumerate(zip(arrived.tolist(), service.tolist(), strict=True)):
        done[place] = end = max(at, free[0]) + takes
        heapq.heapreplace(free, end)
    return done
