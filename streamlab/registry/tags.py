"""Tags: names that people give to runs, arrivals and artifacts. What has one is never deleted."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Row, Select, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from streamlab.errors import NotInRegistryError, RegistryError, UsageError
from streamlab.registry.conditions import Condition
from streamlab.registry.database import Repository, reads, writes
from streamlab.registry.records import TagKind, TagRecord
from streamlab.registry.runs import missing
from streamlab.registry.tables import ArrivalRow, DiffRow, RunRow, TagRow, columns_of
from streamlab.registry.validation import build

# A letter first; no digest, number or `kind:name` can be mistaken for it.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]+")
_OF_ARRIVAL = DiffRow.__table__.alias("of_arrival").c
_COLUMNS = columns_of(TagRecord, TagRow, digest=func.coalesce(DiffRow.digest, _OF_ARRIVAL.digest))


class Tags(Repository):
    """Tags; a name may be on one thing of each kind."""

    @writes
    def add(self, name: str, kind: TagKind, thing: str | int) -> TagRecord:
        """Give a name to a run, an arrival or an artifact; `gc` then leaves it alone.

        Raises UsageError for a name that could be taken for something else, RegistryError where
        another thing of this kind has it.
        """
        self._check(name)
        values = {"kind": kind, "name": name, f"{kind}_id": self._target(kind, thing)}
        try:
            with self._connection.begin_nested():
                self._connection.execute(insert(TagRow).values(**values, added_at=self._now))
        except IntegrityError as error:
            taken = self._of_kind(name, kind)
            raise RegistryError(
                f"The tag `{name}` is on the {kind} {taken.target} already. Take it off first "
                f"with `streamlab tag --remove {kind}:{name}`."
            ) from error
        return self._logged("tag-added", self._of_kind(name, kind))

    @writes
    def remove(self, name: str, kind: TagKind | None = None) -> TagRecord:
        """Take a tag off, and return what it was; `kind` where several things have the name.

        Raises NotInRegistryError for an unknown tag, or one on things of several kinds.
        """
        found = [tag for tag in self.list(name) if kind in (None, tag.kind)]
        if not found:
            raise missing("tag", name, [tag.name for tag in self.list()])
        if len(found) > 1:
            kinds = " or ".join(f"`{tag.kind}:{name}`" for tag in found)
            raise NotInRegistryError(f"The tag {name!r} is on several things. Say which: {kinds}.")
        (tag,) = found
        gone = delete(TagRow).where(TagRow.name == name, TagRow.kind == tag.kind)
        self._connection.execute(gone)
        return self._logged("tag-removed", tag)

    @reads
    def list(
        self, name: str | None = None, *, where: Condition | None = None
    ) -> tuple[TagRecord, ...]:
        """Return every tag by name and kind, or those of one name."""
        query = query_tags().order_by(TagRow.name, TagRow.kind)
        if name is not None:
            query = query.where(TagRow.name == name)
        rows = self._listed(query, where, _COLUMNS)
        return self._records("tags", rows, read_tag)

    def _of_kind(self, name: str, kind: TagKind) -> TagRecord:
        return next(tag for tag in self.list(name) if tag.kind == kind)

    def _logged(self, kind: str, tag: TagRecord) -> TagRecord:
        self._registry.events.add(kind, tag.name, f"{tag.kind} {tag.target}", digest=tag.digest)
        return tag

    def _target(self, kind: TagKind, thing: str | int) -> int:
        if kind == "run":
            return self._registry.runs.id_of(thing)
        if kind == "diff":
            return self._registry.artifacts.get(str(thing)).id
        return self._registry.arrivals.get(int(thing)).id

    def _check(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot be a tag: begin with a letter, and go on with at most 63 "
                "letters, digits, dots, dashes and underscores."
            )
        if _DIGEST.fullmatch(name) or name == "latest":
            raise UsageError(
                f"{name!r} cannot be a tag: it could be taken for "
                f"{'the latest run' if name == 'latest' else 'the first digits of a digest'}. "
                "Choose another name."
            )
        taken = self._connection.execute(select(RunRow.id).where(RunRow.name == name)).scalar()
        if taken is not None:
            raise UsageError(f"{name!r} is the name of a run already. Choose another name.")


def query_tags() -> Select[Any]:
    """Return the query of all tags, with what they are on."""
    return (
        select(*_COLUMNS.values())
        .select_from(TagRow)
        .join(RunRow, RunRow.id == TagRow.run_id, isouter=True)
        .join(DiffRow, DiffRow.id == TagRow.diff_id, isouter=True)
        .join(ArrivalRow, ArrivalRow.id == TagRow.arrival_id, isouter=True)
        .join(_OF_ARRIVAL.id.table, _OF_ARRIVAL.id == ArrivalRow.diff_id, isouter=True)
    )


def read_tag(row: Row[Any]) -> TagRecord:
    """Return the record of a tag. Raises RegistryError where the row is damaged."""
    return build(TagRecord, row._asdict())
