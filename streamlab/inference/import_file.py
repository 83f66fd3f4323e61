"""A diff file from elsewhere, taken in as the one arrival of a run of its own.

It is hostile until proven otherwise: its base must be known here, and its content is checked
against that base, before anything is stored.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from streamlab.base import checkpoint_bytes
from streamlab.config import digest as digest_of
from streamlab.diff.format.container import DEFAULT_MAX_BYTES, decode, inspect
from streamlab.errors import (
    NotInRegistryError,
    SourceError,
    UsageError,
)
from streamlab.home.diff_records import describe_diff
from streamlab.home.import_home import IMPORTED
from streamlab.inference.model import load_recorded_base
from streamlab.registry.details import ArrivalDetails, ReportedDetails
from streamlab.registry.heartbeat import this_process
from streamlab.registry.layouts import recorded_layout
from streamlab.registry.records import BaseRecord, NewArrival, NewBase, NewDiff, NewRun
from streamlab.registry.whole import TakenIn, WholeArrival, WholeRun, given_part

if TYPE_CHECKING:
    from pathlib import Path

    from streamlab.diff.vector import DiffVector
    from streamlab.home.store import ArtifactStore
    from streamlab.inference.model import LoadedBase
    from streamlab.registry.registry import Registry


def import_file(
    registry: Registry,
    store: ArtifactStore,
    path: Path,
    *,
    provider: str,
    task: str | None,
    model: str | None = None,
) -> TakenIn:
    """Check a diff file, store it and record it as the one arrival of a run of its own.

    `task`: default is what the file says. `model`: where the base lies now. The diff is put on
    the base and taken off again before it is stored. It gets no score: none was measured here.
    The same file from the same provider for the same task is taken in once. Raises SourceError
    for no file or base, DiffError for a bad file, and NotInRegistryError for an unknown base.
    """
    data = _read(path)
    facts = inspect(data)
    base = _known_base(registry, facts["base"])
    diff = decode(data, recorded_layout(base), expected_digest=facts["digest"])
    named = task or facts["task"].get("task")
    if not isinstance(named, str) or not named or not provider:
        raise UsageError(
            f"{path} does not say which task it is for. Name it with `--task`, and who made it "
            "with `--provider`."
        )
    try:
        new: NewDiff = given_part(registry.diff(facts["digest"]), NewDiff)
    except NotInRegistryError:
        full_bytes = _tried(load_recorded_base(registry, base.fingerprint, model=model), diff)
        new = describe_diff(diff, data, full_bytes=full_bytes)
    whole = _run_of_file(path, base, new, facts, provider=provider, task=named)
    known = registry.find_whole(whole)
    if known is not None:
        return TakenIn(known, is_new=False)
    store.put(data)
    return registry.import_run(whole)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > DEFAULT_MAX_BYTES:
            raise SourceError(
                f"{path} has {size:,} bytes; a diff file may have {DEFAULT_MAX_BYTES:,}."
            )
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"No diff can be read from {path}: {error.strerror}.") from error


def _known_base(registry: Registry, fingerprint: str) -> BaseRecord:
    try:
        return registry.base(fingerprint)
    except NotInRegistryError as error:
        raise NotInRegistryError(
            f"The diff is on the base {fingerprint!r}, which this registry does not know, so that "
            "nothing in it can be checked. Run a scenario on that base first; `streamlab ls "
            "bases` lists those that are known."
        ) from error


def _tried(loaded: LoadedBase, diff: DiffVector) -> int:
    """Put a diff on its base and take it off; return the bytes of the checkpoint it makes.

    Raises DiffError where it does not fit or changes nothing.
    """
    with loaded.holding("the file", diff):
        model, names = loaded.model, (*loaded.base.full_names.values(), *diff.head)
        return checkpoint_bytes({name: model.get_parameter(name) for name in names})


def _run_of_file(
    path: Path,
    base: BaseRecord,
    diff: NewDiff,
    facts: dict[str, Any],
    *,
    provider: str,
    task: str,
) -> WholeRun:
    now, owner = time.time(), this_process()
    scenario = {
        "name": IMPORTED,
        "seeds": [0],
        "base": {"model": base.model, "revision": base.revision, "layers": base.layers},
        "defaults": {"method": {"name": IMPORTED}},
        "providers": {provider: {"tasks": [task]}},
        "tasks": {task: {"dataset": str(facts["task"].get("dataset") or task)}},
        "imported": diff.digest,
    }
    arrival = _arrival_of_file(path, facts, provider=provider, task=task, now=now)
    return WholeRun(
        base=given_part(base, NewBase),
        run=NewRun(
            scenario_name=IMPORTED,
            scenario=scenario,
            scenario_digest=digest_of(scenario),
            base_fingerprint=base.fingerprint,
            environment={},
            n_expected=1,
        ),
        name=path.name,
        number=1,
        started_at=now,
        finished_at=now,
        host=owner.host,
        pid=owner.pid,
        arrivals=(WholeArrival(arrival=arrival, diff=diff),),
        origin=str(path),
        by_digest_alone=True,
    )


def _arrival_of_file(
    path: Path, facts: dict[str, Any], *, provider: str, task: str, now: float
) -> NewArrival:
    """Describe an arrival of which nothing is known but its file."""
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
        details=ArrivalDetails(reported=ReportedDetails(training={"task": dict(facts["task"])})),
    )
