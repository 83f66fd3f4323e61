"""Word counts give the label away in none of the families they are kept from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from streamlab.tasks.synthetic.generator import generate

if TYPE_CHECKING:
    from streamlab.tasks.types.example import Example


def marked(row: Example) -> str:
    """Tell the words of the second text from those of the first."""
    return " ".join([*row.text.split(), *(f"second_{word}" for word in (row.text2 or "").split())])


# The share of the larger class, and what counting words may add to it.
@pytest.mark.parametrize(
    ("dataset", "largest", "gain"),
    [
        ("glue/cola", 0.60, 0.06),
        ("glue/sst2", 0.50, 0.08),
        ("glue/mrpc", 0.67, 0.04),
        ("glue/qqp", 0.50, 0.08),
        ("glue/qnli", 0.50, 0.08),
        ("glue/rte", 0.50, 0.10),
        ("glue/wnli", 0.50, 0.08),
    ],
)
def test_a_bag_of_words_hardly_beats_the_larger_class(
    dataset: str, largest: float, gain: float
) -> None:
    train, dev = generate(dataset, n_train=1000, n_dev=800, seed=0)
    model = make_pipeline(CountVectorizer(analyzer=str.split), LogisticRegression(C=0.1))
    model.fit([marked(row) for row in train], [row.label for row in train])

    guessed = model.predict([marked(row) for row in dev])

    assert np.mean(guessed == np.array([row.label for row in dev])) < largest + gain
