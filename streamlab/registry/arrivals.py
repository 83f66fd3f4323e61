"""Arrivals: a row says that the work is complete, why it failed, or which rule it broke."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypedDict, Unpack

from sqlalchemy import Row, Select, bindparam, func, insert, literal, select, tuple_
from sqlalchemy.exc import IntegrityError

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.artifacts import DENSITY
from streamlab.registry.backends import Unreadable
from streamlab.registry.conditions import Columns, Condition, Joined
from streamlab.registry.database import Repository, reads, writes
from streamlab.registry.records import (
    ArrivalDetails,
    ArrivalRecord,
    ArrivalStatus,
    ExamplesChanged,
    ExamplesUsed,
    FinishedArrival,
    NewArrival,
    NewDiff,
    NewScore,
)
from streamlab.registry.scores import own_score
from streamlab.registry.tables import (
    IN_ORDER,
    NAMES,
    UNIQUE_COLUMNS,
    ArrivalRow,
    DetailsRow,
    DiffRow,
    ProviderRow,
    ScoreRow,
    TagRow,
    TaskRow,
    columns_of,
    tags_of,
    values_of,
    with_names,
)
from streamlab.registry.validation import build, check_new, shorten

_PAGE = 500  # of `walk`

Named = type[ProviderRow] | type[TaskRow]
Key = tuple[Any, ...]  # the values of `UNIQUE_COLUMNS`

_SELECTED = columns_of(
    ArrivalRecord,
    ArrivalRow,
    digest=DiffRow.digest,
    details=DetailsRow.details,
)
_COLUMNS: Columns = {
    **_SELECTED,
    **NAMES,
    "digest": Joined(ArrivalRow.diff_id, DiffRow.id, DiffRow.digest),
    "density": DENSITY,
    "file_bytes": DiffRow.file_bytes,
    "metric": own_score(ScoreRow.metric),
    "score": own_score(ScoreRow.value),
    "majority": own_score(ScoreRow.majority),
    "tags": tags_of(TagRow.arrival_id, ArrivalRow.id),
}
_values = values_of(NewArrival, but=("provider", "task", "details"))


class Match(TypedDict, total=False):
    """Which arrivals to list; None leaves a choice open."""

    task: str | None
    provider: str | None
    version: int | None
    method: str | None
    seed: int | None
    status: ArrivalStatus | None
    digest: str | None
    removed: bool | None  # those that were removed, or (by default) those that were not


class Arrivals(Repository):
    """The arrivals of all runs, in the order of run, seed, sequence, method and id."""

    @writes
    def add(
        self,
        arrival: NewArrival,
        diff: NewDiff,
        scores: Sequence[NewScore],
        *,
        event: str = "arrival-finished",
    ) -> ArrivalRecord:
        """Record a finished arrival, its stored artifact and its scores as one.

        Raises RegistryError where the same arrival is finished already, the artifact's digest
        is known with other facts, or the records contradict themselves.
        """
        new = FinishedArrival(arrival=arrival, diff=diff, scores=tuple(scores))
        (number,) = self.add_all([new], event=event)
        return self.get(number)

    @writes
    def add_all(
        self, new: Sequence[FinishedArrival], *, event: str = "arrival-finished"
    ) -> tuple[int, ...]:
        """Record finished arrivals as `add` does, all or none; return their ids in order.

        By a number of statements that does not grow with theirs. A few thousand at once are
        fastest, and hold up other writers for the fraction of a second that they take. `event`:
        what the log calls it.
        """
        self._refuse_other_bases(new)
        rows = self._rows([finished.arrival for finished in new])
        keys = [tuple(row[name] for name in UNIQUE_COLUMNS) for row in rows]
        stored, known = self._registry.artifacts.add([finished.diff for finished in new])
        ids = self._backend.reserve_ids(self._connection, ArrivalRow.__table__, len(new))
        for number, row, finished in zip(ids, rows, new, strict=True):
            row |= {"id": number, "status": "finished", "diff_id": stored[finished.diff.digest]}
        artifacts: dict[int, NewDiff] = {stored[one.diff.digest]: one.diff for one in new}
        self._registry.artifacts.lock(known)
        self._registry.totals.change(rows, artifacts, shared=known)
        self._insert_finished(new, keys, rows)
        numbered = dict(zip(ids, new, strict=True))
        self._add_details({number: one.arrival for number, one in numbered.items()})
        self._registry.scores.add({number: one.scores for number, one in numbered.items()})
        lines = [
            (str(number), f"{one.diff.file_bytes} bytes", one.diff.digest)
            for number, one in numbered.items()
        ]
        self._registry.events.add_all(event, lines)
        return tuple(ids)

    @writes
    def add_failed(
        self,
        arrival: NewArrival,
        reason: str,
        *,
        rule: str | None = None,
        event: str | None = None,
    ) -> ArrivalRecord:
        """Record a failed attempt; another one at the same arrival may follow.

        `rule`: of admission that a submission broke, which is then quarantined.
        """
        self._registry.runs.get(arrival.run_id)
        (row,) = self._rows([arrival])
        status, reason = "failed" if rule is None else "quarantined", shorten(reason)
        row |= {"status": status, "rule": rule, "reason": reason}
        self._registry.totals.change([row], {})
        added = insert(ArrivalRow).values(**row).returning(ArrivalRow.id)
        number = self._connection.execute(added).scalar_one()
        self._add_details({number: arrival})
        message = reason if rule is None else f"{rule}: {reason}"
        self._registry.events.add(event or f"arrival-{status}", str(number), message)
        return self.get(number)

    @writes
    def add_scores(self, arrival_id: int, scores: Sequence[NewScore]) -> None:
        """Add scores of a finished arrival that were measured later.

        Raises RegistryError where one is there already for its metric, split and place.
        """
        arrival = self.get(arrival_id)
        if arrival.status != "finished":
            raise RegistryError(
                f"Arrival {arrival_id} is {arrival.status} and left no artifact, so that it "
                "cannot have scores."
            )
        self._registry.scores.add({arrival_id: scores})
        message = f"{len(scores)} scores"
        self._registry.events.add("scores-added", str(arrival_id), message, digest=arrival.digest)

    @reads
    def get(self, number: int) -> ArrivalRecord:
        """Return the arrival of an id, removed or not. Raises NotInRegistryError."""
        query = arrivals_of(removed=None).where(ArrivalRow.id == number)
        row = self._connection.execute(query).one_or_none()
        if row is None:
            raise NotInRegistryError(
                f"The registry holds no arrival {number}. List what there is with `streamlab ls`."
            )
        return self._record("arrivals", row, read_arrival)

    @reads
    def list(
        self,
        *,
        run: str | int | None = None,
        where: Condition | None = None,
        limit: int | None = None,
        **match: Unpack[Match],
    ) -> tuple[ArrivalRecord, ...]:
        """Return the first `limit` arrivals that match, or all.

        A task, provider or method that nothing arrived for matches nothing. Removed arrivals are
        left out, here and in every other listing, unless they are asked for.
        """
        run_id = None if run is None else self._registry.runs.id_of(run)
        rows = self._listed(arrivals_of(run_id, **match), where, _COLUMNS, limit)
        return self._records("arrivals", rows, read_arrival)

    def walk(self, run: str | int | None = None, **match: Unpack[Match]) -> Iterator[ArrivalRecord]:
        """Yield the arrivals of `list`, however many, with only a few hundred in memory at once.

        Each of these is a transaction of its own, in which those that were added since are seen.
        """
        after: tuple[Any, ...] | None = None
        while True:
            records, after = self._page(run, after, match)
            yield from records
            if after is None:
                return

    @reads
    def _page(
        self, run: str | int | None, after: tuple[Any, ...] | None, match: Match
    ) -> tuple[tuple[ArrivalRecord, ...], tuple[Any, ...] | None]:
        """Return the arrivals that come after a place in the order, and the place of the last.

        The place is None where there are no more.
        """
        query = arrivals_of(None if run is None else self._registry.runs.id_of(run), **match)
        if after is not None:
            query = query.where(tuple_(*IN_ORDER) > tuple_(*map(literal, after)))
        rows = self._connection.execute(query.limit(_PAGE)).all()
        last = None
        if len(rows) == _PAGE:
            last = tuple(getattr(rows[-1], str(column.key)) for column in IN_ORDER)
        return self._records("arrivals", rows, read_arrival), last

    @reads
    def examples_used(self, run: str | int) -> tuple[ExamplesUsed, ...]:
        """Return the examples that the arrivals of a run were trained on, each once, as they came.

        A run may have very many arrivals, so that no record of them is made.
        """
        rows = self._connection.execute(examples_of(self._registry.runs.id_of(run)))
        distinct = {tuple(row): row for row in rows}.values()
        return self._records("arrivals", distinct, lambda row: build(ExamplesUsed, row._asdict()))

    @reads
    def examples_changed(self, run: str | int) -> tuple[ExamplesChanged, ...]:
        """Return what was not used as it is of each task's examples, tasks without any left out.

        Records that cannot be read are left out too.
        """
        names = [field.name for field in fields(ExamplesChanged)][1:]
        changed = []
        for task, tree in self._connection.execute(first_details(self._registry.runs.id_of(run))):
            try:
                details = None if isinstance(tree, Unreadable) else ArrivalDetails.from_json(tree)
            except RegistryError:
                continue
            counts = [getattr(details, name, None) or 0 for name in names]
            if any(counts):
                changed.append(ExamplesChanged(task, *counts))
        return tuple(changed)

    @reads
    def task_names(self) -> tuple[str, ...]:
        """Return the name of every task, also of those whose arrivals were all removed."""
        return tuple(self._connection.execute(select(TaskRow.name).order_by(TaskRow.id)).scalars())

    @reads
    def provider_names(self) -> tuple[str, ...]:
        """Return the name of every provider, also of those whose arrivals were all removed."""
        query = select(ProviderRow.name).order_by(ProviderRow.id)
        return tuple(self._connection.execute(query).scalars())

    def _refuse_other_bases(self, new: Sequence[FinishedArrival]) -> None:
        ids = dict.fromkeys(finished.arrival.run_id for finished in new)
        runs = {number: self._registry.runs.get(number) for number in ids}
        for finished in new:
            run, diff = runs[finished.arrival.run_id], finished.diff
            if diff.base_fingerprint != run.base_fingerprint:
                raise RegistryError(
                    f"The artifact {diff.digest} is on the base {diff.base_fingerprint!r}, but the "
                    f"run `{run.name}` is on {run.base_fingerprint!r}; an arrival stays on its "
                    "run's base."
                )

    def _rows(self, new: Sequence[NewArrival]) -> Sequence[dict[str, Any]]:
        """Return arrivals as they are stored; names that are new to the registry are added."""
        for arrival in new:
            _check(arrival)
        providers = self._ids_of(ProviderRow, (arrival.provider for arrival in new))
        tasks = self._ids_of(TaskRow, (arrival.task for arrival in new))
        return [
            {
                **_values(arrival),
                "provider_id": providers[arrival.provider],
                "task_id": tasks[arrival.task],
            }
            for arrival in new
        ]

    def _add_details(self, new: Mapping[int, NewArrival]) -> None:
        rows = [
            {"arrival_id": number, "details": arrival.details.to_json()}
            for number, arrival in new.items()
        ]
        self._insert(DetailsRow.__table__, rows)

    def _ids_of(self, table: Named, given: Iterable[str]) -> dict[str, int]:
        """Return the id of each provider's or task's name; a new one is added."""
        wanted = [*dict.fromkeys(given)]
        ids = self._known_ids(table, wanted)
        new = [{"name": name} for name in wanted if name not in ids]
        if not new:
            return ids
        self._backend.insert_new(self._connection, table.__table__, new, "name")
        return self._known_ids(table, wanted)

    def _known_ids(self, table: Named, names: Iterable[str]) -> dict[str, int]:
        rows = self._among(select(table.name, table.id), table.name, names)
        return {row.name: row.id for row in rows}

    def _insert_finished(
        self,
        new: Sequence[FinishedArrival],
        keys: Sequence[Key],
        rows: Sequence[dict[str, Any]],
    ) -> None:
        try:
            with self._connection.begin_nested():
                self._insert(ArrivalRow.__table__, rows)
        except IntegrityError:
            # The index refused one. Looking each up beforehand would take long.
            met = set()
            for finished, key in zip(new, keys, strict=True):
                number = self._connection.execute(finished_with(key)).scalar()
                how = "is given twice for this run; give it once" if key in met else ""
                if number is not None:
                    done = f"is finished already in this run, as arrival {number}"
                    how = f"{done}; skip it, or start a new run"
                if how:
                    raise _repeated(finished.arrival, how) from None
                met.add(key)
            raise


def arrivals_of(run_id: int | None = None, **match: Unpack[Match]) -> Select[Any]:
    """Return the query of the arrivals that match, in the order they are listed in."""
    arrival = ArrivalRow
    query = (
        with_names(select(*_SELECTED.values()).select_from(arrival))
        .join(DiffRow, DiffRow.id == arrival.diff_id, isouter=True)
        .join(DetailsRow, DetailsRow.arrival_id == arrival.id, isouter=True)
        .order_by(*IN_ORDER)
    )
    removed = match.get("removed", False)
    if removed is not None:
        gone = arrival.removed_at.is_not(None) if removed else arrival.removed_at.is_(None)
        query = query.where(gone)
    named: tuple[tuple[Joined, str | None], ...] = (
        (NAMES["task"], match.get("task")),
        (NAMES["provider"], match.get("provider")),
        (Joined(arrival.diff_id, DiffRow.id, DiffRow.digest), match.get("digest")),
    )
    for joined, wanted in named:
        if wanted is not None:
            found = select(joined.id).where(joined.column == wanted)
            query = query.where(joined.key == found.scalar_subquery())
    own = {"run_id": run_id} | {name: match.get(name) for name in ("method", "seed", "version")}
    for name, value in own.items():
        if value is not None:
            query = query.where(getattr(arrival, name) == value)
    status = match.get("status")
    if status is not None:
        # Few leave nothing, so an index leads to them; nearly all finish, so none is to be used.
        query = query.where(
            arrival.status.not_in(("failed", "quarantined"))
            if status == "finished"
            else arrival.status == status
        )
    return query


def examples_of(run_id: int) -> Select[Any]:
    """Return the query of what every arrival of a run was trained on, in the order of listing."""
    query = select(*(_SELECTED[field.name] for field in fields(ExamplesUsed)))
    visible = (ArrivalRow.run_id == run_id) & ArrivalRow.removed_at.is_(None)
    return with_names(query.select_from(ArrivalRow)).where(visible).order_by(*IN_ORDER)


def first_details(run_id: int) -> Select[Any]:
    """Return the query of each task's name and the details of its first arrival in a run."""
    visible = (ArrivalRow.run_id == run_id) & ArrivalRow.removed_at.is_(None)
    first = select(func.min(ArrivalRow.id)).where(visible).group_by(ArrivalRow.task_id)
    return (
        select(TaskRow.name, DetailsRow.details)
        .join(ArrivalRow, ArrivalRow.task_id == TaskRow.id)
        .join(DetailsRow, DetailsRow.arrival_id == ArrivalRow.id)
        .where(ArrivalRow.id.in_(first))
        .order_by(ArrivalRow.id)
    )


