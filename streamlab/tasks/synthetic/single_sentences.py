"""Single sentences: acceptability (CoLA) and sentiment (SST-2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.tasks.synthetic import lexicon
from streamlab.tasks.synthetic.grammar import past, plural, sentence
from streamlab.tasks.types.example import Example

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
    person = lexicon.pick(rng, "people")
    return sentence(
        "the",
        plural(person) if several else person,
        "are" if several == good else "is",
        lexicon.pick(rng, "states"),
        _setting(rng),
    )


def _determiner(good: bool, rng: Random) -> str:
    several = rng.random() < 0.5
    determiners = (
        ("these", "those", "many", "several", "both")
        if several == good
        else ("this", "that", "every", "each", "another")
    )
    thing = lexicon.pick(rng, "things")
    return sentence(
        _person(rng),
        past(lexicon.pick(rng, "takers")),
        rng.choice(determiners),
        rng.choice(lexicon.WORDS["qualities"] + lexicon.WORDS["colours"]),
        plural(thing) if several else thing,
    )


def _reflexive(good: bool, rng: Random) -> str:
    owners = {
        "herself": lexicon.pick(rng, "female_names"),
        "himself": lexicon.pick(rng, "male_names"),
        "themselves": "the " + plural(lexicon.pick(rng, "people")),
    }
    right, wrong, _ = rng.sample(sorted(owners), 3)
    return sentence(
        owners[right],
        past(rng.choice(("hurt", "blame", "admire", "praise", "defend", "criticize", "hide"))),
        right if good else wrong,
        _setting(rng),
    )


def _word_order(good: bool, rng: Random) -> str:
    subject, thing = _person(rng), lexicon.pick(rng, "things")
    verb, adverb = past(lexicon.pick(rng, "takers")), lexicon.pick(rng, "adverbs")
    quality = lexicon.pick(rng, "qualities")
    if good:
        return sentence(subject, adverb, verb, "the", quality, thing)
    swapped = (
        (subject, verb, adverb, "the", quality, thing),
        (subject, adverb, verb, quality, "the", thing),
    )
    return sentence(*rng.choice(swapped))


def _person(rng: Random) -> str:
    return _either("the " + lexicon.pick(rng, "people"), rng.choice(lexicon.NAMES), rng)


def _setting(rng: Random) -> str:
    return _either("in " + lexicon.pick(rng, "cities"), "on " + lexicon.pick(rng, "days"), rng)


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
        rng.choice(lexicon.WORDS["keeping"] if keeps else lexicon.WORDS["turning"]),
        _adjective(positive == keeps, rng),
    )


def _attitude(positive: bool, rng: Random) -> str:
    keeps = rng.random() < 0.5
    verb = rng.choice(lexicon.WORDS["liking"] if positive == keeps else lexicon.WORDS["disliking"])
    who = rng.choice(("I", "we", "the critics", "my friends", rng.choice(lexicon.NAMES)))
    if keeps:
        openings = ((who, past(verb)), ("everyone", past(verb)), ("nobody failed to", verb))
    else:
        openings = ((who, "did not " + verb), ("nobody", past(verb)), (who, "never " + past(verb)))
    return sentence(*rng.choice(openings), _subject(rng))


def _concession(positive: bool, rng: Random) -> str:
    main, side = rng.sample(lexicon.WORDS["aspects"], 2)
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
    work, other = rng.sample(lexicon.WORDS["works"], 2)
    return sentence(
        f"this {work} was",
        rng.choice(("", "much", "far", "even")),
        "more" if more else "less",
        _adjective(positive == more, rng),
        rng.choice((f"than the {other}", "than the last one", "than I expected")),
    )


def _subject(rng: Random) -> str:
    work = lexicon.pick(rng, "works")
    return rng.choice((f"the {lexicon.pick(rng, 'aspects')} of this {work}", f"this {work}"))


def _adjective(positive: bool, rng: Random) -> str:
    return rng.choice(lexicon.WORDS["good"] if positive else lexicon.WORDS["bad"])
