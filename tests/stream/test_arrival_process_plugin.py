"""An arrival process of another package: found by entry point and import path, run end to end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stream_samples import Lab, carry_out, only

from streamlab.errors import ConfigError, UsageError
from streamlab.stream.scenario import load_scenario, resolve_scenario
from streamlab.units import DAY_US

SOURCE = """
import numpy as np
from streamlab.arrivals.arrival_processes import ArrivalProcess
from streamlab.config import Settings

class Weekly(ArrivalProcess):
    process: str = "weekly"
    weekday: int = 0

    def days(self, n, rng):
        return self.weekday + 7.0 * np.arange(n)

class Backwards(ArrivalProcess):
    process: str = "backwards"

    def days(self, n, rng):
        return np.arange(n, dtype=float)[::-1]

class Incomplete(ArrivalProcess):
    process: str = "incomplete"

class Unrelated(Settings):
    process: str = "unrelated"
"""
NAMES = ("weekly", "other_clock:Weekly")  # an entry point and an import path


@pytest.fixture(autouse=True)
def _package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install a package with an arrival process, as pip would."""
    site = tmp_path_factory.mktemp("site")
    (site / "other_clock.py").write_text(SOURCE)
    info = site / "other_clock-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-clock\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[streamlab.arrival_processes]\nweekly = other_clock:Weekly\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        yield
    sys.modules.pop("other_clock", None)


def scenario(lab: Lab, arrivals: object, *names: str) -> Path:
    tree = lab.tree(name="foreign", **only(*names))
    tree["defaults"]["method"] = {"name": "head_only"}
    tree["providers"]["press"]["arrivals"] = arrivals
    return lab.write(tree)


@pytest.mark.parametrize("name", NAMES)
def test_tasks_arrive_by_a_process_of_another_package(name: str, lab: Lab, tmp_path: Path) -> None:
    path = scenario(lab, {"process": name, "weekday": 2}, "mood", "degree")

    outcomes = carry_out(path, tmp_path / "home").outcomes

    found = [(outcome.record.task, outcome.record.arrived_us) for outcome in outcomes]
    assert found == [("mood", 2 * DAY_US), ("degree", 9 * DAY_US)]
    assert {outcome.record.status for outcome in outcomes} == {"finished"}


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_are_resolved_and_read_again(name: str, lab: Lab, tmp_path: Path) -> None:
    first = load_scenario(scenario(lab, name, "mood"))

    again = resolve_scenario(dict(first.resolved), origin="again", folder=tmp_path)

    assert first.resolved["providers"]["press"]["arrivals"] == {"process": name, "weekday": 0}
    assert again.digest == first.digest
    assert again.scenario.providers == first.scenario.providers


@pytest.mark.parametrize(
    ("arrivals", "problem"),
    [
        ({"process": "weekly", "weekdy": 1}, "arrivals.weekdy: unknown key"),
        ({"process": "weekly", "weekday": "x"}, "arrivals.weekday: must be a whole number"),
        ({"weekday": 1}, "arrivals.process: is required and missing."),
        (3, "arrivals: must be a name or a mapping with the key `process`"),
        ("weekli", "`weekly`"),
        ("other_clock:Missing", "failed with AttributeError"),
        ("other_clock:Incomplete", "lacks `days`"),
        ("other_clock:Unrelated", "must be a subclass of `streamlab.arrivals.arrival_processes."),
    ],
)
def test_a_process_that_cannot_be_used_is_refused_by_name(
    arrivals: object, problem: str, lab: Lab
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_scenario(scenario(lab, arrivals, "mood"))

    (found,) = caught.value.problems
    assert found.startswith("providers.press.arrivals")
    assert problem in found


def test_days_that_do_not_ascend_are_refused_before_anything_is_trained(
    lab: Lab, tmp_path: Path
) -> None:
    path = scenario(lab, "other_clock:Backwards", "mood", "degree")

    with pytest.raises(UsageError, match="`other_clock:Backwards` must return 2 ascending days"):
        carry_out(path, tmp_path / "home")
