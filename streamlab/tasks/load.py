"""Load a task: the first source that has it wins, and every one skipped says why."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamlab.config import digest
from streamlab.errors import DataError, SourceError
from streamlab.hashing import fingerprint_examples
from streamlab.tasks.columns import Choice, choose_columns, label_values, matching, to_rows
from streamlab.tasks.examples import Example, SourceUsed, TaskData
from streamlab.tasks.glue import Entry, find_entry
from streamlab.tasks.labels import ClassReader, LabelReader, NumberReader, infer_labels
from streamlab.tasks.metrics import METRICS_OF_KIND, Metric, TaskKind
from streamlab.tasks.sampling import sample_dev, split_off_dev, split_train
from streamlab.tasks.settings import Columns, DataSettings, TaskSettings
from streamlab.tasks.sources.hub import HubReach
from streamlab.tasks.sources.records import RawData, RawSplit, joined
from streamlab.tasks.sources.resolve import attempts


@dataclass(frozen=True, kw_only=True)
class LoadedTask(TaskData):
    """A task, and a sentence on every source that was tried before the one used."""

    tried: tuple[str, ...]


@dataclass(frozen=True)
class _Read:
    """All the rows of a source, before any are drawn."""

    kind: TaskKind
    labels: tuple[str, ...]
    train: list[Example]
    dev: list[Example]
    notes: tuple[str, ...]


def load_task(
    name: str,
    settings: TaskSettings,
    data: DataSettings,
    *,
    seed: int,
    hub: HubReach,
    base_folder: Path,
    environment: Mapping[str, str] = os.environ,
) -> LoadedTask:
    """Load the rows of task `name` from the first source that has them.

    `seed` draws the rows to learn from and those to choose by; the rows to report on are the
    same for every seed. Relative paths start from `base_folder`; `${NAME}` in a path is taken
    from `environment`. Raises SourceError where no source has the task or a file that is named
    does not exist, DataError where rows cannot be learnt from.
    """
    tried: list[str] = []
    for title, attempt in attempts(
        settings, data, hub=hub, base_folder=base_folder, environment=environment
    ):
        found = attempt()
        if isinstance(found, RawData):
            return _assembled(name, settings, data, seed, found, tuple(tried))
        tried.append(f"{title}: {found.reason}")
    reasons = "\n".join(f"  {reason}" for reason in tried) or "  nothing: no source is named."
    raise SourceError(
        f"No source has the task `{name}` (dataset {settings.dataset!r}). Tried, in this order:\n"
        f"{reasons}\nGive the task `files`, `hub` or `package` of its own, or add a source that "
        "has it to `data.sources`."
    )


def _assembled(
    name: str,
    settings: TaskSettings,
    data: DataSettings,
    seed: int,
    raw: RawData,
    tried: tuple[str, ...],
) -> LoadedTask:
    read = _read_rows(settings, raw)
    dataset = settings.dataset
    train, validation = split_train(
        read.train,
        share=data.validation_share,
        n_most=settings.max_train_examples or data.max_train_examples,
        seed=seed,
        dataset=dataset,
    )
    drawn = f"The {len(train)} rows of {dataset!r} drawn to learn from (seed {seed})"
    _check_varied(train, read, drawn, "Raise `max_train_examples`, or give more rows.")
    n_dev = settings.max_eval_examples or data.max_eval_examples
    fingerprint = digest([_fingerprint(read.train), _fingerprint(read.dev)])
    return LoadedTask(
        name=name,
        dataset=dataset,
        kind=read.kind,
        labels=read.labels,
        metrics=_metrics(name, settings, read.kind),
        train=train,
        validation=validation,
        dev=sample_dev(read.dev, n_most=n_dev, dataset=dataset),
        source=SourceUsed(raw.kind, joined(raw.detail, *read.notes), fingerprint),
        tried=tried,
    )


def _read_rows(settings: TaskSettings, raw: RawData) -> _Read:
    """Map, check and label every record of a source, and split off dev where it has none."""
    entry = find_entry(settings.dataset)
    made_here = raw.kind == "synthetic"  # its columns are ours
    where = {} if made_here else settings.where
    columns = Columns() if made_here else settings.columns
    splits = [matching(split, where) for split in (raw.train, raw.dev) if split is not None]
    choices = [choose_columns(split, columns, entry) for split in splits]
    kind = settings.kind or (entry.kind if entry else raw.task_kind) or "classification"
    labels = _labels(settings, entry, kind, splits[0], choices[0])
    readers = [_reader(kind, labels, *part) for part in zip(splits, choices, strict=True)]
    rows = [to_rows(*parts) for parts in zip(splits, choices, readers, strict=True)]
    notes = [split.note for split in splits]
    notes += {reader.renaming: None for reader in readers if isinstance(reader, ClassReader)}
    if len(rows) == 1:
        rows = list(split_off_dev(rows[0], share=settings.dev_share, dataset=settings.dataset))
        notes.append(f"dev is {settings.dev_share:.0%} of the only split, alike for every seed")
    read = _Read(kind, labels, rows[0], rows[1], (*notes, _repeats(rows[0], rows[1])))
    _check_varied(read.train, read, splits[0].origin, "Give rows with different labels.")
    if kind == "regression":
        _check_varied(read.dev, read, splits[-1].origin, "Take a split with published labels.")
    return read


def _labels(
    settings: TaskSettings, entry: Entry | None, kind: TaskKind, train: RawSplit, choice: Choice
) -> tuple[str, ...]:
    """Return the class names in the task's order: as set, as GLUE's, as the source's, as found."""
    if kind == "regression":
        if settings.labels:
            raise DataError(
                f"The dataset {settings.dataset!r} is a regression, which has no classes. Leave "
                "`labels` out, or set `kind: classification`."
            )
        return ()
    named = settings.labels or (entry.labels if entry else None) or train.class_names(choice.label)
    if named:
        return named
    try:
        return infer_labels(label_values(train, choice))
    except ValueError as error:
        raise DataError(f"A label in {choice.label!r} of {train.origin} {error}.") from error


