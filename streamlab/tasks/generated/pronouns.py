"""Pronoun resolution (WNLI's shape): the hypothesis puts one of two candidates for the pronoun.

Who is meant is settled by the verb: given the same reason, who helps was kind, and so was who is
thanked. Verb and candidate are drawn independently, so that neither of the two texts says on its
own whether the reading is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from streamlab.tasks.generated import lexicon
from streamlab.tasks.generated.lexicon import words
from streamlab.tasks.generated.morphology import sentence
from streamlab.tasks.rows import Row

if TYPE_CHECKING:
    from random import Random

RIGHT = 1


class _Scheme(NamedTuple):
    """Verbs that go with the same reasons: whom the reason is about depends on the verb."""

    verbs: tuple[tuple[str, ...], tuple[str, ...]]  # about the first candidate, about the second
    reasons: tuple[str, ...]


_CONTEST: Final = _Scheme(
    (("beat", "defeated"), ("lost to", "fell behind")),
    words("strong fast quick skilled experienced fit brilliant talented clever lucky"),
)
_MONEY: Final = _Scheme(
    (("gave money to", "lent money to"), ("took money from", "borrowed money from")),
    words("rich wealthy generous prosperous affluent kind friendly"),
)
_SPACE: Final = _Scheme(
    (("did not fit in", "did not go into"), ("fitted in", "went into")),
    words("big large wide long huge enormous tall broad"),
)
_CONTAINERS: Final = words(
    """box suitcase bag drawer cupboard trunk basket crate closet chest cabinet locker backpack van
    garage case car barrel"""
)


def pronouns(label: int, rng: Random) -> Row:
    """Draw a sentence and one reading of its pronoun: `label` 1 is the right one."""
    scheme = rng.choice((_CONTEST, _MONEY, _SPACE))
    first, second, pronoun = _things(rng) if scheme is _SPACE else _people(rng)
    meant = rng.randrange(2)
    read = (first, second)[meant if label == RIGHT else 1 - meant]
    said = "was " + rng.choice(scheme.reasons)
    told = (first, rng.choice(scheme.verbs[meant]), second)
    return Row(sentence(*told, "because", pronoun, said), sentence(read, said), label)


def _people(rng: Random) -> tuple[str, str, str]:
    pronoun, names = rng.choice((("she", lexicon.FEMALE_NAMES), ("he", lexicon.MALE_NAMES)))
    return rng.choice(names), "the " + rng.choice(lexicon.PEOPLE), pronoun


def _things(rng: Random) -> tuple[str, str, str]:
    owner = rng.choice(("my", "our", "your", rng.choice(lexicon.NAMES) + "'s"))
    container = rng.choice(_CONTAINERS)
    thing = rng.choice([thing for thing in lexicon.THINGS if thing not in _CONTAINERS])
    return f"{owner} {thing}", f"the {container}", "it"
