"""The walk-through of docs/ runs as it is printed, on a finished run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from stream_samples import carry_out, make_lab, task

from streamlab.cli import COMMANDS, cli

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "first-run.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose one task is called `cola`."""
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    path = lab.scenario(tasks={"cola": task("mood")}, providers={"press": {"tasks": ["cola"]}})
    return carry_out(path, tmp_path_factory.mktemp("walk") / "home").home.path


def test_three_commands_say_what_a_task_costs_how_good_it_is_and_what_it_predicts(
    home: Path,
) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    commands = block.splitlines()

    outputs = []
    for command in commands:
        result = CliRunner().invoke(cli, [*shlex.split(command)[1:], "--home", str(home)])
        assert result.exit_code == 0, result.stderr
        outputs.append(result.stdout)

    assert len(commands) == 3
    cost, score, answer = outputs
    assert cost.splitlines()[1].startswith("cola")
    assert "dev" in score
    assert answer.count("\n") == 3


def test_every_command_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`streamlab (\w+)", PAGE))

    assert named <= set(COMMANDS)
