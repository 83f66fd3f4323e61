"""What is refused of a base, and what is set so that its answers depend on the text alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from base_kinds import KINDS, N_TOKENS, WORDS, save_kind, save_model, save_tokenizer
from safetensors.torch import load_file, save_file

from streamlab.base import Base, BaseSettings, load_base
from streamlab.errors import SourceError
from streamlab.inference.model import logits
from streamlab.tasks.batches import encode
from streamlab.tasks.types import task_type
from streamlab.tasks.types.example import Example

REFUSED = ("ConvBERT", "FNet", "Funnel", "T5, the encoder alone")
SHORT, LONG = "great film", "the a film book meal play song was is very not great lovely warm"


def load(folder: Path, **settings: Any) -> Base:
    return load_base(BaseSettings(model=str(folder), **settings), seed=1)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def set_weight(folder: Path, name: str, value: float | None) -> None:
    """Set the first entry of a tensor in a checkpoint, or remove the tensor."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if value is None:
        del tensors[name]
    else:
        tensors[name].view(-1)[0] = value
    save_file(tensors, path, {"format": "pt"})


def put_adapter_beside(folder: Path) -> None:
    from peft import LoraConfig

    LoraConfig(r=2, target_modules=["query"]).save_pretrained(folder)


def bring_own_code(folder: Path) -> None:
    names = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoTokenizer": ["own.Own", None]}
    change(folder / "config.json", model_type="own", auto_map=names)
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Own: pass\n")


def remove_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


