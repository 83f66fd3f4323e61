"""`db current` and `db upgrade`: what they say, and what they leave alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from streamlab.home.folder import Home
from streamlab.registry import schema


def test_a_registry_that_is_up_to_date_says_so(call: Callable[..., Result]) -> None:
    result = call("db", "current")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split(maxsplit=2) == [
        schema.NEWEST,
        schema.NEWEST,
        "up to date",
    ]
    assert result.stderr == ""


@pytest.mark.parametrize("verb", ["current", "upgrade"])
def test_a_newer_registry_is_refused_in_a_paragraph(
    verb: str, home: Home, call: Callable[..., Result]
) -> None:
    with closing(sqlite3.connect(home.path / "registry.db")) as connection, connection:
        connection.execute("UPDATE streamlab_version SET version_num = '0999'")

    result = call("db", verb)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: The registry ")
    assert "is newer than this program" in result.stderr
    assert "Update streamlab" in result.stderr


@pytest.mark.parametrize("verb", ["current", "upgrade"])
def test_no_registry_is_made_where_there_is_none(
    verb: str, tmp_path: Path, call: Callable[..., Result]
) -> None:
    empty = call("db", verb, "--home", str(tmp_path / "none"))
    named = call("db", verb, "--registry", f"sqlite:///{tmp_path}/none.db")

    assert (empty.exit_code, named.exit_code) == (1, 1)
    assert "There is no registry" in empty.stderr
    assert "There is no registry" in named.stderr
    assert not list(tmp_path.glob("none*"))


def test_a_mistyped_verb_names_the_nearest(call: Callable[..., Result]) -> None:
    result = call("db", "upgrad")

    assert result.exit_code == 2
    assert "Did you mean `upgrade`?" in result.stderr
