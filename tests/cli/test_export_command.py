"""`export` writes stored bytes as they are, and tables with every raw value."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from serving_samples import Call, caller, examples, learn
from stream_samples import Ran, arrivals_in, make_lab

from streamlab import DiffVector, open_home


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    return learn(lab, tmp_path_factory.mktemp("ran") / "home", baselines=["full_finetuning"])


@pytest.fixture
def stored(ran: Ran) -> Call:
    """Call the command line on the home with real files in its store."""
    return caller(ran.home.path)


def test_the_examples_of_the_help_run(
    stored: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    for words in examples("export"):
        result = stored(*words)
        assert (result.exit_code, result.stdout) == (0, f"{words[-1]}\n"), result.stderr
        assert Path(words[-1]).stat().st_size


@pytest.mark.parametrize("word", ["sst2", "arrival", "digest"])
def test_a_diff_is_written_as_it_is_stored(
    word: str, stored: Call, ran: Ran, tmp_path: Path
) -> None:
    (arrival,) = arrivals_in(ran.home, task="sst2", method="diff_pruning")
    words = {"arrival": f"arrival:{arrival.id}", "digest": (arrival.digest or "")[:9]}
    path = tmp_path / "x.sldiff"
    path.write_text("something older")

    result = stored("export", words.get(word, word), "-o", path)

    assert result.exit_code == 0, result.stderr
    assert hashlib.sha256(path.read_bytes()).hexdigest() == arrival.digest
    base = open_home(ran.home.path).load_base()
    assert DiffVector.load(path, base=base.base).task["task"] == "sst2"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.sldiff"]


@pytest.mark.parametrize("subject", ["runs", "arrivals", "diffs", "scores", "tasks", "bases"])
def test_a_table_holds_what_ls_lists(
    subject: str, call: Callable[..., Result], tmp_path: Path
) -> None:
    listed = json.loads(call("ls", subject, "--format", "json").stdout)

    for ending in ("json", "csv"):
        assert call("export", subject, "-o", str(tmp_path / f"x.{ending}")).exit_code == 0

    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == listed
    text = (tmp_path / "x.csv").read_text(encoding="utf-8")
    assert text == call("ls", subject, "--format", "csv").stdout
    assert len(list(csv.DictReader(text.splitlines()))) == len(listed)


def test_a_table_of_one_run(call: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "x.json"

    assert call("export", "arrivals", "--run", "tiny-1", "-o", str(path)).exit_code == 0

    assert {row["run"] for row in json.loads(path.read_text(encoding="utf-8"))} == {"tiny-1"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["scores", "-o", "x.txt"], 2, "must end in .csv or .json"),
        (["scores", "-o", "x.csv", "--seed", "1"], 2, "write `task:scores`"),
        (["tasks", "-o", "x.csv", "--run", "latest"], 2, "`--run` narrows"),
        (["scors", "-o", "x"], 2, "no task, digest or tag 'scors'"),
        (["sst2"], 2, "Missing option '-o'"),
        (["sst2", "-o", "x"], 1, "has no artifact"),
        (["arrival:4", "-o", "x"], 2, "failed and left nothing"),
        (["scores", "-o", "file/x.csv"], 1, "cannot be written"),
    ],
)
def test_what_cannot_be_exported_is_one_paragraph_and_leaves_nothing(
    arguments: list[str],
    code: int,
    message: str,
    call: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "file").touch()
    monkeypatch.chdir(folder)

    result = call("export", *arguments)

    assert (result.exit_code, result.stdout) == (code, "")
    assert message in " ".join(result.stderr.split())
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_checkpoint_is_no_diff(stored: Call, tmp_path: Path) -> None:
    checkpoint = stored("export", "sst2", "--method", "full_finetuning", "-o", tmp_path / "x")

    assert (checkpoint.exit_code, (tmp_path / "x").exists()) == (1, False)
    assert "checkpoint, not a diff" in checkpoint.stderr
