"""Fixtures of homes and registries, which tests of several rooms share."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from registry_samples import Clock
from s3_server import HAS_S3, ISOLATED, S3Server, s3_server

from streamlab.home.folder import Home
from streamlab.registry.registry import Registry

if TYPE_CHECKING:
    from postgres_server import PostgresServer
    from stream_samples import Ran


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the file of an empty registry once, for tests to copy."""
    path = tmp_path_factory.mktemp("made") / "registry.db"
    Registry.open(f"sqlite:///{path}", clock=Clock()).close()
    return path


@pytest.fixture
def new_url(tmp_path: Path) -> str:
    """Name a file that is not there yet."""
    return f"sqlite:///{tmp_path}/registry.db"


@pytest.fixture
def file_url(made: Path, tmp_path: Path) -> str:
    """Name the file of an empty registry."""
    shutil.copy(made, tmp_path / "registry.db")
    return f"sqlite:///{tmp_path}/registry.db"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, which every test of the session shares."""
    if os.environ.get("STREAMLAB_REQUIRE_POSTGRES") != "1":
        pytest.importorskip("psycopg", reason="wants the extra `postgres`")
    from postgres_server import PostgresServer  # here, since psycopg is an extra

    if PostgresServer.find() is None and os.environ.get("STREAMLAB_REQUIRE_POSTGRES") != "1":
        pytest.skip("wants PostgreSQL's server, which is not installed")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[str]:
    """Name a database with the tables of an empty registry."""
    with postgres.registry() as name:
        yield name


@pytest.fixture
def new_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """Name a database without tables, of the test's own."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def memory_url() -> str:
    return "sqlite://"


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_database: str, clock: Clock) -> Iterator[str]:
    """Name the database of an empty registry, whose server's clock is the test's."""
    with postgres.clock(postgres_database) as (url, clock.follow):
        yield url


SHARED = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=SHARED)
def shared_url(request: pytest.FixtureRequest) -> str:
    """Name an empty registry that several processes can use, of every kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["new_url", pytest.param("new_postgres_url", marks=pytest.mark.postgres)])
def new_shared_url(request: pytest.FixtureRequest) -> str:
    """Name a registry that is not there yet and that several processes can use, of every kind."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture(params=["memory", *SHARED])
def registry(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Registry]:
    url = request.getfixturevalue(f"{request.param}_url")
    with Registry.open(url, clock=clock) as opened:
        yield opened


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one scenario of two tasks and a baseline twice, so that two runs share every file."""
    from stream_samples import carry_out, make_lab, only  # here, since it costs torch

    lab = make_lab(tmp_path_factory.mktemp("lab"))
    path = lab.scenario(name="pair", baselines=["full_finetuning"], **only("mood", "same"))
    folder = tmp_path_factory.mktemp("trained") / "home"
    for _ in range(2):
        carry_out(path, folder)
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Home:
    """A real home of a test's own: two runs of two tasks by two methods, on four files."""
    return Home(shutil.copytree(trained, tmp_path / "home"))


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A finished run, to be read only."""
    from figure_samples import ran_in  # here, since it costs torch

    return ran_in(tmp_path_factory.mktemp("many"))


@pytest.fixture
def many_registry(many: Ran) -> Iterator[Registry]:
    """The registry of that run."""
    with Registry.open(many.home.registry_url, clock=time.time, read_only=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server that speaks S3, for the whole session."""
    if not HAS_S3:
        pytest.skip("s3fs or moto is not installed; pip install 'streamlab[s3,dev]'")
    with s3_server() as server:
        yield server


@pytest.fixture
def s3_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Let this process and its children find that server, and no file of AWS's."""
    for name, value in (s3.environment | ISOLATED).items():
        monkeypatch.setenv(name, value)
    return s3.environment


@pytest.fixture
def s3_url(s3: S3Server, s3_environment: dict[str, str]) -> str:
    """Name a store in a bucket of a test's own."""
    assert s3_environment
    return s3.bucket()
