"""Exit codes, where errors go, and that the command line starts without its heavy libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from streamlab.cli import COMMANDS, cli
from streamlab.cli.lazy_group import LazyCommand, LazyGroup, reported
from streamlab.errors import NotInRegistryError, StoreError, UsageError
from streamlab.home.folder import Home
from streamlab.registry.registry import Registry
from streamlab.views.table import readable

HEAVY = ("torch", "transformers", "datasets", "sqlalchemy", "alembic", "matplotlib", "rich")


def loaded_by(*arguments: str, home: Path | None = None) -> set[str]:
    """Call the command line in a fresh process and return the heavy modules it loaded."""
    code = (
        "import sys\n"
        "from streamlab.cli import cli\n"
        f"cli.main({list(arguments)!r}, standalone_mode=False)\n"
        f"print('LOADED', *({HEAVY!r} & sys.modules.keys()))\n"
    ).replace(f"{HEAVY!r} &", f"{set(HEAVY)!r} &")
    environment = os.environ | {"STREAMLAB_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_loads_no_command_and_no_heavy_library() -> None:
    assert loaded_by("--help") == set()


@pytest.mark.parametrize(
    "arguments",
    [("ls", "arrivals"), ("show",), ("compare", "1", "2"), ("plot", "storage")],
)
def test_reading_commands_load_no_torch(arguments: tuple[str, ...], home: Home) -> None:
    loaded = loaded_by(*arguments, home=home.path)

    assert "sqlalchemy" in loaded
    assert not {"torch", "transformers", "datasets", "alembic"} & loaded
    assert ("matplotlib" in loaded) == (arguments[0] == "plot")


def test_every_command_of_the_table_loads_under_its_name() -> None:
    assert {name: command.load().name for name, command in COMMANDS.items()} == {
        name: name for name in COMMANDS
    }


@pytest.mark.parametrize("name", ["", *COMMANDS])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_fits_80_columns(name: str, option: str) -> None:
    result = CliRunner().invoke(cli, [name, option] if name else [option])

    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_mistyped_command_names_the_nearest(call: Callable[..., Result]) -> None:
    result = call("shwo")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "There is no command `shwo`. Did you mean `show`?" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ls", "--sort", "statsu"], 2, "no column `statsu` here. Did you mean `status`"),
        (["ls", "--columns", "run,colour"], 2, "no column `colour`"),
        (
            ["ls", "tasks", "--run", "latest"],
            2,
            "`--run` narrows runs, arrivals, diffs, scores and",
        ),
        (["ls", "arrivals", "--run", "glue_steam-1"], 2, "Did you mean `glue_stream-1`?"),
        (["ls", "arrivals", "--limit", "0"], 2, "--limit"),
        (["ls", "rns"], 2, "There is no listing `rns`. Did you mean `runs`?"),
        (["show", "tinny-1"], 2, "Did you mean `tiny-1`?"),
        (["show", "mrpc"], 2, "Name another run with `--run`."),
        (["show", "colour:1"], 2, "no kind `colour`"),
        (["show", "arrival:99"], 2, "no arrival 99"),
        (["show", "arrival:one"], 2, "known by its number"),
        (["show", "diff:xyz"], 2, "does not begin a digest"),
        (["show", "base:0000"], 2, "no base that begins with '0000'"),
        (["compare", "tiny-1"], 2, "A comparison needs two or more"),
        (["compare", "tiny-1", "arrival:1"], 2, "got run and arrival"),
        (["compare", "task:sst2", "base:cae662"], 2, "got task and base"),
        (["compare", "tiny-1", "2"], 2, "'tiny-1' is named twice, by this or another name"),
        (["compare", "tiny-1", "tinny-1"], 2, "Did you mean `tiny-1`?"),
        (["plot", "storage", "--run", "none"], 2, "no run 'none'"),
        (["plot", "stroage"], 2, "There is no figure `stroage`. Did you mean `storage`?"),
        (["ls", "--limt", "3"], 2, "Did you mean '--limit'?"),
        (["ls", "--format", "jsn"], 2, "'jsn' is not one of 'table', 'json', 'csv', 'md'"),
        (["ls", "--registry", "nonsense"], 1, "is not a database URL"),
    ],
)
def test_an_error_is_one_paragraph_on_standard_error(
    arguments: list[str], code: int, message: str, call: Callable[..., Result]
) -> None:
    result = call(*arguments)

    assert result.exit_code == code
    assert result.stdout == ""
    assert message in result.stderr
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [["ls"], ["show"], ["plot", "storage"]])
def test_a_missing_home_is_one_paragraph_and_nothing_is_made(
    arguments: list[str], tmp_path: Path
) -> None:
    home = tmp_path / "nowhere"

    result = CliRunner().invoke(cli, [*arguments, "--home", str(home)])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: There is no registry in the home {home}.")
    assert result.stderr.count("\n") == 1
    assert not home.exists()


def test_an_empty_registry_says_what_to_do_and_is_no_failure(tmp_path: Path) -> None:
    home = Home(tmp_path)
    Registry.open(home.registry_url, clock=lambda: 0.0).close()

    table, tree = (
        CliRunner().invoke(cli, ["ls", "--home", str(tmp_path), "--format", form])
        for form in ("table", "json")
    )

    assert (table.exit_code, table.stdout) == (0, "")
    assert "`streamlab run scenario.yaml`" in table.stderr
    assert (tree.exit_code, tree.stdout) == (0, "[]\n")


def test_the_registry_option_wins_over_the_home(home: Home, tmp_path: Path) -> None:
    arguments = ["ls", "--home", str(tmp_path / "nowhere"), "--registry", home.registry_url]

    result = CliRunner().invoke(cli, arguments)

    assert result.exit_code == 0
    assert "glue_stream-1" in result.stdout


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StoreError("The disk is full."), 1, "Error: The disk is full.\n"),
        (UsageError("That cannot be."), 2, "Error: That cannot be.\n"),
        (NotInRegistryError("No such run."), 2, "Error: No such run.\n"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
    ],
)
def test_what_a_command_raises_becomes_its_exit_code(
    error: BaseException, code: int, text: str
) -> None:
    @click.command()
    @click.pass_context
    def failing(ctx: click.Context) -> None:
        with reported(ctx):
            raise error

    result = CliRunner().invoke(failing)

    assert (result.exit_code, result.stdout, result.stderr) == (code, "", text)


def test_the_group_reports_what_its_commands_raise() -> None:
    class Group(LazyGroup):
        table = {"ls": LazyCommand("inspection:ls", "")}  # noqa: RUF012 - never changed

    result = CliRunner().invoke(Group("group"), ["ls", "--home", "/nonexistent"])

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no registry")


def test_a_closed_pipe_ends_in_silence(home: Home) -> None:
    environment = os.environ | {"STREAMLAB_HOME": str(home.path)}
    code = "from streamlab.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "ls", "scores"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


def test_a_pipe_gets_no_colour_codes_even_when_colour_is_forced(home: Home) -> None:
    environment = {"STREAMLAB_HOME": str(home.path), "FORCE_COLOR": "1", "NO_COLOR": None}

    result = CliRunner().invoke(cli, ["show"], env=environment)

    assert "\x1b" not in result.stdout


def test_a_name_cannot_steer_the_terminal() -> None:
    assert readable("a\x1b[31mb\n", "text") == "a\\x1b[31mb\\x0a"


def test_a_run_found_dead_stands_out_and_a_task_of_that_name_does_not() -> None:
    assert readable("stale", "status") == "STALE"
    assert readable("stale", "text") == "stale"


def test_an_empty_cell_is_a_dash() -> None:
    assert readable(None, "virtual") == "-"
