"""What a scenario says of a task's data, and of where data may come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from streamlab.config import Settings
from streamlab.tasks.metrics import METRICS_OF_KIND, Metric, TaskKind

_DATASET: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)*")


class Columns(Settings):
    """Which columns hold what; what is left out is `text`, `text2` (for pairs) and `label`."""

    text: str | None = Field(default=None, min_length=1)
    text2: str | None = Field(default=None, min_length=1)
    label: str | None = Field(default=None, min_length=1)


class TaskFiles(Settings):
    """A task's own files: one `folder` for all splits, or one path a split.

    Paths are relative to the scenario's folder and may use `${NAME}`. A path may be a JSONL, CSV,
    TSV or Parquet file, a `save_to_disk` folder, or a folder with one sub-folder a class.
    """

    folder: str | None = Field(default=None, min_length=1)
    train: str | None = Field(default=None, min_length=1)
    dev: str | None = Field(default=None, min_length=1)
    test: str | None = Field(default=None, min_length=1)  # reported where there is no dev

    @model_validator(mode="after")
    def _either_folder_or_train(self) -> TaskFiles:
        if (self.folder is None) == (self.train is None):
            raise ValueError("give either `folder`, or `train` with `dev` or `test`")
        if self.folder is not None and (self.dev or self.test):
            raise ValueError("`folder` holds all splits; leave `dev` and `test` out")
        return self


class TaskHub(Settings):
    """A task's own dataset on the hub; splits that are not named are found by their usual names."""

    path: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    name: str | None = Field(default=None, min_length=1)  # of the configuration
    revision: str | None = Field(default=None, min_length=1)  # a commit, so that rows cannot move
    train: str = Field(default="train", min_length=1)
    dev: str | None = Field(default=None, min_length=1)


def _metrics(given: Any) -> Any:
    """Take one metric for a list of one, and name an unknown one."""
    listed = [given] if isinstance(given, str) else given
    known = get_args(Metric)
    for metric in listed if isinstance(listed, (list, tuple)) else ():
        if metric not in known:
            raise ValueError(f"unknown metric {metric!r}; known: {', '.join(known)}")
    return listed


class TaskSettings(Settings):
    """One task: which dataset, how to read its rows, and by what it is judged.

    Own `files`, `hub` or `package` are tried, in this order, before the sources of `data`.
    `columns` and `where` hold for every source but the synthetic one.
    """

    dataset: str  # glue/sst2 and the like, or a name of one's own
    kind: TaskKind | None = None  # default: what the source says, else classification
    labels: tuple[str, ...] | None = Field(default=None, min_length=2)  # class names in order
    metric: Annotated[tuple[Metric, ...], BeforeValidator(_metrics), Field(min_length=1)] | None = (
        None
    )
    columns: Columns = Columns()
    where: Mapping[str, str | int | bool] = Field(default_factory=dict)  # keep matching rows
    files: TaskFiles | None = None
    hub: TaskHub | None = None
    package: str | None = Field(default=None, min_length=1)  # NAME/path inside the package
    dev_share: float = Field(default=0.2, gt=0, le=0.5)  # of a source with one split only
    max_train_examples: PositiveInt | None = None  # default: the one of `data`
    max_eval_examples: PositiveInt | None = None  # default: the one of `data`

    @field_validator("dataset")
    @classmethod
    def _dataset_is_a_name(cls, dataset: str) -> str:
        if not _DATASET.fullmatch(dataset) or {".", ".."} & set(dataset.split("/")):
            raise ValueError("must be a name such as `glue/sst2` or `reviews`, and no path")
        return dataset

    @field_validator("labels", "metric")
    @classmethod
    def _no_name_twice(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("the same name is given twice")
        return names

    @model_validator(mode="after")
    def _metric_suits_kind(self) -> TaskSettings:
        if self.kind == "regression" and self.labels:
            raise ValueError("regression has no `labels`; leave them out, or change `kind`")
        suited = METRICS_OF_KIND[self.kind] if self.kind else None
        if suited and self.metric and not set(self.metric) <= set(suited):
            raise ValueError(f"`metric` for {self.kind} must be among {', '.join(suited)}")
        return self


class FolderSource(Settings):
    """A folder with one sub-folder a task; an empty name means that there is none."""

    files: str


def _source_tag(source: Any) -> str:
    return "files" if isinstance(source, (Mapping, FolderSource)) else "name"


DataSource = Annotated[
    Annotated[FolderSource, Tag("files")] | Annotated[Literal["hub", "synthetic"], Tag("name")],
    Discriminator(_source_tag),
]


class DataSettings(Settings):
    """Where tasks' rows come from, the first source that has a task wins, and how many are used.

    Rows for choosing (`validation_share`) are split from train by seed; there are at least 32
    and at most 500 of them, and never more than a third of the split.
    """

    sources: tuple[DataSource, ...] = (
        FolderSource(files="${STREAMLAB_DATA:-}"),
        "hub",
        "synthetic",
    )
    max_train_examples: PositiveInt | None = None  # None: all there are
    max_eval_examples: PositiveInt = 1000
    validation_share: float = Field(default=0.1, gt=0, le=0.5)
