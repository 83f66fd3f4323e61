"""The synthetic data as a source of rows: what holds for every one of the nine."""

from __future__ import annotations

from collections import Counter

import pytest

from streamlab.errors import DataError, SourceError
from streamlab.tasks.synthetic.generator import RECIPES, generate

CLASSES = {
    "glue/cola": 2,
    "glue/sst2": 2,
    "glue/mrpc": 2,
    "glue/qqp": 2,
    "glue/mnli": 3,
    "glue/qnli": 2,
    "glue/rte": 2,
    "glue/wnli": 2,
}
SINGLES = {"glue/cola", "glue/sst2"}
EVERY = sorted([*CLASSES, "glue/stsb"])


@pytest.mark.parametrize("dataset", EVERY)
def test_every_glue_task_has_a_stand_in(dataset: str) -> None:
    assert dataset in RECIPES


def test_other_datasets_have_no_stand_in() -> None:
    assert "glue/ax" not in RECIPES
    assert "cola" not in RECIPES


def test_an_unknown_dataset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"'glue/ax'.*`glue/cola`"):
        generate("glue/ax", n_train=1, n_dev=1, seed=0)


@pytest.mark.parametrize("dataset", EVERY)
def test_the_same_arguments_give_the_same_rows(dataset: str) -> None:
    first = generate(dataset, n_train=60, n_dev=30, seed=3)

    assert generate(dataset, n_train=60, n_dev=30, seed=3) == first


@pytest.mark.parametrize("dataset", EVERY)
def test_another_seed_gives_other_rows(dataset: str) -> None:
    train, dev = generate(dataset, n_train=60, n_dev=30, seed=3)
    other_train, other_dev = generate(dataset, n_train=60, n_dev=30, seed=4)

    assert train != other_train
    assert dev != other_dev


@pytest.mark.parametrize("dataset", EVERY)
def test_a_smaller_split_is_the_beginning_of_a_larger_one(dataset: str) -> None:
    train, dev = generate(dataset, n_train=150, n_dev=80, seed=0)
    fewer_train, fewer_dev = generate(dataset, n_train=37, n_dev=11, seed=0)

    assert fewer_train == train[:37]
    assert fewer_dev == dev[:11]


@pytest.mark.parametrize("dataset", EVERY)
def test_no_row_stands_twice_within_or_across_the_splits(dataset: str) -> None:
    train, dev = generate(dataset, n_train=700, n_dev=300, seed=0)

    assert len(train) == 700
    assert len(dev) == 300
    assert len({(row.text, row.text2) for row in train + dev}) == 1000


@pytest.mark.parametrize("dataset", EVERY)
def test_texts_are_short_sentences_in_the_right_number(dataset: str) -> None:
    for row in generate(dataset, n_train=400, n_dev=0, seed=1)[0]:
        assert (row.text2 is None) == (dataset in SINGLES)
        for text in (row.text, row.text2 or row.text):
            assert 3 <= len(text.split()) <= 14
            assert text[0].isupper()
            assert text[-1] in ".?"
            assert "  " not in text


@pytest.mark.parametrize("dataset", CLASSES)
def test_labels_are_whole_numbers_and_balanced(dataset: str) -> None:
    train, dev = generate(dataset, n_train=900, n_dev=300, seed=0)

    wanted = {"glue/cola": (0.4, 0.6), "glue/mrpc": (1 / 3, 2 / 3)}
    n_classes = CLASSES[dataset]
    shares = wanted.get(dataset, (1 / n_classes,) * n_classes)
    for rows in (train, dev):
        counts = Counter(row.label for row in rows)
        assert sorted(counts) == list(range(n_classes))
        assert all(type(row.label) is int for row in rows)
        for label, share in enumerate(shares):
            assert counts[label] / len(rows) == pytest.approx(share, abs=0.02)


def test_grades_are_numbers_from_nought_to_five_spread_over_the_scale() -> None:
    rows, _ = generate("glue/stsb", n_train=900, n_dev=0, seed=0)

    assert all(type(row.label) is float and 0 <= row.label <= 5 for row in rows)
    counts = Counter(round(row.label) for row in rows)
    assert all(counts[grade] / len(rows) == pytest.approx(1 / 6, abs=0.03) for grade in range(6))


def test_a_size_below_nought_is_refused() -> None:
    with pytest.raises(DataError, match=r"`dev`.*-1"):
        generate("glue/cola", n_train=1, n_dev=-1, seed=0)
