"""Class weights through a whole run: recorded, shown, and heeded by the training."""

from __future__ import annotations

import random

import pytest
from stream_samples import BAD, GOOD, THINGS, Lab, Ran, carry_out, make_lab, task, write_rows


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One task of which one example in eight is `rare`, with class weights and without."""
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    write_skewed(lab)
    tasks = {
        "plain": task("plain", files={"folder": "rows/skewed"}),
        "weighed": task("weighed", files={"folder": "rows/skewed"}, class_weights="balanced"),
    }
    path = lab.scenario(tasks=tasks, providers={"press": {"tasks": list(tasks)}})
    return carry_out(path, tmp_path_factory.mktemp("weights") / "home")


def write_skewed(lab: Lab) -> None:
    """Write texts in which the words are of the other class in three of ten."""
    draw = random.Random(3)  # noqa: S311 - rows, not secrets
    for split, count in (("train", 96), ("dev", 96)):
        rows = []
        for number in range(count):
            is_rare = number % 8 == 0
            words = GOOD if is_rare == (draw.random() > 0.3) else BAD
            text = f"{draw.choice(THINGS)} was {draw.choice(words)}"
            rows.append({"text": text, "label": "rare" if is_rare else "common"})
        write_rows(lab.folder / "rows" / "skewed" / f"{split}.jsonl", rows)


def n_answered_rare(ran: Ran, place: int) -> int:
    confusion = ran.outcomes[place].record.details.confusion
    assert confusion is not None
    rare = confusion.labels.index("rare")
    return sum(row[rare] for row in confusion.counts)


def test_balanced_weights_are_recorded_with_the_arrival(ran: Ran) -> None:
    plain, weighed = (outcome.record.details for outcome in ran.outcomes)

    assert plain.class_weights is None
    assert weighed.class_weights is not None
    assert weighed.class_weights["rare"] > 3 * weighed.class_weights["common"]


def test_a_rare_class_is_answered_more_often_where_classes_are_balanced(ran: Ran) -> None:
    assert n_answered_rare(ran, 1) > n_answered_rare(ran, 0)
