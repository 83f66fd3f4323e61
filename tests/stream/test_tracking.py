"""`tracking`: what arrives in real trackers, and that no tracker decides anything."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from stream_samples import Lab, carry_out, make_lab, only, stored

from streamlab.errors import UsageError
from streamlab.home.folder import Home
from streamlab.home.purge import carry_out as carry_out_purge
from streamlab.home.purge import plan
from streamlab.methods.training_loop import N_EVALUATIONS
from streamlab.registry.registry import Registry
from streamlab.stream.engine import run
from streamlab.tracking import Ending, SeriesInfo

STEPS = 12
Point = tuple[str, str, int]  # series, name, step
logged: list[Point] = []
ended: list[tuple[str, Ending]] = []


class Listed:
    """A tracker of one's own that keeps what it is given."""

    def __init__(self, name: str) -> None:
        self._name = name

    def log(self, step: int, values: Mapping[str, float]) -> None:
        logged.extend((self._name, name, step) for name in values)

    def finish(self, ending: Ending) -> None:
        ended.append((self._name, ending))


def begin(info: SeriesInfo) -> Listed:
    logged[:] = [point for point in logged if point[0] != info.name]
    return Listed(info.name)


class Breaks(Listed):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step > 3:
            raise ConnectionError("the server is gone")
        super().log(step, values)


def begin_breaking(info: SeriesInfo) -> Breaks:
    return Breaks(info.name)


@pytest.fixture(autouse=True)
def _nothing_logged() -> None:
    logged.clear()
    ended.clear()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """The import path of this file's tracker."""
    import sys

    monkeypatch.setitem(sys.modules, "own_tracker", sys.modules[__name__])
    return "own_tracker:begin"


def scenario(lab: Lab, *tracking: str, **changes: Any) -> Path:
    changes = only("mood", "same") | changes
    return lab.scenario(tracking=list(tracking), **changes)


def by_step(series: str, name: str) -> list[int]:
    return [step for one, what, step in logged if (one, what) == (series, name)]


def test_every_step_is_logged_once_and_every_tenth_of_them_is_evaluated(
    lab: Lab, own: str, tmp_path: Path
) -> None:
    carry_out(scenario(lab, own), tmp_path / "home")

    for series in ("1,press,mood,1,diff_pruning", "1,school,same,1,diff_pruning"):
        assert by_step(series, "loss") == list(range(1, STEPS + 1))
        assert len(by_step(series, "held_back/loss")) == N_EVALUATIONS
        assert by_step(series, "dev/accuracy") == by_step(series, "file_bytes") == [STEPS]
        assert (series, "finished") in ended


def test_a_run_that_is_resumed_logs_no_step_twice(lab: Lab, own: str, tmp_path: Path) -> None:
    steps = itertools.count()

    def interrupt(*_: object) -> None:
        if next(steps) == STEPS + 5:  # in the second training
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(scenario(lab, own), tmp_path / "home", watch=interrupt)
    assert [ending for _, ending in ended] == ["finished", "interrupted"]
    carry_out(scenario(lab, own), tmp_path / "home", resume=True)

    assert max(Counter(logged).values()) == 1
    assert by_step("1,school,same,1,diff_pruning", "loss") == list(range(1, STEPS + 1))


def test_a_run_may_be_resumed_with_another_tracker(lab: Lab, own: str, tmp_path: Path) -> None:
    outcomes = run(scenario(lab), tmp_path / "home")
    next(outcomes)
    outcomes.close()

    ran = carry_out(scenario(lab, own), tmp_path / "home", resume=True)

    assert [outcome.record.task for outcome in ran.outcomes] == ["same"]
    assert {series for series, _, _ in logged} == {"1,school,same,1,diff_pruning"}


def test_a_tracker_changes_no_stored_bit(lab: Lab, own: str, tmp_path: Path) -> None:
    plain, followed = Home(tmp_path / "plain"), Home(tmp_path / "followed")

    carry_out(scenario(lab), plain.path)
    carry_out(scenario(lab, own), followed.path)

    assert stored(plain) == stored(followed)


def test_a_tracker_that_fails_is_left_out_with_one_notice(
    lab: Lab, own: str, tmp_path: Path
) -> None:
    notices: list[str] = []

    ran = carry_out(
        scenario(lab, "own_tracker:begin_breaking", own),
        tmp_path / "home",
        notice=notices.append,
    )

    assert [outcome.record.status for outcome in ran.outcomes] == ["finished"] * 2
    assert notices == [
        "`tracking` goes on without 'own_tracker:begin_breaking', which failed with "
        "ConnectionError: the server is gone. The run itself is not affected."
    ]
    assert by_step("1,school,same,1,diff_pruning", "loss") == list(range(1, STEPS + 1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "Unknown tracker 'tensorbord'. Did you mean `tensorboard`"),
        ("mlflow", "names 'mlflow', and its package is not installed. Install it with"),
    ],
)
def test_a_tracker_that_cannot_be_used_is_refused_before_anything_is_written(
    name: str, message: str, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlab.tracking.find_spec", lambda _name: None)

    with pytest.raises(UsageError, match=message):
        carry_out(scenario(lab, name), tmp_path / "home")
    assert not (tmp_path / "home").exists()


def events(folder: Path) -> dict[str, list[int]]:
    """Return the steps of every scalar in a folder of event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    return {tag: [e.step for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def stop_and_resume(path: Path, home: Path) -> None:
    """Run a scenario, interrupted in its second training."""
    steps = itertools.count()

    def interrupt(*_: object) -> None:
        if next(steps) == STEPS + 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(path, home, watch=interrupt)
    carry_out(path, home, resume=True)


def test_tensorboard_has_every_step_once_even_after_a_resume(lab: Lab, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    home = Home(tmp_path / "home")

    stop_and_resume(scenario(lab, "tensorboard"), home.path)

    folders = sorted((home.tracking / "tensorboard" / "tiny-1").iterdir())
    assert [folder.name for folder in folders] == [
        "1,press,mood,1,diff_pruning",
        "1,school,same,1,diff_pruning",
    ]
    for folder in folders:
        found = events(folder)
        assert found["loss"] == list(range(1, STEPS + 1))
        assert found["dev/accuracy"] == [STEPS]
        assert len(found["held_back/score"]) == N_EVALUATIONS


def test_a_purge_of_a_provider_takes_its_event_files(lab: Lab, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    home = Home(tmp_path / "home")
    carry_out(scenario(lab, "tensorboard"), home.path)

    with Registry.open(home.registry_url, clock=lambda: 1e9) as registry:
        from streamlab.home.store_location import find_store

        store = find_store(home, registry, None)
        carry_out_purge(registry, store, home, plan(registry, store, home, provider="press"))

    left = [folder.name for folder in (home.tracking / "tensorboard" / "tiny-1").iterdir()]
    assert left == ["1,school,same,1,diff_pruning"]


def test_trackio_has_every_step_once_even_after_a_resume(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trackio")
    from trackio import sqlite_storage, utils

    for module in (sqlite_storage, utils):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")

    stop_and_resume(scenario(lab, "trackio"), tmp_path / "home")

    storage = sqlite_storage.SQLiteStorage
    names = storage.get_runs("tiny")
    assert sorted(name.partition(" ")[0] for name in names) == [
        "1,press,mood,1,diff_pruning",
        "1,school,same,1,diff_pruning",
    ]
    for name in names:
        rows = storage.get_logs("tiny", name)
        assert [row["step"] for row in rows if "loss" in row] == list(range(1, STEPS + 1))
        assert [row["step"] for row in rows if "dev/accuracy" in row] == [STEPS]
    assert capsys.readouterr().out == ""
