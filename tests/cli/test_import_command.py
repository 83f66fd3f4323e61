"""`import` on the command line: what it prints, and what it refuses before anything is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from serving_samples import Call, caller, copied, examples, learn
from stream_samples import Ran, make_lab


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    return learn(lab, tmp_path_factory.mktemp("ran") / "home")


@pytest.fixture
def call(ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call the command line on a copy of the home, beside `other-home` and a diff's file."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    shutil.copytree(ran.home.path, tmp_path / "other-home")
    call = caller(copied(ran, tmp_path))
    assert call("export", "sst2", "-o", "sst2.sldiff").exit_code == 0
    return call


def test_the_examples_of_the_help_run(call: Call) -> None:
    for words in examples("import"):
        result = call(*words)
        assert result.exit_code == 0, (words, result.stderr)
        assert result.stdout


def test_a_home_is_told_run_by_run(call: Call, tmp_path: Path) -> None:
    new = caller(tmp_path / "new")

    (base,) = json.loads(call("ls", "bases", "--format", "json").stdout)
    words = ("import", "../other-home", "--base", base["model"], "--format", "json")
    first, second = (new(*words) for _ in range(2))

    row = {"source": "glue_tiny-1", "run": "glue_tiny-1", "arrivals": 3}
    assert json.loads(first.stdout) == [row | {"status": "new"}]
    assert json.loads(second.stdout) == [row | {"status": "already here"}]
    assert new("ls", "scores").stdout == call("ls", "scores").stdout


def test_an_imported_file_is_what_its_task_means_from_then_on(call: Call) -> None:
    before = call("predict", "sst2", "a good film", "--format", "json")

    call("import", "sst2.sldiff", "--provider", "me", "--task", "mine")
    after = call("predict", "mine", "a good film", "--format", "json")

    assert after.stdout == before.stdout
    assert "imported, seed 0, from the file sst2.sldiff" in after.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["../other-home", "--provider", "me"], 2, "are for a FILE"),
        (["sst2.sldiff", "--provider", "me", "--base", "x", "--base", "y"], 2, "once"),
        (["nowhere"], 2, "does not exist"),
        (
            [".", "--format", "json"],
            1,
            "no registry in the home .. Give a folder that",
        ),
    ],
)
def test_what_cannot_be_imported_is_one_paragraph(
    arguments: list[str], code: int, message: str, call: Call
) -> None:
    result = call("import", *arguments)

    assert (result.exit_code, result.stdout) == (code, "")
    assert message in " ".join(result.stderr.split())


def test_a_base_is_not_taken_from_an_import(call: Call, tmp_path: Path) -> None:
    del call
    new = caller(tmp_path / "new")

    alone, wrong = (new("import", "../other-home", *more) for more in ([], ["--base", "/none"]))

    assert alone.exit_code == 2
    assert "A base is never taken from an import" in " ".join(alone.stderr.split())
    assert wrong.exit_code == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("source", ["sst2.sldiff", "."])
def test_no_home_is_made_for_what_cannot_be_taken_in(
    source: str, call: Call, tmp_path: Path
) -> None:
    del call  # it wrote the file
    options = ["--provider", "me"] if source != "." else []

    result = caller(tmp_path / "none")("import", source, *options)

    assert result.exit_code == 1
    assert "There is no registry" in result.stderr
    assert not (tmp_path / "none").exists()
