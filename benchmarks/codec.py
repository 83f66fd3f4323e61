"""Bits per entry of the diff format, compared with entropy bounds and with other formats.

On uniformly random positions (0.1, 0.5, 1 and 5% of all-MiniLM-L6-v2) and on trained diffs: bits
per entry by part, compared with H(p)/p and the two-part bound; files by value type; time to encode
and to decode; and the same entries in other formats, all with 16-bit values. Of every position
rule, at 0.3% and one bit: the bytes of rule, values, head, task description and of the container
around them. Of short streams of codes: their bytes, compared with their zero-order entropy and the
cost of its parameters, (m - 1)/2 log2 k bits for m codes in use (Rissanen, 1984).

The values of a stored diff are rounded already, so it is measured in its own value type only, and
in all types if it was stored in fp32 (--set storage.values=fp32).

    python benchmarks/codec.py --home streamlab-home
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from peft import LoraConfig, ShiraConfig, get_peft_model
from real_diffs import TrainedDiff, even_diff, minilm, ruled_diffs, trained_diffs
from safetensors.numpy import save
from scipy import sparse

from streamlab.base import Base
from streamlab.diff.entropy import even_bits_per_entry, two_part_bound, value_entropy
from streamlab.diff.format.code_stream import write_codes
from streamlab.diff.format.container import EncodedDiff, decode, encode
from streamlab.diff.format.values import ValueType, round_values
from streamlab.diff.vector import DiffVector
from streamlab.hashing import canonical_json

DENSITIES = {"0.1pct": 0.001, "0.5pct": 0.005, "1pct": 0.01, "5pct": 0.05}
VALUE_TYPES: tuple[ValueType, ...] = ("bf16", "int8", "int4")
LOW_BIT: tuple[ValueType, ...] = ("sign", "ternary", "int2", "int4")
STREAM_LENGTHS = (500, 1000, 2000, 5000, 10_000, 16_384)
LONG_STREAM = 100_000  # left to pcodec
SHIRA = ShiraConfig(r=8, random_seed=0, target_modules=["query", "value"])
LORA = LoraConfig(r=8, target_modules=["query", "value"])

Rows = list[list[str]]


def main() -> None:
    """Print the tables, or with --json one flat object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, help="measure the diffs stored here")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = minilm()
    diffs = trained_diffs(base, options.home)
    even, even_rows = measure_even(base)
    real, real_rows = measure_real(diffs)
    small, small_rows = measure_rules(base)
    name, (diff, _) = next(iter(diffs.items()))
    streams, stream_rows = measure_streams(diff)
    if options.json:
        print(json.dumps(even | real | small | streams, indent=1))
        return
    show(
        "Uniformly random positions, bits per entry",
        ["density", "H(p)/p", "positions", "over"],
        even_rows,
    )
    show(
        "Trained diffs, bits per entry (file without the head)",
        ["diff", "k", "two-part", "positions", "over", *VALUE_TYPES],
        real_rows,
    )
    show(
        "Position rules at 0.3%, one bit a value, head of two classes in fp16, bytes",
        ["rule", "k", "rule", "values", "head", "task", "container", "file"],
        small_rows,
    )
    show(
        "Streams of codes over their bound: worst of four kinds of values, by number of codes",
        ["value type", *(f"{k:,}" for k in (*STREAM_LENGTHS, LONG_STREAM))],
        stream_rows,
    )
    show(f"Time: {name}", ["value type", "write ms", "read ms"], time_codec(diff, options.repeats))
    header = ["format", "bytes", "numbers", "bits per number"]
    show(f"Other formats: {name}", header, other_formats(base, diff))


def measure_even(base: Base) -> tuple[dict[str, float], Rows]:
    """Compare uniformly random positions with H(p)/p."""
    found, rows = {}, []
    for name, density in DENSITIES.items():
        diff = even_diff(base.layout, density)
        bound = even_bits_per_entry(diff.density)
        bits = 8 * encode(diff).parts.positions / diff.n_entries
        found[f"uniform_{name}_positions_over_entropy"] = bits / bound
        rows.append([name, f"{bound:.3f}", f"{bits:.3f}", f"{bits / bound - 1:+.2%}"])
    return found, rows


