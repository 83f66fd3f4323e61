"""Two-way inference (RTE's shape): the hypothesis follows, or does not.

Two constructions. A verb that governs another says whether the deed was done (`managed to`), was
not done (`failed to`), or leaves it open (`hoped to`); and a more general description follows from
a more special one, unless the sentence is negated, when it is the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamlab.tasks.generated import lexicon
from streamlab.tasks.generated.morphology import indefinite, past, sentence
from streamlab.tasks.rows import Row

if TYPE_CHECKING:
    from random import Random

ENTAILMENT = 0

_DONE: Final[tuple[str, ...]] = (
    "managed to", "remembered to", "was able to", "had the courage to", "was forced to",
    "did not fail to", "did not forget to", "did not hesitate to",
)  # fmt: skip
_NOT_DONE: Final[tuple[str, ...]] = (
    "failed to", "forgot to", "refused to", "neglected to", "declined to",
    "did not manage to", "did not remember to", "was unable to",
)  # fmt: skip
_OPEN: Final[tuple[str, ...]] = ("hoped to", "wanted to", "planned to", "promised to")
_DEEDS: Final = lexicon.words(
    """buy sell find borrow repair steal lose paint hide destroy bring order rent photograph
    clean draw describe choose damage inspect obtain collect return"""
)


def entailment(label: int, rng: Random) -> Row:
    """Draw a text and a hypothesis: `label` 0 follows, 1 does not."""
    construction = rng.choice((_governed_deed, _description))
    return Row(*construction(label == ENTAILMENT, rng), label)


def _governed_deed(follows: bool, rng: Random) -> tuple[str, str]:
    done = rng.random() < 0.5
    if follows:
        governors = _DONE if done else _NOT_DONE
    else:
        governors = rng.choice((_NOT_DONE if done else _DONE,) * 3 + (_OPEN,))
    who, verb = _person(rng), rng.choice(_DEEDS)
    what = "the " + rng.choice(lexicon.THINGS)
    where = rng.choice(("", "in " + rng.choice(lexicon.CITIES)))
    told = past(verb) if done else f"did not {verb}"
    return sentence(who, rng.choice(governors), verb, what, where), sentence(who, told, what, where)


def _description(follows: bool, rng: Random) -> tuple[str, str]:
    negated = rng.random() < 0.5
    who, verb = _person(rng), rng.choice(_DEEDS)
    kind = rng.choice(tuple(lexicon.KINDS))
    special = rng.choice(lexicon.KINDS[kind])
    colour = rng.choice(lexicon.COLOURS)
    narrow, wide = rng.choice(((special, kind), (f"{colour} {special}", special)))
    told = f"did not {verb}" if negated else past(verb)
    pair = tuple(sentence(who, told, indefinite(what)) for what in (narrow, wide))
    return (pair[0], pair[1]) if follows != negated else (pair[1], pair[0])


def _person(rng: Random) -> str:
    return rng.choice(("the " + rng.choice(lexicon.PEOPLE), rng.choice(lexicon.NAMES)))
