"""Baselines that keep something else than a diff or a checkpoint, through a whole run."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open
from stream_samples import Ran, carry_out, make_lab, only

from streamlab.base import load_base
from streamlab.diff.format.container import open_diff
from streamlab.home.store import FolderStore
from streamlab.inference.artifact_kinds import read_artifact
from streamlab.inference.model import logits
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import load_scenario

BASELINES = [
    "lora",
    "bitfit",
    "full_finetuning",
    {"name": "peft", "peft": {"type": "ln_tuning"}},
    {"name": "peft", "peft": {"type": "prompt_tuning", "num_virtual_tokens": 2}},
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One task by diff pruning, LoRA, BitFit, full finetuning and two more adapters of PEFT's."""
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


def test_the_first_of_two_classes_has_no_weights_whatever_the_method(ran: Ran) -> None:
    loaded = load_scenario(ran.path)
    context = RunContext(loaded.scenario, load_base(loaded.scenario.base, seed=1), loaded.folder)

    for outcome in ran.outcomes:
        assert outcome.diff is not None
        task = context.encoded(outcome.arrival)
        model = context.classifiers.clean(task, context.training(outcome.arrival.task))
        data = FolderStore(ran.home.store).get(outcome.diff.digest)
        with read_artifact(outcome.diff.kind, data, context.base).applied_to(model) as served:
            outputs = logits(served.model, task.dev)
        assert outputs.shape[1] == 2
        assert not outputs[:, 0].any()
        assert outputs[:, 1].any()
        if outcome.diff.kind == "diff":
            head = open_diff(data).head.values()
            assert all(tensor.zero_row for tensor in head)
            assert outcome.diff.n_head_entries == 2 * sum(tensor.n_stored for tensor in head)
