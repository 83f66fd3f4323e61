"""Pronoun resolution (WNLI's shape): the hypothesis puts one of two candidates for the pronoun.

The candidates are a woman and a man, in either order, and the pronoun is hers or his. Pronoun and
candidate are drawn independently, so that neither of the two texts says on its own whether the
reading is right; nor does what happened, which would fit either of the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamlab.tasks.examples import Example
from streamlab.tasks.synthetic import lexicon
from streamlab.tasks.synthetic.lexicon import words
from streamlab.tasks.synthetic.morphology import sentence

if TYPE_CHECKING:
    from random import Random

RIGHT = 1

_MEETINGS: Final = (
    "beat", "lost to", "called", "waited for", "thanked", "lent money to", "borrowed money from",
    "apologized to", "spoke to", "sat next to", "smiled at", "gave a book to", "wrote to",
)  # fmt: skip
_STATES: Final = words(
    """strong tired lonely generous kind rich worried late bored happy curious friendly lucky
    nervous hungry polite proud sad angry calm"""
)


def pronouns(label: int, rng: Random) -> Example:
    """Draw a sentence and one reading of its pronoun: `label` 1 is the right one."""
    names = rng.choice(lexicon.FEMALE_NAMES), rng.choice(lexicon.MALE_NAMES)
    meant = rng.randrange(2)
    read = names[meant if label == RIGHT else 1 - meant]
    first, second = rng.sample(names, 2)
    said = "was " + rng.choice(_STATES)
    told = (first, rng.choice(_MEETINGS), second, "because", ("she", "he")[meant], said)
    return Example(sentence(*told), sentence(read, said), label)
