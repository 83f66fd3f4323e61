"""A method from another package: found by entry point and by import path, run end to end."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from stream_samples import Lab, only, run

from streamlab.errors import ConfigError
from streamlab.methods import MethodSettings
from streamlab.methods.api import Method
from streamlab.stream.scenario import load_scenario, resolve_scenario

SOURCE = """
from dataclasses import replace

import torch
from streamlab.methods.adapter_file import read_adapter, write_adapter
from streamlab.methods import FullFinetuning, Lora
from streamlab.methods.api import Method
from streamlab.methods.fixed_mask import PrunedMethod
from streamlab.methods.masks.selection import Selection, top_k

class RandomMask(PrunedMethod):
    name: str = "random_mask"
    mask_seed: int = 0

    def select(self, job, k):
        generator = torch.Generator().manual_seed(self.mask_seed)
        scores = [torch.rand(size, generator=generator) + 1e-3 for size in job.layout.sizes]
        return Selection(top_k(scores, k), details={"mask_seed": self.mask_seed})

def _less(tensors):
    return {name: tensor * (name != "classifier.weight") for name, tensor in tensors.items()}

class ForgetfulDiff(RandomMask):
    name: str = "forgetful"

    def train(self, job):
        result = super().train(job)
        return replace(result, head=_less(result.head))

class ForgetfulCheckpoint(FullFinetuning):
    name: str = "forgetful"

    def train(self, job):
        result = super().train(job)
        return replace(result, head=_less(result.head))

class ForgetfulAdapter(Lora):
    name: str = "forgetful"

    def train(self, job):
        result = super().train(job)
        file = read_adapter(result.data)
        kept = {n: t for n, t in file.tensors.items() if "classifier.weight" not in n}
        return replace(result, data=write_adapter(kept, file.settings))

class Incomplete(Method):
    name: str = "incomplete"

def function(): ...
"""
NAMES = ("random_mask", "other_lab:RandomMask")  # an entry point and an import path


@pytest.fixture(autouse=True)
def _package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install a package with a method, as pip would: a module and its entry points."""
    site = tmp_path_factory.mktemp("site")
    (site / "other_lab.py").write_text(SOURCE)
    info = site / "other_lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[streamlab.methods]\nrandom_mask = other_lab:RandomMask\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        yield
    sys.modules.pop("other_lab", None)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_of_another_package_is_trained_stored_and_recorded(
    name: str, lab: Lab, tmp_path: Path
) -> None:
    tree = lab.tree(name="foreign", **only("mood"))
    tree["defaults"]["method"] = {"name": name, "target_density": 0.01, "mask_seed": 7}
    path = lab.write(tree)

    (outcome,) = run(path, tmp_path / "home")

    assert (outcome.record.method, outcome.record.status) == (name, "finished")
    assert outcome.record.details.reported.training["mask_seed"] == 7
    assert outcome.diff is not None
    method = load_scenario(path).scenario.defaults.method
    # Of the selected embeddings of unused words no change is left to store.
    assert 0 < outcome.diff.n_entries <= round(0.01 * outcome.diff.n_gated)
    assert method.model_dump()["mask_seed"] == 7


@pytest.mark.parametrize("kind", ["Diff", "Checkpoint", "Adapter"])
def test_a_method_that_stores_less_than_it_trains_fails(
    kind: str, lab: Lab, tmp_path: Path
) -> None:
    if kind == "Adapter":
        pytest.importorskip("peft")
    tree = lab.tree(name=f"forgetful-{kind}", **only("mood"))
    tree["baselines"] = [{"name": f"other_lab:Forgetful{kind}"}]
    path = lab.write(tree)

    kept, lost = run(path, tmp_path / "home")

    assert kept.record.details.reported.trained_score is not None
    assert kept.record.details.reported.lost_by_rounding is not None
    assert lost.record.status == "failed"
    assert re.search(
        r"does not answer as the model it trained|The adapter lacks `classifier.weight`",
        str(lost.record.reason),
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_of_a_foreign_method_are_resolved_and_read_again(
    name: str, lab: Lab, tmp_path: Path
) -> None:
    tree = lab.tree(name="foreign", **only("mood"), baselines=[name, "head_only"])
    first = load_scenario(lab.write(tree))

    again = resolve_scenario(dict(first.resolved), origin="again", folder=tmp_path)

    assert first.resolved["baselines"][0] == {
        "name": name,
        "label": name,
        "quantize": None,
        "target_density": 0.005,
        "target_bytes": None,
        "fixed_mask_learning_rate": "auto",
        "mask_seed": 0,
    }
    assert again.digest == first.digest
    assert again.scenario.baselines == first.scenario.baselines


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        (
            {"name": "random_mask", "mask_sed": 1},
            "defaults.method.mask_sed: unknown key. Did you mean `mask_seed`?",
        ),
        (
            {"name": "random_mask", "target_density": 2},
            "defaults.method.target_density: must be at most 1, got 2.",
        ),
        ({"target_density": 0.1}, "defaults.method.name: is required and missing."),
        (3, "defaults.method: must be a name or a mapping with the key `name`"),
        ("random_msk", "Did you mean `random_mask` or `fixed_mask`?"),
        ("other_lab:Missing", "failed with AttributeError"),
        (
            "other_lab:Incomplete",
            "defaults.method.name: the class `other_lab:Incomplete` lacks `artifact`, "
            "`expected_entries`, `train`.",
        ),
        (
            "other_lab:function",
            "`other_lab:function` must be a subclass of `streamlab.methods.api.Method`",
        ),
    ],
)
def test_a_method_that_cannot_be_used_is_refused_by_name(
    method: object, problem: str, lab: Lab
) -> None:
    tree = lab.tree(**only("mood"))
    tree["defaults"]["method"] = method

    with pytest.raises(ConfigError) as caught:
        load_scenario(lab.write(tree))

    (found,) = caught.value.problems
    assert found.startswith("defaults.method")
    assert problem in found


def test_a_method_validates_and_dumps_as_its_own_class() -> None:
    adapter: TypeAdapter[Method] = TypeAdapter(MethodSettings)

    method = adapter.validate_python({"name": "random_mask", "mask_seed": 3})

    assert adapter.dump_python(method) == method.model_dump()
    assert adapter.validate_python(method) is method
    assert adapter.validate_json(adapter.dump_json(method)) == method
