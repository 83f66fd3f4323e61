"""Data in local files: folders and files that are named, and those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError

from streamlab.config import unset_variables
from streamlab.errors import DataError, SourceError
from streamlab.locations import PACKAGE_PREFIX, near_by, package_path
from streamlab.problems import message
from streamlab.tasks.glue import GLUE
from streamlab.tasks.settings import Labels, TaskFiles
from streamlab.tasks.sources.api import (
    DEV_NAMES,
    TEST_NAME,
    RawData,
    RawSplit,
    Request,
    Unavailable,
    find_reported,
    joined,
    reported_note,
)
from streamlab.tasks.sources.readers import (
    READERS,
    has_class_folders,
    is_saved_split,
    is_saved_task,
    read_saved_task,
    read_split,
)
from streamlab.tasks.types.contract import TaskKind
from streamlab.units import counted


def file_source(request: Request) -> RawData | Unavailable:
    """Read the files of a task's own, or a folder with one sub-folder a task."""
    files = request.argument
    if isinstance(files, TaskFiles):
        given = {name: path for name, path in files if path is not None}
        paths = {name: request.expand(path) for name, path in given.items()}
        if not all(paths.values()):
            empty = next(path for name, path in given.items() if not paths[name])
            return Unavailable(_nothing_given(empty, request))
        return read_own_files(TaskFiles(**paths), request.base_folder, request.header)
    folder = request.expand(files)
    if not folder:
        return Unavailable(_nothing_given(files, request))
    return read_from_folder(request.base_folder / folder, request.task.dataset, request.header)


def _nothing_given(path: str, request: Request) -> str:
    """Say why a path is empty once its variables are filled in."""
    unset = unset_variables(path, request.environment)
    if not unset:
        return f"The path {path!r} is empty."
    names = " and ".join(f"`{name}`" for name in unset)
    return f"{names} {'is' if len(unset) == 1 else 'are'} not set, so that no local data is read."


def package_source(request: Request) -> RawData | Unavailable:
    """Read the data of a task's own package."""
    return read_package(request.argument, request.header)


class _Meta(BaseModel, extra="ignore", strict=True):
    """The contents of `meta.json` beside the data; other keys in it are not read."""

    kind: TaskKind | None = None
    labels: Labels | None = None


def read_from_folder(
    folder: Path, dataset: str, header: tuple[str, ...] = ()
) -> RawData | Unavailable:
    """Read a task from a folder with one sub-folder a task.

    `glue/sst2` is looked for under `glue/sst2` and `sst2`, then under `SST-2`, as GLUE's own
    download calls it. Raises SourceError where the folder itself is missing, DataError where the
    task is there and cannot be read.
    """
    if not folder.is_dir():
        advice = near_by(folder) or "Correct the path, or leave it empty to go without."
        raise SourceError(f"The data folder {str(folder)!r} does not exist. {advice}")
    for name in (dataset, dataset.rpartition("/")[2]):
        if (folder / name).is_dir():
            return read_task_folder(folder / name, header=header)
    published = GLUE[dataset].published if dataset in GLUE else None
    if published is not None and (folder / published.folder).is_dir():
        return _read_published(folder / published.folder, header or published.header)
    return Unavailable(f"The folder {str(folder)!r} has no sub-folder for {dataset!r}.")


def _read_published(folder: Path, header: tuple[str, ...]) -> RawData:
    """Read a task as GLUE publishes it, without the few lines that lack fields, as the hub does."""
    raw = read_task_folder(folder, header=header)
    dev = None if raw.dev is None else _without_malformed(raw.dev)
    return replace(raw, train=_without_malformed(raw.train), dev=dev)


def _without_malformed(split: RawSplit) -> RawSplit:
    if not split.malformed:
        return split
    first = next(iter(split.malformed))
    note = f"{counted(len(split.malformed), 'malformed line')} left out (line {first})"
    return replace(split, malformed={}, note=joined(split.note, note))


