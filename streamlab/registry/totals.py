"""Totals: how much arrived, and the bytes it takes, per run, task, provider, method and over all.

A sum over a million arrivals takes seconds, so that totals are kept and changed in the same
transaction as the arrivals. This is the only place that computes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Literal, get_args

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    String,
    case,
    cast,
    func,
    literal,
    select,
)

from streamlab.registry.artifacts import DENSITY
from streamlab.registry.backends import WHOLE
from streamlab.registry.conditions import Condition
from streamlab.registry.database import Repository, reads, writes
from streamlab.registry.records import (
    Grouping,
    MethodStorage,
    NewDiff,
    Parts,
    Summary,
    Total,
)
from streamlab.registry.tables import (
    ArrivalRow,
    DiffRow,
    ProviderRow,
    RunRow,
    TaskRow,
    TotalRow,
)
from streamlab.registry.validation import build

_GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
_COLUMNS: dict[Grouping, str] = {
    "run": "run_id",
    "task": "task_id",
    "provider": "provider_id",
    "method": "method",
}
_NAMED: dict[Grouping, type[RunRow] | type[TaskRow] | type[ProviderRow]] = {
    "run": RunRow,
    "task": TaskRow,
    "provider": ProviderRow,
}
_PARTS = [field.name for field in fields(Parts)]
_AMOUNTS = ("n_arrivals", "n_files", *_PARTS, *(f"stored_{part}" for part in _PARTS))
_NO_SIZES = (0,) * len(_PARTS)
_sizes = attrgetter(*_PARTS)

Key = tuple[Grouping, str, str]  # what is grouped by, its id or name, the kind
Sizes = tuple[int, ...]  # in the order of `_PARTS`
Amounts = tuple[int, ...]  # in the order of `_AMOUNTS`


class Totals(Repository):
    """The totals of all arrivals that are not removed."""

    @reads
    def list(self, by: Grouping, *, name: str | None = None) -> tuple[Total, ...]:
        """Return what arrived and what it takes by one thing, in the order of names and kinds.

        `name`: of that run, task, ... alone.
        """
        rows = self._connection.execute(totals_by(by, name=name))
        return self._records("totals", rows, _record)

    @reads
    def tasks(self, *, where: Condition | None = None) -> tuple[Summary, ...]:
        """Sum up what arrived per task, by name."""
        return self._summaries("task", where)

    @reads
    def providers(self, *, where: Condition | None = None) -> tuple[Summary, ...]:
        """Sum up what arrived per provider, by name."""
        return self._summaries("provider", where)

    @reads
    def by_method(self, run: str | int, *, seed: int | None = None) -> tuple[MethodStorage, ...]:
        """Return what each method's artifacts take in a run, the first method first.

        `seed`: those of this seed alone.
        """
        query = storage_by_method(self._registry.runs.id_of(run), seed=seed)
        rows = self._connection.execute(query)
        return self._records("arrivals", rows, lambda row: build(MethodStorage, row._asdict()))

    @reads
    def verify(self) -> tuple[str, ...]:
        """Count every arrival again, and describe the totals that differ; reads all arrivals."""
        columns = [getattr(TotalRow, name) for name in _AMOUNTS]
        every = select(TotalRow.grouping, TotalRow.key, TotalRow.kind, *columns)
        kept = {
            (row.grouping, row.key, row.kind): tuple(row[3:])
            for row in self._connection.execute(every)
        }
        counted = {
            (grouping, row.key, row.kind): tuple(row[2:])
            for grouping in _GROUPINGS
            for row in self._connection.execute(_count(grouping))
        }
        nothing = (0, 0, *_NO_SIZES, *_NO_SIZES)  # what is left where all arrivals were removed
        found = ((key, kept.get(key, nothing), counted.get(key, nothing)) for key in kept | counted)
        return tuple(_difference(key, *amounts) for key, *amounts in found if len({*amounts}) > 1)

    @writes
    def change(
        self,
        arrivals: Sequence[Mapping[str, Any]],
        artifacts: Mapping[int, NewDiff],
        *,
        shared: Collection[int] = (),
        sign: Literal[1, -1] = 1,
    ) -> None:
        """Add arrivals that are about to be visible, or subtract those that no longer are.

        `arrivals`: their rows. `artifacts`: theirs, by id. `shared`: those of them that other
        arrivals may have; their rows are locked.
        """
        held = self._held(shared)
        sized: dict[int, tuple[str, Sizes]] = {
            number: (diff.kind, _sizes(diff)) for number, diff in artifacts.items()
        }
        rows = []
        for grouping in _GROUPINGS:
            logical, stored = defaultdict(list), defaultdict(list)
            for key, arrival in zip(_keys(arrivals, grouping), arrivals, strict=True):
                number = arrival.get("diff_id")
                if number is None:
                    logical[key, arrival["status"]].append(_NO_SIZES)
                    continue
                kind, sizes = sized[number]
                logical[key, kind].append(sizes)
                # An artifact counts as stored with the first arrival of a group that has it.
                if (grouping, key, number) not in held:
                    held.add((grouping, key, number))
                    stored[key, kind].append(sizes)
            for (key, kind), own in logical.items():
                files = stored[key, kind]
                amounts = (len(own), len(files), *_sums(own), *_sums(files))
                rows.append(
                    {"grouping": grouping, "key": key, "kind": kind}
                    | {name: sign * n for name, n in zip(_AMOUNTS, amounts, strict=True)}
                )
        # In one order, so that two transactions do not wait for each other.
        rows.sort(key=lambda row: (row["grouping"], row["key"], row["kind"]))
        self._backend.add_to(
            self._connection,
            TotalRow.__table__,
            rows,
            key=("grouping", "key", "kind"),
            amounts=_AMOUNTS,
        )

    def _held(self, ids: Collection[int]) -> set[tuple[Grouping, str, int]]:
        """Return the groups in which a visible arrival has one of these artifacts."""
        columns = [getattr(ArrivalRow, name) for name in _COLUMNS.values()]
        query = select(ArrivalRow.diff_id, *columns).distinct()
        visible = query.where(ArrivalRow.removed_at.is_(None))
        rows = [row._asdict() for row in self._among(visible, ArrivalRow.diff_id, ids)]
        return {
            (by, key, row["diff_id"])
            for by in _GROUPINGS
            for key, row in zip(_keys(rows, by), rows, strict=True)
        }

    def _summaries(self, by: Grouping, where: Condition | None) -> tuple[Summary, ...]:
        table = _summed(by).subquery()
        query = select(table).order_by(table.c.name)
        rows = self._listed(query, where, dict(table.c))
        return self._records("totals", rows, lambda row: build(Summary, row._asdict()))


def totals_by(by: Grouping, *, name: str | None = None) -> Select[Any]:
    """Return the query of the totals by one thing, with the names of what they are about."""
    named = _NAMED.get(by)
    own = TotalRow.key if named is None else named.name
    columns = [getattr(TotalRow, amount) for amount in _AMOUNTS]
    query = select(own.label("name"), TotalRow.kind, *columns).select_from(TotalRow)
    if named is not None:
        query = query.join(named, named.id == cast(TotalRow.key, WHOLE))
    # Where all arrivals were removed, a total of nothing is left.
    visible = (TotalRow.grouping == by) & (TotalRow.n_arrivals != 0)
    if name is not None:
        query = query.where(own == name)
    return query.where(visible).order_by(own, TotalRow.kind)


def storage_by_method(run_id: int, *, seed: int | None = None) -> Select[Any]:
    """Return the query of what each method's artifacts take in a run, or in one seed of it."""
    arrival, diff = ArrivalRow, DiffRow
    query = (
        select(
            arrival.method,
            func.count(arrival.diff_id).label("n_files"),
            func.avg(DENSITY).label("mean_density"),
            func.coalesce(func.sum(diff.file_bytes), 0).label("file_bytes"),
            func.coalesce(func.sum(diff.full_checkpoint_bytes), 0).label("full_checkpoint_bytes"),
        )
        .select_from(arrival)
        .join(diff, diff.id == arrival.diff_id, isouter=True)
        .where(arrival.run_id == run_id, arrival.removed_at.is_(None))
        .group_by(arrival.method)
        .order_by(func.min(arrival.seed), func.min(arrival.sequence), arrival.method)
    )
    return query if seed is None else query.where(arrival.seed == seed)


