"""Admission: the rules that a submission must keep before anything in it is used.

In their order, cheapest and safest first. Each is checked only if those before it hold, so that
whatever is costly to check has been bounded, and is known to come from its provider.

    size        at most so many bytes
    signature   by this provider, over these bytes, for this task, version, base, run and seed
    quota       the provider's stored diffs, with this one, are within its share
    container   a canonical diff file with the right checksums
    base        made for the base in use
    entries     at most so many; from here on this bounds the memory
    positions   sorted, unique and inside their tensors
    values      one per position, finite and not zero
    norm        the change as a whole and its largest number are bounded
    duplicate   nobody has submitted the same content before
    probe       the score on the lab's examples is as declared; see `check_probe`

docs/concepts/admission.md describes what each rule stops, and what it does not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ByteSize, Field, NonNegativeInt, PositiveFloat

from streamlab.config import Settings
from streamlab.diff.format.container import DiffFile, open_diff
from streamlab.diff.format.values import round_to_float16
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import BaseMismatchError, DiffError, DiffFormatError, RefusedError
from streamlab.hashing import canonical_json
from streamlab.stream.submission import Submission, is_signed_by, message_of

if TYPE_CHECKING:
    from torch import Tensor

RULES: Final = (
    "size", "signature", "quota", "container", "base", "entries", "positions", "values", "norm",
    "duplicate", "probe",
)  # fmt: skip

# Rules of the file format that belong to another rule here than `container`.
_RULE_OF: Final[Mapping[str, str]] = MappingProxyType({
    "base-size": "base",
    **dict.fromkeys([
        "cut-coding", "class-stream", "class-range", "count-coding", "count-sum", "count-range",
        "position-stream", "position-range", "rule-coding", "rule-range",
    ], "positions"),
    **dict.fromkeys([
        "scale-number", "scale-range", "value-stream", "value-range", "value-finite", "value-zero",
        "head-finite",
    ], "values"),
})  # fmt: skip


class AdmissionSettings(Settings):
    """What the lab admits; the default bounds are far above every honest diff measured so far."""

    max_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(64_000_000)
    """Size of a submission."""
    max_density: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Number of entries, as a share of the base's."""
    max_norm: PositiveFloat = 100.0
    """L2 norm of the backbone change."""
    max_value: PositiveFloat = 10.0
    """Largest magnitude of a value, including the head."""
    quota_bytes: ByteSize | None = None
    """Bytes of a provider's diffs within one run and seed. Default: no limit."""
    quota_tasks: NonNegativeInt | None = None
    """Number of a provider's diffs within one run and seed. Default: no limit."""
    quarantine_bytes: ByteSize = ByteSize(256_000_000)
    """Bytes of a provider's submissions that the probe refused and that are kept. Of others, only
    the record is."""
    signatures: Literal["off", "required"] = "off"
    """`required`: every provider needs a `key`."""
    probe_tolerance: Annotated[float, Field(ge=0)] | None = None
    """How far the lab's score may be below the declared one, in the metric's unit. Default: no
    probe."""
    duplicates: Literal["refuse", "allow"] = "refuse"
    """Whether content that was admitted before is refused."""


@dataclass(frozen=True, kw_only=True)
class AdmissionContext:
    """What a submission is compared with: what one run admitted for its seed and method.

    The same task trained in another run gives the same diff, which is not a copy.
    """

    contents: Mapping[str, str] = field(default_factory=dict)  # content digest -> its provider
    n_bytes: int = 0  # of the provider's admitted diffs
    n_tasks: int = 0
    public_key: str | None = None  # the provider's
    session: str = ""  # what a signature must cover of the run; see `session_of`


def verify(
    submission: Submission,
    *,
    layout: Layout,
    settings: AdmissionSettings,
    known: AdmissionContext,
    base: Mapping[str, Tensor] | None = None,
) -> DiffVector:
    """Return the diff in a submission that keeps every rule but the probe.

    `layout`: of the base in use; `base`: its weights, without which no pruned model is admitted.
    Provider, task and version are those that the lab put into `submission`, never those in its
    bytes. Raises RefusedError naming the first rule broken.
    """
    data = submission.data
    check_size(len(data), settings)
    _check_signature(submission, layout.fingerprint, settings, known)
    _check_quota(len(data), settings, known)
    file = _open(submission)
    _check_base(file, layout)
    _check_entries(file.header.k, layout, settings)
    diff = _read_diff(file, layout)
    _check_norm(diff, settings, base)
    _check_duplicate(diff, settings, known)
    return diff


