"""Which generator stands in for which GLUE task, and how its rows become train and dev splits.

A row goes to dev or to train by a digest of its own text, so that the splits have nothing in common
whatever their sizes, and a smaller split is always the beginning of a larger one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from streamlab.errors import DataError, SourceError
from streamlab.tasks.synthetic.acceptability import acceptability
from streamlab.tasks.synthetic.answers import answerability
from streamlab.tasks.synthetic.entailment import entailment
from streamlab.tasks.synthetic.pronouns import pronouns
from streamlab.tasks.synthetic.quantifiers import quantified_inference
from streamlab.tasks.synthetic.sentiment import sentiment
from streamlab.tasks.synthetic.similarity import duplicate_questions, graded_similarity, paraphrase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamlab.tasks.examples import Example

_DEV_SHARE: Final = 4  # one possible row in so many belongs to dev
_MAX_TRIES: Final = 2000


@dataclass(frozen=True, slots=True)
class _Recipe:
    build: Callable[[int, Random], Example]
    labels: tuple[int, ...]  # one shuffled block of labels after the other: the balance


_RECIPES: Final[Mapping[str, _Recipe]] = MappingProxyType(
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


def describes(dataset: str) -> bool:
    """Tell whether `generate` writes synthetic data in the shape of the dataset."""
    return dataset in _RECIPES


def generate(
    dataset: str, *, n_train: int, n_dev: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """Write a train and a dev split of the synthetic data in the shape of one GLUE task.

    The rows depend on nothing but the arguments, and those of a split of `n` rows are the first
    `n` of any longer one. No row (text, or pair of texts) stands twice, within or across splits.
    Raises SourceError for any other dataset, DataError for a size below 0 or above
    what the grammar can say.
    """
    if dataset not in _RECIPES:
        known = ", ".join(f"`{name}`" for name in _RECIPES)
        raise SourceError(
            f"There is no synthetic data in the shape of {dataset!r}. Use another source, or one "
            f"of {known}."
        )
    return _split(dataset, "train", n_train, seed), _split(dataset, "dev", n_dev, seed)


def _split(dataset: str, split: Literal["train", "dev"], n_rows: int, seed: int) -> list[Example]:
    if n_rows < 0:
        raise DataError(f"The size of the split `{split}` must be 0 or more, got {n_rows!r}.")
    recipe = _RECIPES[dataset]
    rng = Random(f"{dataset}/{split}/{seed}")  # noqa: S311 - rows, not secrets
    rows: dict[tuple[str, str | None], Example] = {}
    block: list[int] = []
    while len(rows) < n_rows:
        if not block:
            block = rng.sample(recipe.labels, len(recipe.labels))
        row = _new_row(recipe, block.pop(), split, rows, rng)
        if row is None:
            raise DataError(
                f"The synthetic data in the shape of {dataset!r} have only {len(rows)} examples "
                f"for the split `{split}`, and {n_rows!r} were asked for. Ask for fewer."
            )
        rows[row.text, row.text2] = row
    return list(rows.values())


def _new_row(
    recipe: _Recipe,
    label: int,
    split: str,
    known: Mapping[tuple[str, str | None], Example],
    rng: Random,
) -> Example | None:
    for _ in range(_MAX_TRIES):
        row = recipe.build(label, rng)
        if _split_of(row) == split and (row.text, row.text2) not in known:
            return row
    return None


def _split_of(row: Example) -> str:
    digest = hashlib.sha256(f"{row.text}\n{row.text2}".encode()).digest()
    return "dev" if digest[0] % _DEV_SHARE == 0 else "train"
