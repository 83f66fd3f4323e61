"""Totals: what arrived and what it takes, added up by the database as arrivals come and go.

A sum over a million arrivals takes seconds; reading the totals takes no time worth mentioning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    cast,
    func,
    literal,
    select,
)

from streamlab.registry.records import (
    Grouping,
    Parts,
    ProviderSummary,
    Summary,
    TaskSummary,
    Total,
)
from streamlab.registry.tables import ArrivalRow, ProviderRow, RunRow, TaskRow, TotalRow

_NAMED: dict[Grouping, type[RunRow] | type[TaskRow] | type[ProviderRow]] = {
    "run": RunRow,
    "task": TaskRow,
    "provider": ProviderRow,
}
_PARTS = [field.name for field in fields(Parts)]
_COLUMNS = [
    *(TotalRow.kind, TotalRow.n_arrivals, TotalRow.n_files),
    *(getattr(TotalRow, prefix + part) for prefix in ("", "stored_") for part in _PARTS),
]

AnySummary = TypeVar("AnySummary", bound=Summary)


def totals(connection: Connection, by: Grouping) -> tuple[Total, ...]:
    """Return the totals of every run, task, ... by name, then by kind."""
    apart = _quarantined(connection, by)
    return tuple(
        told
        for row in connection.execute(query(by))
        for told in _told_apart(_record(row), apart.get(row.name, 0))
    )


def tasks(connection: Connection) -> tuple[TaskSummary, ...]:
    """Sum up what arrived per task, by name."""
    return _summaries(TaskSummary, totals(connection, "task"))


def providers(connection: Connection) -> tuple[ProviderSummary, ...]:
    """Sum up what arrived per provider, by name."""
    return _summaries(ProviderSummary, totals(connection, "provider"))


def query(by: Grouping) -> Select[Any]:
    """Return the query of the totals by one thing, with the names of what they are about."""
    named = _NAMED.get(by)
    name = TotalRow.key if named is None else named.name
    found = select(name.label("name"), *_COLUMNS).select_from(TotalRow)
    if named is not None:
        found = found.join(named, named.id == cast(TotalRow.key, Integer))
    # Where all arrivals were removed, a total of nothing stays behind.
    left = (TotalRow.grouping == by) & (TotalRow.n_arrivals != 0)
    return found.where(left).order_by(name, TotalRow.kind)


def quarantined(by: Grouping) -> Select[Any]:
    """Return the query of how many submissions were quarantined by one thing.

    The database counts these and failed attempts as one; they are few, and an index has them.
    """
    named = _NAMED.get(by)
    columns: list[ColumnElement[Any]] = [func.count(), _names(by)]
    found = select(*columns).select_from(ArrivalRow)
    if named is not None:
        found = found.join(named, named.id == getattr(ArrivalRow, f"{by}_id"))
    left = (ArrivalRow.status == "quarantined") & ArrivalRow.removed_at.is_(None)
    return found.where(left).group_by(_names(by))


def _names(by: Grouping) -> ColumnElement[str]:
    if by == "all":
        return literal("")
    named = _NAMED.get(by)
    return ArrivalRow.method if named is None else named.name


def _quarantined(connection: Connection, by: Grouping) -> dict[str, int]:
    return {name: count for count, name in connection.execute(quarantined(by))}


def _told_apart(total: Total, n_quarantined: int) -> Iterator[Total]:
    """Yield a total; that of what left no artifact as one of failures and one of quarantines."""
    if total.kind != "failed" or not n_quarantined:
        yield total
        return
    if total.n_arrivals > n_quarantined:
        yield replace(total, n_arrivals=total.n_arrivals - n_quarantined)
    yield replace(total, kind="quarantined", n_arrivals=n_quarantined)


def _record(row: Row[Any]) -> Total:
    values = row._mapping
    return Total(
        name=row.name,
        kind=row.kind,
        n_arrivals=row.n_arrivals,
        n_files=row.n_files,
        logical=Parts(**{part: values[part] for part in _PARTS}),
        stored=Parts(**{part: values[f"stored_{part}"] for part in _PARTS}),
    )


def _summaries(summary: type[AnySummary], found: Iterable[Total]) -> tuple[AnySummary, ...]:
    return tuple(
        _summary(summary, name, {total.kind: total for total in own})
        for name, own in groupby(found, key=lambda total: total.name)
    )


def _summary(summary: type[AnySummary], name: str, own: dict[str, Total]) -> AnySummary:
    stored = [total for kind, total in own.items() if kind not in ("failed", "quarantined")]
    logical = {total.kind: total.logical.file_bytes for total in stored}
    return summary(
        name=name,
        n_arrivals=sum(total.n_arrivals for total in stored),
        n_failures=own["failed"].n_arrivals if "failed" in own else 0,
        n_quarantined=own["quarantined"].n_arrivals if "quarantined" in own else 0,
        diff_bytes=logical.get("diff", 0),
        checkpoint_bytes=logical.get("checkpoint", 0),
        adapter_bytes=logical.get("adapter", 0),
        stored_bytes=sum(total.stored.file_bytes for total in stored),
    )
