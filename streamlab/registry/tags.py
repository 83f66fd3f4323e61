"""Tags: names that people give to runs, arrivals and artifacts. What has one is never forgotten."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select

from streamlab.errors import NotInRegistryError, RegistryError, UsageError
from streamlab.registry import arrivals, diffs, runs
from streamlab.registry.names import missing
from streamlab.registry.records import TagKind, TagRecord
from streamlab.registry.tables import ArrivalRow, DiffRow, RunRow, TagRow

# A letter first, and no digest, number or `kind:name` can be mistaken for it.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]+")


def add(
    connection: Connection, name: str, kind: TagKind, thing: str | int, *, at: float
) -> TagRecord:
    """Give a name to a thing, and return the tag.

    Raises UsageError for a name that could be taken for something else, RegistryError where it
    is taken for this kind of thing.
    """
    _check(connection, name)
    target = _target(connection, kind, thing)
    for tag in every(connection, name=name):
        if tag.kind == kind:
            raise RegistryError(
                f"The tag `{name}` is on the {kind} {tag.target} already. Take it off first with "
                f"`streamlab tag --remove {kind}:{name}`."
            )
    values = {"kind": kind, "name": name, f"{kind}_id": target, "added_at": at}
    connection.execute(insert(TagRow).values(**values))
    return next(tag for tag in every(connection, name=name) if tag.kind == kind)


def remove(connection: Connection, name: str, kind: TagKind | None) -> TagRecord:
    """Take a tag off, and return it. Raises NotInRegistryError, also where it is on two kinds."""
    found = [tag for tag in every(connection, name=name) if kind in (None, tag.kind)]
    if not found:
        raise missing("tag", name, [tag.name for tag in every(connection)])
    if len(found) > 1:
        kinds = " or ".join(f"`{tag.kind}:{name}`" for tag in found)
        raise NotInRegistryError(f"The tag {name!r} is on several things. Say which: {kinds}.")
    (tag,) = found
    connection.execute(delete(TagRow).where(TagRow.name == name, TagRow.kind == tag.kind))
    return tag


def every(connection: Connection, *, name: str | None = None) -> tuple[TagRecord, ...]:
    """Return all tags by name and kind, or those of one name."""
    query = _query().order_by(TagRow.name, TagRow.kind)
    if name is not None:
        query = query.where(TagRow.name == name)
    return tuple(TagRecord(**row._asdict()) for row in connection.execute(query))


def _query() -> Select[Any]:
    own = DiffRow.__table__.alias("own").c
    return (
        select(
            *(TagRow.name, TagRow.kind, TagRow.arrival_id, TagRow.added_at),
            RunRow.name.label("run"),
            func.coalesce(DiffRow.digest, own.digest).label("digest"),
        )
        .select_from(TagRow)
        .join(RunRow, RunRow.id == TagRow.run_id, isouter=True)
        .join(DiffRow, DiffRow.id == TagRow.diff_id, isouter=True)
        .join(ArrivalRow, ArrivalRow.id == TagRow.arrival_id, isouter=True)
        .join(own.id.table, own.id == ArrivalRow.diff_id, isouter=True)
    )


def _target(connection: Connection, kind: TagKind, thing: str | int) -> int:
    if kind == "run":
        return runs.id_of(connection, thing)
    if kind == "diff":
        return diffs.get(connection, str(thing)).id
    return arrivals.get(connection, int(thing)).id


def _check(connection: Connection, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a tag: begin with a letter, and go on with at most 63 letters, "
            "digits, dots, dashes and underscores."
        )
    if _DIGEST.fullmatch(name) or name == "latest":
        raise UsageError(
            f"{name!r} cannot be a tag: it could be taken for "
            f"{'the latest run' if name == 'latest' else 'the beginning of a digest'}. "
            "Choose another name."
        )
    taken = connection.execute(select(RunRow.id).where(RunRow.name == name)).scalar()
    if taken is not None:
        raise UsageError(f"{name!r} is the name of a run already. Choose another name.")
