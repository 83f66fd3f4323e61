"""Removal: arrivals are left out at first and can be restored; later what nothing needs is deleted.

What a tag is on is never deleted: an arrival, its artifact, or its run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Row, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.arrivals import finished_with
from streamlab.registry.database import Repository, in_chunks, reads, writes
from streamlab.registry.logs import revoked_from
from streamlab.registry.records import ArrivalRecord
from streamlab.registry.tables import (
    UNIQUE_COLUMNS,
    ArrivalRow,
    DetailsRow,
    DeviceRequestsRow,
    DiffRow,
    PlacementRow,
    ProviderRow,
    RunRow,
    ScoreRow,
    TagRow,
    TotalRow,
)
from streamlab.units import counted

_TAGGED = (
    (TagRow.arrival_id == ArrivalRow.id)
    | (TagRow.run_id == ArrivalRow.run_id)
    | (TagRow.diff_id == ArrivalRow.diff_id)
)
_COUNTED = ("id", "run_id", "task_id", "provider_id", "method", "status", "diff_id")


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """An artifact whose arrivals were all removed, the last of them at `removed_at`."""

    digest: str
    file_bytes: int
    removed_at: float


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What may be deleted: removed arrivals, and the artifacts that go with them."""

    arrivals: tuple[int, ...]
    artifacts: tuple[Garbage, ...]


