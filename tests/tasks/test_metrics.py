from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, f1_score

from streamlab.errors import DataError, TrainingError
from streamlab.tasks import metrics
from streamlab.tasks.metrics import (
    ACCURACY,
    F1,
    MACRO_F1,
    MATTHEWS,
    PEARSON,
    SPEARMAN,
    Metric,
    find_metric,
    majority_scores,
)
from streamlab.tasks.types import task_type


def score(names: list[str], logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score by metrics of one kind of task."""
    found = [find_metric(name) for name in names]
    (kind,) = found[0].kinds
    return metrics.score(task_type(kind), found, logits, labels)


def logits_for(classes: list[int], n_outputs: int) -> np.ndarray:
    return np.eye(n_outputs, dtype=np.float32)[classes]


def test_two_class_scores_equal_the_formulas_over_the_confusion_matrix() -> None:
    labels = [1] * 6 + [0] * 4
    predicted = [1, 1, 1, 1, 0, 0, 1, 0, 0, 0]  # tp 4, fn 2, fp 1, tn 3

    scores = score(["accuracy", "f1", "matthews"], logits_for(predicted, 2), np.array(labels))

    assert scores["accuracy"] == pytest.approx(7 / 10)
    assert scores["f1"] == pytest.approx(8 / 11)
    assert scores["matthews"] == pytest.approx((4 * 3 - 1 * 2) / math.sqrt(5 * 6 * 4 * 5))


def test_f1_of_three_classes_is_the_mean_over_classes() -> None:
    labels, predicted = [0, 0, 1, 1, 2, 2], [0, 0, 1, 2, 2, 2]

    scores = score(["f1"], logits_for(predicted, 3), np.array(labels))

    assert scores["f1"] == pytest.approx((1 + 2 / 3 + 4 / 5) / 3)


def test_spearman_sees_only_the_order_and_pearson_the_line() -> None:
    labels = np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float32)

    scores = score(["pearson", "spearman"], np.exp(2 * labels)[:, None], labels)

    assert scores["spearman"] == pytest.approx(1)
    assert 0.7 < scores["pearson"] < 0.99


def test_the_first_metric_asked_for_comes_first() -> None:
    scores = score(["f1", "accuracy"], logits_for([0, 1], 2), np.array([0, 1]))

    assert list(scores) == ["f1", "accuracy"]


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
@pytest.mark.parametrize("predicted", [0.0, 2.5, 1e30])
def test_a_correlation_with_a_constant_is_zero(metric: str, predicted: float) -> None:
    labels = np.array([0.0, 1.0, 5.0])

    assert score([metric], np.full((3, 1), predicted), labels) == {metric: 0.0}


def test_matthews_and_f1_of_a_model_that_always_says_no_are_zero() -> None:
    scores = score(["matthews", "f1"], logits_for([0, 0, 0], 2), np.array([0, 1, 1]))

    assert scores == {"matthews": 0.0, "f1": 0.0}


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_outputs_that_are_no_numbers_are_not_scored(broken: float) -> None:
    with pytest.raises(TrainingError, match="NaN or infinity"):
        score(["accuracy"], np.array([[0.0, broken]]), np.array([1]))


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((0, 2)), np.zeros(0)),
        (np.zeros((2, 2)), np.zeros(3)),
        (np.zeros(2), np.zeros(2)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(logits: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="shape"):
        score(["accuracy"], logits, labels)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_accuracy_is_the_share_of_rows_that_agree(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = zip(*pairs, strict=True)

    scores = score(["accuracy", "f1", "matthews"], logits_for(list(predicted), 3), np.array(labels))

    assert scores["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert all(-1 <= value <= 1 for value in scores.values())


def test_the_majority_scores_what_scikit_learns_dummy_classifier_does() -> None:
    seen, labels = [2, 0, 2, 1, 2], np.array([0, 1, 2, 2, 1, 0])
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((5, 1)), seen)
    answers = dummy.predict(np.zeros((6, 1)))

    classes = task_type("classification")
    answer = classes.majority_answer(seen)
    names = ("a", "b", "c")
    found = majority_scores(classes, [ACCURACY, F1, MATTHEWS], answer, labels, names=names)

    assert found == {
        "accuracy": pytest.approx(accuracy_score(labels, answers)),
        "f1": pytest.approx(f1_score(labels, answers, average="macro")),
        "matthews": 0.0,
    }


def test_of_classes_that_are_as_frequent_the_first_is_the_majority() -> None:
    assert task_type("classification").majority_answer([1, 0, 0, 1]) == 0


def test_the_mean_of_the_numbers_scores_0_by_a_correlation() -> None:
    numbers = task_type("regression")
    answer = numbers.majority_answer([0.1, 0.2, 0.6])
    labels = np.array([0.1, 0.2, 0.4], dtype=np.float32)

    assert answer == pytest.approx(0.3)
    assert majority_scores(numbers, [PEARSON, SPEARMAN], answer, labels) == {
        "pearson": 0.0,
        "spearman": 0.0,
    }


def test_a_metric_that_is_undefined_for_equal_answers_has_no_score_of_the_majority() -> None:
    undefined = Metric("mine", frozenset({"classification"}), lambda *_: math.nan)

    found = majority_scores(
        task_type("classification"), [undefined, ACCURACY], 1, np.array([1, 0]), names=("a", "b")
    )

    assert found == {"mine": None, "accuracy": 0.5}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_macro_f1_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = map(np.array, zip(*pairs, strict=True))

    found = MACRO_F1(labels, predicted, 3)

    expected = f1_score(labels, predicted, average="macro", zero_division=0)
    assert found == pytest.approx(expected)


def test_macro_f1_of_two_classes_is_the_mean_of_both() -> None:
    labels, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])

    assert MACRO_F1(labels, predicted, 2) == pytest.approx((4 / 5 + 2 / 3) / 2)
