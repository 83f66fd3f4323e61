"""A small grammar of English: word forms, and events with the several ways to tell one.

The similarity and the question families are written from events: two tellings of one event mean
the same, and an event with one thing changed means something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamlab.tasks.synthetic import lexicon

if TYPE_CHECKING:
    from random import Random


def plural(noun: str) -> str:
    """Give the plural of a noun."""
    if noun in lexicon.IRREGULAR_PLURALS:
        return lexicon.IRREGULAR_PLURALS[noun]
    if _ends_in_consonant_y(noun):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def past(verb: str) -> str:
    """Give the simple past."""
    irregular = lexicon.IRREGULAR_PASTS.get(verb)
    return irregular[0] if irregular else _regular_past(verb)


def participle(verb: str) -> str:
    """Give the past participle."""
    irregular = lexicon.IRREGULAR_PASTS.get(verb)
    return irregular[1] if irregular else _regular_past(verb)


def sentence(*parts: str, end: str = ".") -> str:
    """Join the parts that are not empty with spaces, capitalise the first letter and end it."""
    text = " ".join(part for part in parts if part)
    return text[0].upper() + text[1:] + end


def _regular_past(verb: str) -> str:
    if _ends_in_consonant_y(verb):
        return verb[:-1] + "ied"
    if verb in lexicon.WORDS["doubling"]:
        return verb + verb[-1] + "ed"
    return verb + ("d" if verb.endswith("e") else "ed")


def _ends_in_consonant_y(word: str) -> bool:
    return word.endswith("y") and word[-2] not in "aeiou"


_NUMBERS: Final = ("two", "three", "four", "five", "six", "seven")


@dataclass(frozen=True, slots=True)
class Someone:
    """A noun phrase for one or several people."""

    phrase: str
    several: bool

    @property
    def was(self) -> str:
        """The auxiliary of the passive that agrees with the phrase."""
        return "were" if self.several else "was"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: `deed` is a pair of synonyms, `opposite` another pair."""

    doer: Someone
    deed: tuple[str, ...]
    opposite: tuple[str, ...]
    patient: Someone
    setting: str  # where, when, why or how
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Telling:
    """Choices that leave the meaning of an event as it is."""

    passive: bool
    synonym: int  # which of the pair
    fronted: bool  # the setting comes first


def draw_event(rng: Random, *, negated: float = 0.0) -> Event:
    """Draw an event; `negated` is the probability that it did not happen."""
    doer, patient = draw_people(rng)
    deed, opposite = rng.sample(rng.choice(lexicon.DEEDS), 2)
    return Event(doer, deed, opposite, patient, draw_setting(rng), rng.random() < negated)


def draw_people(rng: Random) -> tuple[Someone, Someone]:
    """Draw two different people: names, or people by their work, sometimes several."""
    names = rng.sample(lexicon.NAMES, 2)
    works = rng.sample(lexicon.WORDS["people"], 2)
    kinds = rng.choices(("name", "work", "several"), (3, 5, 1), k=2)
    first, second = (
        _someone(kind, name, work, rng)
        for kind, name, work in zip(kinds, names, works, strict=True)
    )
    return first, second


def draw_setting(rng: Random) -> str:
    """Draw a place or a time, evenly."""
    return draw_place(rng) if rng.random() < 0.5 else draw_time(rng)


def draw_place(rng: Random) -> str:
    """Draw a place."""
    return f"in {lexicon.pick(rng, 'cities')}"


def draw_time(rng: Random) -> str:
    """Draw a time: a day or a month."""
    if rng.random() < 0.5:
        return f"on {lexicon.pick(rng, 'days')}"
    return f"in {lexicon.pick(rng, 'months')}"


def is_place(setting: str) -> bool:
    """Tell a place from a time."""
    return setting.removeprefix("in ") in lexicon.WORDS["cities"]


def draw_telling(rng: Random) -> Telling:
    """Draw one way of telling, each choice evenly."""
    return Telling(rng.random() < 0.5, rng.randrange(2), rng.random() < 0.5)


def tell(event: Event, telling: Telling) -> str:
    """Write an event as a statement."""
    verb = event.deed[telling.synonym]
    if telling.passive:
        subject, rest = event.patient, (participle(verb), "by " + event.doer.phrase)
        auxiliary = f"{subject.was} not" if event.negated else subject.was
    else:
        subject = event.doer
        rest = (verb if event.negated else past(verb), event.patient.phrase)
        auxiliary = "did not" if event.negated else ""
    clause = (subject.phrase, auxiliary, *rest)
    if telling.fronted:
        return sentence(event.setting, *clause)
    return sentence(*clause, event.setting)


def _someone(kind: str, name: str, work: str, rng: Random) -> Someone:
    if kind == "name":
        return Someone(name, several=False)
    if kind == "several":
        return Someone(f"{rng.choice(_NUMBERS)} {plural(work)}", several=True)
    return Someone(f"the {work}", several=False)