def _summed(by: Grouping) -> Select[Any]:
    """Return the query of one row per task or provider."""
    total = totals_by(by).order_by(None).subquery().c
    logical = sum((total[part] for part in _PARTS), start=literal(0))
    stored = sum((total[f"stored_{part}"] for part in _PARTS), start=literal(0))

    def of(amount: ColumnElement[Any], *kinds: str) -> ColumnElement[Any]:
        return func.sum(case((total.kind.in_(kinds), amount), else_=0))

    artifacts = ("diff", "checkpoint", "adapter")
    return select(
        total.name,
        of(total.n_arrivals, *artifacts).label("n_arrivals"),
        of(total.n_arrivals, "failed").label("n_failures"),
        of(total.n_arrivals, "quarantined").label("n_quarantined"),
        *(of(logical, kind).label(f"{kind}_bytes") for kind in artifacts),
        of(stored, *artifacts).label("stored_bytes"),
    ).group_by(total.name)


def _keys(rows: Sequence[Mapping[str, Any]], grouping: Grouping) -> Sequence[str]:
    if grouping == "all":
        return [""] * len(rows)
    return [str(row[_COLUMNS[grouping]]) for row in rows]


def _sums(sizes: Sequence[Sizes]) -> Sizes:
    return tuple(map(sum, zip(*sizes, strict=True))) or _NO_SIZES


