"""When tasks arrive, in what order, and as which version; and what that may not change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.errors import ConfigError
from streamlab.stream.scenario import LoadedScenario, resolve_scenario
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.units import DAY_US

TASKS = {name: {"dataset": f"glue/{name}"} for name in ("sst2", "mrpc", "rte", "cola")}
POISSON = {"process": "poisson", "rate_per_day": 4}
PROVIDERS: dict[str, Any] = {
    "press": {"tasks": ["mrpc", "sst2"], "arrivals": POISSON, "n_arrivals": 5},
    "school": {"tasks": ["cola", "rte"], "arrivals": {**POISSON, "process": "gamma", "cv": 2}},
}


def resolve(folder: Path = Path(), /, **changes: Any) -> LoadedScenario:
    tree = {
        "version": 1,
        "name": "timed",
        "base": {"model": "package:somewhere"},
        "providers": PROVIDERS,
        "tasks": TASKS,
    }
    return resolve_scenario(tree | changes, origin="mine.yaml", folder=folder, environment={})


def stream(folder: Path = Path(), /, **changes: Any) -> list[Arrival]:
    return arrivals(resolve(folder, **changes).scenario)


def both(**press: Any) -> dict[str, Any]:
    """Return two providers, of which `press` is changed."""
    return {"press": {"tasks": ["mrpc", "sst2"]} | press, "school": {"tasks": ["cola", "rte"]}}


def problems(folder: Path = Path(), /, **changes: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        resolve(folder, **changes)
    assert caught.value.origin == "mine.yaml"
    return caught.value.problems


def brought(found: list[Arrival]) -> list[tuple[str, int]]:
    return [(arrival.task, arrival.version) for arrival in found]


def test_without_a_process_all_arrive_at_once_as_the_scenario_lists_them() -> None:
    found = stream(providers=both(), seeds=[1, 2], baselines=["head_only"])

    assert [a.task for a in found] == 2 * [name for name in TASKS for _ in range(2)]
    assert [a.sequence for a in found] == 2 * [0, 0, 1, 1, 2, 2, 3, 3]
    assert {(a.version, a.arrived_us) for a in found} == {(1, 0)}


def test_a_stream_is_in_order_of_time_and_baselines_share_time_and_place() -> None:
    found = stream(baselines=["head_only"])

    own, baselines = found[::2], found[1::2]
    assert len(own) == 5 + 2
    assert [a.sequence for a in own] == list(range(7))
    assert [a.arrived_us for a in own] == sorted(a.arrived_us for a in own)
    assert own[0].arrived_us > 0
    assert {a.provider for a in own[:3]} == {"press", "school"}  # mixed, as time has it
    assert [(a.sequence, a.arrived_us, *a.identity[:4]) for a in baselines] == [
        (a.sequence, a.arrived_us, *a.identity[:4]) for a in own
    ]


def test_tasks_come_round_again_as_their_next_versions() -> None:
    found = [a for a in stream() if a.provider == "press"]

    assert brought(found) == [("mrpc", 1), ("sst2", 1), ("mrpc", 2), ("sst2", 2), ("mrpc", 3)]
    assert len({a.data_seed for a in found}) == len({a.training_seed for a in found}) == 5


def test_rounds_at_one_moment_come_one_after_the_other() -> None:
    found = stream(providers=both(n_arrivals=4))

    assert brought(found) == [
        *((name, 1) for name in TASKS),
        *(("sst2", 2), ("mrpc", 2)),
    ]


@given(
    rate=st.floats(0.01, 1e4),
    n_arrivals=st.integers(2, 12),
    order=st.permutations(list(TASKS)),
    process=st.sampled_from(["poisson", "periodic", "as_listed"]),
)
def test_seeds_depend_neither_on_time_nor_on_place(
    rate: float, n_arrivals: int, order: list[str], process: str
) -> None:
    rated = {} if process == "as_listed" else {"rate_per_day": rate}
    providers = both(arrivals={"process": process, **rated}, n_arrivals=n_arrivals)

    plain = stream(providers=both(n_arrivals=n_arrivals))
    timed = stream(providers=providers, tasks={name: TASKS[name] for name in order})

    def seeds(found: list[Arrival]) -> dict[Any, tuple[int, int]]:
        return {a.identity: (a.training_seed, a.data_seed) for a in found}

    assert seeds(timed) == seeds(plain)
    assert [a.sequence for a in timed] == list(range(n_arrivals + 2))
    for task in TASKS:
        versions = [a.version for a in timed if a.task == task]
        assert versions == list(range(1, len(versions) + 1))


def test_when_a_provider_comes_depends_on_the_seed_and_on_no_other_provider() -> None:
    def times_of(name: str, found: list[Arrival], seed: int) -> list[int]:
        return [a.arrived_us for a in found if a.provider == name and a.seed == seed]

    both_seeds = stream(seeds=[1, 2])
    alone = stream(
        providers={"press": PROVIDERS["press"], "other": {"tasks": ["cola", "rte"]}}, seeds=[1]
    )
    same_process = stream(
        providers={n: {**p, "arrivals": POISSON} for n, p in PROVIDERS.items()}, seeds=[1]
    )

    press = times_of("press", both_seeds, 1)
    assert press != times_of("press", both_seeds, 2)
    assert press == times_of("press", alone, 1)
    assert press[:2] != times_of("school", same_process, 1)


def test_a_stream_is_the_same_in_another_process() -> None:
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from streamlab.stream.schedule import arrivals\n"
        "from streamlab.stream.scenario import resolve_scenario\n"
        "tree = json.load(sys.stdin)\n"
        "loaded = resolve_scenario(tree, origin='stdin', folder=Path(), environment={})\n"
        "for a in arrivals(loaded.scenario):\n"
        "    print(a.sequence, a.arrived_us, *a.identity, a.training_seed, a.data_seed)\n"
    )
    loaded = resolve(seeds=[3, 4])
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(loaded.resolved),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "99", "PYTHONPATH": str(Path(__file__).parents[2])},
    )

    assert [tuple(line.split()) for line in done.stdout.splitlines()] == [
        tuple(map(str, (a.sequence, a.arrived_us, *a.identity, a.training_seed, a.data_seed)))
        for a in arrivals(loaded.scenario)
    ]


def test_defaults_that_are_written_out_leave_the_digest_of_a_scenario_as_it_is() -> None:
    minimal = {
        "name": "minimal",
        "providers": {"one": {"tasks": ["a"]}, "two": {"tasks": ["b"]}},
        "tasks": {"a": {"dataset": "glue/sst2"}, "b": {"dataset": "glue/mrpc"}},
    }
    written_out = {
        "one": {"tasks": ["a"], "arrivals": {"process": "as_listed"}, "n_arrivals": None},
        "two": {"tasks": ["b"]},
    }
    digest = resolve(**minimal).digest

    assert resolve(**minimal | {"providers": written_out, "queue": {"slots": 1}}).digest == digest
    assert resolve(**minimal | {"queue": {"slots": 2}}).digest != digest


def test_every_new_setting_makes_another_scenario_and_is_recorded() -> None:
    variants = [
        resolve(providers=both()),
        resolve(providers=both(n_arrivals=3)),
        resolve(providers=both(arrivals={"process": "periodic", "rate_per_day": 1})),
        resolve(providers=both(arrivals={"process": "periodic", "rate_per_day": 2})),
        resolve(providers=both(arrivals={"process": "poisson", "rate_per_day": 2})),
        resolve(providers=both(), queue={"slots": 2}),
        resolve(providers=both(), queue={"service": "history"}),
        resolve(providers=both(), queue={"service": "fixed", "seconds": 9}),
    ]

    assert len({variant.digest for variant in variants}) == len(variants)
    for variant in variants:
        again = resolve_scenario(
            dict(variant.resolved), origin="registry", folder=Path(), environment={}
        )
        assert (again.resolved, again.digest) == (variant.resolved, variant.digest)
        assert arrivals(again.scenario) == arrivals(variant.scenario)
        assert again.scenario.queue == variant.scenario.queue


def test_a_number_of_arrivals_that_leaves_tasks_out_is_refused() -> None:
    assert problems(providers=both(n_arrivals=1)) == (
        "providers.press.n_arrivals: is too few for sst2 ever to arrive; raise it to 2 or more, "
        "or take them out of `tasks`, got 1.",
    )


def test_a_fault_in_a_process_is_told_under_its_provider() -> None:
    found = problems(
        providers=both(arrivals={"process": "gamma", "rate_per_day": -1}, n_arrivals=0),
        queue={"slots": 0},
    )

    assert [problem.partition(": ")[0] for problem in found] == [
        "providers.press.arrivals.rate_per_day",
        "providers.press.arrivals.cv",
        "providers.press.n_arrivals",
        "queue.slots",
    ]


CSV = "day,provider,task\n2.5,press,sst2\n0.25,school,rte\n0.5,press,mrpc\n2.5,school,cola\n"
TRACE = {"process": "trace", "file": "trace.csv"}


def traced(**changes: Any) -> dict[str, Any]:
    """Return two providers whose arrivals one trace tells; `changes` go to both."""
    return {
        name: {"tasks": list(reversed(provider["tasks"])), "arrivals": TRACE} | changes
        for name, provider in both().items()
    }


def test_a_trace_says_when_which_task_of_whom_arrives(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(CSV + "3,press,sst2\n", encoding="utf-8")

    found = stream(tmp_path, providers=traced())

    assert [(a.arrived_us / DAY_US, a.provider, a.task, a.version) for a in found] == [
        (0.25, "school", "rte", 1),
        (0.5, "press", "mrpc", 1),
        (2.5, "press", "sst2", 1),
        (2.5, "school", "cola", 1),
        (3.0, "press", "sst2", 2),
    ]


def test_what_a_trace_tells_is_recorded_and_where_it_lies_is_not(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trace.csv").write_text(CSV, encoding="utf-8")
    first, second = (resolve(tmp_path / name, providers=traced()) for name in ("here", "there"))
    variable = {"process": "trace", "file": "${TRACE:-trace.csv}"}
    third = resolve(tmp_path / "here", providers=traced(arrivals=variable))
    (tmp_path / "here" / "trace.csv").write_text(CSV.replace("2.5", "2.6"), encoding="utf-8")

    assert first.digest == second.digest == third.digest
    assert first.resolved["providers"]["press"]["arrivals"]["events"] == [
        {"day": 2.5, "task": "sst2"},
        {"day": 0.5, "task": "mrpc"},
    ]
    again = resolve_scenario(dict(first.resolved), origin="registry", folder=Path("nowhere"))
    assert arrivals(again.scenario) == arrivals(first.scenario)
    assert again.digest == first.digest
    assert resolve(tmp_path / "here", providers=traced()).digest != first.digest


def test_lines_of_unknown_providers_and_tasks_are_told_by_number(tmp_path: Path) -> None:
    bad = CSV + "1,radio,sst2\n1,press,cola\nlate,press,sst2\n"
    (tmp_path / "trace.csv").write_text(bad, encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path, providers=traced())

    assert caught.value.origin == str(tmp_path / "trace.csv")
    assert caught.value.problems == (
        "line 6: the provider must be one of those with this trace (press, school), got 'radio'.",
        "line 7: the task must be one of 'press' (sst2, mrpc), got 'cola'.",
        "line 8: the day must be a number from 0 to 100,000,000, got 'late'.",
    )


def test_lines_of_a_provider_that_comes_by_another_process_are_not_passed_over(
    tmp_path: Path,
) -> None:
    (tmp_path / "trace.csv").write_text(CSV, encoding="utf-8")

    with pytest.raises(ConfigError, match=r"line 3: .* with this trace \(press\), got 'school'"):
        resolve(tmp_path, providers=both(arrivals=TRACE))


def test_a_file_is_for_those_alone_whose_arrivals_it_is_said_to_tell(tmp_path: Path) -> None:
    for name in ("trace.csv", "other.csv"):
        (tmp_path / name).write_text(CSV, encoding="utf-8")
    providers = traced()
    providers["school"]["arrivals"] = {"process": "trace", "file": "other.csv"}

    with pytest.raises(ConfigError, match=r"line 3: .* with this trace \(press\), got 'school'"):
        resolve(tmp_path, providers=providers)


def test_events_may_be_written_out_and_are_checked_alike() -> None:
    events = [{"day": 1, "task": "mrpc"}, {"day": 2, "task": "cola"}]
    trace = {"process": "trace", "events": events}

    assert problems(providers=both(arrivals=trace, n_arrivals=4)) == (
        "providers.press.n_arrivals: follows from the trace; leave it out, got 4.",
        "providers.press.arrivals.events.1.task: is not a task of the provider "
        "(mrpc, sst2), got 'cola'.",
        "providers.press.tasks.1: never arrives by the trace; add it there, or take it out here, "
        "got 'sst2'.",
    )


def test_a_task_that_a_file_never_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("day,provider,task\n1,press,mrpc\n", encoding="utf-8")

    assert problems(tmp_path, providers=both(arrivals=TRACE)) == (
        "providers.press.tasks.1: never arrives by the trace; add it there, or take it out here, "
        "got 'sst2'.",
    )


def test_other_problems_are_told_before_a_file_is_looked_for() -> None:
    (problem,) = problems(providers=both(arrivals=TRACE), evaluation="never")

    assert problem.startswith("evaluation: ")
