"""Compositional sentiment (SST-2's shape): what a word of praise means depends on what governs it.

Each row draws whether its construction keeps or turns the polarity of its evaluative word, evenly;
the word is then chosen so that the whole has the label asked for. The polarity of the words alone
thus says nothing about the label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.tasks.examples import Example
from streamlab.tasks.synthetic import lexicon
from streamlab.tasks.synthetic.grammar import past, sentence

if TYPE_CHECKING:
    from random import Random

POSITIVE = 1

_KEEPING = (
    "was truly",
    "was simply",
    "was certainly",
    "was nothing but",
    "never failed to be",
    "did not fail to be",
    "was never anything but",
    "managed to be",
)
_TURNING = (
    "was not",
    "was never",
    "was hardly",
    "was far from",
    "was anything but",
    "failed to be",
    "was not at all",
    "did not manage to be",
)


def sentiment(label: int, rng: Random) -> Example:
    """Draw one verdict: `label` 1 is positive, 0 is negative."""
    construction = rng.choice((_predicate, _predicate, _attitude, _concession, _comparison))
    return Example(construction(label == POSITIVE, rng), None, label)


def _predicate(positive: bool, rng: Random) -> str:
    keeps = rng.random() < 0.5
    return sentence(
        _subject(rng),
        rng.choice(_KEEPING if keeps else _TURNING),
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