class Own:
    """An object whose pickle would run code when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def pickle_weights(folder: Path) -> None:
    import torch

    (folder / "model.safetensors").unlink()
    torch.save({"x": Own(folder / "ran")}, folder / "pytorch_model.bin")


QUERY = "encoder.layer.0.attention.self.query.weight"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "an adapter beside it": (put_adapter_beside, "holds a PEFT adapter beside the model. Remove"),
    "code of its own": (
        bring_own_code,
        "needs Python code from its own folder, which is never run",
    ),
    "a NaN": (lambda f: set_weight(f, QUERY, float("nan")), f"`{QUERY}` .* holds NaN or infinite"),
    "a lost tensor": (lambda f: set_weight(f, QUERY, None), f"lacks `{QUERY}` .*random numbers"),
    "another width": (
        lambda f: change(f / "config.json", vocab_size=N_TOKENS + 3),
        r"`embeddings.word_embeddings.weight` has the shape \(32, 32\) in the checkpoint .*"
        r"\(35, 32\) by its `config.json`",
    ),
    "more layers than its configuration says": (
        lambda f: change(f / "config.json", num_hidden_layers=2),
        "has more layers than its `config.json` says, such as `encoder.layer.2",
    ),
    "a pickle": (pickle_weights, "a pickle of more than tensors, .* never loaded. Save"),
    "a damaged tokenizer": (
        lambda f: (f / "tokenizer.json").write_text("{"),
        "tokenizer of the base .* its files are missing or damaged. Put the model's own",
    ),
    "no tokenizer": (remove_tokenizer, "knows 0 words, and the model 32 tokens"),
    "a smaller tokenizer": (
        lambda f: save_tokenizer(f, words=WORDS[:8]),
        "knows 8 words, and the model 32 tokens",
    ),
    "a larger tokenizer": (
        lambda f: save_tokenizer(f, words=(*WORDS, "more")),
        "gives 'more' the id 32, and the model embeds 32 tokens",
    ),
    "no padding token": (
        lambda f: save_tokenizer(f, pad_token=None),
        "has no padding token, so that texts cannot share a batch. Set `pad_token`",
    ),
    "token types that it lacks": (
        lambda f: (save_kind(f, "BERT", type_vocab_size=1), save_tokenizer(f, token_types=True)),
        "gives the index 1, and `bert.embeddings.token_type_embeddings.weight` .* has 1 rows",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_base_that_cannot_answer_rightly_is_refused_in_one_sentence(
    damage: str, tmp_path: Path
) -> None:
    if damage == "an adapter beside it":
        pytest.importorskip("peft")
    save_kind(tmp_path, "BERT")
    load(tmp_path)
    inflict, expected = DAMAGE[damage]
    inflict(tmp_path)

    with pytest.raises(SourceError, match=expected) as refused:
        load(tmp_path)

    assert len(str(refused.value)) < 500
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "kind",
    ["BERT", "DistilBERT", "ModernBERT", "Longformer", "XLNet", "T5", "BART", "GPT-2", "Qwen3"],
)
def test_the_lowest_layers_of_every_kind_are_kept(kind: str, tmp_path: Path) -> None:
    model = save_kind(tmp_path, kind)

    base = load(tmp_path, layers=1)

    assert base.config.num_hidden_layers == 1
    assert base.layout.n_gated < model.num_parameters()


def test_a_model_that_is_no_stack_of_layers_is_not_cut(tmp_path: Path) -> None:
    save_kind(tmp_path, "Funnel")

    with pytest.raises(SourceError, match=r"cannot cut .*: a funnel model is not a stack of equal"):
        load(tmp_path, layers=2)


def test_layers_that_another_shape_depends_on_are_not_cut(tmp_path: Path) -> None:
    sizes = KINDS["BERT"].config | {"mask_token_id": 1, "position_embedding_type": "rotary"}
    save_model(tmp_path, "Esm", **sizes)
    save_tokenizer(tmp_path)

    with pytest.raises(SourceError, match=r"`base.layers` cannot cut .*depends on the number of"):
        load(tmp_path, layers=1)


def test_a_model_without_a_table_of_tokens_is_refused_by_name(tmp_path: Path) -> None:
    save_model(tmp_path, "Canine", **KINDS["BERT"].config)
    save_tokenizer(tmp_path)

    with pytest.raises(SourceError, match=r"\(canine\) cannot be used: it has no table of input"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["BART", "T5", "GPT-2"])
def test_a_configuration_without_a_padding_token_gets_the_tokenizers(
    kind: str, tmp_path: Path
) -> None:
    save_kind(tmp_path, kind)
    change(tmp_path / "config.json", pad_token_id=None)

    assert load(tmp_path).config.pad_token_id == 0


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if name not in REFUSED])
def test_the_longest_input_is_what_the_table_of_positions_holds(kind: str, tmp_path: Path) -> None:
    save_kind(tmp_path, kind)

    base = load(tmp_path)

    assert base.max_length == KINDS[kind].positions
    answers(base, " ".join(WORDS * 4), max_length=base.max_length)


def answers(base: Base, *texts: str, max_length: int = 32) -> np.ndarray[Any, Any]:
    encoded = encode(
        [Example(text, None, 0) for text in texts],
        base.tokenizer,
        task_type("classification"),
        max_length=max_length,
    )
    wide = replace(encoded, max_length=max(encoded.lengths))  # one width for all of them
    return logits(base.build(n_outputs=2, seed=3), wide)


@pytest.mark.parametrize("pad", [0, 5, None])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["GPT-2", "Llama", "OPT", "BERT", "XLNet"])
def test_an_answer_does_not_depend_on_the_length_of_its_neighbour(
    kind: str, side: str, pad: int | None, tmp_path: Path
) -> None:
    save_kind(tmp_path, kind, pad_token_id=pad)
    save_tokenizer(tmp_path, padding_side=side, wrap=kind in ("BERT", "XLNet"))

    base = load(tmp_path)

    together = answers(base, SHORT, LONG)
    assert answers(base, SHORT)[0] == pytest.approx(together[0], abs=1e-5)
    assert base.tokenizer.padding_side == ("left" if kind == "XLNet" else "right")
    assert base.build(n_outputs=3, seed=0).config.pad_token_id in (0, pad)


def test_numbers_in_a_buffer_are_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    save_model(tmp_path, "IBert", num_hidden_layers=1, **sizes, pad_token_id=0)
    save_tokenizer(tmp_path)
    load(tmp_path)

    set_weight(tmp_path, "embeddings.embeddings_act1.x_max", 3.0)

    with pytest.raises(SourceError, match=r"keeps numbers in the buffer `embeddings\.emb"):
        load(tmp_path)
