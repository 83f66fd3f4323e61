from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.errors import DataError
from streamlab.tasks.labels import ClassReader, NumberReader, infer_labels

NLI = ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize("value", ["neutral", 1, 1.0, "1", "1.0"])
def test_a_class_is_read_by_name_and_by_index(value: object) -> None:
    assert ClassReader(NLI, None, "rows").read(value) == 1


def test_the_same_names_in_another_order_are_matched_by_name() -> None:
    reader = ClassReader(NLI, ("contradiction", "entailment", "neutral"), "rows")

    assert [reader.read(number) for number in range(3)] == [2, 0, 1]
    assert [reader.read(name) for name in NLI] == [0, 1, 2]
    assert reader.renaming == ""


def test_names_that_are_all_different_rename_the_classes_and_this_is_said() -> None:
    reader = ClassReader(("bad", "good"), ("negative", "positive"), "rows")

    assert [reader.read(value) for value in ("negative", 1, "good")] == [0, 1, 1]
    assert (
        reader.renaming
        == "its labels read as the task's: 'negative' as 'bad', 'positive' as 'good'"
    )


@pytest.mark.parametrize("named", [("entailment", "not_entailment"), ("neutral", "yes", "no")])
def test_names_that_agree_in_part_are_refused(named: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="rows calls its classes"):
        ClassReader(NLI, named, "rows")


@pytest.mark.parametrize("value", [1, "1", 1.0])
def test_a_number_that_names_a_class_is_never_an_index(value: object) -> None:
    reader = ClassReader(("1", "2", "3"), None, "rows")

    assert reader.read(value) == 0
    with pytest.raises(ValueError, match="out of range"):
        reader.read(0)


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        (3, "out of range; known: 'entailment' (0), 'neutral' (1), 'contradiction' (2)"),
        (-2, "out of range"),
        ("maybe", "'maybe', which is unknown; known: 'entailment' (0)"),
        (0.5, "unknown"),
        (10**400, "out of range"),
        (-1, "not published"),
        ("-1", "not published"),
        (-1.0, "not published"),
        (None, "is missing"),
        ("", "is missing"),
        (math.nan, "is missing"),
        ([0], "is a list"),
        (b"neutral", "is a bytes"),
    ],
)
def test_a_label_that_is_no_class_is_refused(value: object, fact: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fact)):
        ClassReader(NLI, None, "rows").read(value)


@pytest.mark.parametrize("value", [2.5, 2, "2.5", " 2.5\n", "25e-1"])
def test_a_number_is_read_from_numbers_and_text(value: object) -> None:
    label = NumberReader().read(value)

    assert isinstance(label, float)
    assert label == float(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", ["high", math.inf, "nan", "-inf", True, None, "", math.nan, [1], 10**400]
)
def test_a_label_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is missing|needs a finite number"):
        NumberReader().read(value)


def test_numbers_are_found_in_their_order_and_names_sorted() -> None:
    assert infer_labels([10, 2, "9", 2.0]) == ("2", "9", "10")
    assert infer_labels(["pos", "neg", "pos"]) == ("neg", "pos")


@pytest.mark.parametrize("value", [0.5, "0.5", "3.25"])
def test_fractions_are_not_taken_for_classes(value: object) -> None:
    with pytest.raises(ValueError, match="kind: regression"):
        infer_labels([1, value])


@pytest.mark.parametrize("value", [-1, None, ""])
def test_unpublished_labels_are_not_taken_for_a_class(value: object) -> None:
    with pytest.raises(ValueError, match=r"not published|missing"):
        infer_labels([0, 1, value])


@given(st.lists(st.text(min_size=1), min_size=2, max_size=6, unique=True), st.randoms())
def test_whatever_the_order_of_the_source_a_name_keeps_its_place(
    names: list[str], random: object
) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    reader = ClassReader(tuple(names), tuple(shuffled), "rows")

    readable = [name for name in names if name == name.removesuffix(".0") and name != "-1"]
    assert [names[reader.read(name)] for name in readable] == readable
