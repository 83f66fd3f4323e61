"""The nine GLUE tasks (Wang et al., 2019): columns, labels, metrics and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from streamlab.tasks.types import TaskKind

HUB_PATH: Final = "nyu-mll/glue"
HUB_REVISION: Final = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


@dataclass(frozen=True)
class Entry:
    """One known dataset: `labels` in GLUE's order, `text` and `text2` as the hub names them."""

    hub_name: str
    text: str
    text2: str | None
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    kind: TaskKind = "classification"
    hub_dev: str = "validation"


_ENTAILMENT: Final = ("entailment", "not_entailment")

GLUE: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "glue/cola": Entry("cola", "sentence", None, ("unacceptable", "acceptable"), ("matthews",)),
        "glue/sst2": Entry("sst2", "sentence", None, ("negative", "positive"), ("accuracy",)),
        "glue/mrpc": Entry(
            "mrpc", "sentence1", "sentence2", ("not_equivalent", "equivalent"), ("f1", "accuracy")
        ),
        "glue/stsb": Entry(
            "stsb", "sentence1", "sentence2", (), ("pearson", "spearman"), kind="regression"
        ),
        "glue/qqp": Entry(
            "qqp", "question1", "question2", ("not_duplicate", "duplicate"), ("f1", "accuracy")
        ),
        "glue/mnli": Entry(
            "mnli",
            "premise",
            "hypothesis",
            ("entailment", "neutral", "contradiction"),
            ("accuracy",),
            hub_dev="validation_matched",
        ),
        "glue/qnli": Entry("qnli", "question", "sentence", _ENTAILMENT, ("accuracy",)),
        "glue/rte": Entry("rte", "sentence1", "sentence2", _ENTAILMENT, ("accuracy",)),
        # GLUE numbers the labels of this task the other way round.
        "glue/wnli": Entry("wnli", "sentence1", "sentence2", _ENTAILMENT[::-1], ("accuracy",)),
    }
)
