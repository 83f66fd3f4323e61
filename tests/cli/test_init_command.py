"""`streamlab init`: a starter scenario that is valid, and never at the cost of another file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamlab.cli import cli
from streamlab.stream.scenario import load_scenario


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", *arguments])


def test_the_starter_is_a_valid_scenario_with_its_question_in_the_first_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.yaml"

    result = call(str(path))

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"Wrote {path}. Run it with: streamlab run {path}\n"
    assert path.read_text(encoding="utf-8").splitlines()[0].endswith("?")
    assert f"streamlab run {path}\n" in path.read_text(encoding="utf-8")
    loaded = load_scenario(path, environment={})
    assert loaded.scenario.name == "my_stream"
    assert set(loaded.scenario.tasks) == {"sst2", "mrpc"}


def test_the_task_that_the_starter_has_commented_out_is_valid_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    call(str(path))
    text = path.read_text(encoding="utf-8")
    start = text.index("  # tickets:")
    own, rest = text[start:].split("\n\n", 1)
    text = text[:start] + own.replace("  # ", "  ") + "\n\n" + rest
    path.write_text(text.replace("{tasks: [mrpc]}", "{tasks: [mrpc, tickets]}"), encoding="utf-8")

    tickets = load_scenario(path, environment={}).scenario.tasks["tickets"]

    assert tickets.columns.text == "body"
    assert tickets.metric == ("accuracy",)


def test_the_starter_trains_as_the_main_job_does_whose_scores_were_measured(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.yaml"
    call(str(path))

    starter, main = (
        load_scenario(file, environment={}).scenario
        for file in (path, Path(__file__).parents[2] / "scenarios/glue_stream.yaml")
    )

    assert (starter.base, starter.data, starter.defaults) == (main.base, main.data, main.defaults)
    for name, task in starter.tasks.items():
        assert task == main.tasks[name]
        (provider,) = (who for who, one in starter.providers.items() if name in one.tasks)
        assert name in main.providers[provider].tasks  # so that the seed of its training is equal


def test_the_path_is_scenario_yaml_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert call().exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["scenario.yaml"]


def test_a_file_that_is_there_is_replaced_by_force_only(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")

    refused = call(str(path))
    kept = path.read_text()
    forced = call(str(path), "--force")

    assert (refused.exit_code, kept) == (2, "mine")
    assert refused.stderr == (
        f"Error: {path} already exists. Give another name, or `--force` to replace it.\n"
    )
    assert forced.exit_code == 0
    assert "version: 1" in path.read_text()


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "mine.yaml"

    result = call(str(path))

    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {path} cannot be written: File exists. No partial file was left. Make its "
        "folder writable, or choose another location.\n"
    )


def test_the_launcher_runs_from_a_checkout(tmp_path: Path) -> None:
    launcher = Path(__file__).parents[2] / "cli.py"
    path = tmp_path / "mine.yaml"

    done = subprocess.run(
        [sys.executable, str(launcher), "init", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("Wrote ")
    assert path.is_file()