class Removal(Repository):
    """Removing, restoring and deleting arrivals and their artifacts."""

    @writes
    def remove(self, ids: Sequence[int]) -> tuple[ArrivalRecord, ...]:
        """Leave arrivals out of every listing; all of them, or none where one cannot be.

        Raises RegistryError for one that is removed already or whose run is being worked on.
        """
        for arrival in map(self._registry.arrivals.get, ids):
            self._registry.runs.refuse_running(arrival.run_id)
            if arrival.removed_at is not None:
                raise RegistryError(
                    f"Arrival {arrival.id} is removed already; `streamlab restore {arrival.id}` "
                    "brings it back, `streamlab gc` deletes it for good."
                )
            self._mark([arrival.id], removed_at=self._now)
            self._registry.events.add("arrival-removed", str(arrival.id), digest=arrival.digest)
        return tuple(map(self._registry.arrivals.get, ids))

    @writes
    def restore(self, ids: Sequence[int]) -> tuple[ArrivalRecord, ...]:
        """Bring removed arrivals back; all of them, or none where one cannot be.

        Raises RegistryError for one that is not removed, that was made anew since, or whose run
        is being worked on.
        """
        for arrival in map(self._registry.arrivals.get, ids):
            self._registry.runs.refuse_running(arrival.run_id)
            if arrival.removed_at is None:
                raise RegistryError(
                    f"Arrival {arrival.id} is not removed; there is nothing to restore."
                )
            try:
                with self._connection.begin_nested():
                    self._mark([arrival.id], removed_at=None)
            except IntegrityError:
                raise self._made_anew(arrival) from None
            self._registry.events.add("arrival-restored", str(arrival.id), digest=arrival.digest)
        return tuple(map(self._registry.arrivals.get, ids))

    @writes
    def roll_back(self, run: str | int, task: str, version: int) -> tuple[ArrivalRecord, ...]:
        """Take a version of a task in a run back into use; return the later ones, now removed.

        Of every seed and method. Raises NotInRegistryError where no visible arrival has the
        version, or a seed of the run's primary method lacks it, and RegistryError while the run
        is worked on.
        """
        record = self._registry.runs.get(run)
        visible = self._registry.arrivals.list(run=record.id, task=task, status="finished")
        if version not in {arrival.version for arrival in visible}:
            raise self._no_version(record.name, task, version, visible)
        primary = record.settings.primary_method
        own = [arrival for arrival in visible if arrival.method == primary]
        lacking = {a.seed for a in own if a.version > version}
        lacking -= {a.seed for a in own if a.version == version}
        if lacking:
            raise NotInRegistryError(
                f"Version {version} of `{task}` in the run `{record.name}` does not exist for the "
                f"seed {', '.join(map(str, sorted(lacking)))}, which would be left without one. "
                "Go back to a version that every seed has; `streamlab ls arrivals` lists them."
            )
        later = [arrival.id for arrival in visible if arrival.version > version]
        removed = self.remove(later)
        if removed:
            numbers = ", ".join(map(str, later))
            message = f"to version {version} in `{record.name}`; removed: {numbers}"
            self._registry.events.add("task-rolled-back", task, message)
        return removed

    @reads
    def list(self, *, but: Collection[str] = ()) -> Removed:
        """Return what may be deleted, without the artifacts `but` and their arrivals."""
        gone, artifacts = self._doomed()
        kept = {number for number, artifact in artifacts.items() if artifact.digest in but}
        return Removed(
            arrivals=tuple(one.id for one in gone if one.diff_id not in kept),
            artifacts=tuple(a for number, a in artifacts.items() if number not in kept),
        )

    @writes
    def delete(self, ids: Collection[int]) -> tuple[Garbage, ...]:
        """Delete the rows of removed arrivals, and of artifacts that nothing has then.

        Those of `ids` that were restored meanwhile, or got a tag, stay. Returns the artifacts
        whose files are to be deleted.
        """
        chosen, artifacts = self._doomed(frozenset(ids))
        for chunk in in_chunks([one.id for one in chosen]):
            for table in (DetailsRow, ScoreRow, PlacementRow):
                self._connection.execute(delete(table).where(table.arrival_id.in_(chunk)))
            self._connection.execute(delete(ArrivalRow).where(ArrivalRow.id.in_(chunk)))
        for chunk in in_chunks([*artifacts]):
            self._connection.execute(delete(DiffRow).where(DiffRow.id.in_(chunk)))
        for one in chosen:
            artifact = artifacts.get(one.diff_id or 0)
            digest = None if artifact is None else artifact.digest
            self._registry.events.add("arrival-forgotten", str(one.id), digest=digest)
        return tuple(artifacts.values())

    @reads
    def check_revocable(
        self, ids: Collection[int], *, provider: str | None = None, run: str | None = None
    ) -> tuple[ArrivalRecord, ...]:
        """Return everything that came from a provider, or is in a run, oldest first.

        `ids` are the arrivals as they were listed. Raises RegistryError where there are others by
        now, a run is being worked on, or a tag is on what would go.
        """
        self._registry.runs.refuse_running()
        listed: Sequence[ArrivalRecord] = ()
        if provider is not None or self._run_id(run) is not None:
            listed = self._registry.arrivals.list(provider=provider, run=run, removed=None)
        if {arrival.id for arrival in listed} != set(ids):
            raise RegistryError(
                f"The arrivals of `{provider or run}` have changed since they were listed; nothing "
                "was removed. Try again."
            )
        self._refuse_tagged(provider, self._run_id(run))
        return tuple(sorted(listed, key=lambda arrival: arrival.id))

    @writes
    def revoke(
        self, ids: Collection[int], *, provider: str | None = None, run: str | None = None
    ) -> tuple[Garbage, ...]:
        """Delete the rows of everything that came from a provider, or of a run, and log each.

        All in one step. Returns the artifacts whose files are to be deleted, which no other arrival
        has. Raises RegistryError as `check_revocable` does.
        """
        found = self.check_revocable(ids, provider=provider, run=run)
        self._mark([a.id for a in found if a.removed_at is None], removed_at=self._now)
        said = revoked_from(provider, run)
        lines = [(str(arrival.id), said, arrival.digest) for arrival in found]
        self._registry.events.add_all("arrival-revoked", lines)
        gone = self.delete([arrival.id for arrival in found])
        run_id = self._run_id(run)
        if run_id is not None:
            own = (TotalRow.grouping == "run") & (TotalRow.key == str(run_id))
            self._connection.execute(delete(TotalRow).where(own))
            requests = delete(DeviceRequestsRow).where(DeviceRequestsRow.run_id == run_id)
            self._connection.execute(requests)
            self._connection.execute(delete(RunRow).where(RunRow.id == run_id))
            self._registry.events.add("run-deleted", str(run))
        return gone

    def _run_id(self, run: str | None) -> int | None:
        return self._connection.execute(select(RunRow.id).where(RunRow.name == run)).scalar()

    def release(self, digests: Sequence[str], delete_file: Callable[[str], str | None]) -> None:
        """Delete files that have no row, while nobody can add one, and log each.

        `delete_file` takes a digest and returns what is to be said of it in the log, None where
        the file stays; it is called once for each. Those that have a row by now are left alone.
        """
        said: dict[str, str | None] = {}

        def work() -> None:
            known = {diff.digest for diff in self._registry.artifacts.with_digests(digests)}
            for digest in digests:
                if digest in known:
                    continue
                if digest not in said:  # where the transaction is tried again
                    said[digest] = delete_file(digest)
                message = said[digest]
                if message is not None:
                    self._registry.events.add("file-deleted", digest, message, digest=digest)

        self._registry.transaction(work)

    def _mark(self, ids: Sequence[int], *, removed_at: float | None) -> None:
        """Make arrivals invisible, or visible again, and their totals follow."""
        columns = [getattr(ArrivalRow, name) for name in _COUNTED]
        for chunk in in_chunks(ids):
            query = select(*columns).where(ArrivalRow.id.in_(chunk)).order_by(ArrivalRow.id)
            rows = [row._asdict() for row in self._connection.execute(query)]
            artifacts = self._registry.artifacts.lock(
                {row["diff_id"] for row in rows if row["diff_id"] is not None}
            )
            changed = update(ArrivalRow).where(ArrivalRow.id.in_(chunk))
            if removed_at is None:
                self._registry.totals.change(rows, artifacts, shared=artifacts.keys())
            self._connection.execute(changed.values(removed_at=removed_at))
            if removed_at is not None:
                self._registry.totals.change(rows, artifacts, shared=artifacts.keys(), sign=-1)

    def _made_anew(self, arrival: ArrivalRecord) -> RegistryError:
        own = select(*(getattr(ArrivalRow, name) for name in UNIQUE_COLUMNS))
        key = self._connection.execute(own.where(ArrivalRow.id == arrival.id)).one()
        other = self._connection.execute(finished_with(tuple(key))).scalar()
        return RegistryError(
            f"Arrival {arrival.id} was made anew as arrival {other} since it was removed, and the "
            f"two cannot both exist. Remove the other one first: `streamlab rm {other}`."
        )

    def _no_version(
        self, run: str, task: str, version: int, visible: tuple[ArrivalRecord, ...]
    ) -> NotInRegistryError:
        gone = self._registry.arrivals.list(run=run, task=task, status="finished", removed=True)
        removed = [arrival for arrival in gone if arrival.version == version]
        if removed:
            numbers = " ".join(str(arrival.id) for arrival in removed)
            hint = f"It was removed; bring it back first with `streamlab restore {numbers}`."
        elif visible:
            known = ", ".join(map(str, sorted({arrival.version for arrival in visible})))
            hint = f"There is version {known}."
        else:
            hint = "No arrival of it finished there; `streamlab ls arrivals` lists what did."
        return NotInRegistryError(f"The run `{run}` has no version {version} of `{task}`. {hint}")

    def _doomed(
        self, ids: frozenset[int] | None = None
    ) -> tuple[Sequence[Row[int, int | None, float | None]], dict[int, Garbage]]:
        """Return the removed arrivals that no tag keeps, and the artifacts nothing else has, by id.

        `ids`: take only these arrivals, and lock their artifacts.
        """
        query = (
            select(ArrivalRow.id, ArrivalRow.diff_id, ArrivalRow.removed_at)
            .where(ArrivalRow.removed_at.is_not(None), ~exists().where(_TAGGED))
            .order_by(ArrivalRow.id)
        )
        gone = [row for row in self._connection.execute(query) if ids is None or row.id in ids]
        removed_at: dict[int, list[float]] = defaultdict(list)
        for row in gone:
            if row.diff_id is not None:
                removed_at[row.diff_id].append(row.removed_at or 0.0)
        if ids is not None:
            self._registry.artifacts.lock(removed_at)
        artifacts = (
            select(DiffRow.id, DiffRow.digest, DiffRow.file_bytes, func.count())
            .join(ArrivalRow, ArrivalRow.diff_id == DiffRow.id)
            .group_by(DiffRow.id)
            .order_by(DiffRow.id)
        )
        return gone, {
            number: Garbage(digest=digest, file_bytes=size, removed_at=max(removed_at[number]))
            for number, digest, size, n_arrivals in self._among(artifacts, DiffRow.id, removed_at)
            if n_arrivals == len(removed_at[number])
        }

    def _refuse_tagged(self, provider: str | None, run_id: int | None) -> None:
        query = (
            select(TagRow.kind, TagRow.name)
            .distinct()
            .join(ArrivalRow, _TAGGED, isouter=True)
            .join(ProviderRow, ProviderRow.id == ArrivalRow.provider_id, isouter=True)
            .where(
                (ArrivalRow.run_id == run_id) | (TagRow.run_id == run_id)
                if provider is None
                else ProviderRow.name == provider
            )
            .order_by(TagRow.kind, TagRow.name)
        )
        tags = [f"{kind}:{name}" for kind, name in self._connection.execute(query)]
        if tags:
            raise RegistryError(
                f"What would be deleted is kept by {counted(len(tags), 'tag')}: "
                f"{', '.join(f'`{tag}`' for tag in tags)}. Nothing was removed; take each off "
                f"first: `streamlab tag --remove {tags[0]}`."
            )
