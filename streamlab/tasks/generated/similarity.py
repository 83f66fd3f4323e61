"""Similarity (the shape of MRPC, QQP and STS-B): paraphrases, and near-misses in the same words.

Both texts of a pair are told by independent choices of voice, synonym and clause order, whatever
the label; only a near-miss changes what is told, most often by who did it to whom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final

from streamlab.tasks.generated import lexicon
from streamlab.tasks.generated.events import (
    Event,
    Telling,
    draw_event,
    draw_people,
    draw_place,
    draw_telling,
    draw_time,
    is_place,
    tell,
)
from streamlab.tasks.generated.morphology import participle, sentence
from streamlab.tasks.rows import Row

PARAPHRASE = 1
Change = Callable[[Event, Random], Event]


def paraphrase(label: int, rng: Random) -> Row:
    """Draw a pair of statements: `label` 1 tells one event twice, 0 tells two events."""
    event = draw_event(rng, negated=0.3)
    other = event
    if label != PARAPHRASE:
        other = rng.choice((_swap, _swap, _negate, _move, _recast))(event, rng)
    return Row(tell(event, draw_telling(rng)), tell(other, draw_telling(rng)), label)


def duplicate_questions(label: int, rng: Random) -> Row:
    """Draw a pair of questions: `label` 1 ask the same, 0 ask something else."""
    event, asked = draw_event(rng), rng.choice(tuple(_ASKING))
    other, other_asked = event, asked
    if label != PARAPHRASE:
        if rng.random() < 0.6:
            other = event.swapped()
        else:
            other_asked = rng.choice([word for word in _ASKING if word != asked])
    return Row(
        _ask(event, asked, draw_telling(rng), rng),
        _ask(other, other_asked, draw_telling(rng), rng),
        label,
    )


def graded_similarity(level: int, rng: Random) -> Row:
    """Draw a pair of statements whose likeness is about `level` (0 to 5), with a little noise."""
    event = draw_event(rng, negated=0.2)
    other = event
    for change in rng.choice(_CHANGES_BY_LEVEL[level]):
        other = change(other, rng)
    score = min(5.0, max(0.0, level + rng.uniform(-0.4, 0.4)))
    return Row(tell(event, draw_telling(rng)), tell(other, draw_telling(rng)), round(score, 1))


def _swap(event: Event, rng: Random) -> Event:
    return event.swapped()


def _negate(event: Event, rng: Random) -> Event:
    return replace(event, negated=not event.negated)


def _move(event: Event, rng: Random) -> Event:
    draw = draw_place if is_place(event.setting) else draw_time
    setting = draw(rng)
    while setting == event.setting:
        setting = draw(rng)
    return replace(event, setting=setting)


def _recast(event: Event, rng: Random) -> Event:
    newcomer, _ = draw_people(rng)
    while newcomer in (event.agent, event.patient):
        newcomer, _ = draw_people(rng)
    if rng.random() < 0.5:
        return replace(event, agent=newcomer)
    return replace(event, patient=newcomer)


def _act_otherwise(event: Event, rng: Random) -> Event:
    return replace(event, verb=rng.choice([v for v in lexicon.SYNONYMS if v != event.verb]))


def _replace_all(event: Event, rng: Random) -> Event:
    return draw_event(rng, negated=0.2)


# What brings the likeness of two tellings down to a level; one of the sets is drawn.
_CHANGES_BY_LEVEL: Final[tuple[tuple[tuple[Change, ...], ...], ...]] = (
    ((_replace_all,),),
    ((_act_otherwise, _recast), (_act_otherwise, _recast, _move)),
    ((_swap, _move), (_act_otherwise,), (_recast, _move)),
    ((_swap,), (_negate,), (_recast,)),
    ((_move,),),
    ((),),
)

# question word -> ways to ask; the first of each pair asks in the active voice, the second passive.
_ASKING: Final = {
    "why": ("why", "for what reason"),
    "when": ("when", "at what time"),
    "where": ("where", "in which place"),
    "how": ("how", "in what way"),
}


def _ask(event: Event, asked: str, telling: Telling, rng: Random) -> str:
    verb, word = event.verb[telling.synonym], rng.choice(_ASKING[asked])
    agent, patient = event.agent, event.patient
    if telling.passive:
        return sentence(
            word, patient.was, patient.phrase, participle(verb), "by", agent.phrase, end="?"
        )
    return sentence(word, "did", agent.phrase, verb, patient.phrase, end="?")