def read_own_files(files: TaskFiles, base_folder: Path, header: tuple[str, ...] = ()) -> RawData:
    """Read the files a task names itself; relative paths start from `base_folder`.

    Raises SourceError where one is missing, DataError where one cannot be read.
    """
    if files.folder is not None:
        return read_task_folder(base_folder / files.folder, header=header)
    reported = {"dev": files.dev} if files.dev else {TEST_NAME: files.test}
    named = {"train": files.train, **reported}
    paths = {split: base_folder / path for split, path in named.items() if path}
    splits = {name: read_split(path, header) for name, path in paths.items()}
    detail = ", ".join(str(path) for path in paths.values())
    return _raw_data(splits, _read_meta(paths["train"].parent), detail)


def read_task_folder(
    folder: Path, known_as: str | None = None, *, header: tuple[str, ...] = ()
) -> RawData:
    """Read one task's folder: files or folders named by split, `save_to_disk`, or class folders.

    `known_as` is what `detail` calls the folder; by default its path. Raises SourceError where
    it does not exist, DataError where it has no train split or cannot be read.
    """
    if not folder.is_dir():
        advice = near_by(folder) or "Check the path."
        raise SourceError(f"The folder {str(folder)!r} does not exist. {advice}")
    meta = _read_meta(folder)
    title = known_as or str(folder)
    if is_saved_task(folder):
        return _raw_data(read_saved_task(folder), meta, title)
    paths = _split_paths(folder)
    if "train" not in paths and (is_saved_split(folder) or has_class_folders(folder)):
        return _raw_data({"train": read_split(folder)}, meta, title)
    if "train" not in paths:
        raise DataError(
            f"The folder {str(folder)!r} has no train split. Put a file `train` there, ending in "
            f"{', '.join(READERS)}, or a folder `train`."
        )
    used = {name: paths[name] for name in ("train", find_reported(paths)) if name}
    found = {name: read_split(path, header) for name, path in used.items()}
    names = ", ".join(path.name for path in used.values())
    return _raw_data(found, meta, f"{title}: {names}")


def _split_paths(folder: Path) -> dict[str, Path]:
    candidates = {
        split: [folder / f"{split}{suffix}" for suffix in READERS] + [folder / split]
        for split in ("train", *DEV_NAMES, TEST_NAME)
    }
    found = {
        split: next((path for path in paths if path.exists()), None)
        for split, paths in candidates.items()
    }
    return {split: path for split, path in found.items() if path is not None}


def _raw_data(splits: Mapping[str, RawSplit], meta: _Meta, detail: str) -> RawData:
    if "train" not in splits:
        raise DataError(
            f"{detail!r} has no split `train`; there are: {', '.join(splits)}. Rename one of them."
        )
    reported = find_reported(splits)
    named = {name: replace(split, label_names=meta.labels) for name, split in splits.items()}
    return RawData(
        detail=joined(detail, reported_note(reported)),
        train=named["train"],
        dev=named[reported] if reported else None,
        task_kind=meta.kind,
    )


def _read_meta(folder: Path) -> _Meta:
    path = folder / "meta.json"
    if not path.is_file():
        return _Meta()
    try:
        return _Meta.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        raise DataError(
            f"{str(path)!r} must hold an object whose `kind` is one of "
            f"{', '.join(get_args(TaskKind))} and whose `labels` are two or more different names, "
            f"or null: {message(error.errors()[0])}. Correct it."
        ) from error


def read_package(name: str, header: tuple[str, ...] = ()) -> RawData | Unavailable:
    """Read `NAME/path` in an installed package, which is not imported.

    The path is a file, a folder of splits or a folder of class folders. A package that is not
    installed, or has no such path, is no error: the next source is tried. Raises DataError where
    the path is there and cannot be read.
    """
    name = name.removeprefix(PACKAGE_PREFIX)
    try:
        path = package_path(name)
    except SourceError as error:
        return Unavailable(str(error))
    # Not the path: where the package is installed differs between machines.
    detail = joined(f"{PACKAGE_PREFIX}{name}", _version(name))
    if path.is_dir():
        return read_task_folder(path, known_as=detail, header=header)
    return RawData(detail=detail, train=read_split(path, header))


def _version(name: str) -> str:
    """Return `package==version`, or nothing where no distribution is called like the package."""
    package = name.partition("/")[0]
    try:
        return f"{package}=={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""
