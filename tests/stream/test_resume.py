"""A run that was stopped, however it was stopped, goes on to the end it would have had."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from stream_samples import (
    Elsewhere,
    Lab,
    Ran,
    arrivals_in,
    carry_out,
    make_lab,
    only,
    runs_in,
    scores_in,
    stored,
)

from streamlab.errors import BaseMismatchError, DataError, UsageError
from streamlab.home.folder import Home
from streamlab.methods.api import Progress
from streamlab.registry.arrivals import Arrivals
from streamlab.registry.records import ArrivalRecord, NewArrival, NewDiff, NewScore
from streamlab.stream.engine import run
from streamlab.stream.schedule import Arrival

Score = tuple[str, str, str, int, float]


def facts(home: Home) -> tuple[list[tuple[str, str | None, int]], set[Score]]:
    """Return what must be the same however often a run was stopped."""
    rows = [(row.task, row.digest, row.sequence) for row in arrivals_in(home, status="finished")]
    scores = scores_in(home)
    found = {(s.task, s.metric, s.split, s.after_sequence, s.value) for s in scores}
    assert len(found) == len(scores)
    return rows, found


def test_a_killed_run_goes_on_and_ends_as_if_it_had_never_been_killed(
    plain: Ran, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    home = Home(shutil.copytree(elsewhere.killed.path, tmp_path / "home"))
    assert [row.task for row in arrivals_in(home)] == ["mood"]
    assert len(stored(home)) == 1
    assert [record.status for record in runs_in(home)] == ["stale"]

    expected: list[int] = []
    outcomes = list(
        run(plain.path, home.path, resume=True, started=lambda _r, _w, n: expected.append(n))
    )

    assert expected == [2]
    assert [(o.arrival.task, o.record.attempt) for o in outcomes] == [("same", 1), ("degree", 1)]
    assert [(record.name, record.status) for record in runs_in(home)] == [("plain-1", "finished")]
    assert facts(home) == facts(plain.home)
    assert stored(home) == stored(plain.home)


def test_a_run_stopped_between_a_file_and_its_row_makes_the_same_file_again(
    plain: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Arrivals.add

    def stop_before_the_row(
        self: Arrivals, arrival: NewArrival, diff: NewDiff, scores: Sequence[NewScore]
    ) -> ArrivalRecord:
        """Stop when the second arrival's file is stored and its row is due."""
        if arrival.sequence == 1:
            raise KeyboardInterrupt
        return add(self, arrival, diff, scores)

    home = Home(tmp_path / "home")
    with monkeypatch.context() as patched:
        patched.setattr(Arrivals, "add", stop_before_the_row)
        with pytest.raises(KeyboardInterrupt):
            list(run(plain.path, home.path))
    assert len(stored(home)) == 2
    assert [row.task for row in arrivals_in(home)] == ["mood"]

    list(run(plain.path, home.path, resume=True))

    assert facts(home) == facts(plain.home)
    assert stored(home) == stored(plain.home)


