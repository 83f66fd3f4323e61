"""Import a diff file as a run with one arrival.

The file is treated as hostile: its base must be in the registry or be given, and its content is
checked against that base before anything is stored.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from streamlab.base import MODEL_CLASS, BaseSettings, checkpoint_bytes, load_base
from streamlab.config import digest as digest_of
from streamlab.diff.format.container import DEFAULT_MAX_BYTES, DiffFile, open_diff
from streamlab.diff.vector import DiffVector
from streamlab.errors import (
    BaseMismatchError,
    NotInRegistryError,
    SourceError,
    StoreError,
    UsageError,
)
from streamlab.files import read_beneath, write_atomically
from streamlab.home.folder import Home
from streamlab.home.foreign import ImportedArrival, ImportedRun
from streamlab.home.import_home import Imported, add_imported, find_imported, staging
from streamlab.home.store_location import claim_store, placed
from streamlab.inference.model import LoadedBase, load_recorded_base
from streamlab.registry.records import (
    IMPORTED,
    ArrivalDetails,
    NewArrival,
    NewBase,
    NewDiff,
    ReportedDetails,
    RunRecord,
    describe_base,
    describe_diff,
    given_part,
)
from streamlab.registry.registry import Registry
from streamlab.registry.runs import this_process
from streamlab.registry.schema import check_place
from streamlab.tasks.types import TASK_TYPES


def import_file(
    home: Home,
    url: str,
    path: Path,
    *,
    provider: str,
    task: str | None,
    model: str | None = None,
    store_url: str | None = None,
) -> Imported:
    """Check a diff file, store it and record it as a run with one arrival, without a score.

    `task`: default: the one named by the file. `model`: where the base is, if it was moved or is
    not recorded here. `url`: the registry of `home`; with a base, both are created where they are
    missing. `store_url`: a store outside the home. The
    diff is applied to the base once before it is stored. The same file, provider and task are
    imported once. Raises SourceError for an unreadable file or base, DiffError for an invalid
    file, NotInRegistryError for an unknown base, and RegistryError without a registry or base.
    """
    data = read_diff(path)
    file = open_diff(data)
    task = _task_name(path, file, task, provider)
    if model is None and home.registry_url == url:
        home.require_registry()

    def described(here: Registry | None) -> ImportedRun:
        base, loaded = _base_of(here, file.header.base, model)
        diff = file.decode(base.as_layout())
        new = None if here is None else _stored_as(here, file.digest)
        if new is None:
            new = describe_diff(diff, file, full_bytes=_checkpoint_bytes(loaded(), diff))
        return run_of_artifact(path, base, new, file.header.task, provider=provider, task=task)

    return keep_artifact(home, url, data, described, store_url=store_url)


def keep_artifact(
    home: Home,
    url: str,
    data: bytes,
    described: Callable[[Registry | None], ImportedRun],
    *,
    store_url: str | None = None,
) -> Imported:
    """Store an artifact and record it as the run with one arrival that `described` returns.

    `described` gets the registry for reading, if there is one, and checks the artifact. Nothing is
    made or kept unless it returns.
    """
    exists = check_place(url, home=home.path)
    with Registry.open(url, clock=time.time, read_only=True) if exists else nullcontext() as here:
        run = described(here)
        found = None if here is None else find_imported(here, run)
    if found is not None:
        return found
    digest = hashlib.sha256(data).hexdigest()
    home.create()
    with Registry.open(url, clock=time.time) as registry:
        store, place = claim_store(home, registry, store_url)
        run = replace(run, run=placed(run.run, place))
        with staging(home) as folder:
            write_atomically(folder / digest, data)
            with store.adding({digest: folder / digest}):
                return add_imported(registry, run)


def read_diff(path: Path) -> bytes:
    """Return the bytes of a diff file of at most the allowed size. Raises SourceError."""
    try:
        file = path.resolve()
        return read_beneath(file.parent, file, most_bytes=DEFAULT_MAX_BYTES)
    except OSError as error:
        raise SourceError(f"No diff can be read from {path}: {error.strerror}.") from error
    except (RuntimeError, StoreError) as error:  # links in a circle
        raise SourceError(f"No diff can be read from {path}: {error}") from error


def _base_of(
    here: Registry | None, fingerprint: str, model: str | None
) -> tuple[NewBase, Callable[[], LoadedBase]]:
    """Return a base as it is recorded, or as it is found at `model`, and what loads it."""
    if here is not None:
        with suppress(NotInRegistryError):
            base = given_part(here.bases.get(fingerprint), NewBase)
            return base, partial(load_recorded_base, here, fingerprint, model=model)
    if model is None:
        raise NotInRegistryError(
            f"The diff belongs to the base {fingerprint!r}, which is not in this registry, so it "
            "cannot be checked. Say where the base is by `--base MODEL`; `streamlab ls bases` "
            "lists the known ones."
        )
    loaded = load_base(BaseSettings(model=model).placed(Path.cwd()), seed=0)
    if loaded.fingerprint != fingerprint:
        raise BaseMismatchError(
            f"The diff belongs to the base {fingerprint[:12]}, and {model!r} is the base "
            f"{loaded.fingerprint[:12]}: its weights, configuration or tokenizer differ. Give the "
            "base that the diff was made on."
        )
    return describe_base(loaded), partial(LoadedBase, loaded)


def _stored_as(here: Registry, digest: str) -> NewDiff | None:
    """Return the record of an artifact that is stored already."""
    try:
        return given_part(here.artifacts.get(digest), NewDiff)
    except NotInRegistryError:
        return None


def _task_name(path: Path, file: DiffFile, task: str | None, provider: str) -> str:
    """Return the given task name, else the file's. Raises UsageError without one."""
    name = task or file.header.task.get("task")
    if not isinstance(name, str) or not name.isprintable() or not name or not provider:
        raise UsageError(
            f"{path} does not name its task. Name it with `--task`, and its provider with "
            "`--provider`."
        )
    return name


