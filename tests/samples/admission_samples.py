"""A base of four tensors, small diffs on it, and what a lab knows of their providers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, get_args

import numpy as np
import pytest

from streamlab.diff.format.code_stream import CODED
from streamlab.diff.format.codec import CODECS
from streamlab.diff.format.container import encode
from streamlab.diff.format.frame import read_frame
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
from streamlab.errors import RefusedError
from streamlab.stream.admission import AdmissionContext, AdmissionSettings, verify
from streamlab.stream.providers.forgeries import rewritten
from streamlab.stream.submission import Submission, signed, simulated_keys

LAYOUT: Final = Layout("ab" * 32, ("m", "v", "none", "n"), ((12, 20), (60,), (5,), (9, 12)))
VALUE_TYPES: Final[tuple[ValueType, ...]] = get_args(ValueType)
# The types in which no value becomes zero.
KEEPING: Final = tuple(one for one in VALUE_TYPES if one != "ternary")
BY_RULE: Final[tuple[Rule, ...]] = (
    Seeded(3, (True, True, False, True), 30),
    SeededCounts(3, np.array([9, 3, 0, 20])),
    SeededRows(3, np.arange(23) % 4 == 1, 25),
    WholeTensors((False, False, True, False)),
    Shared(3, (True, False, False, True), 9, 3),
)
OPEN: Final = AdmissionSettings()
SIGNED: Final = AdmissionSettings(signatures="required")
KEYS: Final = simulated_keys(1, "press")


def drawn(seed: int = 0, *, density: float = 0.05, head: bool = True) -> DiffVector:
    """Draw a diff with at least one entry."""
    rng = np.random.default_rng(seed)
    tensors = []
    for shape in LAYOUT.shapes:
        positions = np.flatnonzero(rng.random(shape) < density)
        if not tensors and not len(positions):
            positions = np.array([3])
        values = rng.normal(size=len(positions)).astype(np.float32) * np.float32(0.03)
        tensors.append(SparseTensor(shape, positions, values))
    return DiffVector(LAYOUT, tuple(tensors), head_of(rng) if head else {}, {"task": "mood"})


def head_only(seed: int = 0) -> DiffVector:
    """Draw a diff that changes nothing but the head."""
    none = np.zeros(0, np.int64)
    tensors = [SparseTensor(s, none, none.astype(np.float32)) for s in LAYOUT.shapes]
    return DiffVector(LAYOUT, tuple(tensors), head_of(np.random.default_rng(seed)), {})


def ruled(rule: Rule, seed: int = 0) -> DiffVector:
    """Draw a diff with the positions of a rule, and some values of 0."""
    rng = np.random.default_rng(seed)
    where = positions(rule, LAYOUT)
    n = rule.n if isinstance(rule, Shared) else sum(map(len, where))
    values = rng.normal(size=n).astype(np.float32) * np.float32(0.03)
    values[::5] = 0
    parts = np.split(rule.entries_of(values), np.cumsum([len(at) for at in where])[:-1])
    tensors = tuple(map(SparseTensor, LAYOUT.shapes, where, parts))
    return DiffVector(LAYOUT, tensors, head_of(rng), {"task": "mood"}, rule=rule)


def head_of(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "classifier.bias": rng.normal(size=2).astype(np.float32) * np.float32(0.1),
        "classifier.weight": rng.normal(size=(2, 8)).astype(np.float32) * np.float32(0.1),
    }


def submitted(
    data: bytes | None = None,
    *,
    provider: str = "press",
    task: str = "mood",
    version: int = 1,
    signature: bytes | None = None,
) -> Submission:
    """Hand in a file, by default an honest one."""
    return Submission(
        provider=provider,
        task=task,
        version=version,
        kind="diff",
        data=encode(drawn()).data if data is None else data,
        declared_score=0.8,
        signature=signature,
    )


def in_own_name(submission: Submission) -> Submission:
    """Sign as `press` does."""
    return signed(submission, base=LAYOUT.fingerprint, session="", private=KEYS.private)


def admit(
    submission: Submission,
    settings: AdmissionSettings = OPEN,
    known: AdmissionContext | None = None,
) -> DiffVector:
    """Verify on the small base; the lab knows the key of `press` and nothing more."""
    return verify(
        submission,
        layout=LAYOUT,
        settings=settings,
        known=known or AdmissionContext(public_key=KEYS.public),
    )


def rule_broken(
    submission: Submission,
    settings: AdmissionSettings = OPEN,
    known: AdmissionContext | None = None,
) -> str:
    """Return the rule by which a submission is refused."""
    with pytest.raises(RefusedError) as refusal:
        admit(submission, settings, known)
    assert f"`{refusal.value.rule}`" in str(refusal.value)
    assert len(str(refusal.value)) < 700
    return refusal.value.rule


def judged(submission: Submission) -> DiffVector | str:
    """Return what is admitted, or the rule by which it is refused."""
    try:
        return admit(submission)
    except RefusedError as refusal:
        return refusal.rule


def packed(data: bytes, name: str, numbers: list[int], dtype: str) -> bytes:
    """Put other numbers into one stream, with a right checksum."""
    codec = CODECS[read_frame(data).header.codec]
    stream = codec.compress(np.array(numbers, dtype=dtype))
    header = {"coding": CODED} if name == "values.codes" else {}
    return rewritten(read_frame(data), header=header, sections={name: stream})


def scaled(value: float) -> DiffVector:
    """Draw a diff all of whose values are `value`."""
    diff = drawn()
    tensors = tuple(
        SparseTensor(t.shape, t.positions, np.full(len(t), value, np.float32)) for t in diff.tensors
    )
    return replace(diff, tensors=tensors)
