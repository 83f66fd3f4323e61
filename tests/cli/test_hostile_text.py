"""What names and texts from elsewhere can do to a terminal, a spreadsheet or a page: nothing."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from streamlab.cli import cli
from streamlab.cli.run_scenario import LiveProgress
from streamlab.home.folder import Home
from streamlab.units import printable
from streamlab.views.export import csv_text
from streamlab.views.listings import SUBJECTS

HOSTILE = "=1+1\x1b]0;mine\x07\x1b[2J\x9b31m\u202e\u2028\rx"
POISONED = """
runs.name runs.scenario_name runs.reason runs.host bases.model bases.revision providers.name
tasks.name arrivals.reason arrivals.source_detail arrivals.behaviour arrivals.rule scores.metric
tags.name events.subject events.message placements.note
"""


def poisoned(text: str) -> set[str]:
    """Return the characters of a text that a terminal may obey."""
    return {c for c in text if c not in "\n\t" and printable(c) != c}


@pytest.fixture
def hostile(home: Home, call: Callable[..., Result]) -> Callable[..., Result]:
    """Call the command line on a home whose records hold what an attacker would write."""
    poison(home, HOSTILE)
    return call


def poison(home: Home, text: str) -> None:
    """Put a text before every text of a home's records."""
    with closing(sqlite3.connect(home.path / "registry.db")) as database:
        triggers = database.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        for place in POISONED.split():
            table, _, column = place.partition(".")
            database.execute(
                f"UPDATE {table} SET {column} = ? || {column}",  # noqa: S608 - of the list above
                (text,),
            )
        for _, sql in triggers:
            database.execute(sql)
        database.commit()


@pytest.mark.parametrize("form", ["table", "csv", "md"])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_listing_lets_a_text_control_the_terminal(
    subject: str, form: str, hostile: Callable[..., Result]
) -> None:
    result = hostile("ls", subject, "--columns", "all", "--format", form)

    assert result.exit_code == 0, result.output
    assert "x1b[2J" in result.stdout or subject in ("diffs", "placements", "tags")
    assert not poisoned(result.stdout + result.stderr)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_record_with_a_nul_is_left_out_and_named_without_control(
    subject: str, home: Home, call: Callable[..., Result]
) -> None:
    poison(home, f"{HOSTILE}\x00")

    result = call("ls", subject)

    assert result.exit_code == 0, result.output
    assert "is damaged" in result.stderr or subject in ("diffs", "placements", "tags")
    assert not poisoned(result.stdout + result.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",), ("show", "arrival:1"), ("compare", "1", "2", "--all"), ("du", "--by", "task"),
        ("ls", "runs", "--where", "name = 'a\x1b[2J'"), ("show", "a\x1b[2J"), ("a\x1b[2J",),
        ("--a\x1b[2J",), ("ls", "--a\x1b[2J"), ("ls", "a\x1b[2J"), ("ls", "--limit", "\x1b[2J"),
        ("plan", "a\x1b[2J.yaml"), ("import", "a\x1b[2J"), ("export", "runs", "-o", "a\x1b[2J"),
        ("show", "a", "--home", "a\x1b[2J"), ("show", "--registry", "a\x1b[2J"), ("verify",),
        ("fit", "--budget", "a\x1b[2J"), ("predict", "a\x1b[2J", "text"),
    ],
    ids=lambda arguments: printable(" ".join(arguments)),
)  # fmt: skip
def test_no_page_or_error_lets_a_text_control_the_terminal(
    arguments: tuple[str, ...], hostile: Callable[..., Result]
) -> None:
    result = hostile(*arguments)

    assert isinstance(result.exception, SystemExit | None)
    assert result.output
    assert not poisoned(result.stdout + result.stderr)


def test_no_file_lets_a_text_control_the_terminal(
    hostile: Callable[..., Result], tmp_path: Path
) -> None:
    folder = tmp_path / "a\x1b[2J"
    for arguments in (
        ("report", "-o", str(folder / "r.html")),
        *(("plot", name, "-o", str(folder)) for name in ("storage", "accuracy", "matrix", "bytes")),
        *(("export", name, "-o", str(folder / f"{name}.csv")) for name in ("arrivals", "bases")),
    ):
        result = hostile(*arguments)
        assert result.exit_code == 0, result.output
        assert not poisoned(result.stdout + result.stderr)

    written = [path for path in folder.iterdir() if path.suffix != ".png"]
    assert len(written) == 11
    for path in written:
        assert not poisoned(path.read_text(encoding="utf-8")), path


def test_a_text_never_becomes_a_formula() -> None:
    cells = [
        "=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\n=1", " =1", "\r=1",
        "\uff1d1+1", "'=1", "=", "plain", "a=b", "", "-1", "+1.5e3", "-inf", "x\x1b[2Jy",
    ]  # fmt: skip

    (header, *rows) = csv.reader(io.StringIO(csv_text(["=name", "n"], [(c, -1) for c in cells])))

    assert header == ["'=name", "n"]
    assert [row[0] for row in rows] == [
        "'=1+1", "'+1+1", "'-1+cmd|' /C calc'!A0", "'@SUM(A1)", "'\t=1", "'\n=1", "' =1",
        "\\x0d=1", "'\uff1d1+1", "''=1", "'=", "plain", "a=b", "", "-1", "+1.5e3", "-inf",
        "x\\x1b[2Jy",
    ]  # fmt: skip
    assert {row[1] for row in rows} == {"-1"}


def test_texts_stay_legible() -> None:
    assert printable("naïve 你好\u3000\xa0😀 ") == "naïve 你好\u3000\xa0😀 "


def test_the_words_of_a_provider_are_no_markup_and_no_escapes() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    live = LiveProgress(console, stages=True)
    live.add_task("[red]\\x1b[2J", total=1, facts=("[link=file:///]x[/link]",))
    console.print(live.get_renderable())

    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]" in shown
    assert "[link=file:///]x[/link]" in shown


def test_a_message_without_a_command_is_clean() -> None:
    result = CliRunner().invoke(cli, ["\x1b[2J"])

    assert result.exit_code == 2
    assert "There is no command `\\x1b[2J`" in result.stderr
