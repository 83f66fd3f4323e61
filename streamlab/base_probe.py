"""Probes of a loaded base: whether its answers depend on the text alone, and how long one may be.

A probe runs at load and takes less than a second on a small base. It sets what differs between
architectures (the padding side, the padding token of the configuration, the longest input), and
refuses a base whose answers depend on the rest of the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from streamlab.errors import SourceError
from streamlab.tasks.batches import Encoded, encode, padded
from streamlab.tasks.types import task_type
from streamlab.tasks.types.example import Example

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LONGEST: Final = 512  # tokens of the longest input that a probe computes
_FEWEST_WORDS: Final = 2  # of a vocabulary, beside the special tokens
_LEAST_SHARE: Final = 0.5  # of the embedded ids that the tokenizer must know
_TOLERANCE: Final = 1e-4  # of the spread of the answers; padding that is seen changes more
_ROUNDING: Final = 3e-6  # of the answers themselves, in float32
_SIDES: Final = ("right", "left")
_NO_LIMIT: Final = 10**9


def check_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase, n_embedded: int) -> None:
    """Raise SourceError for a tokenizer that cannot be the one the model was trained with.

    `n_embedded`: the rows of the model's input embeddings.
    """
    vocabulary = tokenizer.get_vocab()
    n_words = len(vocabulary.keys() - set(tokenizer.all_special_tokens))
    where = f"The tokenizer of the base {name!r}"
    if n_words < _FEWEST_WORDS or len(vocabulary) < _LEAST_SHARE * n_embedded:
        raise SourceError(
            f"{where} knows {n_words} words, and the model {n_embedded} tokens: its files are "
            "missing or belong to another model. Put the model's own tokenizer files "
            "(`tokenizer.json`, or the vocabulary) beside its weights."
        )
    token, largest = max(vocabulary.items(), key=lambda item: item[1])
    if largest >= n_embedded:
        raise SourceError(
            f"{where} gives {token!r} the id {largest}, and the model embeds {n_embedded} tokens. "
            "Put the model's own tokenizer beside its weights, or resize the model's embeddings "
            "to the tokenizer and train them."
        )
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise SourceError(
            f"{where} has no padding token, so that texts cannot share a batch. Set `pad_token` "
            "in its `tokenizer_config.json`, for instance to the end-of-text token."
        )


def takes_token_types(model_class: type[PreTrainedModel]) -> bool:
    """Return whether a model takes `token_type_ids`."""
    return "token_type_ids" in inspect.signature(model_class.forward).parameters


def check_causal(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise SourceError for a language model whose tokens see those after them."""
    first, second = (tokenizer.get_vocab()[word] for word in sorted(tokenizer.get_vocab())[-2:])
    ids = torch.tensor([[first, first, second], [first, first, first]])
    with torch.inference_mode():
        one, other = model(input_ids=ids).logits[:, :2].float()
    if not torch.allclose(one, other, rtol=1e-4, atol=1e-5):
        raise SourceError(
            f"The base {name!r} ({model.config.model_type}) is an encoder: its tokens see those "
            "after them, so that it cannot complete a prompt. Give a decoder."
        )


