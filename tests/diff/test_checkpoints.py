"""Diffs as users of `transformers` make, keep and use them, on tiny models of every kind."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    PreTrainedModel,
    RobertaConfig,
)

from streamlab import DiffVector
from streamlab.diff.checkpoints import layout_of
from streamlab.diff.format.container import encode, open_diff
from streamlab.diff.layout import Layout
from streamlab.diff.model_card import CARD_NAME, FILE_NAME
from streamlab.diff.vector import SparseTensor
from streamlab.errors import BaseMismatchError, DiffError, SourceError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 60,
    "max_position_embeddings": 20,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "bert": BertConfig(**SMALL),
    "roberta": RobertaConfig(**SMALL),
    "electra": ElectraConfig(**SMALL, embedding_size=8),
    "deberta": DebertaV2Config(**SMALL, relative_attention=True, pos_att_type=["c2p"]),
    "distilbert": DistilBertConfig(
        dim=16, hidden_dim=24, n_layers=2, n_heads=2, vocab_size=60, max_position_embeddings=20
    ),
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def classifier(kind: str = "bert", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(CONFIGS[kind])
        return model.to(dtype)


def tuned_from(model: PreTrainedModel, *, every: int = 50) -> PreTrainedModel:
    """Move one weight in `every`, to zero, to a negative zero, or a little."""
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in tuned.parameters():
            flat = parameter.view(-1)
            flat[::every] = flat[::every] * 1.25 + 0.01
            flat[1 :: 3 * every] = 0.0
            flat[2 :: 3 * every] = -0.0
    return tuned


def bits(model: PreTrainedModel) -> dict[str, bytes]:
    return {
        name: parameter.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
        for name, parameter in model.named_parameters()
    }


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_exact_diff_gives_the_tuned_model_back_bit_for_bit(kind: str, tmp_path: Path) -> None:
    base = classifier(kind)
    tuned = tuned_from(base)
    path = tmp_path / "diff.sldiff"

    digest = DiffVector.from_models(base, tuned, exact=True).save(path)
    back = DiffVector.load(path, base=base, expected_digest=digest)
    made = copy.deepcopy(base)
    n_changed = back.merge_into(made)

    assert bits(made) == bits(tuned)
    assert 0 < n_changed <= back.n_entries
    assert 0.02 < back.density < 0.06


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_exact_diff_takes_the_narrowest_type_that_holds_every_weight(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    base = classifier(dtype=dtype)
    tuned = tuned_from(base)

    DiffVector.from_models(base, tuned, exact=True).save(tmp_path / "x")
    made = copy.deepcopy(base)
    DiffVector.load(tmp_path / "x", base=base).merge_into(made)

    expected = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    assert open_diff((tmp_path / "x").read_bytes()).header.value_type == expected
    assert bits(made) == bits(tuned)


def test_a_diff_to_add_is_the_difference_and_comes_close() -> None:
    base = classifier()
    tuned = tuned_from(base)

    diff = DiffVector.from_models(base, tuned, task={"name": "t"})
    made = copy.deepcopy(base)
    diff.merge_into(made)

    assert (diff.mode, diff.task) == ("add", {"name": "t"})
    for mine, theirs in zip(made.parameters(), tuned.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_headless_base_and_a_classifier_on_it_have_one_layout(kind: str) -> None:
    whole = classifier(kind)
    headless = AutoModel.from_config(whole.config)
    headless.load_state_dict(whole.base_model.state_dict(), strict=False)
    tuned = tuned_from(whole)

    assert layout_of(headless) == layout_of(whole)
    diff = DiffVector.from_models(headless, tuned, exact=True)
    assert diff.layout == layout_of(whole)
    assert set(diff.head) == set(dict(whole.named_parameters())) - {
        f"{whole.base_model_prefix}.{name}" for name in diff.layout.names
    }


def test_two_headless_models_differ_without_a_head() -> None:
    base = AutoModel.from_config(CONFIGS["bert"])
    tuned = tuned_from(base)

    diff = DiffVector.from_models(base, tuned, exact=True)
    diff.merge_into(base)

    assert diff.head == {}
    assert bits(base) == bits(tuned)


def test_a_change_that_no_classifier_keeps_is_refused() -> None:
    base = AutoModel.from_config(CONFIGS["roberta"])
    tuned = tuned_from(base)

    with pytest.raises(DiffError, match=r"pooler\.dense\.weight` differs"):
        DiffVector.from_models(base, tuned)


def test_models_that_do_not_fit_are_refused() -> None:
    base = classifier()
    wide = AutoModelForSequenceClassification.from_config(BertConfig(**SMALL | {"vocab_size": 61}))
    deep = BertConfig(**SMALL | {"num_hidden_layers": 3})

    with pytest.raises(DiffError, match="changes nothing"):
        DiffVector.from_models(base.base_model, copy.deepcopy(base.base_model))
    with pytest.raises(DiffError, match="shapes must be equal"):
        DiffVector.from_models(base, wide)
    with pytest.raises(DiffError, match="have different architectures"):
        DiffVector.from_models(base, AutoModelForSequenceClassification.from_config(deep))
    with pytest.raises(DiffError, match="an exact diff needs equal dtypes"):
        DiffVector.from_models(base, tuned_from(base).to(torch.bfloat16), exact=True)


def test_a_diff_is_merged_into_its_own_base_only() -> None:
    base = classifier()
    diff = DiffVector.from_models(base, tuned_from(base))

    with pytest.raises(BaseMismatchError):
        diff.merge_into(tuned_from(base, every=7))
    once = copy.deepcopy(base)
    diff.merge_into(once)
    with pytest.raises(BaseMismatchError):
        diff.merge_into(once)


def test_a_folder_holds_the_diff_and_a_card_that_tells_its_digest(tmp_path: Path) -> None:
    base = classifier()
    diff = DiffVector.from_models(base, tuned_from(base), exact=True, task={"name": "sst2"})

    digest = diff.save_pretrained(tmp_path / "sst2")
    back = DiffVector.from_pretrained(tmp_path / "sst2", base=base, expected_digest=digest)

    assert back == diff
    card = (tmp_path / "sst2" / CARD_NAME).read_text(encoding="utf-8")
    assert digest in card
    assert diff.layout.fingerprint in card
    assert sorted(path.name for path in (tmp_path / "sst2").iterdir()) == [CARD_NAME, FILE_NAME]


def test_a_diff_on_the_hub_is_read_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = classifier()
    diff = DiffVector.from_models(base, tuned_from(base))
    commit = "0" * 40
    repository = tmp_path / "models--someone--sst2-diff"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="ascii")
    diff.save_pretrained(repository / "snapshots" / commit, value_type="fp32")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    assert DiffVector.from_pretrained("someone/sst2-diff", base=base) == diff
    with pytest.raises(SourceError, match="cannot be loaded from a repository"):
        DiffVector.from_pretrained("someone/else", base=base)


def test_what_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    base = classifier()
    diff = DiffVector.from_models(base, tuned_from(base))

    with pytest.raises(SourceError, match="No such file"):
        DiffVector.load(tmp_path / "none", base=base)
    (tmp_path / "file").touch()
    for save in (diff.save, diff.save_pretrained):
        with pytest.raises(StoreError, match="cannot be written"):
            save(tmp_path / "file" / "below")
    with pytest.raises(SourceError, match=r"'no such name!' does not exist\. Give a folder"):
        DiffVector.from_pretrained("no such name!", base=base)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "sst2").mkdir()
    with pytest.raises(SourceError, match=r"does not exist\. Did you mean `.*/sst2`"):
        DiffVector.from_pretrained(tmp_path / "sst22", base=base)


def test_weights_that_replace_others_are_never_rounded() -> None:
    layout = Layout("ab" * 32, ("w",), ((4,),))
    values = np.array([0.0, -0.0, 1.0009765625], np.float32)
    tensor = SparseTensor((4,), np.array([0, 1, 3]), values)
    diff = DiffVector(layout, (tensor,), {}, {}, "replace")

    assert diff.n_entries == 3  # a weight that becomes 0 is a change
    for value_type in ("bf16", "int8", "int4"):
        with pytest.raises(DiffError, match="bit for bit"):
            encode(diff, value_type=value_type)
    for value_type in ("fp16", "fp32"):
        encode(diff, value_type=value_type)


@pytest.mark.parametrize("n_labels", [1, 3])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_classifier_that_a_diff_is_merged_into_has_the_labels_of_its_head(
    kind: str, n_labels: int, tmp_path: Path
) -> None:
    base = classifier(kind)
    config = copy.deepcopy(base.config)
    config.num_labels = n_labels
    tuned = AutoModelForSequenceClassification.from_config(config)
    tuned.base_model.load_state_dict(base.base_model.state_dict())
    names = ["bad", "good", "fair"][:n_labels]
    diff = DiffVector.from_models(base, tuned_from(tuned), exact=True, task={"labels": names})

    diff.merge_into(base)

    ids = torch.tensor([[2, 7, 3]])
    labels = torch.zeros(1) if n_labels == 1 else torch.tensor([2])
    assert base(input_ids=ids, labels=labels).logits.numel() == n_labels
    base.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert list(again.config.id2label.values()) == names
    torch.testing.assert_close(again(input_ids=ids).logits, base.eval()(input_ids=ids).logits)


def test_a_headless_model_takes_the_backbone_of_a_diff_alone() -> None:
    base = classifier()
    tuned = tuned_from(base)
    diff = DiffVector.from_models(base, tuned, exact=True)
    headless = base.base_model

    assert diff.head
    assert 0 < diff.merge_into(headless) <= diff.n_entries
    assert bits(headless) == bits(tuned.base_model)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing")
@pytest.mark.parametrize("wrapper", ["module", "adapter"])
def test_a_model_in_a_wrapper_is_refused_by_name(wrapper: str) -> None:
    base = classifier()
    diff = DiffVector.from_models(base, tuned_from(base))
    inside: Any = torch.nn.DataParallel(base)
    if wrapper == "adapter":
        peft = pytest.importorskip("peft")
        inside = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["query"]))

    with pytest.raises(DiffError, match=r"got (DataParallel|PeftModel)\. Give the model inside"):
        diff.merge_into(inside)


def test_a_head_of_another_meaning_gets_no_labels() -> None:
    config = classifier().config
    config.num_labels = 3
    tuned = AutoModelForSequenceClassification.from_config(config)
    choice = AutoModelForMultipleChoice.from_config(config)
    choice.base_model.load_state_dict(tuned.base_model.state_dict())
    diff = DiffVector.from_models(tuned, tuned_from(tuned))
    before = bits(choice)

    with pytest.raises(DiffError, match=r"head of another meaning than one output a label"):
        diff.merge_into(choice)

    assert bits(choice) == before


def test_a_base_whose_pooler_is_drawn_at_every_load_is_refused(tmp_path: Path) -> None:
    AutoModelForMaskedLM.from_config(classifier().config).save_pretrained(tmp_path / "mlm")
    base = AutoModel.from_pretrained(tmp_path / "mlm", dtype="auto")

    with pytest.raises(
        DiffError, match=r"lacks `pooler\.dense\.weight`, which every load draws anew"
    ):
        DiffVector.from_models(base, base)

    base.save_pretrained(tmp_path / "whole")
    whole = AutoModel.from_pretrained(tmp_path / "whole", dtype="auto")
    assert DiffVector.from_models(whole, tuned_from(whole)).n_entries
