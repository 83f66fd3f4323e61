from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamlab.errors import DataError, SourceError
from streamlab.tasks.settings import TaskFiles
from streamlab.tasks.sources.api import RawData, Unavailable
from streamlab.tasks.sources.local_files import read_from_folder, read_own_files, read_task_folder


def write(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text, "label": n % 2}) for n, text in enumerate(texts)]
    path.write_text("\n".join(lines), encoding="utf-8")


def texts_of(raw: RawData | Unavailable) -> list[str]:
    assert isinstance(raw, RawData)
    assert raw.dev is not None
    return [record["text"] for record in (*raw.train.records, *raw.dev.records)]


def test_a_task_is_found_by_the_last_part_of_its_name(tmp_path: Path) -> None:
    write(tmp_path / "sst2" / "train.jsonl", "a")
    write(tmp_path / "sst2" / "dev.jsonl", "b")

    assert texts_of(read_from_folder(tmp_path, "glue/sst2")) == ["a", "b"]


def test_a_task_under_its_whole_name_comes_first(tmp_path: Path) -> None:
    for folder in ("sst2", "glue/sst2"):
        write(tmp_path / folder / "train.jsonl", folder)
        write(tmp_path / folder / "dev.jsonl", folder)

    assert texts_of(read_from_folder(tmp_path, "glue/sst2")) == ["glue/sst2"] * 2


def test_a_folder_without_the_task_is_no_error(tmp_path: Path) -> None:
    found = read_from_folder(tmp_path, "glue/sst2")

    assert isinstance(found, Unavailable)
    assert "no sub-folder for 'glue/sst2'" in found.reason


def test_a_data_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'.*typo' does not exist\. Correct the path"):
        read_from_folder(tmp_path / "typo", "glue/sst2")


@pytest.mark.parametrize("dev", ["dev", "dev_matched", "validation", "validation_matched"])
def test_every_usual_name_of_a_dev_split_is_known(tmp_path: Path, dev: str) -> None:
    write(tmp_path / "train.jsonl", "a")
    write(tmp_path / f"{dev}.jsonl", "b")
    write(tmp_path / "test.jsonl", "c")
    write(tmp_path / "train_heldout.jsonl", "d")

    raw = read_task_folder(tmp_path)

    assert texts_of(raw) == ["a", "b"]
    assert raw.detail == f"{tmp_path}: train.jsonl, {dev}.jsonl"


def test_reporting_on_test_is_said(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", "a")
    write(tmp_path / "test.jsonl", "c")

    raw = read_task_folder(tmp_path)

    assert texts_of(raw) == ["a", "c"]
    assert raw.detail.endswith("; reported on `test`, for there is no dev split")


def test_a_train_split_alone_leaves_dev_open(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", "a")

    assert read_task_folder(tmp_path).dev is None


def test_splits_may_be_folders_of_class_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("neg", "pos"):
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / "1.txt").write_text(f"{split} {label}")

    assert texts_of(read_task_folder(tmp_path)) == [
        "train neg",
        "train pos",
        "test neg",
        "test pos",
    ]


def test_a_saved_folder_of_several_splits_is_a_task(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    names = ("train", "validation", "test")
    splits = {name: Dataset.from_dict({"text": [name], "label": [0]}) for name in names}
    DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    DatasetDict({"tren": splits["train"]}).save_to_disk(str(tmp_path / "odd"))

    assert texts_of(read_task_folder(tmp_path / "saved")) == ["train", "validation"]
    with pytest.raises(DataError, match="no split `train`; there are: tren"):
        read_task_folder(tmp_path / "odd")


def test_a_folder_without_train_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "dev.jsonl", "b")

    with pytest.raises(DataError, match="has no train split"):
        read_task_folder(tmp_path)


def test_meta_gives_kind_and_labels_and_may_say_more(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", "a")
    meta = {"kind": "classification", "labels": ["x", "y"], "licence": "own"}
    (tmp_path / "meta.json").write_text(json.dumps(meta))

    raw = read_task_folder(tmp_path)

    assert raw.task_kind == "classification"
    assert raw.train.class_names("label") == ("x", "y")


@pytest.mark.parametrize(
    "meta",
    [
        [],
        {"kind": "ranking"},
        {"kind": {}},
        {"labels": "xy"},
        {"labels": ["x"]},
        {"labels": ["x", "x"]},
        {"labels": ["x", 1]},
        {"labels": []},
    ],
)
def test_a_meta_that_makes_no_sense_is_refused(tmp_path: Path, meta: Any) -> None:
    write(tmp_path / "train.jsonl", "a")
    (tmp_path / "meta.json").write_text(json.dumps(meta))

    with pytest.raises(DataError, match=r"meta\.json' must hold"):
        read_task_folder(tmp_path)


def test_a_meta_that_is_no_json_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", "a")
    (tmp_path / "meta.json").write_text("{")

    with pytest.raises(DataError, match=r"meta\.json' must hold .*: [Ii]nvalid JSON"):
        read_task_folder(tmp_path)


def test_own_paths_start_from_the_scenarios_folder(tmp_path: Path) -> None:
    write(tmp_path / "rows" / "a.jsonl", "a")
    write(tmp_path / "rows" / "b.jsonl", "b")

    raw = read_own_files(TaskFiles(train="rows/a.jsonl", dev="rows/b.jsonl"), tmp_path)

    assert texts_of(raw) == ["a", "b"]


def test_own_test_rows_are_reported_on_only_without_dev(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.jsonl", name)
    both = TaskFiles(train="a.jsonl", dev="b.jsonl", test="c.jsonl")
    only = TaskFiles(train="a.jsonl", test="c.jsonl")

    assert texts_of(read_own_files(both, tmp_path)) == ["a", "b"]
    assert texts_of(read_own_files(only, tmp_path)) == ["a", "c"]
    assert "reported on `test`" in read_own_files(only, tmp_path).detail


def test_an_own_folder_is_one_task(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "train.jsonl", "a")
    write(tmp_path / "mine" / "dev.jsonl", "b")

    assert texts_of(read_own_files(TaskFiles(folder="mine"), tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("files", [TaskFiles(folder="typo"), TaskFiles(train="typo.jsonl")])
def test_an_own_path_that_leads_nowhere_is_an_error(tmp_path: Path, files: TaskFiles) -> None:
    with pytest.raises(SourceError, match=r"typo.*does not exist"):
        read_own_files(files, tmp_path)
