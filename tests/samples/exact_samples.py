"""Small checkpoints in safetensors files, with what is awkward in floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Bits = NDArray[np.unsignedinteger]

UNSIGNED = {"F16": np.uint16, "BF16": np.uint16, "F32": np.uint32}
# Zeros, subnormals, the neighbours of 1, the largest, infinities, quiet and signalling NaN.
AWKWARD = {
    "F16": [0x0000, 0x0001, 0x03FF, 0x3C00, 0x3C01, 0x7BFF, 0x7C00, 0x7C01, 0x7E00, 0x7FFF],
    "BF16": [0x0000, 0x0001, 0x007F, 0x3F80, 0x3F81, 0x7F7F, 0x7F80, 0x7F81, 0x7FC0, 0x7FFF],
    "F32": [
        *(0x00000000, 0x00000001, 0x007FFFFF, 0x3F800000, 0x3F800001),
        *(0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF),
    ],
}


def awkward(dtype: str) -> Bits:
    """Return awkward numbers of both signs."""
    kind = UNSIGNED[dtype]
    positive = np.array(AWKWARD[dtype], dtype=kind)
    return np.concatenate([positive, positive | kind(1 << (8 * kind().itemsize - 1))])


def edge_case(rng: np.random.Generator, dtype: str) -> tuple[Bits, Bits]:
    """Return the bits of a tensor and of a changed one: (rows, columns), or flat."""
    kind = UNSIGNED[dtype]
    shape = (int(rng.integers(0, 6)), int(rng.integers(0, 9)))[: rng.integers(1, 3)]
    most = np.iinfo(kind).max
    bases = [
        rng.integers(0, most, shape, kind, endpoint=True),
        rng.choice(awkward(dtype), shape),
        np.full(shape, rng.choice(awkward(dtype))),
        rng.normal(0, 0.1, shape).astype(np.float32).view(np.uint32) >> (32 - 8 * kind().itemsize),
    ]
    base = bases[rng.integers(len(bases))].astype(kind)
    changes = [
        base,
        base + rng.integers(-2, 3, shape).astype(kind),
        rng.choice(awkward(dtype), shape),
        rng.integers(0, most, shape, kind, endpoint=True),
        np.where(rng.random(shape) < 0.1, base ^ kind(1), base),
        ~base,
    ]
    return base, changes[rng.integers(len(changes))].astype(kind)


def write_checkpoint(folder: Path, *, step: int = 0, shards: int = 1) -> Path:
    """Write a checkpoint of three tensors and a file beside them; later steps are close by."""
    rng = np.random.default_rng(0)
    tensors = {
        "embedding.weight": rng.normal(0, 0.02, (50, 16)).astype(np.float32),
        "layer.weight": rng.normal(0, 0.1, (16, 16)).astype(np.float16),
        "layer.bias": np.zeros(16, dtype=np.float32),
    }
    for number in range(step):
        moves = np.random.default_rng(number + 1)
        tensors = {
            name: (array + 1e-3 * moves.normal(size=array.shape)).astype(array.dtype)
            for name, array in tensors.items()
        }
    folder.mkdir(parents=True)
    names = sorted(tensors)
    for number in range(shards):
        part = {name: tensors[name] for name in names[number::shards]}
        name = "model" if shards == 1 else f"model-{number + 1:05}-of-{shards:05}"
        save_file(part, folder / f"{name}.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(f'{{"step": {step}}}')
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
