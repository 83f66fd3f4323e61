"""Answers row by row: what is written is what is read, and what makes no pair is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from streamlab.errors import UsageError
from streamlab.stats.predictions import (
    PredictionFacts,
    Predictions,
    find_pairs,
    read_predictions,
    write_predictions,
)

FACTS = PredictionFacts(
    task="mood",
    dataset="glue/sst2",
    method="ours",
    seed=1,
    digest="ab" * 32,
    examples_fingerprint="cd" * 32,
    metric="accuracy",
    recorded=0.75,
    score=0.75,
)
LABELS = np.array([0, 1, 1, 0])


def predicted(method: str, seed: int, *predictions: int) -> Predictions:
    return Predictions(
        dataclasses.replace(FACTS, method=method, seed=seed), LABELS, np.array(predictions)
    )


def test_what_is_written_is_read_again_and_the_same_predictions_give_the_same_bytes(
    tmp_path: Path,
) -> None:
    numbers = Predictions(
        dataclasses.replace(FACTS, task="degree", recorded=0.1 + 0.2),
        np.array([0.5, 1.5], np.float32),
        np.array([0.25, 1e-7], np.float32),
    )
    written = [predicted("ours", 1, 0, 1, 1, 1), numbers]

    write_predictions(tmp_path / "first.npz", written)
    read = read_predictions(tmp_path / "first.npz")
    write_predictions(tmp_path / "again.npz", read)

    assert [one.facts for one in read] == [one.facts for one in written]
    for one, other in zip(read, written, strict=True):
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.predictions, other.predictions)
        assert one.predictions.dtype == other.predictions.dtype
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_another_file_is_refused_and_so_is_one_that_is_not_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:50])

    for name in ("other.npz", "cut.npz", "missing.npz"):
        with pytest.raises(UsageError, match="cannot be read as a file of predictions"):
            read_predictions(tmp_path / name)


def test_pairs_are_of_the_seeds_that_both_methods_have_in_order() -> None:
    ours = {seed: predicted("ours", seed, 0, 1, seed % 2, 0) for seed in (3, 1, 2)}
    theirs = {seed: predicted("theirs", seed, 1, 1, 1, seed % 2) for seed in (5, 3, 1)}

    pairs = find_pairs([*ours.values(), *theirs.values()], "ours", "theirs")

    assert pairs is not None
    assert np.array_equal(pairs.this, [ours[1].predictions, ours[3].predictions])
    assert np.array_equal(pairs.other, [theirs[1].predictions, theirs[3].predictions])
    assert find_pairs([ours[2], theirs[5]], "ours", "theirs") is None


def test_predictions_for_other_examples_make_no_pair() -> None:
    one = predicted("ours", 1, 0, 1, 1, 0)
    other = predicted("theirs", 1, 0, 1, 1, 0)
    apart = [
        dataclasses.replace(other, labels=1 - LABELS),
        dataclasses.replace(other, labels=LABELS[:3]),
        dataclasses.replace(other, facts=dataclasses.replace(other.facts, metric="matthews")),
        dataclasses.replace(
            other, facts=dataclasses.replace(other.facts, examples_fingerprint="0")
        ),
    ]

    assert find_pairs([one, other], "ours", "theirs") is not None
    for partner in apart:
        with pytest.raises(UsageError, match="on different examples or by different metrics"):
            find_pairs([one, partner], "ours", "theirs")


def test_one_method_twice_under_a_seed_makes_no_pair() -> None:
    twice = [predicted("ours", 1, 0, 1, 1, 0)] * 2

    with pytest.raises(UsageError, match="trained twice by one method under one seed"):
        find_pairs(twice, "ours", "theirs")
