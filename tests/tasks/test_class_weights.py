"""Class weights: what is asked for, as the weights of the loss over the training examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamlab.errors import DataError
from streamlab.tasks.examples import TaskData
from streamlab.tasks.load import load_task
from streamlab.tasks.settings import DataSettings, TaskSettings
from streamlab.tasks.sources.hub import HubReach

SKEWED = ["rare"] * 10 + ["common"] * 110


def load(folder: Path, given: list[Any], **settings: Any) -> TaskData:
    for split in ("train", "dev"):
        lines = (json.dumps({"text": f"{split} {i}", "label": x}) for i, x in enumerate(given))
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return load_task(
        "mine",
        TaskSettings.model_validate({"dataset": "mine", "files": {"folder": "."}, **settings}),
        DataSettings(sources=()),
        seed=1,
        hub=HubReach(environment={"HF_HUB_OFFLINE": "1"}),
        base_folder=folder,
    )


def of_training_examples(task: TaskData) -> np.ndarray:
    assert task.class_weights is not None
    return np.array([task.class_weights[int(example.label)] for example in task.train])


def test_without_the_setting_no_class_has_a_weight(tmp_path: Path) -> None:
    assert load(tmp_path, SKEWED).class_weights is None


def test_balanced_gives_every_class_the_same_total_weight(tmp_path: Path) -> None:
    task = load(tmp_path, SKEWED, class_weights="balanced")

    labels = np.array([example.label for example in task.train])
    weights = of_training_examples(task)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())
    assert weights.mean() == pytest.approx(1)


def test_balanced_is_what_scikit_learn_calls_so(tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    task = load(tmp_path, ["a"] * 5 + ["b"] * 30 + ["c"] * 85, class_weights="balanced")

    labels = np.array([example.label for example in task.train])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert task.class_weights == pytest.approx(tuple(expected))


def test_a_list_keeps_its_ratios_and_is_scaled_to_a_mean_of_one(tmp_path: Path) -> None:
    task = load(tmp_path, SKEWED, labels=["rare", "common"], class_weights=[30, 10])

    assert task.class_weights is not None
    assert task.class_weights[0] == pytest.approx(3 * task.class_weights[1])
    assert of_training_examples(task).mean() == pytest.approx(1)


def test_a_class_without_training_examples_has_no_weight(tmp_path: Path) -> None:
    task = load(tmp_path, SKEWED, labels=["rare", "never", "common"], class_weights="balanced")

    assert task.named_class_weights is not None
    assert task.named_class_weights["never"] == 0
    assert of_training_examples(task).mean() == pytest.approx(1)


def test_a_list_that_does_not_fit_the_classes_found_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 3 numbers for 2 classes \(common, rare\); give one"):
        load(tmp_path, SKEWED, class_weights=[1, 2, 3])


def test_a_regression_that_only_its_folder_states_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"kind": "regression"}', encoding="utf-8")

    with pytest.raises(DataError, match="of a regression, which has no `class_weights`"):
        load(tmp_path, [i / 10 for i in range(50)], class_weights="balanced")


def test_a_class_that_no_training_example_has_is_said(tmp_path: Path) -> None:
    task = load(tmp_path, SKEWED, labels=["common", "rare", "never"])

    assert "no training example of never" in task.source.detail
