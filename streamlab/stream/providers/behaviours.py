"""Simulated behaviours of providers, and the rule of admission that refuses each.

    duplicate     submits another provider's earlier diff as its own   `duplicate`
    oversized     a file of more bytes than allowed                    `size`
    wrong_base    a well-formed diff of another base                   `base`
    nan           NaN among the values, with right checksums           `values`
    truncated     a truncated file                                     `container`
    tampered      values changed after signing, right checksums        `signature`, else `probe`
    replayed      an earlier submission of its own with its signature  `signature`, else `duplicate`
    label_flip    trains on labels of which a share is wrong           perhaps `probe`
    slow          takes a multiple of the time
    crash, hang   its process exits, or never answers

Each is otherwise well-formed, so that only the rule named can refuse it. The event loop simulates
`slow`, and the executor `crash` and `hang`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, Self, TypeVar, get_args

import numpy as np
from pydantic import Field, model_validator

from streamlab.config import Settings
from streamlab.errors import DataError
from streamlab.stream.providers import forgeries
from streamlab.stream.submission import Submission, signed
from streamlab.tasks.examples import TaskData
from streamlab.tasks.types.example import Example

Behaviour = Literal[
    "honest", "duplicate", "oversized", "wrong_base", "nan", "truncated", "tampered", "replayed",
    "label_flip", "slow", "crash", "hang",
]  # fmt: skip
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
    slowdown: Annotated[float, Field(ge=1, le=1e6)] = 10.0
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
        """Return the probability of a behaviour."""
        return float(getattr(self, behaviour))


def draw(settings: BehaviourSettings, seed: int) -> Behaviour:
    """Draw the behaviour at one arrival; it depends on the settings and the seed only."""
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
    earlier: Submission | None,
    seed: int,
    base: str,
    session: str,
    max_bytes: int,
    private: str | None = None,
) -> Submission:
    """Return what a provider submits in place of its honest `submission`.

    `earlier`: an admitted submission to misuse, None where there is none yet. `base`: the base's
    fingerprint. `session`: what a signature covers of the run. `max_bytes`: the size to exceed.
    `private`: the provider's key, which signs the new bytes unless the signature is what is wrong.
    The same object is returned where the provider submits honestly: under behaviours that do not
    concern the bytes, for artifacts other than diffs, and where `duplicate` or `replayed` find
    nothing to misuse.
    """
    if submission.kind != "diff":
        return submission
    if behaviour == "replayed":
        return _replayed(submission, earlier)
    data = _hostile_bytes(behaviour, submission, earlier, seed, max_bytes)
    if data is None:
        return submission
    changed = replace(submission, data=data)
    if private is None or behaviour == "tampered":
        return changed
    return signed(changed, base=base, session=session, private=private)


def flip_labels(data: AnyTask, *, share: float, seed: int) -> AnyTask:
    """Return a task with wrong labels among the provider's examples; dev belongs to the lab.

    `round(share * n)` examples each of train and validation, drawn by `seed`: a class or a tag
    becomes one of the others, drawn uniformly; a number is mirrored at the middle of the range in
    train; several labels become those that do not apply; a completion becomes another one of train.
    Raises DataError where there is only one class.
    """
    try:
        data.type.check_labels(data.labels)
    except ValueError as error:
        raise DataError(f"The labels of `{data.name}` cannot be flipped: {error}.") from error
    rng = np.random.default_rng(seed)
    right = [example.label for example in data.train]
    make_wrong = data.type.wrong_labels(right, len(data.labels), rng)

    def wrong(example: Example) -> Example:
        return replace(example, label=make_wrong(example.label))

    def flipped(examples: tuple[Example, ...]) -> tuple[Example, ...]:
        chosen = set(
            rng.choice(len(examples), round(share * len(examples)), replace=False).tolist()
        )
        return tuple(wrong(one) if i in chosen else one for i, one in enumerate(examples))

    return replace(data, train=flipped(data.train), validation=flipped(data.validation))


def _replayed(submission: Submission, earlier: Submission | None) -> Submission:
    """Return an earlier submission of the same provider, submitted for this task and version."""
    if earlier is None:
        return submission
    return replace(submission, data=earlier.data, signature=earlier.signature)


def _hostile_bytes(
    behaviour: Behaviour,
    submission: Submission,
    earlier: Submission | None,
    seed: int,
    max_bytes: int,
) -> bytes | None:
    """Return the bytes in place of the honest ones, None to keep those."""
    data = submission.data
    match behaviour:
        case "duplicate":
            return None if earlier is None else forgeries.described_as(earlier.data, data)
        case "oversized":
            return forgeries.padded(data, max_bytes)
        case "wrong_base":
            return forgeries.for_another_base(data)
        case "nan":
            return forgeries.with_nan(data, seed=seed)
        case "truncated":
            return data[: pick(len(data), seed)]
        case "tampered":
            return forgeries.inverted(data)
        case _:
            return None


def pick(n: int, seed: int) -> int:
    """Draw one of `n` places."""
    return int(np.random.default_rng(seed).integers(n))
