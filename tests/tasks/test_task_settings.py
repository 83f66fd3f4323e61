from __future__ import annotations

import pytest

from streamlab.config import validate
from streamlab.errors import ConfigError
from streamlab.tasks.settings import DataSettings, TaskSettings


def problems(cls: type, tree: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(cls, tree, origin="s.yaml")
    return str(caught.value)


def test_one_metric_is_a_list_of_one() -> None:
    assert TaskSettings(dataset="glue/sst2", metric="f1").metric == ("f1",)  # type: ignore[arg-type]


def test_an_unknown_metric_is_named_beside_the_known_ones() -> None:
    message = problems(TaskSettings, {"dataset": "glue/sst2", "metric": "acuracy"})

    assert "metric: unknown metric 'acuracy'. Did you mean `accuracy`" in message
    assert "Known: accuracy, entity_f1, exact_match, f1, macro_f1" in message


@pytest.mark.parametrize("dataset", ["../secrets", "a/../b", "/etc", "", "a//b", "a b", "."])
def test_a_dataset_is_a_name_and_no_path(dataset: str) -> None:
    assert "dataset" in problems(TaskSettings, {"dataset": dataset})


@pytest.mark.parametrize(
    ("tree", "fact"),
    [
        ({"labels": ["no", "no"]}, "given twice"),
        ({"metric": ["f1", "f1"]}, "given twice"),
        ({"labels": ["only"]}, "labels"),
        ({"metric": []}, "metric"),
        ({"kind": "regression", "metric": "f1"}, "pearson, spearman"),
        (
            {"kind": "regression", "labels": ["a", "b"]},
            "a regression has no `labels`; leave them out",
        ),
        (
            {"class_weights": "heavy"},
            "class_weights: must be `balanced` or a list of numbers above 0, one for each class, "
            "got 'heavy'.",
        ),
        ({"class_weights": [1, 0]}, "class_weights: must be `balanced` or a list of numbers"),
        (
            {"class_weights": [1, 2, 3], "labels": ["a", "b"]},
            "`class_weights` has 3 numbers for 2 classes (a, b); give one for each",
        ),
        (
            {"kind": "regression", "class_weights": "balanced"},
            "a regression has no `class_weights`; leave them out",
        ),
        ({"files": {}}, "either `folder`, or `train`"),
        ({"files": {"folder": "a", "train": "b"}}, "either `folder`, or `train`"),
        ({"files": {"folder": "a", "dev": "b"}}, "holds all splits"),
        ({"hub": {"path": "/somewhere/else"}}, "hub.path"),
        ({"columns": {"label_column": "x"}}, "unknown key"),
        ({"dev_share": 0.9}, "dev_share"),
        (
            {"where": {"id": 1e5}},
            "where.id: must be text, a whole number, true or false; write it in",
        ),
        ({"where": {"id": None}}, "where.id: must be text"),
        ({"max_train_examples": 0}, "max_train_examples"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tree: dict[str, object], fact: str) -> None:
    assert fact in problems(TaskSettings, {"dataset": "mine", **tree})


def test_sources_are_words_and_folders_in_order() -> None:
    data = validate(
        DataSettings, {"sources": ["synthetic", {"files": "rows"}, "hub"]}, origin="s.yaml"
    )

    assert data.sources == ("synthetic", {"files": "rows"}, "hub")


@pytest.mark.parametrize(
    ("source", "fact"),
    [
        ("hubb", "unknown data source 'hubb'. Did you mean `hub`?"),
        ({"folder": "x"}, "unknown data source 'folder'"),
        ({"files": 3}, "give the folder as `files: FOLDER`"),
        ("files", "give the folder as `files: FOLDER`"),
        ({"hub": "x"}, "`hub` takes no argument"),
        ({"package": "x"}, "a package is named by a task"),
        ({"files": "x", "hub": None}, "got 2 keys"),
        ("json:decoder", "cannot be called"),
        (3, ""),
        (None, ""),
    ],
)
def test_an_unknown_source_is_refused(source: object, fact: str) -> None:
    found = problems(DataSettings, {"sources": [source]})
    assert "sources.0" in found
    assert fact in found


def test_settings_survive_being_written_down_and_read_again() -> None:
    task = TaskSettings(dataset="mine", labels=("a", "b"), where={"year": 3, "kind": "x"})
    data = DataSettings(sources=({"files": "rows"}, "hub"))

    assert validate(TaskSettings, task.model_dump(mode="json"), origin="s.yaml") == task
    assert validate(DataSettings, data.model_dump(mode="json"), origin="s.yaml") == data
