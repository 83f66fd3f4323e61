"""Files of version 1, frozen: whatever becomes of the writer, they are read for ever.

`python tests/diff/test_diff_golden.py` wrote them, once. What they hold follows from the formulae
below and not from any codec; values are multiples of 2**-10 that every value type holds exactly.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from streamlab.diff.format.codec import CodecName
from streamlab.diff.format.container import HeadType, decode, encode
from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor

FOLDER = Path(__file__).parent / "golden"
KEPT: dict[str, tuple[tuple[int, ...], list[int]]] = {
    "embedding": ((70_000, 2), [5, 70_000, 139_999]),  # gaps over 65,535
    "columns": ((240, 16), [row * 16 + 3 for row in range(240)]),  # one column: cut by columns
    "rows": ((16, 240), [5 * 240 + column for column in range(0, 240, 2)]),  # by rows
    "dense": ((70, 64), list(range(0, 70 * 64, 2))),  # a class of its own
    "sparse": ((300_000,), list(range(7, 300_000, 120))),  # and another
    "vector": ((50,), [i * i for i in range(8)]),
    "untouched": ((8, 8), []),
    "cube": ((2, 3, 4), list(range(24))),  # every entry
    "scalar": ((), [0]),
}
LAYOUT = Layout("0123456789abcdef" * 4, tuple(KEPT), tuple(shape for shape, _ in KEPT.values()))
CASES: list[tuple[CodecName, ValueType]] = [
    (codec, value_type) for codec in get_args(CodecName) for value_type in get_args(ValueType)
]


def expected() -> DiffVector:
    """Build the content: value i of a tensor is (8 - i mod 8) / 1024, every third one below 0."""
    tensors = []
    for shape, positions in KEPT.values():
        signed = [(8 - i % 8) * (-1 if i % 3 == 2 else 1) for i in range(len(positions))]
        values = np.array(signed, dtype=np.float32) / np.float32(1024)
        tensors.append(SparseTensor(shape, np.array(positions, dtype=np.int64), values))
    head = {
        "classifier.weight": np.array([[0, -0.25, -0.5], [0.25, 0, -0.25]], dtype=np.float32),
        "classifier.bias": np.array([0.5, -2], dtype=np.float32),
    }
    task = {"name": "golden", "labels": ["nein", "möglich"], "max_length": 32, "scale": 0.5}
    return DiffVector(LAYOUT, tuple(tensors), head, task)


def path_of(codec: str, value_type: str) -> Path:
    return FOLDER / f"v1-{codec}-{value_type}.safetensors"


def write_all() -> None:
    """Write every golden file; those of a released version are never written again."""
    lines = []
    for codec, value_type in CASES:
        head_type: HeadType = "fp32" if codec == "pcodec" else "fp16"
        encoded = encode(expected(), value_type=value_type, codec=codec, head_type=head_type)
        path = path_of(codec, value_type)
        path.write_bytes(encoded.data)
        lines.append(f"{encoded.digest}  {path.name}\n")
    (FOLDER / "SHA256SUMS").write_text("".join(lines), encoding="ascii")


@pytest.mark.parametrize(("codec", "value_type"), CASES)
def test_a_file_of_version_1_is_read_as_it_was_written(codec: str, value_type: str) -> None:
    assert decode(path_of(codec, value_type).read_bytes(), LAYOUT) == expected()


def test_no_golden_file_was_touched_added_or_lost() -> None:
    lines = (FOLDER / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    listed = {name: digest for digest, name in map(str.split, lines)}

    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FOLDER.glob("*.safetensors")
    }

    assert found == listed
    assert set(found) == {path_of(*case).name for case in CASES}


if __name__ == "__main__":
    write_all()
