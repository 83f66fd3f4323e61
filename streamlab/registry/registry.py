"""The registry: the records of bases, runs, arrivals, artifacts, scores and events.

It returns frozen records. The artifacts themselves are in the store; a row is written last, so
that it means the work is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self, TypeVar

from streamlab.errors import RegistryError
from streamlab.registry import schema
from streamlab.registry.arrivals import Arrivals
from streamlab.registry.artifacts import Artifacts
from streamlab.registry.database import Database
from streamlab.registry.integrity import Integrity
from streamlab.registry.logs import Events, Placements
from streamlab.registry.records import PrimaryStream
from streamlab.registry.removal import Removal
from streamlab.registry.runs import Bases, Runs
from streamlab.registry.scores import Scores
from streamlab.registry.tables import Tables
from streamlab.registry.tags import Tags
from streamlab.registry.totals import Totals

Result = TypeVar("Result")


class Registry(AbstractContextManager["Registry"]):
    """One registry in one database; several processes and threads may use it at once.

    Its parts are repositories, each method of which is one transaction. Every one raises
    RegistryError where the database cannot be used, and NotInRegistryError where a name or number
    it is given has no record.
    """

    def __init__(
        self, database: Database, *, on_damage: Callable[[str], None] | None = None
    ) -> None:
        self._database = database
        self._on_damage = on_damage
        self._damage: set[str] = set()
        self.url = database.url  # a password hidden
        self.bases = Bases(self, database)
        self.runs = Runs(self, database)
        self.arrivals = Arrivals(self, database)
        self.artifacts = Artifacts(self, database)
        self.scores = Scores(self, database)
        self.placements = Placements(self, database)
        self.totals = Totals(self, database)
        self.tags = Tags(self, database)
        self.removal = Removal(self, database)
        self.events = Events(self, database)
        self.integrity = Integrity(self, database)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Callable[[], float],
        read_only: bool = False,
        on_damage: Callable[[str], None] | None = None,
    ) -> Self:
        """Open the registry of an SQLAlchemy URL; create or upgrade it where need be.

        `clock` gives seconds since the epoch. `on_damage` is told once of each damaged row, which
        listings then leave out; without it a damaged row is an error. Raises RegistryError where
        it cannot be opened, is newer than this program, or is to be read only and missing or out
        of date.
        """
        if not read_only:
            schema.create(url, clock=clock)
        database = Database(url, read_only=read_only, clock=clock)
        try:
            schema.prepare(database, read_only=read_only)
        except BaseException:
            database.close()
            raise
        return cls(database, on_damage=on_damage)

    def report_damage(self, text: str) -> None:
        """Report a damaged row. Raises RegistryError where nobody is to be told."""
        if self._on_damage is None:
            raise RegistryError(f"{text} See `streamlab verify`.")
        if text not in self._damage:
            self._damage.add(text)
            self._on_damage(text)

    def transaction(self, work: Callable[[], Result]) -> Result:
        """Make everything that `work` does one writing transaction, kept as a whole or not at all.

        `work` may run several times, and an error within it must leave it.
        """
        return self._database.write(lambda _: work())

    def primary_stream(self, run: str) -> PrimaryStream:
        """Return the finished arrivals of a run's first seed by its primary method.

        Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet.
        """
        return self._database.read(lambda _: self._primary_stream(run))

    def disk_bytes(self) -> int:
        """Return the bytes that the registry itself takes on the disk."""
        backend = self._database.backend
        return self._database.read(lambda c: backend.disk_bytes(c, Tables.metadata))

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _primary_stream(self, run: str) -> PrimaryStream:
        record = self.runs.get(run)
        seed, method = record.settings.seeds[0], record.settings.primary_method
        arrivals = self.arrivals.list(run=record.id, method=method, status="finished", seed=seed)
        if not arrivals:
            raise RegistryError(
                f"In the run `{record.name}` no arrival with seed {seed} by `{method}` has "
                "finished, so there is nothing to show. Let the run continue, or name another one "
                "with `--run`."
            )
        digests = {arrival.digest for arrival in arrivals if arrival.digest}
        return PrimaryStream(
            run=record,
            base=self.bases.get(record.base_fingerprint),
            seed=seed,
            method=method,
            arrivals=tuple(sorted(arrivals, key=lambda a: (a.sequence, a.id))),
            diffs={diff.digest: diff for diff in self.artifacts.with_digests(digests)},
        )
