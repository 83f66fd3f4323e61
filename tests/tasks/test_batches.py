from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CanineTokenizer, PreTrainedTokenizerFast

from streamlab.errors import DataError
from streamlab.tasks.batches import (
    Batch,
    Encoded,
    encode,
    evaluation_batches,
    n_batches,
    training_batches,
)
from streamlab.tasks.types import task_type
from streamlab.tasks.types.example import Example

CLASSES, NUMBERS = task_type("classification"), task_type("regression")
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
PAD, CLS, SEP = 0, 1, 2


def word_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer of numbers, one token each, framed as BERT frames them."""
    words = [*SPECIAL, *map(str, range(100))]
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    given = {"pad_token": "[PAD]", "unk_token": "[UNK]", **options}
    inputs = given.pop("inputs", ["input_ids", "token_type_ids", "attention_mask"])
    build: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = build(
        tokenizer_object=core, model_input_names=inputs, **given
    )
    return tokenizer


def row(n_words: int, label: float = 0, n_words2: int | None = None) -> Example:
    def text(n: int) -> str:
        return " ".join(str(number % 100) for number in range(n))

    return Example(text(n_words), None if n_words2 is None else text(n_words2), label)


def numbered(lengths: list[int], max_length: int = 64) -> Encoded:
    """Encode rows of these many words, labelled by their place."""
    rows = [row(length, place) for place, length in enumerate(lengths)]
    return encode(rows, word_tokenizer(), CLASSES, max_length=max_length)


def tokens(batch: Batch) -> list[list[int]]:
    """Return the token ids of a batch without their padding."""
    pairs = zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True)
    return [ids[mask.bool()].tolist() for ids, mask in pairs]


def test_a_pair_has_token_types_and_a_frame() -> None:
    encoded = encode([row(2, n_words2=1)], word_tokenizer(), CLASSES, max_length=16)

    assert encoded.token_ids == ([CLS, 4, 5, SEP, 4, SEP],)
    assert encoded.token_types == ([0, 0, 0, 0, 1, 1],)
    assert encoded.n_truncated == 0


def test_a_tokenizer_without_token_types_gives_none() -> None:
    tokenizer = word_tokenizer(inputs=["input_ids", "attention_mask"])
    encoded = encode([row(2, n_words2=1)], tokenizer, CLASSES, max_length=16)

    (batch,) = training_batches(encoded, batch_size=4, seed=0, epoch=0)

    assert encoded.token_types is None
    assert set(batch.inputs) == {"input_ids", "attention_mask"}


def test_long_rows_are_cut_and_counted() -> None:
    rows = [row(3, n_words2=3), row(20, n_words2=3), row(6), row(7)]

    encoded = encode(rows[:2], word_tokenizer(), CLASSES, max_length=10)
    single = encode(rows[2:], word_tokenizer(), CLASSES, max_length=8)

    assert encoded.n_truncated == 1
    assert encoded.lengths.tolist() == [9, 10]
    assert encoded.token_ids[1][-4:] == [4, 5, 6, SEP]  # the longer text is cut, not the second
    assert encoded.token_types is not None
    assert [len(types) for types in encoded.token_types] == [9, 10]
    assert (single.n_truncated, single.lengths.tolist()) == (1, [8, 8])


def test_long_rows_are_counted_by_a_tokenizer_in_pure_python_too() -> None:
    tokenizer = CanineTokenizer()  # one token a character, with [CLS] and [SEP]

    encoded = encode([row(2), row(5), row(6)], tokenizer, CLASSES, max_length=11)

    assert not tokenizer.is_fast
    assert encoded.lengths.tolist() == [5, 11, 11]
    assert encoded.n_truncated == 1


def test_classes_are_int64_and_numbers_float32() -> None:
    classes = encode([row(1, 0), row(1, 1)], word_tokenizer(), CLASSES, max_length=8)
    numbers = encode([row(1, 0.5), row(1, 1.0)], word_tokenizer(), NUMBERS, max_length=8)

    (class_batch,) = training_batches(classes, batch_size=2, seed=0, epoch=0)
    (number_batch,) = training_batches(numbers, batch_size=2, seed=0, epoch=0)

    assert class_batch.labels.dtype == torch.int64
    assert number_batch.labels.dtype == torch.float32


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.integers(1, 7),
    st.integers(0, 2**63),
    st.integers(0, 5),
)
def test_an_epoch_has_every_row_once_whole_and_under_its_label(
    lengths: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    encoded = numbered(lengths)

    batches = list(training_batches(encoded, batch_size=batch_size, seed=seed, epoch=epoch))

    seen = {int(n): ids for b in batches for n, ids in zip(b.labels, tokens(b), strict=True)}
    assert seen == dict(enumerate(encoded.token_ids))
    assert sum(len(batch.labels) for batch in batches) == len(lengths)
    assert len(batches) == n_batches(encoded, batch_size)


def test_an_order_is_its_seeds_and_epochs() -> None:
    encoded = numbered(list(range(1, 60)))

    def order(seed: int, epoch: int) -> list[int]:
        batches = training_batches(encoded, batch_size=4, seed=seed, epoch=epoch)
        return [int(label) for batch in batches for label in batch.labels]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert order(1, 0) != sorted(order(1, 0))


def test_batches_are_of_like_lengths() -> None:
    rng = np.random.default_rng(0)
    encoded = numbered(rng.integers(1, 60, size=320).tolist())

    batches = list(training_batches(encoded, batch_size=8, seed=0, epoch=0))
    padded = sum(batch.inputs["input_ids"].numel() for batch in batches)

    # Batches drawn blindly would be padded to about 56 tokens a row, and 33 are needed.
    assert padded < 1.25 * encoded.lengths.sum()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=40), st.integers(5, 30))
def test_a_batch_is_as_wide_as_its_longest_row_in_steps_of_eight(
    lengths: list[int], max_length: int
) -> None:
    encoded = numbered(lengths, max_length)

    for batch in training_batches(encoded, batch_size=4, seed=0, epoch=0):
        longest = int(batch.inputs["attention_mask"].sum(1).max())
        width = batch.inputs["input_ids"].shape[1]
        assert longest <= width <= max_length
        assert width == max_length or width % 8 == 0
        assert width - longest < 8


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_the_tokenizers_own_and_masked(side: str) -> None:
    encoded = encode([row(1), row(6)], word_tokenizer(padding_side=side), CLASSES, max_length=16)

    ((places, batch),) = evaluation_batches(encoded, batch_size=2)

    assert places.tolist() == [0, 1]
    ids, mask = batch.inputs["input_ids"][0], batch.inputs["attention_mask"][0]
    assert ids[mask == 0].tolist() == [PAD] * 5
    assert mask.tolist() == ([0] * 5 + [1] * 3 if side == "left" else [1] * 3 + [0] * 5)


def test_the_width_of_an_example_in_evaluation_does_not_depend_on_the_others() -> None:
    lengths = [5, 30, 1, 12, 5, 2, 20, 31, 9]
    encoded, alone = numbered(lengths, 31), [numbered([length], 31) for length in lengths]

    for places, batch in evaluation_batches(encoded, batch_size=3):
        for place in places:
            ((_, single),) = evaluation_batches(alone[place], batch_size=3)
            assert single.inputs["input_ids"].shape[1] == batch.inputs["input_ids"].shape[1]


def test_evaluation_goes_by_length_and_says_whose_row_is_whose() -> None:
    encoded = numbered([5, 30, 1, 12, 5, 2, 20])

    batches = list(evaluation_batches(encoded, batch_size=3))

    places = np.concatenate([places for places, _ in batches])
    assert sorted(places.tolist()) == list(range(7))
    assert np.all(np.diff(encoded.lengths[places]) >= 0)
    for batch_places, batch in batches:
        assert batch.labels.tolist() == batch_places.tolist()
        assert tokens(batch) == [encoded.token_ids[place] for place in batch_places]


def test_a_length_that_leaves_no_room_for_text_is_refused() -> None:
    assert encode([row(9)], word_tokenizer(), CLASSES, max_length=3).lengths.tolist() == [3]
    with pytest.raises(DataError, match=r"`max_length` must be 3 or more .*, got 2"):
        encode([row(9)], word_tokenizer(), CLASSES, max_length=2)
    with pytest.raises(DataError, match=r"`max_length` must be 5 or more .*, got 4"):
        encode([row(9, n_words2=9)], word_tokenizer(), CLASSES, max_length=4)


def test_a_tokenizer_that_cannot_pad_is_refused() -> None:
    with pytest.raises(DataError, match="no padding token"):
        encode([row(1)], word_tokenizer(pad_token=None), CLASSES, max_length=8)


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no examples to tokenise"):
        encode([], word_tokenizer(), CLASSES, max_length=8)


@pytest.mark.parametrize("name", ["[SEP]", "[CLS]", "[PAD]"])
def test_a_text_that_names_a_special_token_does_not_contain_it(name: str) -> None:
    roles = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = word_tokenizer(**roles)
    plain, named = (
        encode([Example(text, None, 0)], tokenizer, CLASSES, max_length=32).token_ids[0]
        for text in ("1 2", f"1 {name} 2")
    )
    special = tokenizer.convert_tokens_to_ids(name)

    assert named.count(special) == plain.count(special)


@pytest.mark.parametrize("model", ["WordLevel", "Unigram"])
@pytest.mark.parametrize("name", ["</s>", "<mask>", "<pad>"])
def test_a_word_that_is_the_name_of_a_special_token_is_unknown(model: str, name: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "</s>", "<mask>", "<pad>", "▁a", "▁film"]
    vocabulary: Any = {
        "WordLevel": lambda: models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"),
        "Unigram": lambda: models.Unigram([(w, 0.0) for w in words] + [("▁", -9.0)], 0),
    }
    core = Tokenizer(vocabulary[model]())
    spaces = {"WordLevel": pre_tokenizers.WhitespaceSplit, "Unigram": pre_tokenizers.Metaspace}
    core.pre_tokenizer = spaces[model]()
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    roles = {
        "unk_token": "<unk>",
        "eos_token": "</s>",
        "mask_token": "<mask>",
        "pad_token": "<pad>",
    }
    build: Any = PreTrainedTokenizerFast
    tokenizer = build(tokenizer_object=core, **roles)

    ids = encode([Example(f"a {name} film", None, 0)], tokenizer, CLASSES, max_length=32)

    assert [i for i in ids.token_ids[0] if 0 < i < 4] == [1]
