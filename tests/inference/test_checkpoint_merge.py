"""A diff file merged into its base's checkpoint one tensor at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from base_kinds import save_kind
from stream_samples import Lab
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaModel

from streamlab import DiffVector
from streamlab.base import BaseSettings
from streamlab.checkpoint import StoredTensors, open_checkpoint
from streamlab.diff.apply import apply, changed_tensor
from streamlab.diff.layout import Layout
from streamlab.diff.vector import Mode, SparseTensor
from streamlab.errors import BaseMismatchError, DiffError, UsageError
from streamlab.inference import checkpoint_merge
from streamlab.inference.checkpoint_diff import write_checkpoint_diff
from streamlab.inference.checkpoint_merge import merge_file

if TYPE_CHECKING:
    from streamlab.library.home import OpenHome

MEGABYTE = 1 << 20


def named(path: Path) -> BaseSettings:
    return BaseSettings(model=str(path))


def weights(folder: Path) -> dict[str, Any]:
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto")
    return dict(model.named_parameters())


@pytest.mark.parametrize("kind", ["BERT", "RoBERTa", "DeBERTa-v2", "Llama", "GPT-2"])
def test_base_and_exact_file_give_the_tuned_checkpoint(kind: str, tmp_path: Path) -> None:
    save_kind(tmp_path / "base", kind)
    save_kind(tmp_path / "tuned", kind, head="ForSequenceClassification", seed=1)
    path = tmp_path / "x.sldiff"
    write_checkpoint_diff(named(tmp_path / "base"), named(tmp_path / "tuned"), path, exact=True)

    made = merge_file(named(tmp_path / "base"), path.read_bytes(), tmp_path / "merged")

    found, expected = weights(made.folder), weights(tmp_path / "tuned")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert made.model_class == "AutoModelForSequenceClassification"


def test_a_file_of_a_run_gives_what_merging_its_task_gives(
    lab: Lab, opened: OpenHome, tmp_path: Path
) -> None:
    task = opened.task("mood")

    made = merge_file(named(lab.base), task.data(), tmp_path / "by-tensor")

    with task.applied(opened.load_base()) as served:
        expected = dict(served.model.named_parameters())
        found = weights(made.folder)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert made.n_changed == served.on.n_changed
    config = json.loads((made.folder / "config.json").read_text(encoding="utf-8"))
    assert config["streamlab"]["task"] == "mood"
    assert config["id2label"] == {"0": "0", "1": "1"}
    assert (made.folder / "tokenizer.json").exists()


def test_a_diff_of_another_base_and_a_full_folder_are_refused(
    lab: Lab, opened: OpenHome, tmp_path: Path
) -> None:
    save_kind(tmp_path / "other", "BERT")
    data = opened.task("mood").data()

    with pytest.raises(BaseMismatchError, match="load that base"):
        merge_file(named(tmp_path / "other"), data, tmp_path / "merged")
    with pytest.raises(UsageError, match="not an empty folder"):
        merge_file(named(lab.base), data, tmp_path)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("mode", ["add", "replace", "prune"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_tensor_is_changed_as_a_model_in_memory(mode: Mode, dtype: torch.dtype) -> None:
    model = torch.nn.Linear(9, 5, bias=False).to(dtype)
    positions = np.arange(0, 45, 4)
    values = np.linspace(-1, 1, len(positions), dtype=np.float32)
    entries = SparseTensor((5, 9), positions, values)
    old = model.weight.detach().clone()
    diff = DiffVector(Layout("aa", ("weight",), ((5, 9),)), (entries,), {}, {}, mode)

    made = changed_tensor(old, entries, mode)

    apply(model, diff)
    assert torch.equal(made, model.weight.detach())


def test_a_new_weight_that_is_not_finite_is_refused() -> None:
    entries = SparseTensor((2,), np.array([1]), np.array([3e38], np.float32))

    with pytest.raises(DiffError, match="NaN or infinite"):
        changed_tensor(torch.full((2,), 3e38), entries, "add")


@pytest.fixture
def decoders(tmp_path: Path) -> tuple[Path, Path]:
    """Save two decoders of 118 MB in files of 16 MB; one of a hundred weights differs."""
    config = LlamaConfig(
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=9,
        num_attention_heads=8,
        vocab_size=2048,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaModel(config)
    model.save_pretrained(tmp_path / "base", max_shard_size="16MB")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[::100] += 0.5
    model.save_pretrained(tmp_path / "tuned", max_shard_size="16MB")
    return tmp_path / "base", tmp_path / "tuned"


def peak_above_now(call: Any) -> int:
    """Return by how much a call raises the peak of resident memory, in bytes."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    try:
        clear.write_text("5", encoding="ascii")  # the peak begins anew
    except OSError:
        pytest.skip("the kernel does not let a process reset its peak of resident memory")
    before = field(status, "VmRSS")
    call()
    return field(status, "VmHWM") - before


def field(status: Path, name: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def test_memory_is_bounded_by_the_largest_tensor_and_the_diff(
    decoders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned = decoders
    path, merged = base.parent / "x.sldiff", base.parent / "merged"
    monkeypatch.setattr(checkpoint_merge, "_MOST_FILE_BYTES", 8 * MEGABYTE)

    diffing = peak_above_now(
        lambda: write_checkpoint_diff(named(base), named(tuned), path, exact=True)
    )
    merging = peak_above_now(lambda: merge_file(named(base), path.read_bytes(), merged))

    assert sum(file.stat().st_size for file in base.glob("*.safetensors")) > 112 * MEGABYTE
    assert (diffing < 60 * MEGABYTE, merging < 60 * MEGABYTE) == (True, True), (diffing, merging)
    assert len(list(merged.glob("model-*.safetensors"))) > 10
    opened = [open_checkpoint(named(folder)).weights.tensors for folder in (merged, tuned)]
    assert all(isinstance(tensors, StoredTensors) for tensors in opened)
    assert all(torch.equal(opened[0][name], opened[1][name]) for name in opened[1])
