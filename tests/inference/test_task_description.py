"""What a file says of its task is checked before anybody relies on it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamlab.errors import DiffError
from streamlab.inference.stored_task import check_head, parse_description

if TYPE_CHECKING:
    from streamlab.diff.vector import DiffVector
    from streamlab.inference.model import LoadedBase
    from streamlab.library.home import OpenHome

DESCRIPTION: dict[str, Any] = {
    "task": "mood", "kind": "classification", "labels": ["0", "1"], "max_length": 16,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["0", "0"]}, "twice"),
        ({"labels": []}, "two `labels` or more"),
        ({"kind": "regression"}, "has no `labels`"),
        ({"kind": "ranking"}, "kind"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": "16"}, "max_length"),
        ({"labels": "01"}, "labels"),
        ({"task": None}, "task"),
    ],
)
def test_what_a_file_says_of_its_task_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DiffError, match=message):
        parse_description(DESCRIPTION | changes)


def test_whether_rows_are_pairs_is_told_by_the_file_else_by_the_catalogue() -> None:
    assert parse_description(DESCRIPTION).takes_pairs is None
    assert parse_description(DESCRIPTION | {"pair": True}).takes_pairs is True
    assert parse_description(DESCRIPTION | {"dataset": "glue/rte"}).takes_pairs is True
    assert parse_description(DESCRIPTION | {"dataset": "glue/sst2"}).takes_pairs is False


def test_only_the_last_layer_of_a_head_has_the_tasks_width(
    opened: OpenHome, loaded: LoadedBase
) -> None:
    diff = opened.task("mood").diff(loaded.base.layout)
    names = ("classifier.dense.weight", "classifier.out.weight", "classifier.out.bias")
    head = {
        names[0]: np.ones((16, 16), np.float32),
        names[1]: np.ones((2, 16), np.float32),
        names[2]: np.ones(2, np.float32),
    }

    check_head(with_head(diff, head), parse_description(DESCRIPTION), names)
    with pytest.raises(DiffError, match=r"classifier\.out\.bias"):
        check_head(
            with_head(diff, head | {names[2]: np.ones(3, np.float32)}),
            parse_description(DESCRIPTION),
            names,
        )


def with_head(diff: DiffVector, head: dict[str, Any]) -> DiffVector:
    return replace(diff, head=head)
