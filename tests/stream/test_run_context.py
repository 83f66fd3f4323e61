"""A new version of a task is a new draw of its rows, and is learnt as a task of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stream_samples import Lab, arrivals_in, carry_out, only, scores_in

from streamlab.base import load_base
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import load_scenario
from streamlab.stream.schedule import Arrival, arrivals


def again(n_arrivals: int, **changes: Any) -> dict[str, Any]:
    """Return the parts of a scenario in which `mood` arrives several times."""
    some = only("mood", "same")
    some["providers"]["press"] |= {"n_arrivals": n_arrivals}
    return {**some, "data": {"sources": [], "max_train_examples": 12}} | changes


def make_world(path: Path) -> tuple[RunContext, list[Arrival]]:
    loaded = load_scenario(path)
    base = load_base(loaded.scenario.base, seed=1)
    return RunContext(loaded.scenario, base, loaded.folder), arrivals(loaded.scenario)


def test_every_version_has_rows_of_its_own_and_is_scored_on_the_same(lab: Lab) -> None:
    path = lab.scenario(name="rounds", **again(3, baselines=["head_only"]))
    context, stream = make_world(path)

    mood = [a for a in stream if a.task == "mood"]
    drawn = [context.encoded(a) for a in mood[::2]]

    assert [a.version for a in mood] == [1, 1, 2, 2, 3, 3]
    assert [len(task.data.train) for task in drawn] == [12, 12, 12]
    assert len({task.data.train for task in drawn}) == 3
    assert len({task.data.validation for task in drawn}) == 3
    assert len({task.data.dev for task in drawn}) == 1
    assert all(context.loaded(a) is context.encoded(a).data for a in mood)
    # Baselines learn the same rows, and nothing is encoded twice.
    assert all(
        context.encoded(a) is context.encoded(b) for a, b in zip(mood[::2], mood[1::2], strict=True)
    )


def test_a_first_version_is_what_it_was_before_there_were_others(lab: Lab) -> None:
    single, (first, *_) = make_world(lab.scenario(name="single", **again(1)))
    several, (same, *_) = make_world(lab.scenario(name="several", **again(4)))

    assert single.encoded(first).data == several.encoded(same).data


def test_tasks_are_told_once_however_often_they_arrive(lab: Lab) -> None:
    context, _ = make_world(lab.scenario(name="told", **again(3)))
    context.prepare(1)

    assert [task.name for task in context.tasks()] == ["mood", "same"]


def test_versions_are_learnt_and_stored_side_by_side(lab: Lab, tmp_path: Path) -> None:
    path = lab.scenario(name="versions", **again(2))

    ran = carry_out(path, tmp_path / "home")

    records = arrivals_in(ran.home)
    assert [(r.sequence, r.task, r.version) for r in records] == [
        *((0, "mood", 1), (1, "same", 1), (2, "mood", 2)),
    ]
    assert len({r.digest for r in records}) == 3
    assert all(s.n_examples for s in scores_in(ran.home))
