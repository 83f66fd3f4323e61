"""Pairs of sentences: similarity (MRPC, QQP, STS-B), answers (QNLI) and pronouns (WNLI)."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from streamlab.tasks.synthetic import lexicon
from streamlab.tasks.synthetic.grammar import (
    Event,
    draw_event,
    draw_people,
    draw_place,
    draw_telling,
    draw_time,
    is_place,
    participle,
    sentence,
    tell,
)
from streamlab.tasks.types.example import Example

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    Change: TypeAlias = Callable[[Event, Random], Event]

PARAPHRASE = 1  # of MRPC and QQP
ANSWERS = 0  # of QNLI
RIGHT = 1  # of WNLI


def paraphrase(label: int, rng: Random) -> Example:
    """Draw a pair of statements: `label` 1 tells one event twice, 0 tells two events.

    Both are told by independent choices of voice, synonym and clause order, whatever the label;
    only what is told differs: the deed becomes its opposite, did not happen, or changes sides.
    """
    event = draw_event(rng, negated=0.5)
    other = event
    if label != PARAPHRASE:
        other = rng.choice((_negate, _negate, _negate, _oppose, _swap))(event, rng)
    return Example(*_tell_both(event, other, rng), label)


def duplicate_questions(label: int, rng: Random) -> Example:
    """Draw a pair of questions: `label` 1 ask the same, 0 ask something else."""
    event, asked = draw_event(rng, negated=0.5), rng.choice(_ASKING)
    other, other_asked = event, asked
    if label != PARAPHRASE and rng.random() < 0.6:
        other = _negate(event, rng)
    elif label != PARAPHRASE:
        other_asked = rng.choice([word for word in _ASKING if word != asked])
    first, second = _ask(event, asked, rng), _ask(other, other_asked, rng)
    while second == first:
        second = _ask(other, other_asked, rng)
    return Example(first, second, label)


def graded_similarity(level: int, rng: Random) -> Example:
    """Draw a pair of statements whose likeness is about `level` (0 to 5), with a little noise."""
    event = draw_event(rng, negated=0.5)
    other = event
    for change in rng.choice(_CHANGES_BY_LEVEL[level]):
        other = change(other, rng)
    score = min(5.0, max(0.0, level + rng.uniform(-0.4, 0.4)))
    return Example(*_tell_both(event, other, rng), round(score, 1))


def _tell_both(event: Event, other: Event, rng: Random) -> tuple[str, str]:
    first, second = draw_telling(rng), draw_telling(rng)
    while second == first:  # the same words twice would be too plain a paraphrase
        second = draw_telling(rng)
    return tell(event, first), tell(other, second)


def _swap(event: Event, _rng: Random) -> Event:
    return replace(event, doer=event.patient, patient=event.doer)


def _oppose(event: Event, _rng: Random) -> Event:
    return replace(event, deed=event.opposite, opposite=event.deed)


def _negate(event: Event, _rng: Random) -> Event:
    return replace(event, negated=not event.negated)


def _move(event: Event, rng: Random) -> Event:
    draw = draw_place if is_place(event.setting) else draw_time
    setting = draw(rng)
    while setting == event.setting:
        setting = draw(rng)
    return replace(event, setting=setting)


def _recast(event: Event, rng: Random) -> Event:
    newcomer, _ = draw_people(rng)
    while newcomer in (event.doer, event.patient):
        newcomer, _ = draw_people(rng)
    if rng.random() < 0.5:
        return replace(event, doer=newcomer)
    return replace(event, patient=newcomer)


def _replace_all(event: Event, rng: Random) -> Event:
    return replace(draw_event(rng), negated=event.negated)


# What brings the likeness of two tellings down to a level; one of the sets is drawn. From 3 down,
# one text denies and the other affirms: the cue that is learnt first.
_CHANGES_BY_LEVEL: Final[tuple[tuple[tuple[Change, ...], ...], ...]] = (
    ((_replace_all, _negate),),
    ((_negate, _recast, _move), (_negate, _recast, _oppose)),
    ((_negate, _move), (_negate, _swap)),
    ((_negate,),),
    ((_move,),),
    ((),),
)

_ASKING: Final = ("why", "when", "where")


def _ask(event: Event, asked: str, rng: Random) -> str:
    verb = rng.choice(event.deed)
    doer, patient = event.doer.phrase, event.patient.phrase
    denied = "not" if event.negated else ""
    if rng.random() < 0.5:
        was = event.patient.was
        return sentence(asked, was, patient, denied, participle(verb), "by", doer, end="?")
    return sentence(asked, "did", doer, denied, verb, patient, end="?")


# question word -> what answers it
_SETTINGS: Final[Mapping[str, Callable[[Random], str]]] = MappingProxyType(
    {
        "where": draw_place,
        "when": draw_time,
        "why": lambda rng: rng.choice(lexicon.REASONS),
    }
)


def answerability(label: int, rng: Random) -> Example:
    """Draw a question and a sentence: `label` 0 answers it, 1 does not.

    A sentence tells an event with a place, a time or a reason; a question asks for one of these.
    A sentence that does not answer gives another of them than was asked for.
    """
    asked, other = rng.sample(tuple(_SETTINGS), 2)
    setting = _SETTINGS[asked if label == ANSWERS else other](rng)
    event = replace(draw_event(rng), setting=setting)
    return Example(
        _ask_for(asked, event, rng), tell(event, replace(draw_telling(rng), synonym=0)), label
    )


def _ask_for(word: str, event: Event, rng: Random) -> str:
    doer, patient, verb = event.doer.phrase, event.patient.phrase, event.deed[0]
    if rng.random() < 0.5:
        return sentence(word, "did", doer, verb, patient, end="?")
    return sentence(word, event.patient.was, patient, participle(verb), "by", doer, end="?")


def pronouns(label: int, rng: Random) -> Example:
    """Draw a sentence and one reading of its pronoun: `label` 1 is the right one.

    The candidates are a woman and a man, in either order, and the pronoun is hers or his. Pronoun
    and reading are drawn independently, so that neither text alone tells the label.
    """
    names = lexicon.pick(rng, "female_names"), lexicon.pick(rng, "male_names")
    meant = rng.randrange(2)
    read = names[meant if label == RIGHT else 1 - meant]
    first, second = rng.sample(names, 2)
    said = "was " + lexicon.pick(rng, "moods")
    meeting = lexicon.pick(rng, "meetings")
    told = (first, meeting, second, "because", ("she", "he")[meant], said)
    return Example(sentence(*told), sentence(read, said), label)
