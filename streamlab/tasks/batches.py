"""Token ids of examples, and padded batches of similar lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DataError
from streamlab.tasks.examples import Example
from streamlab.tasks.types import TaskType

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BatchEncoding, PreTrainedTokenizerBase

_WIDTH_STEP: Final = 8  # widths are multiples of this: few shapes, aligned for the kernels
_POOL_BATCHES: Final = 16  # examples of so many batches are sorted by length together


@dataclass(frozen=True)
class Encoded:
    """Examples as token ids, unpadded; `token_types` is None where the tokenizer has none."""

    token_ids: tuple[list[int], ...]
    token_types: tuple[list[int], ...] | None
    labels: NDArray[np.int64] | NDArray[np.float32]  # class indices or numbers
    n_truncated: int  # examples that were longer than `max_length`
    max_length: int
    pad_id: int
    pad_type: int
    pad_left: bool

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the number of tokens of every example."""
        return np.array([len(ids) for ids in self.token_ids], dtype=np.int64)

    def first(self, n_examples: int) -> Encoded:
        """Return the first examples alone."""
        types = self.token_types and self.token_types[:n_examples]
        ids, labels = self.token_ids[:n_examples], self.labels[:n_examples]
        return replace(self, token_ids=ids, token_types=types, labels=labels)


@dataclass(frozen=True)
class Batch:
    """A batch for a model: `inputs` by the names of its arguments, (n_examples, width) each."""

    inputs: dict[str, Tensor]
    labels: Tensor  # (n_examples,), int64 for classes and float32 for numbers


def encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    task_type: TaskType,
    *,
    max_length: int,
) -> Encoded:
    """Tokenise examples, truncating those longer than `max_length` tokens, special ones included.

    Pairs are truncated from the longer text. Raises DataError where the tokenizer cannot pad or
    `max_length` leaves no room for a text.
    """
    _check_tokenizer(examples, tokenizer, max_length)
    encoding = _tokenised(examples, tokenizer, max_length)
    types: list[list[int]] | None = encoding.get("token_type_ids")
    return Encoded(
        token_ids=_without_special(encoding, tokenizer),
        token_types=None if types is None else tuple(types),
        labels=task_type.collate([example.label for example in examples]),
        n_truncated=_count_truncated(examples, tokenizer, encoding, max_length),
        max_length=max_length,
        pad_id=int(tokenizer.pad_token_id),
        pad_type=int(tokenizer.pad_token_type_id),
        pad_left=tokenizer.padding_side == "left",
    )


def _check_tokenizer(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    if not examples:
        raise DataError("There are no examples to tokenise. Give at least one.")
    if tokenizer.pad_token_id is None:
        raise DataError(
            "The base's tokenizer has no padding token, so that examples cannot share a batch. "
            "Use a base whose tokenizer has one."
        )
    n_texts = 2 if examples[0].text2 is not None else 1
    needed = tokenizer.num_special_tokens_to_add(pair=n_texts == 2) + n_texts
    if max_length < needed:
        raise DataError(
            f"`max_length` must be {needed} or more to leave room for a token of each text, got "
            f"{max_length}."
        )


def _tokenised(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> BatchEncoding:
    pairs = [example.text2 for example in examples if example.text2 is not None]
    encoding: BatchEncoding = tokenizer(
        [example.text for example in examples],
        pairs or None,
        truncation=max_length is not None,
        max_length=max_length,
        return_attention_mask=False,
        return_special_tokens_mask=True,
        split_special_tokens=True,  # a text that names a special token does not contain it
        verbose=False,  # no warning on examples over the model's length; they are counted
    )
    return encoding


def _without_special(
    encoding: BatchEncoding, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], ...]:
    """Return token ids where a special token inside a text is the unknown token.

    Whole-word and unigram vocabularies hold the names of special tokens as words.
    """
    unknown = tokenizer.unk_token_id
    special = set(tokenizer.all_special_ids) - {unknown}
    masks = encoding["special_tokens_mask"]
    token_ids: list[list[int]] = encoding["input_ids"]
    if unknown is None:
        return tuple(token_ids)
    return tuple(
        [unknown if i in special and not added else i for i, added in zip(ids, mask, strict=True)]
        for ids, mask in zip(token_ids, masks, strict=True)
    )


def _count_truncated(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    encoding: BatchEncoding,
    max_length: int,
) -> int:
    if encoding.encodings is not None:
        return sum(bool(one.overflowing) for one in encoding.encodings)
    # A tokenizer in pure Python does not keep what it truncates.
    whole = _tokenised(examples, tokenizer, None)
    return sum(len(ids) > max_length for ids in whole["input_ids"])


def n_batches(encoded: Encoded, batch_size: int) -> int:
    """Return the number of batches in one pass over the examples."""
    return -(-len(encoded.token_ids) // batch_size)


def training_batches(
    encoded: Encoded, *, batch_size: int, seed: int, epoch: int
) -> Iterator[Batch]:
    """Yield every example once, in batches of similar lengths, in an order from (seed, epoch).

    `seed` and `epoch` are 0 or more. The examples are shuffled and cut into pools, each pool is
    sorted by length and cut into batches, and the batches of all pools are shuffled.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(encoded.token_ids))
    lengths = encoded.lengths
    pool = batch_size * _POOL_BATCHES
    batches = []
    for start in range(0, len(order), pool):
        pooled = order[start : start + pool]
        by_length = pooled[np.argsort(lengths[pooled], kind="stable")]
        batches += [by_length[at : at + batch_size] for at in range(0, len(pooled), batch_size)]
    for number in rng.permutation(len(batches)):
        yield padded(encoded, batches[number])


def evaluation_batches(
    encoded: Encoded, *, batch_size: int
) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """Yield every example once, shortest first, with the examples' places in `encoded`.

    The examples of a batch have one width, which does not depend on the other examples.
    """
    order = np.argsort(encoded.lengths, kind="stable")
    widths = _widths(encoded.lengths[order], encoded.max_length)
    cuts = np.flatnonzero(np.diff(widths)) + 1
    for same_width in np.split(order, cuts):
        for start in range(0, len(same_width), batch_size):
            places = same_width[start : start + batch_size]
            yield places, padded(encoded, places)


def _widths(lengths: NDArray[np.int64], max_length: int) -> NDArray[np.int64]:
    """Return the width that each length is padded to."""
    return np.maximum(lengths, np.minimum(-(-lengths // _WIDTH_STEP) * _WIDTH_STEP, max_length))


def padded(encoded: Encoded, places: NDArray[np.int64]) -> Batch:
    """Return examples as a batch, padded to the width of the longest of them."""
    import torch

    lengths = np.array([len(encoded.token_ids[place]) for place in places])
    width = int(_widths(lengths, encoded.max_length).max())
    shape = (len(places), width)
    ids = np.full(shape, encoded.pad_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    types = np.full(shape, encoded.pad_type, dtype=np.int64)
    for number, (place, n_tokens) in enumerate(zip(places, lengths, strict=True)):
        used = slice(width - n_tokens, width) if encoded.pad_left else slice(n_tokens)
        ids[number, used] = encoded.token_ids[place]
        mask[number, used] = 1
        if encoded.token_types is not None:
            types[number, used] = encoded.token_types[place]
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    if encoded.token_types is not None:
        inputs["token_type_ids"] = torch.from_numpy(types)
    return Batch(inputs, torch.from_numpy(encoded.labels[places]))