def test_a_run_stopped_while_it_scores_again_goes_on_with_the_scores_that_are_missing(
    plain: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_scores = Arrivals.add_scores

    def stop_scoring(self: Arrivals, arrival_id: int, new_scores: Sequence[NewScore]) -> None:
        """Stop when the second of two earlier arrivals is to be scored after the last."""
        if new_scores[0].after_sequence == 2 and arrival_id == 2:
            raise KeyboardInterrupt
        add_scores(self, arrival_id, new_scores)

    home = Home(tmp_path / "home")
    with monkeypatch.context() as patched:
        patched.setattr(Arrivals, "add_scores", stop_scoring)
        with pytest.raises(KeyboardInterrupt):
            list(run(plain.path, home.path))

    assert len(arrivals_in(home)) == 3
    assert len(scores_in(home)) == len(scores_in(plain.home)) - 1
    assert list(run(plain.path, home.path, resume=True)) == []
    assert facts(home) == facts(plain.home)
    assert [record.status for record in runs_in(home)] == ["finished"]


def test_a_run_interrupted_in_training_says_so_and_goes_on(lab: Lab, tmp_path: Path) -> None:
    def interrupt(arrival: Arrival, progress: Progress) -> None:
        if arrival.task == "degree" and progress.step == 2:
            raise KeyboardInterrupt

    path = lab.scenario(name="interrupted", **only("mood", "degree"))
    with pytest.raises(KeyboardInterrupt):
        list(run(path, tmp_path / "home", watch=interrupt))
    home = Home(tmp_path / "home")
    (stopped,) = runs_in(home)
    curves = [path.name for path in (home.curves / "interrupted-1").iterdir()]

    (outcome,) = run(path, home.path, resume=True)

    assert stopped.status == "interrupted"
    assert stopped.reason == "stopped from outside; `--resume` continues it"
    assert curves == ["1,press,mood,1,diff_pruning.jsonl"]
    assert outcome.arrival.task == "degree"
    (record,) = runs_in(home)
    assert (record.status, record.reason) == ("finished", None)


def test_a_generator_closed_early_leaves_an_interrupted_run(lab: Lab, tmp_path: Path) -> None:
    outcomes = run(lab.scenario(name="closed", **only("mood", "degree")), tmp_path / "home")
    next(outcomes)
    outcomes.close()

    assert [record.status for record in runs_in(Home(tmp_path / "home"))] == ["interrupted"]


def test_a_caller_that_breaks_down_when_told_of_the_run_leaves_an_ended_run(
    lab: Lab, tmp_path: Path
) -> None:
    def started(*_: object) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        list(run(lab.scenario(), tmp_path / "home", started=started))

    (record,) = runs_in(Home(tmp_path / "home"))
    assert (record.status, record.reason) == ("failed", "nobody reads")


@pytest.fixture(scope="module")
def stopped(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of two tasks that was closed after the first; to be copied."""
    path = lab.scenario(name="stopped", **only("mood", "degree"))
    home = tmp_path_factory.mktemp("stopped") / "home"
    outcomes = run(path, home)
    first = next(outcomes)
    outcomes.close()
    return Ran(path, Home(home), (first,))


def test_another_scenario_is_not_resumed(lab: Lab, stopped: Ran, tmp_path: Path) -> None:
    home = shutil.copytree(stopped.home.path, tmp_path / "home")
    setting = lab.tree(name="stopped", evaluation="full", **only("mood", "degree"))
    order = lab.tree(name="stopped", **only("degree", "mood"))

    for tree in (setting, order):
        with pytest.raises(UsageError, match="no unfinished run of this scenario"):
            list(run(lab.write(tree, file="changed.yaml"), home, resume=True))

    assert [record.status for record in runs_in(Home(home))] == ["interrupted"]
    assert len(arrivals_in(Home(home))) == 1


def test_without_resume_a_new_run_trains_everything_again(stopped: Ran, tmp_path: Path) -> None:
    home = shutil.copytree(stopped.home.path, tmp_path / "home")

    again = carry_out(stopped.path, home)

    assert [outcome.arrival.task for outcome in again.outcomes] == ["mood", "degree"]
    assert {outcome.record.n_steps for outcome in again.outcomes} == {12}
    states = [(record.name, record.status) for record in runs_in(again.home)]
    assert states == [("stopped-1", "interrupted"), ("stopped-2", "finished")]
    assert [row.run for row in arrivals_in(again.home)] == ["stopped-1", "stopped-2", "stopped-2"]


def test_a_finished_run_is_not_resumed(plain: Ran, tmp_path: Path) -> None:
    home = shutil.copytree(plain.home.path, tmp_path / "home")

    with pytest.raises(UsageError, match="no unfinished run"):
        list(run(plain.path, home, resume=True))

    assert len(runs_in(Home(home))) == 1


def test_with_nothing_to_resume_no_home_is_made(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no unfinished run of this scenario"):
        list(run(lab.scenario(), tmp_path / "home", resume=True))

    assert not (tmp_path / "home").exists()


def test_a_run_is_not_resumed_on_another_base(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    path = lab.scenario(**only("mood", "degree"))
    outcomes = run(path, tmp_path / "home")
    next(outcomes)
    outcomes.close()
    weights = load_file(lab.base / "model.safetensors")
    name = "encoder.layer.0.output.dense.bias"
    save_file(
        weights | {name: torch.full_like(weights[name], 0.5)},
        lab.base / "model.safetensors",
        metadata={"format": "pt"},
    )

    with pytest.raises(BaseMismatchError, match=r"The run `tiny-1` is on the base .* now holds"):
        list(run(path, tmp_path / "home", resume=True))

    assert [record.status for record in runs_in(Home(tmp_path / "home"))] == ["interrupted"]


@pytest.mark.parametrize(
    ("task", "refused"),
    [("mood", True), ("degree", False)],
    ids=["of a recorded arrival", "of one still to come"],
)
def test_a_run_is_not_resumed_on_other_examples_of_what_is_recorded(
    tmp_path: Path, task: str, refused: bool
) -> None:
    lab = make_lab(tmp_path)
    path = lab.scenario(**only("mood", "degree"))
    outcomes = run(path, tmp_path / "home")
    next(outcomes)
    outcomes.close()
    examples = lab.folder / "rows" / task / "dev.jsonl"
    examples.write_text("".join(examples.read_text().splitlines(keepends=True)[1:]))

    resumed = run(path, tmp_path / "home", resume=True)

    if refused:
        with pytest.raises(DataError, match=r"examples of `mood` .* the run `tiny-1` began with"):
            list(resumed)
        assert [run.status for run in runs_in(Home(tmp_path / "home"))] == ["interrupted"]
    else:
        assert [outcome.arrival.task for outcome in resumed] == ["degree"]
