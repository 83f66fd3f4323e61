from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from streamlab.errors import DataError, SourceError
from streamlab.tasks.examples import TaskData
from streamlab.tasks.load import load_task
from streamlab.tasks.settings import DataSettings, TaskSettings
from streamlab.tasks.sources.hub import HubReach
from streamlab.tasks.synthetic.generator import generate

NAMES = ("negative", "positive")


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


def names(task: TaskData) -> tuple[str, ...]:
    return tuple(metric.name for metric in task.metrics)


def test_the_first_source_that_has_the_task_wins(folder: Path) -> None:
    task = load(folder, ["hub", {"files": "."}, "synthetic"])

    assert task.source.kind == "files"
    assert not task.source.synthetic
    assert [reason.partition(":")[0] for reason in task.tried] == ["hub"]
    assert (task.name, task.dataset, task.labels) == ("reviews", "glue/sst2", NAMES)
    assert (task.kind, names(task), task.n_outputs) == ("classification", ("accuracy",), 2)


def test_the_order_is_the_scenarios(folder: Path) -> None:
    task = load(folder, ["synthetic", {"files": "."}])

    assert task.source.synthetic
    assert task.tried == ()


def test_own_files_come_before_the_common_sources(folder: Path) -> None:
    write(folder / "own", "train", [0, 1] * 10)

    task = load(folder, [{"files": "."}], files={"train": "own/train.jsonl"})

    assert task.source.detail.startswith(str(folder / "own" / "train.jsonl"))


def test_an_unset_folder_is_skipped_and_said(tmp_path: Path) -> None:
    task = load(tmp_path, [{"files": "${ROWS:-}"}, "synthetic"])

    assert task.tried == ("files: `ROWS` is not set, so that no local data is read.",)


def test_an_unset_path_of_its_own_is_skipped_and_said(tmp_path: Path) -> None:
    task = load(tmp_path, ["synthetic"], files={"train": "${ROWS:-}", "dev": "dev.csv"})

    assert task.tried == ("its own files: `ROWS` is not set, so that no local data is read.",)


def test_a_folder_may_be_named_by_a_variable(folder: Path) -> None:
    environment = {"ROWS": str(folder)}

    assert load(Path(), [{"files": "${ROWS:-}"}], environment=environment).source.kind == "files"


def test_a_variable_without_default_must_be_set(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="`ROWS` is not set"):
        load(tmp_path, [{"files": "${ROWS}"}, "synthetic"])


