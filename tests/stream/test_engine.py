"""What a run yields and leaves behind; runs that break or are stopped are in other files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from stream_samples import (
    Lab,
    Ran,
    arrivals_in,
    carry_out,
    make_lab,
    only,
    reading,
    runs_in,
    scores_in,
)

from streamlab.base import load_base
from streamlab.home.curves import curve_path, read_curve
from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.library.home import open_home
from streamlab.methods.api import Progress
from streamlab.registry.records import ArrivalRecord, RunRecord
from streamlab.stream.engine import run
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import load_scenario
from streamlab.stream.schedule import Arrival, arrivals

METHODS = ("diff_pruning", "full_finetuning", "head_only")
TASKS = ("mood", "same", "degree")


def test_outcomes_come_seed_by_seed_task_by_task_with_the_baselines_after_the_method(
    many: Ran,
) -> None:
    order = [(o.arrival.seed, o.arrival.task, o.arrival.method.name) for o in many.outcomes]

    assert order == [(s, t, m) for s in (1, 2) for t in TASKS for m in METHODS]


def test_every_arrival_has_one_row_which_its_outcome_carries(many: Ran) -> None:
    rows = arrivals_in(many.home)

    assert sorted(row.id for row in rows) == [o.record.id for o in many.outcomes]
    assert {row.id: row for row in rows} == {o.record.id: o.record for o in many.outcomes}
    assert {(row.status, row.attempt, row.reason) for row in rows} == {("finished", 1, None)}


def test_baselines_share_place_provider_and_rows_and_leave_files_of_their_own(many: Ran) -> None:
    rows = arrivals_in(many.home)
    shared = {
        (row.seed, row.task): (
            row.sequence,
            row.provider,
            row.examples_fingerprint,
            row.n_train_examples,
        )
        for row in rows
        if row.method == "diff_pruning"
    }

    for row in rows:
        found = (row.sequence, row.provider, row.examples_fingerprint, row.n_train_examples)
        assert found == shared[row.seed, row.task]
    assert len({row.digest for row in rows}) == len(rows) == 18
    assert [shared[1, task][:2] for task in TASKS] == [(0, "press"), (1, "school"), (2, "press")]


def test_baselines_get_the_same_rows_drawn_and_another_seed_gets_others(many: Ran) -> None:
    loaded = load_scenario(many.path)
    context = RunContext(loaded.scenario, load_base(loaded.scenario.base, seed=1), loaded.folder)
    stream = [arrival for arrival in arrivals(loaded.scenario) if arrival.task == "mood"]

    drawn = {(a.seed, str(a.method.name)): context.encoded(a).data.train for a in stream}

    for seed in (1, 2):
        assert len({drawn[seed, method] for method in METHODS}) == 1
    assert drawn[1, "head_only"] != drawn[2, "head_only"]


def test_the_registry_counts_the_bytes_that_lie_in_the_store(many: Ran) -> None:
    with reading(many.home) as registry:
        diffs = registry.artifacts.list()
    store = FolderStore(many.home.store)

    assert {diff.digest for diff in diffs} == {found.digest for found in store.list()}
    for diff in diffs:
        data = store.path(diff.digest).read_bytes()
        parts = diff.positions_bytes, diff.values_bytes, diff.head_bytes, diff.metadata_bytes
        assert hashlib.sha256(data).hexdigest() == diff.digest
        assert len(data) == diff.file_bytes == sum(parts)
        assert min(parts) >= 0


def test_a_diff_keeps_the_target_and_a_checkpoint_everything(many: Ran) -> None:
    found = {}
    for outcome in many.outcomes:
        assert outcome.diff is not None
        assert sum(outcome.diff.tensor_counts) == outcome.diff.n_entries
        found[outcome.arrival.method.name] = outcome.diff

    d = found["diff_pruning"].n_gated
    assert found["diff_pruning"].n_entries == round(0.05 * d)
    assert (found["head_only"].n_entries, found["head_only"].kind) == (0, "diff")
    assert (found["full_finetuning"].n_entries, found["full_finetuning"].kind) == (d, "checkpoint")
    assert found["full_finetuning"].file_bytes == found["diff_pruning"].full_checkpoint_bytes


def test_a_full_evaluation_scores_every_earlier_arrival_after_each_and_never_differently(
    many: Ran,
) -> None:
    matrix: dict[int, dict[int, float]] = {}
    for score in scores_in(many.home):
        if score.split == "dev" and score.is_primary:
            matrix.setdefault(score.arrival_id, {})[score.after_sequence] = score.value

    assert len(matrix) == 18
    for row in arrivals_in(many.home):
        assert sorted(matrix[row.id]) == list(range(row.sequence, len(TASKS)))
        assert len(set(matrix[row.id].values())) == 1
    assert len({value for scores in matrix.values() for value in scores.values()}) > 3


def test_validation_rows_are_scored_once_only(many: Ran) -> None:
    sequence = {row.id: row.sequence for row in arrivals_in(many.home)}
    validation = [score for score in scores_in(many.home) if score.split == "validation"]

    assert all(score.after_sequence == sequence[score.arrival_id] for score in validation)
    assert {score.arrival_id for score in validation} == set(sequence)


def test_a_last_evaluation_scores_the_earlier_arrivals_after_the_last_one_of_a_seed(
    lab: Lab, tmp_path: Path
) -> None:
    tree = lab.tree(name="last", seeds=[1, 2])
    tree["tasks"]["mood"]["metric"] = ["accuracy", "f1"]

    ran = carry_out(lab.write(tree), tmp_path / "home")

    assert [outcome.n_rescored for outcome in ran.outcomes] == [0, 0, 3] * 2
    places = {
        (score.seed, score.task, score.metric, score.after_sequence)
        for score in scores_in(ran.home)
        if score.split == "dev"
    }
    assert places == {
        (seed, task, metric, after)
        for seed in (1, 2)
        for task, metric, after in (
            *(("mood", metric, after) for metric in ("accuracy", "f1") for after in (0, 2)),
            *(("same", "accuracy", after) for after in (1, 2)),
            ("degree", "pearson", 2),
        )
    }


def test_a_curve_has_a_point_for_every_step(plain: Ran) -> None:
    for outcome in plain.outcomes:
        arrival = outcome.arrival
        path = curve_path(
            plain.home.curves,
            run="plain-1",
            seed=1,
            provider=arrival.provider,
            task=arrival.task,
            version=1,
            method="diff_pruning",
        )
        points = read_curve(path)

        assert [point["step"] for point in points] == list(range(1, outcome.record.n_steps + 1))
        assert list(dict.fromkeys(p["stage"] for p in points)) == [
            "dense warm-up",
            "gated",
            "fixed mask",
        ]


def test_a_finished_run_is_recorded_with_its_scenario_base_and_environment(plain: Ran) -> None:
    (record,) = runs_in(plain.home)
    loaded = load_scenario(plain.path)
    with reading(plain.home) as registry:
        base = registry.bases.get(record.base_fingerprint)

    assert (record.name, record.status, record.reason) == ("plain-1", "finished", None)
    assert record.scenario == loaded.resolved
    assert record.scenario_digest == loaded.digest
    assert record.n_expected == 3
    assert {"torch", "streamlab", "processor", "threads", "precision"} <= set(record.environment)
    assert base.fingerprint == load_base(loaded.scenario.base, seed=1).fingerprint
    assert base.weights_bytes == 4 * base.n_parameters < base.file_bytes


def test_baselines_leave_the_files_of_the_method_as_they_are_without_them(
    many: Ran, plain: Ran
) -> None:
    beside = [row.digest for row in arrivals_in(many.home, method="diff_pruning") if row.seed == 1]

    assert beside == [row.digest for row in arrivals_in(plain.home)]


def test_watchers_are_told_of_the_run_first_and_then_of_every_step(
    lab: Lab, tmp_path: Path
) -> None:
    told: list[tuple[str, int]] = []

    def started(record: RunRecord, context: RunContext, n_arrivals: int) -> None:
        assert [task.name for task in context.tasks()] == ["mood"]
        told.append((record.name, n_arrivals))

    def watch(arrival: Arrival, progress: Progress) -> None:
        told.append((arrival.task, progress.step))

    path = lab.scenario(name="watched", **only("mood"))

    list(run(path, tmp_path / "home", watch=watch, started=started))

    assert told == [("watched-1", 1), *(("mood", step) for step in range(1, 13))]


def test_a_run_leaves_the_global_generator_alone(lab: Lab, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()

    carry_out(lab.scenario(name="alone", **only("mood")), tmp_path / "home")

    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_is_done_before_the_first_outcome_is_asked_for(lab: Lab, tmp_path: Path) -> None:
    outcomes = run(lab.scenario(), tmp_path / "home")

    assert not (tmp_path / "home").exists()
    outcomes.close()


def test_a_row_is_there_when_its_outcome_comes(lab: Lab, tmp_path: Path) -> None:
    seen: list[tuple[ArrivalRecord, ...]] = []
    path = lab.scenario(name="rows", **only("mood", "degree"))
    for outcome in run(path, tmp_path / "home"):
        with reading(Home(tmp_path / "home")) as registry:
            seen.append(registry.arrivals.list())
        assert outcome.record in seen[-1]

    assert [len(rows) for rows in seen] == [1, 2]


def test_the_same_home_holds_several_runs_and_every_file_once(lab: Lab, tmp_path: Path) -> None:
    path = lab.scenario(name="again", **only("mood"))
    first = carry_out(path, tmp_path / "home")
    second = carry_out(path, tmp_path / "home")

    (old,), (new,) = first.outcomes, second.outcomes
    assert [record.name for record in runs_in(second.home)] == ["again-1", "again-2"]
    assert (old.record.run, new.record.run) == ("again-1", "again-2")
    assert new.record.n_steps == 12
    assert old.record.digest == new.record.digest
    assert len(list(FolderStore(second.home.store).list())) == 1


@pytest.mark.parametrize("values", ["fp32", "int4"])
def test_every_type_of_values_is_stored_and_scored(lab: Lab, tmp_path: Path, values: str) -> None:
    path = lab.scenario(name="values", storage={"values": values}, **only("mood"))

    (outcome,) = carry_out(path, tmp_path / "home").outcomes

    assert outcome.diff is not None
    assert outcome.diff.value_type == values
    assert outcome.record.status == "finished"


def test_a_base_in_a_folder_beside_the_scenario_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(tmp_path / "lab")
    scenario = lab.write(lab.tree(base={"model": "base"}, **only("mood")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    carry_out(scenario, tmp_path / "home")

    with reading(Home(tmp_path / "home")) as registry:
        (base,), (recorded,) = registry.bases.list(), registry.runs.list()
    assert base.model == str(lab.base)
    assert recorded.scenario["base"]["model"] == "base"
    monkeypatch.chdir(tmp_path)
    assert open_home(tmp_path / "home").load_base().base.fingerprint == base.fingerprint
