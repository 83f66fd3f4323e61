"""A study end to end on a tiny base: cells, tuning, order, resuming, sharing and its tables."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from stream_samples import Lab, make_lab, only, reading

from streamlab.cli import cli
from streamlab.errors import ConfigError, RunInProgressError, StreamlabError
from streamlab.home.folder import Home
from streamlab.stats.study_comparison import compare_rows
from streamlab.stream.engine import run
from streamlab.study.records import CellRecord, CellScore, read_cells, write_cells
from streamlab.study.results import Results
from streamlab.study.runner import ordered, plan, run_in_processes, run_study
from streamlab.study.study import Cell, LoadedStudy, Study, load_study

STUDIES = Path(__file__).parents[2] / "studies"
TUNED = {"training.learning_rate": [2e-3, 1e-9]}


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


def tree(lab: Lab, **changes: Any) -> dict[str, Any]:
    scenario = lab.tree()
    return {
        "version": 1,
        "name": "tiny",
        "seeds": [1, 2],
        "reference": "full",
        "shared": {
            "base": scenario["base"],
            "data": scenario["data"],
            "defaults": {"training": scenario["defaults"]["training"]},
        },
        "tasks": only("mood", "same")["tasks"],
        "methods": {
            "full": {"method": "full_finetuning", "tune": TUNED},
            "random": {
                "method": {"name": "fixed_mask", "mask": "random", "learning_rate": 2e-2},
                "sizes": {"method.target_density": [0.05, 0.01]},
            },
        },
    } | changes


@pytest.fixture
def study(lab: Lab) -> Callable[..., LoadedStudy]:
    def load(**changes: Any) -> LoadedStudy:
        path = lab.folder / "study.yaml"
        path.write_text(yaml.safe_dump(tree(lab, **changes)), encoding="utf-8")
        return load_study(path)

    return load


@pytest.fixture(scope="session")
def done(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedStudy, Home]:
    """A study that was run to its end; to be read only."""
    path = lab.folder / "whole.yaml"
    path.write_text(yaml.safe_dump(tree(lab)), encoding="utf-8")
    home = Home(tmp_path_factory.mktemp("study") / "home")
    for _ in run_study(load_study(path), home.path, registry_url=home.registry_url):
        pass
    return load_study(path), home


def results_in(home: Home) -> Results:
    return Results(reading(home))


def digests(loaded: LoadedStudy, home: Home) -> dict[str, str | None]:
    """Return the artifact of every cell that is done, by the cell's name."""
    found = {}
    with reading(home) as registry:
        results = Results(registry)
        for cell in ordered(loaded, results):
            result = results.of(cell)
            if result.run is not None and result.state == "done":
                (arrival,) = registry.arrivals.list(run=result.run)
                found[f"{cell.row.label} {cell.chosen} {cell.task} {cell.seed}"] = arrival.digest
    return found


def test_every_trial_of_the_first_seed_comes_before_the_second_seed(
    study: Callable[..., LoadedStudy],
) -> None:
    cells = list(ordered(study(), Results(None)))

    # Two trials and two sizes by two tasks; then three rows by two tasks.
    assert [cell.seed for cell in cells] == [1] * 8 + [2] * 6
    assert [cell.row.label for cell in cells[:8:2]] == [
        "full",
        "random-0.05",
        "random-0.01",
        "full",
    ]


def test_a_cell_is_known_by_what_it_does_alone(study: Callable[..., LoadedStudy]) -> None:
    before = {cell.digest for cell in ordered(study(), Results(None))}
    more = study(
        seeds=[1, 2, 3],
        methods={
            **study().study.model_dump(mode="json")["methods"],
            "head": {"method": "head_only"},
        },
    )
    after = {cell.digest for cell in ordered(more, Results(None))}

    assert before < after


