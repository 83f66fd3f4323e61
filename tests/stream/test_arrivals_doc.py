"""The examples of docs/concepts/arrivals.md are valid scenarios and mean what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from streamlab.arrivals.arrival_processes import BUILTIN, ArrivalProcess
from streamlab.arrivals.service import QueueSettings
from streamlab.config import parse_yaml
from streamlab.plugins import load
from streamlab.stream.scenario import resolve_scenario
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.units import DAY_US

TEXT = (Path(__file__).parents[2] / "docs" / "concepts" / "arrivals.md").read_text(encoding="utf-8")
YAML, CSV = (re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL) for kind in ("yaml", "csv"))


def stream(text: str, folder: Path) -> list[Arrival]:
    tree: dict[str, Any] = {
        "version": 1,
        "name": "doc",
        "base": {"model": "package:somewhere"},
        "tasks": {name: {"dataset": f"glue/{name}"} for name in ("sst2", "cola", "mrpc")},
        **parse_yaml(text, origin="arrivals.md"),
    }
    return arrivals(resolve_scenario(tree, origin="arrivals.md", folder=folder).scenario)


def write_trace(folder: Path) -> None:
    (text,) = CSV
    (folder / "trace.csv").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("number", range(3))
def test_every_example_is_valid(number: int, tmp_path: Path) -> None:
    write_trace(tmp_path)

    assert len(YAML) == 3
    assert {arrival.task for arrival in stream(YAML[number], tmp_path)} == {"sst2", "cola", "mrpc"}


def test_the_first_example_brings_what_its_comment_says(tmp_path: Path) -> None:
    found = [a for a in stream(YAML[0], tmp_path) if a.provider == "reviews_inc"]

    assert [a.task for a in found] == ["sst2", "cola", "sst2", "cola", "sst2"]
    assert [a.version for a in found] == [1, 1, 2, 2, 3]


def test_the_trace_comes_as_it_stands_there(tmp_path: Path) -> None:
    write_trace(tmp_path)

    found = [(a.arrived_us / DAY_US, a.provider, a.task) for a in stream(YAML[1], tmp_path)]

    rows = [line.split(",") for line in CSV[0].splitlines()[1:]]
    assert found == [(float(day), provider, task) for day, provider, task in rows]


def test_every_process_and_service_is_told_of_with_its_settings() -> None:
    rows = {
        row[0]: row for row in re.findall(r"^\| `(\w+)`(?: \(default\))? \|(.*)\|$", TEXT, re.M)
    }
    processes = [load("streamlab.arrival_processes", name, BUILTIN) for name in BUILTIN]
    services = get_args(QueueSettings.model_fields["service"].annotation)

    assert list(rows) == [*BUILTIN, *services]
    for process, name in zip(processes, BUILTIN, strict=True):
        assert isinstance(process, type)
        assert issubclass(process, ArrivalProcess)
        settings = set(process.model_fields) - {"process"}
        assert settings <= set(re.findall(r"`(\w+)`", rows[name][1]))
