"""What a source hands over: records under the source's own column names, not yet rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from streamlab.tasks.examples import SourceKind
from streamlab.tasks.metrics import TaskKind

Record = Mapping[str, Any]

DEV_NAMES: Final = ("dev", "dev_matched", "validation", "validation_matched")
TEST_NAME: Final = "test"


@dataclass(frozen=True)
class RawSplit:
    """The records of one split; `origin` names it in errors."""

    origin: str
    records: Sequence[Record]
    label_names: tuple[str, ...] | None = None  # what the source calls its classes, by index
    note: str = ""  # what a reader should know, or nothing
    names_by_column: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # and by column

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """Return the class names behind the numbers in a label column, where they are known."""
        return self.names_by_column.get(column, self.label_names)


@dataclass(frozen=True, kw_only=True)
class RawData:
    """A task as one source has it; `dev` is None where the source has one split only."""

    kind: SourceKind
    detail: str
    train: RawSplit
    dev: RawSplit | None
    task_kind: TaskKind | None = None  # where the source says it


@dataclass(frozen=True)
class Unavailable:
    """Why a source does not have a task; the next source is tried."""

    reason: str  # a full sentence


def find_reported(names: Collection[str]) -> str | None:
    """Return which of a source's splits is reported: dev, else test, else None."""
    return next((name for name in (*DEV_NAMES, TEST_NAME) if name in names), None)


def reported_note(name: str | None) -> str:
    """Say in `detail` that a test split stands in for dev; nothing where there is a dev split."""
    return "reported on `test`, for there is no dev split" if name == TEST_NAME else ""


def joined(*parts: str) -> str:
    """Join the parts of a `detail` that say something."""
    return "; ".join(part for part in parts if part)
