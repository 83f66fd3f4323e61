"""A base is everything that decides its answers, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from base_kinds import KINDS, WORDS, save_kind, save_tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from streamlab.base import Base, BaseSettings, load_base
from streamlab.diff.checkpoints import layout_of
from streamlab.errors import SourceError


def load(folder: Path, **settings: Any) -> Base:
    return load_base(BaseSettings(model=str(folder), **settings), seed=1)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    save_kind(folder, "BERT")
    return folder


def edit(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def shift_words(folder: Path) -> None:
    save_tokenizer(folder, words=(*WORDS[1:], WORDS[0]), token_types=True)


def lower_case(folder: Path) -> None:
    edit(folder, "tokenizer.json", normalizer={"type": "Lowercase"})


DECIDES: dict[str, Callable[[Path], object]] = {
    "heads": lambda f: edit(f, "config.json", num_attention_heads=4),
    "activation": lambda f: edit(f, "config.json", hidden_act="relu"),
    "epsilon": lambda f: edit(f, "config.json", layer_norm_eps=1e-5),
    "words": shift_words,
    "normaliser": lower_case,
    "wrapping": lambda f: save_tokenizer(f, wrap=False, token_types=True),
    "token types": lambda f: save_tokenizer(f),
    "truncation": lambda f: edit(f, "tokenizer_config.json", truncation_side="left"),
}


def save_again(folder: Path) -> None:
    AutoModel.from_pretrained(folder, dtype="auto").save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)


NOISE: dict[str, Callable[[Path], object]] = {
    "place": lambda _: None,
    "saved again": save_again,
    "version": lambda f: edit(f, "config.json", transformers_version="4.0.0"),
    "a default": lambda f: edit(f, "config.json", type_vocab_size=2, use_cache=False),
    "labels": lambda f: edit(f, "config.json", id2label={0: "no", 1: "yes"}, architectures=["X"]),
    "padding": lambda f: edit(f, "tokenizer_config.json", padding_side="left"),
    "longest input": lambda f: edit(f, "tokenizer_config.json", model_max_length=33),
}


@pytest.mark.parametrize("change", [*DECIDES, *NOISE])
def test_what_decides_the_answers_makes_another_base_and_nothing_else_does(
    change: str, bert: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(bert, other)
    (DECIDES | NOISE)[change](other)

    found, known = load(other), load(bert)

    assert (found.fingerprint == known.fingerprint) == (change in NOISE)
    assert layout_of(AutoModel.from_pretrained(other, dtype="auto")) == found.layout


def test_a_tokenizer_that_was_used_is_the_same(bert: Path) -> None:
    model = AutoModel.from_pretrained(bert, dtype="auto")
    before, base = layout_of(model), load(bert)

    base.tokenizer(["a film"], truncation=True, max_length=3, padding="max_length")

    assert layout_of(model) == before == load(bert).layout


def test_the_depth_of_shared_layers_is_part_of_the_base(tmp_path: Path) -> None:
    save_kind(tmp_path, "ALBERT")

    whole, cut = load(tmp_path), load(tmp_path, layers=1)

    assert whole.layout.names == cut.layout.names
    assert whole.fingerprint != cut.fingerprint


def test_a_model_made_in_memory_is_known_by_its_weights_and_configuration(bert: Path) -> None:
    stored = AutoModel.from_pretrained(bert, dtype="auto")
    made = type(stored)(stored.config)
    made.load_state_dict(stored.state_dict())
    made.name_or_path = ""

    assert layout_of(made).names == layout_of(stored).names
    assert layout_of(made).fingerprint != layout_of(stored).fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("kind", [name for name in KINDS if "alone" not in name])
def test_headless_model_classifier_and_base_have_one_fingerprint(kind: str, tmp_path: Path) -> None:
    save_kind(tmp_path, kind)
    models = (
        source.from_pretrained(tmp_path, dtype="auto")
        for source in (AutoModel, AutoModelForSequenceClassification)
    )
    layouts = {layout_of(model) for model in models}

    with suppress(SourceError):
        layouts.add(load(tmp_path).layout)
    assert len(layouts) == 1
