"""What comes from elsewhere is checked, taken in once, and writes over nothing."""

from __future__ import annotations

import math
import shutil
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stream_samples import Lab, Ran, carry_out, only, reading, stored

from streamlab import open_home
from streamlab.diff.format.container import encode
from streamlab.errors import (
    DiffError,
    DiffFormatError,
    NotInRegistryError,
    RegistryError,
    SourceError,
    StoreError,
    UsageError,
)
from streamlab.home.folder import Home
from streamlab.home.import_home import import_home
from streamlab.home.store import FolderStore
from streamlab.inference.import_file import import_file
from streamlab.registry.artifacts import pack_counts
from streamlab.registry.records import DeviceRequests, NewArrival, NewPlacement, given_part
from streamlab.registry.registry import Registry

if TYPE_CHECKING:
    from streamlab.home.import_home import Imported
    from streamlab.inference.model import LoadedBase
    from streamlab.library.home import OpenHome


@pytest.fixture(scope="session")
def small(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One task of its own on the same base; to be copied."""
    path = lab.scenario(name="small", seeds=[9], **only("degree"))
    return carry_out(path, tmp_path_factory.mktemp("small") / "home")


@pytest.fixture
def here(small: Ran, tmp_path: Path) -> Home:
    return Home(shutil.copytree(small.home.path, tmp_path / "here"))


@pytest.fixture
def file(opened: OpenHome, tmp_path: Path) -> Path:
    """The mood task's diff as a file."""
    opened.task("mood").save(tmp_path / "mood.diff")
    return tmp_path / "mood.diff"


def flipped(data: bytes) -> bytes:
    """Flip one bit of the last byte."""
    return data[:-1] + bytes([data[-1] ^ 1])


def take_home(here: Home, other: Home) -> tuple[Imported, ...]:
    models = []
    if other.has_registry:
        with reading(other) as registry:
            models = [base.model for base in registry.bases.list()]
    return import_home(here, here.registry_url, other, models=models)


def take_file(here: Home, path: Path, **options: Any) -> Imported:
    options = {"provider": "press", "task": None} | options
    return import_file(here, here.registry_url, path, **options)


def content(home: Home) -> list[Any]:
    """Return every record, and every file but the database."""
    files = {
        str(path.relative_to(home.path)): path.read_bytes()
        for folder in (home.store, home.curves)
        for path in folder.rglob("*")
        if path.is_file()
    }
    with reading(home) as registry:
        return [
            registry.bases.list(), registry.runs.list(), registry.arrivals.list(),
            registry.artifacts.list(),
            registry.scores.list(), registry.events.list(), files,
        ]  # fmt: skip


def told(home: Home) -> list[Any]:
    """Return what a home says of its runs, without the numbers of rows."""
    with reading(home) as registry:
        return [
            [replace(base, added_at=0) for base in registry.bases.list()],
            [replace(run, heartbeat_at=0) for run in registry.runs.list()],
            registry.arrivals.list(),
            [replace(diff, added_at=0) for diff in registry.artifacts.list()],
            [replace(score, id=0) for score in registry.scores.list()],
        ]


def test_a_home_comes_whole_into_a_new_one(ran: Ran, tmp_path: Path) -> None:
    new = Home(tmp_path / "new")

    (found,) = take_home(new, ran.home)

    assert (found.source.run.name, found.run.name, found.is_new) == (
        "served-1", "served-1", True,
    )  # fmt: skip
    assert len(found.source.arrivals) == 12
    assert told(new) == told(ran.home)
    assert stored(new) == stored(ran.home)
    curves = [sorted(p.name for p in home.curves.rglob("*.jsonl")) for home in (new, ran.home)]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 12


def test_what_is_remembered_of_a_stream_comes_along(ran: Ran, tmp_path: Path) -> None:
    other = Home(shutil.copytree(ran.home.path, tmp_path / "other"))
    with Registry.open(other.registry_url, clock=time.time) as registry:
        first, gone, last = registry.arrivals.list(run="served-1", status="finished")[:3]
        new = given_part(first, NewArrival, attempt=2, arrived_us=1, began_us=2, ended_us=3)
        registry.arrivals.add_failed(new, "too far", rule="norm")
        registry.removal.remove([gone.id])
        registry.placements.add(
            [
                NewPlacement(at_us=n, arrival_id=arrival.id, action="stored", device_bytes=n)
                for n, arrival in enumerate((last, gone, first))
            ]
        )
        requests = (DeviceRequests(seed=first.seed, policy="reject", n_hits=3, n_misses=1),)
        registry.placements.set_requests(first.run_id, requests)

    take_home(Home(tmp_path / "new"), other)

    with reading(Home(tmp_path / "new")) as registry:
        (found,) = registry.arrivals.list(status="quarantined")
        assert (found.rule, found.reason, found.ended_us) == ("norm", "too far", 3)
        log = [(line.at_us, line.task, line.seed) for line in registry.placements.list("served-1")]
        assert registry.placements.requests("served-1") == requests
    assert log == [(0, last.task, last.seed), (2, first.task, first.seed)]


def test_a_second_import_changes_nothing(ran: Ran, here: Home) -> None:
    take_home(here, ran.home)
    before = content(here)

    (again,) = take_home(here, ran.home)
    back = take_home(here, here)

    assert not again.is_new
    assert [one.is_new for one in back] == [False, False]
    assert content(here) == before


def test_what_is_imported_answers_as_before(
    ran: Ran, here: Home, opened: OpenHome, loaded: LoadedBase
) -> None:
    take_home(here, ran.home)

    with open_home(here.path).task("mood").applied(loaded) as served:
        found = served.predict(["the film was good"])
    with opened.task("mood").applied(loaded) as served:
        assert served.predict(["the film was good"]) == found


def test_a_run_of_the_same_name_and_other_content_gets_the_next_number(
    lab: Lab, here: Home, tmp_path: Path
) -> None:
    path = lab.scenario(name="small", seeds=[4], **only("degree"))
    other = carry_out(path, tmp_path / "other").home
    before = content(here)

    (found,) = take_home(here, other)

    assert (found.source.run.name, found.run.name) == ("small-1", "small-2")
    after = content(here)
    assert after[1][0] == before[1][0]
    assert before[-1].items() <= after[-1].items()
    (curve,) = (here.curves / "small-2").iterdir()
    assert curve.read_bytes() == next((other.curves / "small-1").iterdir()).read_bytes()


def test_a_home_whose_files_are_packed_is_imported_alike(
    ran: Ran, here: Home, tmp_path: Path
) -> None:
    other = Home(shutil.copytree(ran.home.path, tmp_path / "other"))
    expected, store = stored(other), FolderStore(other.store)
    assert store.pack(before=math.inf) > 0
    before = {path: path.read_bytes() for path in other.store.rglob("*") if path.is_file()}

    take_home(here, other)

    new = FolderStore(here.store)
    assert all(new.get(name.replace("/", "")) == data for name, data in expected.items())
    assert before == {path: path.read_bytes() for path in other.store.rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", ["flipped", "missing", "counts", "bytes"])
def test_a_run_whose_files_cannot_be_trusted_is_not_taken_in(
    damage: str, ran: Ran, here: Home, tmp_path: Path
) -> None:
    other = Home(shutil.copytree(ran.home.path, tmp_path / "other"))
    digest = open_home(other.path).task("same").artifact.diff.digest
    path = FolderStore(other.store).path(digest)
    if damage == "flipped":
        path.write_bytes(flipped(path.read_bytes()))
    elif damage == "missing":
        path.unlink()
    else:
        with sqlite3.connect(other.path / "registry.db") as database:
            (total, values, entries) = database.execute(
                "SELECT file_bytes, values_bytes, n_entries FROM diffs WHERE digest = ?", [digest]
            ).fetchone()
            n_tensors = len(open_home(other.path).load_base().base.layout.names)
            counts = pack_counts((entries, *[0] * (n_tensors - 1)))
            changes = {
                "counts": ("tensor_counts = ?", [counts]),
                "bytes": ("file_bytes = ?, values_bytes = ?", [total + 1, values + 1]),
            }[damage]
            database.execute(
                f"UPDATE diffs SET {changes[0]} WHERE digest = ?",  # noqa: S608 - ours
                [*changes[1], digest],
            )
        database.close()
    before = content(here)

    with pytest.raises(StoreError):
        take_home(here, other)

    assert content(here)[:-1] == before[:-1]


def test_runs_that_did_not_finish_are_left_where_they_are(
    ran: Ran, here: Home, tmp_path: Path
) -> None:
    other = Home(shutil.copytree(ran.home.path, tmp_path / "other"))
    with sqlite3.connect(other.path / "registry.db") as database:
        database.execute("UPDATE runs SET status = 'interrupted'")
    database.close()

    assert take_home(here, other) == ()
    with pytest.raises(RegistryError, match=r"no registry in the home .* Give a folder that"):
        take_home(here, Home(tmp_path))


def test_a_file_becomes_an_arrival_of_its_own_with_no_score(
    here: Home, file: Path, opened: OpenHome, loaded: LoadedBase
) -> None:
    taken = take_file(here, file)

    assert (taken.is_new, taken.run.name, taken.run.status) == (True, "imported-1", "finished")
    with reading(here) as registry:
        (arrival,) = registry.arrivals.list(run="imported-1")
        assert registry.scores.list(arrival_id=arrival.id) == ()
    facts = (arrival.provider, arrival.task, arrival.method, arrival.source)
    assert facts == ("press", "mood", "imported", "import")
    assert arrival.source_detail == "mood.diff"
    with open_home(here.path).task("mood").applied(loaded) as served:
        found = served.predict(["the film was good"])
    with opened.task("mood").applied(loaded) as served:
        assert served.predict(["the film was good"]) == found


def test_a_file_is_taken_in_once_for_a_task_of_a_provider(here: Home, file: Path) -> None:
    take_file(here, file)
    before = content(here)
    renamed = Path(shutil.copy(file, file.with_name("other.diff")))

    assert not take_file(here, file).is_new
    assert not take_file(here, renamed).is_new
    assert content(here) == before
    assert take_file(here, file, provider="school").run.name == "imported-2"
    assert take_file(here, file, task="feeling").run.name == "imported-3"


def test_a_file_is_described_as_the_run_that_made_it_does(here: Home, file: Path, ran: Ran) -> None:
    take_file(here, file)

    (found,) = take_home(here, ran.home)  # refuses the same digest with other facts

    assert found.is_new


@pytest.mark.parametrize(
    ("spoil", "options", "error", "message"),
    [
        (flipped, {}, DiffFormatError, "rule"),
        (lambda data: data[:200], {}, DiffFormatError, "rule"),
        (lambda _: b"", {}, DiffFormatError, "rule"),
        (lambda data: data, {"provider": ""}, UsageError, "--provider"),
        (lambda data: data, {"model": "/none"}, SourceError, "not an existing folder"),
    ],
)
def test_a_file_that_cannot_be_trusted_leaves_nothing(
    spoil: Any,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    here: Home,
    file: Path,
) -> None:
    file.write_bytes(spoil(file.read_bytes()))
    before = content(here)

    with pytest.raises(error, match=message):
        take_file(here, file, **options)

    assert content(here) == before


def test_a_file_without_a_task_a_change_or_a_known_base_is_refused(
    here: Home, file: Path, opened: OpenHome, loaded: LoadedBase, tmp_path: Path
) -> None:
    diff = opened.task("mood").diff(loaded.base.layout)
    nameless = replace(diff, task={})
    unfitting = replace(diff, head={"nowhere.weight": diff.head["classifier.weight"]})
    elsewhere = replace(diff, layout=replace(diff.layout, fingerprint="0" * 64))
    before = content(here)

    for other, error, message in (
        (nameless, UsageError, "does not name its task"),
        (unfitting, DiffError, "no head parameter"),
        (elsewhere, NotInRegistryError, "is not in this registry"),
    ):
        file.write_bytes(encode(other).data)
        with pytest.raises(error, match=message):
            take_file(here, file)
    with pytest.raises(SourceError, match="No diff can be read"):
        take_file(here, tmp_path / "none")

    assert content(here) == before
    file.write_bytes(encode(nameless).data)
    assert take_file(here, file, task="mood").is_new


def test_a_refused_import_leaves_no_file(ran: Ran, here: Home) -> None:
    take_home(here, ran.home)
    with Registry.open(here.registry_url, clock=time.time) as registry:
        one = next(a for a in registry.arrivals.list(run="served-1", status="finished"))
        registry.removal.remove([one.id])
        registry.removal.delete([one.id])
    FolderStore(here.store).path(one.digest or "").unlink()
    before = content(here)

    with pytest.raises(RegistryError, match="here already"):
        take_home(here, ran.home)

    assert content(here) == before


def test_curves_that_an_import_did_not_bring_come_with_the_next(ran: Ran, tmp_path: Path) -> None:
    new = Home(tmp_path / "new")
    take_home(new, ran.home)
    whole = content(new)
    shutil.rmtree(new.curves)

    take_home(new, ran.home)

    assert content(new) == whole


def test_an_altered_file_that_is_here_already_is_not_trusted(ran: Ran, tmp_path: Path) -> None:
    new = Home(tmp_path / "new")
    store = FolderStore(new.store)
    name, data = min(stored(ran.home).items())
    path = store.folder / name
    path.parent.mkdir(parents=True)
    path.write_bytes(flipped(data))

    with pytest.raises(StoreError, match="was altered"):
        take_home(new, ran.home)

    with reading(new) as registry:
        assert registry.runs.list() == ()