class Probe:
    """A classifier of a base, asked about texts made of the tokenizer's own words."""

    def __init__(self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self._name = name
        self._model = model
        self._pad_token: int | None = getattr(model.config, "pad_token_id", None)
        if self._pad_token is None:  # BART and T5 fail on any text without one
            model.config.pad_token_id = tokenizer.pad_token_id
        self._tokenizer = tokenizer
        self._words = _some_words(tokenizer)
        self._tables = {p.data_ptr(): name for name, p in model.named_parameters()}

    def longest_input(self) -> int:
        """Return how many tokens the tables of positions hold; a large number without any.

        Raises SourceError where the model cannot be asked, or the tokenizer gives an index beyond
        one of its tables.
        """
        self._check_words()
        seen = []
        for n_times in (1, 2):  # the same words, so that only positions grow
            encoded = self._encode(Example(" ".join(self._words[:2] * n_times), None, 0))
            with self._watching() as lookups:
                self._ask_alone(encoded, 0)
            seen.append((int(encoded.lengths[0]), lookups.largest))
        with self._watching():
            self._ask_alone(self._encode(Example(self._words[0], self._words[1], 0)), 0)
        (few, before), (many, after) = seen
        return min(
            (
                rows - (largest - many + 1)
                for table, (largest, rows) in after.items()
                if table in before and largest - before[table][0] == many - few > 0
            ),
            default=_NO_LIMIT,
        )

    def settle_padding(self, max_length: int) -> int | None:
        """Set the tokenizer's padding side, and return the configuration's padding token.

        Decoders find the end of a text by the latter. Both are the first under which a text gets
        the same answer alone, beside a longer text and beside one of `max_length` tokens. Raises
        SourceError if there are none.
        """
        config = self._model.config
        tokens: list[int | None] = [self._pad_token, self._tokenizer.pad_token_id]
        reason = ""
        for side, token in product(_SIDES, tokens):
            self._tokenizer.padding_side, config.pad_token_id = side, token
            found = self._dependence(min(max_length, _LONGEST))
            if not found:
                break
            reason = reason or found
        else:
            raise self._refused(reason)
        return token

    def _refused(self, reason: str) -> SourceError:
        return SourceError(
            f"The base {self._name!r} ({self._model.config.model_type}) cannot be used: {reason} "
            "Give a model of another architecture, whose answers do not depend on padding."
        )

    def _dependence(self, length: int) -> str:
        """Return in a sentence what an answer depends on beside its text; "" for nothing."""
        texts = [self._text(3), self._text(8, start=3), self._text(length)]
        try:
            together = self._encode(*texts, max_length=length)
            alone = np.stack([self._ask_alone(together, place) for place in (0, 1)])
            beside = {
                "a longer one": self._ask(together, [0, 1]) - alone,
                f"one of {length} tokens": self._ask(together, [0, 2])[:1] - alone[:1],
            }
        except _FailedError as error:  # such as a decoder without a padding token
            return str(error)
        spread = float(np.ptp(alone, axis=0).max())
        if not spread:
            return "it gives different texts the same answer."
        allowed = _TOLERANCE * spread + _ROUNDING * np.abs(alone).max()
        for neighbour, change in beside.items():
            if np.abs(change).max() > allowed:
                return (
                    f"a text is answered otherwise beside {neighbour} than alone, since the model "
                    "sees the padding."
                )
        return ""

    def _check_words(self) -> None:
        """Raise SourceError where words of the vocabulary are unknown, or lost."""
        ids = self._encode(self._text(len(self._words))).token_ids[0]
        n_known = sum(token not in self._tokenizer.all_special_ids for token in ids)
        if 2 * n_known < len(self._words) or len(self._words) < 2:
            raise SourceError(
                f"The tokenizer of the base {self._name!r} does not find {self._words[:3]}, words "
                "of its own vocabulary, in a text. Put the model's own tokenizer files beside its "
                "weights."
            )

    def _text(self, n_words: int, *, start: int = 0) -> Example:
        words = (self._words[(start + number) % len(self._words)] for number in range(n_words))
        return Example(" ".join(words), None, 0)

    def _encode(self, *examples: Example, max_length: int = _LONGEST) -> Encoded:
        kind = task_type("classification")
        return encode(examples, self._tokenizer, kind, max_length=max_length)

    def _ask_alone(self, encoded: Encoded, place: int) -> NDArray[np.float32]:
        """Return the answer to one text without any padding, (n_outputs,)."""
        exact = replace(encoded, max_length=int(encoded.lengths[place]))
        answer: NDArray[np.float32] = self._ask(exact, [place])[0]
        return answer

    def _ask(self, encoded: Encoded, places: list[int]) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                logits = self._model(**padded(encoded, np.array(places)).inputs).logits
        except (MemoryError, _BeyondTableError):
            raise
        except Exception as error:
            n_tokens = " and ".join(str(encoded.lengths[place]) for place in places)
            reason = " ".join(str(error).split())[:200]
            raise _FailedError(f"it fails on texts of {n_tokens} tokens ({reason}).") from error
        answers: NDArray[np.float32] = logits.float().numpy()
        if not np.isfinite(answers).all():
            raise SourceError(
                f"The base {self._name!r} answers with NaN or infinite numbers though its weights "
                "are finite. Give a checkpoint that works with `transformers` in float32."
            )
        return answers

    @contextmanager
    def _watching(self) -> Iterator[_Lookups]:
        lookups = _Lookups(self._tables)
        try:
            with lookups:
                yield lookups
        except _FailedError as error:
            raise self._refused(str(error)) from error
        except _BeyondTableError as error:
            raise SourceError(
                f"The tokenizer of the base {self._name!r} gives the index {error.index}, and "
                f"`{error.table}` of the model has {error.n_rows} rows. Put the model's own "
                "tokenizer beside its weights."
            ) from error


class _FailedError(Exception):
    """The model raised an error; the message says which in a clause."""


class _BeyondTableError(Exception):
    def __init__(self, table: str, index: int, n_rows: int) -> None:
        super().__init__(table)
        self.table, self.index, self.n_rows = table, index, n_rows


class _Lookups(TorchDispatchMode):
    """Notes the largest index of every embedding table, for tables of one index a token."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = names
        self.largest: dict[str, tuple[int, int]] = {}  # and the table's rows

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # the names and types are torch's
        if func is torch.ops.aten.embedding.default:
            table, indices = args[:2]
            name = self._names.get(table.data_ptr(), "an embedding")
            largest = int(indices.max())
            if largest >= len(table):
                raise _BeyondTableError(name, largest, len(table))
            if indices.numel() == indices.shape[-1]:  # no table of relative distances
                known = self.largest.get(name, (0, 0))[0]
                self.largest[name] = max(known, largest), len(table)
        return func(*args, **(kwargs or {}))


def _some_words(tokenizer: PreTrainedTokenizerBase, n_words: int = 8) -> list[str]:
    """Return words of a vocabulary, evenly spread; the same ones for the same vocabulary."""
    special = set(tokenizer.all_special_ids)
    ids = sorted(i for i in tokenizer.get_vocab().values() if i not in special)
    step, words = max(1, len(ids) // 97), dict[str, None]()
    for start in range(step):
        for token in ids[start::step]:
            word = str(tokenizer.decode([token])).strip()
            if word.isprintable() and word and not any(sign.isspace() for sign in word):
                words[word] = None
            if len(words) == n_words:
                return list(words)
    return list(words)
