"""The server of the tests: what was committed is there after it was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from postgres_server import PostgresServer

pytestmark = pytest.mark.postgres


def test_a_killed_server_keeps_what_was_committed(postgres: PostgresServer) -> None:
    name = postgres.create()
    postgres.execute("CREATE TABLE kept AS SELECT 7 AS n", database=name)

    postgres.kill()
    postgres.start()

    assert postgres.execute("SELECT n FROM kept", database=name) == [(7,)]
    postgres.drop(name)