def _reader(
    kind: TaskKind, labels: tuple[str, ...], split: RawSplit, choice: Choice
) -> LabelReader:
    if kind == "regression":
        return NumberReader()
    return ClassReader(labels, split.class_names(choice.label), split.origin)


def _metrics(name: str, settings: TaskSettings, kind: TaskKind) -> tuple[Metric, ...]:
    entry = find_entry(settings.dataset)
    suited = METRICS_OF_KIND[kind]
    if settings.metric is None:
        return entry.metrics if entry and entry.kind == kind else suited[:1]
    if not set(settings.metric) <= set(suited):
        raise DataError(
            f"The task `{name}` is a {kind}, and cannot be judged by "
            f"{', '.join(map(repr, settings.metric))}. Set `metric` to one of {', '.join(suited)}."
        )
    return settings.metric


def _check_varied(rows: Sequence[Example], read: _Read, what: str, advice: str) -> None:
    """Raise DataError where all labels are the same, or there are no rows at all."""
    found = {row.label for row in rows}
    if not found:
        raise DataError(f"{what}: no rows are left to use. {advice}")
    if len(found) == 1:
        label = found.pop()
        shown = read.labels[int(label)] if read.labels else label
        raise DataError(
            f"{what}: every label is {shown!r}, so that there is nothing to tell apart. {advice}"
        )


def _repeats(train: Sequence[Example], dev: Sequence[Example]) -> str:
    known = {(row.text, row.text2) for row in train}
    n_known = sum((row.text, row.text2) in known for row in dev)
    return f"{n_known} of {len(dev)} dev rows also stand in train" if n_known else ""


def _fingerprint(rows: Sequence[Example]) -> str:
    return fingerprint_examples((row.text, row.text2, row.label) for row in rows)
