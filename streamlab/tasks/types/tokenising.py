"""Token ids of texts, of words, and of prompts with their completions.

A text that names a special token does not contain it: it is split, or becomes the unknown token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DataError
from streamlab.tasks.types.example import Example

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

IGNORED: Final = -100  # a label where nothing is asked, as PyTorch's cross-entropy has it


@dataclass(frozen=True)
class Tokenised:
    """Examples as token ids, with labels as the loss takes them.

    `positions`: the tokens whose outputs are asked for, (n_examples, n_positions), -1 where there
    are no more; labels then have this shape, and are IGNORED there. None: one output an example.
    """

    token_ids: tuple[list[int], ...]
    token_types: tuple[list[int], ...] | None
    labels: NDArray[Any]
    n_truncated: int
    positions: NDArray[np.int64] | None = None


def tokenise_texts(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    labels: NDArray[Any],
) -> Tokenised:
    """Tokenise texts, or pairs of texts, which are truncated from the longer text."""
    _check_room(examples, tokenizer, max_length)
    encoding = _encoded(examples, tokenizer, max_length)
    types: list[list[int]] | None = encoding.get("token_type_ids")
    return Tokenised(
        token_ids=_without_special(encoding, tokenizer),
        token_types=None if types is None else tuple(types),
        labels=labels,
        n_truncated=_count_truncated(examples, tokenizer, encoding, max_length),
    )


def tokenise_words(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    labels: NDArray[np.int64],
) -> Tokenised:
    """Tokenise lists of words; each is asked at its first piece, if that was not cut off.

    `labels`: of the words, (n_examples, most words). Raises DataError for a tokenizer that does
    not say which piece belongs to which word.
    """
    _check_room(examples, tokenizer, max_length)
    if not tokenizer.is_fast:
        raise DataError(
            "The base's tokenizer does not say which word a token belongs to, so that tags cannot "
            "be aligned. Use a base with a fast tokenizer (`tokenizer.json`)."
        )
    encoding = _encoded(examples, tokenizer, max_length)
    types: list[list[int]] | None = encoding.get("token_type_ids")
    positions = np.full(labels.shape, -1, np.int64)
    for number, row in enumerate(positions):
        for place, word in enumerate(encoding.word_ids(number)):
            if word is not None and row[word] < 0:
                row[word] = place
    return Tokenised(
        token_ids=_without_special(encoding, tokenizer),
        token_types=None if types is None else tuple(types),
        labels=np.where(positions < 0, IGNORED, labels),
        n_truncated=_count_truncated(examples, tokenizer, encoding, max_length),
        positions=positions,
    )


def _check_room(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    n_texts = 2 if examples[0].text2 is not None else 1
    needed = tokenizer.num_special_tokens_to_add(pair=n_texts == 2) + n_texts
    if max_length < needed:
        raise DataError(
            f"`max_length` must be {needed} or more to leave room for a token of each text, got "
            f"{max_length}."
        )


def _encoded(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> BatchEncoding:
    pairs = [example.text2 for example in examples if example.text2 is not None]
    words = not isinstance(examples[0].text, str)
    encoding: BatchEncoding = tokenizer(
        [list(one.text) if words else one.text for one in examples],
        pairs or None,
        is_split_into_words=words,
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
    whole = _encoded(examples, tokenizer, None)
    return sum(len(ids) > max_length for ids in whole["input_ids"])


@dataclass(frozen=True)
class PromptFrame:
    """What a prompt is set in: the texts before and after it, and the token that ends an answer.

    Special tokens in these texts count as such, unlike those in a prompt or a completion.
    """

    before: str
    after: str
    end: str
    from_template: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> PromptFrame:
        """Return the frame of the tokenizer's chat template, for one turn of a user.

        Without a template, a prompt follows the special tokens that begin a text, if any, and the
        end-of-text token ends an answer. Raises DataError where there is none, or the template
        does more to a prompt than to set it in texts.
        """
        if tokenizer.chat_template is None:
            if tokenizer.eos_token is None:
                raise DataError(
                    "The base's tokenizer has neither a chat template nor an end-of-text token, so "
                    "that a completion has no end. Set `eos_token` in its `tokenizer_config.json`."
                )
            return cls("", "", str(tokenizer.eos_token), from_template=False)
        asked, answered = "first-text", "second-text"
        turn = [{"role": "user", "content": asked}]
        answer = [*turn, {"role": "assistant", "content": answered}]
        try:
            prompt = str(
                tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            )
            whole = str(tokenizer.apply_chat_template(answer, tokenize=False))
        except Exception as error:  # of the template, whatever it is
            raise DataError(
                f"The chat template of the base's tokenizer fails: {error}. Correct it, or remove "
                "`chat_template` from the tokenizer."
            ) from error
        before, found, after = prompt.partition(asked)
        _, answer_found, ending = whole.partition(answered)
        ends = [token for token in tokenizer.all_special_tokens if ending.startswith(str(token))]
        if not found or not answer_found or asked in after:
            raise DataError(
                "The chat template of the base's tokenizer does not show a prompt or an answer as "
                "it is, so that it cannot be used. Remove `chat_template` from the tokenizer."
            )
        end = max(map(str, ends), key=len) if ends else str(tokenizer.eos_token or "")
        if not end:
            raise DataError(
                "The chat template of the base's tokenizer ends an answer without a special token, "
                "and the tokenizer has no end-of-text token. Set `eos_token`."
            )
        return cls(before, after, end, from_template=True)

    def ids(self, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int], int]:
        """Return the token ids before and after a prompt, and that which ends an answer."""
        if self.from_template:
            before = _plain_ids(tokenizer, self.before, special=True)
        else:
            before = _leading(tokenizer)
        after = _plain_ids(tokenizer, self.after, special=True)
        return before, after, _plain_ids(tokenizer, self.end, special=True)[-1]


def _plain_ids(
    tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool = False
) -> list[int]:
    """Return the ids of a text without added tokens; `special`: those that it names count."""
    if not text:
        return []
    encoding: Any = tokenizer(
        text, add_special_tokens=False, split_special_tokens=not special, verbose=False
    )
    ids: list[int] = list(encoding["input_ids"])
    if special:
        return ids
    unknown = tokenizer.unk_token_id
    names = set(tokenizer.all_special_ids) - {unknown}
    return [unknown if i in names and unknown is not None else i for i in ids]


def _leading(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the special tokens that the tokenizer puts before a text."""
    encoding: Any = tokenizer("a", return_special_tokens_mask=True, verbose=False)
    mask = list(encoding["special_tokens_mask"])
    first = mask.index(0) if 0 in mask else 0
    return list(encoding["input_ids"][:first])


