"""A home with three tasks learnt on a tiny base, called as the help's examples call them."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from stream_samples import Lab, Ran, carry_out, task

from streamlab.cli import COMMANDS, cli

Call = Callable[..., Result]


def learn(lab: Lab, home: Path, **changes: object) -> Ran:
    """Learn sst2, rte and stsb, which are the lab's three tasks under other names."""
    names = {"sst2": "mood", "rte": "same", "stsb": "degree"}
    tree = {
        "name": "glue_tiny",
        "tasks": {name: task(rows) for name, rows in names.items()},
        "providers": {"press": {"tasks": list(names)}},
    }
    return carry_out(lab.scenario(**(tree | changes)), home)


def caller(home: Path) -> Call:
    """Return a function that calls the command line on a home."""

    def invoke(*arguments: object, stdin: str | bytes | None = None) -> Result:
        environment = {"STREAMLAB_HOME": str(home), "NO_COLOR": None, "FORCE_COLOR": None}
        return CliRunner().invoke(cli, [*map(str, arguments)], input=stdin, env=environment)

    return invoke


def copied(ran: Ran, folder: Path) -> Path:
    """Copy the home, for what changes it."""
    return shutil.copytree(ran.home.path, folder / "home")


def examples(command: str) -> list[list[str]]:
    """Return the calls that a command's help shows, without the program's name."""
    help_text = COMMANDS[command].load().help or ""
    lines = help_text.partition("Example:\n")[2].splitlines()
    calls = [shlex.split(line) for line in lines if line.strip().startswith("streamlab ")]
    if not calls:
        pytest.fail(f"the help of `{command}` shows no example")
    return [words[1:] for words in calls]
