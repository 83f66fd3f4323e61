"""The complete examples of the settings page run, on data as they describe them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from manual import EXAMPLES
from stream_samples import Lab, carry_out, make_lab

from streamlab.config import parse_yaml
from streamlab.tasks.types import TASK_TYPES

PATHS = sorted(EXAMPLES.glob("*.yaml"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


def tree_of(path: Path) -> dict[str, Any]:
    return parse_yaml(path.read_text(encoding="utf-8"), origin=path.name)


def write(path: Path, settings: Mapping[str, Any]) -> None:
    """Write 60 records with the columns, labels and header line that a task says."""
    columns = settings["columns"]
    names = settings.get("header") or list(columns.values())
    labels = settings.get("labels") or [1.5, 2.0, 4.5]
    records = [
        dict.fromkeys(names, f"the {('film', 'book')[i % 2]} was good {i}")
        | {columns["label"]: labels[i % len(labels)]}
        for i in range(60)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter={".csv": ",", ".tsv": "\t"}[path.suffix])
        writer.writerows([] if "header" in settings else [names])
        writer.writerows(record.values() for record in records)


def test_every_type_of_task_has_an_example() -> None:
    kinds = {task["kind"] for path in PATHS for task in tree_of(path)["tasks"].values()}

    assert kinds == set(TASK_TYPES)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_an_example_runs_on_data_as_it_describes_them(path: Path, lab: Lab, tmp_path: Path) -> None:
    tree = tree_of(path)
    (settings,) = tree["tasks"].values()
    for file in settings["files"].values():
        write(lab.folder / file, settings)
    tree |= {"base": {"model": str(lab.base)}}
    tree["defaults"]["training"] = lab.tree()["defaults"]["training"]

    ran = carry_out(lab.write(tree), tmp_path / "home")

    assert [outcome.record.status for outcome in ran.outcomes] == ["finished"] * 3
    assert {score.metric for score in ran.outcomes[0].scores} == set(settings["metric"])
