"""Tiny models of every architecture with random weights, each with a tokenizer of whole words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GOOD = ("great", "lovely", "warm", "bright", "fine", "glad", "rich")
BAD = ("awful", "boring", "dull", "grim", "poor", "sad", "slow")
FILLERS = ("the", "a", "film", "book", "meal", "play", "song", "was", "is", "very", "not")
WORDS = (*FILLERS, *GOOD, *BAD, "and", "but", "then")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
N_TOKENS = len(SPECIAL) + len(WORDS)
N_BYTE_TOKENS = 96
POSITIONS = 64

_SIZES = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
}
_DECODER = _SIZES | {"bos_token_id": 2, "eos_token_id": 3}
_GROUPED = _DECODER | {"num_key_value_heads": 1, "head_dim": 16}
_T5 = {
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "pad_token_id": 0,
    "eos_token_id": 3,
    "decoder_start_token_id": 0,
}


@dataclass(frozen=True)
class Kind:
    """An architecture: the prefix of its classes, its configuration and its tokenizer."""

    classes: str
    config: Mapping[str, Any] = field(default_factory=lambda: _SIZES)
    token_types: bool = False
    padding_side: str = "right"
    positions: int = POSITIONS  # tokens the model takes at most
    model: str = "Model"  # the class that is saved


KINDS: Mapping[str, Kind] = {
    "BERT": Kind("Bert", token_types=True),
    "RoBERTa": Kind("Roberta", positions=POSITIONS - 1),
    "XLM-RoBERTa": Kind("XLMRoberta", positions=POSITIONS - 1),
    "CamemBERT": Kind("Camembert", positions=POSITIONS - 1),
    "DistilBERT": Kind(
        "DistilBert",
        {
            "dim": 32,
            "hidden_dim": 64,
            "n_layers": 3,
            "n_heads": 2,
            "max_position_embeddings": POSITIONS,
        },
    ),
    "ELECTRA": Kind("Electra", _SIZES | {"embedding_size": 16}, token_types=True),
    "ALBERT": Kind("Albert", _SIZES | {"embedding_size": 16}, token_types=True),
    "DeBERTa": Kind("Deberta", _SIZES | {"relative_attention": True, "pos_att_type": ["c2p"]}),
    "DeBERTa-v2": Kind(
        "DebertaV2",
        _SIZES
        | {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "type_vocab_size": 0,
            "pooler_hidden_size": 32,
        },
    ),
    "ModernBERT": Kind(
        "ModernBert",
        _DECODER | {"cls_token_id": 2, "sep_token_id": 3, "local_attention": 16},
    ),
    "MPNet": Kind("MPNet", positions=POSITIONS - 2),
    "Longformer": Kind(
        "Longformer", _SIZES | {"attention_window": [16] * 3}, positions=POSITIONS - 1
    ),
    "MobileBERT": Kind(
        "MobileBert",
        _SIZES | {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
        token_types=True,
    ),
    "ConvBERT": Kind("ConvBert", _SIZES | {"embedding_size": 32}, token_types=True),
    "data2vec-text": Kind("Data2VecText", positions=POSITIONS - 1),
    "XLNet": Kind(
        "XLNet",
        {"d_model": 32, "n_layer": 3, "n_head": 2, "d_inner": 64, "pad_token_id": 0},
        token_types=True,
        padding_side="left",
        positions=512,
    ),
    "FNet": Kind("FNet", _SIZES | {"tpu_short_seq_length": POSITIONS}, token_types=True),
    "Funnel": Kind(
        "Funnel",
        {"block_sizes": [1, 1, 1], "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64},
        token_types=True,
    ),
    "T5": Kind("T5", _T5, positions=512),
    "T5, the encoder alone": Kind("T5", _T5, positions=512, model="EncoderModel"),
    "BART": Kind(
        "Bart",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": POSITIONS,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "decoder_start_token_id": 3,
            "forced_eos_token_id": 3,
        },
    ),
    "GPT-2": Kind(
        "GPT2",
        {"n_positions": POSITIONS, "n_embd": 32, "n_layer": 3, "n_head": 2}
        | {"bos_token_id": 3, "eos_token_id": 3, "pad_token_id": 0},
    ),
    "Llama": Kind("Llama", _GROUPED),
    "OPT": Kind(
        "OPT",
        {
            "hidden_size": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "word_embed_proj_dim": 32,
            "max_position_embeddings": POSITIONS,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
    "Qwen2": Kind("Qwen2", _GROUPED | {"vocab_size": N_BYTE_TOKENS, "eos_token_id": 0}),
    "Qwen3": Kind("Qwen3", _GROUPED),
    "Gemma": Kind("Gemma", _GROUPED),
    "Gemma2": Kind("Gemma2", _GROUPED | {"query_pre_attn_scalar": 16, "sliding_window": 32}),
}


def save_tokenizer(
    folder: Path,
    *,
    special: tuple[str, ...] = SPECIAL,
    words: tuple[str, ...] = WORDS,
    token_types: bool = False,
    wrap: bool = True,
    **settings: Any,
) -> None:
    """Write a tokenizer of whole words; `wrap`: texts between the third and fourth special."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, unk, cls, sep = special
    vocabulary = {word: number for number, word in enumerate((*special, *words))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=unk))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if wrap:
        core.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
        )
    names = ["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"]
    defaults = {
        "pad_token": pad,
        "unk_token": unk,
        "cls_token": cls,
        "sep_token": sep,
        "model_input_names": names,
        "model_max_length": 512,
    }
    build: Any = PreTrainedTokenizerFast
    build(tokenizer_object=core, **{**defaults, **settings}).save_pretrained(folder)


def save_kind(folder: Path, name: str, *, head: str = "", **config: Any) -> PreTrainedModel:
    """Write a tiny model of an architecture with its tokenizer, and return it."""
    kind = KINDS[name]
    model = save_model(folder, kind.classes, head=head or kind.model, **{**kind.config, **config})
    if kind.classes == "Qwen2":
        save_bytes_tokenizer(folder)
    else:
        save_tokenizer(folder, token_types=kind.token_types, padding_side=kind.padding_side)
    return model


def save_bytes_tokenizer(folder: Path) -> None:
    """Write a byte-level tokenizer: Qwen2's is rebuilt as one, whatever its file says."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    end: Any = "<|endoftext|>"
    trainer: Any = trainers.BpeTrainer(vocab_size=N_BYTE_TOKENS, special_tokens=[end])
    core.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    build: Any = PreTrainedTokenizerFast
    build(tokenizer_object=core, pad_token=end, eos_token=end).save_pretrained(folder)


def save_model(
    folder: Path, classes: str, *, head: str = "Model", seed: int = 1, **config: Any
) -> PreTrainedModel:
    """Write a tiny model without a tokenizer, and return it."""
    import torch
    import transformers

    build: Callable[..., Any] = getattr(transformers, f"{classes}Config")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = getattr(transformers, classes + head)(
            build(**{"vocab_size": N_TOKENS, **config})
        )
    model.save_pretrained(folder)
    return model