def test_no_source_lists_every_one_tried(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        load(
            tmp_path,
            [{"files": ""}, {"files": "."}, "hub", "synthetic"],
            dataset="mine",
            hub={"path": "me/mine"},
            package="no_such_package/rows.csv",
        )

    message = str(caught.value)
    assert "No source has the task `reviews` (dataset 'mine')" in message
    starts = ["its own hub", "its own package", "files", "files", "hub", "synthetic"]
    lines = [line.strip() for line in message.splitlines()[1:-1]]
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


def test_no_source_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing: no source is named"):
        load(tmp_path, [])


def test_malformed_rows_are_not_passed_over_for_the_next_source(folder: Path) -> None:
    (folder / "sst2" / "train.jsonl").write_text("{")

    with pytest.raises(DataError, match="is not JSON"):
        load(folder, [{"files": "."}, "synthetic"])


def test_a_seed_draws_train_and_validation_and_never_dev(folder: Path) -> None:
    data = {"max_train_examples": 50, "max_eval_examples": 10}
    first, again, other = (
        load(folder, [{"files": "."}], seed=seed, data=data) for seed in (1, 1, 2)
    )

    assert first == again
    assert first.train != other.train
    assert first.validation != other.validation
    assert first.dev == other.dev
    assert (len(first.train), len(first.validation), len(first.dev)) == (50, 32, 10)
    assert first.source == other.source


def test_a_tasks_own_limits_win(folder: Path) -> None:
    data = {"max_train_examples": 50, "max_eval_examples": 10}

    task = load(folder, [{"files": "."}], data=data, max_train_examples=20, max_eval_examples=5)

    assert (len(task.train), len(task.dev)) == (20, 5)


def test_stand_ins_are_one_dataset_for_every_seed(tmp_path: Path) -> None:
    data = {"max_train_examples": 60, "max_eval_examples": 30}
    first, other = (load(tmp_path, ["synthetic"], seed=seed, data=data) for seed in (1, 2))

    assert first.source == other.source
    assert first.train != other.train
    assert (len(first.train), len(first.validation), len(first.dev)) == (60, 30, 30)
    assert first.source.detail == (
        "synthetic data in the shape of glue/sst2, data seed 0, 92 train and 30 dev examples"
    )
    assert first.dev == tuple(generate("glue/sst2", n_train=0, n_dev=30, seed=0)[1])


def test_columns_of_ones_own_do_not_disturb_a_stand_in(tmp_path: Path) -> None:
    task = load(
        tmp_path,
        ["synthetic"],
        columns={"text": "review", "label": "stars"},
        where={"source": "web"},
        max_train_examples=40,
    )

    assert task.source.synthetic


def test_a_stand_in_follows_labels_in_another_order(tmp_path: Path) -> None:
    data = {"max_train_examples": 60, "max_eval_examples": 30}
    plain = load(tmp_path, ["synthetic"], data=data)
    turned = load(tmp_path, ["synthetic"], data=data, labels=["positive", "negative"])

    assert [row.text for row in turned.dev] == [row.text for row in plain.dev]
    assert [1 - row.label for row in turned.dev] == [row.label for row in plain.dev]


def test_wnli_from_files_that_count_the_other_way_is_turned_to_glues_order(tmp_path: Path) -> None:
    write(tmp_path / "wnli", "train", [0, 1] * 20)
    write(tmp_path / "wnli", "dev", [0, 1], start=1000)
    for path in (tmp_path / "wnli").iterdir():
        rows = [json.loads(line) | {"text2": "b"} for line in path.read_text().splitlines()]
        path.write_text("\n".join(map(json.dumps, rows)))
    meta = {"kind": "classification", "labels": ["entailment", "not_entailment"]}
    (tmp_path / "wnli" / "meta.json").write_text(json.dumps(meta))

    task = load(tmp_path, [{"files": "."}], dataset="glue/wnli")

    assert task.labels == ("not_entailment", "entailment")
    assert [row.label for row in task.dev] == [1, 0]


def test_a_folder_describes_a_task_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path / "trec6", "train", [0, 1, 2] * 20)
    write(tmp_path / "trec6", "test", [0, 1, 2], start=1000)
    meta = {"kind": "classification", "labels": ["ABBR", "DESC", "ENTY"]}
    (tmp_path / "trec6" / "meta.json").write_text(json.dumps(meta))

    task = load(tmp_path, [{"files": "."}], dataset="trec6")

    assert (task.labels, task.n_outputs) == (("ABBR", "DESC", "ENTY"), 3)
    assert names(task) == ("accuracy",)
    assert "reported on `test`" in task.source.detail


def test_a_regression_has_one_output_and_is_judged_by_pearson(tmp_path: Path) -> None:
    write(tmp_path / "mine", "train", [n / 3 for n in range(30)])
    write(tmp_path / "mine", "dev", [0.5, 1, 2.5], start=1000)

    task = load(tmp_path, [{"files": "."}], dataset="mine", kind="regression")

    assert (task.n_outputs, task.labels, names(task)) == (1, (), ("pearson",))
    assert [row.label for row in task.dev] == [0.5, 1.0, 2.5]


