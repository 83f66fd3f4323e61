"""Answerability (QNLI's shape): does the sentence answer the question?

A sentence tells an event with a place or a time; a question asks for one of its parts. A sentence
that does not answer tells of the same people in exchanged roles, or gives a time where a place is
asked for. Question words, people and settings stand in answering and other pairs alike.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

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

ANSWERS = 0


def answerability(label: int, rng: Random) -> Row:
    """Draw a question and a sentence: `label` 0 answers it, 1 does not."""
    pair = _who if rng.random() < 0.5 else _where_or_when
    return Row(*pair(label == ANSWERS, rng), label)


def _who(answers: bool, rng: Random) -> tuple[str, str]:
    event = draw_event(rng)
    telling = draw_telling(rng)
    questions = (
        ("who", past(event.verb[0]), event.patient.phrase),
        ("by whom", event.patient.was, event.patient.phrase, participle(event.verb[0])),
    )
    asked_of_agent = sentence(*rng.choice(questions), end="?")
    return asked_of_agent, tell(event if answers else event.swapped(), replace(telling, synonym=0))


def _where_or_when(answers: bool, rng: Random) -> tuple[str, str]:
    place = rng.random() < 0.5
    event = replace(draw_event(rng), setting=draw_place(rng) if place else draw_time(rng))
    question = _ask("where" if place == answers else "when", event, rng)
    return question, tell(event, replace(draw_telling(rng), synonym=0))


def _ask(word: str, event: Event, rng: Random) -> str:
    agent, patient, verb = event.agent.phrase, event.patient.phrase, event.verb[0]
    if rng.random() < 0.5:
        return sentence(word, "did", agent, verb, patient, end="?")
    return sentence(word, event.patient.was, patient, participle(verb), "by", agent, end="?")
