"""The labels of quantified inference, held against models over named things."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from streamlab.tasks.synthetic.entailment import (
    CONTRADICTION,
    ENTAILMENT,
    NEUTRAL,
    Claim,
    pairs_of_claims,
    verdict,
)

THINGS = (0, 1, 2)


def subsets(of: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [chosen for size in range(len(of) + 1) for chosen in combinations(of, size)]


def worlds() -> list[dict[str, set[int]]]:
    """List every choice of the two nouns and the two verb phrases over three things."""
    nested = [(set(wide), set(narrow)) for wide in subsets(THINGS) for narrow in subsets(wide)]
    return [
        {"wide noun": noun, "narrow noun": kind, "wide verb": verb, "narrow verb": manner}
        for (noun, kind), (verb, manner) in product(nested, nested)
        if kind  # what is spoken of exists
    ]


def holds(claim: Claim, world: dict[str, set[int]]) -> bool:
    noun, verb = world[f"{claim.noun} noun"], world[f"{claim.verb} verb"]
    return {"all": noun <= verb, "some": bool(noun & verb), "no": not noun & verb}[claim.quantifier]


@pytest.mark.parametrize("label", [ENTAILMENT, NEUTRAL, CONTRADICTION])
def test_labels_hold_in_every_world_of_three_things(label: int) -> None:
    for premise, hypothesis in pairs_of_claims(label):
        seen = {holds(hypothesis, world) for world in worlds() if holds(premise, world)}

        assert seen == {ENTAILMENT: {True}, NEUTRAL: {True, False}, CONTRADICTION: {False}}[label]


@pytest.mark.parametrize(
    ("premise", "hypothesis", "label"),
    [
        (("some", "narrow"), ("some", "wide"), ENTAILMENT),  # some dogs -> some animals
        (("all", "wide"), ("all", "narrow"), ENTAILMENT),
        (("no", "narrow"), ("no", "wide"), NEUTRAL),
        (("all", "narrow"), ("no", "wide"), CONTRADICTION),
        (("all", "narrow"), ("some", "narrow"), ENTAILMENT),
    ],
)
def test_textbook_inferences_come_out_right(
    premise: tuple[str, str], hypothesis: tuple[str, str], label: int
) -> None:
    assert verdict(Claim(*premise, "wide"), Claim(*hypothesis, "wide")) == label  # type: ignore[arg-type]


def test_every_quantifier_opens_premises_of_every_label() -> None:
    for label in (ENTAILMENT, NEUTRAL, CONTRADICTION):
        premises = {premise.quantifier for premise, _ in pairs_of_claims(label)}

        assert premises == {"all", "some", "no"}
