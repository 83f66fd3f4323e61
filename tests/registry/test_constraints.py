"""What the database itself refuses, whatever program asks; of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from registry_samples import Clock, new_arrival, new_base, new_diff, new_run, new_score
from sqlalchemy import text

from streamlab.errors import RegistryError
from streamlab.registry.database import Database
from streamlab.registry.records import NewPlacement
from streamlab.registry.registry import Registry

Execute = Callable[[str], None]
PLACING = "INSERT INTO placements (run_id, at_us, arrival_id, action, device_bytes, note)"


@pytest.fixture
def execute(shared_url: str) -> Iterator[Execute]:
    """Carry out a statement past the registry, which has two arrivals, an event and a placement."""
    with Registry.open(shared_url, clock=Clock()) as registry:
        registry.bases.add(new_base())
        run = registry.runs.start(new_run())
        for version in (1, 2):
            later = new_score(after_sequence=5)
            registry.arrivals.add(
                new_arrival(run.id, version=version), new_diff(), [new_score(), later]
            )
        registry.placements.add(
            [NewPlacement(at_us=1, arrival_id=1, action="stored", device_bytes=1)]
        )
    with closing(Database(shared_url)) as database:
        yield lambda statement: database.write(lambda c: c.execute(text(statement)) and None)


def test_the_logs_are_only_ever_appended_to(execute: Execute) -> None:
    for statement in (
        "UPDATE events SET message = 'x'",
        "DELETE FROM events",
        "UPDATE placements SET note = 'x'",
        "DELETE FROM placements",
    ):
        with pytest.raises(RegistryError, match="append-only"):
            execute(statement)


def test_the_database_itself_refuses_what_cannot_be(execute: Execute) -> None:
    for statement in (
        "UPDATE arrivals SET run_id = 99",
        "UPDATE arrivals SET diff_id = 99",
        "UPDATE arrivals SET status = 'done'",
        "UPDATE arrivals SET diff_id = NULL",
        "UPDATE arrivals SET version = 1",
        "UPDATE arrivals SET rule = 'size'",
        "UPDATE arrivals SET status = 'failed', diff_id = NULL",
        "UPDATE arrivals SET status = 'failed', diff_id = NULL, reason = 'x', rule = 'size'",
        "UPDATE arrivals SET status = 'quarantined', diff_id = NULL, reason = 'x'",
        "UPDATE arrivals SET status = 'quarantined', reason = 'x', rule = 'size'",
        "UPDATE arrivals SET arrived_us = 1",
        "UPDATE arrivals SET began_us = 1, ended_us = 2",
        "UPDATE arrivals SET arrived_us = 2, began_us = 1, ended_us = 3",
        "UPDATE arrivals SET arrived_us = 1, began_us = 3, ended_us = 2",
        "UPDATE arrivals SET arrived_us = -1, began_us = 3, ended_us = 4",
        "UPDATE diffs SET file_bytes = file_bytes + 1",
        "UPDATE diffs SET n_entries = n_gated + 1",
        "UPDATE runs SET status = 'stale'",
        "UPDATE runs SET finished_at = 1",
        "UPDATE scores SET n_examples = 0",
        "UPDATE scores SET after_sequence = 0",
        "DELETE FROM diffs",
        "DELETE FROM bases",
        "INSERT INTO providers (name) VALUES ('')",
        "INSERT INTO providers (name) VALUES ('reviews_inc')",
        "INSERT INTO tags (kind, name, run_id, added_at) VALUES ('run', '', 1, 0)",
        "INSERT INTO tags (kind, name, run_id, added_at) VALUES ('run', 'x', 99, 0)",
        "INSERT INTO tags (kind, name, run_id, added_at) VALUES ('diff', 'x', 1, 0)",
        "INSERT INTO tags (kind, name, run_id, diff_id, added_at) VALUES ('run', 'x', 1, 1, 0)",
        "INSERT INTO tags (kind, name, run_id, added_at) VALUES ('task', 'x', 1, 0)",
        "INSERT INTO tags (kind, name, run_id, added_at) VALUES ('run', 'x', 1, 0), "
        "('run', 'x', 1, 0)",
        f"{PLACING} VALUES (1, 1, 1, 'lost', 1, '')",
        f"{PLACING} VALUES (1, 1, 1, 'stored', -1, '')",
    ):
        with pytest.raises(RegistryError, match=r"constraint|unique"):
            execute(statement)
