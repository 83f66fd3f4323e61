"""The nine GLUE tasks (Wang et al., 2019): columns, labels, metrics and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from streamlab.tasks.types.contract import TaskKind

HUB_PATH: Final = "nyu-mll/glue"
HUB_REVISION: Final = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A dataset as GLUE's own download has it: a folder of TSV files, and their columns.

    A column that is None is called as on the hub.
    """

    folder: str
    text: str | None = None
    text2: str | None = None
    label: str | None = None
    header: tuple[str, ...] = ()  # the columns of files that have no header line


@dataclass(frozen=True)
class Entry:
    """One known dataset: `labels` in GLUE's order, `text` and `text2` as the hub names them."""

    hub_name: str
    text: str
    text2: str | None
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    published: Published
    kind: TaskKind = "classification"
    hub_dev: str = "validation"

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Return what the column of the first text may be called."""
        return tuple(filter(None, (self.text, self.published.text)))

    @property
    def text2_columns(self) -> tuple[str, ...]:
        """Return what the column of the second text may be called."""
        return tuple(filter(None, (self.text2, self.published.text2)))

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Return what the column of the label may be called."""
        return tuple(filter(None, ("label", self.published.label)))


_ENTAILMENT: Final = ("entailment", "not_entailment")

GLUE: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "glue/cola": Entry(
            "cola",
            "sentence",
            None,
            ("unacceptable", "acceptable"),
            ("matthews",),
            # As its README describes them: source, label, the author's mark, sentence.
            Published(folder="CoLA", header=("source", "label", "mark", "sentence")),
        ),
        "glue/sst2": Entry(
            "sst2",
            "sentence",
            None,
            ("negative", "positive"),
            ("accuracy",),
            Published(folder="SST-2"),
        ),
        "glue/mrpc": Entry(
            "mrpc",
            "sentence1",
            "sentence2",
            ("not_equivalent", "equivalent"),
            ("f1", "accuracy"),
            Published(folder="MRPC", text="#1 String", text2="#2 String", label="Quality"),
        ),
        "glue/stsb": Entry(
            "stsb",
            "sentence1",
            "sentence2",
            (),
            ("pearson", "spearman"),
            Published(folder="STS-B", label="score"),
            kind="regression",
        ),
        "glue/qqp": Entry(
            "qqp",
            "question1",
            "question2",
            ("not_duplicate", "duplicate"),
            ("f1", "accuracy"),
            Published(folder="QQP", label="is_duplicate"),
        ),
        "glue/mnli": Entry(
            "mnli",
            "premise",
            "hypothesis",
            ("entailment", "neutral", "contradiction"),
            ("accuracy",),
            Published(folder="MNLI", text="sentence1", text2="sentence2", label="gold_label"),
            hub_dev="validation_matched",
        ),
        "glue/qnli": Entry(
            "qnli", "question", "sentence", _ENTAILMENT, ("accuracy",), Published(folder="QNLI")
        ),
        "glue/rte": Entry(
            "rte", "sentence1", "sentence2", _ENTAILMENT, ("accuracy",), Published(folder="RTE")
        ),
        # GLUE numbers the labels of this task the other way round.
        "glue/wnli": Entry(
            "wnli",
            "sentence1",
            "sentence2",
            _ENTAILMENT[::-1],
            ("accuracy",),
            Published(folder="WNLI"),
        ),
    }
)
