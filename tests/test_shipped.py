"""Scenarios and studies that come with streamlab are found by name, from any folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamlab.cli import cli
from streamlab.errors import ConfigError
from streamlab.shipped import KINDS, find_file, first_line, shipped_files
from streamlab.stream.scenario import load_scenario
from streamlab.study.study import load_study

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_every_file_of_the_repository_has_a_name() -> None:
    named = {path.resolve() for kind in KINDS for path in shipped_files(kind).values()}

    assert named == {*ROOT.glob("scenarios/*.yaml"), *ROOT.glob("studies/*.yaml")}


@pytest.mark.parametrize("name", shipped_files("scenario"))
def test_a_scenario_is_loaded_by_its_name(name: str) -> None:
    loaded = load_scenario(Path(name), environment={"STREAMLAB_DATA": "data"})

    assert loaded.scenario.name == name


@pytest.mark.parametrize("name", shipped_files("study"))
def test_a_study_is_loaded_by_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLAB_DATA", "data")

    assert load_study(Path(name)).study.name.replace("-", "_") == name


def test_a_file_that_is_there_goes_before_a_shipped_one_of_its_name() -> None:
    shutil.copy(ROOT / "scenarios/smoke.yaml", "kilobytes")

    assert load_scenario(Path("kilobytes")).scenario.name == "smoke"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("scenarios/smoke.yaml", "`smoke` comes with streamlab: give this name alone."),
        ("smoke.yaml", "`smoke` comes with streamlab: give this name alone."),
        ("smok", "Did you mean `smoke`?"),
    ],
)
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(given: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_file(Path(given), "scenario")

    assert caught.value.problems == (f"does not exist. {hint}",)


def test_a_file_of_nearly_the_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()

    with pytest.raises(ConfigError) as caught:
        find_file(tmp_path / "mine.yml", "scenario")

    assert caught.value.problems == (f"does not exist. Did you mean `{tmp_path}/mine.yaml`?",)


@pytest.mark.parametrize("given", ["mine.yaml", "x" * 5000, "folder/mine"])
def test_any_other_path_is_left_to_whoever_reads_it(given: str) -> None:
    assert find_file(Path(given), "scenario") == Path(given)


def test_every_file_begins_with_its_question() -> None:
    for kind in KINDS:
        for path in shipped_files(kind).values():
            assert first_line(path).endswith(("?", ".")), path


def test_the_listing_has_every_name_and_question() -> None:
    listed = json.loads(call("scenarios", "--format", "json").stdout)

    assert [(row["name"], row["kind"]) for row in listed] == [
        (name, kind) for kind in KINDS for name in shipped_files(kind)
    ]
    questions = {row["name"]: row["question"] for row in listed}
    assert questions["density_sweep"].startswith("How does the score of one task grow")


def test_a_shipped_scenario_is_copied_to_be_changed() -> None:
    result = call("init", "mine.yaml", "--from", "smoke")

    assert result.exit_code == 0
    assert Path("mine.yaml").read_bytes() == (ROOT / "scenarios/smoke.yaml").read_bytes()


def test_an_unknown_name_is_not_copied() -> None:
    result = call("init", "mine.yaml", "--from", "smoky")

    assert result.exit_code == 2
    assert result.stderr == (
        "Error: No scenario 'smoky' comes with streamlab. Did you mean `smoke`?\n"
    )
    assert not Path("mine.yaml").exists()


def test_the_records_of_a_shipped_study_are_not_written_into_the_package() -> None:
    result = call("study", "export", "masks")

    assert result.exit_code == 2
    assert result.stderr == (
        "Error: The records of a study are written beside its file, and masks is a name. "
        "Copy its file first: `streamlab init masks.yaml --from masks`.\n"
    )
