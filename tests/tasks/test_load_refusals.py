from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from streamlab.errors import DataError
from streamlab.tasks.examples import TaskData
from streamlab.tasks.load import load_task
from streamlab.tasks.settings import DataSettings, TaskSettings
from streamlab.tasks.sources.hub import HubReach


def write(folder: Path, split: str, labels: list[Any], start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"text": f"text {number}", "label": label})
        for number, label in enumerate(labels, start)
    ]
    (folder / f"{split}.jsonl").write_text("\n".join(lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "sst2", "train", [0, 1] * 100)
    write(tmp_path / "sst2", "dev", [0, 1] * 20, start=1000)
    return tmp_path


def load(
    base_folder: Path,
    sources: list[Any],
    *,
    seed: int = 1,
    environment: Mapping[str, str] | None = None,
    data: Mapping[str, Any] | None = None,
    **settings: Any,
) -> TaskData:
    return load_task(
        "reviews",
        TaskSettings.model_validate({"dataset": "glue/sst2", **settings}),
        DataSettings.model_validate({"sources": sources, **(data or {})}),
        seed=seed,
        hub=HubReach(environment={"HF_HUB_OFFLINE": "1"}, cache=base_folder / "cache"),
        base_folder=base_folder,
        environment=environment or {},
    )


def test_a_metric_of_the_other_kind_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"`reviews` is a classification.*'pearson'"):
        load(folder, [{"files": "."}], metric="pearson")


def test_labels_for_a_regression_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'glue/stsb' cannot be used: a regression has no"):
        load(tmp_path, ["synthetic"], dataset="glue/stsb", labels=["low", "high"])


@pytest.mark.parametrize(
    ("split", "labels", "fact"),
    [
        ("train", [1, 1, 1], "every label is 'positive', so nothing can be learnt"),
        ("train", [], "is empty"),
        ("dev", [], "is empty"),
        ("train", [0, 1, 2], "is 2, which is out of range; known: 'negative' (0), 'positive' (1)"),
        ("dev", [0, "good"], "is 'good', which is unknown"),
        ("dev", [-1, -1], "not published"),
        ("train", [0, None], "is missing"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused_in_one_paragraph(
    folder: Path, split: str, labels: list[Any], fact: str
) -> None:
    write(folder / "sst2", split, labels)

    with pytest.raises(DataError) as caught:
        load(folder, [{"files": "."}, "synthetic"])

    assert fact in str(caught.value)
    assert f"{split}.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("split", "labels", "fact"),
    [
        ("train", [1.0, "high"], "'high'; regression needs a finite number"),
        ("train", [1.0, float("nan")], "is missing"),
        ("train", [2.0, 2.0], "every label is 2.0"),
        ("dev", [-1.0, -1.0, -1.0], "Use a split with published labels"),
    ],
)
def test_numbers_that_cannot_be_learnt_from_are_refused(
    tmp_path: Path, split: str, labels: list[Any], fact: str
) -> None:
    for name in ("train", "dev"):
        write(tmp_path / "mine", name, labels if name == split else [0.0, 1.0, 2.0, 3.0])

    with pytest.raises(DataError) as caught:
        load(tmp_path, [{"files": "."}], dataset="mine", kind="regression")

    assert fact in str(caught.value)


def test_labels_that_are_fractions_ask_for_regression(tmp_path: Path) -> None:
    write(tmp_path / "mine", "train", [0.5, 1.5])

    with pytest.raises(DataError, match=r"'label' of .* is 0.5, .*kind: regression"):
        load(tmp_path, [{"files": "."}], dataset="mine")


def test_drawing_a_single_class_says_what_to_raise(tmp_path: Path) -> None:
    write(tmp_path / "sst2", "train", [0] * 60 + [1])
    write(tmp_path / "sst2", "dev", [0, 1])

    with pytest.raises(DataError, match=r"The 2 examples .*seed 1.*Raise `max_train_examples`"):
        load(tmp_path, [{"files": "."}], max_train_examples=2)
