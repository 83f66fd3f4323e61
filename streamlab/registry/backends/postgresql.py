"""PostgreSQL: a server that several machines write to, through psycopg 3.

A writing transaction is READ COMMITTED and begins by taking one advisory lock, so that there is
one writer at a time, as with SQLite, and each statement sees everything that was committed before.
Optimistic transactions (SERIALIZABLE) would mostly fail instead: every arrival changes the row of
the total of all arrivals. A reading transaction is REPEATABLE READ, and waits for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.adapt import Loader
from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    exists,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from streamlab.errors import RegistryError
from streamlab.hashing import canonical_json
from streamlab.registry.backends import FEW, MODE, WHERE, Backend, read_json
from streamlab.units import counted

OLDEST_VERSION = 13  # where a transaction can be asked about by its number
_LOCK = 0x73747265616D6C61  # "streamla" in ASCII: of the one writer of a database
_BEGIN = {
    "read": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    # A machine that dies in the middle of a transaction must not keep the lock.
    "write": "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '30s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '120s'",
}
# Of libpq: a server that is gone without a word is noticed within half a minute.
_CONNECT = {
    "connect_timeout": "10",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "streamlab",
    "client_encoding": "utf8",
}
_SECRETS = ("password", "sslpassword")

_APPEND_ONLY = """
BEGIN
  -- A line of the device log is deleted only together with its removed arrival.
  IF TG_TABLE_NAME = 'placements' AND TG_OP = 'DELETE' THEN
    IF NOT EXISTS (SELECT 1 FROM arrivals WHERE id = OLD.arrival_id AND removed_at IS NULL) THEN
      RETURN OLD;
    END IF;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
    MESSAGE = 'the log of ' || TG_TABLE_NAME || ' is append-only';
END
"""
_TRIGGERS = {
    (table, f"{table}_no_{name}"): f"BEFORE {verb} ON {table} FOR EACH {each}"
    for table in ("events", "placements")
    for name, verb, each in (
        ("change", "UPDATE OR DELETE", "ROW"),
        ("truncate", "TRUNCATE", "STATEMENT"),
    )
}

_LOST = ("08", "57P01", "57P02", "57P03", "25P03")  # shut down, starting up, idle for too long
_BUSY = ("40001", "40P01", "55P03")  # conflict, deadlock, lock timeout
_UNREACHED = "Check that the server is running and can be reached, and the host and port."
# By the beginning of the error's code; the first that fits.
_ADVICE = {
    **dict.fromkeys(_BUSY, "Another process has locked it for too long; try again later."),
    "42501": "Let the owner of the database `GRANT` this user what is missing.",
    "28": "Check the user, and the password in PGPASSWORD or PGPASSFILE.",
    "3D000": "Make the database first, with `createdb`, or check its name.",
    "53100": "The server's disk is full and the transaction was rolled back; free some space.",
    "53300": "The server has too many connections; close some, or raise `max_connections`.",
    "25006": "The server is read-only, as a standby is; name the primary server.",
    "XX": "The database is damaged; restore it from a copy.",
    "58": "The server's disk failed; check it, and restore the database from a copy if need be.",
    **dict.fromkeys(_LOST, _UNREACHED),
}
# What a refused connection says, which has no code; where the server speaks English.
_REFUSALS = {
    "password": "28",
    "pg_hba.conf": "28",
    'role "': "28",
    'database "': "3D000",
    "too many clients": "53300",
}


class _Number(Loader):
    """Read NUMERIC, which a sum of whole numbers is, as one of Python's own numbers."""

    def load(self, data: Any) -> int | float:
        digits = bytes(data)
        return int(digits) if digits.removeprefix(b"-").isdigit() else float(digits)


def _json(tree: Any) -> str:
    try:
        return canonical_json(tree)
    except ValueError as error:  # as an error of the driver, which is explained like the others
        raise psycopg.DataError(str(error)) from error


