"""Atomic writes: an interrupted write leaves nothing, and concurrent writers do not collide."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from streamlab import DiffVector
from streamlab.cli import cli
from streamlab.diff.layout import Layout
from streamlab.diff.vector import SparseTensor
from streamlab.errors import StoreError, StreamlabError
from streamlab.figures.style import write_figure
from streamlab.files import atomic_folder, atomic_write, open_private, write_atomically
from streamlab.home.curves import writing_curve
from streamlab.home.store import FolderStore
from streamlab.html.document import write_page
from streamlab.stats.predictions import PredictionFacts, Predictions, write_predictions
from streamlab.views.export import write_table
from streamlab.views.table import Column, Table

Write = Callable[[Path, int], object]  # a target, and a number that decides the content


def diff(number: int) -> DiffVector:
    values = np.array([1.0 + number], np.float32)
    tensor = SparseTensor((4,), np.array([number % 4]), values)
    return DiffVector(Layout("ab" * 32, ("w",), ((4,),)), (tensor,), {}, {})


def write_folder(target: Path, number: int) -> None:
    with atomic_folder(target) as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text(str(number))


def write_some_predictions(target: Path, number: int) -> None:
    facts = PredictionFacts(
        task="t",
        dataset="d",
        method="m",
        seed=number,
        digest="0" * 64,
        examples_fingerprint="",
        metric="accuracy",
        recorded=0.5,
        score=0.5,
    )
    write_predictions(target, [Predictions(facts, np.arange(2), np.arange(2))])


def write_curve(target: Path, number: int) -> None:
    with writing_curve(target) as curve:
        curve.append({"loss": number})


def write_command(command: str, *options: str) -> Write:
    def write(target: Path, _number: int) -> None:
        result = CliRunner().invoke(cli, [command, *options, str(target)])
        if isinstance(result.exception, StoreError | KeyboardInterrupt):
            raise result.exception
        if result.exit_code:
            raise StoreError(result.output)

    return write


def table(number: int) -> Table:
    return Table("t", "T", (Column("n", "count"),), ((number,),))


KINDS: dict[str, tuple[str, Write]] = {
    "bytes": ("file", lambda target, number: write_atomically(target, b"%d" % number)),
    "folder": ("folder", write_folder),
    "diff": ("x.safetensors", lambda target, number: diff(number).save(target)),
    "diff folder": ("diff", lambda target, number: diff(number).save_pretrained(target)),
    "csv": ("t.csv", lambda target, number: write_table(table(number), target)),
    "json": ("t.json", lambda target, number: write_table(table(number), target)),
    "report": ("r.html", lambda target, number: write_page(f"<p>{number}</p>", target)),
    "predictions": ("p.npz", write_some_predictions),
    "curve": ("c.jsonl", write_curve),
    "scenario": ("s.yaml", write_command("init")),
    "private key": ("s.key", write_command("keygen", "--out")),
}

ONCE = {"scenario", "private key"}  # never replace a file


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_that_fails_before_its_bytes_are_on_disk_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, write = KINDS[kind]

    def fail(_number: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="the disk is full"):
        write(tmp_path / name, 1)

    assert everything(tmp_path) == []


@pytest.mark.parametrize("what", ["pipe", "device", "link to a device", "link to a pipe"])
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"folder", "diff folder"}))
def test_a_device_or_a_pipe_is_never_replaced(kind: str, what: str, tmp_path: Path) -> None:
    name, write = KINDS[kind]
    target, pipe = tmp_path / name, tmp_path / "pipe"
    os.mkfifo(target if what == "pipe" else pipe)
    if what == "device":  # one of our own, where making it is allowed
        try:
            os.mknod(target, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root may make a device")
    elif what != "pipe":
        target.symlink_to("/dev/null" if "device" in what else pipe)
    before = target.lstat()

    with pytest.raises((StreamlabError, SystemExit)):
        write(target, 1)

    after = target.lstat()  # but for when a link was last read
    assert (after.st_mode, after.st_ino, after.st_mtime_ns, after.st_nlink) == (
        before.st_mode,
        before.st_ino,
        before.st_mtime_ns,
        before.st_nlink,
    )
    assert {path.name for path in everything(tmp_path)} <= {name, "pipe"}


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"folder", "diff folder"}))
def test_a_failed_write_keeps_the_old_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, write = KINDS[kind]
    target = tmp_path / name
    write(target, 1)
    before = target.read_bytes()

    def interrupt(_number: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    if kind not in ONCE:
        with pytest.raises(KeyboardInterrupt):
            write(target, 2)

    assert everything(tmp_path) == [target]
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("scenario", "private key")]
)
def test_concurrent_writers_leave_what_one_of_them_wrote(kind: str, tmp_path: Path) -> None:
    name, write = KINDS[kind]
    possible = []
    for number in range(8):
        write(tmp_path / f"alone-{number}" / name, number)
        possible.append(contents(tmp_path / f"alone-{number}"))

    def attempt(number: int) -> bool:
        try:
            write(tmp_path / "shared" / name, number)
        except StoreError:  # a folder that another writer completed first
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        completed = list(pool.map(attempt, range(8)))

    assert any(completed)
    if kind == "diff folder":  # into an existing folder, file by file
        assert sorted(contents(tmp_path / "shared")) == sorted(possible[0])
    else:
        assert contents(tmp_path / "shared") in possible
        assert all(completed) or kind == "folder"


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in everything(folder) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_every_file_of_a_folder_is_flushed_before_the_folder_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def note(number: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{number}").readlink().name)
        assert (tmp_path / "folder").exists() == (flushed[-1] == tmp_path.name)
        fsync(number)

    monkeypatch.setattr(os, "fsync", note)
    write_folder(tmp_path / "folder", 1)

    assert flushed[:2] == ["below", "file"]
    assert flushed[2].startswith(".tmp-")
    assert flushed[3:] == [tmp_path.name]


def test_a_figure_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_number: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="the disk is full"):
        write_figure(tmp_path / "figures", "empty", Figure, ("n",), [(1,)])

    assert [path.name for path in everything(tmp_path)] == ["figures"]


def test_a_folder_with_content_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()

    with pytest.raises(StoreError, match="not empty"):
        write_folder(tmp_path / "folder", 1)

    assert [path.name for path in everything(tmp_path)] == ["folder", "mine"]


def test_an_error_of_the_block_removes_the_folder_and_propagates(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "file").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert everything(tmp_path) == []


def test_a_new_file_is_never_written_over_another(tmp_path: Path) -> None:
    target = tmp_path / "key"

    def attempt(number: int) -> bool:
        try:
            write_atomically(target, b"%d" % number, opener=open_private, replace=False)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(8)))

    assert target.read_bytes() == b"%d" % won.index(True)
    assert sum(won) == 1
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert everything(tmp_path) == [target]


def test_an_artifact_that_many_store_at_once_is_stored_once(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")

    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(store.put, [b"a diff"] * 16))

    assert {found.digest for found in store.list()} == digests
    assert len([path for path in everything(tmp_path) if path.is_file()]) == 1


def test_a_diff_folder_that_exists_keeps_its_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps("mine"))

    diff(1).save_pretrained(tmp_path)

    names = ["README.md", "diff.sldiff", "notes.json"]
    assert [path.name for path in everything(tmp_path)] == names


def test_a_block_sees_its_temporary_file_beside_the_target(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as file:
        file.write(b"bytes")
        names = [path.name for path in everything(tmp_path)]

    assert [name.startswith(".tmp-") for name in names] == [True]
    assert (tmp_path / "file").read_bytes() == b"bytes"
