"""Entailment (the shape of MNLI and RTE): quantified sentences, and verbs that imply a deed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product, starmap
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from streamlab.tasks.synthetic import lexicon
from streamlab.tasks.synthetic.grammar import draw_setting, participle, past, plural, sentence
from streamlab.tasks.types.example import Example

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from random import Random

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2  # of RTE: 0 follows, 1 does not

Width = Literal["narrow", "wide"]
_WIDTHS: Final[tuple[Width, ...]] = ("narrow", "wide")

# quantifier -> is it true of (how many of the noun do it, how many do not)?
_TRUE: Final[Mapping[str, Callable[[int, int], bool]]] = MappingProxyType(
    {
        "all": lambda _does, does_not: does_not == 0,
        "some": lambda does, _does_not: does > 0,
        "no": lambda does, _does_not: does == 0,
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


@cache
def pairs_of_claims(label: int) -> tuple[tuple[Claim, Claim], ...]:
    """List the pairs with that verdict, among those that keep the verb phrase as it is."""
    claims = tuple(starmap(Claim, product(_TRUE, _WIDTHS, _WIDTHS)))
    return tuple(
        (premise, hypothesis)
        for premise, hypothesis in product(claims, claims)
        if premise != hypothesis
        and premise.verb == hypothesis.verb
        and verdict(premise, hypothesis) == label
    )


def quantified_inference(label: int, rng: Random) -> Example:
    """Draw a premise and a hypothesis: `label` 0 follows, 1 is left open, 2 is contradicted.

    A sentence is `quantifier noun verb-phrase`. The noun and the verb phrase are each narrow
    (`dogs`, `were sold in Rome`) or wide (`animals`, `were sold`); a hypothesis changes the
    quantifier, the noun or both. Its label is decided by trying every small model: which regions
    of the two nested nouns and the two nested verb phrases have members. As in everyday English,
    what is spoken of is taken to exist.
    """
    premise, hypothesis = rng.choice(pairs_of_claims(label))
    kind = lexicon.pick(rng, "kinds")
    nouns = {"narrow": plural(lexicon.pick(rng, kind)), "wide": plural(kind)}
    deed = participle(lexicon.pick(rng, "done_to_things"))
    verbs = {"narrow": f"were {deed} {draw_setting(rng)}", "wide": f"were {deed}"}
    text, text2 = (
        sentence(rng.choice(_WORDS[claim.quantifier]), nouns[claim.noun], verbs[claim.verb])
        for claim in (premise, hypothesis)
    )
    return Example(text, text2, label)


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


_DONE: Final[tuple[str, ...]] = ("managed to", "remembered to", "was able to", "was forced to")
_NOT_DONE: Final[tuple[str, ...]] = ("failed to", "forgot to", "refused to", "was unable to")
_OPEN: Final[tuple[str, ...]] = ("hoped to", "planned to")


def entailment(label: int, rng: Random) -> Example:
    """Draw a text and a hypothesis: `label` 0 follows, 1 does not.

    A verb that governs another says whether the deed was done (`managed to`), was not done
    (`failed to`), or leaves it open (`hoped to`); the hypothesis says that it was done, or not.
    """
    follows, done = label == ENTAILMENT, rng.random() < 0.5
    if follows:
        governors = _DONE if done else _NOT_DONE
    else:
        governors = rng.choice((_NOT_DONE if done else _DONE,) * 4 + (_OPEN,))
    who, verb = _person(rng), lexicon.pick(rng, "governed")
    what = "the " + lexicon.pick(rng, "things")
    told = past(verb) if done else f"did not {verb}"
    return Example(
        sentence(who, rng.choice(governors), verb, what), sentence(who, told, what), label
    )


def _person(rng: Random) -> str:
    return rng.choice(("the " + lexicon.pick(rng, "people"), rng.choice(lexicon.NAMES)))
