"""The studies of `analysis/`: each reads one or more homes, prints, and writes figure and CSV."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from figure_samples import check_labels, drawn_labels, read_csv
from large_samples import make_home
from script_samples import load_script
from stream_samples import carry_out, make_lab, only, reading

from streamlab.errors import RegistryError
from streamlab.figures.style import house_style
from streamlab.home.folder import Home
from streamlab.views.provider_behaviours import behaviour_table

ROOT = Path(__file__).parents[2]


def load_study(name: str) -> ModuleType:
    return load_script(f"analysis/{name}.py")


SWEEP = load_study("density_sweep")
FLIPS = load_study("label_flip")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("studied"), 4)


def test_mask_overlap_tells_every_pair_against_chance(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = load_study("mask_overlap").main([f"{home.path}@long-1", "-o", str(tmp_path)])

    summary, *files = capsys.readouterr().out.splitlines()
    rows = read_csv(tmp_path / "overlap.csv")
    assert code == 0
    assert [Path(file).name for file in files] == ["overlap.png", "overlap.svg", "overlap.csv"]
    over = [float(row["over_chance"]) for row in rows]
    assert summary.startswith("6 pairs of long-1: ")
    assert f"{min(over):.1f} to {max(over):.1f} times chance" in summary


@pytest.mark.parametrize("name", ["mask_overlap", "density_sweep", "label_flip"])
def test_a_study_of_no_home_ends_with_one_paragraph(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_study(name).main([str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("Error: There is no registry in the home")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three densities of one task, the middle one with full finetuning beside it."""
    folder = tmp_path_factory.mktemp("swept")
    lab = make_lab(folder)
    for density, baselines in ((0.02, []), (0.05, ["full_finetuning"]), (0.2, [])):
        tree = lab.tree(name="density_sweep", seeds=[1, 2], baselines=baselines, **only("mood"))
        tree["defaults"]["method"]["target_density"] = density
        tree["admission"] = {"max_density": 0.2}
        carry_out(lab.write(tree), folder / "home")
    return Home(folder / "home")


