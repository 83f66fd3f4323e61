"""Fuzz the reader of diff files: hostile files must not be accepted, crash it or stall it.

Mutants of every layout of a file: each position rule and explicit positions, each value type, mode,
head type and coding of codes; with --home also of trained diffs. Half of the mutants are made with
knowledge of the format. Each is opened with the digest of the original, which must fail, and
without one, where an accepted file must be a valid diff. Mutants are opened in a child process, so
that a crash is counted and the run continues.

    python benchmarks/fuzz_diff.py --mutants 20000
    python benchmarks/fuzz_diff.py --seconds 60
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import multiprocessing
import random
import signal
import sys
import time
import tracemalloc
from collections import Counter
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, get_args

import numpy as np
from mutants import damage, mutate
from numpy.typing import NDArray
from real_diffs import even_diff, minilm, ruled_diffs, trained_diffs

from streamlab.diff.format.code_stream import CODED, PACKED
from streamlab.diff.format.container import decode, encode
from streamlab.diff.format.frame import read_frame
from streamlab.diff.format.head import HeadType
from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout, layer_of
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import BaseMismatchError, DiffFormatError

VALUE_TYPES: tuple[ValueType, ...] = get_args(ValueType)
HEAD_TYPES: tuple[HeadType, ...] = get_args(HeadType)
N_LAYERS = 2
DENSITY = 0.0003
BAD = ("accepted_by_digest", "accepted_invalid", "crashes", "hangs", "unnamed_errors")
COUNTS = ("mutants", "accepted", *BAD)
MOST_OVER_VALID = 4  # the memory that a mutant takes, as a multiple of a valid file's
LEAST_BYTES = 1 << 20  # of memory, that a mutant of any file may take
HANG_SECONDS = 1.0
GIVE_UP_SECONDS = 20
TRACED_SHARE = 8  # memory is traced for every eighth mutant, since it is slow

Files = list[tuple[bytes, str]]


def main() -> None:
    """Print the findings as JSON, of each layout on stderr; exit with 1 if any is bad."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=20_000, help="of each layout")
    parser.add_argument("--seconds", type=float, default=math.inf, help="at most, all together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="mutate the diffs stored here, too")
    parser.add_argument("--json", action="store_true", help="is the default")
    options = parser.parse_args()
    base = minilm()
    layout = first_layers(base.layout)
    groups = {name: (files, layout) for name, files in files_by_layout(layout).items()}
    if options.home is not None:
        trained = list(trained_diffs(base, options.home).values())[:3]
        groups["trained"] = ([_file(diff) for diff, _ in trained], base.layout)
    lenders = [data for files, _ in groups.values() for data, _ in files]
    tallies = {}
    for number, (name, (files, its_layout)) in enumerate(groups.items()):
        seconds = options.seconds / len(groups)
        seed = f"{options.seed} {number}"
        tallies[name] = fuzz(files, lenders, its_layout, options.mutants, seed, seconds)
        print(f"{name}: {json.dumps(tallies[name])}", file=sys.stderr, flush=True)
    found = summary(tallies)
    print(json.dumps(found, indent=1))
    sys.exit(any(found[name] for name in BAD) or found["peak_over_valid"] > MOST_OVER_VALID)


def summary(tallies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the sums over all layouts, the fewest mutants of one, and the highest peak."""
    sums = {name: sum(tally[name] for tally in tallies.values()) for name in COUNTS}
    rules = {name for tally in tallies.values() for name in tally if name.startswith("rule ")}
    return {
        "layouts": len(tallies),
        "least_mutants_of_a_layout": min(tally["mutants"] for tally in tallies.values()),
        **sums,
        "refusing_rules": len(rules),
        "peak_over_valid": max(tally["peak_over_valid"] for tally in tallies.values()),
    }


def first_layers(layout: Layout) -> Layout:
    """Return a layout of the embeddings and two layers, whose files are read faster."""
    pairs = [
        (name, shape)
        for name, shape in zip(layout.names, layout.shapes, strict=True)
        if not layer_of(name).isdigit() or int(layer_of(name)) < N_LAYERS
    ]
    names, shapes = zip(*pairs, strict=True)
    return Layout(layout.fingerprint, names, shapes)


def files_by_layout(layout: Layout) -> dict[str, Files]:
    """Return files of every kind of positions, values, modes, heads and codings, by its name."""
    ruled = ruled_diffs(layout, density=DENSITY)
    head, task = ruled["seeded"].head, ruled["seeded"].task
    explicit = replace(even_diff(layout, DENSITY), head=head, task=task)
    found: dict[str, Files] = {
        f"positions, {name}": [_file(diff, "sign", "pcodec"), _file(diff, "int4", "xz")]
        for name, diff in {"explicit": explicit, **ruled}.items()
    }
    for value_type in VALUE_TYPES:
        pair = (explicit, ruled["shared by four"])
        found[f"values, {value_type}"] = [_file(diff, value_type) for diff in pair]
    for head_type in HEAD_TYPES:
        found[f"head, {head_type}"] = [_file(ruled["seeded"], "sign", head_type=head_type)]
    exact = [
        SparseTensor(one.shape, one.positions, _as_bf16(one.values)) for one in explicit.tensors
    ]
    for mode in ("replace", "prune"):
        found[f"mode, {mode}"] = [_file(replace(explicit, tensors=tuple(exact), mode=mode))]
    for coding, files in _codings(explicit).items():
        found[f"coding, {coding}"] = files
    return found


def _codings(diff: DiffVector) -> dict[str, Files]:
    """Return files whose codes of values are packed, or coded in each way, by its name."""
    alike = replace(
        diff,
        tensors=tuple(
            SparseTensor(t.shape, t.positions, np.full_like(t.values, 1e-3)) for t in diff.tensors
        ),
    )
    found: dict[str, Files] = {}
    for one, value_type, codec in itertools.product(
        (diff, alike), ("sign", "ternary", "int4", "int8", "bf16"), ("pcodec", "xz")
    ):
        file = _file(one, value_type, codec)
        coding = read_frame(file[0]).header.coding
        name = {PACKED: "packed", CODED: codec}.get(coding, "numeral systems")
        found.setdefault(name, []).append(file)
    return found


def _as_bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _file(
    diff: DiffVector, value_type: Any = "bf16", codec: Any = "pcodec", head_type: Any = "int4"
) -> tuple[bytes, str]:
    file = encode(diff, value_type=value_type, codec=codec, head_type=head_type)
    return file.data, file.digest


def fuzz(
    files: Files, lenders: list[bytes], layout: Layout, n_mutants: int, seed: str, seconds: float
) -> dict[str, Any]:
    """Open mutants in a child process, and start another one if it dies."""
    context = multiprocessing.get_context("fork")
    at = context.Value("q", 0)
    tallies: Counter[str] = Counter()
    peaks = [0.0]
    until = time.monotonic() + seconds
    while at.value < n_mutants and time.monotonic() < until:
        reader, writer = context.Pipe(duplex=False)
        work = (files, lenders, layout, at, n_mutants, seed, until, writer)
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
    rules = {name: n for name, n in sorted(tallies.items()) if name.startswith("rule ")}
    return {name: tallies[name] for name in COUNTS} | {"peak_over_valid": max(peaks)} | rules


def _open_all(
    files: Files,
    lenders: list[bytes],
    layout: Layout,
    at: Synchronized[int],
    end: int,
    seed: str,
    until: float,
    writer: Connection,
) -> None:
    """Open mutants from `at` on, and report regularly, so that a crash loses little."""
    signal.signal(signal.SIGALRM, _give_up)
    valid = {digest: max(_traced(data, layout), LEAST_BYTES) for data, digest in files}
    tally: Counter[str] = Counter()
    peak = 0.0
    while at.value < end and time.monotonic() < until:
        index = at.value
        rng = random.Random(f"{seed} {index}")  # noqa: S311 - damage need not be secret
        data, digest = rng.choice(files)
        mutant = mutate(data, rng.choice(lenders), rng)
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
        if at.value % 500 == 0:
            writer.send((dict(tally), peak))
            tally.clear()
    writer.send((dict(tally), peak))


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
            only_changes = diff.rule is None and diff.mode == "add"
            if (only_changes and not np.all(again.values != 0)) or tensor.positions.flags.writeable:
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
