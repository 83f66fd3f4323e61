"""The figures of a stream in time: `timeline`, `queue` and `device`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from figure_samples import check_labels, check_pictures, read_csv
from large_samples import make_home, make_stream

from streamlab.figures.stream_timeline import (
    DeviceFigure,
    QueueFigure,
    TimelineFigure,
)
from streamlab.figures.style import MOST_NAMED, drawn, house_style
from streamlab.home.folder import Home
from streamlab.registry.registry import Registry
from streamlab.views.run_source import RunSource

BUDGET = 20_000


def reading(home: Home) -> Registry:
    return Registry.open(home.registry_url, clock=time.time, read_only=True)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A stream in virtual time with failures, what was quarantined, and a device that fills up."""
    return make_stream(tmp_path_factory.mktemp("stream"), budget=BUDGET)


@pytest.fixture
def registry(streamed: Home) -> Iterator[Registry]:
    with reading(streamed) as opened:
        yield opened


@pytest.fixture(scope="module")
def untimed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A stream without a virtual clock or a device, from more providers than have names."""
    folder = tmp_path_factory.mktemp("untimed")
    return make_home(folder, MOST_NAMED + 12, n_failed=1, n_providers=MOST_NAMED + 5)


@pytest.fixture
def source(streamed: Home, registry: Registry) -> RunSource:
    return RunSource(registry, streamed, "latest")


def test_the_timeline_has_every_attempt_with_the_registrys_times(
    source: RunSource, registry: Registry, tmp_path: Path
) -> None:
    data = TimelineFigure.read(source)

    first, second = (data.write(tmp_path / at) for at in "ab")

    check_pictures(first, second)
    found = {
        int(row["arrival"]): (row["status"], row["arrived_us"], row["began_us"], row["ended_us"])
        for row in read_csv(first[2])
    }
    assert found == {
        a.id: (a.status, str(a.arrived_us), str(a.began_us), str(a.ended_us))
        for a in registry.arrivals.list()
    }
    assert {status for status, *_ in found.values()} == {"finished", "failed", "quarantined"}


def test_a_further_attempt_waits_from_the_end_of_the_one_before(source: RunSource) -> None:
    stays = TimelineFigure.read(source).stays

    pairs = {
        task: [stay for stay in stays if stay.arrival.task == task]
        for task in {stay.arrival.task for stay in stays if stay.arrival.attempt == 2}
    }
    assert pairs
    for one, two in pairs.values():
        assert (one.arrival.attempt, two.arrival.attempt) == (1, 2)
        assert two.arrived == one.ended
        assert one.arrived == one.arrival.arrived_us / 1e6  # type: ignore[operator]


def test_the_queue_holds_who_waits_as_long_as_they_wait(source: RunSource) -> None:
    data = QueueFigure.read(source)

    stays, rows = data.stays, data.lengths()

    assert rows[-1][1:] == (0, 0)
    assert all(n_waiting >= 0 and 0 <= n_training <= 1 for _, n_waiting, n_training in rows)
    for which, spans in (
        (1, [stay.began - stay.arrived for stay in stays]),
        (2, [stay.ended - stay.began for stay in stays]),
    ):
        area = sum(
            before[which] * (after[0] - before[0]) for before, after in itertools.pairwise(rows)
        )
        assert area == pytest.approx(sum(spans))


def test_the_device_is_its_log_and_stays_below_its_budget(
    source: RunSource, registry: Registry, tmp_path: Path
) -> None:
    every = read_csv(DeviceFigure.read(source).write(tmp_path)[2])

    rows = [row for row in every if row["action"]]
    log = registry.placements.list("latest")
    assert [(row["action"], int(row["device_bytes"]), int(row["arrival"])) for row in rows] == [
        (line.action, line.device_bytes, line.arrival_id) for line in log
    ]
    assert [float(row["seconds"]) for row in rows] == [line.at_us / 1e6 for line in log]
    assert {int(row["budget_bytes"]) for row in rows} == {BUDGET}
    assert {row["action"] for row in rows} == {"stored", "evicted"}


def test_the_device_has_hits_and_misses_of_every_policy(
    source: RunSource, registry: Registry, tmp_path: Path
) -> None:
    data = DeviceFigure.read(source)
    rows = [row for row in read_csv(data.write(tmp_path)[2]) if row["policy"]]

    found = [(row["policy"], int(row["hits"]), int(row["misses"])) for row in rows]
    assert found == [
        (one.policy, one.n_hits, one.n_misses) for one in registry.placements.requests("latest")
    ]
    _, rates = drawn(data.draw).axes
    assert [label.get_text() for label in rates.get_yticklabels()] == [row[0] for row in found]
    bars = [bar.get_width() for bar in rates.patches]
    assert bars == [pytest.approx(100 * hits / (hits + misses)) for _, hits, misses in found]


def test_steps_go_on_past_the_last_change_to_the_end_of_the_axis(source: RunSource) -> None:
    for kind in (QueueFigure, DeviceFigure):
        axes = drawn(kind.read(source).draw).axes[0]
        x = axes.get_lines()[0].get_xdata()
        assert x[-1] >= axes.get_xlim()[1] * 0.999
        assert x[-1] > x[-2]


def test_the_timeline_names_the_tasks_below_their_provider(source: RunSource) -> None:
    data = TimelineFigure.read(source)
    few = replace(data, stays=data.stays[:12])

    names = [label.get_text() for label in drawn(few.draw).axes[0].get_yticklabels()]

    tasks = {(stay.arrival.provider, stay.arrival.task) for stay in few.stays}
    providers = {provider for provider, _ in tasks}
    assert len(names) == len(tasks) + len(providers)
    assert set(names) == providers | {task for _, task in tasks}


def test_without_a_clock_nothing_waits_and_without_a_device_all_is_kept(untimed: Home) -> None:
    with reading(untimed) as opened:
        data = DeviceFigure.read(RunSource(opened, untimed, "latest"))
        arrivals = opened.primary_stream("latest").arrivals
        sizes = [opened.artifacts.get(arrival.digest or "").file_bytes for arrival in arrivals]

    assert data.clock == "real"
    assert all(stay.arrived == stay.began for stay in data.stays)
    assert "no virtual time was recorded" in data.head
    assert (data.is_simulated, data.budget) == (False, None)
    assert data.changes[-1].device_bytes == sum(sizes)


def test_attempts_without_virtual_times_are_counted_beside_those_that_have_them(
    registry: Registry,
) -> None:
    first, *others = registry.arrivals.list()
    lost = replace(first, arrived_us=None, began_us=None, ended_us=None)

    data = TimelineFigure.of(registry.primary_stream("latest"), [lost, *others])

    assert (data.clock, data.n_untimed, len(data.stays)) == ("virtual", 1, len(others))
    assert "1 attempts have no virtual time" in data.head


@pytest.mark.parametrize("which", ["streamed", "untimed"])
def test_no_two_labels_overlap_in_time(which: str, request: pytest.FixtureRequest) -> None:
    home = request.getfixturevalue(which)
    with reading(home) as opened, house_style():
        source = RunSource(opened, home, "latest")
        for kind in (TimelineFigure, QueueFigure, DeviceFigure):
            check_labels(kind.read(source).draw())


def test_of_very_many_providers_the_busiest_have_rows(untimed: Home) -> None:
    with reading(untimed) as opened, house_style():
        figure = TimelineFigure.read(RunSource(opened, untimed, "latest")).draw()

    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    # The first seven brought two tasks, all others one.
    assert len(names) == MOST_NAMED
    assert names[:7] == [f"provider_{n}" for n in range(7)]