class PostgreSQL(Backend):
    """A database of a server, whose own clock says which process is alive."""

    name = "postgresql"
    created_with_tables = (
        "CREATE FUNCTION streamlab_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$body${_APPEND_ONLY}$body$",
        *(
            f"CREATE TRIGGER {name} {rule} EXECUTE FUNCTION streamlab_append_only()"
            for (_, name), rule in _TRIGGERS.items()
        ),
    )

    def __init__(self, url: URL, *, read_only: bool) -> None:  # noqa: ARG002 - each transaction is
        """Create the engine. Raises RegistryError where the URL shows a secret."""
        for name in _SECRETS:
            if name in url.query:
                raise RegistryError(
                    f"The registry's URL has the option `{name}`, which would be shown. Give the "
                    "password by PGPASSWORD or PGPASSFILE."
                )
        self.url = url
        self.engine = create_engine(
            url,
            connect_args={name: value for name, value in _CONNECT.items() if name not in url.query}
            | {"prepare_threshold": None},  # a pooler may hand the next use to another connection
            json_serializer=_json,
            json_deserializer=read_json,
            use_native_hstore=False,
        )

        @event.listens_for(self.engine, "connect")
        def _connected(connection: psycopg.Connection[Any], _: object) -> None:
            connection.autocommit = True  # the driver begins nothing; `_begun` does
            connection.adapters.register_loader("numeric", _Number)

        @event.listens_for(self.engine, "begin")
        def _begun(connection: Connection) -> None:
            mode = connection.get_execution_options().get(MODE, "read")
            if mode in _BEGIN:
                connection.exec_driver_sql(_BEGIN[mode])
            if mode == "write":
                took = f"SELECT pg_advisory_xact_lock({_LOCK}), pg_current_xact_id()::text"
                connection.info["number"] = connection.exec_driver_sql(took).one()[1]

    def configure(self, connection: Connection) -> None:
        """Check the server; it remembers no setting."""
        self.describe(connection)

    def describe(self, connection: Connection) -> str:
        """Return the server's version. Raises RegistryError where it can hold no registry."""
        names = ("server_version", "server_version_num", "server_encoding")
        asked = ", ".join(f"current_setting('{name}')" for name in names)
        version, number, encoding = connection.exec_driver_sql(f"SELECT {asked}").one()
        if int(number) // 10_000 < OLDEST_VERSION:
            raise RegistryError(
                f"The server of {self.url} is PostgreSQL {version}; the registry wants "
                f"{OLDEST_VERSION} or newer."
            )
        if encoding != "UTF8":
            raise RegistryError(
                f"The database {self.url} has the encoding {encoding}, which cannot hold every "
                "text. Make one with `createdb --encoding UTF8 --template template0 NAME`."
            )
        return f"PostgreSQL {version}"

    def find_obstacle(self, connection: Connection, *, exists: bool) -> str | None:
        """Return what this user may not do that a run needs: make tables, or add to them."""
        if connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar():
            return "the server is a standby, which is read-only; name the primary server"
        verbs = ("SELECT", "INSERT", "UPDATE", "DELETE")
        asked = " AND ".join(f"has_table_privilege('arrivals', '{verb}')" for verb in verbs)
        if not exists:
            asked = "coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
        user, schema, may = connection.exec_driver_sql(
            f"SELECT current_user, current_schema(), {asked}"
        ).one()
        if may:
            return None
        what = "write to its tables" if exists else f"make tables in its schema {schema!r}"
        return (
            f"the user {user!r} may not {what}; let the owner of the database `GRANT` what is "
            "missing"
        )

    def now(self, connection: Connection, clock: Callable[[], float]) -> float:  # noqa: ARG002
        """Return the time of the server's clock, which all machines share."""
        asked = "SELECT extract(epoch FROM clock_timestamp())::double precision"
        return float(connection.exec_driver_sql(asked).scalar_one())

    def number_of(self, connection: Connection) -> str | None:
        """Return the number of a writing transaction."""
        return str(connection.info["number"])

    def is_committed(self, connection: Connection, number: str) -> bool:
        """Tell whether a transaction was committed; this one waited for its lock."""
        asked = "SELECT pg_xact_status(%(number)s::xid8)"
        return bool(connection.exec_driver_sql(asked, {"number": number}).scalar() == "committed")

    def declared(self, metadata: MetaData) -> MetaData:
        """Return the tables with their texts in the order of code points, whatever the locale."""
        declared = MetaData(naming_convention=metadata.naming_convention)
        for table in metadata.tables.values():
            for column in table.to_metadata(declared).columns:
                if isinstance(column.type, String):
                    column.type = type(column.type)(column.type.length, collation="C")
        return declared

    def reserve_ids(self, connection: Connection, table: Table, n: int) -> range:
        """Take the next values of the table's sequence, which no rollback gives back."""
        asked = (
            "SELECT min(number), max(number) FROM "
            "(SELECT nextval(%(name)s::regclass) AS number FROM generate_series(1, %(n)s)) AS taken"
        )
        while n:
            given = {"name": f"{table.name}_id_seq", "n": n}
            first, last = connection.exec_driver_sql(asked, given).one()
            if last - first == n - 1:  # none was taken by another program meanwhile
                return range(first, last + 1)
        return range(0)

    def last_id(self, connection: Connection, table: Table) -> int:
        """Ask the table's sequence."""
        asked = f"SELECT last_value, is_called FROM {table.name}_id_seq"  # noqa: S608 - its own name
        last, was_given = connection.exec_driver_sql(asked).one()
        return int(last) if was_given else 0

    def continue_ids(self, connection: Connection, table: Table, last: int) -> None:
        """Set the table's sequence, which does not see the ids of rows that come with one."""
        if last:
            connection.execute(select(func.setval(f"{table.name}_id_seq", last)))

    def upsert(self, table: Table) -> Any:
        """Return PostgreSQL's INSERT."""
        return insert(table)

    def insert_rows(
        self,
        connection: Connection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        *,
        statement: Any = None,
    ) -> int:
        """Insert rows as the base class does, many by one statement, which is planned once."""
        if len(rows) <= FEW:
            return super().insert_rows(connection, table, rows, statement=statement)
        names = [*rows[0]]
        columns = (
            literal([row[name] for row in rows], ARRAY(table.c[name].type)) for name in names
        )
        given = func.unnest(*columns).table_valued(*names).render_derived()
        adding = insert(table) if statement is None else statement
        adding = adding.from_select(names, select(given)).execution_options(preserve_rowcount=True)
        return connection.execute(adding).rowcount

    def like(self, column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
        """Return a LIKE, in which its own wildcards stand for themselves."""
        for special in "\\%_":
            pattern = pattern.replace(special, f"\\{special}")
        return column.like(pattern.replace("*", "%").replace("?", "_"), escape="\\")

    def disk_bytes(self, connection: Connection, metadata: MetaData) -> int:
        """Return the bytes of the tables and their indices."""
        (found,) = _ask(connection, _BYTES, metadata)
        return int(found[0])

    def file_bytes(self) -> int | None:
        """Return None: its files are the server's."""
        return None

    def is_busy(self, error: DBAPIError) -> bool:
        """Tell whether another transaction was in the way."""
        return _code(error).startswith(_BUSY)

    def is_lost(self, error: DBAPIError) -> bool:
        """Tell whether the server, or the way to it, failed."""
        refused = isinstance(error.orig, psycopg.OperationalError) and not error.orig.sqlstate
        return error.connection_invalidated or refused or _code(error).startswith(_LOST)

    def advice(self, error: DBAPIError) -> str:
        """Return what to do about an error, by its code or what a refused connection says."""
        code, said = _code(error), str(error.orig)
        if not code and isinstance(error.orig, psycopg.OperationalError):
            code = next((code for word, code in _REFUSALS.items() if word in said), "08")
        return next((text for prefix, text in _ADVICE.items() if code.startswith(prefix)), "")

    def find_strange(self, connection: Connection, metadata: MetaData) -> list[str]:
        """Return what these tables have beside what they are created with, or lack of it.

        A view or a rule in a table's place, or another trigger, would run another's statements.
        """
        kinds = {row[0]: row[1] for row in _ask(connection, _TABLES, metadata)}
        strange = [f"no table {name!r}" for name in metadata.tables if kinds.get(name) != "r"]
        if strange:
            return strange
        pairs = (
            ("columns of", _COLUMNS, _columns(metadata)),
            ("index", _INDICES, _indices(metadata)),
            ("trigger", _FOUND_TRIGGERS, {(*key, _APPEND_ONLY) for key in _TRIGGERS}),
        )
        return [
            f"another {what} {name!r}"
            for what, asked, wanted in pairs
            for name in sorted({row[0] for row in wanted ^ {*_ask(connection, asked, metadata)}})
        ]

    def find_damage(self, connection: Connection, metadata: MetaData) -> list[str]:
        """Return what is not enforced, and how many rows break a rule; reads every row."""
        found = [line for (line,) in _ask(connection, _UNENFORCED, metadata)]
        for table in metadata.tables.values():
            checks = [c for c in table.constraints if isinstance(c, CheckConstraint)]
            broken = [func.count().filter(text(f"NOT ({check.sqltext})")) for check in checks]
            counts = connection.execute(select(*broken).select_from(table)).one() if checks else ()
            found += [
                f"{counted(n, 'row')} of {table.name} break the check {check.name!r}."
                for check, n in zip(checks, counts, strict=True)
                if n
            ]
        return found

    def find_broken_links(
        self, connection: Connection, metadata: MetaData
    ) -> list[tuple[str, int, str]]:
        """Look up the target of every foreign key."""
        found = []
        for table in metadata.tables.values():
            (own,) = table.primary_key.columns
            for key in table.foreign_keys:
                target = key.column.table.alias("target")
                there = exists().where(target.c[key.column.name] == key.parent)
                lost = select(own).where(key.parent.is_not(None), ~there).order_by(own)
                numbers = connection.execute(lost).scalars()
                found += [(table.name, number, key.column.table.name) for number in numbers]
        return found


# Each is asked about the tables of some names.
_TABLES = """
    SELECT relname::text, CASE WHEN relrowsecurity OR relhasrules THEN '' ELSE relkind::text END
    FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname = ANY (%(names)s)
"""
_COLUMNS = """
    SELECT relname::text, attname::text, attnotnull, attgenerated::text
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE attrelid = ANY (%(names)s::regclass[]) AND attnum > 0 AND NOT attisdropped
"""
_INDICES = """
    SELECT relname::text, indisunique, indpred IS NOT NULL, array_to_string(ARRAY(
        SELECT attname FROM unnest(indkey) WITH ORDINALITY AS part (number, place)
        JOIN pg_attribute ON attrelid = indrelid AND attnum = number ORDER BY place
    ), ' ')
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = ANY (%(names)s::regclass[])
"""
_FOUND_TRIGGERS = """
    SELECT tgrelid::regclass::text, tgname::text, prosrc
    FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE tgrelid = ANY (%(names)s::regclass[]) AND NOT tgisinternal
"""
_BYTES = "SELECT sum(pg_total_relation_size(name)) FROM unnest(%(names)s::regclass[]) AS name"
_UNENFORCED = """
    SELECT 'The index ' || indexrelid::regclass || ' is invalid.'
    FROM pg_index WHERE indrelid = ANY (%(names)s::regclass[]) AND NOT indisvalid
    UNION ALL SELECT 'The constraint ' || conname || ' was never checked.'
    FROM pg_constraint WHERE conrelid = ANY (%(names)s::regclass[]) AND NOT convalidated
    UNION ALL SELECT DISTINCT 'A trigger of ' || tgrelid::regclass || ' is disabled.'
    FROM pg_trigger WHERE tgrelid = ANY (%(names)s::regclass[]) AND tgenabled <> 'O'
"""


def _ask(connection: Connection, asked: str, metadata: MetaData) -> list[tuple[Any, ...]]:
    found = connection.exec_driver_sql(asked, {"names": [*metadata.tables]})
    return [tuple(row) for row in found]


def _columns(metadata: MetaData) -> set[tuple[Any, ...]]:
    return {
        (table.name, column.name, not column.nullable, "")
        for table in metadata.tables.values()
        for column in table.columns
    }


def _indices(metadata: MetaData) -> set[tuple[Any, ...]]:
    found = set()
    for table in metadata.tables.values():
        unique = (
            c for c in table.constraints if isinstance(c, PrimaryKeyConstraint | UniqueConstraint)
        )
        found |= {(str(c.name), True, False, " ".join(c.columns.keys())) for c in unique}
        found |= {
            (str(i.name), i.unique, WHERE in i.info, " ".join(i.columns.keys()))
            for i in table.indexes
        }
    return found


def _code(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
