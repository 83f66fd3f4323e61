"""Single sentences: acceptability (CoLA) and sentiment (SST-2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.tasks.examples import Example
from streamlab.tasks.synthetic import lexicon
from streamlab.tasks.synthetic.grammar import past, plural, sentence

if TYPE_CHECKING:
    from random import Random

ACCEPTABLE = 1  # of CoLA
POSITIVE = 1  # of SST-2


def acceptability(label: int, rng: Random) -> Example:
    """Draw one sentence: `label` 1 is acceptable, 0 is not.

    In each of four constructions the label is an exclusive-or of two choices (number of subject and
    verb, person and pronoun, ...), or a swap of two words, so that no word alone tells it.
    """
    construction = rng.choice((_reflexive,) * 3 + (_agreement, _determiner, _word_order))
    return Example(construction(label == ACCEPTABLE, rng), None, label)


def _agreement(good: bool, rng: Random) -> str:
    several = rng.random() < 0.5
    person = rng.choice(lexicon.PEOPLE)
    return sentence(
        "the",
        plural(person) if several else person,
        "are" if several == good else "is",
        rng.choice(lexicon.STATES),
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


def sentiment(label: int, rng: Random) -> Example:
    """Draw one verdict: `label` 1 is positive, 0 is negative.

    The construction keeps or turns the polarity of its evaluative word, evenly, and the word is
    chosen to give the label. The polarity of the words alone thus says nothing about it.
    """
    construction = rng.choice((_predicate, _predicate, _attitude, _concession, _comparison))
    return Example(construction(label == POSITIVE, rng), None, label)


def _predicate(positive: bool, rng: Random) -> str:
    keeps = rng.random() < 0.5
    return sentence(
        _subject(rng),
        rng.choice(lexicon.KEEPING if keeps else lexicon.TURNING),
        _adjective(positive == keeps, rng),
    )


def _attitude(positive: bool, rng: Random) -> str:
    keeps = rng.random() < 0.5
    verb = rng.choice(lexicon.LIKING if positive == keeps else lexicon.DISLIKING)
    who = rng.choice(("I", "we", "the critics", "my friends", rng.choice(lexicon.NAMES)))
    if keeps:
        openings = ((who, past(verb)), ("everyone", past(verb)), ("nobody failed to", verb))
    else:
        openings = ((who, "did not " + verb), ("nobody", past(verb)), (who, "never " + past(verb)))
    return sentence(*rng.choice(openings), _subject(rng))


def _concession(positive: bool, rng: Random) -> str:
    main, side = rng.sample(lexicon.ASPECTS, 2)
    verdict = _clause(main, positive, rng)
    conceded = _clause(side, not positive, rng)
    orders = (
        f"although {conceded}, {verdict}",
        f"{verdict}, although {conceded}",
        f"{conceded}, but {verdict}",
        f"even though {conceded}, {verdict}",
        f"{verdict} even though {conceded}",
    )
    return sentence(rng.choice(orders))


def _clause(aspect: str, positive: bool, rng: Random) -> str:
    keeps = rng.random() < 0.5
    governor = rng.choice(("was", "was truly") if keeps else ("was not", "was hardly"))
    return f"the {aspect} {governor} {_adjective(positive == keeps, rng)}"


def _comparison(positive: bool, rng: Random) -> str:
    more = rng.random() < 0.5
    work, other = rng.sample(lexicon.WORKS, 2)
    return sentence(
        f"this {work} was",
        rng.choice(("", "much", "far", "even")),
        "more" if more else "less",
        _adjective(positive == more, rng),
        rng.choice((f"than the {other}", "than the last one", "than I expected")),
    )


def _subject(rng: Random) -> str:
    work = rng.choice(lexicon.WORKS)
    return rng.choice((f"the {rng.choice(lexicon.ASPECTS)} of this {work}", f"this {work}"))


def _adjective(positive: bool, rng: Random) -> str:
    return rng.choice(lexicon.GOOD if positive else lexicon.BAD)