def test_a_tuned_setting_inside_a_method_is_each_cells_own(
    study: Callable[..., LoadedStudy],
) -> None:
    rows = {
        "method": {"name": "fixed_mask", "mask": {"name": "rows", "share": 0.5}},
        "tune": {"method.mask.share": [0.2, 0.3]},
    }
    loaded = study(methods={"rows": rows}, reference="rows")

    cells = [cells[0] for cells in loaded.trials(loaded.rows()[0])]

    shares = [cell.scenario.resolved["defaults"]["method"]["mask"]["share"] for cell in cells]
    assert shares == [0.2, 0.3]
    assert loaded.study.methods["rows"].method == rows["method"]


def test_studies_share_the_cells_that_they_have_in_common(
    study: Callable[..., LoadedStudy],
) -> None:
    one = {cell.digest for cell in ordered(study(), Results(None))}
    other = {cell.digest for cell in ordered(study(name="other"), Results(None))}

    assert one == other


def test_a_method_may_store_its_values_in_another_type(
    study: Callable[..., LoadedStudy],
) -> None:
    methods = study().study.model_dump(mode="json")["methods"]
    methods["random"] |= {"storage": {"values": "int8"}}
    cells = list(ordered(study(methods=methods), Results(None)))

    stored = {cell.row.method: cell.scenario.resolved["storage"]["values"] for cell in cells}
    assert stored == {"full": "auto", "random": "int8"}


def test_a_study_that_is_done_has_nothing_left(done: tuple[LoadedStudy, Home]) -> None:
    loaded, home = done

    found = plan(loaded, results_in(home))
    again = list(run_study(loaded, home.path, registry_url=home.registry_url))

    assert (found.n_cells, found.n_done, found.n_open, found.seconds) == (14, 14, 0, 0.0)
    assert again == []


def test_the_setting_with_the_best_validation_score_is_chosen(
    done: tuple[LoadedStudy, Home],
) -> None:
    loaded, home = done
    results, full = results_in(home), loaded.rows()[0]

    choice = results.choose(loaded, full, "mood")

    means = [
        sum(results.of(cell).validation for cell in cells) / len(cells)
        for cells in loaded.trials(full)
    ]
    assert choice.score == max(means)
    assert choice.setting == loaded.trials(full)[means.index(max(means))][0].chosen
    assert choice.is_final
    assert choice.at_edge == ("training.learning_rate",)  # of two values each is an end


def test_each_task_may_have_a_setting_of_its_own(
    done: tuple[LoadedStudy, Home], study: Callable[..., LoadedStudy]
) -> None:
    results = results_in(done[1])
    own, full = study(choose="by_task"), done[0].rows()[0]

    for place, task in enumerate(own.study.tasks):
        scores = [results.of(cells[place]).validation for cells in own.trials(full)]
        assert results.choose(own, full, task).score == max(scores)


def test_only_chosen_settings_are_reported(done: tuple[LoadedStudy, Home]) -> None:
    loaded, home = done

    for row in loaded.rows():
        reported = results_in(home).reported(loaded, row)
        assert {task: list(by_seed) for task, by_seed in reported.items()} == {
            "mood": [1, 2],
            "same": [1, 2],
        }


