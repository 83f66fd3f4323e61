"""Acceptability (CoLA's shape): four constructions, each broken by one minimal change.

In each construction the label is an exclusive-or of two choices (number of the subject and number
of the verb, person and pronoun, ...), or a swap of two words, so that no word on its own speaks
for either label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamlab.tasks.examples import Example
from streamlab.tasks.synthetic import lexicon
from streamlab.tasks.synthetic.grammar import past, plural, sentence

if TYPE_CHECKING:
    from random import Random

ACCEPTABLE = 1

_STATES: Final = lexicon.words(
    """tired happy angry sad late busy ill hungry thirsty nervous calm proud lonely rich poor famous
    quiet honest careful ready"""
)


def acceptability(label: int, rng: Random) -> Example:
    """Draw one sentence: `label` 1 is acceptable, 0 is not."""
    construction = rng.choice((_reflexive,) * 3 + (_agreement, _determiner, _word_order))
    return Example(construction(label == ACCEPTABLE, rng), None, label)


def _agreement(good: bool, rng: Random) -> str:
    several = rng.random() < 0.5
    person = rng.choice(lexicon.PEOPLE)
    return sentence(
        "the",
        plural(person) if several else person,
        "are" if several == good else "is",
        rng.choice(_STATES),
        _setting(rng),
    )


def _determiner(good: bool, rng: Random) -> str:
    several = rng.random() < 0.5
    determiners = (
        ("these", "those", "many", "several", "both")
        if several == good
        else ("this", "that", "every", "each", "another")
    )
    thing = rng.choice(lexicon.THINGS)
    return sentence(
        _person(rng),
        past(rng.choice(lexicon.TAKERS)),
        rng.choice(determiners),
        rng.choice(lexicon.QUALITIES + lexicon.COLOURS),
        plural(thing) if several else thing,
    )


def _reflexive(good: bool, rng: Random) -> str:
    owners = {
        "herself": rng.choice(lexicon.FEMALE_NAMES),
        "himself": rng.choice(lexicon.MALE_NAMES),
        "themselves": "the " + plural(rng.choice(lexicon.PEOPLE)),
    }
    right, wrong, _ = rng.sample(sorted(owners), 3)
    return sentence(
        owners[right],
        past(rng.choice(("hurt", "blame", "admire", "praise", "defend", "criticize", "hide"))),
        right if good else wrong,
        _setting(rng),
    )


def _word_order(good: bool, rng: Random) -> str:
    subject, thing = _person(rng), rng.choice(lexicon.THINGS)
    verb, adverb = past(rng.choice(lexicon.TAKERS)), rng.choice(lexicon.ADVERBS)
    quality = rng.choice(lexicon.QUALITIES)
    if good:
        return sentence(subject, adverb, verb, "the", quality, thing)
    swapped = (
        (subject, verb, adverb, "the", quality, thing),
        (subject, adverb, verb, quality, "the", thing),
    )
    return sentence(*rng.choice(swapped))


def _person(rng: Random) -> str:
    return _either("the " + rng.choice(lexicon.PEOPLE), rng.choice(lexicon.NAMES), rng)


def _setting(rng: Random) -> str:
    return _either("in " + rng.choice(lexicon.CITIES), "on " + rng.choice(lexicon.DAYS), rng)


def _either(one: str, other: str, rng: Random) -> str:
    return one if rng.random() < 0.5 else other
