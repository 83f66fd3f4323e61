"""The base: loaded, cut, frozen, fingerprinted, and the same under every classifier."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DebertaConfig,
    DebertaModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
)

from streamlab.base import Base, BaseSettings, checkpoint_bytes, load_base, safetensors_header
from streamlab.diff.checkpoints import layout_of
from streamlab.errors import BaseMismatchError, SourceError
from streamlab.locations import Located, weights_digest

Save = Callable[[PreTrainedModel, Path], Path]

DENSE_HEAD = (
    "classifier.dense.weight", "classifier.dense.bias",
    "classifier.out_proj.weight", "classifier.out_proj.bias",
)  # fmt: skip
POOLER = ("pooler.dense.weight", "pooler.dense.bias")
LAST = ("classifier.weight", "classifier.bias")

# Kind: the headless model, whether its pooler is backbone, and the head of its classifier.
KINDS: dict[str, tuple[Callable[[dict[str, Any]], PreTrainedModel], bool, tuple[str, ...]]] = {
    "bert": (lambda s: BertModel(BertConfig(**s)), True, LAST),
    "roberta": (lambda s: RobertaModel(RobertaConfig(**s)), False, DENSE_HEAD),
    "electra": (lambda s: ElectraModel(ElectraConfig(**s, embedding_size=8)), False, DENSE_HEAD),
    "deberta": (lambda s: DebertaModel(DebertaConfig(**s)), False, POOLER + LAST),
    "deberta-v2": (
        lambda s: DebertaV2Model(
            DebertaV2Config(**s, relative_attention=True, pos_att_type=["c2p", "p2c"])
        ),
        False,
        POOLER + LAST,
    ),
    "distilbert": (
        lambda s: DistilBertModel(
            DistilBertConfig(
                dim=16, hidden_dim=24, n_layers=2, n_heads=2, vocab_size=s["vocab_size"],
                max_position_embeddings=20,
            )
        ),
        False,
        ("pre_classifier.weight", "pre_classifier.bias", *LAST),
    ),
}  # fmt: skip


def seeded(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build()


@pytest.fixture(scope="session")
def bert_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_sizes: dict[str, Any], save_model: Save
) -> Path:
    """A checkpoint that has every tensor of the backbone."""
    model = seeded(lambda: BertModel(BertConfig(**tiny_sizes)))
    return save_model(model, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def poolerless_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_sizes: dict[str, Any], save_model: Save
) -> Path:
    """A checkpoint that lacks the pooler, as those of masked-language models do."""
    model = seeded(lambda: BertForMaskedLM(BertConfig(**tiny_sizes)))
    return save_model(model, tmp_path_factory.mktemp("poolerless"))


@pytest.fixture(scope="session")
def bert(bert_folder: Path) -> Base:
    """The checkpoint as a base; no test may write to it."""
    return load(bert_folder)


def load(folder: Path, seed: int = 0, **settings: Any) -> Base:
    return load_base(BaseSettings(model=str(folder), **settings), seed=seed)


@pytest.mark.parametrize("kind", KINDS)
def test_backbone_and_head_are_told_apart_by_comparison(
    kind: str, tiny_sizes: dict[str, Any], save_model: Save, tmp_path: Path
) -> None:
    build, has_pooler, head = KINDS[kind]
    model = seeded(lambda: build(tiny_sizes))

    base = load(save_model(model, tmp_path))

    own = {name: p for name, p in model.named_parameters() if has_pooler or "pooler" not in name}
    assert base.layout.names == tuple(own)
    assert base.layout.shapes == tuple(tuple(p.shape) for p in own.values())
    assert base.head_names == head
    assert base.initialised == ()
    assert base.layout == layout_of(AutoModel.from_pretrained(tmp_path, dtype="auto"))
    assert all(torch.equal(base.tensors[name], p) for name, p in own.items())
    # RoBERTa numbers the positions of tokens from 2.
    assert base.max_length == (18 if kind == "roberta" else 20)
    classifier = base.build(n_outputs=3, seed=1)
    parameters = dict(classifier.named_parameters())
    assert set(parameters) == {*base.full_names.values(), *head}
    assert all(torch.equal(parameters[base.full_names[name]], p) for name, p in own.items())
    inputs = base.tokenizer("w1 w2 w55", return_tensors="pt")
    assert classifier(input_ids=inputs["input_ids"]).logits.shape == (1, 3)


def test_the_tokenizer_beside_the_weights_is_loaded(bert: Base) -> None:
    assert bert.tokenizer("w0 w1 unheard")["input_ids"] == [4, 5, 1]


def test_a_pooler_that_the_checkpoint_lacks_is_drawn_from_the_seed_and_listed(
    poolerless_folder: Path,
) -> None:
    first, again, other = (load(poolerless_folder, seed=seed) for seed in (1, 1, 2))

    assert first.initialised == ("pooler.dense.bias", "pooler.dense.weight")
    assert first.fingerprint == again.fingerprint != other.fingerprint
    differing = {n for n in first.tensors if not torch.equal(first.tensors[n], other.tensors[n])}
    assert differing == {"pooler.dense.weight"}  # a bias starts at zero


def test_the_seed_does_not_matter_where_nothing_is_missing(bert: Base, bert_folder: Path) -> None:
    assert load(bert_folder, seed=77).fingerprint == bert.fingerprint


def test_a_pooler_that_no_classifier_has_is_not_drawn_into_the_fingerprint(
    tiny_sizes: dict[str, Any], save_model: Save, tmp_path: Path
) -> None:
    model = seeded(lambda: RobertaForMaskedLM(RobertaConfig(**tiny_sizes)))
    folder = save_model(model, tmp_path)

    first, other = load(folder, seed=1), load(folder, seed=2)

    assert first.initialised == ()
    assert first.fingerprint == other.fingerprint


@pytest.mark.parametrize("said", ["bfloat16", None])
def test_a_checkpoint_in_bf16_has_the_fingerprint_of_its_own_bytes(
    said: str | None, tiny_sizes: dict[str, Any], save_model: Save, tmp_path: Path, bert: Base
) -> None:
    model = seeded(lambda: BertModel(BertConfig(**tiny_sizes)))
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    folder = save_model(model, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": said}))

    base = load(folder)

    stored = load_file(folder / "model.safetensors")
    assert base.layout == layout_of(BertModel.from_pretrained(folder, dtype="auto"))
    assert base.fingerprint != bert.fingerprint
    assert {t.dtype for t in base.tensors.values()} == {torch.float32}
    assert all(torch.equal(base.tensors[name], t.float()) for name, t in stored.items())
    assert base.file_bytes < 0.7 * bert.file_bytes
    assert base.build(n_outputs=2, seed=0).dtype == torch.float32
    base.check_unchanged()


def test_the_lowest_layers_are_kept(bert: Base, bert_folder: Path) -> None:
    cut = load(bert_folder, layers=1)

    assert cut.layout.names == tuple(n for n in bert.layout.names if "layer.1." not in n)
    assert all(torch.equal(cut.tensors[name], bert.tensors[name]) for name in cut.tensors)
    assert cut.fingerprint != bert.fingerprint
    assert cut.build(n_outputs=2, seed=0).config.num_hidden_layers == 1


def test_more_layers_than_there_are_is_refused(bert_folder: Path) -> None:
    with pytest.raises(SourceError, match=r"asks for 3 layers, and '.*' has 2\. Give a smaller"):
        load(bert_folder, layers=3)


def test_the_size_of_the_backbone_is_that_of_its_file(bert: Base, bert_folder: Path) -> None:
    written = (bert_folder / "model.safetensors").stat().st_size

    # The library's own file has metadata besides.
    assert written - 100 < bert.file_bytes == checkpoint_bytes(bert.tensors) <= written


def test_the_right_pin_is_accepted_and_the_wrong_one_refused(bert_folder: Path) -> None:
    right = weights_digest(Located("folder", str(bert_folder)))

    assert load(bert_folder, sha256=right).settings.sha256 == right
    with pytest.raises(BaseMismatchError, match=f"SHA-256 {right}, and .* pins {'0' * 64}"):
        load(bert_folder, sha256="0" * 64)


def test_a_hub_id_is_not_pinned_by_a_file(bert_folder: Path) -> None:
    settings = BaseSettings(
        model="bert-base-cased", sha256=weights_digest(Located("folder", str(bert_folder)))
    )

    with pytest.raises(SourceError, match=r"Pin a hub model by `base\.revision` instead"):
        load_base(settings, seed=0)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", "{}"),
        ("config.json", '{"model_type": "made-up"}'),
        ("model.safetensors", "not weights"),
        ("model.safetensors", None),
        ("tokenizer.json", "{"),
        ("tokenizer.json", None),
    ],
)
def test_a_model_that_cannot_be_loaded_is_a_source_error(
    file: str, content: str | None, bert_folder: Path, tmp_path: Path
) -> None:
    for path in bert_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)

    with pytest.raises(SourceError, match=r"cannot be loaded: |holds no model: "):
        load(tmp_path)


@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", "pooler.dense.bias"])
@pytest.mark.parametrize("bit", [0, 31])
def test_one_flipped_bit_is_noticed(name: str, bit: int, bert_folder: Path) -> None:
    base = load(bert_folder)
    base.check_unchanged()

    base.tensors[name].view(torch.int32).view(-1)[-1] ^= -(2**31) if bit == 31 else 1 << bit

    with pytest.raises(BaseMismatchError, match="was changed in memory since it was loaded"):
        base.check_unchanged()


def test_a_classifier_can_be_trained_without_changing_the_base(bert: Base) -> None:
    model = bert.build(n_outputs=2, seed=0)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)

    bert.check_unchanged()
    assert not model.training


def test_a_head_is_drawn_from_its_seed(bert: Base) -> None:
    first, again, other = (bert.build(n_outputs=2, seed=seed) for seed in (1, 1, 2))

    heads = [dict(model.named_parameters())["classifier.weight"] for model in (first, again, other)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert bert.config.num_labels != 5 == bert.build(n_outputs=5, seed=1).config.num_labels


def test_the_global_generator_is_left_as_it_was(poolerless_folder: Path) -> None:
    before = torch.get_rng_state()

    load(poolerless_folder, seed=1).build(n_outputs=2, seed=1)

    assert torch.equal(torch.get_rng_state(), before)


def test_the_bytes_of_a_checkpoint_are_those_of_its_safetensors_file() -> None:
    tensors = {
        "b": torch.zeros(10, 3),
        "ä": torch.zeros(5, dtype=torch.bfloat16),
        "a.weight": torch.zeros(()),
    }

    assert checkpoint_bytes(tensors) == len(save(tensors))
    header, names = safetensors_header(tensors, {"format": "pt"})
    assert save(tensors, {"format": "pt"}).startswith(header)
    assert names == ["a.weight", "b", "ä"]
