from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from base_kinds import save_kind
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, BertTokenizer

from streamlab import DiffVector
from streamlab.base import BaseSettings, load_base
from streamlab.checkpoint import open_checkpoint
from streamlab.errors import DiffError, SourceError
from streamlab.inference.checkpoint_diff import write_checkpoint_diff

if TYPE_CHECKING:
    from pathlib import Path

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 8,
    "max_position_embeddings": 20,
}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Save a headless base in bf16, and a classifier tuned from it."""
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(BertConfig(**SMALL))
    model = model.to(torch.bfloat16)
    model.bert.save_pretrained(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[::30] += 0.25
    model.save_pretrained(tuned)
    words = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"])
    (tmp_path / "vocab.txt").write_text(words, encoding="utf-8")
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(base)
    return base, tuned


def named(path: Path) -> BaseSettings:
    return BaseSettings(model=str(path))


def test_an_exact_file_turns_one_checkpoint_into_the_other(folders: tuple[Path, Path]) -> None:
    base, tuned = folders
    path = base.parent / "x.sldiff"

    made = write_checkpoint_diff(named(base), named(tuned), path, exact=True)

    model = AutoModelForSequenceClassification.from_pretrained(base, dtype="auto")
    DiffVector.load(path, base=model, expected_digest=made.encoded.digest).merge_into(model)
    expected = AutoModelForSequenceClassification.from_pretrained(tuned, dtype="auto")
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert mine.dtype == torch.bfloat16
        assert torch.equal(mine, theirs)
    assert path.stat().st_size == len(made.encoded.data)
    assert made.diff.layout == load_base(named(base), seed=0).layout


def test_a_file_to_add_comes_close(folders: tuple[Path, Path]) -> None:
    base, tuned = folders

    made = write_checkpoint_diff(named(base), named(tuned), base.parent / "x", exact=False)

    assert made.diff.mode == "add"
    assert made.positions_bound_bytes > 0
    assert made.checkpoint_bytes > len(made.encoded.data)


def test_a_checkpoint_is_loaded_with_its_head_or_without(folders: tuple[Path, Path]) -> None:
    headless, classifier = (open_checkpoint(named(path)).weights.model for path in folders)

    assert type(headless) is type(AutoModel.from_pretrained(folders[0]))
    assert classifier.num_labels == 2


def test_the_same_checkpoint_twice_or_none_at_all_is_refused(folders: tuple[Path, Path]) -> None:
    base, _ = folders
    path = base.parent / "x"

    with pytest.raises(DiffError, match="changes nothing"):
        write_checkpoint_diff(named(base), named(base), path, exact=True)
    with pytest.raises(SourceError, match="not an existing folder"):
        write_checkpoint_diff(named(base), named(base.parent / "none"), path, exact=True)
    with pytest.raises(DiffError, match="bit for bit"):
        write_checkpoint_diff(
            named(base), named(base.parent / "tuned"), path, exact=True, value_type="int4"
        )
    assert not path.exists()


def test_weights_that_a_checkpoint_lacks_are_named_and_not_drawn(tmp_path: Path) -> None:
    save_kind(tmp_path / "mlm", "BERT", head="ForMaskedLM")
    tuned = tmp_path / "tuned"
    save_kind(tuned, "RoBERTa", head="ForSequenceClassification")
    tensors = load_file(tuned / "model.safetensors")
    del tensors["classifier.out_proj.bias"]
    save_file(tensors, tuned / "model.safetensors", {"format": "pt"})

    for name, lost in (("mlm", "bert.pooler.dense.bias"), ("tuned", "classifier.out_proj.bias")):
        path = named(tmp_path / name)
        with pytest.raises(SourceError, match=f"lacks `{lost}`, which would be random numbers"):
            write_checkpoint_diff(path, path, tmp_path / "x", exact=True)
    assert not (tmp_path / "x").exists()


def test_a_head_that_no_classifier_has_is_left_out_and_named(tmp_path: Path) -> None:
    base, tuned = (named(tmp_path / name) for name in ("base", "tuned"))
    save_kind(tmp_path / "base", "RoBERTa", head="ForMaskedLM")
    save_kind(tmp_path / "tuned", "RoBERTa", head="ForMaskedLM", seed=2)

    made = [write_checkpoint_diff(base, tuned, tmp_path / n, exact=True) for n in ("x", "y")]

    assert made[0].left_out[0].startswith("lm_head.")
    assert made[0].encoded.data == made[1].encoded.data
    assert made[0].diff.layout == load_base(base, seed=7).layout
