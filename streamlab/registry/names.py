"""Names: providers and tasks as rows of their own, and what to say when no record has a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, insert, select

from streamlab.errors import NotInRegistryError
from streamlab.registry.pieces import in_pieces
from streamlab.registry.tables import ProviderRow, TaskRow
from streamlab.units import nearest

Named = type[ProviderRow] | type[TaskRow]


def ids_of(connection: Connection, table: Named, given: Iterable[str]) -> dict[str, int]:
    """Return the number of each provider's or task's name; one that is new is added."""
    wanted = list(dict.fromkeys(given))
    numbers: dict[str, int] = {}
    for piece in in_pieces(wanted):
        known = select(table.name, table.id).where(table.name.in_(piece))
        numbers |= {row.name: row.id for row in connection.execute(known)}
    for name in wanted:
        if name not in numbers:
            added = insert(table).values(name=name).returning(table.id)
            numbers[name] = connection.execute(added).scalar_one()
    return numbers


def missing(what: str, given: object, known: Sequence[str]) -> NotInRegistryError:
    """Say that no `what` is called `given`, and name those that come near."""
    hint = nearest(str(given), known) if known else f"The registry holds no {what} yet."
    return NotInRegistryError(f"The registry holds no {what} {given!r}. {hint}")
