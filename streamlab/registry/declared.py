"""Tables declared as classes whose attributes are their columns, without an object mapper.

Loading SQLAlchemy's mapper takes a quarter of the time in which a short command is to answer,
and a registry that hands out records of its own has no use for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    event,
    text,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

Value = TypeVar("Value")

_WHERE = "where"  # in an index's `info`


class Tables:
    """Hold the metadata; every constraint has a name, so that a migration can change it."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    __tablename__: ClassVar[str]
    __table_args__: ClassVar[Sequence[SchemaItem]] = ()
    __table__: ClassVar[Table]

    def __init_subclass__(cls) -> None:
        columns = []
        for name, value in vars(cls).items():
            if isinstance(value, Column):
                value.name = value.key = name
                columns.append(value)
        cls.__table__ = Table(cls.__tablename__, cls.metadata, *columns, *cls.__table_args__)

    @classmethod
    def __clause_element__(cls) -> Table:
        """Let the class stand for its table in a statement."""
        return cls.__table__


def own_number() -> ColumnElement[int]:
    """Make the column of a row's own number."""
    return Column(Integer, primary_key=True)


def needed(
    kind: TypeEngine[Value] | type[TypeEngine[Value]], *parts: SchemaItem, unique: bool = False
) -> ColumnElement[Value]:
    """Make a column that every row fills."""
    return Column(kind, *parts, nullable=False, unique=unique or None)


def optional(
    kind: TypeEngine[Value] | type[TypeEngine[Value]], *parts: SchemaItem
) -> ColumnElement[Value | None]:
    """Make a column that a row may leave empty."""
    column: ColumnElement[Any] = Column(kind, *parts, nullable=True)
    return column


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """Make an index of those rows only for which `where` is true, in any database that can."""
    # Said as `sqlite_where` and `postgresql_where`, it would load both databases' dialects.
    return Index(name, *columns, unique=unique, info={_WHERE: where})


@event.listens_for(Tables.metadata, "before_create")
def _narrow(metadata: MetaData, connection: Connection, **_: Any) -> None:
    for table in metadata.tables.values():
        for index in table.indexes:
            if _WHERE in index.info:
                own = index.dialect_options[connection.dialect.name]
                own["where"] = text(index.info[_WHERE])
