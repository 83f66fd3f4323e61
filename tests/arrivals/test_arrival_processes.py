"""Arrivals come at the rate and as unevenly as asked for, and alike wherever they are drawn."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from streamlab.arrivals.arrival_processes import (
    LAST_DAY,
    ArrivalProcess,
    ArrivalProcessSettings,
    AsListed,
    Burst,
    Gamma,
    Periodic,
    Poisson,
    Trace,
    TraceEvent,
    times,
)
from streamlab.errors import UsageError
from streamlab.units import DAY_US

N = 100_000
RATE = 40.0
TRACE = Trace(events=tuple(TraceEvent(day=day, task="a") for day in (3.0, 0.0, 0.25, 3.0)))
RANDOM: list[ArrivalProcess] = [
    Poisson(rate_per_day=RATE),
    Gamma(rate_per_day=RATE, cv=0.3),
    Gamma(rate_per_day=RATE, cv=2.5),
    Burst(rate_per_day=RATE, size=8),
]
ALL: list[ArrivalProcess] = [AsListed(), Periodic(rate_per_day=RATE, first_day=1.5), TRACE, *RANDOM]
READ: TypeAdapter[ArrivalProcess] = TypeAdapter(ArrivalProcessSettings)


def named(process: ArrivalProcess) -> str:
    return process.process


def errors_of(process: ArrivalProcess, n: int) -> tuple[float, float, float]:
    """Return the cv of the gaps, and over n gaps the standard errors of rate / RATE and of cv.

    With gaps of mean m, deviation s, cv c = s / m, skewness g and kurtosis k, to first order

        var(mean) / m^2 = c^2 / n                     and the rate is 1 / mean
        var(cv) / c^2   = ((k - 1) / 4 - g c + c^2) / n

    (k - 1) / 4 from the sample's deviation, c^2 from its mean, - g c from what they share.
    A gamma of cv c has g = 2 c, k = 3 + 6 c^2: var(cv) = c^2 (1 + c^2) / (2 n).
    A burst's n gaps are n / size exponential ones, E, of cv 1, and zeros between them, so that
    cv^2 = size (cv(E)^2 + 1) - 1, and the error of cv is size / cv times that of cv(E).
    """
    if isinstance(process, Burst):
        n_bursts = n / process.size
        cv = math.sqrt(2 * process.size - 1)
        return cv, 1 / math.sqrt(n_bursts), process.size / cv / math.sqrt(n_bursts)
    cv = process.cv if isinstance(process, Gamma) else 1.0
    return cv, cv / math.sqrt(n), cv * math.sqrt((1 + cv**2) / (2 * n))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("process", RANDOM, ids=named)
def test_rate_and_cv_lie_within_four_standard_errors_of_the_request(
    process: ArrivalProcess, seed: int
) -> None:
    cv, rate_error, cv_error = errors_of(process, N)

    gaps = np.diff(times(process, N, seed=seed), prepend=0)

    assert abs(DAY_US / gaps.mean() / RATE - 1) < 4 * rate_error
    assert abs(gaps.std() / gaps.mean() - cv) < 4 * cv_error


@pytest.mark.parametrize("process", RANDOM, ids=named)
def test_the_standard_errors_are_those_of_many_streams(process: ArrivalProcess) -> None:
    n = 10_000
    _, rate_error, cv_error = errors_of(process, n)
    streams = [np.diff(times(process, n, seed=s), prepend=0) for s in range(60)]

    rates = np.array([DAY_US / gaps.mean() / RATE for gaps in streams])
    cvs = np.array([gaps.std() / gaps.mean() for gaps in streams])

    # The deviation of 60 draws is itself known to 9%; an error twice too wide would show.
    assert rates.std() == pytest.approx(rate_error, rel=0.35)
    assert cvs.std() == pytest.approx(cv_error, rel=0.35)


@pytest.mark.parametrize("process", ALL, ids=named)
@given(n=st.integers(0, 4), more=st.integers(0, 300), seed=st.integers(0, 2**62))
def test_a_longer_stream_begins_with_the_shorter_one_and_none_goes_back(
    process: ArrivalProcess, n: int, more: int, seed: int
) -> None:
    longer = min(n + more, 4) if process is TRACE else n + more

    short, long = times(process, n, seed=seed), times(process, longer, seed=seed)

    assert short.dtype == long.dtype == np.int64
    assert long.shape == (longer,)
    assert np.array_equal(long[:n], short)
    assert (np.diff(long, prepend=0) >= 0).all()


@pytest.mark.parametrize("process", RANDOM, ids=named)
def test_another_seed_gives_another_stream(process: ArrivalProcess) -> None:
    first, second = (times(process, 50, seed=seed) for seed in (1, 2))

    assert not np.array_equal(first, second)


def test_what_is_not_random_comes_when_it_was_said_to() -> None:
    assert times(AsListed(), 3, seed=1).tolist() == [0, 0, 0]
    periodic = Periodic(rate_per_day=4, first_day=2)
    assert (times(periodic, 3, seed=1) / DAY_US).tolist() == [2, 2.25, 2.5]
    assert (times(TRACE, 4, seed=1) / DAY_US).tolist() == [0, 0.25, 3, 3]


def test_a_millionth_periodic_arrival_is_still_on_time() -> None:
    assert times(Periodic(rate_per_day=86_400), 1_000_001, seed=1)[-1] == 10**12


def test_bursts_of_one_are_poisson_and_so_is_a_gamma_of_cv_one() -> None:
    poisson = times(Poisson(rate_per_day=RATE), 500, seed=7)

    assert np.array_equal(times(Burst(rate_per_day=RATE, size=1), 500, seed=7), poisson)
    # By another sampler, and so by other draws: alike in its law alone.
    gaps = np.diff(times(Gamma(rate_per_day=RATE, cv=1), N, seed=7)) / DAY_US * RATE
    assert (gaps > 1).mean() == pytest.approx(math.exp(-1), abs=4 * 0.5 / math.sqrt(N))


def test_bursts_come_together() -> None:
    at = times(Burst(rate_per_day=RATE, size=8), 20, seed=1).tolist()

    assert [at.count(moment) for moment in dict.fromkeys(at)] == [8, 8, 4]
    assert len(set(times(Burst(rate_per_day=RATE, size=10**9), 20, seed=1).tolist())) == 1


def test_a_stream_is_the_same_in_another_process() -> None:
    code = (
        "import sys, pydantic\n"
        "from streamlab.arrivals.arrival_processes import ArrivalProcessSettings, times\n"
        "read = pydantic.TypeAdapter(ArrivalProcessSettings)\n"
        "for line in sys.stdin:\n"
        "    print(times(read.validate_json(line), 4, seed=5).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="".join(process.model_dump_json() + "\n" for process in ALL),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "99", "PYTHONPATH": str(Path(__file__).parents[2])},
    )

    here = [str(times(process, 4, seed=5).tolist()) for process in ALL]
    assert done.stdout.splitlines() == here


def test_these_are_the_draws_on_every_machine() -> None:
    """Golden: a library that draws otherwise would give recorded scenarios other streams."""
    assert times(Poisson(rate_per_day=1), 3, seed=1).tolist() == [
        92_709_707_879,
        119_360_059_531,
        583_797_805_324,
    ]
    assert times(Gamma(rate_per_day=1, cv=2), 3, seed=1).tolist() == [
        23_716_372_237,
        619_175_259_740,
        630_274_042_427,
    ]


def test_arrivals_that_are_out_of_reach_are_refused_with_the_way_out() -> None:
    slow = Poisson(rate_per_day=1e-7)

    with pytest.raises(UsageError, match=r"last of 100 tasks .* 100,000,000 days\. Raise the rate"):
        times(slow, 100, seed=1)
    # The whole range fits 64 bits.
    latest = Trace(events=(TraceEvent(day=LAST_DAY, task="a"),))
    assert times(latest, 1, seed=1).tolist() == [int(LAST_DAY) * DAY_US]


def test_a_trace_that_is_too_short_or_was_not_read_is_told() -> None:
    with pytest.raises(ValueError, match="has 4 arrivals, but 5 were requested"):
        times(TRACE, 5, seed=1)
    with pytest.raises(ValueError, match=r"'t\.csv' has not been read"):
        times(Trace(file="t.csv"), 1, seed=1)


@pytest.mark.parametrize(
    "tree",
    [
        {"process": "poison", "rate_per_day": 1},
        {"rate_per_day": 1},
        {"process": "poisson"},
        {"process": "poisson", "rate_per_day": 0},
        {"process": "poisson", "rate_per_day": 1, "cv": 2},
        {"process": "gamma", "rate_per_day": 1},
        {"process": "gamma", "rate_per_day": 1, "cv": 0},
        {"process": "gamma", "rate_per_day": 1, "cv": 1e300},
        {"process": "burst", "rate_per_day": 1, "size": 0},
        {"process": "periodic", "rate_per_day": 1, "first_day": -1},
        {"process": "as_listed", "rate_per_day": 1},
        {"process": "trace"},
        {"process": "trace", "file": "a.csv", "events": []},
        {"process": "trace", "events": [{"day": -1, "task": "a"}]},
    ],
)
def test_settings_that_mean_nothing_are_refused(tree: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        READ.validate_python(tree)


@pytest.mark.parametrize("process", ALL, ids=named)
def test_settings_are_read_back_as_they_were(process: ArrivalProcess) -> None:
    assert READ.validate_json(process.model_dump_json()) == process
