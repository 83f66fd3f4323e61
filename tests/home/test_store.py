from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from registry_samples import Clock, new_arrival, new_base, new_diff, new_run

from streamlab.errors import StoreError
from streamlab.files import atomic_write, open_new
from streamlab.home.store import FolderStore
from streamlab.registry.registry import Registry


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_bytes_come_back_under_the_sha256_of_the_bytes(store: FolderStore) -> None:
    digest = store.put(b"a diff")

    assert digest == hashlib.sha256(b"a diff").hexdigest()
    assert store.get(digest) == b"a diff"
    assert files_in(store.folder) == [store.folder / digest[:2] / digest[2:]]
    assert store.path(digest) == files_in(store.folder)[0]


def test_the_same_bytes_are_stored_once(store: FolderStore) -> None:
    digest = store.put(b"a diff")
    before = store.path(digest).stat()

    assert store.put(b"a diff") == digest
    assert store.path(digest).stat().st_ino == before.st_ino
    assert store.path(digest).stat().st_mtime_ns == before.st_mtime_ns


def test_what_is_incomplete_is_not_listed(store: FolderStore) -> None:
    digest = store.put(b"a diff")
    (store.folder / "ab").mkdir(exist_ok=True)
    (store.folder / "ab" / ".tmp-1").write_text("left by a crash")

    assert [found.digest for found in store.list()] == [digest]
    assert [Path(found.where).name for found in store.leftovers()] == [".tmp-1"]


class FillingUp(io.FileIO):
    """A file on a disk that is full after ten bytes, as the operating system reports it."""

    def write(self, data: object) -> int:
        if self.tell() >= 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(bytes(data)[:10])  # type: ignore[call-overload]


def unbuffered(path: Path) -> BinaryIO:
    file = FillingUp(path, "xb")
    return io.BufferedWriter(file, buffer_size=1)  # type: ignore[return-value]


def buffered(path: Path) -> BinaryIO:
    # The error comes with the flush, after every write went well.
    return io.BufferedWriter(FillingUp(path, "xb"), buffer_size=1000)  # type: ignore[return-value]


@pytest.mark.parametrize("opener", [unbuffered, buffered])
def test_a_full_disk_leaves_nothing(tmp_path: Path, opener: object) -> None:
    store = FolderStore(tmp_path / "store", opener=opener)  # type: ignore[arg-type]
    kept = store.put(b"ten bytes.")

    with pytest.raises(StoreError, match="the disk is full") as caught:
        store.put(b"more than ten bytes")

    assert "\n" not in str(caught.value)
    assert files_in(tmp_path) == [store.path(kept)]


def test_the_kernels_own_full_disk_is_explained(tmp_path: Path) -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("this system has no /dev/full")
    store = FolderStore(tmp_path / "store", opener=lambda _: device.open("wb"))

    with pytest.raises(StoreError, match="the disk is full"):
        store.put(b"a diff")
    assert files_in(tmp_path) == []


def test_a_store_below_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")

    with pytest.raises(StoreError, match=r"cannot be written: (Not a directory|File exists)"):
        FolderStore(tmp_path / "store").put(b"a diff")


def test_an_error_of_the_block_leaves_the_old_file_and_passes_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def overwrite(error: BaseException) -> None:
        with atomic_write(target) as file:
            file.write(b"new")
            raise error

    for error in (KeyboardInterrupt(), FileNotFoundError(2, "rows are missing")):
        with pytest.raises(type(error)) as caught:
            overwrite(error)
        assert caught.value is error
        assert [path.name for path in files_in(tmp_path)] == ["file"]
        assert target.read_bytes() == b"old"


def test_bytes_are_on_the_disk_before_they_get_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def noted(name: str) -> Iterator[None]:
        original = getattr(os, name)

        def note(*arguments: object) -> object:
            calls.append(name)
            return original(*arguments)

        monkeypatch.setattr(os, name, note)
        yield

    for name in ("fsync", "rename", "replace"):
        next(noted(name))
    (tmp_path / "ab").mkdir()
    with atomic_write(tmp_path / "ab" / "file", opener=open_new) as file:
        file.write(b"bytes")

    assert calls in (["fsync", "rename", "fsync"], ["fsync", "replace", "fsync"])


def test_the_registrys_bytes_are_the_files_bytes(store: FolderStore) -> None:
    with Registry.open("sqlite://", clock=Clock()) as registry:
        registry.bases.add(new_base())
        run = registry.runs.start(new_run())
        for version, n_bytes in enumerate((100, 64, 100)):
            data = bytes(n_bytes)
            diff = new_diff(
                digest=store.put(data),
                file_bytes=len(data),
                positions_bytes=0,
                values_bytes=0,
                head_bytes=0,
                metadata_bytes=len(data),
            )
            registry.arrivals.add(new_arrival(run.id, version=version), diff, [])

        recorded = {diff.digest: diff.file_bytes for diff in registry.artifacts.list()}

    assert recorded == {found.digest: Path(found.where).stat().st_size for found in store.list()}
    assert sorted(recorded.values()) == [64, 100]


def test_hashes_are_of_the_bytes_that_lie_there(store: FolderStore) -> None:
    whole, altered, left = (store.put(text) for text in (b"whole", b"altered", b"left"))
    store.path(altered).write_bytes(b"other")

    assert store.contents(but={left}) == {
        whole: whole,
        altered: hashlib.sha256(b"other").hexdigest(),
    }
