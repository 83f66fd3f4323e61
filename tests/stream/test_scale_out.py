"""A cluster's run looks like a laptop's: the same results wherever it runs, and whatever dies."""

from __future__ import annotations

import dataclasses
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from s3_server import ISOLATED, Proxy, S3Server
from stream_samples import Lab, carry_out, runs_in, task

from streamlab.errors import StreamlabError
from streamlab.home.folder import Home
from streamlab.home.store_location import open_store
from streamlab.methods.api import Progress
from streamlab.registry.registry import Registry
from streamlab.stream.engine import run
from streamlab.stream.schedule import Arrival

if TYPE_CHECKING:
    from postgres_server import PostgresServer

CLI = Path(__file__).parents[2] / "cli.py"
SECONDS = 240  # that a run on its own may take
# What depends on the machine and the moment, and where a run is.
VOLATILE = {
    *("started_at", "finished_at", "heartbeat_at", "added_at", "at", "removed_at"),
    *("training_seconds", "evaluation_seconds", "peak_memory_bytes", "gpu_peak_bytes"),
    *("host", "pid", "execution", "store", "store_id", "sandbox", "message"),
}

NUMBERS = {"id", "run_id", "arrival_id"}


@dataclass(frozen=True)
class Place:
    """Where a run keeps its records and its files."""

    home: Home
    registry: str | None = None
    store: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        return {"registry_url": self.registry, "store_url": self.store}

    def open(self) -> Registry:
        url = self.registry or self.home.registry_url
        return Registry.open(url, clock=time.time, read_only=True)


def scenario(lab: Lab, executor: str = "serial", workers: int = 1, **changes: Any) -> Path:
    """Write a stream of three providers, one of whom copies, in which places overlap."""
    execution: dict[str, Any] = {"executor": executor, "attempts": 2}
    if executor != "serial":
        execution |= {"workers": workers, "sandbox": "none"}
    every_day = {"process": "periodic", "rate_per_day": 1}
    tree = lab.tree(
        name=f"same-{executor}{workers}",
        tasks={name: task(name) for name in ("mood", "same", "degree")},
        providers={
            "press": {"tasks": ["mood"], "arrivals": every_day, "n_arrivals": 3},
            "school": {"tasks": ["same"]},
            "copier": {"tasks": ["degree"], "behaviour": {"duplicate": 0.5}, "n_arrivals": 2},
        },
        queue={"slots": 2, "service": "fixed", "seconds": 40_000},
        execution=execution,
        evaluation="full",
        baselines=["head_only"],
    )
    tree["name"] = "same"  # of the run
    return lab.write(tree | changes, file=f"same-{executor}{workers}.yaml")


def steady(thing: Any) -> Any:
    """Return records as plain values, without what is volatile."""
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        thing = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    if isinstance(thing, Mapping):
        kept = {key: steady(value) for key, value in thing.items() if key not in VOLATILE}
        return {key: value for key, value in kept.items() if not str(key).endswith("_digest")}
    if isinstance(thing, (list, tuple)):
        return [steady(one) for one in thing]
    return thing


def contents(place: Place) -> dict[str, Any]:
    """Return everything that a registry holds, and the bytes of every artifact."""
    store = open_store(place.home, place.store)
    with place.open() as registry:
        found = {
            "runs": registry.runs.list(),
            "arrivals": registry.arrivals.list(),
            "scores": registry.scores.list(),
            "totals": [registry.totals.list(by) for by in ("all", "run", "task", "provider")],
            "events": [event.kind for event in registry.events.list()],
            "artifacts": [registry.artifacts.get(d) for d in sorted(registry.artifacts.digests())],
        }
        found = {name: steady(records) for name, records in found.items()}
        found["files"] = {digest: store.get(digest) for digest in registry.artifacts.digests()}
    found["stored"] = sorted(found.digest or "" for found in store.list())
    return found


def unnumbered(thing: Any) -> Any:
    """Return plain values without the numbers of records."""
    if isinstance(thing, dict):
        return {key: unnumbered(one) for key, one in thing.items() if key not in NUMBERS}
    return [unnumbered(one) for one in thing] if isinstance(thing, list) else thing