def test_a_sweep_has_every_run_by_density_and_the_registrys_numbers(
    swept: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = SWEEP.main([str(swept.path), "-o", str(tmp_path)])

    rows = read_csv(tmp_path / "density_sweep.csv")
    assert code == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert [row["target_density"] for row in rows] == [
        *["0.02"] * 2, *["0.05"] * 2, *["0.2"] * 2, "", "",
    ]  # fmt: skip
    with reading(swept) as registry:
        values = {
            (score.run, str(score.seed), score.method): score.value
            for score in registry.scores.list()
            if score.is_primary and score.split == "dev"
        }
        for row in rows:
            diff = registry.artifacts.get(row["digest"])
            assert int(row["file_bytes"]) == diff.file_bytes
            assert float(row["density"]) == diff.density
            assert float(row["value"]) == values[row["run"], row["seed"], row["method"]]


def test_a_sweep_is_drawn_with_labels_apart_and_full_finetuning_across(swept: Home) -> None:
    with reading(swept) as registry, house_style():
        data = SWEEP.read_sweep(registry, "density_sweep")
        figure = SWEEP.draw(data)
        check_labels(figure)
        assert len(drawn_labels(figure.axes[1].yaxis)) > 1

    across = figure.axes[0].get_lines()[-1]
    mean = sum(point.score.value for point in data.baselines) / len(data.baselines)
    assert list(across.get_ydata()) == [mean, mean]
    assert list(figure.axes[1].get_lines()[0].get_ydata()) == sorted(
        figure.axes[1].get_lines()[0].get_ydata()
    )


def test_a_sweep_of_another_scenario_or_task_is_refused(swept: Home) -> None:
    with reading(swept) as registry:
        with pytest.raises(RegistryError, match="Of the scenario `other` no run"):
            SWEEP.read_sweep(registry, "other")
        with pytest.raises(RegistryError, match="of the task `none`"):
            SWEEP.read_sweep(registry, "density_sweep", "none")


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two careless providers, one with no label wrong and one with all, and an honest one."""
    folder = tmp_path_factory.mktemp("flipped")
    lab = make_lab(folder)
    tree = lab.tree(name="label_flip", **only("same", "degree"))
    tree["tasks"]["grade"] = dict(tree["tasks"]["degree"])
    tree["tasks"]["degree"]["training"] = {"min_steps": 240, "learning_rate": 1e-3, "dropout": 0}
    tree["providers"] = {
        name: {"tasks": [task], "behaviour": behaviour}
        for name, task, behaviour in (
            ("careful", "grade", {"label_flip": 1, "flipped_labels": 0}),
            ("careless", "degree", {"label_flip": 1, "flipped_labels": 1}),
            ("press", "same", "honest"),
        )
    }
    carry_out(lab.write(tree), folder / "home")
    return Home(folder / "home")


def test_a_study_of_wrong_labels_tells_what_each_tolerance_would_stop(
    flipped: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = FLIPS.main([str(flipped.path), "-o", str(tmp_path)])

    rows = read_csv(tmp_path / "label_flip.csv")
    printed = capsys.readouterr().out
    assert code == 0
    assert [(row["provider"], row["wrong_labels"]) for row in rows] == [
        ("careful", "0.0"),
        ("careless", "1.0"),
    ]
    with reading(flipped) as registry:
        arrivals = {arrival.digest: arrival for arrival in registry.arrivals.list()}
        scores = [s for s in registry.scores.list() if s.is_primary and s.split == "dev"]
        found = {s.arrival_id: s.value for s in scores}
    for row in rows:
        arrival = arrivals[row["digest"]]
        assert float(row["declared"]) == arrival.declared_score
        assert float(row["measured"]) == found[arrival.id]
        excess = float(row["declared"]) - float(row["measured"])
        for tolerance in (0.05, 0.1, 0.2):
            assert row[f"caught_at_{tolerance:g}"] == str(excess > tolerance)
    # A model trained on flipped labels scores well on such examples, and badly on the lab's.
    assert rows[1]["caught_at_0.2"] == "True"
    (line,) = [line for line in printed.splitlines() if line.startswith("| 100% | 1 | ")]
    assert line.endswith("| 100% | 100% | 100% |")


def test_the_study_of_wrong_labels_is_drawn_with_labels_apart(flipped: Home) -> None:
    with reading(flipped) as registry, house_style():
        check_labels(FLIPS.draw(FLIPS.read_flips(registry, registry.runs.get("latest"))))


def test_a_study_of_wrong_labels_is_refused_where_there_are_none_or_the_probe_stopped_them(
    home: Home, flipped: Home
) -> None:
    with reading(home) as registry, pytest.raises(RegistryError, match="after `label_flip`"):
        FLIPS.read_flips(registry, registry.runs.get("latest"))
    with reading(flipped) as registry:
        run = registry.runs.get("latest")
        scenario = {**run.scenario, "admission": {"probe_tolerance": 0.1}}
        with pytest.raises(RegistryError, match=r"probe_tolerance: 0\.1"):
            FLIPS.read_flips(registry, replace(run, scenario=scenario))


def test_a_study_of_wrong_labels_is_refused_for_tasks_of_different_metrics(
    flipped: Home, tmp_path: Path
) -> None:
    mixed = Home(Path(shutil.copytree(flipped.path, tmp_path / "home")))
    with reading(mixed) as registry:
        (grade,) = registry.arrivals.list(task="grade")
    with closing(sqlite3.connect(mixed.path / "registry.db")) as file, file:
        file.execute("UPDATE scores SET metric = 'accuracy' WHERE arrival_id = ?", (grade.id,))

    with reading(mixed) as registry, pytest.raises(RegistryError, match="accuracy, pearson"):
        FLIPS.read_flips(registry, registry.runs.get("latest"))


def test_the_table_of_behaviours_counts_what_was_admitted_and_what_stopped(flipped: Home) -> None:
    with reading(flipped) as registry:
        run, scores = registry.runs.get("latest"), registry.scores.list()
        arrivals = registry.arrivals.list()
        table = behaviour_table(run, arrivals, scores)
        changed = [
            replace(a, status="quarantined", rule="probe", digest=None)
            if a.provider == "careless"
            else a
            for a in arrivals
        ]
        after = behaviour_table(run, changed, ())
        honest = behaviour_table(run, [a for a in arrivals if a.behaviour is None], scores)

    assert [row[:7] for row in table.rows] == [
        ("honest", None, 1, 1, 0, 0, None),
        ("label_flip", 0.0, 1, 1, 0, 0, None),
        ("label_flip", 1.0, 1, 1, 0, 0, None),
    ]
    by_share = {row[1]: row for row in table.rows}
    assert float(str(by_share[1.0][7])) > 0.2
    assert after.rows[-1] == ("label_flip", 1.0, 1, 0, 1, 0, "probe (1)", None)
    assert honest.rows == ()
