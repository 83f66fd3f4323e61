"""Causal language modelling: a completion for a prompt, as in instruction tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from streamlab.tasks.labels import CompletionReader, LabelReader, checked_text
from streamlab.tasks.types.contract import AnswerColumn, Outputs, Prediction, TaskType
from streamlab.tasks.types.example import Example
from streamlab.tasks.types.tokenising import IGNORED, PromptFrame, Tokenised, tokenise_completions

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


_MOST_NEW_TOKENS: Final = 256  # of an answer, where no completion is known


class CausalLanguageModelling(TaskType):
    """A completion for a prompt; the loss is that of the completion and the token that ends it.

    There is no head: the base's own language model head answers. It is a part of the backbone
    where its weights are tied to the input embeddings, and else frozen.

    Of the outputs at a token, two numbers are kept: the log probability of the right token, and its
    logit less the largest of the others, which is above 0 where greedy decoding chooses it. Rounded
    outputs agree by the share of tokens for which that is so in both or in neither.
    """

    kind = "causal_lm"
    title = "language modelling"
    model_class = "AutoModelForCausalLM"
    text_columns = ("prompt",)
    label_columns = ("completion",)
    takes_pairs = False
    has_classes = False
    generates = True
    least_agreement = 0.995

    def default_metrics(self, _labels: Sequence[str]) -> tuple[str, ...]:
        """Return the shares of right tokens and of right completions, and the perplexity."""
        return "token_accuracy", "exact_match", "perplexity"

    def label_reader(
        self, _labels: tuple[str, ...], _named: tuple[str, ...] | None, _origin: str
    ) -> LabelReader:
        """Return a reader of texts."""
        return CompletionReader()

    def wrong_labels(
        self, train: Sequence[Any], _n_labels: int, draw: np.random.Generator
    ) -> Callable[[Any], Any]:
        """Draw another completion of those in train."""
        every = list(dict.fromkeys(train))

        def wrong(label: str) -> str:
            others = [one for one in every if one != label]
            return str(others[int(draw.integers(len(others)))]) if others else label

        return wrong

    def asked(self, given: Any) -> Example:
        """Return a prompt to complete."""
        return Example(checked_text(given), None, "")

    def tokenise(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> Tokenised:
        """Return prompts and completions, asked at the token before each token of the latter."""
        return tokenise_completions(examples, tokenizer, max_length)

    def collate(self, labels: Sequence[Any]) -> NDArray[Any]:
        """Return completions as they are: their labels are token ids, of `tokenise`."""
        return np.array(labels, dtype=object)

    def serving_facts(
        self, examples: Sequence[Example], _tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """Return the texts around a prompt, and how many tokens an answer may have.

        Without examples, these are 256.
        """
        frame = PromptFrame.of(_tokenizer)
        most = _MOST_NEW_TOKENS
        if examples:
            completions = [str(one.label) for one in examples]
            most = 1 + max(map(len, _tokenizer(completions, add_special_tokens=False)["input_ids"]))
        return {
            "prompt": [frame.before, frame.after, frame.end],
            "chat_template": frame.from_template,
            "max_new_tokens": most,
        }

    def loss(
        self, logits: Tensor, labels: Tensor, *, class_weights: tuple[float, ...] | None = None
    ) -> Tensor:
        """Return the mean cross-entropy over the completions' tokens in a batch."""
        assert class_weights is None  # noqa: S101 - the settings of a task refuse them
        from torch.nn import functional

        return functional.cross_entropy(logits, labels)

    def outputs(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return log probability and margin of the right token, (n_asked, 2)."""
        import torch

        chosen = labels.unsqueeze(1)
        right = logits.gather(1, chosen)
        others = logits.scatter(1, chosen, -torch.inf).amax(1, keepdim=True)
        return torch.cat([right - logits.logsumexp(1, keepdim=True), right - others], dim=1)

    def loss_of_outputs(
        self, outputs: Outputs, labels: NDArray[Any], class_weights: tuple[float, ...] | None = None
    ) -> float:
        """Return the mean negative log probability of the completions' tokens."""
        assert class_weights is None  # noqa: S101 - the settings of a task refuse them
        return -float(outputs[labels != IGNORED][:, 0].mean(dtype=np.float64))

    def fits(self, outputs: Outputs, labels: NDArray[Any]) -> bool:
        """Return whether there is a row of outputs for every place of a token."""
        return outputs.ndim == 3 and labels.shape == outputs.shape[:2]

    def decode(self, outputs: Outputs) -> NDArray[Any]:
        """Return the outputs, from which the metrics are computed."""
        return np.asarray(outputs)

    def majority_answer(self, _labels: Sequence[Any]) -> None:
        """Return nothing: no one completion is an answer to every prompt."""
        return

    def predictions(
        self, outputs: Outputs, _labels: Sequence[str], _asked: Sequence[Example]
    ) -> list[Prediction]:
        """Raise TypeError: completions are generated, not read from outputs."""
        raise TypeError(f"a completion is generated, not read from outputs {outputs.shape}")

    def answer_columns(self, _labels: Sequence[str]) -> tuple[AnswerColumn, ...]:
        """Return the completion alone."""
        return (AnswerColumn("completion", "text"),)

    def answer_row(self, prediction: Prediction) -> tuple[Any, ...]:
        """Return the completion alone."""
        return (prediction.text,)

    def configure(self, config: PretrainedConfig, labels: Sequence[str]) -> None:
        """Write nothing: the configuration of a language model says all."""

    def agreement(self, outputs: Outputs, expected: Outputs) -> float:
        """Return the share of tokens that greedy decoding chooses in both or in neither."""
        asked = expected.any(axis=-1)
        return float(((outputs[..., 1] > 0) == (expected[..., 1] > 0))[asked].mean())
