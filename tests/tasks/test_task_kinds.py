"""Tasks of several labels, tags and completions, from records to examples, and their metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nervaluate import Evaluator

from streamlab.errors import DataError, DataProblemsError
from streamlab.tasks.examples import TaskData
from streamlab.tasks.load import load_task
from streamlab.tasks.metrics import find_metric, majority_scores, score
from streamlab.tasks.settings import DataSettings, TaskSettings
from streamlab.tasks.sources.hub import HubReach
from streamlab.tasks.sources.readers import read_split
from streamlab.tasks.types import task_type
from streamlab.tasks.types.token_classification import entities

SETS = [
    {"text": "a b", "labels": ["x", "y"]},
    {"text": "c", "labels": []},
    {"text": "d", "labels": ["y"]},
]
WORDS = [
    {"tokens": ["Ada", "King", "left"], "tags": ["B-PER", "I-PER", "O"]},
    {"tokens": ["Rome"], "tags": ["B-LOC"]},
]
TEXTS = [{"prompt": "one", "completion": "two"}, {"prompt": "two", "completion": "three"}]


def loaded(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> TaskData:
    lines = "".join(json.dumps(row) + "\n" for row in 12 * rows)
    for split in ("train", "dev"):
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    task = TaskSettings.model_validate(
        {"dataset": "mine", "files": {"folder": str(folder)}} | settings
    )
    data = DataSettings(sources=())
    return load_task("mine", task, data, seed=1, hub=HubReach(), base_folder=folder)


@pytest.mark.parametrize(
    ("rows", "kind", "columns"),
    [
        (SETS, "multi_label", "'text' and 'labels'"),
        (WORDS, "tokens", "'tokens' and 'tags'"),
        (TEXTS, "causal_lm", "'prompt' and 'completion'"),
    ],
)
def test_the_kind_that_columns_show_is_used_and_said(
    rows: list[dict[str, Any]], kind: str, columns: str, tmp_path: Path
) -> None:
    task = loaded(tmp_path, rows)

    assert task.kind == kind
    assert f"`kind: {kind}`, by its columns {columns}" in task.source.detail


def test_a_kind_that_is_set_is_not_announced(tmp_path: Path) -> None:
    assert "`kind:" not in loaded(tmp_path, WORDS, kind="tokens").source.detail


def test_several_labels_are_flags_in_the_order_of_the_classes(tmp_path: Path) -> None:
    task = loaded(tmp_path, SETS, labels=["y", "z", "x"])

    assert {example.text: example.label for example in task.dev} == {
        "a b": (1, 0, 1), "c": (0, 0, 0), "d": (1, 0, 0),
    }  # fmt: skip


def test_columns_of_flags_take_the_place_of_a_list(tmp_path: Path) -> None:
    rows = [{"text": "a", "x": 1, "y": 0}, {"text": "b", "x": "0", "y": "true"}]
    task = loaded(tmp_path, rows, kind="multi_label", labels=["x", "y"])

    assert {example.text: example.label for example in task.dev} == {"a": (1, 0), "b": (0, 1)}


XY = {"kind": "multi_label", "labels": ["x", "y"]}
TAGS = {"kind": "tokens", "labels": ["O", "B-X"]}


@pytest.mark.parametrize(
    ("row", "settings", "problem"),
    [
        ({"text": "a", "labels": "x"}, XY, "give a list"),
        ({"text": "a", "labels": ["x", "x"]}, XY, "names a class twice"),
        ({"text": "a", "labels": ["q"]}, XY, "'q', which is unknown"),
        ({"text": "a", "x": 2, "y": 1}, XY, "must be 0 or 1"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, TAGS, "2 words and 1 tags"),
        ({"tokens": [], "tags": []}, TAGS, "a list of words, at least one"),
        ({"tokens": "a", "tags": ["O"]}, TAGS, "a list of words"),
        ({"prompt": "a", "completion": " "}, {}, "is empty"),
    ],
)  # fmt: skip
def test_a_record_that_is_no_example_is_refused_in_a_sentence(
    row: dict[str, Any], settings: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(DataProblemsError, match=problem):
        loaded(tmp_path, [row], **settings)


def test_tags_that_mark_no_entities_are_judged_by_accuracy(tmp_path: Path) -> None:
    rows = [{"tokens": ["he", "left"], "tags": ["PRON", "VERB"]}]

    assert [metric.name for metric in loaded(tmp_path, rows).metrics] == ["token_accuracy"]
    with pytest.raises(DataError, match="mark no entities"):
        loaded(tmp_path, rows, metric="entity_f1")


def test_a_metric_of_which_less_is_better_cannot_come_first() -> None:
    with pytest.raises(ValueError, match="cannot come first"):
        TaskSettings(dataset="mine", metric=("perplexity",))


def test_conll_files_have_a_word_and_its_tag_a_line(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    path.write_text("-DOCSTART- -X- O\n\nAda NNP B-PER\nleft VBD O\n\n\nRome NNP B-LOC\n")

    split = read_split(path)

    assert list(split.records) == [
        {"tokens": ["Ada", "left"], "tags": ["B-PER", "O"]},
        {"tokens": ["Rome"], "tags": ["B-LOC"]},
    ]
    assert list(split.lines) == [3, 7]


def test_a_word_without_a_tag_is_named_by_its_sentence(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    path.write_text("Ada B-PER\nleft\n\nRome B-LOC\n")

    split = read_split(path)

    assert list(split.problems.values()) == [
        f"{path}, line 1: its word 'left' has no tag; put one in the last column."
    ]
    assert [record["tokens"] for record in split.records] == [["Rome"]]


def test_entities_are_those_that_the_library_counts() -> None:
    tags = [["B-PER", "I-PER", "O", "I-LOC"], ["O", "B-LOC", "B-LOC"]]
    names = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    found = [["B-PER", "I-PER", "O", "B-PER"], ["O", "B-LOC", "I-LOC"]]
    labels, predicted = (
        np.array([[*map(names.index, row), *[-100] * (4 - len(row))] for row in rows])
        for rows in (tags, found)
    )
    outputs = np.eye(len(names))[predicted.clip(0)]

    scores = score(task_type("tokens"), [find_metric("entity_f1")], outputs, labels, names=names)

    strict = Evaluator(tags, found, tags=["PER", "LOC"], loader="list").evaluate()["overall"]
    assert scores["entity_f1"] == pytest.approx(strict["strict"].f1) == pytest.approx(2 / 7)
    assert [(one.label, one.text) for one in entities(tags[0], ("a", "b", "c", "d"))] == [
        ("PER", "a b"), ("LOC", "d"),
    ]  # fmt: skip


def test_a_completion_matches_where_every_token_and_its_end_lead() -> None:
    labels = np.array([[4, 3, -100], [5, 6, 3]])
    outputs = np.array([[[-1, 2], [-1, 1], [0, 0]], [[-1, 2], [-2, -1], [-3, 1]]], np.float32)
    names = ("exact_match", "token_accuracy", "perplexity")

    scores = score(task_type("causal_lm"), list(map(find_metric, names)), outputs, labels)

    assert scores == {
        "exact_match": 0.5,
        "token_accuracy": 0.8,
        "perplexity": pytest.approx(np.exp(8 / 5)),
    }


def test_the_majority_of_labels_and_tags_and_of_no_completion() -> None:
    sets, words, texts = map(task_type, ("multi_label", "tokens", "causal_lm"))

    assert sets.majority_answer([(1, 0), (1, 1), (1, 0)]).tolist() == [1, 0]
    assert words.majority_answer([(2, 0, 0), (1,)]) == 0
    assert majority_scores(
        texts, [find_metric("exact_match")], texts.majority_answer(["a"]), np.zeros((1, 2))
    ) == {"exact_match": None}


@pytest.mark.parametrize("kind", ["multi_label", "tokens", "causal_lm"])
def test_a_flipped_label_is_a_wrong_one(kind: Any) -> None:
    right: list[Any] = {
        "multi_label": [(1, 0, 0), (0, 1, 1)],
        "tokens": [(0, 1, 2), (2,)],
        "causal_lm": ["a", "b"],
    }[kind]
    make_wrong = task_type(kind).wrong_labels(right, 3, np.random.default_rng(1))

    for label in right:
        wrong = make_wrong(label)
        assert len(wrong) == len(label)
        assert all(one != other for one, other in zip(wrong, label, strict=True))
