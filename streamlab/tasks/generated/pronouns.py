"""Pronoun resolution (WNLI's shape): the hypothesis puts one of two candidates for the pronoun.

Who is meant is settled by the verb and the reason together: who is thanked has helped, who thanks
was grateful. The candidates are drawn anew for each row, so that no word is tied to a label.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from streamlab.tasks.generated import lexicon
from streamlab.tasks.generated.morphology import sentence
from streamlab.tasks.rows import Row

RIGHT = 1


class _Scheme(NamedTuple):
    frame: str  # what {a} did to {b}
    of_first: tuple[str, ...]  # reasons that speak of {a}
    of_second: tuple[str, ...]  # reasons that speak of {b}


_TIRED = ("was tired", "was weak", "was ill", "was exhausted")
_KIND = ("was kind", "was generous", "was friendly", "was helpful")
_GUILTY = ("had stolen money", "had told a lie", "had broken the law", "had made a mistake")
_SKILLED = ("was skilled", "was talented", "was clever", "was experienced")
_ANGRY = ("was angry", "was furious", "was jealous", "was in a bad mood")
_CURIOUS = ("was curious", "wanted information", "needed advice", "had a question")
_POOR = ("was poor", "needed money", "was in debt", "had no job")

_PEOPLE_SCHEMES: Final = (
    _Scheme("{a} helped {b}", _KIND, _TIRED),
    _Scheme("{a} carried {b}", _KIND, _TIRED),
    _Scheme("{a} visited {b} in hospital", _KIND, _TIRED),
    _Scheme("{a} could not keep up with {b}", _TIRED, _SKILLED),
    _Scheme("{a} lost to {b}", _TIRED, _SKILLED),
    _Scheme("{a} defeated {b}", _SKILLED, _TIRED),
    _Scheme("{a} taught {b}", _SKILLED, _CURIOUS),
    _Scheme("{a} asked {b}", _CURIOUS, _SKILLED),
    _Scheme("{a} consulted {b}", _CURIOUS, _SKILLED),
    _Scheme("{a} punished {b}", _ANGRY, _GUILTY),
    _Scheme("{a} arrested {b}", _ANGRY, _GUILTY),
    _Scheme("{a} apologized to {b}", _GUILTY, _ANGRY),
    _Scheme("{a} feared {b}", _GUILTY, _ANGRY),
    _Scheme("{a} hid from {b}", _GUILTY, _ANGRY),
    _Scheme("{a} gave money to {b}", _KIND, _POOR),
    _Scheme("{a} borrowed money from {b}", _POOR, _KIND),
    _Scheme("{a} thanked {b}", (), _KIND),
    _Scheme("{a} hired {b}", (), _SKILLED),
)

_LARGE = ("was too big", "was too large", "was too wide", "was too long")
_SMALL = ("was too small", "was too tiny", "was too narrow", "was too short")
_THING_SCHEMES: Final = (
    _Scheme("{a} did not fit in {b}", _LARGE, _SMALL),
    _Scheme("{a} did not go into {b}", _LARGE, _SMALL),
    _Scheme("{a} did not hold {b}", _SMALL, _LARGE),
    _Scheme("{a} could not contain {b}", _SMALL, _LARGE),
)


def pronouns(label: int, rng: Random) -> Row:
    """Draw a sentence and one reading of its pronoun: `label` 1 is the right one."""
    if rng.random() < 0.2:
        pronoun, scheme = "it", rng.choice(_THING_SCHEMES)
        candidates = ["the " + thing for thing in rng.sample(lexicon.THINGS, 2)]
    else:
        pronoun, names = rng.choice((("she", lexicon.FEMALE_NAMES), ("he", lexicon.MALE_NAMES)))
        candidates, scheme = rng.sample(names, 2), rng.choice(_PEOPLE_SCHEMES)
    meant = rng.randrange(2) if scheme.of_first else 1
    reason = rng.choice(scheme.of_second if meant else scheme.of_first)
    read = candidates[meant if label == RIGHT else 1 - meant]
    told = scheme.frame.format(a=candidates[0], b=candidates[1])
    return Row(sentence(told, "because", pronoun, reason), sentence(read, reason), label)
