"""Pronoun resolution (WNLI's shape): the hypothesis puts one of two candidates for the pronoun.

Who is meant is settled by the verb: given the same reason, who helps was kind, and so was who is
thanked. Verb and candidate are drawn independently, so that neither of the two texts says on its
own whether the reading is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from streamlab.tasks.generated.lexicon import words
from streamlab.tasks.generated.morphology import sentence
from streamlab.tasks.rows import Row

if TYPE_CHECKING:
    from random import Random

RIGHT = 1


class _Scheme(NamedTuple):
    """Verbs that go with the same reasons: whom the reason is about depends on the verb."""

    firsts: tuple[str, ...]
    seconds: tuple[str, ...]
    pronouns: tuple[str, ...]
    verbs: tuple[tuple[str, ...], tuple[str, ...]]  # about the first candidate, about the second
    reasons: tuple[str, ...]


_SENIORS: Final = words(
    """teacher doctor lawyer manager guard captain coach minister dentist judge professor landlord
    officer boss nurse banker general mayor editor"""
)
_JUNIORS: Final = words(
    """student patient client worker prisoner sailor player servant tourist thief beginner tenant
    recruit clerk visitor customer soldier assistant reporter"""
)

_SCHEMES: Final = (
    _Scheme(
        _SENIORS,
        _JUNIORS,
        ("he", "she"),
        (
            ("beat", "defeated", "outran", "overtook", "outplayed"),
            ("lost to", "could not beat", "fell behind", "was defeated by", "trailed"),
        ),
        words("strong fast quick skilled experienced fit brilliant talented clever"),
    ),
    _Scheme(
        _SENIORS,
        _JUNIORS,
        ("he", "she"),
        (
            ("gave money to", "lent money to", "paid money to", "bought food for"),
            ("took money from", "borrowed money from", "got money from", "accepted food from"),
        ),
        words("rich wealthy generous prosperous affluent kind friendly"),
    ),
    _Scheme(
        words(
            """trophy violin guitar lamp clock painting statue camera radio doll helmet vase
            telescope drum kettle umbrella coat ladder"""
        ),
        words(
            """box suitcase bag drawer cupboard trunk basket crate closet chest cabinet locker
            backpack van garage case car barrel"""
        ),
        ("it",),
        (
            ("did not fit in", "did not go into", "could not be put into"),
            ("fitted in", "easily went into", "was easily put into"),
        ),
        words("big large wide long huge enormous tall broad"),
    ),
)


def pronouns(label: int, rng: Random) -> Row:
    """Draw a sentence and one reading of its pronoun: `label` 1 is the right one."""
    scheme = rng.choice(_SCHEMES)
    candidates = ("the " + rng.choice(scheme.firsts), "the " + rng.choice(scheme.seconds))
    meant = rng.randrange(2)
    read = candidates[meant if label == RIGHT else 1 - meant]
    said = "was " + rng.choice(scheme.reasons)
    told = (candidates[0], rng.choice(scheme.verbs[meant]), candidates[1])
    return Row(
        sentence(*told, "because", rng.choice(scheme.pronouns), said),
        sentence(read, said),
        label,
    )
