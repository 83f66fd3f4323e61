"""Every store keeps one contract: files, a pack, fsspec's memory, a server that speaks S3."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streamlab.errors import StoreError
from streamlab.home.folder import Home
from streamlab.home.pack import PACK
from streamlab.home.remote_store import RemoteStore
from streamlab.home.store import SMALL_BYTES, ArtifactStore, FolderStore
from streamlab.home.store_location import open_store

SIZES = (0, 6, 3 << 20)  # the last one is asked for before it is sent


class Packing(FolderStore):
    """A folder whose small artifacts are in its pack from the start."""

    def _put(self, digest: str, data: bytes) -> int | None:
        if len(data) > SMALL_BYTES or digest in self:
            return super()._put(digest, data)
        self.folder.mkdir(exist_ok=True)
        self._packed.add([(digest, time.time(), data)])
        return None


@pytest.fixture(params=["folder", "packed", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name an empty store of each kind."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3_url"))
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/diffs"
    return f"{tmp_path}/store"


@pytest.fixture
def store(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> ArtifactStore:
    if request.node.callspec.params["url"] == "packed":
        return Packing(tmp_path / "store")
    return open_store(Home(tmp_path / "home"), url)


def write(store: ArtifactStore, name: str, data: bytes) -> None:
    """Write a file into a store past the store."""
    if isinstance(store, RemoteStore):
        store._objects.overwrite(name, data)
        return
    assert isinstance(store, FolderStore)
    digest = name.replace("/", "")
    if (store.folder / PACK).exists() and digest in store:
        store._packed.add([(digest, 0.0, data)])
        return
    path = store.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def name_of(digest: str) -> str:
    return f"{digest[:2]}/{digest[2:]}"


def digests_in(store: ArtifactStore) -> list[str | None]:
    return [found.digest for found in store.list()]


@pytest.mark.parametrize("n_bytes", SIZES)
def test_bytes_come_back_under_their_sha256(store: ArtifactStore, n_bytes: int) -> None:
    data = b"a diff"[:n_bytes] * max(1, n_bytes // 6)

    digest = store.put(data)

    assert digest == hashlib.sha256(data).hexdigest()
    assert store.get(digest) == store.get(digest) == data
    assert store.read(digest, most_bytes=len(data)) == data


@pytest.mark.parametrize("n_bytes", SIZES)
def test_the_same_bytes_are_stored_once_and_marked_again(
    store: ArtifactStore, n_bytes: int
) -> None:
    digest = store.put(bytes(n_bytes))
    before = store.find(digest)
    assert before is not None
    time.sleep(1.1 if isinstance(store, RemoteStore) else 0.05)

    assert store.put(bytes(n_bytes)) == digest

    after = store.find(digest)
    assert after is not None
    assert after.marked_at > before.marked_at
    assert (after.where, after.n_bytes) == (store.locate(digest), n_bytes)
    assert digests_in(store) == [digest]


def test_artifacts_are_listed_in_ascending_order_and_what_is_not_one_beside_them(
    store: ArtifactStore,
) -> None:
    assert list(store.list()) == []

    digests = sorted(store.put(bytes([number])) for number in range(20))
    write(store, "notes.txt", b"mine")

    listed = digests_in(store)
    assert [digest for digest in listed if digest] == digests
    assert len(listed) == len(digests) + 1
    (stray,) = (found for found in store.list() if found.digest is None)
    assert (Path(stray.where).name, stray.n_bytes) == ("notes.txt", 4)


def test_a_listing_tells_what_a_single_look_tells(store: ArtifactStore) -> None:
    store.put(b"a diff")

    (listed,) = store.list()

    assert listed == store.find(listed.digest or "")
    assert abs(listed.marked_at - time.time()) < 5


def test_a_store_knows_what_it_holds(store: ArtifactStore) -> None:
    digest = store.put(b"a diff")

    assert digest in store
    assert "0" * 64 not in store
    assert digest.upper() not in store
    assert "../" + digest not in store
    assert 5 not in store
    assert store.find("0" * 64) is None


@pytest.mark.parametrize("wrong", ["", "ab", "A" * 64, "../" * 21 + "a", "g" * 64, "a" * 64 + "\n"])
def test_what_is_no_digest_has_no_place(store: ArtifactStore, wrong: str) -> None:
    for call in (store.locate, store.get, store.find, store.delete):
        with pytest.raises(StoreError, match="is not a digest"):
            call(wrong)


def test_a_missing_artifact_is_refused_by_name(store: ArtifactStore) -> None:
    with pytest.raises(StoreError, match="has no artifact 0000"):
        store.get("0" * 64)
    with pytest.raises(FileNotFoundError):
        store.read("0" * 64, most_bytes=1)


def test_an_altered_artifact_is_never_handed_out(store: ArtifactStore) -> None:
    digest = store.put(b"a diff")
    before = store.contents()
    write(store, name_of(digest), b"A diff")

    with pytest.raises(StoreError, match="was altered"):
        store.get(digest)
    assert store.read(digest, most_bytes=6) == b"A diff"
    assert store.contents() != before
    assert store.contents(but={digest}) == {}


def test_a_shortened_artifact_is_noticed_when_it_is_stored_again(store: ArtifactStore) -> None:
    digest = store.put(b"a diff")
    write(store, name_of(digest), b"a")

    with pytest.raises(StoreError, match="has 1 bytes instead of 6"):
        store.put(b"a diff")


def test_more_bytes_than_are_asked_for_are_not_read(store: ArtifactStore) -> None:
    digest = store.put(b"a diff")

    with pytest.raises(StoreError, match=r"5 bytes|the 5 that it may have"):
        store.read(digest, most_bytes=5)


def test_what_was_deleted_is_gone_and_can_be_deleted_again(store: ArtifactStore) -> None:
    digest = store.put(b"a diff")
    store.get(digest)

    store.delete(digest)
    store.delete(digest)

    assert digest not in store
    with pytest.raises(StoreError, match="has no artifact"):
        store.get(digest)


def test_files_are_kept_where_their_rows_are_written(store: ArtifactStore, tmp_path: Path) -> None:
    old, new = store.put(b"old"), hashlib.sha256(b"new").hexdigest()
    files = {old: tmp_path / "old", new: tmp_path / "new"}
    for digest, file in files.items():
        file.write_bytes(b"old" if digest == old else b"new")

    with store.adding(files):
        assert set(digests_in(store)) == {old, new}

    assert (store.get(old), store.get(new)) == (b"old", b"new")


def test_files_are_deleted_again_where_their_rows_fail(
    store: ArtifactStore, tmp_path: Path
) -> None:
    old, new = store.put(b"old"), hashlib.sha256(b"new").hexdigest()
    files = {old: tmp_path / "old", new: tmp_path / "new"}
    for digest, file in files.items():
        file.write_bytes(b"old" if digest == old else b"new")

    with pytest.raises(KeyError), store.adding(files):
        raise KeyError

    assert digests_in(store) == [old]


def test_what_another_has_needed_since_stays_where_rows_fail(
    store: ArtifactStore, tmp_path: Path
) -> None:
    new = hashlib.sha256(b"new").hexdigest()
    (tmp_path / "new").write_bytes(b"new")

    def fail() -> None:
        time.sleep(1.1 if isinstance(store, RemoteStore) else 0.05)
        store.put(b"new")
        raise KeyError

    with pytest.raises(KeyError), store.adding({new: tmp_path / "new"}):
        fail()

    assert new in store


def test_a_store_belongs_to_the_registry_that_used_it_first(store: ArtifactStore) -> None:
    mine, other = "a" * 32, "b" * 32
    with pytest.raises(StoreError, match="is not the one that this registry's runs have used"):
        store.claim(mine, is_known=True)  # which leaves no mark
    store.claim(other, is_known=False)
    store.claim(other, is_known=False)
    store.claim(other, is_known=True)

    with pytest.raises(StoreError, match="is in use by another registry"):
        store.claim(mine, is_known=False)
    with pytest.raises(StoreError, match="is not the one that this registry's runs have used"):
        store.claim(mine, is_known=True)
    assert list(store.list()) == []


def test_trying_out_leaves_nothing(store: ArtifactStore) -> None:
    assert store.try_out() is None
    assert list(store.list()) == []


def test_many_writers_of_one_artifact_are_harmless(store: ArtifactStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(store.put, [b"a diff"] * 16))

    assert digests_in(store) == list(digests)
    assert store.get(*digests) == b"a diff"


WRITER = """
import sys, time
from pathlib import Path
from streamlab.home.folder import Home
from streamlab.home.store_location import open_store
store = open_store(Home(Path(sys.argv[2])), sys.argv[1])
list(store.list())
print("ready", flush=True)
sys.stdin.readline()
for number in range(12):
    store.put(b"%d" % number * 5000)
    store.pack(before=time.time() + 60)
"""


@pytest.fixture
def shared_url(url: str) -> str:
    if url.startswith("memory:"):
        pytest.skip("memory is not shared by processes")
    return url


def test_two_processes_that_write_the_same_artifacts_lose_nothing(
    shared_url: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", WRITER, shared_url, str(tmp_path)]
    pipe = subprocess.PIPE
    writers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]

    store = open_store(Home(tmp_path), shared_url)
    expected = {hashlib.sha256(b"%d" % n * 5000).hexdigest() for n in range(12)}
    assert set(digests_in(store)) == expected
    assert all(store.get(digest) for digest in expected)


def test_a_url_of_a_file_is_that_of_a_folder(tmp_path: Path) -> None:
    store = open_store(Home(tmp_path / "home"), f"file://{tmp_path}/store")

    assert isinstance(store, FolderStore)
    assert store.folder == tmp_path / "store"
