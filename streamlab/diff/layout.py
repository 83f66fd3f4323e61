"""The layout of a base: its backbone tensors by name and shape, in order."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from streamlab.hashing import fingerprint_base

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
# Names of the query and value matrices in BERT, RoBERTa, DistilBERT, T5, Llama and similar ones.
QUERIES_AND_VALUES: Final = frozenset(
    ("query", "value", "q_lin", "v_lin", "q", "v", "q_proj", "v_proj", "query_proj", "value_proj")
)


@dataclass(frozen=True)
class Layout:
    """The fingerprint of a base and its backbone tensors in model order, tied ones once."""

    fingerprint: str  # hex
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, Tensor],
        config: PretrainedConfig | None,
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> Layout:
        """Return the layout of a base; see `fingerprint_base`."""
        shapes = tuple(tuple(tensor.shape) for tensor in tensors.values())
        return cls(fingerprint_base(tensors, config, tokenizer), tuple(tensors), shapes)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of entries of every tensor."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def n_gated(self) -> int:
        """Return d, the number of entries that a diff may change."""
        return sum(self.sizes)


def layer_of(tensor: str) -> str:
    """Return the layer of a tensor by its number, `embeddings` or `other` where it has none.

    >>> layer_of("encoder.layer.3.output.dense.weight"), layer_of("embeddings.word.weight")
    ('3', 'embeddings')
    """
    found = _LAYER.search(tensor)
    if found:
        return found[1]
    return "embeddings" if "embed" in tensor.lower() else "other"


def kind_of(tensor: str) -> str:
    """Return the kind of a tensor: what it is within its layer.

    >>> kind_of("encoder.layer.3.attention.self.query.bias")
    'attention.self.query'
    """
    found = _LAYER.search(tensor)
    if not found:
        return layer_of(tensor)
    return re.sub(r"\.?(weight|bias)$", "", tensor[found.end() :]) or "other"
