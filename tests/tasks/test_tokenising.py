"""Words and their first pieces, prompts in their frames, and completions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from streamlab.errors import DataError
from streamlab.tasks.batches import encode, padded
from streamlab.tasks.types import task_type
from streamlab.tasks.types.example import Example
from streamlab.tasks.types.tokenising import IGNORED, PromptFrame

TAGS, TEXTS = task_type("tokens"), task_type("causal_lm")
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<|user|>", "<|end|>")
TEMPLATE = (
    "{% for turn in messages %}<|user|>{{ turn['role'] }} : {{ turn['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|user|>assistant : {% endif %}"
)


def make(*, template: str | None = None, **settings: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer of letters, so that most words have several pieces."""
    letters = [*"abcdefghijklmnopqrstuvwxyz:", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    places = {token: place for place, token in enumerate((*SPECIAL, *letters))}
    core = Tokenizer(models.WordPiece(places, unk_token="<unk>"))  # noqa: S106
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", places["<s>"])]
    )
    build: Any = PreTrainedTokenizerFast
    given = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    more = {"additional_special_tokens": ["<|user|>", "<|end|>"], "chat_template": template}
    tokenizer: PreTrainedTokenizerFast = build(tokenizer_object=core, **given, **more, **settings)
    return tokenizer


def test_a_word_is_asked_at_its_first_piece_and_nowhere_else() -> None:
    examples = [Example(("anna", "is", "in"), None, (1, 0, 2)), Example(("rome",), None, (1,))]

    batch = padded(encode(examples, make(), TAGS, max_length=16), np.array([0, 1]))

    assert batch.positions is not None
    assert batch.positions.tolist() == [[1, 5, 7], [1, -1, -1]]
    assert batch.labels.tolist() == [[1, 0, 2], [1, IGNORED, IGNORED]]
    assert batch.targets.tolist() == [1, 0, 2, 1]


def test_padding_on_the_left_moves_what_is_asked() -> None:
    examples = [Example(("anna", "is"), None, (1, 0)), Example(("i",), None, (1,))]
    encoded = encode(examples, make(padding_side="left"), TAGS, max_length=16)

    batch = padded(encoded, np.array([0, 1]))

    ids = batch.inputs["input_ids"]
    assert batch.positions is not None
    asked = [ids[i, place].item() for i, row in enumerate(batch.positions) for place in row
             if place >= 0]  # fmt: skip
    assert make().convert_ids_to_tokens(asked) == ["a", "i", "i"]


def test_a_word_that_is_cut_off_is_not_asked() -> None:
    encoded = encode([Example(("anna", "is"), None, (1, 1))], make(), TAGS, max_length=5)

    assert encoded.labels.tolist() == [[1, IGNORED]]
    assert encoded.n_truncated == 1


def test_a_tokenizer_that_does_not_align_words_is_refused() -> None:
    class Slow(PreTrainedTokenizerFast):
        is_fast = False  # type: ignore[assignment]

    slow = make()
    slow.__class__ = Slow
    with pytest.raises(DataError, match="which word a token belongs to"):
        encode([Example(("anna",), None, (1,))], slow, TAGS, max_length=8)


def test_a_completion_is_asked_at_the_tokens_before_it_and_its_end() -> None:
    tokenizer = make()
    encoded = encode([Example("ab", None, "cd")], tokenizer, TEXTS, max_length=16)

    assert tokenizer.convert_ids_to_tokens(encoded.token_ids[0]) == ["<s>", "a", "##b", "c", "##d"]
    assert tokenizer.convert_ids_to_tokens(encoded.labels[0].tolist()) == ["c", "##d", "</s>"]
    assert encoded.positions is not None
    assert encoded.positions.tolist() == [[2, 3, 4]]


def test_a_chat_template_sets_a_prompt_as_the_tokenizer_does() -> None:
    tokenizer = make(template=TEMPLATE)
    encoded = encode([Example("who is anna", None, "a cat")], tokenizer, TEXTS, max_length=64)

    turns = [{"role": "user", "content": "who is anna"}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    answer = encoded.token_ids[0][len(prompt) :]
    assert encoded.token_ids[0][: len(prompt)] == prompt
    assert tokenizer.convert_ids_to_tokens(answer) == ["a", "c", "##a", "##t"]
    assert tokenizer.convert_ids_to_tokens([encoded.labels[0, -1]]) == ["<|end|>"]


def test_a_prompt_that_names_a_special_token_does_not_contain_it() -> None:
    tokenizer = make(template=TEMPLATE)
    encoded = encode([Example("say <|end|> now", None, "x")], tokenizer, TEXTS, max_length=64)

    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert encoded.token_ids[0].count(end) == 1  # of the template


def test_a_long_prompt_is_cut_and_its_frame_and_completion_stay() -> None:
    tokenizer = make()
    encoded = encode([Example("abcdefgh", None, "xy")], tokenizer, TEXTS, max_length=7)

    tokens = tokenizer.convert_ids_to_tokens(encoded.token_ids[0])
    assert tokens == ["<s>", "a", "##b", "##c", "x", "##y"]
    assert encoded.n_truncated == 1


def test_a_completion_that_leaves_no_room_for_a_prompt_is_refused() -> None:
    with pytest.raises(DataError, match="Raise `max_length`"):
        encode([Example("ab", None, "abcdefgh")], make(), TEXTS, max_length=8)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ messages[0]['content'] | upper }}", "does not show a prompt"),
        ("{{ raise_exception('no users') }}", "fails: no users"),
    ],
)
def test_a_template_that_changes_a_prompt_or_fails_is_refused(template: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        PromptFrame.of(make(template=template))


def test_a_tokenizer_without_an_end_of_text_is_refused() -> None:
    tokenizer = make()
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="neither a chat template nor an end-of-text"):
        PromptFrame.of(tokenizer)


def test_the_outputs_of_a_token_are_its_log_probability_and_its_lead() -> None:
    logits = torch.tensor([[1.0, 3.0, 0.0], [2.0, -1.0, 5.0]])
    labels = torch.tensor([1, 0])

    found = TEXTS.outputs(logits, labels)

    expected = torch.log_softmax(logits, 1)[[0, 1], labels]
    assert found[:, 0].tolist() == pytest.approx(expected.tolist())
    assert found[:, 1].tolist() == [2.0, -3.0]