def measure_real(diffs: dict[str, TrainedDiff]) -> tuple[dict[str, float | None], Rows]:
    """Compare trained diffs with their two-part bound; worst, mean and best over diffs."""
    over: list[float] = []
    whole: list[float] = []
    files: dict[ValueType, list[float]] = {value_type: [] for value_type in VALUE_TYPES}
    rows = []
    for name, trained in diffs.items():
        diff = trained.diff
        bound = two_part_bound(diff) / diff.n_entries
        bits = 8 * encode(diff).parts.positions / diff.n_entries
        over.append(bits / bound)
        row = [name, str(diff.n_entries), f"{bound:.3f}", f"{bits:.3f}", f"{bits / bound - 1:+.2%}"]
        if trained.can_be("bf16"):
            least = (two_part_bound(diff) + value_entropy(diff, "bf16")) / diff.n_entries
            whole.append(_bits(encode(diff), diff) / least)
        for value_type, so_far in files.items():
            if trained.can_be(value_type):
                so_far.append(_bits(encode(diff, value_type=value_type), diff))
            row.append(f"{so_far[-1]:.2f}" if trained.can_be(value_type) else "-")
        rows.append(row)
    found: dict[str, float | None] = {
        "real_diffs": len(over),
        "real_positions_over_bound": max(over),
        "real_positions_over_bound_mean": statistics.fmean(over),
        "file_over_bound_bf16": statistics.fmean(whole) if whole else None,
    }
    for value_type, each in files.items():
        found[f"file_bits_per_entry_{value_type}"] = statistics.fmean(each) if each else None
        found[f"file_bits_per_entry_{value_type}_worst"] = max(each, default=None)
    return found, rows


def measure_rules(base: Base) -> tuple[dict[str, float], Rows]:
    """Return the bytes by part of a diff by every rule; the container is what no part explains."""
    found, rows = {}, []
    for name, diff in ruled_diffs(base.layout, density=0.003).items():
        file = encode(diff, value_type="sign", head_type="fp16")
        parts, task = file.parts, len(canonical_json(diff.task))
        container = parts.metadata - task
        found[f"{name.replace(' ', '_')}_positions_bytes"] = parts.positions
        found["container_bytes"] = max(container, found.get("container_bytes", 0))
        sizes = (parts.positions, parts.values, parts.head, task, container, len(file.data))
        rows.append([name, str(diff.n_entries), *map(str, sizes)])
    return found, rows


def measure_streams(diff: DiffVector) -> tuple[dict[str, float], Rows]:
    """Compare streams of codes of trained and of drawn values with their bound."""
    over: dict[tuple[ValueType, int], float] = {}
    for value_type in LOW_BIT:
        for k in (*STREAM_LENGTHS, LONG_STREAM):
            rng = np.random.default_rng(k)
            kinds = [rng.choice(diff.entries, k), rng.normal(size=k), rng.laplace(size=k)]
            kinds.append(rng.uniform(-1, 1, size=k))
            over[value_type, k] = max(_over_bound(values, value_type) for values in kinds)
    rows = [
        [one, *(f"{over[one, k]:.4f}" for k in (*STREAM_LENGTHS, LONG_STREAM))] for one in LOW_BIT
    ]
    small = max(ratio for (_, k), ratio in over.items() if k in STREAM_LENGTHS)
    long = max(ratio for (_, k), ratio in over.items() if k == LONG_STREAM)
    return {"small_streams_over_bound": small, "long_streams_over_bound": long}, rows


def _over_bound(values: np.ndarray[Any, Any], value_type: ValueType) -> float:
    k = len(values)
    codes = round_values(values.astype(np.float32), np.array([k]), value_type).numbers
    _, counts = np.unique(codes, return_counts=True)
    entropy = float((counts * np.log2(k / counts)).sum())
    bound = entropy + (len(counts) - 1) / 2 * math.log2(k)
    return 8 * len(write_codes(codes, value_type, "pcodec")[1]) / bound


def _bits(file: EncodedDiff, diff: DiffVector) -> float:
    return 8 * (len(file.data) - file.parts.head) / diff.n_entries


