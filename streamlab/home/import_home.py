"""Import the finished runs of another home, with their files and curves.

All runs are imported or none, and nothing existing is overwritten. If its name is taken, an
imported run gets the next number. A run is recognised by its scenario's digest, its start and its
host; one that was made for a single file by its digest alone.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from streamlab.diff.format.container import DEFAULT_MAX_BYTES, decode, open_diff
from streamlab.errors import (
    BaseMismatchError,
    DiffError,
    NotInRegistryError,
    RegistryError,
    StoreError,
    UsageError,
)
from streamlab.files import locked, read_beneath, refuse_link, temporary_path, write_atomically
from streamlab.home.curves import MAX_CURVE_BYTES, parse_curve, recorded_curve_path
from streamlab.home.folder import Home
from streamlab.home.foreign import (
    NO_HOME,
    ImportedArrival,
    ImportedRun,
    opened_foreign_store,
    read_runs,
)
from streamlab.home.store import ArtifactStore, FolderStore
from streamlab.home.store_location import claim_store, placed
from streamlab.registry.records import (
    ArrivalRecord,
    FinishedArrival,
    NewBase,
    NewDiff,
    RunRecord,
    describe_base,
    given_part,
    header_fields,
)
from streamlab.registry.registry import Registry
from streamlab.registry.schema import check_place

_identity = attrgetter("seed", "provider", "task", "version", "method", "attempt")
_OF_A_BASE = [f.name for f in fields(NewBase) if f.name not in ("model", "revision", "layers")]


@dataclass(frozen=True)
class Imported:
    """A run as it is recorded here; not `is_new` where it had been imported before."""

    run: RunRecord
    is_new: bool
    source: ImportedRun


def import_home(
    home: Home,
    url: str,
    other: Home,
    *,
    models: Sequence[str] = (),
    store_url: str | None = None,
) -> tuple[Imported, ...]:
    """Import every finished run of another home, oldest first, with its files and curves.

    Everything is checked before anything is kept: rows, bases, files and curves. A run that
    exists here is skipped. `url`: the registry of `home`; both are created where they are missing.
    `models`: where bases are that are not recorded here. `store_url`: a store outside the home.
    The files of the other home must be in its own folder. Raises RegistryError where the other home
    cannot be read or a run exists here with other content, UsageError for an unknown base, and
    StoreError where a file is missing or altered; then nothing was imported.
    """
    other.require_registry(NO_HOME)
    runs = read_runs(other)
    known = check_place(url, home=home.path)
    with Registry.open(url, clock=time.time, read_only=True) if known else nullcontext() as here:
        found = [None if here is None else find_imported(here, run) for run in runs]
        missing = [run for run, result in zip(runs, found, strict=True) if result is None]
        bases = _check_bases(here, missing, models)
    with staging(home) as folder:
        _stage(other, folder, missing, bases)
        curves = [_read_curves(other, run) for run in runs]
        home.create()
        with Registry.open(url, clock=time.time) as registry:
            store, place = claim_store(home, registry, store_url)
            runs = tuple(replace(run, run=placed(run.run, place)) for run in runs)
            imported = _keep(registry, store, folder, runs, bases)
    for one, read in zip(imported, curves, strict=True):
        # An earlier import may have been interrupted before the curves.
        for part, data in read:
            path = recorded_curve_path(home.curves, one.run.name, part.arrival)
            refuse_link(path.parent)
            if not os.path.lexists(path):
                write_atomically(path, data)
    return imported


def find_imported(registry: Registry, run: ImportedRun) -> Imported | None:
    """Return a run that finished elsewhere as it is recorded here, None where it is not.

    One that has lost all its arrivals counts as missing. Raises RegistryError where the same run
    is here with other arrivals.
    """
    started_at = None if run.by_digest_alone else run.run.started_at
    for known in registry.runs.list(scenario_digest=run.run.scenario_digest, started_at=started_at):
        if known.host != run.run.host and not run.by_digest_alone:
            continue
        # Also the removed ones, which are not to come back by themselves.
        arrivals = registry.arrivals.list(run=known.id, removed=None)
        if arrivals or not run.arrivals:
            _refuse_different(run, known, arrivals)
            return Imported(known, is_new=False, source=run)
    return None


def add_imported(registry: Registry, run: ImportedRun) -> Imported:
    """Record a run that finished elsewhere, or find it; its files are stored first.

    All in one transaction. Where another run here has its name, the next free one is taken.
    Raises RegistryError where the same run is here with other arrivals.
    """
    return registry.transaction(lambda: find_imported(registry, run) or _add(registry, run))


def _add(registry: Registry, run: ImportedRun) -> Imported:
    registry.bases.add(run.base)
    record = registry.runs.add_finished(run.run)
    ids, event = list[int](), "arrival-imported"
    for finished, parts in groupby(run.arrivals, key=lambda part: part.diff is not None):
        if finished:
            new = [
                FinishedArrival(
                    arrival=replace(part.arrival, run_id=record.id),
                    diff=part.diff,
                    scores=part.scores,
                )
                for part in parts
                if part.diff is not None
            ]
            ids += registry.arrivals.add_all(new, event=event)
            continue
        for part in parts:
            arrival, reason = replace(part.arrival, run_id=record.id), part.reason or ""
            ids.append(
                registry.arrivals.add_failed(arrival, reason, rule=part.rule, event=event).id
            )
    placed = [replace(line, arrival_id=ids[line.arrival_id]) for line in run.placements]
    registry.placements.add(placed)
    registry.placements.set_requests(record.id, run.requests)
    message = f"`{run.run.name}` of {run.origin}, {len(run.arrivals)} arrivals"
    registry.events.add("run-imported", record.name, message)
    return Imported(record, is_new=True, source=run)


def _keep(
    registry: Registry,
    store: ArtifactStore,
    folder: Path,
    runs: Sequence[ImportedRun],
    bases: Mapping[str, NewBase],
) -> tuple[Imported, ...]:
    """Store the staged files and record the runs, while `gc` deletes nothing."""
    with store.adding({file.name: file for file in sorted(folder.iterdir())}):
        trusted = [replace(run, base=bases.get(run.base.fingerprint, run.base)) for run in runs]
        return registry.transaction(lambda: tuple(add_imported(registry, run) for run in trusted))


def _refuse_different(
    run: ImportedRun, known: RunRecord, arrivals: Sequence[ArrivalRecord]
) -> None:
    """Raise RegistryError unless the run here has the arrivals that the other one has."""
    # Without the device log, which is continued where a version is taken back.
    here = sorted(repr((_identity(a), a.digest, a.reason, a.rule)) for a in arrivals)
    there = sorted(
        repr((_identity(part.arrival), part.diff and part.diff.digest, part.reason, part.rule))
        for part in run.arrivals
    )
    if here != there:
        raise RegistryError(
            f"The run `{run.run.name}` of {run.origin} is here already as `{known.name}`, with "
            f"other content: {len(here)} arrivals here, {len(there)} there. Nothing was changed; "
            "compare the two with `streamlab ls arrivals`."
        )


def _check_bases(
    here: Registry | None, runs: Sequence[ImportedRun], models: Sequence[str]
) -> dict[str, NewBase]:
    """Return the bases of runs as they are known here, by fingerprint.

    What the other home says of a base is never taken on trust: one that is not recorded here is
    loaded from one of `models`. Raises UsageError where none of them is it, and RegistryError
    where the other home describes a base otherwise.
    """
    found: dict[str, NewBase] = {}
    for run in runs:
        claimed = run.base
        if claimed.fingerprint not in found:
            found[claimed.fingerprint] = _known_base(here, run, models)
        base = found[claimed.fingerprint]
        wrong = [name for name in _OF_A_BASE if getattr(base, name) != getattr(claimed, name)]
        if wrong:
            raise RegistryError(
                f"The home {run.origin} describes the base {base.fingerprint[:12]} with another "
                f"`{wrong[0]}` than it has. Nothing was imported; the home was changed."
            )
    return found


def _known_base(here: Registry | None, run: ImportedRun, models: Sequence[str]) -> NewBase:
    claimed = run.base
    with suppress(NotInRegistryError):
        if here is not None:
            return given_part(here.bases.get(claimed.fingerprint), NewBase)
    for model in models:
        from streamlab.base import BaseSettings, load_base  # deferred: loads torch

        revision = claimed.revision if model == claimed.model else None
        settings = BaseSettings(model=model, revision=revision, layers=claimed.layers)
        base = load_base(settings, seed=run.run.settings.seeds[0])
        if base.fingerprint == claimed.fingerprint:
            return describe_base(base)
    given = f"none of those given ({', '.join(models)}) is it" if models else "it is not recorded"
    raise UsageError(
        f"The run `{run.run.name}` of {run.origin} is on the base {claimed.fingerprint[:12]}, "
        f"called {claimed.model!a} there, and {given}. A base is never taken from an import: say "
        "where yours is by `--base MODEL`, or run a scenario on it first. Nothing was imported."
    )


@contextmanager
def staging(home: Home) -> Iterator[Path]:
    """Yield a temporary folder in a home; it is removed, with a home that is not made by then."""
    path = home.path.absolute()
    missing = next((p for p in reversed([path, *path.parents]) if not p.exists()), None)
    folder = temporary_path(path / "import")
    try:
        folder.mkdir(parents=True)
        with locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if missing is not None and not home.has_registry:
            shutil.rmtree(missing, ignore_errors=True)


def _stage(
    other: Home, folder: Path, runs: Sequence[ImportedRun], bases: Mapping[str, NewBase]
) -> None:
    """Copy the artifacts of runs, each verified against its digest, its base and its record."""
    diffs = {
        part.diff.digest: part.diff
        for run in runs
        for part in run.arrivals
        if part.diff is not None
    }
    with opened_foreign_store(other) as elsewhere:
        for diff in diffs.values():
            data = _read_artifact(elsewhere, diff, bases[diff.base_fingerprint])
            write_atomically(folder / diff.digest, data)


def _read_artifact(elsewhere: FolderStore, diff: NewDiff, base: NewBase) -> bytes:
    most_bytes = DEFAULT_MAX_BYTES if diff.kind == "diff" else _checkpoint_limit(base)
    try:
        data = elsewhere.read(diff.digest, most_bytes=most_bytes)
    except FileNotFoundError as error:
        raise StoreError(
            f"The store {elsewhere.folder} has no artifact {diff.digest}. Nothing was imported. "
            "If its runs had a store of their own outside that home, copy the files there first."
        ) from error
    elsewhere.check(data, diff.digest)
    try:
        agrees = _agrees(diff, data, base)
    except (BaseMismatchError, DiffError) as error:
        raise StoreError(
            f"The artifact {diff.digest} of {elsewhere.folder} cannot be used: {error} Nothing was "
            "imported."
        ) from error
    if not agrees:
        raise StoreError(
            f"The artifact {diff.digest} of {elsewhere.folder} disagrees with its record. Nothing "
            "was imported. Run `streamlab verify` on that home first."
        )
    return data


def _checkpoint_limit(base: NewBase) -> int:
    return 2 * base.file_bytes + DEFAULT_MAX_BYTES


def _agrees(diff: NewDiff, data: bytes, base: NewBase) -> bool:
    """Tell whether a record says what its file holds. Raises DiffError where it cannot be read."""
    if len(data) != diff.file_bytes or not diff.full_checkpoint_bytes <= _checkpoint_limit(base):
        return False
    if diff.kind != "diff":
        return len(diff.tensor_counts) in (0, base.n_tensors)
    layout = base.as_layout()
    facts = header_fields(open_diff(data)) | {
        "tensor_counts": decode(data, layout, expected_digest=diff.digest).counts
    }
    return all(getattr(diff, name) == value for name, value in facts.items())


def _read_curves(other: Home, run: ImportedRun) -> list[tuple[ImportedArrival, bytes]]:
    """Return the existing curves of a run's arrivals. Raises StoreError for one that is none."""
    found = []
    for part in run.arrivals:
        path = recorded_curve_path(other.curves, run.run.name, part.arrival)
        with suppress(FileNotFoundError):
            data = read_beneath(other.path, path, most_bytes=MAX_CURVE_BYTES)
            parse_curve(path, data)
            found.append((part, data))
    return found
