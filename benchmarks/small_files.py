"""What many small artifacts take of the disk: a file each, and packed by `gc`.

Artifacts of 1 to 28 kB are stored in a folder store as a run stores them, then packed. Allocated
bytes are blocks of files and folders (`st_blocks`), not lengths. The ratio does not depend on the
number but for the folders, which 256 names share; a million is counted by the same ratios. Times
are of one process on a machine that may be busy: compare them with each other only.

    python benchmarks/small_files.py --artifacts 100000
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from streamlab.files import find_disk_kind
from streamlab.home.pack import PACK
from streamlab.home.store import FolderStore

SIZES = (1000, 2000, 6000, 10_000, 28_000)  # mean bytes; each artifact has up to 10% less or more
MAIN = 6000  # of which all of `--artifacts` are stored; of the others, at most `OTHERS`
OTHERS = 5000
SHOWN = 500  # calls that are timed


def main() -> None:
    """Print the table, or with --json one flat object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifacts", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: temporary")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        disk, block = find_disk_kind(folder), folder.stat().st_blksize
        sizes = {n_bytes: min(options.artifacts, OTHERS) for n_bytes in SIZES}
        sizes[MAIN] = options.artifacts
        rows = [measure(folder / str(n_bytes), n_bytes, n) for n_bytes, n in sizes.items()]
    if options.json:
        print(json.dumps(flat(rows) | {"disk": disk, "block_bytes": block}, indent=1))
        return
    print(
        "| bytes | artifacts | files, allocated | packed, allocated | put ms | read ms, file | "
        "read ms, packed | packed per second |\n|---|---|---|---|---|---|---|---|"
    )
    for row in rows:
        print(
            f"| {row['mean_bytes']:,} | {row['artifacts']:,} | {row['files_ratio']:.2f} | "
            f"{row['packed_ratio']:.2f} | {row['put_ms']:.2f} | {row['read_file_ms']:.2f} | "
            f"{row['read_packed_ms']:.2f} | {row['packed_per_second']:,.0f} |"
        )


def flat(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the figures of every size by one name each."""
    found: dict[str, float] = {}
    for row in rows:
        of = f"of_{row['mean_bytes'] / 1000:g}_kB"
        found[f"number_{of}"] = row["artifacts"]
        found[f"files_{of}_over_their_sizes"] = row["files_ratio"]
        found[f"packed_{of}_over_their_sizes"] = row["packed_ratio"]
        found[f"pack_alone_{of}_over_their_sizes"] = row["pack_file_bytes"] / row["apparent_bytes"]
        found[f"read_file_{of}_ms"] = row["read_file_ms"]
        found[f"read_packed_{of}_ms"] = row["read_packed_ms"]
    return found


def measure(folder: Path, mean_bytes: int, n: int) -> dict[str, float]:
    """Store `n` artifacts, pack them, and return ratios to the sum of their lengths."""
    rng, store = random.Random(mean_bytes), FolderStore(folder)  # noqa: S311 - not secrets
    digests, apparent, times = list[str](), 0, list[float]()
    for _ in range(n):
        data = rng.randbytes(rng.randint(round(0.9 * mean_bytes), round(1.1 * mean_bytes)))
        apparent += len(data)
        began = time.perf_counter()
        digests.append(store.put(data))
        times.append(time.perf_counter() - began)
    shown = rng.sample(digests, min(SHOWN, n))
    files, read_file = allocated(folder), timed(store.get, shown)
    began = time.perf_counter()
    assert store.pack(before=math.inf) == n  # noqa: S101 - a benchmark of nothing is worthless
    packing = time.perf_counter() - began
    del store  # closes the pack's log
    packed_folder, read_packed = allocated(folder), timed(FolderStore(folder).get, shown)
    row = {
        "mean_bytes": mean_bytes,
        "artifacts": n,
        "apparent_bytes": apparent,
        "files_ratio": files / apparent,
        "packed_ratio": packed_folder / apparent,
        "pack_file_bytes": (folder / PACK).stat().st_size,
        "put_ms": 1e3 * statistics.median(times),
        "read_file_ms": read_file,
        "read_packed_ms": read_packed,
        "packed_per_second": n / packing,
    }
    shutil.rmtree(folder)
    return row


def allocated(folder: Path) -> int:
    """Return the bytes of the blocks of a folder and everything in it."""
    return sum(path.lstat().st_blocks * 512 for path in (folder, *folder.rglob("*")))


def timed(call: Callable[[str], object], digests: Sequence[str]) -> float:
    """Return the median milliseconds of a call."""
    times = []
    for digest in digests:
        began = time.perf_counter()
        call(digest)
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    main()