def time_codec(diff: DiffVector, repeats: int) -> Rows:
    """Return the median time to encode and to decode a file, with one thread."""
    rows = []
    for value_type in VALUE_TYPES:
        data = encode(diff, value_type=value_type).data

        def write(value_type: ValueType = value_type) -> object:
            return encode(diff, value_type=value_type)

        def read(data: bytes = data) -> object:
            return decode(data, diff.layout)

        rows.append(
            [value_type, *(f"{1e3 * _median(work, repeats):.1f}" for work in (write, read))]
        )
    return rows


def _median(work: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def other_formats(base: Base, diff: DiffVector) -> Rows:
    """Return the size of the same k entries in other formats, and of as many by PEFT; no head."""
    headless = DiffVector(diff.layout, diff.tensors, {}, {})
    sizes = {
        "this file, bf16": len(encode(headless).data),
        "this file, bf16, standard library only": len(encode(headless, codec="xz").data),
        "int32 and values, flat": len(_flat(diff)),
        "the same, zstd -19": len(pa.Codec("zstd", compression_level=19).compress(_flat(diff))),
        "scipy CSR, one .npz a tensor": _csr_bytes(diff),
        "composable-sft: index steps and values a tensor, torch.save": _steps_bytes(diff),
    }
    rows = [_row(name, size, diff.n_entries) for name, size in sizes.items()]
    rows.append(_row("PEFT SHiRA on query and value, its own random mask", *_peft(base, SHIRA)))
    rows.append(_row("PEFT LoRA r=8 on query and value, no positions", *_peft(base, LORA)))
    return rows


def _row(name: str, size: int, n_numbers: int) -> list[str]:
    return [name, str(size), str(n_numbers), f"{8 * size / n_numbers:.2f}"]


def _halves(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the upper 16 bits of float32 values: bf16, in a type that every library has."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def _flat(diff: DiffVector) -> bytes:
    starts = np.cumsum((0, *diff.layout.sizes))
    places = np.concatenate([t.positions + s for t, s in zip(diff.tensors, starts, strict=False)])
    values = np.concatenate([tensor.values for tensor in diff.tensors])
    return save({"indices": places.astype(np.int32), "values": _halves(values)})


def _csr_bytes(diff: DiffVector) -> int:
    total = 0
    for tensor in diff.tensors:
        shape = (tensor.shape[0] if len(tensor.shape) > 1 else 1, -1)
        shape = (shape[0], tensor.size // max(shape[0], 1))
        where = [part.astype(np.int32) for part in np.divmod(tensor.positions, shape[1])]
        matrix = sparse.csr_array((_halves(tensor.values), tuple(where)), shape=shape)
        file = io.BytesIO()
        sparse.save_npz(file, matrix, compressed=False)
        total += len(file.getvalue())
    return total


def _steps_bytes(diff: DiffVector) -> int:
    """Return the size of index differences in the narrowest type and values, by tensor."""
    encoded = {}
    for name, tensor in zip(diff.layout.names, diff.tensors, strict=True):
        steps = np.diff(tensor.positions, prepend=0)
        steps = steps.astype(np.min_scalar_type(int(steps.max(initial=0))))
        values = torch.from_numpy(_halves(tensor.values))
        encoded[name] = {"size": tensor.shape, "index_steps": steps, "values": values}
    file = io.BytesIO()
    torch.save({"diffs": encoded, "abs": {}}, file)
    return len(file.getvalue())


def _peft(base: Base, config: Any) -> tuple[int, int]:
    """Return the file size of a PEFT adapter in bf16, and its number of parameters."""
    model = get_peft_model(base.build(n_outputs=2, seed=0).base_model, config)
    n_numbers = sum(p.numel() for p in model.parameters() if p.requires_grad)
    with tempfile.TemporaryDirectory() as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        size = (Path(folder) / "adapter_model.safetensors").stat().st_size
    return size, n_numbers


def show(title: str, header: list[str], rows: Rows) -> None:
    """Print one table as Markdown."""
    print(f"\n{title}\n")
    print(
        "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows))
    )


if __name__ == "__main__":
    main()
