"""Baselines that keep something else than a diff or a checkpoint, through a whole run."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open
from stream_samples import Ran, carry_out, make_lab, only

from streamlab.home.store import FolderStore

BASELINES = [
    "lora",
    "bitfit",
    {"name": "peft", "peft": {"type": "ln_tuning"}},
    {"name": "peft", "peft": {"type": "prompt_tuning", "num_virtual_tokens": 2}},
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One task by diff pruning, LoRA, BitFit and two more adapters of PEFT's."""
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    path = lab.scenario(baselines=BASELINES, **only("mood"))
    return carry_out(path, tmp_path_factory.mktemp("baselines") / "home")


def test_an_adapter_is_stored_as_peft_writes_it_and_scored_from_that_file(ran: Ran) -> None:
    _, lora, *_ = ran.outcomes
    assert lora.diff is not None
    store = FolderStore(ran.home.store)

    with safe_open(store.path(lora.diff.digest), framework="pt") as file:
        names, metadata = set(file.keys()), file.metadata()

    assert lora.diff.kind == "adapter"
    assert all(name.startswith("base_model.model.") for name in names)
    assert any(".lora_A." in name for name in names)
    assert lora.diff.file_bytes == store.path(lora.diff.digest).stat().st_size
    assert lora.diff.n_head_entries > 0
    assert json.loads(metadata["adapter_config"])["peft_type"] == "LORA"
    assert lora.diff.metadata_bytes > len(metadata["adapter_config"])
    assert lora.diff.value_type == "fp16"
    assert {score.split for score in lora.scores} == {"dev", "validation"}


def test_biases_are_stored_as_a_diff(ran: Ran) -> None:
    own, _, bitfit, *_ = ran.outcomes
    assert own.diff is not None
    assert bitfit.diff is not None

    assert bitfit.diff.kind == "diff"
    assert 0 < bitfit.diff.n_entries <= bitfit.diff.n_gated
    assert bitfit.record.details.reported.training["selected_tensors"] > 0
    assert bitfit.diff.full_checkpoint_bytes == own.diff.full_checkpoint_bytes


def test_types_of_adapter_are_recorded_under_their_names_and_scored(ran: Ran) -> None:
    *_, norms, prompt = ran.outcomes

    for outcome, name in ((norms, "ln_tuning"), (prompt, "prompt_tuning")):
        assert (outcome.record.method, outcome.record.status) == (name, "finished")
        assert outcome.diff is not None
        assert outcome.diff.kind == "adapter"
        assert outcome.diff.n_entries > 0
        recorded = outcome.record.details.reported.training["adapter"]
        assert recorded["peft_type"] == name.upper()
        assert {score.split for score in outcome.scores} == {"dev", "validation"}
