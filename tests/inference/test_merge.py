"""A merged folder answers exactly as base and diff do, and is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from stream_samples import Lab
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from streamlab.errors import StoreError, UsageError
from streamlab.inference import merge as merged
from streamlab.inference.merge import merge_to

if TYPE_CHECKING:
    from streamlab.inference.model import LoadedBase
    from streamlab.inference.stored_task import ServedTask
    from streamlab.library.home import OpenHome


@pytest.mark.parametrize("task", ["mood", "same", "degree"])
def test_the_folder_answers_exactly_as_base_and_diff(
    task: str, lab: Lab, opened: OpenHome, loaded: LoadedBase, tmp_path: Path
) -> None:
    lines = (lab.folder / "rows" / task / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]

    made = merge_to(loaded, opened.task(task), tmp_path / "new" / "model")

    model = AutoModelForSequenceClassification.from_pretrained(made.folder)
    tokenizer = AutoTokenizer.from_pretrained(made.folder)
    texts = [[row[name] for row in rows] for name in ("text", "text2") if name in rows[0]]
    texts[0][0] = "film " * 40  # to be cut
    inputs = tokenizer(*texts, truncation=True, padding=True, return_tensors="pt")
    assert inputs["input_ids"].shape[1] == 16
    with torch.inference_mode():
        answers = model(**inputs).logits
        with opened.task(task).applied(loaded) as served:
            expected = served.model(**inputs).logits
    assert torch.equal(answers, expected)
    assert len(answers.unique()) > 5


def test_the_configuration_names_the_labels_and_where_it_came_from(
    opened: OpenHome, loaded: LoadedBase, tmp_path: Path
) -> None:
    task = opened.task("mood")
    merge_to(loaded, task, tmp_path / "mood")
    merge_to(loaded, opened.task("degree"), tmp_path / "degree")

    mood, degree = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / name).config
        for name in ("mood", "degree")
    )
    assert (mood.num_labels, mood.id2label, mood.label2id) == (
        2,
        {0: "0", 1: "1"},
        {"0": 0, "1": 1},
    )
    assert mood.problem_type == "single_label_classification"
    assert mood.streamlab == {
        "task": "mood",
        "diff": task.artifact.diff.digest,
        "base": loaded.base.fingerprint,
    }
    assert len({path.stat().st_mode for path in (tmp_path / "mood").iterdir()}) == 1
    assert (degree.num_labels, degree.problem_type) == (1, "regression")


def test_the_base_and_its_configuration_stay_as_they_were(
    opened: OpenHome, loaded: LoadedBase, tmp_path: Path
) -> None:
    before = loaded.model.config.to_dict(), loaded.base.config.to_dict()
    longest = loaded.tokenizer.model_max_length

    merge_to(loaded, opened.task("degree"), tmp_path / "model")

    assert (loaded.model.config.to_dict(), loaded.base.config.to_dict()) == before
    assert loaded.tokenizer.model_max_length == longest
    assert loaded.task is None
    loaded.base.check_unchanged()


def test_nothing_is_written_over_but_an_empty_folder_is_filled(
    opened: OpenHome, loaded: LoadedBase, tmp_path: Path
) -> None:
    full, empty, file = tmp_path / "full", tmp_path / "empty", tmp_path / "file"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    empty.mkdir()
    file.write_text("mine")

    for taken in (full, file):
        with pytest.raises(UsageError, match="nothing is overwritten"):
            merge_to(loaded, opened.task("mood"), taken)
    merge_to(loaded, opened.task("mood"), empty)

    assert [path.name for path in full.iterdir()] == ["notes.txt"]
    assert file.read_text() == "mine"
    assert (empty / "config.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]


def test_a_folder_that_cannot_be_written_or_read_back_leaves_nothing(
    opened: OpenHome, loaded: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        merge_to(loaded, opened.task("mood"), tmp_path / "file" / "model")

    def write_and_spoil(served: ServedTask, folder: Path) -> None:
        write(served, folder)
        tensors = load_file(folder / "model.safetensors")
        tensors["classifier.bias"][0] += 1
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    write = merged._write
    monkeypatch.setattr(merged, "_write", write_and_spoil)
    with pytest.raises(StoreError, match="bit for bit"):
        merge_to(loaded, opened.task("mood"), tmp_path / "model")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert loaded.task is None