def test_a_folder_may_say_that_it_is_a_regression(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        write(tmp_path / "mine", split, [0, 1, 2, 3])
    (tmp_path / "mine" / "meta.json").write_text('{"kind": "regression", "labels": null}')

    assert load(tmp_path, [{"files": "."}], dataset="mine").kind == "regression"


@pytest.mark.parametrize(
    ("dataset", "metrics"),
    [
        ("glue/cola", ("matthews",)),
        ("glue/mrpc", ("f1", "accuracy")),
        ("glue/stsb", ("pearson", "spearman")),
    ],
)
def test_a_glue_task_is_judged_as_glue_judges_it(
    tmp_path: Path, dataset: str, metrics: tuple[str, ...]
) -> None:
    data = {"max_train_examples": 40, "max_eval_examples": 20}

    assert names(load(tmp_path, ["synthetic"], data=data, dataset=dataset)) == metrics


def test_the_fingerprint_covers_dev_and_where_train_ends(tmp_path: Path) -> None:
    def fingerprint(train: list[int], dev: list[int]) -> str:
        write(tmp_path / "sst2", "train", train)
        write(tmp_path / "sst2", "dev", dev, start=len(train))
        return load(tmp_path, [{"files": "."}]).source.examples_fingerprint

    found = {
        fingerprint([0, 1, 0, 1], [0, 1]),
        fingerprint([0, 1, 0, 1], [0, 0]),
        fingerprint([0, 1, 0, 1, 0], [1]),
    }

    assert len(found) == 3


def test_tasks_of_equal_rows_do_not_share_a_draw(tmp_path: Path) -> None:
    for dataset in ("one", "two"):
        write(tmp_path / dataset, "train", [0, 1] * 50)
        write(tmp_path / dataset, "dev", [0, 1])

    one, two = (load(tmp_path, [{"files": "."}], dataset=name) for name in ("one", "two"))

    assert one.source.examples_fingerprint == two.source.examples_fingerprint
    assert one.validation != two.validation


def test_dev_rows_that_also_stand_in_train_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "sst2", "train", [0, 1] * 20)
    write(tmp_path / "sst2", "dev", [0, 1] * 5, start=37)

    assert load(tmp_path, [{"files": "."}]).source.detail.endswith(
        "; 3 of 10 dev examples are also in train"
    )


def test_loading_tasks_needs_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, streamlab.tasks.load, streamlab.tasks.batches, streamlab.tasks.synthetic\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn', 'scipy', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("names", [["1", "0"], ["1", "2", "3"], ["b", "1"], ["10", "2", "0"]])
@pytest.mark.parametrize("file_format", ["folder", "parquet"])
def test_the_number_of_a_class_is_a_place_in_the_sources_names(
    tmp_path: Path, names: list[str], file_format: str
) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    places = [place % len(names) for place in range(40)]
    rows = {"text": [f"text {number}" for number in range(40)], "label": places}
    for split in ("train", "dev"):
        dataset = Dataset.from_dict(rows, features=features)
        if file_format == "folder":
            dataset.save_to_disk(str(tmp_path / "mood" / split))
        else:
            dataset.to_parquet(str(tmp_path / "mood" / f"{split}.parquet"))

    task = load(tmp_path, [{"files": "."}], dataset="mood")

    expected = {f"text {number}": names[place] for number, place in enumerate(places)}
    assert {one.text: task.labels[int(one.label)] for one in task.dev} == expected


@pytest.mark.parametrize("labels", [["1", "2", "3"], ["1", "0", "2"]])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_label_is_a_name_where_a_folder_calls_its_classes_by_numbers(
    tmp_path: Path, labels: list[str], as_text: bool
) -> None:
    given = [(str if as_text else int)(label) for label in labels[:2] * 20]
    write(tmp_path / "mood", "train", given)
    write(tmp_path / "mood", "dev", given, start=1000)
    (tmp_path / "mood" / "meta.json").write_text(json.dumps({"labels": labels}))

    task = load(tmp_path, [{"files": "."}], dataset="mood")

    assert [task.labels[int(one.label)] for one in task.dev] == labels[:2] * 20
