from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamlab.tasks.examples import TaskData
from streamlab.tasks.glue import GLUE
from streamlab.tasks.load import load_task
from streamlab.tasks.settings import DataSettings, TaskSettings
from streamlab.tasks.sources.hub import HubReach

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        not os.environ.get("STREAMLAB_DATA"), reason="STREAMLAB_DATA is not a folder of real data"
    ),
]


def load(dataset: str) -> TaskData:
    return load_task(
        "real",
        TaskSettings(dataset=dataset),
        DataSettings(max_train_examples=500),
        seed=1,
        hub=HubReach(environment={"HF_HUB_OFFLINE": "1"}),
        base_folder=Path(),
    )


@pytest.mark.parametrize("dataset", GLUE)
def test_a_real_glue_task_loads_with_glues_labels(dataset: str) -> None:
    task = load(dataset)

    assert task.source.kind == "files"
    assert (task.kind, task.labels) == (GLUE[dataset].kind, GLUE[dataset].labels)
    assert {row.text2 is not None for row in task.train} == {GLUE[dataset].text2 is not None}
    assert len(task.train) == 500
    assert len(task.dev) >= 71


def test_a_wnli_pair_that_does_not_follow_is_labelled_so() -> None:
    task = load("glue/wnli")

    (row,) = [row for row in task.dev if row.text2 == "The hair has to be cleaned."]

    assert task.labels[int(row.label)] == "not_entailment"
