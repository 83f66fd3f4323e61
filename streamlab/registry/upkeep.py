"""The part of the registry that looks after a home: checking it, tidying it, naming what is in it.

Every change writes an event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from streamlab.registry import audits
from streamlab.registry.audits import Damage, StoredFacts
from streamlab.registry.queries import Queries

Result = TypeVar("Result")


class Upkeep(Queries):
    """What is asked of a registry, and done to it, to look after what it remembers."""

    def damage(self) -> Damage:
        """Look for damage of the database itself; all of it is read."""
        return self._database.read(audits.damage)

    def stored(self, *, after: int = 0, limit: int) -> tuple[StoredFacts, ...]:
        """Return what the next `limit` rows past the number `after` say of stored files."""
        return self._database.read(lambda c: audits.stored(c, after=after, limit=limit))

    def n_artifacts(self) -> int:
        """Return the number of stored artifacts."""
        return self._database.read(audits.n_artifacts)

    def _write(self, work: Callable[[Connection, float], Result]) -> Result:
        now = self._clock()
        return self._database.write(lambda connection: work(connection, now))
