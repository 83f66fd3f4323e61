"""Task types: what each defines, and that the two differ only where they must."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import BertConfig

from streamlab.tasks.metrics import find_metric
from streamlab.tasks.types import TASK_TYPES, task_type
from streamlab.tasks.types.contract import TaskKind, TaskType

CLASSES, NUMBERS = task_type("classification"), task_type("regression")
LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
TAGS = ("O", "B-PER", "I-PER")
VALUES = np.array([[1.0], [2.0], [4.0]])


@pytest.mark.parametrize("kind", get_args(TaskKind))
def test_every_kind_has_a_type_whose_default_metrics_fit(kind: TaskKind) -> None:
    found = TASK_TYPES[kind]

    assert found.kind == kind
    assert all(kind in find_metric(name).kinds for name in found.default_metrics(TAGS))


def test_labels_are_collated_as_the_loss_takes_them() -> None:
    classes = torch.from_numpy(CLASSES.collate([0, 1]))
    numbers = torch.from_numpy(NUMBERS.collate([0.5, 1]))

    assert (classes.dtype, numbers.dtype) == (torch.int64, torch.float32)
    assert CLASSES.loss(torch.zeros(2, 3), classes).item() == pytest.approx(np.log(3))
    assert NUMBERS.loss(torch.zeros(2, 1), numbers).item() == pytest.approx((0.25 + 1) / 2)


def test_class_weights_multiply_the_loss_of_every_example() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [0.0, -1.0, 3.0], [1.0, 0.0, 0.0]])
    labels = torch.tensor([2, 1, 0])

    alone = [CLASSES.loss(logits[i : i + 1], labels[i : i + 1]).item() for i in range(3)]
    weighted = CLASSES.loss(logits, labels, class_weights=(0.5, 2.0, 4.0))

    assert weighted.item() == pytest.approx((4 * alone[0] + 2 * alone[1] + 0.5 * alone[2]) / 3)


def test_equal_class_weights_change_nothing() -> None:
    logits, labels = torch.tensor([[0.0, 2.0], [0.0, -1.0]]), torch.tensor([0, 1])

    weighted = CLASSES.loss(logits, labels, class_weights=(1.0, 1.0))

    assert weighted.item() == pytest.approx(CLASSES.loss(logits, labels).item())


def test_of_two_classes_the_first_is_the_reference() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, -1.0]], requires_grad=True)
    loss = CLASSES.loss(logits, torch.tensor([0, 1]))
    loss.backward()

    alone = torch.tensor([2.0, -1.0], requires_grad=True)
    logistic = functional.binary_cross_entropy_with_logits(alone, torch.tensor([0.0, 1.0]))
    logistic.backward()
    assert loss.item() == pytest.approx(logistic.item())
    assert logits.grad is not None
    assert alone.grad is not None
    torch.testing.assert_close(logits.grad[:, 1], alone.grad)
    assert not logits.grad[:, 0].any()


@pytest.mark.parametrize(("labels", "fixed"), [(("a", "b"), True), (("a", "b", "c"), False)])
def test_a_new_head_of_two_classes_begins_with_zeros_for_the_first(
    labels: tuple[str, ...], fixed: bool
) -> None:
    dense, weight, bias = torch.ones(4, 4), torch.ones(len(labels), 4), torch.ones(len(labels))

    CLASSES.prepare_head([dense, weight, bias], labels)

    assert bool(dense.all())
    assert bool(weight[1:].all())
    assert bool(bias[1:].all())
    assert bool(weight[0].any()) == bool(bias[0]) == (not fixed)


def test_outputs_are_decoded_to_classes_and_numbers() -> None:
    assert CLASSES.decode(LOGITS).tolist() == [0, 1]
    assert NUMBERS.decode(VALUES).tolist() == [1.0, 2.0, 4.0]


def test_predictions_hold_probabilities_or_a_value() -> None:
    first, second = CLASSES.predictions(LOGITS, ("a", "b", "c"), [])
    (number, *_) = NUMBERS.predictions(VALUES, (), [])

    assert (first.label, second.label, number.label) == ("a", "b", None)
    assert first.probability == pytest.approx(np.exp(2) / (np.exp(2) + np.exp(1) + 1))
    assert sum(first.probabilities.values()) == pytest.approx(1)
    assert (number.value, number.probabilities) == (1.0, {})


@pytest.mark.parametrize(
    ("of_type", "other", "agreement"),
    [
        (CLASSES, LOGITS, 1.0),
        (CLASSES, LOGITS[:, ::-1], 0.5),
        (NUMBERS, VALUES, 1.0),
        (NUMBERS, 10 * VALUES, 1.0),
        (NUMBERS, -VALUES, -1.0),
        (NUMBERS, np.ones((3, 1)), 0.0),
    ],
)
def test_agreement_is_of_classes_or_of_ranks(
    of_type: TaskType, other: np.ndarray, agreement: float
) -> None:
    expected = LOGITS if of_type.has_classes else VALUES

    assert of_type.agreement(other, expected) == pytest.approx(agreement)


@pytest.mark.parametrize(
    ("of_type", "labels", "problem"),
    [
        (CLASSES, ("a",), "two `labels` or more"),
        (CLASSES, (), "two `labels` or more"),
        (NUMBERS, ("a", "b"), "a regression has no `labels`"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    of_type: TaskType, labels: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        of_type.check_labels(labels)


def test_a_configuration_says_what_the_outputs_mean() -> None:
    classes, numbers = BertConfig(), BertConfig()
    CLASSES.configure(classes, ("no", "yes", "so"))
    NUMBERS.configure(numbers, ())

    assert (classes.problem_type, classes.id2label[2]) == ("single_label_classification", "so")
    assert (numbers.problem_type, numbers.num_labels) == ("regression", 1)