def framed(
    prompts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    frame: PromptFrame,
    max_length: int,
    n_answer: Sequence[int],
) -> tuple[list[list[int]], int]:
    """Return prompts in their frame as token ids, and how many were cut at their end.

    `n_answer`: the tokens for which each has to leave room. Raises DataError where the frame
    leaves no room for a token of a prompt.
    """
    before, after, _ = frame.ids(tokenizer)
    found, n_truncated = [], 0
    for prompt, n_after in zip(prompts, n_answer, strict=True):
        ids = _plain_ids(tokenizer, prompt)
        room = max_length - len(before) - len(after) - n_after
        if room < 1:
            raise DataError(
                f"`max_length` is {max_length} tokens, and the texts around a prompt take "
                f"{len(before) + len(after)} and its answer {n_after}. Raise `max_length`."
            )
        n_truncated += len(ids) > room
        found.append(before + ids[:room] + after)
    return found, n_truncated


def tokenise_completions(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Tokenised:
    """Tokenise prompts and completions, each asked at the token before it.

    Labels are the ids of a completion and of the token that ends it. A prompt is cut at its end
    where both do not fit into `max_length`. Raises DataError for a completion that leaves no room
    for a prompt.
    """
    frame = PromptFrame.of(tokenizer)
    end = frame.ids(tokenizer)[2]
    answers = [[*_plain_ids(tokenizer, str(one.label)), end] for one in examples]
    lengths = [len(ids) for ids in answers]
    prompts, n_truncated = framed(
        [str(one.text) for one in examples], tokenizer, frame, max_length, lengths
    )
    labels = np.full((len(examples), max(lengths)), IGNORED, np.int64)
    positions = np.full(labels.shape, -1, np.int64)
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        labels[number, : len(answer)] = answer
        positions[number, : len(answer)] = np.arange(len(answer)) + len(prompt) - 1
    return Tokenised(
        # The token that ends an answer is never read.
        token_ids=tuple(p + a[:-1] for p, a in zip(prompts, answers, strict=True)),
        token_types=None,
        labels=labels,
        n_truncated=n_truncated,
        positions=positions,
    )


def tokenise_prompts(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    frame: PromptFrame,
) -> Tokenised:
    """Tokenise prompts to be completed, each cut at its end where it does not fit."""
    prompts = [str(one.text) for one in examples]
    ids, n_truncated = framed(prompts, tokenizer, frame, max_length, [1] * len(prompts))
    return Tokenised(tuple(ids), None, np.zeros(len(ids), np.int64), n_truncated)
