"""Loading of a task: the first source that has it is used, and every one skipped says why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from streamlab.config import digest
from streamlab.errors import DataError, DataProblemsError, SourceError
from streamlab.hashing import fingerprint_examples
from streamlab.plugins import load
from streamlab.tasks.column_mapping import (
    BadExamples,
    Choice,
    check_alike,
    choose_columns,
    filter_records,
    found_labels,
    infer_kind,
    to_examples,
)
from streamlab.tasks.examples import ExampleCounts, SourceUsed, TaskData
from streamlab.tasks.glue import GLUE, Entry
from streamlab.tasks.metrics import Metric, find_metric, suited_names
from streamlab.tasks.sampling import sample_dev, split_off_dev, split_train
from streamlab.tasks.settings import (
    SOURCES,
    Columns,
    DataSettings,
    TaskSettings,
    check_class_weights,
    name_and_argument,
)
from streamlab.tasks.sources.api import RawData, RawSplit, Request, Source, Unavailable, joined
from streamlab.tasks.sources.hub import HubReach
from streamlab.tasks.types import task_type
from streamlab.tasks.types.contract import TaskType
from streamlab.tasks.types.example import Example
from streamlab.tasks.types.token_classification import makes_entities
from streamlab.units import counted


@dataclass(frozen=True)
class _Examples:
    """All the examples of a source, before any are sampled."""

    type: TaskType
    labels: tuple[str, ...]
    train: list[Example]
    dev: list[Example]
    n_skipped: int
    n_repeated: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TaskExamples:
    """A task with all the examples of its source, which those of every version are drawn from."""

    name: str
    settings: TaskSettings
    data: DataSettings
    metrics: tuple[Metric, ...]
    dev: tuple[Example, ...]  # to report on: the same for every seed
    source: SourceUsed
    tried: tuple[str, ...]
    _all: _Examples

    def __len__(self) -> int:
        """Return the number of examples that are held."""
        return len(self._all.train) + len(self._all.dev)

    def draw(self, seed: int) -> TaskData:
        """Sample the examples to learn from and those to choose by.

        Raises DataError where those to learn from all have one label.
        """
        every, dataset = self._all, self.settings.dataset
        train, validation = split_train(
            every.train,
            share=self.data.validation_share,
            n_most=self.settings.max_train_examples or self.data.max_train_examples,
            seed=seed,
            dataset=dataset,
        )
        count = counted(len(train), "example")
        sampled = f"The {count} of {dataset!r} sampled to learn from (seed {seed})"
        _check_varied(train, every, sampled, "Raise `max_train_examples`, or give more examples.")
        return self.with_examples(train, validation)

    def with_examples(
        self, train: tuple[Example, ...] = (), validation: tuple[Example, ...] = ()
    ) -> TaskData:
        """Return the task with these examples, and those to report on."""
        every = self._all
        return TaskData(
            name=self.name,
            dataset=self.settings.dataset,
            kind=every.type.kind,
            labels=every.labels,
            metrics=self.metrics,
            train=train,
            validation=validation,
            dev=self.dev,
            source=self.source,
            counts=ExampleCounts(
                skipped=every.n_skipped,
                unused=len(self) - len(train) - len(validation) - len(self.dev),
                repeated=every.n_repeated,
            ),
            tried=self.tried,
            class_weights=_class_weights(self.settings, every, train),
        )


def load_task(
    name: str,
    settings: TaskSettings,
    data: DataSettings,
    *,
    seed: int,
    hub: HubReach,
    base_folder: Path,
    environment: Mapping[str, str] = os.environ,
) -> TaskData:
    """Read task `name` and draw its examples by `seed`; see `read_task`."""
    read = read_task(
        name, settings, data, hub=hub, base_folder=base_folder, environment=environment
    )
    return read.draw(seed)


def read_task(
    name: str,
    settings: TaskSettings,
    data: DataSettings,
    *,
    hub: HubReach,
    base_folder: Path,
    environment: Mapping[str, str] = os.environ,
) -> TaskExamples:
    """Read task `name` from the first source that has it.

    Relative paths start from `base_folder`; `${NAME}` in a path is taken from `environment`.
    Raises SourceError where no source has the task or a file that is named does not exist,
    DataError where the examples cannot be learnt from.
    """
    tried: list[str] = []
    for title, source, argument in _sources(settings, data):
        request = Request(
            task=settings, data=data, argument=argument,
            hub=hub, base_folder=base_folder, environment=environment,
        )  # fmt: skip
        found = _read(source, request)
        if isinstance(found, RawData):
            return _assembled(name, request, source, found, tuple(tried))
        tried.append(f"{title}: {found.reason}")
    reasons = "\n".join(f"  {reason}" for reason in tried) or "  nothing: no source is named."
    raise SourceError(
        f"No source has the task `{name}` (dataset {settings.dataset!r}). Tried, in this order:\n"
        f"{reasons}\nGive the task `files`, `hub` or `package` of its own, or add a source that "
        "has it to `data.sources`."
    )


def _sources(settings: TaskSettings, data: DataSettings) -> Iterator[tuple[str, str, Any]]:
    """Yield title, name and argument of each source: the task's own, then those of `data`."""
    own = {"files": settings.files, "hub": settings.hub, "package": settings.package}
    for name, argument in own.items():
        if argument is not None:
            yield f"its own {name}", name, argument
    for name, argument in map(name_and_argument, data.sources):
        yield name, name, argument


