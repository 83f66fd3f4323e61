"""A mask selector of another package in a study: one class, found by entry point and by path."""

from __future__ import annotations

import sys
from pathlib import Path

import plugin_samples
import pytest
import yaml
from stream_samples import make_lab, only, reading

from streamlab.home.folder import Home
from streamlab.study.results import Results
from streamlab.study.runner import ordered, run_study
from streamlab.study.study import load_study

MODULE = """
import torch
from streamlab.methods.masks.selection import MaskSelector, Selection

class FirstEntries(MaskSelector):
    '''Train the first entries of one tensor.'''

    name: str = "first"
    tensor: int = 0

    def select(self, job, k):
        positions = [torch.arange(0) for _ in job.layout.sizes]
        positions[self.tensor] = torch.arange(k)
        return Selection(positions, details={"tensor": self.tensor})
"""


@pytest.mark.parametrize("name", ["first", "mask_lab:FirstEntries"])
def test_a_selector_of_another_package_is_tuned_and_recorded_in_a_study(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin_samples.install(
        tmp_path,
        package="mask-lab",
        entry_points="first = mask_lab:FirstEntries",
        group="streamlab.masks",
        module=MODULE,
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mask_lab", raising=False)
    lab = make_lab(tmp_path)
    scenario = lab.tree()
    study = {
        "version": 1,
        "name": "foreign",
        "seeds": [1],
        "reference": "first",
        "shared": {
            "base": scenario["base"],
            "data": scenario["data"],
            "defaults": {"training": scenario["defaults"]["training"]},
        },
        "tasks": only("mood")["tasks"],
        "methods": {
            "first": {
                "method": {"name": "fixed_mask", "mask": {"name": name, "tensor": 0}},
                "sizes": {"method.target_density": [0.01]},
                "tune": {"method.mask.tensor": [0, 1], "method.learning_rate": [1e-2]},
            }
        },
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    loaded, home = load_study(path), Home(tmp_path / "home")

    for _ in run_study(loaded, home.path, registry_url=home.registry_url):
        pass

    with reading(home) as registry:
        results = Results(registry)
        cells = list(ordered(loaded, results))
        assert [results.of(cell).state for cell in cells] == ["done", "done"]
        (row,) = loaded.rows()
        choice = results.choose(loaded, row, "mood")
        assert choice.is_final
        tensors = set()
        for cell in cells:
            (arrival,) = registry.arrivals.list(run=results.of(cell).run)
            tensors.add(arrival.details.reported.training["tensor"])
        assert tensors == {0, 1}
