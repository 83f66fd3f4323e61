"""How providers behave: what each does, how often, and the hostile ones acted out.

    duplicate     brings somebody's earlier diff as its own            stopped by `duplicate`
    oversized     a file of more bytes than allowed                    `size`
    wrong_base    a well-formed diff of another base                   `base`
    nan           NaN among the values, the checksums right            `values`
    truncated     the file cut short                                   `container`
    tampered      values changed after signing, the checksums right    `signature`, else `probe`
    replayed      an earlier submission of its own, signature and all  `signature`, else `duplicate`
    label_flip    learns from labels of which a share is wrong         `probe`, if anything
    slow          takes a multiple of the time
    crash, hang   its process ends, or never does

All are well-formed as far as they can be, so that the rule named is the one that tells. `slow`,
`crash` and `hang` are acted out by whoever runs the provider; here they have a name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, Self, TypeVar, get_args

import numpy as np
from pydantic import Field, model_validator

from streamlab.config import Settings
from streamlab.errors import DataError
from streamlab.stream.providers import forgeries as hostile
from streamlab.stream.submission import Submission, signed
from streamlab.tasks.examples import Example, TaskData

Behaviour = Literal[
    "honest",
    "duplicate",
    "oversized",
    "wrong_base",
    "nan",
    "truncated",
    "tampered",
    "replayed",
    "label_flip",
    "slow",
    "crash",
    "hang",
]
BEHAVIOURS: Final[tuple[Behaviour, ...]] = get_args(Behaviour)
AnyTask = TypeVar("AnyTask", bound=TaskData)
Share = Annotated[float, Field(ge=0, le=1)]
_ROUNDING = 1e-9  # so that 0.7 and three times 0.1 are not above 1


class BehaviourSettings(Settings):
    """The probability of each behaviour at an arrival; the provider is honest otherwise.

    A bare name means that behaviour at every arrival.
    """

    honest: Share = 0.0
    """A diff trained as requested."""
    duplicate: Share = 0.0
    """An earlier diff of any provider, as its own."""
    oversized: Share = 0.0
    """A file larger than `admission.max_bytes`."""
    wrong_base: Share = 0.0
    """A diff of another base."""
    nan: Share = 0.0
    """NaN among the values."""
    truncated: Share = 0.0
    """A truncated file."""
    tampered: Share = 0.0
    """Values changed after signing."""
    replayed: Share = 0.0
    """An earlier submission of its own, with its signature."""
    label_flip: Share = 0.0
    """A diff trained on partly wrong labels."""
    slow: Share = 0.0
    """An honest diff, later."""
    crash: Share = 0.0
    """The provider's process exits."""
    hang: Share = 0.0
    """The provider's process never answers."""
    flipped_labels: Share = 0.5
    """The share of wrong labels under `label_flip`."""
    slowdown: Annotated[float, Field(ge=1)] = 10.0
    """The factor of `slow`."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        if given not in BEHAVIOURS:
            raise ValueError(f"unknown behaviour; known: {', '.join(BEHAVIOURS)}")
        return {given: 1.0}

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        total = math.fsum(self.probability(name) for name in BEHAVIOURS)
        if total > 1 + _ROUNDING:
            raise ValueError(f"the probabilities must add up to at most 1, got {total:g} in all")
        return self

    def probability(self, behaviour: Behaviour) -> float:
        """Return how likely a behaviour is, as it was set."""
        return float(getattr(self, behaviour))


def draw(settings: BehaviourSettings, seed: int) -> Behaviour:
    """Draw what a provider does at one arrival; the same settings and seed draw the same."""
    point = float(np.random.default_rng(seed).random())
    for behaviour in BEHAVIOURS:
        point -= settings.probability(behaviour)
        if point < 0:
            return behaviour
    return "honest"


def misbehave(
    behaviour: Behaviour,
    submission: Submission,
    *,
    earlier: Sequence[Submission],
    seed: int,
    base: str,
    max_bytes: int,
    private: str | None = None,
) -> Submission:
    """Return what a provider hands over in place of its honest `submission`.

    `earlier`: what was admitted so far, from all providers, oldest first. `base`: the base's
    fingerprint. `max_bytes`: the size to exceed. `private`: the provider's key, which signs anew
    unless the signature is the point.
    The very same object comes back where there is nothing to do: for behaviours that are no
    matter of the bytes, for what is no diff, and for `duplicate` and `replayed` where no earlier
    diff, of its own for the latter, is there to be used; the provider is then honest.
    """
    if submission.kind != "diff":
        return submission
    if behaviour == "replayed":
        return _replayed(submission, earlier, seed)
    data = _hostile_bytes(behaviour, submission, earlier, seed, max_bytes)
    if data is None:
        return submission
    changed = replace(submission, data=data)
    if private is None or behaviour == "tampered":
        return changed
    return signed(changed, base=base, private=private)


def flip_labels(data: AnyTask, *, share: float, seed: int) -> AnyTask:
    """Return a task with a share of the labels wrong that its provider holds: dev is the lab's.

    `round(share * n)` rows each of train and validation, drawn by `seed`: a class becomes one of
    the others, evenly drawn; a number is mirrored at the middle of the range in train.
    Raises DataError where there is one class only.
    """
    try:
        data.type.check_labels(data.labels)
    except ValueError as error:
        raise DataError(f"The labels of `{data.name}` cannot be flipped: {error}.") from error
    rng = np.random.default_rng(seed)
    numbers = [row.label for row in data.train]
    mirror = min(numbers, default=0) + max(numbers, default=0)

    def wrong(row: Example) -> Example:
        if not data.labels:
            return replace(row, label=mirror - row.label)
        step = int(rng.integers(1, len(data.labels)))
        return replace(row, label=(int(row.label) + step) % len(data.labels))

    def flipped(rows: tuple[Example, ...]) -> tuple[Example, ...]:
        chosen = set(rng.choice(len(rows), round(share * len(rows)), replace=False).tolist())
        return tuple(wrong(row) if i in chosen else row for i, row in enumerate(rows))

    return replace(data, train=flipped(data.train), validation=flipped(data.validation))


def _replayed(submission: Submission, earlier: Sequence[Submission], seed: int) -> Submission:
    """Return an earlier submission of the same provider, handed in for this task and version."""
    own = [old for old in _diffs(earlier) if old.provider == submission.provider]
    if not own:
        return submission
    old = own[_pick(len(own), seed)]
    return replace(submission, data=old.data, signature=old.signature)


def _hostile_bytes(
    behaviour: Behaviour,
    submission: Submission,
    earlier: Sequence[Submission],
    seed: int,
    max_bytes: int,
) -> bytes | None:
    """Return the bytes in place of the honest ones, None where they stay."""
    data = submission.data
    match behaviour:
        case "duplicate":
            diffs = _diffs(earlier)
            return (
                hostile.described_as(diffs[_pick(len(diffs), seed)].data, data) if diffs else None
            )
        case "oversized":
            return hostile.padded(data, max_bytes)
        case "wrong_base":
            return hostile.for_another_base(data)
        case "nan":
            return hostile.with_nan(data, seed=seed)
        case "truncated":
            return data[: _pick(len(data), seed)]
        case "tampered":
            return hostile.turned_round(data)
        case _:
            return None


def _diffs(earlier: Sequence[Submission]) -> list[Submission]:
    return [old for old in earlier if old.kind == "diff"]


def _pick(n: int, seed: int) -> int:
    """Draw one of `n` places."""
    return int(np.random.default_rng(seed).integers(n))