@pytest.fixture(scope="session")
def alone(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the stream leaves behind in one process, a file and a folder."""
    home = tmp_path_factory.mktemp("alone") / "home"
    carry_out(scenario(lab), home)
    return contents(Place(Home(home)))


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place; the parameter says where records and files are."""
    registry, store = getattr(request, "param", ("sqlite", "local"))
    where = request.getfixturevalue("s3_url") if store == "s3" else None
    url = None
    if registry == "postgresql":
        server = request.getfixturevalue("postgres")
        url = server.url(request.getfixturevalue("postgres_database"))
    return Place(Home(tmp_path / "home"), url, where)


def on(registry: str, store: str, executor: str, workers: int, *, slow: bool = True) -> Any:
    parts = {"postgresql": pytest.mark.postgres, "s3": pytest.mark.s3, "ray": pytest.mark.ray}
    marks = [parts[name] for name in (registry, store, executor) if name in parts]
    if executor == "ray":
        without = importlib.util.find_spec("ray") is None
        marks.append(pytest.mark.skipif(without, reason="wants the extra `ray`"))
    marks += [pytest.mark.slow] if slow else []
    name = f"{executor}{workers}-{registry}-{store}"
    return pytest.param((registry, store), executor, workers, marks=marks, id=name)


@pytest.mark.parametrize(
    ("place", "executor", "workers"),
    [
        on("sqlite", "local", "processes", 2, slow=False),
        on("postgresql", "s3", "serial", 1, slow=False),
        on("sqlite", "local", "processes", 4),
        on("sqlite", "s3", "processes", 2),
        on("postgresql", "local", "processes", 2),
        on("postgresql", "s3", "processes", 4),
        on("sqlite", "local", "ray", 2),
        on("postgresql", "s3", "ray", 2),
    ],
    indirect=["place"],
)
def test_a_stream_leaves_the_same_files_and_records_wherever_it_runs(
    lab: Lab, alone: dict[str, Any], place: Place, executor: str, workers: int
) -> None:
    path = scenario(lab, executor, workers)

    list(run(path, place.home.path, **place.options))

    found = contents(place)
    assert found.keys() == alone.keys()
    for name, expected in alone.items():
        assert found[name] == expected, name


def test_the_stream_that_is_compared_has_refusals_versions_and_rescored_places(
    alone: dict[str, Any],
) -> None:
    arrivals = alone["arrivals"]

    assert {one["status"] for one in arrivals} == {"finished", "quarantined"}
    assert {one["version"] for one in arrivals} == {1, 2, 3}
    assert len(alone["files"]) >= 5
    assert len(alone["scores"]) > 3 * len(arrivals)


def finished(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return what is left of a stream, whatever was attempted in vain."""
    names = ("sequence", "provider", "task", "version", "method", "digest", "rule")
    return [tuple(a[name] for name in names) for a in found["arrivals"] if a["status"] != "failed"]


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_no_result(
    lab: Lab, alone: dict[str, Any], place: Place
) -> None:
    killed: list[str] = []

    def kill(arrival: Arrival, _: Progress) -> None:
        # How a provider misbehaves is drawn anew for each attempt.
        if arrival.provider not in (*killed, "copier"):
            for child in multiprocessing.active_children():
                if child.name == f"provider {arrival.provider}":
                    killed.append(arrival.provider)
                    child.kill()

    list(run(scenario(lab, "processes", 2), place.home.path, watch=kill))

    found = contents(place)
    assert sorted(killed) == ["press", "school"]
    assert finished(found) == finished(alone)
    assert found["files"] == alone["files"]
    assert [one.status for one in runs_in(place.home)] == ["finished"]


def start(path: Path, place: Place, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Start `streamlab run` in a process of its own."""
    options = [str(part) for part in ("--home", place.home.path)]
    options += ["--registry", place.registry] if place.registry else []
    options += ["--store", place.store] if place.store else []
    return subprocess.Popen(
        [sys.executable, str(CLI), "run", str(path), *options, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.05)


def n_recorded(place: Place) -> int:
    try:
        with place.open() as registry:
            return len(registry.arrivals.list())
    except StreamlabError:  # not there yet
        return 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "executor", "workers"),
    [
        on("sqlite", "local", "processes", 2),
        on("postgresql", "s3", "processes", 2),
        on("sqlite", "local", "ray", 2),
    ],
    indirect=["place"],
)
def test_a_driver_that_is_killed_goes_on_by_resume_to_the_same_end(
    lab: Lab, alone: dict[str, Any], place: Place, executor: str, workers: int
) -> None:
    path = scenario(lab, executor, workers)
    driver = start(path, place)
    wait_for(lambda: n_recorded(place) >= 3 or driver.poll() is not None)
    driver.kill()
    driver.communicate()
    assert driver.returncode == -signal.SIGKILL  # in the middle of the run
    before = n_recorded(place)

    # A run counts as alive for a while after its last heartbeat.
    again = start(path, place, "--resume")
    _, said = again.communicate(timeout=SECONDS)

    assert again.returncode == 0, said
    found = contents(place)
    assert 3 <= before < len(found["arrivals"])
    for name in ("arrivals", "scores", "totals", "artifacts", "files", "stored"):
        assert found[name] == alone[name], name


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.s3
def test_a_server_that_is_killed_and_started_again_and_a_cut_connection_lose_nothing(
    lab: Lab, alone: dict[str, Any], s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_server = pytest.importorskip("postgres_server")
    for name, value in (s3.environment | ISOLATED).items():
        monkeypatch.setenv(name, value)
    seen: list[str] = []
    with postgres_server.PostgresServer(settings=("fsync=on",)) as server, Proxy(s3.port) as proxy:
        monkeypatch.setenv("STREAMLAB_S3_ENDPOINT", f"http://127.0.0.1:{proxy.port}")
        place = Place(Home(tmp_path / "home"), server.url(server.create()), s3.bucket())

        def break_both(point: str) -> None:
            seen.append(point)
            if seen.count("scored") == 2 and point == "scored":  # a row is due
                server.kill()
                threading.Timer(1.0, server.start).start()
            if seen.count("admitted") == 3 and point == "admitted":  # a file is due
                proxy.cut()
                threading.Timer(1.0, proxy.mend).start()
            if seen.count("recorded") == 4 and point == "recorded":
                server.kill()
                threading.Timer(1.0, server.start).start()

        path = scenario(lab, "processes", 2)
        list(run(path, place.home.path, reached=break_both, **place.options))

        found = contents(place)
    assert seen.count("recorded") > 4
    for name, expected in alone.items():
        # A transaction that was lost has taken its numbers with it.
        assert unnumbered(found[name]) == unnumbered(expected), name


@pytest.mark.postgres
def test_the_password_of_a_registry_reaches_no_file_and_no_output(
    lab: Lab, postgres: PostgresServer, tmp_path: Path
) -> None:
    from postgres_server import GUARDED, PASSWORD

    database = postgres.create()
    postgres.execute(f"ALTER DATABASE {database} OWNER TO {GUARDED}")
    url = postgres.url(database, user=GUARDED, password=PASSWORD)
    broken = lab.tree(name="secret", execution={"executor": "processes", "sandbox": "none"})
    broken["tasks"]["degree"] = task("degree", training={"learning_rate": 1e30})
    place = Place(Home(tmp_path / "home"), url)

    told = start(lab.write(broken), place).communicate(timeout=SECONDS)
    nowhere = Place(Home(tmp_path / "other"), url.replace(database, "not_there"))
    told += start(lab.write(broken), nowhere).communicate(timeout=SECONDS)
    wrong = Place(Home(tmp_path / "wrong"), url.replace(PASSWORD, f"{PASSWORD}-not"))
    told += start(lab.write(broken), wrong).communicate(timeout=SECONDS)

    assert "secret-1" in told[1]  # which failed for the one task alone
    assert "not_there" in told[3]
    rows = postgres.execute("SELECT runs::text FROM runs", database=database)
    rows += postgres.execute("SELECT events::text FROM events", database=database)
    rows += postgres.execute("SELECT arrivals::text FROM arrivals", database=database)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(rows) > 5
    assert files
    assert not [text for text in (*told, str(rows)) if PASSWORD in text]
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