def test_no_cell_is_begun_after_the_deadline(
    study: Callable[..., LoadedStudy], tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    work = run_study(study(), home.path, registry_url=home.registry_url, until=time.time() - 1)

    assert list(work) == []


def test_a_cell_that_another_process_works_on_is_left_to_it(
    study: Callable[..., LoadedStudy], tmp_path: Path
) -> None:
    loaded, home = study(), Home(tmp_path / "home")
    cell = next(ordered(loaded, Results(None)))
    begun: list[Cell] = []

    def start_twice(*_: object) -> None:
        if not begun:
            begun.append(cell)
            with pytest.raises(RunInProgressError, match="is being worked on"):
                list(run(cell.scenario, home.path, alone=True))
            assert results_in(home).of(cell).state == "elsewhere"

    list(run(cell.scenario, home.path, watch=start_twice))

    assert begun
    assert results_in(home).of(cell).state == "done"


def test_a_training_that_breaks_down_is_a_failed_cell_and_the_worst_trial(
    study: Callable[..., LoadedStudy], tmp_path: Path
) -> None:
    tune = {"training.learning_rate": [1e30, 2e-3]}
    full = {"full": {"method": "full_finetuning", "tune": tune}}
    loaded, home = study(methods=full, seeds=[1]), Home(tmp_path / "home")

    states = [r.state for _, r in run_study(loaded, home.path, registry_url=home.registry_url)]
    choice = results_in(home).choose(loaded, loaded.rows()[0], "mood")

    assert sorted(states) == ["done", "done", "failed", "failed"]
    assert choice.setting == (("training.learning_rate", 2e-3),)
    assert choice.is_final


def curves_in(home: Home) -> dict[str, bytes]:
    return {str(p.relative_to(home.curves)): p.read_bytes() for p in home.curves.rglob("*.jsonl")}


def test_cells_that_share_a_finetuning_end_as_cells_that_do_not(
    study: Callable[..., LoadedStudy], tmp_path: Path
) -> None:
    masks = {
        mask: {
            "method": {"name": "fixed_mask", "mask": mask, "target_density": 0.05},
            "tune": {"method.learning_rate": [2e-2, 1e-2]},
        }
        for mask in ("change", "rewound")
    }
    loaded = study(methods=masks, reference="change", seeds=[1])
    alone, sharing = Home(tmp_path / "alone"), Home(tmp_path / "sharing")

    list(run_study(loaded, alone.path, registry_url=alone.registry_url))
    list(run_study(loaded, sharing.path, registry_url=sharing.registry_url, most_shared=10_000_000))

    assert len(digests(loaded, sharing)) == 8
    assert digests(loaded, sharing) == digests(loaded, alone)
    assert curves_in(sharing) == curves_in(alone)
    assert curves_in(alone)
    assert not alone.stages.exists()
    # Two labels by two tasks; the second learning rate of each finds the stage of the first.
    assert len(list(sharing.stages.iterdir())) == 4
    with reading(sharing) as registry:
        details = [a.details.reported.training for a in registry.arrivals.list()]
    reused = [one.get("reused_steps", 0) for one in details]
    assert sorted(reused) == [0] * 4 + [details[0]["steps_finetune"]] * 4
    assert details[0]["steps_finetune"] > 0


@pytest.mark.slow
def test_a_study_killed_inside_a_cell_ends_as_one_that_was_not(
    done: tuple[LoadedStudy, Home], lab: Lab, tmp_path: Path
) -> None:
    loaded, whole = done
    home = Home(tmp_path / "home")
    program = [
        sys.executable, "-c",
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from streamlab.study.runner import run_study\n"
        "from streamlab.study.study import load_study\n"
        "left = [40]\n"
        "def watch(*_):\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "list(run_study(load_study(Path(sys.argv[1])), Path(sys.argv[2]),"
        " registry_url=sys.argv[3], watch=watch))",
        str(lab.folder / "whole.yaml"), str(home.path), home.registry_url,
    ]  # fmt: skip
    killed = subprocess.run(program, check=False, env=os.environ, timeout=300)

    for _ in run_study(loaded, home.path, registry_url=home.registry_url):
        pass

    assert killed.returncode == -signal.SIGKILL
    assert digests(loaded, home) == digests(loaded, whole)


@pytest.mark.slow
def test_several_processes_end_as_one_does_and_one_that_is_killed_leaves_its_cell(
    done: tuple[LoadedStudy, Home], tmp_path: Path
) -> None:
    loaded, whole = done
    home = Home(tmp_path / "home")
    work = run_in_processes(
        Path(loaded.origin), home.path, registry_url=home.registry_url, workers=3
    )

    first = next(work)
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
    with pytest.raises(StreamlabError, match="1 of 3 processes ended early"):
        list(work)
    list(run_study(loaded, home.path, registry_url=home.registry_url))

    assert first.state == "done"
    assert digests(loaded, home) == digests(loaded, whole)


def test_what_depends_on_cells_of_another_process_waits_for_them(
    study: Callable[..., LoadedStudy], tmp_path: Path
) -> None:
    loaded, home = study(), Home(tmp_path / "home")
    first = next(ordered(loaded, Results(None)))
    begun: list[Cell] = []

    def meanwhile(*_: object) -> None:
        if not begun:
            begun.append(first)
            work = run_study(loaded, home.path, registry_url=home.registry_url, wait=stop)
            with pytest.raises(InterruptedError):
                list(work)

    def stop() -> None:
        raise InterruptedError

    list(run(first.scenario, home.path, watch=meanwhile, alone=True))
    rest = [cell for cell, _ in run_study(loaded, home.path, registry_url=home.registry_url)]

    assert [(cell.row.method, cell.seed) for cell in rest] == [("full", 2)] * 2


@pytest.mark.slow
def test_two_halves_that_are_merged_end_in_the_same_table(
    done: tuple[LoadedStudy, Home], study: Callable[..., LoadedStudy], tmp_path: Path
) -> None:
    loaded, whole = done
    homes = [Home(tmp_path / name) for name in ("one", "other")]
    for home, tasks in zip(homes, (["mood"], ["same"]), strict=True):
        half = study(tasks=only(*tasks)["tasks"])
        for _ in run_study(half, home.path, registry_url=home.registry_url):
            pass
    given = ["import", str(homes[1].path), "--home", str(homes[0].path)]
    merged = CliRunner().invoke(cli, given)

    assert merged.exit_code == 0, merged.output
    for _ in run_study(loaded, homes[0].path, registry_url=homes[0].registry_url):
        pass
    assert digests(loaded, homes[0]) == digests(loaded, whole)


def test_the_command_prints_what_was_chosen_and_compares(
    done: tuple[LoadedStudy, Home], lab: Lab
) -> None:
    home = done[1]
    given = ["study", str(lab.folder / "whole.yaml"), "--table", "--home", str(home.path)]
    printed = CliRunner().invoke(cli, given)
    tree = json.loads(CliRunner().invoke(cli, [*given, "--format", "json"]).stdout)

    assert printed.exit_code == 0, printed.output
    assert "at an end" in " ".join(printed.stdout.split())
    assert "14 done, 0 failed" in printed.stderr
    rows = tree["rows"]
    assert [row["row"] for row in rows] == ["full", "random-0.05", "random-0.01"]
    full, *others = rows
    assert full["difference"] is None
    assert all(
        row["pairs"] == 4 and row["low"] <= row["difference"] <= row["high"] for row in others
    )


def test_what_is_exported_counts_as_done_where_there_is_no_registry(
    done: tuple[LoadedStudy, Home], tmp_path: Path
) -> None:
    loaded, home = done
    path = tmp_path / "whole.yaml"
    path.write_bytes(Path(loaded.origin).read_bytes())
    elsewhere = replace(load_study(path), folder=loaded.folder)
    records = results_in(home).records(loaded)

    n = write_cells(elsewhere.cells_file, records)
    results = Results(None, read_cells(elsewhere.cells_file))

    assert n == 14
    found = plan(elsewhere, results)
    assert (found.n_done, found.n_open) == (14, 0)
    assert compare_rows(elsewhere, results) == compare_rows(loaded, results_in(home))
    away = tmp_path / "home"
    assert not list(run_study(elsewhere, away, registry_url=Home(away).registry_url))


def test_an_export_is_the_same_from_the_registry_and_from_the_file(
    done: tuple[LoadedStudy, Home], tmp_path: Path
) -> None:
    loaded, home = done
    paths = [
        tmp_path / name for name in ("first.jsonl", "again.jsonl", "both.jsonl", "reversed.jsonl")
    ]

    write_cells(paths[0], results_in(home).records(loaded))
    exported = read_cells(paths[0])
    write_cells(paths[1], Results(None, exported).records(loaded))
    write_cells(paths[2], Results(reading(home), exported).records(loaded))
    write_cells(paths[3], reversed(exported.values()))

    assert len({path.read_bytes() for path in paths}) == 1


def test_a_cell_in_an_export_has_its_scores_bytes_and_settings(
    done: tuple[LoadedStudy, Home],
) -> None:
    loaded, home = done
    record = next(
        r for r in results_in(home).records(loaded) if r.row == "random-0.01" and r.task == "mood"
    )

    assert record.artifact is not None
    parts = ("positions", "values", "head", "metadata")
    assert record.artifact.file_bytes == sum(getattr(record.artifact, f"{p}_bytes") for p in parts)
    assert sum(record.artifact.layers.values()) == record.artifact.n_entries > 0
    assert record.method["mask"]["name"] == "random"
    assert {score.split for score in record.scores} == {"dev", "validation"}
    assert "torch" in record.environment


def test_a_damaged_export_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    path.write_text('{"cell": "x"}\nnothing\n', encoding="utf-8")

    with pytest.raises(ConfigError, match=r"(?s)2 problems.*line 1: `cell`.*line 2: is no JSON"):
        read_cells(path)


def test_the_command_exports_and_a_file_alone_means_run(
    lab: Lab, done: tuple[LoadedStudy, Home], tmp_path: Path
) -> None:
    path = lab.folder / "exported.yaml"
    path.write_bytes(Path(done[0].origin).read_bytes())
    home = ["--home", str(done[1].path)]

    exported = CliRunner().invoke(cli, ["study", "export", str(path), *home])
    alone = CliRunner().invoke(
        cli, ["study", "--table", str(path), "--home", str(tmp_path / "none")]
    )

    assert exported.exit_code == 0, exported.output
    assert "Wrote 14 cells to" in exported.output
    assert alone.exit_code == 0, alone.output
    assert "14 done, 0 failed" in alone.stderr


def test_a_choice_names_its_neighbours_in_the_grid(
    study: Callable[..., LoadedStudy],
) -> None:
    tune = {"training.learning_rate": [1e-3, 4e-3, 1e-4, 2e-3], "training.warmup_share": [0.1, 0.2]}
    loaded = study(methods={"full": {"method": "full_finetuning", "tune": tune}})
    choice = Results(None).choose(loaded, loaded.rows()[0], "mood")

    assert [dict(trial.setting) for trial in choice.neighbours] == [
        {"training.learning_rate": 1e-3, "training.warmup_share": 0.2},
        {"training.learning_rate": 1e-4, "training.warmup_share": 0.1},
        {"training.learning_rate": 2e-3, "training.warmup_share": 0.1},
    ]


SEARCH = {"n_trials": 4, "space": {"training.learning_rate": {"low": 1e-5, "high": 1e-2}}}


def searched(study: Callable[..., LoadedStudy], **changes: Any) -> LoadedStudy:
    pytest.importorskip("optuna")
    full = {"method": "full_finetuning", "tune": SEARCH | changes}
    return study(methods={"full": full}, seeds=[1])


def test_a_search_that_is_stopped_goes_on_as_one_that_was_not(
    study: Callable[..., LoadedStudy], tmp_path: Path
) -> None:
    loaded, homes = searched(study), [Home(tmp_path / name) for name in ("whole", "stopped")]

    def run_in(home: Home, most: int | None = None) -> list[tuple[tuple[str, Any], ...]]:
        work = run_study(loaded, home.path, registry_url=home.registry_url)
        return [cell.chosen for cell, _ in itertools.islice(work, most)]

    whole = run_in(homes[0])
    stopped = [*run_in(homes[1], 3), *run_in(homes[1], 1), *run_in(homes[1])]

    assert len(whole) == 8  # four trials of two tasks
    assert stopped == whole
    assert len(set(whole)) == 4
    found = plan(loaded, results_in(homes[0]))
    assert (found.n_cells, found.n_done, found.n_open) == (8, 8, 0)


def test_a_search_chooses_its_best_trial_and_counts_what_is_not_known_yet(
    study: Callable[..., LoadedStudy], tmp_path: Path
) -> None:
    loaded, home = searched(study, sampler="random"), Home(tmp_path / "home")
    before = plan(loaded, Results(None))
    list(run_study(loaded, home.path, registry_url=home.registry_url))
    results, row = results_in(home), loaded.rows()[0]

    choice = results.choose(loaded, row, "mood")

    assert (before.n_cells, before.n_open) == (7, 7)  # the first is known, its second task not
    assert choice.is_final
    assert choice.score == max(trial.score for trial in choice.trials)
    assert 0 < len(choice.neighbours) <= 2


def test_a_pruned_trial_is_given_up_after_its_first_task_and_never_chosen(
    study: Callable[..., LoadedStudy],
) -> None:
    loaded = searched(study, sampler="random", pruner="median", n_trials=3)
    scores = iter([0.8, 0.9, 0.7, 0.8, 0.1])  # of two whole trials, and of the start of a third
    exported: dict[str, CellRecord] = {}
    results, row = Results(None, exported), loaded.rows()[0]
    recorded: list[Cell] = []
    for part in results.tuned(loaded, row):
        recorded += part
        exported[part[0].digest] = scored(part[0], next(scores))
        results.refresh(part[0])

    choice = results.choose(loaded, row, "mood")

    assert [cell.task for cell in recorded] == ["mood", "same", "mood", "same", "mood"]
    assert [trial.score for trial in choice.trials] == pytest.approx([0.85, 0.75, -math.inf])
    assert choice.is_final
    assert choice.setting == recorded[0].chosen
    assert plan(loaded, results).n_open == 0


def scored(cell: Cell, value: float) -> CellRecord:
    """Return the record of a cell with a validation score, all else being empty."""
    score = CellScore(
        metric="accuracy", split="validation", value=value, n_examples=10, is_primary=True
    )
    return CellRecord(
        cell=cell.digest, row=cell.row.label, setting=dict(cell.chosen), task=cell.task,
        seed=cell.seed, status="finished", method={}, n_steps=1, training_seconds=0.0,
        evaluation_seconds=0.0, n_train_examples=1, examples="", source="files", base="",
        environment={}, scores=(score,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"reference": "best"}, "`reference` must be one of the methods: full, random"),
        (
            {"questions": [{"ask": "?", "methods": ["best"], "against": ["full"]}]},
            "`questions` must name methods or rows; 'best' is neither",
        ),
        ({"seeds": [1, 1]}, "must differ"),
        ({"shared": {"seeds": [1]}}, "shared.seeds: is the study's own"),
        ({"methods": {"full": {"method": "no_such"}}}, "unknown method 'no_such'"),
        ({"methods": {"full": {"method": "full_finetuning", "tune": {"rate": [1]}}}}, "tune"),
        (
            {"methods": {"full": {"method": "full_finetuning", "tune": {"training.rate": [1]}}}},
            "unknown key",
        ),
    ],
)
def test_a_study_that_cannot_be_run_is_refused_before_anything(
    study: Callable[..., LoadedStudy], change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        study(**change)


@pytest.mark.parametrize(
    ("methods", "against", "pairs"),
    [
        (["one"], ["two"], [("one-0.2", "two-0.2")]),  # the size that both have
        (["one-0.1"], ["two"], [("one-0.1", "two-0.2"), ("one-0.1", "two-0.3")]),
        (["two"], ["full"], [("two-0.2", "full"), ("two-0.3", "full")]),
    ],
)
def test_a_question_compares_rows_of_equal_size_where_both_have_it(
    methods: list[str], against: list[str], pairs: list[tuple[str, str]]
) -> None:
    sizes = {"one": [0.1, 0.2], "two": [0.2, 0.3]}
    sized = {
        name: {"method": "any", "sizes": {"method.target_density": found}}
        for name, found in sizes.items()
    }
    every = {"full": {"method": "full_finetuning"}, **sized}
    asked = {"ask": "Which?", "methods": methods, "against": against}
    study = Study.model_validate(
        {"version": 1, "name": "x", "seeds": [1], "reference": "full", "shared": {},
         "tasks": {"t": {}}, "methods": every, "questions": [asked]}
    )  # fmt: skip

    found = study.pairs(study.questions[0])

    assert [(row.label, other.label) for row, other in found] == pairs


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_of_the_project_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLAB_DATA", "data")

    assert plan(load_study(path), Results(None)).n_open > 0
