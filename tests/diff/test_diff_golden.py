"""Files of version 2, frozen: whatever becomes of the writer, they are read for ever.

`python tests/diff/test_diff_golden.py` wrote them, once. What they hold follows from the formulae
below and not from any codec; values are multiples of 2**-10 that every value type holds exactly.
Those of a position rule hold positions that tests/diff/test_rules.py derives without our code.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from streamlab.diff.format.codec import CodecName
from streamlab.diff.format.container import EncodedDiff, decode, encode
from streamlab.diff.format.head import HeadType
from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout
from streamlab.diff.rules import (
    Rule,
    Seeded,
    SeededCounts,
    SeededRows,
    Shared,
    WholeTensors,
    positions,
)
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
LARGEST = {"int2": 2, "sign": 1, "ternary": 1}
SOME = tuple(name in ("embedding", "rows", "cube") for name in KEPT)
N_ROWS = 70_000 + 240 + 16 + 70 + 1 + 1 + 8 + 2 + 1
RULES: dict[str, Rule] = {
    "seeded": Seeded(2**63 + 11, SOME, 500),
    "tensor-counts": SeededCounts(5, np.array([900, 0, 77, 4480, 3, 1, 0, 24, 1])),
    "row-counts": SeededCounts(6, np.arange(N_ROWS) % 5 // 4, "row"),
    "rows": SeededRows(7, np.arange(N_ROWS) % 97 == 3, 1000),
    "tensors": WholeTensors(tuple(name in ("rows", "cube") for name in KEPT)),
    "shared": Shared(9, SOME, 150, 7),
}


def values_of(n: int, value_type: str) -> NDArray[np.float32]:
    """Return (8 - i mod 8) / 1024, with another number for narrow types; every third is below 0."""
    most = LARGEST.get(value_type, 8)
    signed = [(most - i % most) * (-1 if i % 3 == 2 else 1) for i in range(n)]
    return np.array(signed, dtype=np.float32) / np.float32(1024)


def expected(value_type: str) -> DiffVector:
    """Build the content with explicit positions."""
    return around(
        [
            SparseTensor(shape, np.array(at, dtype=np.int64), values_of(len(at), value_type))
            for shape, at in KEPT.values()
        ]
    )


def expected_by(name: str) -> DiffVector:
    """Build the content of a rule, of the values of `sign`."""
    rule = RULES[name]
    where = positions(rule, LAYOUT)
    k = sum(map(len, where))
    values = values_of(rule.n if isinstance(rule, Shared) else k, "sign")
    parts = np.split(rule.entries_of(values), np.cumsum([len(at) for at in where])[:-1])
    return around(list(map(SparseTensor, LAYOUT.shapes, where, parts)), rule)


def expected_ternary() -> DiffVector:
    """Build the content of a seeded rule of which half of the ternary values are zero."""
    diff = expected_by("seeded")
    tensors = (
        SparseTensor(t.shape, t.positions, np.where(t.positions % 2, t.values, np.float32(0)))
        for t in diff.tensors
    )
    return around(list(tensors), diff.rule)


def around(tensors: list[SparseTensor], rule: Rule | None = None) -> DiffVector:
    head = {
        "classifier.weight": np.array([[0, -0.25, -0.5], [0.25, 0, -0.25]], dtype=np.float32),
        "classifier.bias": np.array([0.5, -2], dtype=np.float32),
    }
    task = {"name": "golden", "labels": ["nein", "möglich"], "max_length": 32, "scale": 0.5}
    return DiffVector(LAYOUT, tuple(tensors), head, task, rule=rule)


def path_of(*case: str) -> Path:
    return FOLDER / f"v2-{'-'.join(case)}.sldiff"


def write_all() -> None:
    """Write every golden file; those of a released version are never written again."""
    lines = []
    for codec, value_type in CASES:
        head_type: HeadType = "fp32" if codec == "pcodec" else "fp16"
        content = expected(value_type)
        encoded = encode(content, value_type=value_type, codec=codec, head_type=head_type)
        lines.append(write(path_of(codec, value_type), encoded))
    for name in RULES:
        for codec in get_args(CodecName):
            encoded = encode(expected_by(name), value_type="sign", codec=codec)
            lines.append(write(path_of(codec, "rule", name), encoded))
    for codec in get_args(CodecName):
        encoded = encode(expected_ternary(), value_type="ternary", codec=codec)
        lines.append(write(path_of(codec, "rule", "ternary"), encoded))
    (FOLDER / "SHA256SUMS").write_text("".join(lines), encoding="ascii")


def write(path: Path, encoded: EncodedDiff) -> str:
    path.write_bytes(encoded.data)
    return f"{encoded.digest}  {path.name}\n"


@pytest.mark.parametrize(("codec", "value_type"), CASES)
def test_a_file_of_version_2_is_read_as_it_was_written(codec: str, value_type: str) -> None:
    assert decode(path_of(codec, value_type).read_bytes(), LAYOUT) == expected(value_type)


@pytest.mark.parametrize("codec", get_args(CodecName))
@pytest.mark.parametrize("name", RULES)
def test_a_file_of_a_rule_is_read_as_it_was_written(codec: str, name: str) -> None:
    assert decode(path_of(codec, "rule", name).read_bytes(), LAYOUT) == expected_by(name)


@pytest.mark.parametrize("codec", get_args(CodecName))
def test_a_file_with_ternary_zeros_is_read_as_it_was_written(codec: str) -> None:
    data = path_of(codec, "rule", "ternary").read_bytes()

    assert decode(data, LAYOUT) == expected_ternary()


def test_no_golden_file_was_touched_added_or_lost() -> None:
    lines = (FOLDER / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    listed = {name: digest for digest, name in map(str.split, lines)}

    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.sldiff")
    }

    assert found == listed
    names = [*RULES, "ternary"]
    by_rule = [(codec, "rule", name) for codec in get_args(CodecName) for name in names]
    assert set(found) == {path_of(*case).name for case in [*CASES, *by_rule]}


if __name__ == "__main__":
    write_all()
