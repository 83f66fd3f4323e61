"""The table of GLUE on real runs: what it averages, what it holds against what, what it keeps."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from script_samples import load_script
from stream_samples import Lab, carry_out, make_lab, only, scores_in, task

from streamlab.home.folder import Home

PATH = Path(__file__).parents[2] / "analysis" / "glue_table.py"
TASKS = {"mood": "glue/sst2", "same": "glue/wnli", "degree": "glue/stsb"}

Study = Callable[..., int]


@pytest.fixture(scope="module")
def study_module() -> ModuleType:
    return load_script("analysis/glue_table.py")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def home(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three tasks under two seeds in two runs, as if of GLUE, and a run without a baseline."""
    folder = tmp_path_factory.mktemp("table") / "home"
    tree = lab.tree(name="eight", baselines=["full_finetuning"])
    tree["tasks"] = {name: task(name, dataset=dataset) for name, dataset in TASKS.items()}
    tree["tasks"]["degree"]["columns"] = {"text2": "text"}
    for seed in (1, 2):
        carry_out(lab.write(tree | {"seeds": [seed]}), folder)
    alone = lab.tree(name="alone", **only("mood"))
    alone["tasks"]["mood"]["dataset"] = "glue/sst2"
    carry_out(lab.write(alone), folder)
    return Home(folder)


@pytest.fixture
def study(
    study_module: ModuleType, home: Home, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Study:
    """Run the study where the scenarios' paths start, on runs of the home or on predictions."""

    def run(
        *runs: str,
        predictions: Path | None = None,
        folder: Path = lab.folder,
        home: Path = home.path,
    ) -> int:
        monkeypatch.chdir(folder)
        words = ["--home", str(home), "--draws", "200", "-o", str(tmp_path)]
        if predictions is not None:
            words += ["--predictions", str(predictions)]
        for name in runs:
            words += ["--run", name]
        code: int = study_module.main(words)
        return code

    return run


def read(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["task"]: row for row in csv.DictReader(file)}


def test_the_table_holds_the_recorded_scores_and_leaves_wnli_out_of_the_mean(
    study: Study, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study("eight-1", "eight-2") == 0

    lines = read(tmp_path / "glue_table.csv")
    assert list(lines) == ["sst2", "stsb", "wnli (not averaged)", "mean of 2"]
    recorded = {"sst2": "mood", "stsb": "degree", "wnli (not averaged)": "same"}
    own = [s for s in scores_in(home) if s.run != "alone-1" and s.is_primary and s.split == "dev"]
    for name, brought in recorded.items():
        for method in ("diff_pruning", "full_finetuning"):
            values = {s.seed: s.value for s in own if (s.task, s.method) == (brought, method)}
            mean = sum(values.values()) / 2
            assert float(lines[name][method]) == pytest.approx(mean, abs=1e-12)
    differences = [float(lines[name]["difference"]) for name in ("sst2", "stsb")]
    mean_line = lines["mean of 2"]
    assert float(mean_line["difference"]) == pytest.approx(sum(differences) / 2)
    assert float(mean_line["low"]) <= float(mean_line["difference"]) <= float(mean_line["high"])
    assert "12 scores measured again from the stored artifacts: 12 exactly as recorded." in (
        capsys.readouterr().out
    )


def test_stored_predictions_are_not_made_again_and_give_the_same_table(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study("eight-1") == 0
    first = capsys.readouterr()
    table = (tmp_path / "glue_table.csv").read_bytes()

    assert study("eight-1") == 0
    again = capsys.readouterr()
    assert study(predictions=tmp_path / "glue_predictions.npz", folder=tmp_path) == 0
    replayed = capsys.readouterr()

    assert first.err.count(" recorded") == 6
    assert (again.err, replayed.err) == ("", "")
    assert first.out == again.out == replayed.out
    assert (tmp_path / "glue_table.csv").read_bytes() == table


def test_what_has_no_partner_or_two_is_refused(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = [study("alone-1"), study("eight-1", "eight-1")]

    assert codes == [2, 2]
    shown = capsys.readouterr().err
    assert "mood, seed 1: only by diff_pruning, left out" in shown
    assert "No task of GLUE has finished by both" in shown
    assert "trained twice by one method under one seed" in shown


def test_data_other_than_the_recorded_are_refused(
    study: Study, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(lab.folder / "rows", elsewhere / "rows")
    rows = elsewhere / "rows" / "mood" / "dev.jsonl"
    rows.write_text("\n".join(rows.read_text().splitlines()[:-1]) + "\n")

    assert study("eight-1", folder=elsewhere) == 2

    assert "are not those that eight-1 was scored on" in capsys.readouterr().err
    assert not (tmp_path / "glue_predictions.npz").exists()


@pytest.mark.parametrize(
    ("shift", "code", "shown"),
    [
        (0.001, 0, "0 exactly as recorded, the others within 0.001 (rounding)."),
        (0.1, 1, "was recorded. The code that applies it"),
    ],
)
def test_a_score_may_be_rounded_otherwise_than_the_recorded_one_and_no_more(
    shift: float,
    code: int,
    shown: str,
    study: Study,
    home: Home,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(home.path, tmp_path / "home")
    with closing(sqlite3.connect(tmp_path / "home" / "registry.db")) as database, database:
        database.execute("UPDATE scores SET value = value - ?", (shift,))

    assert study("eight-1", home=tmp_path / "home") == code

    assert shown in "".join(capsys.readouterr())


def test_synthetic_data_are_not_glue(
    study_module: ModuleType, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = lab.tree(name="made", data={"sources": ["synthetic"], "max_train_examples": 40})
    tree |= {"tasks": {"sst2": {"dataset": "glue/sst2"}}, "providers": {"a": {"tasks": ["sst2"]}}}
    carry_out(lab.write(tree), tmp_path / "home")

    code = study_module.main(["--home", str(tmp_path / "home"), "-o", str(tmp_path)])

    assert code == 2
    assert "are synthetic, and no score on them is one of GLUE" in capsys.readouterr().err
