"""Token ids of examples, and padded batches of similar lengths."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DataError
from streamlab.tasks.types.contract import TaskType
from streamlab.tasks.types.example import Example
from streamlab.tasks.types.tokenising import PromptFrame, tokenise_prompts

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

_WIDTH_STEP: Final = 8  # widths are multiples of this: few shapes, aligned for the kernels
_POOL_BATCHES: Final = 16  # examples of so many batches are sorted by length together


@dataclass(frozen=True)
class Encoded:
    """Examples as token ids, unpadded; `token_types` is None where the tokenizer has none.

    `positions` and the labels where there are several to an example: see `Tokenised`.
    """

    type: TaskType
    token_ids: tuple[list[int], ...]
    token_types: tuple[list[int], ...] | None
    labels: NDArray[Any]  # class indices or numbers, (n_examples,); or wider
    positions: NDArray[np.int64] | None
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
        return replace(
            self,
            token_ids=self.token_ids[:n_examples],
            token_types=types,
            labels=self.labels[:n_examples],
            positions=None if self.positions is None else self.positions[:n_examples],
        )


@dataclass(frozen=True)
class Batch:
    """A batch for a model: `inputs` by the names of its arguments, (n_examples, width) each.

    `positions`: the tokens whose outputs are asked for, (n_examples, n_positions), -1 where there
    are no more; the labels then have this shape. None: the model gives one output an example.
    """

    inputs: dict[str, Tensor]
    labels: Tensor  # (n_examples,) or wider; int64 for classes and float32 for numbers
    positions: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def part(self, places: slice) -> Batch:
        """Return some of the examples."""
        inputs = {name: tensor[places] for name, tensor in self.inputs.items()}
        positions = None if self.positions is None else self.positions[places]
        return Batch(inputs, self.labels[places], positions)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        positions = None if self.positions is None else self.positions.to(device)
        return Batch(inputs, self.labels.to(device), positions)

    @property
    def targets(self) -> Tensor:
        """Return the labels of what is asked, (n_asked,) or wider."""
        return self.labels if self.positions is None else self.labels[self.positions >= 0]


def asked_logits(model: Any, batch: Batch) -> Tensor:
    """Return a model's logits for what a batch asks, float32, (n_asked, n_outputs).

    A language model computes those of the tokens alone at which any example is asked.
    """
    if batch.positions is None:
        return cast("Tensor", model(**batch.inputs).logits.float())
    rows, columns = (batch.positions >= 0).nonzero(as_tuple=True)
    places = batch.positions[rows, columns]
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        kept, places = places.unique(return_inverse=True)
        logits = model(**batch.inputs, logits_to_keep=kept).logits
    else:
        logits = model(**batch.inputs).logits
    return cast("Tensor", logits[rows, places].float())


def encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    task_type: TaskType,
    *,
    max_length: int,
    frame: PromptFrame | None = None,
) -> Encoded:
    """Tokenise examples, truncating those longer than `max_length` tokens, special ones included.

    Pairs are truncated from the longer text. `frame`: what prompts are set in that are still to be
    completed. Raises DataError where the tokenizer cannot pad or `max_length` leaves no room for a
    text.
    """
    if not examples:
        raise DataError("There are no examples to tokenise. Give at least one.")
    if tokenizer.pad_token_id is None:
        raise DataError(
            "The base's tokenizer has no padding token, so that examples cannot share a batch. "
            "Use a base whose tokenizer has one."
        )
    if frame is None:
        found = task_type.tokenise(examples, tokenizer, max_length)
    else:
        found = tokenise_prompts(examples, tokenizer, max_length, frame)
    return Encoded(
        type=task_type,
        token_ids=found.token_ids,
        token_types=found.token_types,
        labels=found.labels,
        positions=found.positions,
        n_truncated=found.n_truncated,
        max_length=max_length,
        pad_id=int(tokenizer.pad_token_id),
        pad_type=int(tokenizer.pad_token_type_id),
        pad_left=tokenizer.padding_side == "left",
    )


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
    labels = torch.from_numpy(encoded.labels[places])
    if encoded.positions is None:
        return Batch(inputs, labels)
    positions = encoded.positions[places]
    if encoded.pad_left:
        shift = (width - lengths)[:, None]
        positions = np.where(positions < 0, positions, positions + shift)
    return Batch(inputs, labels, torch.from_numpy(positions))