def _read(name: str, request: Request) -> RawData | Unavailable:
    found = cast(Source, load("streamlab.sources", name, SOURCES))(request)
    if not isinstance(found, (RawData, Unavailable)):
        raise DataError(
            f"The data source {name!r} returned {type(found).__name__}, and must return `RawData` "
            "or `Unavailable`. Correct the plug-in."
        )
    return found


def _assembled(
    name: str, request: Request, source: str, raw: RawData, tried: tuple[str, ...]
) -> TaskExamples:
    settings, data = request.task, request.data
    every = _all_examples(settings, data, raw)
    n_dev = settings.max_eval_examples or data.max_eval_examples
    parts = [list(every.labels), _fingerprint(every.train), _fingerprint(every.dev)]
    return TaskExamples(
        name=name,
        settings=settings,
        data=data,
        metrics=_metrics(name, settings, every.type, every.labels),
        dev=sample_dev(every.dev, n_most=n_dev, dataset=settings.dataset),
        source=SourceUsed(source, joined(raw.detail, *every.notes), digest(parts)),
        tried=tried,
        _all=every,
    )


def _all_examples(settings: TaskSettings, data: DataSettings, raw: RawData) -> _Examples:
    """Map, check and label every record of a source, and split off dev where it has none."""
    entry = GLUE.get(settings.dataset)
    where = {} if raw.standard_columns else settings.where
    columns = Columns() if raw.standard_columns else settings.columns
    splits = [filter_records(split, where) for split in (raw.train, raw.dev) if split is not None]
    stated = settings.kind or (entry.kind if entry else raw.task_kind)
    inferred = None if stated else infer_kind(splits[0], columns)
    of_type = task_type(stated or (inferred[0] if inferred else "classification"))
    choices = [choose_columns(split, columns, entry, of_type, settings.labels) for split in splits]
    check_alike(splits, choices)
    labels = _labels(settings, entry, of_type, splits[0], choices[0])
    readers = [
        of_type.label_reader(labels, split.class_names(choice.label), split.origin)
        for split, choice in zip(splits, choices, strict=True)
    ]
    parts = zip(splits, choices, readers, strict=True)
    read = [to_examples(*part, of_type) for part in parts]
    examples, bad = [part for part, _ in read], [found for _, found in read]
    if data.on_bad_example == "refuse":
        _refuse(bad)
    notes = [*(split.note for split in splits), *(found.note for found in bad)]
    if inferred:
        notes.append(f"`kind: {inferred[0]}`, by its columns {inferred[1]}")
    notes += dict.fromkeys(reader.renaming for reader in readers)
    if len(examples) == 1:
        share = settings.dev_share
        examples = list(split_off_dev(examples[0], share=share, dataset=settings.dataset))
        notes.append(f"dev is {share:.0%} of the only split, the same for every seed")
    train, dev = examples
    n_repeated = _count_repeated(train, dev)
    if n_repeated:
        notes.append(f"{n_repeated} of {len(dev)} dev examples are also in train")
    if of_type.kind == "classification":
        given = {example.label for example in train}
        notes += [
            f"no training example of {name}" for i, name in enumerate(labels) if i not in given
        ]
    n_skipped = sum(found.n for found in bad)
    _check_weights(settings, of_type, labels)
    every = _Examples(of_type, labels, train, dev, n_skipped, n_repeated, tuple(notes))
    _check_varied(train, every, splits[0].origin, "Give examples with different labels.")
    if of_type.kind == "regression":  # a correlation with constant labels is undefined
        _check_varied(dev, every, splits[-1].origin, "Use a split with published labels.")
    return every


