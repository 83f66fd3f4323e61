"""Train and dev splits of synthetic data in the shape of the nine GLUE tasks.

An example goes to dev or to train by a digest of its own text, so that the splits have nothing in
common whatever their sizes, and a smaller split is always the beginning of a larger one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from streamlab.errors import DataError, SourceError
from streamlab.tasks.glue import GLUE
from streamlab.tasks.sampling import n_validation_examples
from streamlab.tasks.sources.api import RawData, RawSplit, Request, Unavailable
from streamlab.tasks.synthetic.entailment import entailment, quantified_inference
from streamlab.tasks.synthetic.sentence_pairs import (
    answerability,
    duplicate_questions,
    graded_similarity,
    paraphrase,
    pronouns,
)
from streamlab.tasks.synthetic.single_sentences import acceptability, sentiment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamlab.tasks.types.example import Example

_DEV_SHARE: Final = 4  # one possible example in so many belongs to dev
_MAX_TRIES: Final = 2000
_SEED: Final = 0  # one data set, the same for every seed of a scenario
_MOST_EXAMPLES: Final = 1000  # to learn from, and as many to report on


@dataclass(frozen=True, slots=True)
class _Recipe:
    build: Callable[[int, Random], Example]
    labels: tuple[int, ...]  # one shuffled block of labels after the other: the balance


RECIPES: Final[Mapping[str, _Recipe]] = MappingProxyType(
    {
        "glue/cola": _Recipe(acceptability, (0,) * 8 + (1,) * 12),
        "glue/sst2": _Recipe(sentiment, (0, 1) * 8),
        "glue/mrpc": _Recipe(paraphrase, (0, 1, 1) * 6),
        "glue/stsb": _Recipe(graded_similarity, (0, 1, 2, 3, 4, 5) * 3),
        "glue/qqp": _Recipe(duplicate_questions, (0, 1) * 8),
        "glue/mnli": _Recipe(quantified_inference, (0, 1, 2) * 6),
        "glue/qnli": _Recipe(answerability, (0, 1) * 8),
        "glue/rte": _Recipe(entailment, (0, 1) * 8),
        "glue/wnli": _Recipe(pronouns, (0, 1) * 8),
    }
)


def synthetic_source(request: Request) -> RawData | Unavailable:
    """Write the synthetic data in the shape of a task's dataset, at most 1,000 examples a split."""
    task, data = request.task, request.data
    if task.dataset not in RECIPES:
        return Unavailable(f"There is no synthetic data in the shape of {task.dataset!r}.")
    n_most = task.max_train_examples or data.max_train_examples or _MOST_EXAMPLES
    n_learnt = min(n_most, _MOST_EXAMPLES)
    n_train = n_learnt + n_validation_examples(n_learnt, data.validation_share)
    n_dev = min(task.max_eval_examples or data.max_eval_examples, _MOST_EXAMPLES)
    train, dev = generate(task.dataset, n_train=n_train, n_dev=n_dev, seed=_SEED)
    return RawData(
        detail=f"synthetic data in the shape of {task.dataset}, data seed {_SEED}, "
        f"{len(train)} train and {len(dev)} dev examples",
        train=_raw_split(task.dataset, "train", train),
        dev=_raw_split(task.dataset, "dev", dev),
        standard_columns=True,
    )


def _raw_split(dataset: str, name: str, examples: list[Example]) -> RawSplit:
    return RawSplit(
        f"The synthetic {name} split of {dataset}",
        [{"text": one.text, "text2": one.text2, "label": one.label} for one in examples],
        GLUE[dataset].labels or None,
    )


def generate(
    dataset: str, *, n_train: int, n_dev: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """Write a train and a dev split of the synthetic data in the shape of one GLUE task.

    The examples depend on the arguments alone, and a split of `n` examples is the beginning of any
    longer one. No text or pair of texts occurs twice, within or across splits.
    Raises SourceError for any other dataset, DataError for a size below 0 or above what the
    grammar can say.
    """
    if dataset not in RECIPES:
        known = ", ".join(f"`{name}`" for name in RECIPES)
        raise SourceError(
            f"There is no synthetic data in the shape of {dataset!r}. Use another source, or one "
            f"of {known}."
        )
    return _split(dataset, "train", n_train, seed), _split(dataset, "dev", n_dev, seed)


def _split(
    dataset: str, split: Literal["train", "dev"], n_examples: int, seed: int
) -> list[Example]:
    if n_examples < 0:
        raise DataError(f"The size of the split `{split}` must be 0 or more, got {n_examples!r}.")
    recipe = RECIPES[dataset]
    rng = Random(f"{dataset}/{split}/{seed}")  # noqa: S311 - not for secrets
    examples: dict[tuple[str, str | None], Example] = {}
    block: list[int] = []
    while len(examples) < n_examples:
        if not block:
            block = rng.sample(recipe.labels, len(recipe.labels))
        example = _new_example(recipe, block.pop(), split, examples, rng)
        if example is None:
            raise DataError(
                f"The synthetic data in the shape of {dataset!r} have only {len(examples)} "
                f"examples for the split `{split}`, and {n_examples!r} were asked "
                "for. Ask for fewer."
            )
        examples[str(example.text), example.text2] = example
    return list(examples.values())


def _new_example(
    recipe: _Recipe,
    label: int,
    split: str,
    known: Mapping[tuple[str, str | None], Example],
    rng: Random,
) -> Example | None:
    for _ in range(_MAX_TRIES):
        example = recipe.build(label, rng)
        digest = hashlib.sha256(f"{example.text}\n{example.text2}".encode()).digest()
        of_split = "dev" if digest[0] % _DEV_SHARE == 0 else "train"
        if of_split == split and (example.text, example.text2) not in known:
            return example
    return None
