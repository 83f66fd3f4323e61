"""Answerability (QNLI's shape): a sentence answers a question, or does not.

A sentence tells an event with a place, a time, a reason or a manner; a question asks for one of
these, or for one of the people. A sentence that does not answer gives another sort of information
than was asked for, or tells of the same people in exchanged roles. Question words, people and
settings stand in answering and other pairs alike.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from streamlab.tasks.generated import lexicon
from streamlab.tasks.generated.events import (
    Event,
    draw_event,
    draw_place,
    draw_telling,
    draw_time,
    tell,
)
from streamlab.tasks.generated.morphology import participle, past, sentence
from streamlab.tasks.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

ANSWERS = 0

# question word -> what answers it
_SETTINGS: Final[Mapping[str, Callable[[Random], str]]] = MappingProxyType(
    {
        "where": draw_place,
        "when": draw_time,
        "why": lambda rng: rng.choice(lexicon.REASONS),
        "how": lambda rng: rng.choice(lexicon.MANNERS),
    }
)


def answerability(label: int, rng: Random) -> Row:
    """Draw a question and a sentence: `label` 0 answers it, 1 does not."""
    pair = _who if rng.random() < 0.2 else _circumstance
    return Row(*pair(label == ANSWERS, rng), label)


def _who(answers: bool, rng: Random) -> tuple[str, str]:
    event = draw_event(rng)
    question = sentence("who", past(event.deed[0]), event.patient.phrase, end="?")
    told = event if answers else event.swapped()
    return question, tell(told, replace(draw_telling(rng), synonym=0))


def _circumstance(answers: bool, rng: Random) -> tuple[str, str]:
    asked, other = rng.sample(tuple(_SETTINGS), 2)
    setting = _SETTINGS[asked if answers else other](rng)
    event = replace(draw_event(rng), setting=setting)
    return _ask(asked, event, rng), tell(event, replace(draw_telling(rng), synonym=0))


def _ask(word: str, event: Event, rng: Random) -> str:
    doer, patient, verb = event.doer.phrase, event.patient.phrase, event.deed[0]
    if rng.random() < 0.5:
        return sentence(word, "did", doer, verb, patient, end="?")
    return sentence(word, event.patient.was, patient, participle(verb), "by", doer, end="?")
