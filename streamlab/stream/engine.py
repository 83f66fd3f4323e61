"""The engine: run a scenario into a home, and yield the outcomes; it never prints.

Each arrival is trained alone on the base, stored, scored from the store, and recorded last. A
record means that the work is complete, so that resuming a run skips what is recorded.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from streamlab.arrivals.service import no_history
from streamlab.base import Base, load_base
from streamlab.diff.format.container import DEFAULT_MAX_BYTES
from streamlab.errors import BaseMismatchError, DataError, RegistryError, UsageError
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore
from streamlab.home.store_location import TRY_SECONDS, StorePlace, claim_store, open_store
from streamlab.registry import schema
from streamlab.registry.records import ExamplesUsed, NewRun, RunRecord, describe_base
from streamlab.registry.registry import Registry
from streamlab.stream.environment import describe_environment
from streamlab.stream.event_loop import Recorded, Reorder, Stream, Watch, measured_before
from streamlab.stream.executors import Executor
from streamlab.stream.executors.processes import Processes
from streamlab.stream.executors.provider_host import Bounds
from streamlab.stream.executors.resources import resources_of, visible_gpus
from streamlab.stream.executors.sandbox import Sandbox, find_sandbox
from streamlab.stream.executors.serial import Serial
from streamlab.stream.lab import Clock, Lab, Ledger, Outcome, Reached
from streamlab.stream.run_context import RunContext, SharedWork, find_device
from streamlab.stream.scenario import LoadedScenario, load_scenario
from streamlab.stream.schedule import arrivals
from streamlab.stream.trackers import Notice, Trackers, find_trackers

# Called with the run, what it works with, and how many arrivals are still to come.
Started = Callable[[RunRecord, RunContext, int], None]


def run(
    scenario: str | Path | LoadedScenario,
    home: str | Path = "streamlab-home",
    *,
    registry_url: str | None = None,
    store_url: str | None = None,
    resume: bool = False,
    base: Base | None = None,
    shared: SharedWork | None = None,
    alone: bool = False,
    watch: Watch = lambda _arrival, _progress: None,
    started: Started = lambda _run, _context, _n_arrivals: None,
    clock: Clock = time.time,
    reached: Reached = lambda _point: None,
    notice: Notice = warnings.warn,
    order: Reorder = list,
) -> Generator[Outcome, None, None]:
    """Run a scenario into a home, and yield the outcome of every arrival as it is recorded.

    Nothing happens before the first outcome is requested; a generator that is closed early leaves
    an interrupted run.
    `registry_url` is for a registry outside the home, `store_url` for a store outside it. With
    `resume` the latest unfinished run of the same scenario continues with what is not recorded
    yet. `base` is the scenario's, where it is loaded already; `shared` is what several runs have in
    common: examples, and stages of trainings with the executor `serial`. With `alone`
    RunInProgressError is raised while another process works on the same scenario. All callbacks
    are called in the caller's thread: `watch` with every training step, `started` once everything
    is loaded, `reached` with each of `lab.POINTS` that an arrival passes, `notice` with what a
    person should know of a tracker that failed. `order` may reorder the
    arrivals of each seed.
    Raises before anything is written: UsageError where the scenario, the base, the data or the
    device cannot be used, or there is nothing to resume; BaseMismatchError where the base is not
    the one that is pinned; RegistryError where the registry cannot be used; StoreError where the
    home or the store cannot be written to. An arrival whose training fails is recorded as failed,
    and the stream continues; the run then ends as failed.
    """
    loaded = scenario if isinstance(scenario, LoadedScenario) else load_scenario(Path(scenario))
    place = Home(Path(home))
    if registry_url is None:
        is_there = place.has_registry
    else:
        is_there = schema.check_place(registry_url, home=place.path)
    if resume and not is_there:
        raise _nothing_to_resume(loaded)
    trackers = find_trackers(loaded.scenario)
    if store_url is not None:
        open_store(place, store_url, patience=TRY_SECONDS).try_out()
    base = base or load_base(loaded.base, seed=loaded.scenario.seeds[0])
    context = RunContext(loaded.scenario, base, loaded.folder, shared=shared)
    context.check_keys()
    context.prepare()
    sandbox = _sandbox(context, place)
    environment = describe_environment(loaded.scenario.defaults.training)
    if loaded.scenario.execution.executor != "serial":
        environment["sandbox"] = "none" if sandbox is None else "bwrap"
    draws = loaded.scenario.queue.service == "history"
    if draws and not is_there:
        raise no_history()
    with ExitStack() as stack:
        executor = stack.enter_context(closing(_executor(context, sandbox)))
        place.create()
        url = registry_url or place.registry_url
        registry = stack.enter_context(Registry.open(url, clock=clock))
        store, outside = claim_store(place, registry, store_url)
        environment |= _tried(store, outside, is_given=store_url is not None)
        if draws:
            measured_before(registry, loaded.scenario)
        if resume:
            record = _resume(registry, loaded, context)
        else:
            record = _start(registry, loaded, base, environment, alone=alone)
        with beating(lambda: registry.runs.heartbeat(record.id)), _closing(registry, record):
            recorded = Recorded.of(registry, record.name)
            started(record, context, record.n_expected - len(recorded.took_us))
            method = loaded.scenario.defaults.method.label
            ledger = Ledger(registry, record.name, method)
            lab = Lab(registry, record, context, place, store, ledger, clock, reached)
            followed = Trackers(trackers, record, loaded.scenario, place, notice)
            stream = Stream(lab, executor, followed.watching(watch), order, recorded)
            yield from followed.following(stream.outcomes())
            _finish(registry, record, recorded.n_lost)


def _tried(store: ArtifactStore, outside: StorePlace | None, *, is_given: bool) -> dict[str, str]:
    """Return what the environment says of a store; one that was not given is tried out first."""
    if outside is None:
        return {}
    if not is_given:
        store.try_out()
    return outside.recorded()


def _sandbox(context: RunContext, home: Home) -> Sandbox | None:
    """Return the sandbox of the scenario's providers. Raises UsageError where it has none."""
    execution, tasks = context.scenario.execution, context.scenario.tasks.values()
    if execution.executor == "serial":
        return None
    for task in context.scenario.tasks:
        resources_of(task, context)  # which raises what is wrong
    on_gpu = any(find_device(task.training.device).type != "cpu" for task in tasks)
    return find_sandbox(execution.sandbox, hidden=(home.path,), on_gpu=on_gpu)


