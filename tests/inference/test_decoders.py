"""Decoders as bases: classification and completion, as plain `transformers` answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from base_kinds import BAD, GOOD, save_bytes_tokenizer, save_kind, save_tokenizer
from stream_samples import Lab, carry_out, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from streamlab import open_home
from streamlab.base import BaseSettings, load_base
from streamlab.diff.apply import plan
from streamlab.errors import SourceError
from streamlab.inference.merge import merge_to

DECODERS = ("Llama", "Qwen2", "Qwen3", "Gemma", "GPT-2", "OPT")


def save_decoder(folder: Path, kind: str, *, pad: str | None = "[PAD]") -> None:
    save_kind(folder, kind, head="LMHeadModel" if kind == "GPT-2" else "ForCausalLM")
    if kind == "Qwen2":
        save_bytes_tokenizer(folder)
    else:
        save_tokenizer(folder, eos_token="[SEP]", pad_token=pad)  # noqa: S106


def tree_of(lab: Lab, **training: Any) -> dict[str, Any]:
    """Write rows of a classification and of a language modelling, and return their scenario."""
    words = [*zip(GOOD, BAD, strict=True)]
    for split in ("train", "dev"):
        pairs = [(word, place) for pair in words for place, word in enumerate(pair)]
        rows = [{"text": f"the film was {word}", "label": ("good", "bad")[i]} for word, i in pairs]
        write_rows(lab.folder / "rows" / "mood" / f"{split}.jsonl", rows)
        asked = [
            {"prompt": f"was {word} fine", "completion": ("is", "not")[i]} for word, i in pairs
        ]
        write_rows(lab.folder / "rows" / "answer" / f"{split}.jsonl", asked)
    tree = lab.tree(
        name="decoder",
        base={"model": str(lab.base), "layers": 2},
        providers={"press": {"tasks": ["mood", "answer"]}},
        tasks={
            name: {"dataset": name, "files": {"folder": f"rows/{name}"}}
            for name in ("mood", "answer")
        },
    )
    tree["defaults"]["training"] |= {"min_steps": 8, "max_length": 32} | training
    return tree


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_classifies_and_completes_as_plain_transformers_does(
    kind: str, tmp_path: Path
) -> None:
    lab = Lab(tmp_path)
    save_decoder(lab.base, kind)
    ran = carry_out(lab.write(tree_of(lab)), tmp_path / "home")
    home = open_home(ran.home.path)
    assert [one.record.status for one in ran.outcomes] == ["finished"] * 2

    for name in ("mood", "answer"):
        loaded, stored = home.load_base(), home.task(name)
        merged = merge_to(loaded, stored, tmp_path / name)
        model = getattr(transformers, merged.model_class).from_pretrained(merged.folder)
        assert model.config.num_hidden_layers == 2
        rows = (lab.folder / "rows" / name / "dev.jsonl").read_text().splitlines()
        texts = [json.loads(row)["text" if name == "mood" else "prompt"] for row in rows]
        with stored.applied(loaded) as served:
            answers = served.predict(texts)
        for text, answer in zip(texts, answers, strict=True):
            plain_answer(model, merged.folder, text, stored.description(), answer)


def plain_answer(model: Any, folder: Path, text: str, description: Any, answer: Any) -> None:
    """Compare an answer with that of the merged model alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if description.kind == "classification":
        with torch.inference_mode():
            shares = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(-1)
        assert list(answer.probabilities.values()) == pytest.approx(shares.tolist(), abs=2e-5)
        return
    _, _, end = description.prompt
    whole = tokenizer(text)["input_ids"]
    ids = whole[:-1] if tokenizer.convert_ids_to_tokens(whole[-1]) == end else whole
    end_id = tokenizer.convert_tokens_to_ids(end)
    written = model.generate(
        torch.tensor([ids]), max_new_tokens=description.max_new_tokens, do_sample=False,
        eos_token_id=end_id, pad_token_id=end_id,
    )  # fmt: skip
    assert answer.text == tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True)


@pytest.mark.parametrize("method", ["diff_pruning", "fixed_mask"])
def test_gradient_checkpointing_keeps_less_and_gives_the_same_bytes(
    method: str, tmp_path: Path
) -> None:
    lab = Lab(tmp_path)
    save_decoder(lab.base, "Llama")
    kept = {}
    digests = {}
    for on in (None, True):
        tree = tree_of(lab, gradient_checkpointing=on)
        if method == "fixed_mask":
            tree["defaults"]["method"] = {"name": method, "mask": "random", "target_density": 0.05}
        saved = 0

        def note(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal saved
            saved += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            ran = carry_out(lab.write(tree), tmp_path / f"home-{on}")
        kept[on], digests[on] = saved, [one.record.digest for one in ran.outcomes]

    assert digests[True] == digests[None]
    assert kept[True] < kept[None]


def save_in_bf16(folder: Path) -> None:
    save_decoder(folder, "Llama")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def test_a_diff_on_a_base_in_bf16_has_the_same_bits_applied_and_merged(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    save_in_bf16(lab.base)
    tree = tree_of(lab) | {"base": {"model": str(lab.base), "dtype": "bf16"}}
    ran = carry_out(lab.write(tree), tmp_path / "home")
    home = open_home(ran.home.path)
    loaded = home.load_base()

    for name, head in (("mood", "SequenceClassification"), ("answer", "CausalLM")):
        stored = home.task(name)
        merged = merge_to(loaded, stored, tmp_path / name)
        auto = getattr(transformers, f"AutoModelFor{head}")
        again = dict(auto.from_pretrained(merged.folder).named_parameters())
        plain = auto.from_pretrained(lab.base, dtype=torch.bfloat16)
        plan(plain, stored.diff(loaded.base.layout)).put_on()
        with stored.applied(loaded) as served:
            for full, parameter in served.model.named_parameters():
                assert parameter.dtype == again[full].dtype == torch.bfloat16
                assert torch.equal(parameter, again[full])
                assert torch.equal(parameter, plain.get_parameter(full).to(torch.bfloat16))


def test_a_base_in_float32_does_not_answer_in_bf16(tmp_path: Path) -> None:
    save_decoder(tmp_path, "Llama")

    with pytest.raises(SourceError, match="do not fit into it"):
        load_base(BaseSettings(model=str(tmp_path), dtype="bf16"), seed=0)


def test_a_tokenizer_without_a_padding_token_pads_with_its_end_of_text(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    save_decoder(lab.base, "GPT-2", pad=None)

    base = load_base(BaseSettings(model=str(lab.base)), seed=0)
    ran = carry_out(lab.write(tree_of(lab)), tmp_path / "home")

    assert base.tokenizer.pad_token == "[SEP]"  # noqa: S105
    assert [one.record.status for one in ran.outcomes] == ["finished"] * 2
