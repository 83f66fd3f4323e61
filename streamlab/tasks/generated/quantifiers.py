"""Inference between quantified sentences (MNLI's shape), with the labels worked out from models.

A sentence is `quantifier noun verb-phrase`; a hypothesis may change the quantifier, exchange the
noun for a wider or narrower one, or add or drop a modifier of the verb phrase. Whether it follows
is decided by trying every small model: counts of things in each region of the two nested nouns and
the two nested verb phrases. As in everyday English, what is spoken of is taken to exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from types import MappingProxyType
from typing import Final, Literal

from streamlab.tasks.generated import lexicon
from streamlab.tasks.generated.events import draw_place, draw_time
from streamlab.tasks.generated.morphology import participle, plural, sentence
from streamlab.tasks.rows import Row

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2

Width = Literal["narrow", "wide"]

# quantifier -> is it true of (how many of the noun do it, how many do not)?
_TRUE: Final = MappingProxyType(
    {
        "all": lambda does, does_not: does_not == 0,
        "some": lambda does, does_not: does > 0,
        "no": lambda does, does_not: does == 0,
    }
)
_WORDS: Final = MappingProxyType(
    {"all": ("all", "all the"), "some": ("some", "some of the"), "no": ("no", "none of the")}
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A quantified sentence, up to its words."""

    quantifier: str
    noun: Width
    verb: Width


def verdict(premise: Claim, hypothesis: Claim) -> int:
    """Decide whether the premise entails, leaves open or contradicts the hypothesis."""
    outcomes = {_holds(hypothesis, model) for model in _models() if _holds(premise, model)}
    if outcomes == {True}:
        return ENTAILMENT
    return CONTRADICTION if outcomes == {False} else NEUTRAL


def claims_by_verdict() -> dict[int, list[tuple[Claim, Claim]]]:
    """Sort the pairs of claims that differ in one or two respects by their verdict."""
    claims = [Claim(*parts) for parts in product(_TRUE, ("narrow", "wide"), ("narrow", "wide"))]
    found: dict[int, list[tuple[Claim, Claim]]] = {ENTAILMENT: [], NEUTRAL: [], CONTRADICTION: []}
    for premise, hypothesis in product(claims, claims):
        if premise.verb == hypothesis.verb and premise != hypothesis:
            found[verdict(premise, hypothesis)].append((premise, hypothesis))
    return found


def quantified_inference() -> Callable[[int, Random], Row]:
    """Make the function that draws a premise and a hypothesis with a given label."""
    pairs = claims_by_verdict()

    def build(label: int, rng: Random) -> Row:
        premise, hypothesis = rng.choice(pairs[label])
        kind = rng.choice(tuple(lexicon.KINDS))
        nouns = {"narrow": plural(rng.choice(lexicon.KINDS[kind])), "wide": plural(kind)}
        deed = participle(rng.choice(_DEEDS))
        verbs = {"wide": f"were {deed}", "narrow": f"were {deed} {_setting(rng)}"}
        return Row(
            *(
                sentence(rng.choice(_WORDS[c.quantifier]), nouns[c.noun], verbs[c.verb])
                for c in (premise, hypothesis)
            ),
            label,
        )

    return build


_DEEDS: Final = tuple(
    """sell buy paint draw photograph steal find hide count weigh measure inspect move describe
    deliver collect export import notice admire choose lose bring display film protect""".split()
)


def _setting(rng: Random) -> str:
    return draw_place(rng) if rng.random() < 0.5 else draw_time(rng)


# A model counts things by (is it of the narrow noun?, what does it do?).
_Model = dict[tuple[bool, str], int]
_DOINGS: Final = ("narrow", "wide only", "neither")


def _models() -> Iterator[_Model]:
    regions = tuple(product((True, False), _DOINGS))
    for counts in product((0, 1), repeat=len(regions)):
        model = dict(zip(regions, counts, strict=True))
        if any(model[True, doing] for doing in _DOINGS):
            yield model


def _holds(claim: Claim, model: _Model) -> bool:
    doing = ("narrow",) if claim.verb == "narrow" else ("narrow", "wide only")
    members = [(d, n) for (narrow, d), n in model.items() if narrow or claim.noun == "wide"]
    does = sum(n for d, n in members if d in doing)
    return _TRUE[claim.quantifier](does, sum(n for _, n in members) - does)