def finished_with(key: Key) -> Select[Any]:
    """Return the query of the finished arrival that a unique key belongs to."""
    # Written out, not bound: an index of the finished ones alone is used for nothing less.
    finished = ArrivalRow.status == bindparam(None, "finished", literal_execute=True)
    query = select(ArrivalRow.id).where(finished, ArrivalRow.removed_at.is_(None))
    return query.filter_by(**dict(zip(UNIQUE_COLUMNS, key, strict=True)))


def read_arrival(row: Row[Any], **changes: None) -> ArrivalRecord:
    """Return the record of an arrival. Raises RegistryError where the row is damaged."""
    details = row.details
    if not isinstance(details, Unreadable):
        details = ArrivalDetails.from_json(details)
    return build(ArrivalRecord, {**row._mapping, "details": details, **changes})


def _repeated(arrival: NewArrival, how: str) -> RegistryError:
    return RegistryError(
        f"Task `{arrival.task}` version {arrival.version} of provider `{arrival.provider}` by "
        f"`{arrival.method}` with seed {arrival.seed} {how}."
    )


def _check(arrival: NewArrival) -> None:
    check_new(arrival)
    times = (arrival.arrived_us, arrival.began_us, arrival.ended_us)
    given = [time for time in times if time is not None]
    if len(given) not in (0, 3) or [0, *given] != sorted([0, *given]):
        raise RegistryError(
            f"The arrival of `{arrival.task}` has the virtual times {times}; it must have all of "
            "`arrived_us`, `began_us` and `ended_us`, each no earlier than the one before, or none."
        )
