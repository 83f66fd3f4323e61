"""With no byte free a home can be read, and space in it can be freed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from registry_samples import write_arrivals

from streamlab.cli import cli
from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.registry.registry import Registry

READING = (
    "ls runs", "ls arrivals --format csv", "show", "show arrival:1", "du", "tag", "verify",
    "compare 1 1", "gc --dry-run", "fit --budget 1MB",
)  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "streamlab-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here; root can")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def home(disk: Path) -> Home:
    """A home with one run on a disk."""
    home = Home(disk / "home")
    home.create()
    write_arrivals(home.registry_url, 0, 3)
    for data in (b"0 of 0", b"1", b"2 of 0", b"without a record" * 10_000):
        FolderStore(home.store).put(data)
    return home


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(disk).free == 0


def call(home: Home, line: str) -> Result:
    return CliRunner().invoke(cli, [*line.split(), "--home", str(home.path)])


def crash(home: Home) -> dict[Path, bytes]:
    """Return the files of a registry whose writer ended without closing its log."""
    with Registry.open(home.registry_url, clock=lambda: 1e9) as registry:
        registry.tags.add("kept", "arrival", "1")
        files = [home.path / f"registry.db{ending}" for ending in ("", "-wal")]
        return {file: file.read_bytes() for file in files}


@pytest.mark.parametrize("crashed", [False, True])
def test_a_home_on_a_full_disk_can_be_read(crashed: bool, home: Home, disk: Path) -> None:
    files = crash(home) if crashed else {}
    expected = [call(home, line) for line in READING]
    for file, data in files.items():
        file.write_bytes(data)
    fill(disk)

    found = [call(home, line) for line in READING]

    for line, one, other in zip(READING, expected, found, strict=True):
        assert (other.exit_code, other.output) == (one.exit_code, one.output), line
    assert crashed or shutil.disk_usage(disk).free == 0


def test_space_on_a_full_disk_can_be_freed(home: Home, disk: Path) -> None:
    fill(disk)

    removed, collected = call(home, "rm 1"), call(home, "gc --now")

    assert (removed.exit_code, collected.exit_code) == (0, 0), removed.output + collected.output
    assert "Deleted 2 files, 160 kB, and 1 removed arrival for good." in collected.stderr
    (disk / "filler").unlink()
    assert call(home, "gc").exit_code == 0
    assert (home.path / ".reserve").stat().st_size == 1 << 20


def test_a_full_disk_is_called_full(home: Home, disk: Path) -> None:
    (home.path / ".reserve").unlink()
    fill(disk)

    for line in ("tag best arrival:1", "rm 1", "gc --now", f"export runs -o {disk}/r.csv"):
        result = call(home, line)
        assert result.exit_code == 1, line
        assert "disk is full" in result.stderr.lower(), line
        assert "failed" not in result.stderr, line
    assert call(home, "ls runs").exit_code == 0
