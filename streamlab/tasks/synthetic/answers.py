"""Answerability (QNLI's shape): a sentence answers a question, or does not.

A sentence tells an event with a place, a time or a reason; a question asks for one of these. A
sentence that does not answer gives another sort of information than was asked for. Question words,
people and settings stand in answering and other pairs alike.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from streamlab.tasks.examples import Example
from streamlab.tasks.synthetic import lexicon
from streamlab.tasks.synthetic.morphology import participle, sentence
from streamlab.tasks.synthetic.sentences import (
    Event,
    draw_event,
    draw_place,
    draw_telling,
    draw_time,
    tell,
)

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
    }
)


def answerability(label: int, rng: Random) -> Example:
    """Draw a question and a sentence: `label` 0 answers it, 1 does not."""
    asked, other = rng.sample(tuple(_SETTINGS), 2)
    setting = _SETTINGS[asked if label == ANSWERS else other](rng)
    event = replace(draw_event(rng), setting=setting)
    return Example(
        _ask(asked, event, rng), tell(event, replace(draw_telling(rng), synonym=0)), label
    )


def _ask(word: str, event: Event, rng: Random) -> str:
    doer, patient, verb = event.doer.phrase, event.patient.phrase, event.deed[0]
    if rng.random() < 0.5:
        return sentence(word, "did", doer, verb, patient, end="?")
    return sentence(word, event.patient.was, patient, participle(verb), "by", doer, end="?")
