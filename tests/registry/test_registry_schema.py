from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from registry_samples import Clock, new_base
from sqlalchemy import Connection, inspect, text

from streamlab.errors import RegistryError
from streamlab.registry import schema
from streamlab.registry.database import Database
from streamlab.registry.registry import Registry
from streamlab.registry.tables import Tables


@pytest.fixture
def database(new_shared_url: str) -> Iterator[Database]:
    with closing(Database(new_shared_url)) as opened:
        yield opened


def statements(connection: Connection) -> dict[str, str]:
    """Return the SQL that made each table, index and trigger, spaces evened out."""
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    return {name: " ".join(sql.split()) for name, sql in rows}


def execute(url: str, *lines: str) -> None:
    """Carry out statements as another program would."""
    with closing(Database(url)) as database:
        database.write(lambda c: [c.execute(text(line)) for line in lines] and None)


def tables(url: str) -> list[str]:
    with closing(Database(url)) as database:
        return database.read(lambda c: sorted(inspect(c).get_table_names()))


def test_an_empty_database_is_brought_to_the_newest_version(database: Database) -> None:
    assert schema.check(database) is None
    schema.upgrade(database)
    assert schema.check(database) == schema.NEWEST
    assert schema.upgrade(database) == ()
    assert schema.check(database) == schema.NEWEST


def test_an_empty_file_is_brought_to_the_newest_version(tmp_path: Path) -> None:
    (tmp_path / "registry.db").touch()

    with Registry.open(f"sqlite:///{tmp_path}/registry.db", clock=Clock()) as registry:
        registry.bases.add(new_base())
        assert len(registry.bases.list()) == 1


def test_the_migrations_build_the_tables_the_program_uses(database: Database) -> None:
    schema.upgrade(database)

    def differences(connection: Connection) -> object:
        options = {"version_table": schema.VERSION_TABLE, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, Tables.metadata)

    assert database.read(differences) == []


def test_the_migrations_build_the_same_checks_and_indices_too() -> None:
    database = Database("sqlite://")
    schema.upgrade(database)
    made = Database("sqlite://")
    made.write(lambda c: made.backend.create_tables(c, Tables.metadata))

    migrated = database.read(statements)
    declared = made.read(statements)
    made.close()
    database.close()

    assert migrated.keys() - declared.keys() == {schema.VERSION_TABLE}
    assert {name: migrated[name] for name in declared} == declared


def test_every_revision_has_its_file_and_the_program_knows_the_newest() -> None:
    folder = Path(schema.__file__).parent / "migrations" / "versions"
    files = sorted(path.name for path in folder.glob("[0-9]*.py"))

    assert [name.split("_")[0] for name in files] == list(schema.REVISIONS)
    for name, before in zip(files, [None, *schema.REVISIONS], strict=False):
        assert f"\ndown_revision = {before!r}\n".replace("'", '"') in (folder / name).read_text()


def test_a_newer_database_is_refused_and_left_alone(new_shared_url: str) -> None:
    Registry.open(new_shared_url, clock=Clock()).close()
    execute(new_shared_url, "UPDATE streamlab_version SET version_num = '0999'")

    for read_only in (False, True):
        with pytest.raises(RegistryError, match="newer than this program") as caught:
            Registry.open(new_shared_url, clock=Clock(), read_only=read_only)
        assert "'0999'" in str(caught.value)
        assert f"'{schema.NEWEST}'" in str(caught.value)


def test_a_database_of_another_program_is_refused_and_left_alone(new_shared_url: str) -> None:
    execute(new_shared_url, "CREATE TABLE runs (id INTEGER)")

    with pytest.raises(RegistryError, match="belongs to another program"):
        Registry.open(new_shared_url, clock=Clock())
    assert tables(new_shared_url) == ["runs"]


def test_a_database_shared_with_another_programs_tables_is_used(new_shared_url: str) -> None:
    execute(
        new_shared_url,
        "CREATE TABLE alembic_version (version_num TEXT)",
        "CREATE TABLE mine (x INTEGER)",
    )

    Registry.open(new_shared_url, clock=Clock()).close()
    Registry.open(new_shared_url, clock=Clock()).close()
    assert {"alembic_version", "mine"} < set(tables(new_shared_url))


def test_a_migration_is_all_or_nothing(new_shared_url: str) -> None:
    # The last table the migration makes finds its index's name taken.
    execute(
        new_shared_url,
        "CREATE TABLE other (x INTEGER)",
        "CREATE INDEX ix_arrivals_run_diff ON other (x)",
    )

    with pytest.raises(RegistryError, match="already"):
        Registry.open(new_shared_url, clock=Clock())
    assert tables(new_shared_url) == ["other"]


def test_migrating_says_nothing(
    new_shared_url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        Registry.open(new_shared_url, clock=Clock()).close()

    assert [record for record in caplog.records if record.name.startswith("alembic")] == []
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("alembic").level == logging.NOTSET


def test_only_the_backends_hold_a_dialect() -> None:
    package = Path(schema.__file__).parents[1]
    dialect = re.compile(
        r"sqlite|postgres|psycopg|pragma|begin immediate|create trigger|stat1|advisory|nextval",
        re.I,
    )
    allowed = re.compile(r"sqlite:///+|postgresql\+psycopg://")  # an example of a URL

    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if dialect.search(allowed.sub("", path.read_text("utf-8")))
    }

    # The pack of small artifacts is a SQLite file whatever the registry is.
    own = {"home/pack.py"}
    assert {name for name in found - own if not name.startswith("registry/backends/")} == set()