def check_size(n_bytes: int, settings: AdmissionSettings) -> None:
    """Raise RefusedError for too many bytes; to be called before they are read."""
    if n_bytes > settings.max_bytes:
        raise RefusedError(
            "size", f"it may take {settings.max_bytes} bytes (`max_bytes`), got {n_bytes}."
        )


def check_probe(declared: float | None, found: float, *, tolerance: float) -> None:
    """Raise RefusedError where the lab's score is lower than declared by more than `tolerance`.

    `declared`, `found`: the primary metric. A score that is missing, NaN or infinite is refused.
    """
    if declared is None:
        raise RefusedError("probe", "its provider declared no score, and one is required.")
    if not math.isfinite(declared) or not math.isfinite(found):
        raise RefusedError("probe", f"scores must be finite, got {declared} and found {found}.")
    if found < declared - tolerance:
        raise RefusedError(
            "probe",
            f"its provider declared a score of {declared:.4f}, and on the lab's examples it is "
            f"{found:.4f}; at most {tolerance:g} less is allowed (`probe_tolerance`).",
        )


def check_head(diff: DiffVector, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise RefusedError where a diff has another head than its task, which has these `shapes`."""
    given = {name: array.shape for name, array in diff.head.items()}
    for name in sorted({**given, **shapes}):
        if given.get(name) != shapes.get(name):
            raise RefusedError(
                "container",
                f"the head of the task has `{name}` as {shapes.get(name, 'no tensor')}, and the "
                f"diff has it as {given.get(name, 'no tensor')}.",
            )


def _check_signature(
    submission: Submission, base: str, settings: AdmissionSettings, known: AdmissionContext
) -> None:
    if settings.signatures == "off":
        return
    who = f"`{submission.provider}`"
    if known.public_key is None:
        raise RefusedError("signature", f"no public key of {who} is known, and one is required.")
    if submission.signature is None:
        raise RefusedError("signature", f"{who} did not sign it, and a signature is required.")
    if not is_signed_by(
        message_of(submission, base, known.session), submission.signature, known.public_key
    ):
        raise RefusedError(
            "signature",
            f"the signature is not that of {who} over these bytes as version "
            f"{submission.version} of `{submission.task}` on this base, in this run and seed.",
        )


def _check_quota(n_bytes: int, settings: AdmissionSettings, known: AdmissionContext) -> None:
    in_store = known.n_bytes + n_bytes
    if settings.quota_bytes is not None and in_store > settings.quota_bytes:
        raise RefusedError(
            "quota",
            f"a provider may store {settings.quota_bytes} bytes (`quota_bytes`), and with this "
            f"it would have {in_store}.",
        )
    if settings.quota_tasks is not None and known.n_tasks >= settings.quota_tasks:
        raise RefusedError(
            "quota",
            f"a provider may store {settings.quota_tasks} diffs (`quota_tasks`), and it has "
            f"{known.n_tasks}.",
        )


def _open(submission: Submission) -> DiffFile:
    """Return the file, its structure and checksums checked."""
    if submission.kind != "diff":
        raise RefusedError("container", f"only diffs are admitted, got {submission.kind!r}.")
    try:
        return open_diff(submission.data, max_bytes=len(submission.data))
    except DiffError as error:
        raise RefusedError("container", str(error)) from error


def _check_base(file: DiffFile, layout: Layout) -> None:
    if file.header.base != layout.fingerprint:
        raise RefusedError(
            "base", f"it is for the base {file.header.base!r}, not for {layout.fingerprint!r}."
        )


def _check_entries(n_entries: int, layout: Layout, settings: AdmissionSettings) -> None:
    """Bound what reading the entries can take, by a number that the reader then enforces."""
    allowed = math.ceil(settings.max_density * layout.n_gated)
    if n_entries > allowed:
        raise RefusedError(
            "entries",
            f"it may keep {allowed} of the base's {layout.n_gated} entries (`max_density`), "
            f"got {n_entries}.",
        )


def _read_diff(file: DiffFile, layout: Layout) -> DiffVector:
    try:
        return file.decode(layout)
    except DiffFormatError as error:
        raise RefusedError(_RULE_OF.get(error.rule, "container"), str(error)) from error
    except BaseMismatchError as error:
        raise RefusedError("base", str(error)) from error
    except DiffError as error:
        raise RefusedError("container", str(error)) from error


def _check_norm(
    diff: DiffVector, settings: AdmissionSettings, base: Mapping[str, Tensor] | None
) -> None:
    """Bound how far the diff moves the base, and each number."""
    if diff.mode == "replace" or (diff.mode == "prune" and base is None):
        raise RefusedError(
            "norm", "it replaces weights, so that how far they move is unknown; submit the change."
        )
    squares = sum(_square_sum(tensor.values) for tensor in diff.tensors)
    if diff.mode == "prune" and base is not None:
        squares += sum(
            _pruned_square_sum(base[name].float().numpy(), tensor)
            for name, tensor in zip(diff.layout.names, diff.tensors, strict=True)
            if len(tensor)
        )
    norm = math.sqrt(squares)
    if norm > settings.max_norm:
        raise RefusedError(
            "norm",
            f"the L2 norm of the change may be {settings.max_norm:g} (`max_norm`), got {norm:g}.",
        )
    arrays = (*(tensor.values for tensor in diff.tensors), *diff.head.values())
    largest = max(float(np.abs(array).max(initial=0)) for array in arrays)
    if largest > settings.max_value:
        raise RefusedError(
            "norm",
            f"no number may be larger than {settings.max_value:g} (`max_value`), got {largest:g}.",
        )


def _square_sum(values: NDArray[np.float32]) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def _pruned_square_sum(weights: NDArray[np.float32], kept: SparseTensor) -> float:
    """Return the sum of the squares of the weights that become 0."""
    removed = weights.reshape(-1).copy()
    removed[kept.positions] = 0
    return _square_sum(removed)


def _check_duplicate(
    diff: DiffVector, settings: AdmissionSettings, known: AdmissionContext
) -> None:
    owner = known.contents.get(content_digest(diff)) if settings.duplicates == "refuse" else None
    if owner is not None:
        raise RefusedError("duplicate", f"{owner} submitted the same content before.")


_SMALLEST = np.finfo(np.float32).tiny  # that is not subnormal


def content_digest(diff: DiffVector) -> str:
    """Return the SHA-256, in hex, of what every encoding of a diff has in common.

    A copy written in another value type, by another codec, with another task description or with
    its head in half precision has other bytes, and the same positions, signs of values, names and
    shapes of the head, and head entries rounded to half precision. Subnormal numbers are left out,
    unless a rule or a pruned model keeps every entry, and zero has no sign. Diffs that agree in
    these count as equal; two that were trained separately never do. A copy that is rounded to
    `ternary` has lost the entries that became zero, and with them the content of the original.
    """
    every = diff.rule is not None or diff.mode == "prune"
    large = [every | (np.abs(tensor.values) >= _SMALLEST) for tensor in diff.tensors]
    shapes = [[name, list(array.shape)] for name, array in sorted(diff.head.items())]
    outline = [diff.layout.fingerprint, diff.mode, [int(keep.sum()) for keep in large], shapes]
    digest = hashlib.sha256(canonical_json(outline).encode())
    signs = np.split(np.signbit(_entries(diff)), np.cumsum(diff.counts, dtype=np.int64))[:-1]
    # The outline determines how many bytes of each part follow, so that none is ambiguous.
    entries = (
        part
        for tensor, keep, negative in zip(diff.tensors, large, signs, strict=True)
        for part in (tensor.positions[keep].astype("<i8"), np.packbits(negative[keep]))
    )
    head = (
        _without_tiny(round_to_float16(array, keep_non_zero=False)).astype("<f2")
        for _, array in sorted(diff.head.items())
    )
    for part in chain(entries, head):
        digest.update(part.tobytes())
    return digest.hexdigest()


def _entries(diff: DiffVector) -> NDArray[np.float32]:
    """Return the values of all entries; of a rule, those of +0 where a stored value is zero."""
    if diff.rule is None:
        return diff.entries + np.float32(0)  # -0 + 0 is +0
    return diff.rule.entries_of(diff.rule.values_of(diff.entries) + np.float32(0))


def _without_tiny(halves: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return half-precision numbers with +0 in place of subnormal ones and of -0."""
    return np.where(np.abs(halves) < np.finfo(np.float16).tiny, np.float16(0), halves)
