"""Attempts at an arrival have times of their own, and a run that goes on tells the same story."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from stream_samples import Lab, arrivals_in, carry_out, only, reading, runs_in, stored, task

from streamlab.errors import UsageError
from streamlab.seeds import derived_seed
from streamlab.stream.engine import run
from streamlab.stream.executors import serial as executors
from streamlab.stream.lab import Attempt, Outcome, Times
from streamlab.stream.lab import Lab as LabOfRun
from streamlab.stream.providers.behaviours import BehaviourSettings, draw
from streamlab.stream.providers.provider import Answer, Order, Watch, answer
from streamlab.stream.run_context import RunContext
from streamlab.stream.schedule import Arrival

FIXED = {"service": "fixed", "seconds": 10}
S = 1_000_000


def crashing_twice(task_name: str, provider: str) -> int:
    """Return a seed with which this provider crashes at two attempts, and not at the third."""
    settings = BehaviourSettings(crash=0.5)
    for seed in range(1, 1000):
        drawn = [
            draw(settings, derived_seed("behaviour", seed, provider, task_name, 1, number))
            for number in (1, 2, 3)
        ]
        if drawn == ["crash", "crash", "honest"]:
            return seed
    raise AssertionError("no such seed")


def shaky(lab: Lab, *, attempts: int, **changes: object) -> Path:
    """Write a scenario whose second provider of two crashes twice."""
    tree = lab.tree(name=f"shaky-{attempts}", **only("mood", "same", "degree"))
    tree["seeds"] = [crashing_twice("same", "school")]
    tree["providers"]["school"]["behaviour"] = {"crash": 0.5}
    tree |= {"execution": {"attempts": attempts}, "queue": FIXED, **changes}
    return lab.write(tree)


def times(home: Path) -> list[tuple[str, int, int, int]]:
    from streamlab.home.folder import Home

    return [
        (row.task, row.attempt, (row.began_us or 0) // S, (row.ended_us or 0) // S)
        for row in arrivals_in(Home(home))
    ]


def test_attempts_follow_one_another_and_take_the_slot_together(lab: Lab, tmp_path: Path) -> None:
    carry_out(shaky(lab, attempts=3), tmp_path / "home")

    assert times(tmp_path / "home") == [
        ("mood", 1, 0, 10),
        ("same", 1, 10, 20),
        ("same", 2, 20, 30),
        ("same", 3, 30, 40),
        ("degree", 1, 40, 50),
    ]


def test_a_run_that_goes_on_after_all_attempts_keeps_the_times_that_are_recorded(
    lab: Lab, tmp_path: Path
) -> None:
    path = shaky(lab, attempts=1)

    for _ in range(3):
        carry_out(path, tmp_path / "home", resume=(tmp_path / "home").exists())

    rows = times(tmp_path / "home")
    assert [row for row in rows if row[0] == "same"] == [
        ("same", 1, 10, 20),
        ("same", 2, 10, 20),
        ("same", 3, 10, 20),
    ]
    assert [row for row in rows if row[0] == "degree"] == [("degree", 1, 20, 30)]


def test_a_place_that_was_cut_short_goes_on_where_its_attempts_ended(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, home = shaky(lab, attempts=3), tmp_path / "home"
    carry_out(path, tmp_path / "whole")
    settle = LabOfRun.settle

    def stopped(own: LabOfRun, arrival: Arrival, tried: Attempt, when: Times) -> Outcome:
        if tried.number == 2:
            raise KeyboardInterrupt
        return settle(own, arrival, tried, when)

    with monkeypatch.context() as patch:
        patch.setattr(LabOfRun, "settle", stopped)
        with pytest.raises(KeyboardInterrupt):
            carry_out(path, home)
    assert times(home)[-1] == ("same", 1, 10, 20)

    carry_out(path, home, resume=True)

    assert times(home) == times(tmp_path / "whole")


def test_a_place_that_is_over_keeps_the_time_of_its_attempts_when_the_run_goes_on(
    lab: Lab, tmp_path: Path
) -> None:
    path, home = shaky(lab, attempts=3), tmp_path / "home"
    carry_out(path, tmp_path / "whole")
    cut = run(path, home)
    for outcome in cut:
        if outcome.arrival.task == "same" and outcome.record.status == "finished":
            break
    cut.close()

    carry_out(path, home, resume=True)

    assert times(home) == times(tmp_path / "whole")


def test_a_provider_cannot_write_what_the_lab_notes(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boastful(order: Order, context: RunContext, watch: Watch) -> Answer:
        given = answer(order, context, watch)
        forged = {"service_us": -1, "probe": 1, "n_truncated": 7, "content": "x", "mine": 3}
        details = replace(given.effort.details, training=forged)
        return replace(given, effort=replace(given.effort, details=details))

    monkeypatch.setattr(executors, "answer", boastful)

    tree = lab.tree(name="boastful", baselines=[{"name": "full_finetuning"}], **only("mood"))
    ran = carry_out(lab.write(tree), tmp_path / "home")

    own, baseline = (outcome.record for outcome in ran.outcomes)
    assert (own.status, baseline.status) == ("finished", "finished")
    for record in (own, baseline):
        assert record.details.reported.training["mine"] == 3
        assert record.details.service_us is None
        assert record.details.n_truncated == 0
    assert own.details.content not in ("x", None)
    assert own.details.probe is not None
    assert (baseline.details.probe, baseline.details.content) == (None, None)


def test_a_device_is_logged_in_order_once_every_failure_has_been_made_up_for(
    lab: Lab, tmp_path: Path
) -> None:
    storage = {"budget": "1MB"}
    broken = shaky(lab, attempts=1, storage=storage)
    logs = []
    for _ in range(3):
        ran = carry_out(broken, tmp_path / "home", resume=(tmp_path / "home").exists())
        with reading(ran.home) as registry:
            logs.append(registry.placements.list(runs_in(ran.home)[0].name))

    *before, log = logs
    assert before == [(), ()]
    assert [(line.task, line.action, line.at_us // S) for line in log] == [
        ("mood", "stored", 10),
        ("same", "stored", 20),
        ("degree", "stored", 30),
    ]
    sizes = [line.device_bytes for line in log]
    assert sizes == sorted(set(sizes))


def test_what_is_not_of_the_methods_kind_is_stopped_whatever_it_says_it_is(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disguised(order: Order, context: RunContext, watch: Watch) -> Answer:
        given = answer(order, context, watch)
        changed = replace(given.submission, kind="checkpoint", data=b"no file of tensors")
        return replace(given, submission=changed)

    monkeypatch.setattr(executors, "answer", disguised)

    ran = carry_out(lab.scenario(name="disguised", **only("mood")), tmp_path / "home")

    (outcome,) = ran.outcomes
    assert (outcome.record.status, outcome.record.rule) == ("quarantined", "container")
    assert stored(ran.home) == {}


def test_a_head_of_another_task_is_stopped_before_it_is_stored(lab: Lab, tmp_path: Path) -> None:
    tree = lab.tree(name="headed", admission={"duplicates": "allow"})
    tree["tasks"] = {"degree": task("degree"), "mood": task("mood")}
    tree["providers"] = {
        "press": {"tasks": ["degree"]},
        "stranger": {"tasks": ["mood"], "behaviour": "duplicate"},
    }

    ran = carry_out(lab.write(tree), tmp_path / "home")

    first, second = ran.outcomes
    assert first.record.status == "finished"
    assert (second.record.status, second.record.rule) == ("quarantined", "container")
    assert "the head of the task has" in str(second.record.reason)
    assert len(stored(ran.home)) == 1


def test_times_drawn_from_a_history_need_one_before_anything_is_written(
    lab: Lab, tmp_path: Path
) -> None:
    path = lab.scenario(name="historic", queue={"service": "history"}, **only("mood"))

    with pytest.raises(UsageError, match="the registry has none"):
        carry_out(path, tmp_path / "home")

    assert not (tmp_path / "home").exists()
    with pytest.raises(UsageError, match="the registry has none"):
        carry_out(path, tmp_path / "home", registry_url=f"sqlite:///{tmp_path}/other.db")
    assert list(tmp_path.iterdir()) == []