def _count(grouping: Grouping) -> Select[Any]:
    """Return the query of what the totals by one thing must be."""
    own: ColumnElement[Any] = (
        literal("") if grouping == "all" else getattr(ArrivalRow, _COLUMNS[grouping])
    )
    groups = (
        select(own.label("key"), ArrivalRow.status, ArrivalRow.diff_id, func.count().label("n"))
        .where(ArrivalRow.removed_at.is_(None))
        .group_by(own, ArrivalRow.status, ArrivalRow.diff_id)
        .subquery()
    )
    sizes = [getattr(DiffRow, part) for part in _PARTS]
    kind = case((groups.c.diff_id.is_(None), groups.c.status), else_=DiffRow.kind)
    return (
        select(
            cast(groups.c.key, String).label("key"),
            kind.label("kind"),
            func.sum(groups.c.n),
            func.count(groups.c.diff_id),
            *(func.coalesce(func.sum(groups.c.n * size), 0) for size in sizes),
            *(func.coalesce(func.sum(size), 0) for size in sizes),
        )
        .select_from(groups)
        .join(DiffRow, DiffRow.id == groups.c.diff_id, isouter=True)
        .group_by(groups.c.key, kind)
    )


def _record(row: Row[Any]) -> Total:
    values = row._mapping
    return build(
        Total,
        {
            **{name: values[name] for name in ("name", "kind", "n_arrivals", "n_files")},
            "logical": build(Parts, {part: values[part] for part in _PARTS}),
            "stored": build(Parts, {part: values[f"stored_{part}"] for part in _PARTS}),
        },
    )


def _difference(key: Key, kept: Amounts, counted: Amounts) -> str:
    grouping, name, kind = key
    pairs = zip(_AMOUNTS, kept, counted, strict=True)
    wrong = (f"`{what}` is {said}, counted {found}" for what, said, found in pairs if said != found)
    whose = "" if grouping == "all" else f" by {grouping} of {name!r}"
    return f"The totals{whose}, {kind}: {'; '.join(wrong)}."
