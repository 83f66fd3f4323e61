"""Two-way inference (RTE's shape): the hypothesis follows, or does not.

A verb that governs another says whether the deed was done (`managed to`), was not done (`failed
to`), or leaves it open (`hoped to`); the hypothesis says that it was done, or that it was not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamlab.tasks.examples import Example
from streamlab.tasks.synthetic import lexicon
from streamlab.tasks.synthetic.morphology import past, sentence

if TYPE_CHECKING:
    from random import Random

ENTAILMENT = 0

_DONE: Final[tuple[str, ...]] = ("managed to", "remembered to", "was able to", "was forced to")
_NOT_DONE: Final[tuple[str, ...]] = ("failed to", "forgot to", "refused to", "was unable to")
_OPEN: Final[tuple[str, ...]] = ("hoped to", "planned to")
_DEEDS: Final = lexicon.words(
    """buy sell find borrow repair steal lose paint hide destroy bring order rent photograph
    clean draw describe choose damage inspect obtain collect return"""
)


def entailment(label: int, rng: Random) -> Example:
    """Draw a text and a hypothesis: `label` 0 follows, 1 does not."""
    follows, done = label == ENTAILMENT, rng.random() < 0.5
    if follows:
        governors = _DONE if done else _NOT_DONE
    else:
        governors = rng.choice((_NOT_DONE if done else _DONE,) * 4 + (_OPEN,))
    who, verb = _person(rng), rng.choice(_DEEDS)
    what = "the " + rng.choice(lexicon.THINGS)
    told = past(verb) if done else f"did not {verb}"
    return Example(
        sentence(who, rng.choice(governors), verb, what), sentence(who, told, what), label
    )


def _person(rng: Random) -> str:
    return rng.choice(("the " + rng.choice(lexicon.PEOPLE), rng.choice(lexicon.NAMES)))