def _checkpoint_bytes(loaded: LoadedBase, diff: DiffVector) -> int:
    """Return the bytes of the checkpoint that a diff makes of its base, by applying it.

    Raises DiffError where it does not fit or changes nothing.
    """
    with loaded.holding("the file", diff, model_class=_model_class(diff)):
        model, names = loaded.model, (*loaded.base.full_names.values(), *diff.head)
        return checkpoint_bytes({name: model.get_parameter(name) for name in names})


def _model_class(diff: DiffVector) -> str:
    """Return the class of models that a diff's task has, by its description, if it is one."""
    kind = diff.task.get("kind")
    known = {str(name): of_type.model_class for name, of_type in TASK_TYPES.items()}
    return known.get(kind, MODEL_CLASS) if isinstance(kind, str) else MODEL_CLASS


def run_of_artifact(
    path: Path,
    base: NewBase,
    diff: NewDiff,
    described: Mapping[str, Any],
    *,
    provider: str,
    task: str,
) -> ImportedRun:
    """Return a run with one arrival whose training is unknown; `described`: its task."""
    now, owner = time.time(), this_process()
    scenario = {
        "name": IMPORTED,
        "seeds": [0],
        "base": {"model": base.model, "revision": base.revision, "layers": base.layers},
        "defaults": {"method": {"name": IMPORTED}},
        "providers": {provider: {"tasks": [task]}},
        "tasks": {task: {"dataset": str(described.get("dataset") or task)}},
        "imported": diff.digest,
    }
    arrival = _arrival_of(path, described, provider=provider, task=task, now=now)
    return ImportedRun(
        base=base,
        run=RunRecord(
            id=0,
            name=f"{IMPORTED}-1",
            scenario_name=IMPORTED,
            scenario=scenario,
            scenario_digest=digest_of(scenario),
            base_fingerprint=base.fingerprint,
            environment={},
            n_expected=1,
            status="finished",
            reason=None,
            started_at=now,
            heartbeat_at=now,
            finished_at=now,
            host=owner.host,
            pid=owner.pid,
        ),
        arrivals=(ImportedArrival(arrival=arrival, diff=diff),),
        origin=str(path),
        by_digest_alone=True,
    )


def _arrival_of(
    path: Path, described: Mapping[str, Any], *, provider: str, task: str, now: float
) -> NewArrival:
    return NewArrival(
        run_id=0,
        seed=0,
        sequence=0,
        provider=provider,
        task=task,
        version=1,
        method=IMPORTED,
        attempt=1,
        started_at=now,
        finished_at=now,
        n_steps=0,
        training_seconds=0.0,
        evaluation_seconds=0.0,
        peak_memory_bytes=0,
        source="import",
        source_detail=path.name,
        examples_fingerprint="",
        n_train_examples=0,
        details=ArrivalDetails(reported=ReportedDetails(training={"task": dict(described)})),
    )
