"""The reading half of the registry: opening it and asking it; nothing here changes a row."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

from sqlalchemy import Connection

from streamlab.registry import (
    arrivals,
    bases,
    diffs,
    events,
    placements,
    runs,
    schema,
    scores,
    sums,
    totals,
)
from streamlab.registry.database import Database
from streamlab.registry.device_log import PlacementRecord
from streamlab.registry.records import (
    ArrivalRecord,
    ArrivalStatus,
    BaseRecord,
    DiffRecord,
    EventRecord,
    ExamplesUsed,
    Grouping,
    MethodStorage,
    ProviderSummary,
    RunRecord,
    ScoreRecord,
    TaskSummary,
    Total,
)


class Queries:
    """What can be asked of a registry; each method is one view of the database at one moment."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    def open(cls, url: str, *, clock: Callable[[], float], read_only: bool = False) -> Self:
        """Open the registry of an SQLAlchemy URL; make it, or bring it up to date, if need be.

        `clock` gives seconds since the epoch. Raises RegistryError where it cannot be opened, is
        newer than this program, or is to be read only and missing or out of date.
        """
        database = Database.open(url, read_only=read_only)
        try:
            schema.prepare(database, read_only=read_only, clock=clock)
        except BaseException:
            database.close()
            raise
        return cls(database, clock=clock)

    @property
    def url(self) -> str:
        """Return the URL of the registry, a password hidden."""
        return self._database.url

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def base(self, fingerprint: str) -> BaseRecord:
        """Return the base of a whole fingerprint."""
        return self._database.read(lambda connection: bases.get(connection, fingerprint))

    def bases(self) -> tuple[BaseRecord, ...]:
        """Return every base in the order they were added."""
        return self._database.read(bases.every)

    def run(self, ref: str | int) -> RunRecord:
        """Return a run by its name, its number or as "latest"."""
        now = self._clock()
        return self._database.read(lambda c: runs.get(c, runs.id_of(c, ref), now=now))

    def runs(self, limit: int | None = None) -> tuple[RunRecord, ...]:
        """Return the last `limit` runs, or all, oldest first."""
        now = self._clock()
        return self._database.read(lambda c: runs.latest(c, limit, now=now))

    def find_unfinished_run(self, scenario_digest: str) -> RunRecord | None:
        """Return the latest run of a scenario that is not `finished`, None where there is none."""
        now = self._clock()
        return self._database.read(lambda c: runs.find_unfinished(c, scenario_digest, now=now))

    def arrival(self, number: int) -> ArrivalRecord:
        """Return the arrival of a number."""
        return self._database.read(lambda connection: arrivals.get(connection, number))

    def arrivals(
        self,
        *,
        run: str | int | None = None,
        task: str | None = None,
        provider: str | None = None,
        method: str | None = None,
        status: ArrivalStatus | None = None,
        seed: int | None = None,
        digest: str | None = None,
        limit: int | None = None,
        removed: bool = False,
    ) -> tuple[ArrivalRecord, ...]:
        """Return the first `limit` arrivals that match, or all.

        In order of run, seed, sequence, method and number. A task, provider or method that
        nothing arrived for matches nothing. Those that were removed are left out, here and in
        every other listing; with `removed` they alone are returned.
        """
        return self._database.read(
            lambda connection: arrivals.listed(
                connection,
                run_id=_run_id(connection, run),
                task=task,
                provider=provider,
                method=method,
                status=status,
                seed=seed,
                digest=digest,
                limit=limit,
                removed=removed,
            )
        )

    def rows_used(self, run: str | int) -> tuple[ExamplesUsed, ...]:
        """Return the rows that the arrivals of a run learnt from, each once, as they came."""
        return self._database.read(lambda c: sums.rows_used(c, runs.id_of(c, run)))

    def method_storage(self, run: str | int) -> tuple[MethodStorage, ...]:
        """Return what each method's artifacts take in a run, the first method first."""
        return self._database.read(lambda c: sums.by_method(c, runs.id_of(c, run)))

    def diff(self, prefix: str) -> DiffRecord:
        """Return the artifact of a digest, or of its beginning where only one begins so."""
        return self._database.read(lambda connection: diffs.get(connection, prefix))

    def diffs(
        self, *, run: str | int | None = None, limit: int | None = None
    ) -> tuple[DiffRecord, ...]:
        """Return the first `limit` artifacts of a run, or of all, in the order of adding.

        Each artifact once, however many arrivals share it.
        """
        return self._database.read(lambda c: diffs.listed(c, run_id=_run_id(c, run), limit=limit))

    def diffs_of(self, digests: Collection[str]) -> tuple[DiffRecord, ...]:
        """Return the artifacts of whole digests, in no order; what is not there is left out."""
        return self._database.read(lambda connection: diffs.of_digests(connection, digests))

    def scores(
        self,
        *,
        run: str | int | None = None,
        arrival_id: int | None = None,
        task: str | None = None,
        primary: bool = False,
        limit: int | None = None,
    ) -> tuple[ScoreRecord, ...]:
        """Return the first `limit` scores that match, or all, in the order of their arrivals.

        Below one arrival by the place they were measured after, then by split and metric.
        `primary`: those alone that an arrival is judged by.
        """
        return self._database.read(
            lambda connection: scores.listed(
                connection,
                run_id=_run_id(connection, run),
                arrival_id=arrival_id,
                task=task,
                primary=primary,
                limit=limit,
            )
        )

    def scores_of(self, arrival_ids: Collection[int]) -> tuple[ScoreRecord, ...]:
        """Return the scores of these arrivals; those of one in the order of `scores`."""
        return self._database.read(lambda connection: scores.of_arrivals(connection, arrival_ids))

    def placements(self, run: str | int) -> tuple[PlacementRecord, ...]:
        """Return the device's log of a run, oldest line first.

        Lines of removed arrivals are there until these go for good: a log says what happened.
        """
        return self._database.read(lambda c: placements.listed(c, runs.id_of(c, run)))

    def tasks(self) -> tuple[TaskSummary, ...]:
        """Sum up what arrived per task, by name."""
        return self._database.read(totals.tasks)

    def providers(self) -> tuple[ProviderSummary, ...]:
        """Sum up what arrived per provider, by name."""
        return self._database.read(totals.providers)

    def totals(self, by: Grouping, *, name: str | None = None) -> tuple[Total, ...]:
        """Return what arrived and what it takes by one thing, in the order of names and kinds.

        `name`: of that run, task, ... alone.
        """
        return self._database.read(lambda connection: totals.totals(connection, by, name=name))

    def events(self, limit: int | None = None) -> tuple[EventRecord, ...]:
        """Return the last `limit` lines of the log, or all, oldest first."""
        return self._database.read(lambda connection: events.latest(connection, limit))


def _run_id(connection: Connection, ref: str | int | None) -> int | None:
    return None if ref is None else runs.id_of(connection, ref)
