"""Every command says of a registry in PostgreSQL what it says of the same one in a file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from streamlab.cli import cli
from streamlab.home.folder import Home
from streamlab.registry.transfer import copy_registry
from streamlab.views.listings import SUBJECTS

if TYPE_CHECKING:
    from postgres_server import PostgresServer

pytestmark = pytest.mark.postgres

CALLS = (
    *(f"ls {subject} --format csv" for subject in SUBJECTS),
    "ls arrivals --where 'score > 0.8 and not task like \"m*\" or status = failed'",
    "ls runs --where 'done >= 1 or stored_bytes > 1kB' --format json",
    *("show run:latest", "show arrival:1", "show task:sst2", "show base:", "show 99"),
    *("du --by task --format csv", "du --by method --format json"),
    *("tag best arrival:1", "tag", "tag --remove best"),
    *("rm 1 2", "ls arrivals --removed", "restore 1", "gc --dry-run --now", "ls events"),
    *("rollback sst2@1", "purge --provider newswire --yes", "ls tasks"),
    *("verify", "db current", "db upgrade"),
    *("export runs -o runs.txt", "plot storage --run glue_stream-1", "report --run tiny-1"),
)


@pytest.fixture
def call_there(
    home: Home, postgres: PostgresServer, postgres_database: str
) -> Callable[[str], Result]:
    """Call the command line on a home like `home`, whose registry is in PostgreSQL."""
    url = postgres.url(postgres_database)
    copy_registry(home.registry_url, url, clock=lambda: 2e9)

    def invoke(line: str) -> Result:
        environment = {"STREAMLAB_HOME": f"{home.path}-there", "STREAMLAB_REGISTRY": url}
        return CliRunner().invoke(cli, shlex.split(line), env=environment | {"NO_COLOR": None})

    return invoke


def plain(text: str) -> str:
    """Leave out what differs: the place, and when something was done."""
    text = re.sub(r"\S*home(-there)?\b[/.]?\S*|postgresql\S+|sqlite:\S+", "PLACE", text)
    return re.sub(
        r"(registry|total)\W+[\d.,]+ ?\w*|\d{4}-\d\d-\d\d[T ][\d:.Z]+|[0-9.]+e9", "N", text
    )


def test_every_command_answers_the_same(
    home: Home,
    call: Callable[..., Result],
    call_there: Callable[[str], Result],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("out"))
    there = Home(home.path.with_name("home-there"))
    there.create()
    for line in CALLS:
        here, other = call(*shlex.split(line)), call_there(line)

        assert here.exit_code == other.exit_code, (line, here.output, other.output)
        assert plain(other.output) == plain(here.output), line


def test_the_size_of_the_tables_is_what_the_registry_takes(
    call_there: Callable[[str], Result],
) -> None:
    rows = call_there("du --format csv").stdout.splitlines()

    (size,) = [row.split(",")[-1] for row in rows if row.startswith("registry,")]
    assert 100_000 < int(size) < 5_000_000


def test_a_plan_says_that_it_leaves_out_the_registry(call_there: Callable[[str], Result]) -> None:
    planned = call_there("fit --budget 100MB --run glue_stream-1")

    assert planned.exit_code == 0
    assert "The registry is not a local file; its bytes are not counted." in planned.stderr


def test_a_server_is_checked_by_doctor(call_there: Callable[[str], Result]) -> None:
    found = call_there("doctor --format csv").stdout

    assert re.search(r"registry,ok,\"?PostgreSQL \d.*, version 0001", found)
