"""What a diff file says of its task, checked: whoever serves it needs no more than this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamlab.errors import DiffError
from streamlab.tasks.glue import find_entry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from streamlab.diff.vector import DiffVector


class TaskFacts(BaseModel):
    """One task as its file names it; what else the file says is left alone."""

    # A file from elsewhere may say more, and must not be read with a blind eye for types.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    task: Annotated[str, Field(min_length=1)]
    dataset: str = ""
    kind: Literal["classification", "regression"]
    labels: tuple[Annotated[str, Field(min_length=1)], ...]  # by class index
    max_length: Annotated[int, Field(ge=1)]  # tokens; longer texts were cut in training
    pair: bool | None = None  # two texts a row; the first files written do not say it

    @model_validator(mode="after")
    def _labels_suit_kind(self) -> TaskFacts:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("`labels` names a class twice")
        if self.kind == "regression" and self.labels:
            raise ValueError("a regression has no `labels`")
        if self.kind == "classification" and len(self.labels) < 2:
            raise ValueError("a classification has two `labels` or more")
        return self

    @property
    def n_outputs(self) -> int:
        """Return the width of the head: the number of classes, or 1 for regression."""
        return len(self.labels) or 1

    @property
    def takes_pairs(self) -> bool | None:
        """Tell whether a row is two texts; None where neither file nor catalogue knows."""
        if self.pair is not None:
            return self.pair
        entry = find_entry(self.dataset)
        return None if entry is None else entry.text2 is not None


def read_facts(task: Mapping[str, Any]) -> TaskFacts:
    """Read what a diff's file says of its task.

    Raises DiffError naming what is missing or wrong.
    """
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in task.items()}
    try:
        return TaskFacts.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'task'}: {found['msg']}"
            for found in error.errors(include_url=False, include_input=False)
        )
        raise DiffError(
            f"The diff's file does not say how it is to be used ({problems}). It can be put on a "
            "model with `streamlab.diff.apply`; predictions need a file that names the task's "
            "`kind`, `labels` and `max_length`, as `streamlab run` writes it."
        ) from error


def check_head(diff: DiffVector, facts: TaskFacts, head_names: tuple[str, ...]) -> None:
    """Raise DiffError unless the diff holds a whole head of the width its task has.

    Under a head that was not stored a model would answer at random, and say nothing of it.
    """
    lacking = sorted(set(head_names) - diff.head.keys())
    if lacking:
        raise DiffError(
            f"The diff for `{facts.task}` holds no `{lacking[0]}`, so that its answers would be "
            "those of a random head. Make it again from a classifier."
        )
    shapes = {name: diff.head[name].shape for name in _last_layer(head_names)}
    for name, shape in shapes.items():
        if shape[:1] != (facts.n_outputs,):
            raise DiffError(
                f"The head's `{name}` for `{facts.task}` has the shape {shape}, and its task "
                f"{facts.n_outputs} outputs: the file contradicts itself. Train the task again."
            )


def _last_layer(head_names: tuple[str, ...]) -> list[str]:
    """Return the weight and bias that the outputs come from: those of the last module."""
    owner = head_names[-1].rpartition(".")[0]
    return [name for name in head_names if name.rpartition(".")[0] == owner]