def _refuse(bad: Sequence[BadExamples]) -> None:
    """Raise DataProblemsError where any record of a task is no example."""
    shown = [problem for found in bad for problem in found.first]
    if shown:
        raise DataProblemsError(
            shown,
            n_others=sum(found.n for found in bad) - len(shown),
            advice="(`data.on_bad_example: skip` leaves such examples out.)",
        )


def _labels(
    settings: TaskSettings, entry: Entry | None, of_type: TaskType, train: RawSplit, choice: Choice
) -> tuple[str, ...]:
    """Return the class names in the task's order: as set, as GLUE's, as the source's, as found."""
    if settings.labels:
        try:
            of_type.check_labels(settings.labels)
        except ValueError as error:
            raise DataError(
                f"The labels of {settings.dataset!r} cannot be used: {error}. Leave `labels` out, "
                "or set `kind: classification`."
            ) from error
        return settings.labels
    if not of_type.has_classes:
        return ()
    named = (entry.labels if entry else None) or train.class_names(choice.label)
    if named:
        return named
    return found_labels(train, choice)


def _metrics(
    name: str, settings: TaskSettings, of_type: TaskType, labels: tuple[str, ...]
) -> tuple[Metric, ...]:
    entry = GLUE.get(settings.dataset)
    if settings.metric is None:
        usual = of_type.default_metrics(labels)
        known = entry.metrics if entry and entry.kind == of_type.kind else usual
        return tuple(map(find_metric, known))
    metrics = tuple(map(find_metric, settings.metric))
    unsuited = [metric.name for metric in metrics if of_type.kind not in metric.kinds]
    if unsuited:
        raise DataError(
            f"The task `{name}` is {of_type.title}, and cannot be judged by "
            f"{', '.join(map(repr, unsuited))}. Set `metric` to one of "
            f"{', '.join(suited_names(of_type.kind))}."
        )
    if "entity_f1" in settings.metric and not makes_entities(labels):
        raise DataError(
            f"The tags of the task `{name}` are {', '.join(labels[:5])}..., which mark no "
            "entities. Give tags `O`, `B-...` and `I-...`, or set `metric: token_accuracy`."
        )
    return metrics


def _check_weights(settings: TaskSettings, of_type: TaskType, labels: tuple[str, ...]) -> None:
    """Raise DataError where the classes of the data are not those that have weights."""
    if settings.class_weights is None:
        return
    if not of_type.takes_class_weights:
        raise DataError(
            f"The examples of {settings.dataset!r} are of {of_type.title}, which has no "
            "`class_weights`. Leave them out."
        )
    if isinstance(settings.class_weights, tuple):
        try:
            check_class_weights(settings.class_weights, labels)
        except ValueError as error:
            raise DataError(f"The task of {settings.dataset!r}: {error}.") from error


def _class_weights(
    settings: TaskSettings, every: _Examples, train: Sequence[Example]
) -> tuple[float, ...] | None:
    """Return the weight of each class in the loss, with a mean of 1 over the training examples."""
    wanted, n_classes = settings.class_weights, len(every.labels)
    if wanted is None or not train:
        return None
    counts = np.bincount(every.type.collate([one.label for one in train]), minlength=n_classes)
    if wanted == "balanced":
        weights = np.where(counts > 0, 1 / np.maximum(counts, 1), 0.0)
    else:
        weights = np.array(wanted)
    return tuple((weights * (counts.sum() / (weights @ counts))).tolist())


def _check_varied(examples: Sequence[Example], every: _Examples, what: str, advice: str) -> None:
    """Raise DataError where all labels are the same, or there are no examples at all."""
    found = {part for example in examples for part in every.type.parts(example.label)}
    if not found:
        raise DataError(f"{what}: no examples are left. {advice}")
    if len(found) == 1:
        label = found.pop()
        shown = every.labels[label] if every.labels and isinstance(label, int) else label
        raise DataError(f"{what}: every label is {shown!r}, so nothing can be learnt. {advice}")


def _count_repeated(train: Sequence[Example], dev: Sequence[Example]) -> int:
    known = {(example.text, example.text2) for example in train}
    return sum((example.text, example.text2) in known for example in dev)


def _fingerprint(examples: Sequence[Example]) -> str:
    return fingerprint_examples((one.text, one.text2, one.label) for one in examples)
