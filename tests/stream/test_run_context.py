"""A new version of a task is a new draw of its rows, and is learnt as a task of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stream_samples import Lab, arrivals_in, carry_out, only, scores_in, task, write_rows

from streamlab.base import load_base
from streamlab.errors import DataError
from streamlab.stream import run_context
from streamlab.stream.run_context import EncodedTask, Recent, RunContext, SharedWork
from streamlab.stream.scenario import load_scenario
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.tasks.load import TaskExamples, read_task


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
    context.prepare()

    assert [task.name for task in context.tasks()] == ["mood", "same"]


def test_of_many_values_those_used_last_are_held_up_to_a_weight() -> None:
    made: list[int] = []

    def make(n: int) -> int:
        made.append(n)
        return n

    recent: Recent[int, int] = Recent(lambda weight: weight, most=10)
    for key in (4, 5, 4, 3, 4, 5, 99, 4):
        assert recent.get(key, lambda n=key: make(n)) == key  # type: ignore[misc]

    assert made == [4, 5, 3, 5, 99, 4]  # 5 left for 3, 3 for 5, all for 99, and 99 for 4


def test_a_source_is_read_once_and_examples_that_are_no_longer_held_are_drawn_again_alike(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def counted(name: str, *given: Any, **options: Any) -> TaskExamples:
        reads.append(name)
        return read_task(name, *given, **options)

    monkeypatch.setattr(run_context, "read_task", counted)
    path = lab.scenario(name="many-rounds", **again(20))
    plain, stream = make_world(path)
    monkeypatch.setattr(run_context, "_MOST_ENCODED", 100)
    small, _ = make_world(path)

    for context in (plain, small):
        context.prepare()
    before = [plain.encoded(arrival) for arrival in stream]
    after = [small.encoded(arrival) for arrival in stream]

    assert sorted(reads) == 2 * ["mood"] + 2 * ["same"]
    assert [task.data for task in after] == [task.data for task in before]
    assert all(plain.encoded(a) is task for a, task in zip(stream, before, strict=True))
    assert small.encoded(stream[0]) is not after[0]


def test_a_version_that_cannot_be_learnt_from_is_found_before_the_run(lab: Lab) -> None:
    rows = [{"text": f"the film was {n}", "label": int(n == 7)} for n in range(200)]
    for split in ("train", "dev"):
        write_rows(lab.folder / "rows" / "lopsided" / f"{split}.jsonl", rows)
    tree = lab.tree(name="lopsided", tasks={"lopsided": task("lopsided", max_train_examples=120)})
    tree["providers"] = {"press": {"tasks": ["lopsided"], "n_arrivals": 40}}
    context, (first, *_) = make_world(lab.write(tree))

    assert len(context.loaded(first).train) == 120
    with pytest.raises(DataError, match=r"sampled to learn from .* every label is '0'"):
        context.prepare()


def test_versions_are_learnt_and_stored_side_by_side(lab: Lab, tmp_path: Path) -> None:
    path = lab.scenario(name="versions", **again(2))

    ran = carry_out(path, tmp_path / "home")

    records = arrivals_in(ran.home)
    assert [(r.sequence, r.task, r.version) for r in records] == [
        *((0, "mood", 1), (1, "same", 1), (2, "mood", 2)),
    ]
    assert len({r.digest for r in records}) == 3
    assert all(s.n_examples for s in scores_in(ran.home))


def test_runs_that_share_their_work_read_and_tokenise_equal_examples_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def read_and_note(name: str, *args: Any, **options: Any) -> TaskExamples:
        read.append(name)
        return read_task(name, *args, **options)

    monkeypatch.setattr(run_context, "read_task", read_and_note)
    shared = SharedWork()

    def first_of(**changes: Any) -> EncodedTask:
        """Return the first arrival's examples in a scenario with other settings of training."""
        tree = lab.tree(name="shared", **again(1))
        tree["defaults"]["training"] |= changes
        loaded = load_scenario(lab.write(tree))
        base = load_base(loaded.scenario.base, seed=1)
        context = RunContext(loaded.scenario, base, loaded.folder, shared=shared)
        return context.encoded(arrivals(loaded.scenario)[0])

    one = first_of()

    assert first_of(learning_rate=1e-4) is one
    assert read == ["mood"]
    shorter = first_of(max_length=4)
    assert shorter.dev.max_length == 4
    assert shorter.data == one.data
    assert read == ["mood", "mood"]
