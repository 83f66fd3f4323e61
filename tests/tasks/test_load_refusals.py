from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from streamlab.errors import DataError, DataProblemsError, SourceError
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
        ("dev", [0, -1], "not published"),
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

    with pytest.raises(DataError, match=r"line 1: the label in 'label' is 0.5, .*kind: regr"):
        load(tmp_path, [{"files": "."}], dataset="mine")


def test_the_problems_of_both_splits_are_found_at_once_with_file_and_line(folder: Path) -> None:
    write(folder / "sst2", "train", [0, 1, None, 2] * 10)
    write(folder / "sst2", "dev", [0, 1, 7])

    with pytest.raises(DataProblemsError) as caught:
        load(folder, [{"files": "."}])

    places = [problem.partition(":")[0].rpartition("/")[2] for problem in caught.value.problems]
    assert places[:3] == ["train.jsonl, line 3", "train.jsonl, line 4", "train.jsonl, line 7"]
    assert places[-1] == "dev.jsonl, line 3"
    text = str(caught.value)
    assert text.startswith("The data have 21 problems:\n")
    assert "and 10 more problems." in text
    assert text.endswith("(`data.on_bad_example: skip` leaves such examples out.)")


def test_malformed_lines_are_skipped_with_other_bad_examples_where_that_is_asked_for(
    folder: Path,
) -> None:
    with (folder / "sst2" / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"text": "torn\n{"text": "", "label": 1}\n')

    task = load(folder, [{"files": "."}], data={"on_bad_example": "skip"})

    assert task.counts.skipped == 2
    assert "2 bad examples skipped (" in task.source.detail
    assert "train.jsonl, line 201: it is not JSON" in task.source.detail


def test_a_table_whose_header_is_missing_says_how_to_name_its_columns(folder: Path) -> None:
    for split in ("train", "dev"):
        (folder / "sst2" / f"{split}.jsonl").unlink()
        (folder / "sst2" / f"{split}.csv").write_text(6 * "1,good\n0,bad\n", encoding="utf-8")

    with pytest.raises(DataError, match="no header line, name its columns in `header`"):
        load(folder, [{"files": "."}])
    task = load(folder, [{"files": "."}], header=["label", "text"])
    assert [example.text for example in task.dev[:2]] == ["good", "bad"]


def test_drawing_a_single_class_says_what_to_raise(tmp_path: Path) -> None:
    write(tmp_path / "sst2", "train", [0] * 60 + [1])
    write(tmp_path / "sst2", "dev", [0, 1])

    with pytest.raises(DataError, match=r"The 2 examples .*seed 1.*Raise `max_train_examples`"):
        load(tmp_path, [{"files": "."}], max_train_examples=2)


@pytest.mark.parametrize(
    ("hub", "fact"),
    [
        ("reviews", "'reviews' is a folder here. Give `files: {folder: reviews}` in place of"),
        ("mine/reviews", "'mine/reviews' is a folder here."),
        ("mine/revews", "does not exist. Did you mean `mine/reviews`? A folder is given as"),
    ],
)
def test_a_folder_is_never_taken_for_a_dataset_of_the_hub(
    hub: str, fact: str, tmp_path: Path
) -> None:
    for folder in ("reviews", "mine/reviews"):
        (tmp_path / folder).mkdir(parents=True)

    with pytest.raises(SourceError, match=re.escape(fact)):
        load(tmp_path, [], hub={"path": hub})


@pytest.mark.parametrize(
    "own",
    [{"folder": "revews"}, {"train": "revews"}, {"train": "reviews/tran.csv"}],
    ids=["folder", "split", "file"],
)
def test_a_mistyped_path_is_answered_with_what_is_near(own: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "train.csv").touch()

    with pytest.raises(
        SourceError, match=r"does not exist\. Did you mean `.*/(reviews|train.csv)`"
    ):
        load(tmp_path, [], files=own)


def test_a_mistyped_folder_of_tasks_is_answered_with_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()

    with pytest.raises(SourceError, match=r"does not exist\. Did you mean `.*/data`"):
        load(tmp_path, [{"files": "dta"}])
