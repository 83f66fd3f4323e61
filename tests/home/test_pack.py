"""Small artifacts move into one file without ever being away, damaged or twice there."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streamlab.errors import StoreError
from streamlab.home.pack import PACK, Pack
from streamlab.home.store import SMALL_BYTES, FolderStore

SMALL = [hashlib.shake_256(bytes([n])).digest(1000 + 100 * n) for n in range(40)]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def packed(store: FolderStore) -> FolderStore:
    """A store with forty packed artifacts."""
    for data in SMALL:
        store.put(data)
    assert store.pack(before=math.inf) == len(SMALL)
    return store


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files_of(store: FolderStore) -> list[Path]:
    return [path for path in store.folder.glob("*/*") if path.is_file()]


def alter(store: FolderStore, digest: str, data: bytes) -> None:
    with closing(sqlite3.connect(store.folder / PACK)) as database, database:
        where = bytes.fromhex(digest)
        database.execute("UPDATE artifacts SET data = ? WHERE digest = ?", (data, where))


def test_small_files_move_into_one(packed: FolderStore) -> None:
    assert files_of(packed) == []
    assert [packed.get(digest_of(data)) for data in SMALL] == SMALL
    assert [found.digest for found in packed.list()] == sorted(map(digest_of, SMALL))


def test_another_process_reads_what_was_packed(packed: FolderStore) -> None:
    script = (
        "import sys; from pathlib import Path; from streamlab.home.store import FolderStore\n"
        "store = FolderStore(Path(sys.argv[1]))\n"
        "print(sum(len(store.get(found.digest)) for found in store.list()))"
    )
    command = [sys.executable, "-c", script, str(packed.folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)

    assert int(found.stdout) == sum(map(len, SMALL))


def test_a_file_above_the_bound_stays_one(store: FolderStore) -> None:
    for n_bytes in (SMALL_BYTES, SMALL_BYTES + 1):
        store.put(bytes(n_bytes))

    assert store.pack(before=math.inf) == 1
    assert [path.stat().st_size for path in files_of(store)] == [SMALL_BYTES + 1]


def test_a_file_that_was_needed_since_waits(store: FolderStore) -> None:
    store.put(b"a diff")

    assert store.pack(before=time.time() - 60) == 0
    assert not (store.folder / PACK).exists()
    assert store.pack(before=time.time() + 60) == 1


def test_the_time_at_which_an_artifact_was_needed_moves_with_it(store: FolderStore) -> None:
    digest = store.put(b"a diff")
    before = store.find(digest)

    store.pack(before=math.inf)

    after = store.find(digest)
    assert before is not None
    assert after is not None
    assert after.marked_at == before.marked_at
    assert after.where == f"{store.folder / PACK}#{digest}"


def test_an_altered_file_is_not_packed(store: FolderStore) -> None:
    digest = store.put(b"a diff")
    store.path(digest).write_bytes(b"A diff")

    assert store.pack(before=math.inf) == 0
    with pytest.raises(StoreError, match="was altered"):
        store.get(digest)


def test_an_altered_artifact_is_mended_by_its_file(packed: FolderStore) -> None:
    data = SMALL[0]
    digest = digest_of(data)
    alter(packed, digest, b"other")
    with pytest.raises(StoreError, match="was altered"):
        packed.get(digest)

    packed.path(digest).parent.mkdir(exist_ok=True)
    packed.path(digest).write_bytes(data)

    assert packed.get(digest) == data
    assert len(list(packed.list())) == len(SMALL)  # not twice
    packed.pack(before=math.inf)
    assert files_of(packed) == []
    assert packed.get(digest) == data


def test_a_pack_takes_about_the_bytes_of_its_artifacts(packed: FolderStore) -> None:
    apparent = sum(map(len, SMALL))
    del packed._packed  # closes its log

    allocated = (packed.folder / PACK).stat().st_blocks * 512

    assert allocated <= 1.2 * apparent


def test_deleted_artifacts_leave_neither_room_nor_bytes(packed: FolderStore) -> None:
    file = packed.folder / PACK
    gone, kept = SMALL[:30], SMALL[30:]
    for data in gone:
        packed.delete(digest_of(data))
    packed.pack(before=math.inf)
    packed._packed._opened.popitem()[1].close()

    assert file.stat().st_size <= 1.3 * sum(map(len, kept)) + 8192
    assert not any(data[100:200] in file.read_bytes() for data in gone)
    assert [packed.get(digest_of(data)) for data in kept] == kept


KEEPER = """
import sys, time
from pathlib import Path
from streamlab.home.store import FolderStore
store = FolderStore(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    print(store.put(b"%d" % number * 200), flush=True)
    number += 1
    if number % 5 == 0:
        store.pack(before=time.time() + 60)
"""


def test_a_killed_process_loses_nothing_that_it_stored(store: FolderStore) -> None:
    stored = set[str]()
    for turn, n_stored in enumerate((3, 5, 11, 24, 26, 40)):
        command = [sys.executable, "-c", KEEPER, str(store.folder), str(1000 * turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as keeper:
            assert keeper.stdout is not None
            stored |= {keeper.stdout.readline().strip() for _ in range(n_stored)}
            time.sleep(turn / 300)
            keeper.kill()
            stored |= {line.strip() for line in keeper.stdout if line.endswith("\n")}

        found = [found.digest for found in store.list()]
        assert len(found) == len(set(found))
        assert stored <= set(found)
        assert {digest_of(store.get(digest or "")) for digest in found} == set(found)

    for leftover in store.leftovers():
        store.delete_leftover(leftover)
    assert store.pack(before=math.inf) >= 0
    assert {found.digest for found in store.list()} >= stored


def test_processes_that_pack_at_once_lose_nothing(store: FolderStore) -> None:
    commands = [[sys.executable, "-c", KEEPER, str(store.folder), "0"] for _ in range(2)]
    keepers = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    stored = set[str]()
    for keeper in keepers:
        assert keeper.stdout is not None
        stored |= {keeper.stdout.readline().strip() for _ in range(30)}
    for keeper in keepers:
        keeper.kill()
        keeper.communicate()

    assert stored <= {found.digest for found in store.list()}
    assert all(store.get(digest) for digest in stored)


@pytest.fixture
def read_only(packed: FolderStore, tmp_path: Path) -> Iterator[Path]:
    """A copy of the packed store on a disk that cannot be written to."""
    packed._packed._opened.popitem()[1].close()
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "streamlab-test", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here; root can")
    try:
        shutil.copytree(packed.folder, disk / "store")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield disk / "store"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_folder_that_cannot_be_written_to_is_read(read_only: Path) -> None:
    store = FolderStore(read_only)

    assert [store.get(digest_of(data)) for data in SMALL] == SMALL
    with pytest.raises(StoreError, match="can only be read"):
        Pack(read_only).delete(digest_of(SMALL[0]))


def test_on_a_network_disk_nothing_is_packed(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlab.home.pack.find_disk_kind", lambda _: "nfs4")
    digest = store.put(b"a diff")

    assert store.pack(before=math.inf) == 0
    assert store.get(digest) == b"a diff"


def test_what_was_packed_is_read_on_a_network_disk(
    packed: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed._packed._opened.popitem()[1].close()
    monkeypatch.setattr("streamlab.home.pack.find_disk_kind", lambda _: "nfs4")

    store = FolderStore(packed.folder)

    assert store.get(digest_of(SMALL[3])) == SMALL[3]


def _spoil(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _add_trigger(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TRIGGER t AFTER DELETE ON artifacts BEGIN DELETE FROM artifacts; END"
        )


def _journal(path: Path) -> None:
    path.with_name(f"{PACK}-journal").write_bytes(b"delete this")


def _link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_spoil, "is damaged"),
        (_cut, "is damaged"),
        (_add_trigger, "is not a pack of this program"),
        (_journal, "is a rollback journal"),
        (_link, "is not a file of its own"),
    ],
)
def test_a_pack_that_cannot_be_trusted_is_refused(
    spoil: object, message: str, packed: FolderStore
) -> None:
    packed._packed._opened.popitem()[1].close()
    assert callable(spoil)
    spoil(packed.folder / PACK)
    store = FolderStore(packed.folder)

    with pytest.raises(StoreError, match=message):
        store.contents()


def test_values_of_other_types_are_no_artifacts(packed: FolderStore) -> None:
    with closing(sqlite3.connect(packed.folder / PACK)) as database, database:
        for row in ((b"short", 1.0, b"x"), ("text", 1.0, b"x"), (bytes(32), "soon", "text")):
            database.execute("INSERT INTO artifacts (digest, marked_at, data) VALUES (?,?,?)", row)

    assert len(list(packed.list())) == len(SMALL)
    assert "0" * 64 not in packed


def test_a_pack_that_is_not_there_is_empty(tmp_path: Path) -> None:
    pack = Pack(tmp_path)

    assert (pack.find("0" * 64), list(pack.every()), pack.totals()) == (None, [], (0, 0))
    pack.delete("0" * 64)
    assert list(tmp_path.iterdir()) == []
