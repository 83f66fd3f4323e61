"""SHA-256 of bases and of examples, and the split of a model into backbone and head."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

# Keys of a configuration that do not decide answers: labels, origin, version and runtime flags.
_NOT_DECIDING: Final = frozenset(
    {"id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "architectures"}
    | {"name_or_path", "transformers_version", "dtype", "torch_dtype", "tokenizer_class"}
    | {"auto_map", "task_specific_params", "streamlab", "use_cache", "return_dict"}
    | {"output_attentions", "output_hidden_states", "gradient_checkpointing", "torchscript"}
)
# Of a tokenizer without a serialised form: its ids for these characters stand for its rules.
_SAMPLE: Final = "The Quick  brown\tfox, naïve café Ω ß 東京 🙂 don't 3.14 http://a.b/c_d x-y ÀÉ"


def fingerprint_examples(examples: Iterable[tuple[Any, str | None, Any]]) -> str:
    """Return the SHA-256, in hex, of (text or words, text2, label) in their order."""
    digest = hashlib.sha256()
    for text, text2, label in examples:
        digest.update(f"{canonical_json([text, text2, label])}\n".encode())
    return digest.hexdigest()


def fingerprint_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hex, of names, dtypes, shapes and bytes, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        if tensor.numel():  # an empty one may have no stride to view its bytes with
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint_base(
    tensors: Mapping[str, Tensor],
    config: PretrainedConfig | None,
    tokenizer: PreTrainedTokenizerBase | None,
) -> str:
    """Return the SHA-256, in hex, of all that decides a base's answers.

    That is its weights, its configuration, if any (with the depth; without labels, paths and
    versions), and its tokenizer, if any. The padding side is no part of it: the base is probed for
    that.
    """
    parts = {
        "weights": fingerprint_tensors(tensors),
        "config": None if config is None else _deciding(config),
        "tokenizer": None if tokenizer is None else _described(tokenizer),
    }
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def _deciding(config: PretrainedConfig) -> dict[str, Any]:
    """Return what a configuration sets otherwise than its class, which later versions extend."""
    default = type(config)().to_dict()
    tree = {k: v for k, v in config.to_dict().items() if k not in default or default[k] != v}
    return {"model_type": config.model_type, "set": _without_noise(tree)}


def _without_noise(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {
            str(key): _without_noise(value)
            for key, value in tree.items()
            if key not in _NOT_DECIDING and not str(key).startswith("_")
        }
    return [_without_noise(value) for value in tree] if isinstance(tree, list | tuple) else tree


def _described(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    known: dict[str, Any] = {
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "truncation_side": tokenizer.truncation_side,
        "inputs": sorted(tokenizer.model_input_names),
        "split_special_tokens": bool(getattr(tokenizer, "split_special_tokens", False)),
    }
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        rules: Any = [
            type(tokenizer).__name__,
            tokenizer.get_vocab(),
            tokenizer(_SAMPLE)["input_ids"],
        ]
    else:
        rules = json.loads(core.to_str())
        del rules["truncation"], rules["padding"]  # as the last call left them
    return known | {"rules": hashlib.sha256(canonical_json(rules).encode()).hexdigest()}


def split_head(
    classifier: Sequence[str], headless: Iterable[str], prefix: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Split a classifier's parameters into backbone and head by those of the headless model.

    `classifier` and `headless` are parameter names; `prefix` is the classifier's
    `base_model_prefix`. Returns the backbone as headless name -> classifier name, in the
    classifier's order, and the names of the head. A headless tensor that the classifier lacks
    (RoBERTa's pooler) is in neither; one the classifier keeps outside its prefix (DeBERTa's
    pooler) is head.
    """
    known = set(headless)
    backbone = {}
    head = []
    for name in classifier:
        stripped = name.removeprefix(prefix + ".")
        if stripped != name and stripped in known:
            backbone[stripped] = name
        else:
            head.append(name)
    return backbone, tuple(head)


def canonical_json(tree: Any) -> str:
    """Return canonical JSON: sorted keys, no spaces, no NaN, ASCII."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)


MAX_JSON_DEPTH: Final = 32  # of lists and objects in one another
_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET: Final = re.compile(r"[\[\]{}]")


def parse_json(text: str | bytes, *, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """Parse JSON from outside: UTF-8, finite numbers, whole characters, and not too deep.

    The depth is measured before anything is parsed. Raises ValueError.
    """
    text = text.decode() if isinstance(text, bytes) else text
    steps = (1 if bracket in "[{" else -1 for bracket in _BRACKET.findall(_STRING.sub("", text)))
    if max(accumulate(steps), default=0) > max_depth:
        raise ValueError(f"it is nested more than {max_depth} levels deep")
    tree = json.loads(text, parse_constant=_refuse_constant)
    json.dumps(tree, ensure_ascii=False, allow_nan=False).encode()  # 1e999, half a character
    return tree


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")
