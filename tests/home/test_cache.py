"""A cache of copies keeps to its bound, hands out nothing altered, and never fails."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streamlab.home.cache import Cache, StageCache
from streamlab.home.remote_store import RemoteStore


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fill(cache: Cache, n_files: int, n_bytes: int, first: int = 0) -> list[str]:
    digests = []
    for number in range(first, first + n_files):
        data = bytes([number]) * n_bytes
        digests.append(digest_of(data))
        cache.add(digests[-1], data)
    return digests


def sizes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def age(folder: Path, digest: str, seconds: float) -> None:
    os.utime(folder / digest, (1e9 - seconds, 1e9 - seconds))


def test_the_bound_holds_and_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    digests = fill(cache, 9, 100)
    for place, digest in enumerate(digests):
        age(tmp_path, digest, 100 - place)
    assert cache.get(digests[0]) is not None  # used just now

    fill(cache, 3, 100, first=9)

    assert sizes(tmp_path) <= 1000
    assert cache.get(digests[0]) is not None
    assert cache.get(digests[1]) is None
    assert cache.get(digests[8]) is not None


def test_what_is_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 99)

    fill(cache, 1, 100)

    assert not (tmp_path / "cache").exists()


def test_a_copy_that_was_altered_is_forgotten(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    (digest,) = fill(cache, 1, 10)
    (tmp_path / digest).write_bytes(b"altered")

    assert cache.get(digest) is None
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_not_read_through_a_link(tmp_path: Path) -> None:
    folder, data = tmp_path / "cache", b"elsewhere"
    folder.mkdir()
    (tmp_path / "file").write_bytes(data)
    (folder / digest_of(data)).symlink_to(tmp_path / "file")

    assert Cache(folder, 1000).get(digest_of(data)) is None


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    cache = Cache(tmp_path / "cache", 1000)

    (digest,) = fill(cache, 1, 10)

    assert cache.get(digest) is None


def test_many_that_share_a_folder_keep_to_the_bound(tmp_path: Path) -> None:
    def work(which: int) -> None:
        cache = Cache(tmp_path, 10_000)
        for digest in fill(cache, 40, 200, first=which * 40):
            data = cache.get(digest)
            assert data is None or digest_of(data) == digest

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    assert sizes(tmp_path) <= 10_000 * (1 + 4 / 16)


def test_a_store_reads_each_artifact_once_and_deletes_its_copy(tmp_path: Path) -> None:
    store = RemoteStore(f"memory://{uuid.uuid4().hex}", tmp_path, cache_bytes=1000, patience=1)
    digest = store.put(b"a diff")
    assert not list(tmp_path.iterdir())  # what was put is read back from the server

    assert store.get(digest) == b"a diff"
    store._objects.delete(f"{digest[:2]}/{digest[2:]}")
    assert store.get(digest) == b"a diff"
    store.delete(digest)

    assert list(tmp_path.iterdir()) == []


def test_no_cache_is_kept_where_its_bound_is_nothing(tmp_path: Path) -> None:
    store = RemoteStore(f"memory://{uuid.uuid4().hex}", tmp_path, cache_bytes=0, patience=1)

    assert store.get(store.put(b"a diff")) == b"a diff"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"x"])
def test_small_copies_come_back(tmp_path: Path, data: bytes) -> None:
    cache = Cache(tmp_path, 10)
    cache.add(digest_of(data), data)

    assert cache.get(digest_of(data)) == data


def test_a_stage_comes_back_as_it_was_and_only_in_its_scope(tmp_path: Path) -> None:
    here, there = (StageCache(tmp_path, 1000).within(scope) for scope in ("here", "there"))

    here.add("key", b"state")

    assert here.get("key") == b"state"
    assert here.get("other") is None
    assert there.get("key") is None
    there.add("key", b"another")
    assert (here.get("key"), there.get("key")) == (b"state", b"another")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"x" + data, lambda _: b""]
)
def test_a_stage_that_was_altered_is_forgotten(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    cache = StageCache(tmp_path, 1000)
    cache.add("key", b"state")
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))

    assert cache.get("key") is None
    assert list(tmp_path.iterdir()) == []


def test_stages_keep_to_their_bound(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, 1000)

    for number in range(20):
        cache.within(str(number)).add("key", bytes(100))
    cache.add("large", bytes(2000))

    assert 500 < sizes(tmp_path) <= 1000
    assert cache.within("19").get("key") == bytes(100)
