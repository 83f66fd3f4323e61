"""Fuzz the reader of diff files: hostile files must not be accepted, crash it or stall it.

Mutants of real files (trained diffs, and diffs by every position rule, in every value type, codec
and coding of codes, with heads in several types), half of them made with knowledge of the format.
Each is opened with the digest of the original, which must fail, and without one, where an accepted
file must be a valid diff. Mutants are opened in a child process, so that a crash is counted and the
run continues.

    python benchmarks/fuzz_diff.py --mutants 200000 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import random
import signal
import sys
import time
import tracemalloc
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, get_args

import numpy as np
from mutants import damage, mutate
from real_diffs import minilm, ruled_diffs, trained_diffs

from streamlab.diff.format.container import decode, encode
from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import BaseMismatchError, DiffFormatError

VALUE_TYPES: tuple[ValueType, ...] = get_args(ValueType)
LEAST_BYTES = 1 << 20  # of memory, that a mutant of any file may take
HANG_SECONDS = 1.0
GIVE_UP_SECONDS = 20
TRACED_SHARE = 8  # memory is traced for every eighth mutant, since it is slow

Files = list[tuple[bytes, str]]


def main() -> None:
    """Print the findings, or with --json one flat object; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="mutate the diffs stored here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    base = minilm()
    diffs = [diff for diff, _ in list(trained_diffs(base, options.home).values())[:3]]
    files = [
        (file.data, file.digest)
        for diff in diffs
        for value_type, codec in [*((v, "pcodec") for v in VALUE_TYPES), ("bf16", "xz")]
        for file in [encode(diff, value_type=value_type, codec=codec)]  # type: ignore[arg-type]
    ]
    files += [
        (file.data, file.digest)
        for diff in ruled_diffs(base.layout, density=0.001).values()
        for value_type, codec in (("sign", "pcodec"), ("int4", "xz"), ("bf16", "pcodec"))
        for file in [encode(diff, value_type=value_type, codec=codec)]  # type: ignore[arg-type]
    ]
    files += [
        (file.data, file.digest)
        for diff in ruled_diffs(base.layout, density=0.0003).values()  # of few values
        for value_type, codec, head_type in (("ternary", "pcodec", "sign"), ("int4", "xz", "int4"))
        for file in [encode(diff, value_type=value_type, codec=codec, head_type=head_type)]  # type: ignore[arg-type]
    ]
    found = fuzz(files, base.layout, options.mutants, options.seed)
    print(json.dumps(found, indent=1))
    bad = ("accepted_by_digest", "accepted_invalid", "crashes", "hangs", "unnamed_errors")
    sys.exit(any(found[name] for name in bad) or found["peak_over_valid"] > 4)


def fuzz(files: Files, layout: Layout, n_mutants: int, seed: int) -> dict[str, Any]:
    """Open mutants in a child process, and start another one if it dies."""
    context = multiprocessing.get_context("fork")
    at = context.Value("q", 0)
    tallies: Counter[str] = Counter()
    peaks = [0.0]
    while at.value < n_mutants:
        reader, writer = context.Pipe(duplex=False)
        work = (files, layout, at, n_mutants, seed, writer)
        child = context.Process(target=_open_all, args=work)
        child.start()
        writer.close()
        # Read while the child works: it would block on a full pipe.
        with contextlib.suppress(EOFError):
            while True:
                tally, peak = reader.recv()
                tallies += Counter(tally)
                peaks.append(peak)
        child.join()
        if child.exitcode:
            tallies["crashes"] += 1
            at.value += 1
    names = ["mutants", "accepted", "accepted_by_digest", "accepted_invalid", "crashes", "hangs"]
    names += ["unnamed_errors"]
    rules = {name: n for name, n in sorted(tallies.items()) if name.startswith("rule ")}
    return {name: tallies[name] for name in names} | {"peak_over_valid": max(peaks)} | rules


def _open_all(
    files: Files, layout: Layout, at: Synchronized[int], end: int, seed: int, writer: Connection
) -> None:
    """Open mutants from `at` on, and report regularly, so that a crash loses little."""
    signal.signal(signal.SIGALRM, _give_up)
    valid = {digest: max(_traced(data, layout), LEAST_BYTES) for data, digest in files}
    tally: Counter[str] = Counter()
    peak = 0.0
    while at.value < end:
        index = at.value
        rng = random.Random(f"{seed} {index}")  # noqa: S311 - damage need not be secret
        data, digest = rng.choice(files)
        mutant = mutate(data, rng.choice(files)[0], rng)
        while mutant == data:
            mutant = damage(mutant, rng)
        tally["mutants"] += 1
        resident = _resident_peak(anew=True)
        _open(mutant, digest, layout, tally)
        # Includes allocations of libraries, which Python does not trace.
        peak = max(peak, 1 + (_resident_peak() - resident) / valid[digest])
        if index % TRACED_SHARE == 0:
            peak = max(peak, _traced(mutant, layout) / valid[digest])
        at.value += 1
        if at.value % 500 == 0 or at.value == end:
            writer.send((dict(tally), peak))
            tally.clear()


def _give_up(*_: object) -> None:
    raise TimeoutError("a file took too long")


def _resident_peak(*, anew: bool = False) -> int:
    """Return the peak resident memory in bytes since the last call with `anew`."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def _open(mutant: bytes, digest: str, layout: Layout, tally: Counter[str]) -> None:
    """Open one mutant with and without a digest, and count the outcome."""
    try:
        decode(mutant, layout, expected_digest=digest)
        tally["accepted_by_digest"] += 1
    except DiffFormatError:
        pass
    start = time.process_time()  # not wall time: others share the machine
    signal.alarm(GIVE_UP_SECONDS)
    try:
        diff = decode(mutant, layout)
        signal.alarm(0)
        tally["accepted"] += 1
        tally["accepted_invalid"] += not _is_valid(diff, layout)
    except DiffFormatError as refusal:
        tally[f"rule {refusal.rule}"] += 1
    except BaseMismatchError:
        tally["rule base"] += 1
    except TimeoutError:
        pass  # counted below
    except Exception as error:  # noqa: BLE001 - any other error is a finding
        tally["unnamed_errors"] += 1
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    signal.alarm(0)
    tally["hangs"] += time.process_time() - start > HANG_SECONDS


def _is_valid(diff: DiffVector, layout: Layout) -> bool:
    """Validate an accepted diff again, tensor by tensor."""
    try:
        for tensor, shape in zip(diff.tensors, layout.shapes, strict=True):
            again = SparseTensor(shape, tensor.positions, tensor.values)
            zeros = diff.rule is None and not np.all(again.values != 0)
            if zeros or tensor.positions.flags.writeable:
                return False
    except Exception:  # noqa: BLE001 - whatever it is, the diff is not valid
        return False
    return all(np.isfinite(head).all() for head in diff.head.values())


def _traced(data: bytes, layout: Layout) -> int:
    """Return the peak memory that Python and numpy allocate while opening a file."""
    tracemalloc.start()
    try:
        decode(data, layout)
    except (DiffFormatError, BaseMismatchError):
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


if __name__ == "__main__":
    main()
