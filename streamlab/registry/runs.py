"""Bases and runs: their names, a run's life from `running` to an end, and which process owns it."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, String, case, cast, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from streamlab.errors import NotInRegistryError, RegistryError, RunInProgressError
from streamlab.registry.conditions import Columns, Condition
from streamlab.registry.database import Repository, reads, writes
from streamlab.registry.records import IMPORTED, BaseRecord, NewBase, NewRun, RunRecord
from streamlab.registry.references import LATEST
from streamlab.registry.tables import (
    ArrivalRow,
    BaseRow,
    RunRow,
    TagRow,
    TotalRow,
    columns_of,
    tags_of,
    values_of,
)
from streamlab.registry.validation import build, check_new, shorten
from streamlab.units import nearest

RunEnd = Literal["finished", "failed", "interrupted"]
STALE_SECONDS = 120.0  # without a heartbeat for longer, a running run counts as dead
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)  # the largest id of a database has one digit more
_MOST_NAMES = 5  # in a message
_ATTEMPTS = 100  # at the next free number of a scenario's runs

_BASE_COLUMNS = columns_of(BaseRecord, BaseRow)
_COLUMNS = columns_of(RunRecord, RunRow, base_fingerprint=BaseRow.fingerprint)
_base_values = values_of(NewBase)
_values = values_of(NewRun, but=("base_fingerprint",))


@dataclass(frozen=True)
class Owner:
    """The process that works on a run."""

    host: str
    pid: int


def this_process() -> Owner:
    """Return the calling process."""
    return Owner(host=socket.gethostname(), pid=os.getpid())


def is_dead(owner: Owner, *, heartbeat_at: float, now: float) -> bool:
    """Tell whether the owner of a running run is gone: silent for too long, or its process ended.

    Times are seconds since the epoch. Processes are looked up on this host only.
    """
    if now - heartbeat_at > STALE_SECONDS:
        return True
    return owner.host == socket.gethostname() and not _exists(owner.pid)


def missing(what: str, given: object, known: Sequence[str]) -> NotInRegistryError:
    """Return the error that no `what` is called `given`, with the nearest names."""
    hint = nearest(str(given), known) if known else f"The registry holds no {what} yet."
    return NotInRegistryError(f"The registry holds no {what} {given!r}. {hint}")


class Bases(Repository):
    """Pretrained bases, one row per fingerprint."""

    @writes
    def add(self, base: NewBase) -> BaseRecord:
        """Add a base, or return the one recorded under the same fingerprint."""
        check_new(base)
        rows = [_base_values(base) | {"added_at": self._now}]
        table = BaseRow.__table__
        if self._backend.insert_new(self._connection, table, rows, "fingerprint"):
            self._registry.events.add("base-added", base.fingerprint, base.model)
        return self.get(base.fingerprint)

    @reads
    def get(self, fingerprint: str) -> BaseRecord:
        """Return the base of a whole fingerprint. Raises NotInRegistryError."""
        query = query_bases().where(BaseRow.id == self.id_of(fingerprint))
        return self._record("bases", self._connection.execute(query).one(), read_base)

    @reads
    def list(self, *, where: Condition | None = None) -> tuple[BaseRecord, ...]:
        """Return every base in the order they were added."""
        query = query_bases().order_by(BaseRow.id)
        return self._records("bases", self._listed(query, where, _BASE_COLUMNS), read_base)

    @reads
    def id_of(self, fingerprint: str) -> int:
        """Return the id of a base. Raises NotInRegistryError."""
        query = select(BaseRow.id).where(BaseRow.fingerprint == fingerprint)
        found = self._connection.execute(query).scalar()
        if found is None:
            known = select(BaseRow.fingerprint).order_by(BaseRow.id)
            raise missing("base", fingerprint, [*self._connection.execute(known).scalars()])
        return found


class Runs(Repository):
    """Runs: one process works on a running one, and says so by its heartbeat."""

    @writes
    def start(self, run: NewRun, *, alone: bool = False) -> RunRecord:
        """Add a running run of this process, called "<scenario>-<n>" with n counted from 1.

        `alone`: raise RunInProgressError where a living process works on a run of this scenario.
        """
        if alone:
            for other in self.list(scenario_digest=run.scenario_digest):
                self.refuse_running(other.id)
        now = self._now
        run_id = self._add(run, this_process(), status="running", started_at=now, heartbeat_at=now)
        return self._logged(run_id, "run-started")

    @writes
    def add_finished(self, run: RunRecord) -> RunRecord:
        """Add a run that finished elsewhere, as it is recorded there.

        It keeps its number within its scenario's name, or gets the next one where that is taken.
        """
        ended_at = run.finished_at or run.started_at
        times = {"started_at": run.started_at, "heartbeat_at": ended_at, "finished_at": ended_at}
        owner, number = Owner(host=run.host, pid=run.pid), int(run.name.rpartition("-")[2])
        return self._by_id(self._add(run, owner, number, status="finished", **times))

    @writes
    def resume(self, run_id: int) -> RunRecord:
        """Take over an unfinished run as this process's.

        Raises RegistryError where it has finished or its process is alive.
        """
        run = self._by_id(run_id, lock=True)
        if run.status == "finished":
            raise RegistryError(
                f"The run `{run.name}` has finished; there is nothing to resume. Start a new run."
            )
        self.refuse_running(run_id)
        owner = this_process()
        running = {"status": "running", "reason": None, "finished_at": None}
        self._change(run_id, **running, heartbeat_at=self._now, host=owner.host, pid=owner.pid)
        return self._logged(run_id, "run-resumed")

    @writes
    def heartbeat(self, run_id: int) -> None:
        """Record that this process still works on a run; more often than `STALE_SECONDS`.

        Raises RegistryError where the run has ended or another process took it over.
        """
        _refuse_another_owner(self._unended(run_id))
        self._change(run_id, heartbeat_at=self._now)

    @writes
    def finish(self, run_id: int, status: RunEnd, reason: str | None = None) -> RunRecord:
        """End a running or stale run as finished, failed or interrupted.

        Raises RegistryError where it has ended already or another process works on it.
        """
        run = self._unended(run_id)
        if run.status == "running":
            _refuse_another_owner(run)
        reason = None if reason is None else shorten(reason)
        self._change(run_id, status=status, reason=reason, finished_at=self._now)
        return self._logged(run_id, f"run-{status}", reason or "")

    @reads
    def get(self, ref: str | int) -> RunRecord:
        """Return a run by its name, its number or as "latest". Raises NotInRegistryError."""
        return self._by_id(self.id_of(ref))

    @reads
    def newest(self) -> RunRecord:
        """Return the newest run that is no imported file, emptied or not.

        Raises NotInRegistryError where there is none.
        """
        return self._by_id(self._latest(emptied=True))

    @reads
    def list(
        self,
        limit: int | None = None,
        *,
        run: str | int | None = None,
        scenario_digest: str | None = None,
        started_at: float | None = None,
        where: Condition | None = None,
    ) -> tuple[RunRecord, ...]:
        """Return the last `limit` runs, or all, oldest first; of `run` that one alone."""
        query = query_runs().order_by(RunRow.id.desc())
        if run is not None:
            query = query.where(RunRow.id == self.id_of(run))
        if scenario_digest is not None:
            query = query.where(RunRow.scenario_digest == scenario_digest)
        if started_at is not None:
            query = query.where(RunRow.started_at == started_at)
        rows = self._listed(query, where, {} if where is None else self._columns(), limit).all()
        return self._records("runs", reversed(rows), self._read)

    @reads
    def names(self) -> tuple[str, ...]:
        """Return the name of every run, the newest first."""
        query = select(RunRow.name).order_by(RunRow.id.desc())
        return tuple(self._connection.execute(query).scalars())

    @reads
    def find_unfinished(self, scenario_digest: str) -> RunRecord | None:
        """Return the latest run of a scenario that is not `finished`, None where there is none."""
        found = reversed(self.list(scenario_digest=scenario_digest))
        return next((run for run in found if run.status != "finished"), None)

    @reads
    def id_of(self, ref: str | int) -> int:
        """Return the id of a run given by name, by number or as "latest".

        The latest is the newest that was not emptied by removals, and of imported files only where
        there is nothing else. Raises NotInRegistryError, which lists the nearest names.
        """
        if ref == LATEST:
            return self._latest()
        query = select(RunRow.id)
        # No name is all digits, since each ends in a dash and a number.
        if isinstance(ref, int) or _NUMBER.fullmatch(ref):
            query = query.where(RunRow.id == int(ref))
        else:
            query = query.where(RunRow.name == ref)
        found = self._connection.execute(query).scalar()
        if found is None:
            raise self._missing(ref)
        return found

    def _latest(self, *, emptied: bool = False) -> int:
        run, arrival = RunRow, ArrivalRow
        of_run = select(arrival.id).where(arrival.run_id == run.id)
        kept = of_run.where(arrival.removed_at.is_(None)).exists()
        # A run that ended before its first arrival has no arrivals, and was not emptied.
        was_never_filled = ~of_run.exists() & (run.status != "finished")
        query = select(run.id, run.scenario_name).order_by(run.id.desc())
        if not emptied:
            query = query.where(kept | was_never_filled)
        imported = None
        for number, name in self._connection.execute(query):
            if name != IMPORTED or not self._by_id(number).settings.is_imported_file:
                return int(number)
            imported = imported or int(number)
        if imported is None:
            raise self._missing(LATEST)
        return imported

    @reads
    def refuse_running(self, run_id: int | None = None) -> None:
        """Raise RunInProgressError while a process works on a run, or on any."""
        query = query_runs().where(RunRow.status == "running")
        if run_id is not None:
            query = query.where(RunRow.id == run_id)
        for run in self._records("runs", self._connection.execute(query).all(), self._read):
            if run.status == "running":
                raise RunInProgressError(
                    f"The run `{run.name}` is being worked on by process {run.pid} on "
                    f"{run.host!r}; its last heartbeat was {self._now - run.heartbeat_at:.0f} s "
                    "ago. Wait for it to end, or stop it first."
                )

    def _unended(self, run_id: int) -> RunRecord:
        """Return a run, locked. Raises RegistryError where it has ended."""
        run = self._by_id(run_id, lock=True)
        if run.finished_at is not None:
            raise RegistryError(
                f"The run `{run.name}` has already ended as {run.status}; resume it to go on."
            )
        return run

    def _by_id(self, run_id: int, *, lock: bool = False) -> RunRecord:
        query = query_runs().where(RunRow.id == run_id)
        if lock:
            query = query.with_for_update(of=RunRow.__table__)
        row = self._connection.execute(query).one_or_none()
        if row is None:
            raise self._missing(run_id)
        return self._record("runs", row, self._read)

    def _add(
        self, run: NewRun, owner: Owner, number: int | None = None, **others: float | str
    ) -> int:
        """Add a run under a number of its scenario that is free, `number` if it can be."""
        check_new(run)
        values = _values(run) | {"host": owner.host, "pid": owner.pid} | others
        values |= {"base_id": self._registry.bases.id_of(run.base_fingerprint)}
        last = select(func.max(RunRow.number)).where(RunRow.scenario_name == run.scenario_name)
        for _ in range(_ATTEMPTS):
            chosen = number or (self._connection.execute(last).scalar() or 0) + 1
            name = f"{run.scenario_name}-{chosen}"
            adding = insert(RunRow).values(**values, name=name, number=chosen)
            try:
                with self._connection.begin_nested():
                    return self._connection.execute(adding.returning(RunRow.id)).scalar_one()
            except IntegrityError:
                taken = select(RunRow.id).where(RunRow.name == name)
                if self._connection.execute(taken).scalar() is None:
                    raise
                number = None
        raise RegistryError(f"No free number was found for a run of `{run.scenario_name}`.")

    def _change(self, run_id: int, **values: Any) -> None:
        self._connection.execute(update(RunRow).where(RunRow.id == run_id).values(**values))

    def _logged(self, run_id: int, kind: str, message: str = "") -> RunRecord:
        run = self._by_id(run_id)
        self._registry.events.add(kind, run.name, message)
        return run

    def _missing(self, ref: str | int) -> NotInRegistryError:
        query = select(RunRow.name).order_by(RunRow.id.desc())
        names = self._connection.execute(query).scalars().all()
        if names and ref == LATEST:
            return NotInRegistryError(
                f"No run is the latest: {', '.join(names[:_MOST_NAMES])}"
                f"{', ...' if len(names) > _MOST_NAMES else ''} lost all their arrivals. Give one "
                "of these names."
            )
        if names:
            return missing("run", ref, names)
        return NotInRegistryError("The registry holds no run yet. Make one with `streamlab run`.")

    def _read(self, row: Row[Any]) -> RunRecord:
        run = read_run(row)
        return replace(run, status="stale") if self._is_stale(run) else run

    def _is_stale(self, run: RunRecord) -> bool:
        owner = Owner(host=run.host, pid=run.pid)
        return run.status == "running" and is_dead(
            owner, heartbeat_at=run.heartbeat_at, now=self._now
        )

    def _columns(self) -> Columns:
        """Return the columns of the listing of runs."""
        run, total = RunRow, TotalRow
        running = query_runs().where(run.status == "running")
        there = self._records("runs", self._connection.execute(running), read_run)
        stale = [found.id for found in there if self._is_stale(found)]
        return _COLUMNS | {
            "run": run.name,
            "status": case((run.id.in_(stale), "stale"), else_=run.status),
            "done": _total(total.n_arrivals, total.kind.not_in(("failed", "quarantined"))),
            "failed": _total(total.n_arrivals, total.kind == "failed"),
            "quarantined": _total(total.n_arrivals, total.kind == "quarantined"),
            "expected": run.n_expected,
            "stored_bytes": _total(
                total.stored_positions_bytes
                + total.stored_values_bytes
                + total.stored_head_bytes
                + total.stored_metadata_bytes
            ),
            "seconds": run.finished_at - run.started_at,
            "scenario": run.scenario_name,
            "base": BaseRow.fingerprint,
            "tags": tags_of(TagRow.run_id, run.id),
        }


def _total(amount: ColumnElement[int], *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    of_run = (TotalRow.grouping == "run") & (TotalRow.key == cast(RunRow.id, String))
    total = select(func.coalesce(func.sum(amount), 0)).where(of_run, *conditions)
    return total.correlate(RunRow.__table__).scalar_subquery()


def query_bases() -> Select[Any]:
    """Return the query of all bases."""
    return select(*_BASE_COLUMNS.values())


def query_runs() -> Select[Any]:
    """Return the query of all runs."""
    return select(*_COLUMNS.values()).join(BaseRow, BaseRow.id == RunRow.base_id, isouter=True)


def read_base(row: Row[Any]) -> BaseRecord:
    """Return the record of a base. Raises RegistryError where the row is damaged."""
    values = row._asdict()
    with suppress(TypeError, ValueError):  # what is no list is reported by its field
        values["layout"] = tuple((name, tuple(shape)) for name, shape in values["layout"])
        values["initialised"] = tuple(values["initialised"])
    return build(BaseRecord, values)


def read_run(row: Row[Any]) -> RunRecord:
    """Return the record of a run. Raises RegistryError where the row is damaged."""
    return build(RunRecord, row._asdict())


def _refuse_another_owner(run: RunRecord) -> None:
    if Owner(host=run.host, pid=run.pid) != this_process():
        raise RegistryError(
            f"The run `{run.name}` was taken over by process {run.pid} on {run.host!r}; "
            "this process must leave it alone."
        )


def _exists(pid: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 asks nothing elsewhere, so that the heartbeat alone decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user
    return True
