"""Rows as token ids, and token ids as padded batches of like lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DataError
from streamlab.tasks.examples import Example

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BatchEncoding, PreTrainedTokenizerBase

_WIDTH_STEP: Final = 8  # batches are this wide or a multiple: few shapes, aligned for the kernels
_POOL_BATCHES: Final = 16  # rows of so many batches are sorted by length together


@dataclass(frozen=True)
class Encoded:
    """Rows as token ids, unpadded; `token_types` is None where the tokenizer gives none."""

    token_ids: tuple[list[int], ...]
    token_types: tuple[list[int], ...] | None
    labels: NDArray[np.int64] | NDArray[np.float32]  # classes or numbers
    n_truncated: int  # rows that were longer than `max_length`
    max_length: int
    pad_id: int
    pad_type: int
    pad_left: bool

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the number of tokens of every row."""
        return np.array([len(ids) for ids in self.token_ids], dtype=np.int64)

    def first(self, n_rows: int) -> Encoded:
        """Return the first rows alone."""
        return replace(
            self,
            token_ids=self.token_ids[:n_rows],
            token_types=self.token_types and self.token_types[:n_rows],
            labels=self.labels[:n_rows],
        )


@dataclass(frozen=True)
class Batch:
    """What a model takes: `inputs` by the model's own names, (n_rows, width) each."""

    inputs: dict[str, Tensor]
    labels: Tensor  # (n_rows,), int64 for classes and float32 for numbers


def encode(
    rows: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, max_length: int
) -> Encoded:
    """Tokenise rows, cutting those longer than `max_length` tokens, special ones included.

    Pairs are cut from the longer text. Raises DataError where the tokenizer cannot pad or
    `max_length` leaves no room for a text.
    """
    _check_tokenizer(rows, tokenizer, max_length)
    encoding = _tokenised(rows, tokenizer, max_length)
    types: list[list[int]] | None = encoding.get("token_type_ids")
    labels = [row.label for row in rows]
    numbers = any(isinstance(label, float) for label in labels)
    return Encoded(
        token_ids=tuple(encoding["input_ids"]),
        token_types=None if types is None else tuple(types),
        labels=np.array(labels, np.float32) if numbers else np.array(labels, np.int64),
        n_truncated=_count_cut(rows, tokenizer, encoding, max_length),
        max_length=max_length,
        pad_id=int(tokenizer.pad_token_id),
        pad_type=int(tokenizer.pad_token_type_id),
        pad_left=tokenizer.padding_side == "left",
    )


def _check_tokenizer(
    rows: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    if not rows:
        raise DataError("There are no rows to tokenise. Give at least one.")
    if tokenizer.pad_token_id is None:
        raise DataError(
            "The base's tokenizer has no padding token, so that rows cannot share a batch. "
            "Use a base whose tokenizer has one."
        )
    n_texts = 2 if rows[0].text2 is not None else 1
    needed = tokenizer.num_special_tokens_to_add(pair=n_texts == 2) + n_texts
    if max_length < needed:
        raise DataError(
            f"`max_length` must be {needed} or more to leave room for a token of each text, got "
            f"{max_length}."
        )


def _tokenised(
    rows: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> BatchEncoding:
    pairs = [row.text2 for row in rows if row.text2 is not None]
    encoding: BatchEncoding = tokenizer(
        [row.text for row in rows],
        pairs or None,
        truncation=max_length is not None,
        max_length=max_length,
        return_attention_mask=False,
        verbose=False,  # no warning on rows over the model's length; they are counted
    )
    return encoding


def _count_cut(
    rows: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    encoding: BatchEncoding,
    max_length: int,
) -> int:
    if encoding.encodings is not None:
        return sum(bool(row.overflowing) for row in encoding.encodings)
    # A tokenizer in pure Python forgets what it cut off.
    whole = _tokenised(rows, tokenizer, None)
    return sum(len(ids) > max_length for ids in whole["input_ids"])


def n_batches(encoded: Encoded, batch_size: int) -> int:
    """Return the number of batches in one pass over the rows."""
    return -(-len(encoded.token_ids) // batch_size)


def training_batches(
    encoded: Encoded, *, batch_size: int, seed: int, epoch: int
) -> Iterator[Batch]:
    """Yield every row once, in batches of like lengths, in an order drawn from (seed, epoch).

    `seed` and `epoch` are 0 or more. The rows are shuffled and cut into pools, each pool is
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
        yield _padded(encoded, batches[number])


def evaluation_batches(
    encoded: Encoded, *, batch_size: int
) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """Yield every row once, shortest first, with the rows' places in `encoded`."""
    order = np.argsort(encoded.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        yield places, _padded(encoded, places)


def _padded(encoded: Encoded, places: NDArray[np.int64]) -> Batch:
    import torch

    longest = max(len(encoded.token_ids[place]) for place in places)
    width = max(longest, min(-(-longest // _WIDTH_STEP) * _WIDTH_STEP, encoded.max_length))
    shape = (len(places), width)
    ids = np.full(shape, encoded.pad_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    types = np.full(shape, encoded.pad_type, dtype=np.int64)
    for number, place in enumerate(places):
        n_tokens = len(encoded.token_ids[place])
        used = slice(width - n_tokens, width) if encoded.pad_left else slice(n_tokens)
        ids[number, used] = encoded.token_ids[place]
        mask[number, used] = 1
        if encoded.token_types is not None:
            types[number, used] = encoded.token_types[place]
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    if encoded.token_types is not None:
        inputs["token_type_ids"] = torch.from_numpy(types)
    return Batch(inputs, torch.from_numpy(encoded.labels[places]))