def _executor(context: RunContext, sandbox: Sandbox | None) -> Executor:
    execution = context.scenario.execution
    if execution.executor == "serial":
        return Serial(context)
    bounds = Bounds(
        max_bytes=2 * context.base.file_bytes + DEFAULT_MAX_BYTES,
        timeout_seconds=execution.timeout_seconds,
        max_memory=execution.memory,
        max_progress=execution.max_progress,
    )
    if execution.executor == "ray":
        from streamlab.stream.executors.ray import RayTasks

        address = execution.ray_address
        return RayTasks(
            context, bounds, workers=execution.workers, address=address, sandbox=sandbox
        )
    return Processes(
        context, bounds, workers=execution.workers or 1, sandbox=sandbox, gpus=visible_gpus()
    )


def _resume(registry: Registry, loaded: LoadedScenario, context: RunContext) -> RunRecord:
    base = context.base
    unfinished = registry.runs.find_unfinished(loaded.digest)
    if unfinished is None:
        raise _nothing_to_resume(loaded)
    if unfinished.base_fingerprint != base.fingerprint:
        raise BaseMismatchError(
            f"The run `{unfinished.name}` is on the base {unfinished.base_fingerprint[:12]}, and "
            f"{base.settings.model!r} now holds {base.fingerprint[:12]}. Restore that base to "
            "continue, or leave `--resume` out to start a new run."
        )
    used = registry.arrivals.examples_used(unfinished.name)
    _check_examples(used, unfinished.name, context)
    return registry.runs.resume(unfinished.id)


def _check_examples(used: Sequence[ExamplesUsed], run: str, context: RunContext) -> None:
    """Raise DataError where a recorded arrival had other examples than those that are read now."""
    for one in used:
        source = context.reported(one.task).data.source
        if source.examples_fingerprint != one.examples_fingerprint:
            raise DataError(
                f"The examples of `{one.task}` (now from {source.detail}) are not those that the "
                f"run `{run}` began with. Restore them to continue, or leave `--resume` out to "
                "start a new run."
            )


def _nothing_to_resume(loaded: LoadedScenario) -> UsageError:
    return UsageError(
        f"There is no unfinished run of this scenario (digest {loaded.digest[:12]}) to resume. "
        "A scenario with a changed setting is another one; leave `--resume` out to start a new "
        "run."
    )


def _start(
    registry: Registry,
    loaded: LoadedScenario,
    base: Base,
    environment: Mapping[str, str],
    *,
    alone: bool,
) -> RunRecord:
    registry.bases.add(describe_base(base))
    scenario = loaded.scenario
    return registry.runs.start(
        NewRun(
            scenario_name=scenario.name,
            scenario=loaded.resolved,
            scenario_digest=loaded.digest,
            base_fingerprint=base.fingerprint,
            environment=environment,
            n_expected=len(arrivals(scenario)),
        ),
        alone=alone,
    )


@contextmanager
def _closing(registry: Registry, run: RunRecord) -> Iterator[None]:
    """Record what ended a run before its end."""
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        # An error here must not hide what ended the run; here and below.
        with suppress(RegistryError):
            registry.runs.finish(
                run.id, "interrupted", "stopped from outside; `--resume` continues it"
            )
        raise
    except BaseException as error:
        with suppress(RegistryError):
            registry.runs.finish(run.id, "failed", str(error))
        raise


def _finish(registry: Registry, run: RunRecord, n_lost: int) -> None:
    """Record that a run came to its end; `n_lost`: arrivals that failed."""
    if n_lost:
        reason = f"{n_lost} of {run.n_expected} arrivals failed; `--resume` tries them again"
        registry.runs.finish(run.id, "failed", reason)
    else:
        registry.runs.finish(run.id, "finished")


_SECONDS = 15.0
_LAST_SECONDS = 5.0  # for a heartbeat that is under way as the run ends, perhaps to a lost server


@contextmanager
def beating(beat: Callable[[], None], *, seconds: float = _SECONDS) -> Iterator[None]:
    """Call `beat` every `seconds` from a thread of its own for as long as the block runs."""
    stopped = threading.Event()

    def keep_beating() -> None:
        while not stopped.wait(seconds):
            try:
                beat()
            except RegistryError:
                # A missed heartbeat is harmless. If another process took the run over, the
                # registry refuses to let this one end it.
                continue

    thread = threading.Thread(target=keep_beating, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(_LAST_SECONDS)
