"""An arrival that breaks down is recorded and passed over; a broken disk or base ends the run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from stream_samples import Lab, Ran, arrivals_in, only, runs_in, scores_in, stored, task

from streamlab.errors import BaseMismatchError, StoreError, TrainingError
from streamlab.home import store_location
from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.methods import DiffPruning
from streamlab.methods.api import SparseChange, TrainingJob
from streamlab.stream.engine import run

FULL = Path("/dev/full")  # a device of Linux on which every write finds the disk full


def test_a_task_whose_loss_is_not_finite_fails_alone_and_is_tried_again_on_resume(
    lab: Lab, plain: Ran, tmp_path: Path
) -> None:
    tree = lab.tree(name="broken", evaluation="full")
    tree["tasks"]["same"] = task("same", training={"learning_rate": 1e30})
    path, home = lab.write(tree), Home(tmp_path / "home")

    outcomes = list(run(path, home.path))

    assert [outcome.record.status for outcome in outcomes] == ["finished", "failed", "finished"]
    failed = outcomes[1]
    assert (failed.diff, failed.scores, failed.record.digest) == (None, (), None)
    assert failed.record.reason is not None
    assert failed.record.reason.startswith("The loss of `same` became nan at step ")
    assert "Lower `training.learning_rate`" in failed.record.reason
    (record,) = runs_in(home)
    assert record.status == "failed"
    assert record.reason == "1 of 3 arrivals failed; `--resume` tries them again"
    assert len(list((home.curves / "broken-1").iterdir())) == 2
    # The others end as they do beside a task that works.
    digests = {row.task: row.digest for row in arrivals_in(plain.home)}
    kept = {row.task: row.digest for row in arrivals_in(home, status="finished")}
    assert kept == {name: digests[name] for name in ("mood", "degree")}

    (again,) = run(path, home.path, resume=True)

    assert (again.record.task, again.record.status, again.record.attempt) == ("same", "failed", 2)
    assert [row.attempt for row in arrivals_in(home, status="failed")] == [1, 2]
    (record,) = runs_in(home)
    assert record.reason == "1 of 3 arrivals failed; `--resume` tries them again"


def test_a_second_attempt_that_works_ends_as_if_the_first_had(
    plain: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = DiffPruning.train

    def breaks_on_same(self: DiffPruning, job: TrainingJob) -> SparseChange:
        if job.task == "same":
            raise TrainingError("It broke.")
        return learn(self, job)

    home = Home(tmp_path / "home")
    with monkeypatch.context() as patched:
        patched.setattr(DiffPruning, "train", breaks_on_same)
        list(run(plain.path, home.path))

    (outcome,) = run(plain.path, home.path, resume=True)

    assert (outcome.record.task, outcome.record.attempt) == ("same", 2)
    assert [record.status for record in runs_in(home)] == ["finished"]
    assert stored(home) == stored(plain.home)
    assert matrix(home) == matrix(plain.home)


def matrix(home: Home) -> set[tuple[Any, ...]]:
    return {(s.task, s.metric, s.split, s.after_sequence, s.value) for s in scores_in(home)}


def test_a_model_whose_outputs_are_not_finite_fails_alone(lab: Lab, tmp_path: Path) -> None:
    # One step: the loss was taken before it, and is fine.
    ruinous = {"learning_rate": 1e30, "epochs": 0.25, "min_steps": 1}
    tree = lab.tree(name="ruined", **only("mood", "degree"))
    tree["tasks"]["mood"]["training"] = ruinous
    tree["defaults"]["method"] = {"name": "full_finetuning"}

    outcomes = list(run(lab.write(tree), tmp_path / "home"))

    assert [outcome.record.status for outcome in outcomes] == ["failed", "finished"]
    assert outcomes[0].record.reason is not None
    assert "outputs hold NaN or infinity" in outcomes[0].record.reason


def test_a_method_that_writes_to_the_base_ends_the_run(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: DiffPruning, job: TrainingJob) -> SparseChange:
        next(iter(job.base.values())).view(-1)[0] += 1.0
        return learn(self, job)

    learn = DiffPruning.train
    monkeypatch.setattr(DiffPruning, "train", spoil)

    with pytest.raises(BaseMismatchError, match="was changed in memory"):
        list(run(lab.scenario(name="spoilt", **only("mood")), tmp_path / "home"))

    home = Home(tmp_path / "home")
    assert arrivals_in(home) == ()
    (record,) = runs_in(home)
    assert record.status == "failed"
    assert record.reason is not None
    assert "was changed in memory" in record.reason


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_full(_: Path) -> BinaryIO:
        return FULL.open("wb")

    path, home = lab.scenario(name="full", **only("mood")), Home(tmp_path / "home")
    with monkeypatch.context() as patched:
        patched.setattr(store_location, "FolderStore", partial(FolderStore, opener=open_full))
        with pytest.raises(StoreError, match="the disk is full"):
            list(run(path, home.path))

    assert stored(home) == {}
    assert arrivals_in(home) == ()
    assert [record.status for record in runs_in(home)] == ["failed"]
    (outcome,) = run(path, home.path, resume=True)
    assert outcome.record.attempt == 1
    assert [record.status for record in runs_in(home)] == ["finished"]
