"""Data sources and metrics from outside the package, in a whole run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugin_samples import install
from stream_samples import Lab, arrivals_in, carry_out, make_lab, only, scores_in

from streamlab.errors import ConfigError, DataError, UsageError
from streamlab.tasks.load import load_task
from streamlab.tasks.metrics import find_metric
from streamlab.tasks.settings import DataSettings, TaskSettings
from streamlab.tasks.sources.hub import HubReach

OUTSIDE = """
from streamlab.tasks.metrics import Metric
from streamlab.tasks.sources.api import RawData, RawSplit, Unavailable

def compute(labels, predictions, n_outputs):
    return float((labels == predictions).mean()) - 0.5

ABOVE_CHANCE = Metric("above_chance", frozenset({"classification"}), compute, (-0.5, 0.5))
ACCURACY = Metric("accuracy", frozenset({"classification"}), compute)
TOO_LARGE = Metric("too_large", frozenset({"classification"}), lambda *_: 7.0)

def records(n):
    return [{"text": ["the film was good", "the film was bad"][i % 2], "label": i % 2}
            for i in range(n)]

def colours(request):
    if request.task.dataset != "colours":
        return Unavailable("Only colours are here.")
    return RawData(
        detail=f"made from {request.argument!r}",
        train=RawSplit("colours train", records(48)),
        dev=RawSplit("colours dev", records(16)),
    )

def nothing(request):
    return None
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("outside", None)


@pytest.mark.parametrize("by", ["entry point", "import path"])
def test_a_metric_and_a_data_source_from_outside_carry_a_run(lab: Lab, site: Path, by: str) -> None:
    source, metric = "outside:colours", "outside:ABOVE_CHANCE"
    (site / "outside.py").write_text(OUTSIDE)
    if by == "entry point":
        install(site, package="sources", entry_points=f"mine = {source}", group="streamlab.sources")
        install(site, package="metrics", entry_points=f"mine = {metric}", group="streamlab.metrics")
        source = metric = "mine"
    task = {"dataset": "colours", "metric": [metric, "accuracy"]}
    path = lab.scenario(
        name=by.replace(" ", "_"),
        **only("mood") | {"tasks": {"mood": task}},
        data={"sources": [{"files": "rows"}, {source: {"shade": 3}}]},
    )

    home = carry_out(path, site / "home").home

    (arrival,) = arrivals_in(home)
    assert (arrival.source, arrival.status) == (source, "finished")
    assert (arrival.source_detail or "").startswith("made from {'shade': 3}")
    found = {s.metric: s for s in scores_in(home) if s.split == "dev"}
    assert set(found) == {"above_chance", "accuracy"}
    assert found["above_chance"].is_primary
    assert found["above_chance"].value == pytest.approx(found["accuracy"].value - 0.5)


def load(name: str, **settings: Any) -> None:
    load_task(
        "mood",
        TaskSettings.model_validate({"dataset": "colours", **settings}),
        DataSettings.model_validate({"sources": [name]}),
        seed=1,
        hub=HubReach(environment={"HF_HUB_OFFLINE": "1"}),
        base_folder=Path(),
    )


def test_a_source_that_returns_no_records_is_refused(site: Path) -> None:
    (site / "outside.py").write_text(OUTSIDE)

    with pytest.raises(DataError, match="'outside:nothing' returned NoneType, and must return"):
        load("outside:nothing")


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("outside:ACCURACY", "calls itself 'accuracy', as one of streamlab's does"),
        ("outside:compute", "is function, and must be a `streamlab.tasks.metrics.Metric`"),
        ("outside:NONE", "cannot be loaded"),
    ],
)
def test_a_plug_in_that_is_not_a_metric_of_its_own_is_refused(
    site: Path, name: str, fact: str
) -> None:
    (site / "outside.py").write_text(OUTSIDE)

    with pytest.raises(UsageError, match=fact):
        find_metric(name)


def test_a_metric_out_of_its_bounds_is_refused(site: Path) -> None:
    import numpy as np

    (site / "outside.py").write_text(OUTSIDE)

    with pytest.raises(DataError, match=r"`too_large` returned 7\.0, and its scores are from 0"):
        find_metric("outside:TOO_LARGE")(np.array([1]), np.array([1]), 2)


def test_an_unknown_source_in_a_scenario_names_the_nearest(lab: Lab, tmp_path: Path) -> None:
    path = lab.scenario(name="typo", **only("mood"), data={"sources": ["hubb"]})

    with pytest.raises(ConfigError, match=r"data\.sources\.0: unknown data source 'hubb'\. Did"):
        carry_out(path, tmp_path / "home")
