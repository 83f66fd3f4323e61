"""Scores by class, and notes on scores, of recorded confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_samples import Clock, new_arrival, new_base, new_diff, new_run, new_score
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from streamlab.errors import RegistryError
from streamlab.registry.records import ArrivalDetails, Confusion
from streamlab.registry.registry import Registry
from streamlab.views.class_scores import class_scores, class_tables
from streamlab.views.pages import arrival_page, run_page
from streamlab.views.score_notes import learning_advice, score_notes
from streamlab.views.table import Facts, Table
from streamlab.views.task_scores import task_scores

LABELS = ("low", "mid", "high")


def confused(labels: Sequence[int], answers: Sequence[int]) -> Confusion:
    counts = confusion_matrix(labels, answers, labels=range(3)).tolist()
    return Confusion(labels=LABELS, counts=tuple(map(tuple, counts)))


def recorded(confusion: Confusion | None, *, value: float = 0.5, n_examples: int = 100) -> Registry:
    """Return a registry with a run of one arrival, whose majority class scores one half."""
    registry = Registry.open("sqlite://", clock=Clock())
    registry.bases.add(new_base())
    run = registry.runs.start(new_run())
    arrival = new_arrival(run.id, details=ArrivalDetails(confusion=confusion))
    score = new_score(
        value=value, majority=0.5, n_examples=n_examples, after_sequence=arrival.sequence
    )
    registry.arrivals.add(arrival, new_diff(), [score])
    return registry


def notes_of(registry: Registry) -> tuple[str, ...]:
    run = registry.runs.get("latest")
    found = score_notes(registry, run, task_scores(registry.scores.list()))
    return tuple(str(fact.value) for fact in found.facts)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_precision_recall_and_f1_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, answers = map(np.array, zip(*pairs, strict=True))

    found = np.array(
        [
            (one.precision, one.recall, one.f1, one.n_examples)
            for one in class_scores(confused(labels.tolist(), answers.tolist()))
        ]
    )

    expected = precision_recall_fscore_support(labels, answers, labels=range(3), zero_division=0)
    np.testing.assert_allclose(found.T, expected)


def test_a_class_names_the_wrong_answer_it_gets_most_often() -> None:
    confusion = confused([0, 0, 0, 0, 1, 2, 2], [0, 2, 2, 1, 1, 0, 2])

    assert [one.taken_for for one in class_scores(confusion)] == ["high", None, "low"]


def test_a_confusion_matrix_is_recorded_with_its_arrival_and_read_again() -> None:
    confusion = confused([0, 1, 2, 2], [0, 1, 1, 2])

    with recorded(confusion) as registry:
        assert registry.arrivals.list()[0].details.confusion == confusion


@pytest.mark.parametrize("counts", [[[1, 2]], [[1, 2], [3]], [[1, -1], [0, 0]]])
def test_a_damaged_confusion_matrix_is_refused(counts: list[list[int]]) -> None:
    with pytest.raises(RegistryError, match="confusion"):
        ArrivalDetails.from_json({"confusion": {"labels": ["a", "b"], "counts": counts}})


def test_the_page_of_an_arrival_has_its_confusion_matrix_by_name() -> None:
    with recorded(confused([0, 1, 2, 2], [0, 1, 1, 2])) as registry:
        tree = arrival_page(registry, registry.arrivals.list()[0]).tree()

    assert tree["confusion"][2] == {"class": "high", "as low": 0, "as mid": 1, "as high": 1}
    assert [row["recall"] for row in tree["classes"]] == [1.0, 1.0, 0.5]
    assert not any(name.startswith("confusion") for name in tree["details"])


def test_a_wide_confusion_matrix_is_left_out_of_the_page() -> None:
    labels = tuple(map(str, range(11)))
    counts = tuple(tuple(int(row == column) for column in range(11)) for row in range(11))
    with recorded(Confusion(labels=labels, counts=counts)) as registry:
        tables = list(class_tables(registry.arrivals.list()[0]))

    assert [table.key for table in tables] == ["classes"]


def test_a_task_that_is_not_above_the_majority_has_a_note_with_its_steps() -> None:
    with recorded(None) as registry:
        (found,) = notes_of(registry)

    arrival = new_arrival(1)
    assert found == (
        "accuracy 0.5000, where the majority class has 0.5000; trained for "
        f"{arrival.n_steps} steps on {arrival.n_train_examples:,} examples"
    )


def test_answers_that_are_all_one_class_are_noted() -> None:
    with recorded(confused([0, 1, 2], [1, 1, 1])) as registry:
        assert "all answers are one class" in notes_of(registry)[0]
    with recorded(confused([0, 1, 2], [1, 1, 0])) as registry:
        assert "all answers are one class" not in notes_of(registry)[0]


def test_a_score_of_few_examples_is_noted_though_it_is_high() -> None:
    with recorded(None, value=1.0, n_examples=10) as registry:
        assert notes_of(registry) == ("10 dev examples can tell little",)


def test_a_task_that_is_learned_on_many_examples_has_no_note() -> None:
    with recorded(None, value=0.9) as registry:
        page = run_page(registry, registry.runs.get("latest"))

    (notes,) = (s for s in page.sections if isinstance(s, Facts) and s.key == "notes")
    assert notes.facts == ()


def test_the_advice_names_the_tasks_that_were_not_learned() -> None:
    with recorded(None) as registry:
        run, scores = registry.runs.get("latest"), task_scores(registry.scores.list())
    high = [replace(score, by_seed={1: 0.9}) for score in scores]

    advice = learning_advice(run, scores)

    assert advice.startswith(
        f"Not above the majority class of the training examples: {scores[0].task} (1 of 1 task)."
    )
    assert "`training.min_steps`" in advice
    assert learning_advice(run, high) == ""


def test_tables_of_classes_are_empty_for_a_regression() -> None:
    with recorded(None) as registry:
        page = arrival_page(registry, registry.arrivals.list()[0])

    assert {s.key for s in page.sections if isinstance(s, Table)} == {"scores"}
