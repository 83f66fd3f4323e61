"""The contract of the registry, held by every kind of database it runs on."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from registry_samples import (
    FINGERPRINT,
    Clock,
    digest_of,
    new_arrival,
    new_base,
    new_diff,
    new_run,
    new_score,
)

from streamlab import __version__
from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.conditions import Comparison, Span
from streamlab.registry.records import (
    ArrivalDetails,
    ArrivalRecord,
    ExamplesChanged,
    Grouping,
    MethodStorage,
    ReportedDetails,
    RunRecord,
)
from streamlab.registry.registry import Registry
from streamlab.registry.runs import RunEnd

NOT_JSON = ArrivalDetails(reported=ReportedDetails(training={"loss": float("nan")}))


@pytest.fixture
def run(registry: Registry) -> RunRecord:
    registry.bases.add(new_base())
    return registry.runs.start(new_run())


def given(record: Any, new: Any) -> Any:
    """Return the part of a record that was given."""
    names = [field.name for field in dataclasses.fields(new)]
    return type(new)(**{name: getattr(record, name) for name in names})


def test_a_base_comes_back_as_it_was_given(registry: Registry) -> None:
    record = registry.bases.add(new_base())

    assert given(record, new_base()) == new_base()
    assert (record.added_at, registry.bases.get(FINGERPRINT), registry.bases.list()) == (
        1000.0,
        record,
        (record,),
    )


def test_a_base_with_nothing_optional_comes_back_as_it_was_given(registry: Registry) -> None:
    base = new_base(layers=None, revision="v1", initialised=())

    assert given(registry.bases.add(base), base) == base


def test_a_base_is_added_once_per_fingerprint(registry: Registry, clock: Clock) -> None:
    first = registry.bases.add(new_base())
    clock.now += 5

    assert registry.bases.add(new_base(model="another name")) == first
    assert [event.kind for event in registry.events.list()] == ["base-added"]


def test_an_unknown_base_is_refused_with_near_names(registry: Registry) -> None:
    registry.bases.add(new_base())

    with pytest.raises(NotInRegistryError, match=f"Did you mean `{FINGERPRINT}`"):
        registry.bases.get("f" * 60)


def test_a_run_comes_back_as_it_was_given(registry: Registry, run: RunRecord) -> None:
    assert given(run, new_run()) == new_run()
    assert (run.name, run.status, run.reason, run.finished_at) == ("glue-1", "running", None, None)
    assert run.started_at == run.heartbeat_at == 1000.0
    assert (
        registry.runs.get("glue-1")
        == registry.runs.get(run.id)
        == registry.runs.get(str(run.id))
        == run
    )


@pytest.mark.usefixtures("run")
def test_runs_are_counted_per_scenario_name(registry: Registry) -> None:
    names = [
        registry.runs.start(new_run(scenario_name=name)).name for name in ("glue", "sst", "glue")
    ]

    assert names == ["glue-2", "sst-1", "glue-3"]
    assert registry.runs.names() == ("glue-3", "sst-1", "glue-2", "glue-1")


@pytest.mark.usefixtures("run")
def test_the_latest_run_answers_to_latest(registry: Registry) -> None:
    second = registry.runs.start(new_run())

    assert registry.runs.get("latest") == second


def test_latest_passes_over_imported_files(registry: Registry, run: RunRecord) -> None:
    scenario = {**new_run().scenario, "name": "imported", "imported": digest_of("a")}
    file = registry.runs.start(new_run(scenario_name="imported", scenario=scenario))

    assert registry.runs.get("latest") == run
    assert registry.runs.get(file.name) == file


def test_a_scenario_may_be_called_imported(registry: Registry, run: RunRecord) -> None:
    scenario = {**run.scenario, "name": "imported"}
    mine = registry.runs.start(new_run(scenario_name="imported", scenario=scenario))

    assert registry.runs.get("latest") == mine


def test_latest_passes_over_a_run_whose_arrivals_were_all_removed(
    registry: Registry, run: RunRecord
) -> None:
    registry.arrivals.add(new_arrival(run.id), new_diff(), [])
    other = registry.runs.start(new_run())
    arrival = registry.arrivals.add(new_arrival(other.id), new_diff(), [])
    registry.runs.finish(other.id, "finished")
    registry.removal.remove([arrival.id])

    assert registry.runs.get("latest") == run
    assert registry.runs.newest().id == other.id
    registry.removal.restore([arrival.id])
    assert registry.runs.get("latest").id == other.id


def test_latest_says_which_runs_it_passes_over(registry: Registry, run: RunRecord) -> None:
    arrival = registry.arrivals.add(new_arrival(run.id), new_diff(), [])
    registry.runs.finish(run.id, "finished")
    registry.removal.remove([arrival.id])

    with pytest.raises(NotInRegistryError, match="No run is the latest: glue-1 "):
        registry.runs.get("latest")


def test_scores_taken_again_after_later_arrivals_can_be_left_out(
    registry: Registry, run: RunRecord
) -> None:
    arrival = registry.arrivals.add(new_arrival(run.id), new_diff(), [new_score()])
    registry.scores.add({arrival.id: [new_score(after_sequence=1)]})

    assert [score.after_sequence for score in registry.scores.list()] == [0, 1]
    assert [score.after_sequence for score in registry.scores.list(own=True)] == [0]


@pytest.mark.usefixtures("run")
def test_runs_are_listed_oldest_first_and_a_limit_keeps_the_last(registry: Registry) -> None:
    for _ in range(2):
        registry.runs.start(new_run())

    assert [r.name for r in registry.runs.list()] == ["glue-1", "glue-2", "glue-3"]
    assert [r.name for r in registry.runs.list(limit=2)] == ["glue-2", "glue-3"]


@pytest.mark.usefixtures("run")
def test_an_unknown_run_is_refused_naming_what_there_is(registry: Registry) -> None:
    refs: list[str | int] = ["glue-11", 77, "77", "gleu-1"]

    for ref in refs:
        with pytest.raises(NotInRegistryError, match="glue-1"):
            registry.runs.get(ref)


def test_a_run_on_an_unknown_base_is_refused(registry: Registry) -> None:
    with pytest.raises(NotInRegistryError, match="holds no base"):
        registry.runs.start(new_run())
    assert registry.runs.list() == ()


def test_a_run_ends_once(registry: Registry, run: RunRecord, clock: Clock) -> None:
    ends: tuple[RunEnd, ...] = ("finished", "failed", "interrupted")

    for status in ends:
        run = registry.runs.start(new_run())
        clock.now += 60.0
        ended = registry.runs.finish(run.id, status, "as planned")
        assert (ended.status, ended.reason, ended.finished_at) == (status, "as planned", clock.now)
        with pytest.raises(RegistryError, match=f"already ended as {status}"):
            registry.runs.finish(run.id, "finished")


def test_a_heartbeat_is_recorded_until_the_run_ends(
    registry: Registry, run: RunRecord, clock: Clock
) -> None:
    clock.now = 1042.0
    registry.runs.heartbeat(run.id)
    assert registry.runs.get(run.id).heartbeat_at == 1042.0

    registry.runs.finish(run.id, "failed", "out of luck")
    with pytest.raises(RegistryError, match="already ended as failed"):
        registry.runs.heartbeat(run.id)


def test_the_latest_unfinished_run_of_a_scenario_is_found(
    registry: Registry, run: RunRecord
) -> None:
    digest = run.scenario_digest
    second = registry.runs.start(new_run())
    registry.runs.start(new_run(scenario_digest=digest_of("another")))

    assert registry.runs.find_unfinished(digest) == second
    registry.runs.finish(second.id, "finished")
    assert registry.runs.find_unfinished(digest) == run
    failed = registry.runs.finish(run.id, "failed", "no luck")
    assert registry.runs.find_unfinished(digest) == failed
    assert registry.runs.find_unfinished(digest_of("never run")) is None


def test_an_interrupted_run_is_resumed_under_its_name(
    registry: Registry, run: RunRecord, clock: Clock
) -> None:
    registry.runs.finish(run.id, "interrupted", "stopped")
    clock.now = 2000.0

    resumed = registry.runs.resume(run.id)

    assert resumed == dataclasses.replace(run, heartbeat_at=2000.0)


def test_a_finished_run_is_not_resumed(registry: Registry, run: RunRecord) -> None:
    registry.runs.finish(run.id, "finished")

    with pytest.raises(RegistryError, match="nothing to resume"):
        registry.runs.resume(run.id)


def test_an_arrival_comes_back_as_it_was_given(registry: Registry, run: RunRecord) -> None:
    arrival, diff = new_arrival(run.id), new_diff()
    scores = [new_score(), new_score(split="validation", value=1, is_primary=False)]

    record = registry.arrivals.add(arrival, diff, scores)

    assert given(record, arrival) == arrival
    assert (record.run, record.status, record.reason) == ("glue-1", "finished", None)
    assert record.digest == diff.digest
    assert registry.arrivals.get(record.id) == record
    assert given(registry.artifacts.get(diff.digest), diff) == diff
    stored = registry.scores.list(arrival_id=record.id)
    assert [given(score, scores[0]) for score in stored] == scores
    assert [(s.run, s.seed, s.task, s.provider, s.method, s.source) for s in stored] == [
        ("glue-1", 1, "sst2", "reviews_inc", "diff_pruning", "files")
    ] * 2


def test_a_baselines_checkpoint_needs_no_counts(registry: Registry, run: RunRecord) -> None:
    checkpoint = new_diff(kind="checkpoint", n_entries=128, tensor_counts=())

    registry.arrivals.add(new_arrival(run.id), checkpoint, [])

    assert given(registry.artifacts.get(checkpoint.digest), checkpoint) == checkpoint


def test_scores_on_synthetic_rows_say_so(registry: Registry, run: RunRecord) -> None:
    for source in ("synthetic", "hub"):
        arrival = new_arrival(run.id, source=source, task=f"from {source}")
        registry.arrivals.add(arrival, new_diff(), [new_score()])

    assert [(s.source, s.synthetic) for s in registry.scores.list()] == [
        ("synthetic", True),
        ("hub", False),
    ]


def test_changed_examples_are_those_of_the_first_arrival_of_each_task(
    registry: Registry, run: RunRecord
) -> None:
    for version, task, n_truncated in ((1, "sst2", 7), (2, "sst2", 9), (1, "rte", None)):
        details = ArrivalDetails(n_truncated=n_truncated, n_repeated=n_truncated and 2)
        arrival = new_arrival(run.id, task=task, version=version, details=details)
        registry.arrivals.add(arrival, new_diff(), [])

    assert registry.arrivals.examples_changed(run.id) == (ExamplesChanged("sst2", 7, 0, 0, 0, 2),)
    assert registry.arrivals.examples_changed(run.name) == (ExamplesChanged("sst2", 7, 0, 0, 0, 2),)


def test_two_arrivals_share_one_artifact(registry: Registry, run: RunRecord) -> None:
    for version in (1, 2):
        registry.arrivals.add(new_arrival(run.id, version=version), new_diff(), [])

    assert len(registry.artifacts.list()) == 1
    assert [record.digest for record in registry.arrivals.list()] == [new_diff().digest] * 2


def test_one_digest_with_other_facts_is_refused_whole(registry: Registry, run: RunRecord) -> None:
    registry.arrivals.add(new_arrival(run.id), new_diff(), [])
    before = registry.events.list()

    with pytest.raises(RegistryError, match="another `value_type`: 'bf16', given 'fp32'"):
        registry.arrivals.add(
            new_arrival(run.id, version=2, task="new"), new_diff(value_type="fp32"), []
        )

    assert len(registry.arrivals.list()) == 1
    assert [task.name for task in registry.totals.tasks()] == ["sst2"]
    assert registry.events.list() == before


def test_a_finished_arrival_is_not_finished_twice(registry: Registry, run: RunRecord) -> None:
    first = registry.arrivals.add(new_arrival(run.id), new_diff(), [new_score()])

    with pytest.raises(RegistryError, match=f"as arrival {first.id}"):
        registry.arrivals.add(new_arrival(run.id, attempt=2, sequence=9), new_diff("b"), [])

    assert registry.arrivals.list() == (first,)
    assert len(registry.artifacts.list()) == 1


def test_another_identity_is_another_arrival(registry: Registry, run: RunRecord) -> None:
    changes = ({}, {"seed": 2}, {"provider": "p"}, {"task": "t"}, {"version": 2}, {"method": "m"})

    for change in changes:
        registry.arrivals.add(new_arrival(run.id, **change), new_diff(), [])

    assert len(registry.arrivals.list()) == len(changes)


def test_another_run_may_finish_the_same_arrival(registry: Registry, run: RunRecord) -> None:
    second = registry.runs.start(new_run())
    for run_id in (run.id, second.id):
        registry.arrivals.add(new_arrival(run_id), new_diff(), [])

    assert [record.run for record in registry.arrivals.list()] == ["glue-1", "glue-2"]


def test_failed_attempts_may_be_followed_by_a_finished_one(
    registry: Registry, run: RunRecord
) -> None:
    for attempt in (1, 2):
        failed = registry.arrivals.add_failed(
            new_arrival(run.id, attempt=attempt), "the loss is NaN"
        )
        assert (failed.status, failed.reason, failed.digest) == ("failed", "the loss is NaN", None)
    registry.arrivals.add(new_arrival(run.id, attempt=3), new_diff(), [])

    statuses = [(record.attempt, record.status) for record in registry.arrivals.list()]
    assert statuses == [(1, "failed"), (2, "failed"), (3, "finished")]


def test_an_arrival_of_an_unknown_run_is_refused(registry: Registry) -> None:
    with pytest.raises(NotInRegistryError, match="no run"):
        registry.arrivals.add(new_arrival(5), new_diff(), [])
    with pytest.raises(NotInRegistryError, match="no run"):
        registry.arrivals.add_failed(new_arrival(5), "no run")
    assert registry.totals.providers() == ()


def test_an_arrival_stays_on_the_base_of_its_run(registry: Registry, run: RunRecord) -> None:
    other = registry.bases.add(new_base(fingerprint="e" * 64))

    with pytest.raises(RegistryError, match="stays on its run's base"):
        registry.arrivals.add(new_arrival(run.id), new_diff(base_fingerprint=other.fingerprint), [])


def test_an_artifact_that_contradicts_itself_is_refused(registry: Registry, run: RunRecord) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"digest": "A" * 64}, "not 64 hexadecimal digits"),
        ({"file_bytes": 101}, "have 100 bytes, but `file_bytes` says 101"),
        ({"tensor_counts": (4, 0, 4)}, "add up to 8, but `n_entries` says 7"),
        ({"tensor_counts": ()}, "add up to 0, but `n_entries` says 7"),
        ({"tensor_counts": (-1, 8, 0)}, "`tensor_counts` is a tuple"),
        ({"n_gated": 6}, "ck_diffs_entries"),
        ({"kind": "patch"}, "not one of diff, checkpoint, adapter"),
        ({"head_bytes": -1, "file_bytes": 59}, "`head_bytes` is -1"),
    ]

    for change, message in wrong:
        with pytest.raises(RegistryError, match=message):
            registry.arrivals.add(new_arrival(run.id), new_diff(**change), [])

    assert registry.arrivals.list() == registry.artifacts.list() == ()


def test_an_arrival_with_impossible_facts_is_refused(registry: Registry, run: RunRecord) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"sequence": -1}, "`sequence` is -1"),
        ({"training_seconds": -0.5}, "`training_seconds` is -0.5"),
        ({"peak_memory_bytes": None}, "`peak_memory_bytes` is None"),
        ({"task": ""}, "`task` is ''"),
        ({"seed": 2**63}, "`seed` is 9223372036854775808"),
        ({"details": NOT_JSON}, "not JSON compliant"),
        ({"source_detail": "\ud800"}, "surrogates not allowed"),
        ({"source_detail": "a\0b"}, "none of them NUL"),
    ]

    for change, message in wrong:
        with pytest.raises(RegistryError, match=f"(be written|be recorded): .*{message}"):
            registry.arrivals.add(new_arrival(run.id, **change), new_diff(), [])

    assert registry.arrivals.list() == registry.artifacts.list() == ()


def test_a_nul_in_what_a_person_reads_of_a_failure_is_written_out(
    registry: Registry, run: RunRecord
) -> None:
    failed = registry.arrivals.add_failed(new_arrival(run.id), "a\0b")

    assert (failed.reason, registry.events.list()[-1].message) == ("a\\0b", "a\\0b")


def test_details_of_any_characters_come_back(registry: Registry, run: RunRecord) -> None:
    details = ArrivalDetails(
        reported=ReportedDetails(training={"log": "\0 \u00e9 \U0001f600 \\u0000"})
    )

    record = registry.arrivals.add(new_arrival(run.id, details=details), new_diff(), [])

    assert record.details == details


def test_texts_are_in_the_order_of_their_code_points(registry: Registry, run: RunRecord) -> None:
    names = ["Zebra", "a_b", "aB", "ab", "z", "\u00e4", "\U0001f600"]
    for name in reversed(names):
        registry.arrivals.add_failed(new_arrival(run.id, task=name), "no rows")

    assert [task.name for task in registry.totals.tasks()] == sorted(names)


def test_a_pattern_means_the_same_in_every_database(registry: Registry, run: RunRecord) -> None:
    names = ["ab", "aB", "a%", "a_", "a\\", "a[b]", "a"]
    for name in names:
        registry.arrivals.add_failed(new_arrival(run.id, task=name), "no rows")

    def found(pattern: str) -> set[str]:
        like = Comparison("name", "like", (Span(pattern, pattern),))
        return {task.name for task in registry.totals.tasks(where=like)}

    for pattern in ("*", "a?", "ab", "a%", "a_", "a\\", "a[b]", "?[*]", "A*"):
        rule = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        assert found(pattern) == {name for name in names if re.fullmatch(rule, name)}, pattern


def test_a_name_is_data_and_never_sql(registry: Registry, run: RunRecord) -> None:
    name = "sst2'); DROP TABLE arrivals; -- %s :x ?"

    record = registry.arrivals.add(new_arrival(run.id, task=name, provider=name), new_diff(), [])

    assert registry.arrivals.list(task=name, provider=name) == (record,)
    assert [task.name for task in registry.totals.tasks()] == [name]


def test_scores_are_added_later_and_never_replaced(registry: Registry, run: RunRecord) -> None:
    arrival = registry.arrivals.add(new_arrival(run.id), new_diff(), [new_score()])
    registry.arrivals.add_scores(arrival.id, [new_score(after_sequence=1, value=0.5)])

    with pytest.raises(RegistryError, match="never replaced"):
        registry.arrivals.add_scores(
            arrival.id, [new_score(after_sequence=2), new_score(after_sequence=1)]
        )

    assert [(s.after_sequence, s.value) for s in registry.scores.list()] == [(0, 0.875), (1, 0.5)]


def test_one_score_given_twice_is_refused(registry: Registry, run: RunRecord) -> None:
    with pytest.raises(RegistryError, match="never replaced"):
        registry.arrivals.add(new_arrival(run.id), new_diff(), [new_score(), new_score()])
    assert registry.arrivals.list() == ()


def test_a_score_that_is_not_finite_is_refused(registry: Registry, run: RunRecord) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(RegistryError, match="finite number"):
            registry.arrivals.add(new_arrival(run.id), new_diff(), [new_score(value=value)])

    assert registry.arrivals.list() == ()


def test_a_failed_arrival_has_no_scores(registry: Registry, run: RunRecord) -> None:
    failed = registry.arrivals.add_failed(new_arrival(run.id), "the loss is NaN")

    with pytest.raises(RegistryError, match="left no artifact"):
        registry.arrivals.add_scores(failed.id, [new_score()])
    with pytest.raises(NotInRegistryError, match="no arrival 99"):
        registry.arrivals.add_scores(99, [new_score()])


def fill(registry: Registry, run: RunRecord) -> None:
    """Add arrivals of two runs out of order; one failed."""
    second = registry.runs.start(new_run(scenario_name="sst"))
    for run_id, seed, sequence, method, task in [
        (second.id, 1, 0, "diff_pruning", "sst2"),
        (run.id, 2, 0, "diff_pruning", "sst2"),
        (run.id, 1, 1, "lora", "rte"),
        (run.id, 1, 1, "diff_pruning", "rte"),
        (run.id, 1, 0, "diff_pruning", "sst2"),
    ]:
        arrival = new_arrival(
            run_id,
            seed=seed,
            sequence=sequence,
            method=method,
            task=task,
            provider="newswire" if task == "rte" else "reviews_inc",
        )
        name = f"{run_id} {seed} {sequence} {method}"
        later = new_score(after_sequence=sequence + 1)
        scores = [later, new_score(after_sequence=sequence, metric="f1")]
        scores.append(new_score(after_sequence=sequence))
        registry.arrivals.add(arrival, new_diff(name), scores)
    registry.arrivals.add_failed(new_arrival(run.id, task="cola", sequence=2), "no rows")


ORDER = [
    ("glue-1", 1, 0, "diff_pruning"),
    ("glue-1", 1, 1, "diff_pruning"),
    ("glue-1", 1, 1, "lora"),
    ("glue-1", 1, 2, "diff_pruning"),
    ("glue-1", 2, 0, "diff_pruning"),
    ("sst-1", 1, 0, "diff_pruning"),
]


FILTERS: list[tuple[dict[str, Any], Sequence[int]]] = [
    ({}, range(6)),
    ({"limit": 2}, [0, 1]),
    ({"limit": 0}, []),
    ({"run": "sst-1"}, [5]),
    ({"run": "latest"}, [5]),
    ({"run": 1, "limit": 3}, [0, 1, 2]),
    ({"task": "sst2"}, [0, 4, 5]),
    ({"provider": "newswire"}, [1, 2]),
    ({"method": "lora"}, [2]),
    ({"status": "failed"}, [3]),
    ({"status": "finished", "limit": 4}, [0, 1, 2, 4]),
    ({"run": "glue-1", "task": "sst2", "provider": "reviews_inc"}, [0, 4]),
    ({"task": "unheard of"}, []),
    ({"provider": "unheard of"}, []),
]


def test_arrivals_are_filtered_and_listed_in_order(registry: Registry, run: RunRecord) -> None:
    fill(registry, run)

    for filters, places in FILTERS:
        found = [(r.run, r.seed, r.sequence, r.method) for r in registry.arrivals.list(**filters)]
        assert found == [ORDER[place] for place in places], filters


def test_arrivals_are_narrowed_to_a_seed_or_to_those_that_share_an_artifact(
    registry: Registry, run: RunRecord
) -> None:
    fill(registry, run)
    everything = registry.arrivals.list()
    shared = registry.arrivals.add(
        new_arrival(run.id, version=7), new_diff("1 2 0 diff_pruning"), []
    )

    assert [a.seed for a in registry.arrivals.list(run=run.id, seed=2)] == [2]
    assert [a.id for a in registry.arrivals.list(digest=shared.digest)] == [
        shared.id,
        everything[4].id,
    ]
    assert registry.arrivals.list(digest=digest_of("never stored")) == ()


def test_what_a_run_comes_to_is_what_its_arrivals_add_up_to(
    registry: Registry, run: RunRecord
) -> None:
    fill(registry, run)
    shared = new_diff("1 2 0 diff_pruning")
    registry.arrivals.add(new_arrival(run.id, version=7, examples_fingerprint="other"), shared, [])
    registry.arrivals.add_failed(
        new_arrival(run.id, method="never_done", n_train_examples=5), "the loss is NaN"
    )
    other = registry.runs.start(new_run()).id
    registry.arrivals.add(new_arrival(other, method="bitfit"), shared, [])
    registry.runs.finish(run.id, "finished")
    arrivals = registry.arrivals.list(run=run.id)
    registry.removal.remove([registry.arrivals.add(
        new_arrival(run.id, version=8, n_train_examples=6), new_diff("gone"), []
    ).id])  # fmt: skip
    diffs = {diff.digest: diff for diff in registry.artifacts.list()}

    assert [
        dataclasses.astuple(used) for used in registry.arrivals.examples_used(run.name)
    ] == list(
        dict.fromkeys(
            (
                a.task,
                a.provider,
                a.source,
                a.source_detail,
                a.n_train_examples,
                a.examples_fingerprint,
            )
            for a in arrivals
        )
    )
    for seed in (1, 2):
        of_seed = [a for a in arrivals if a.seed == seed and a.digest]
        own = {s.method: s.n_files for s in registry.totals.by_method(run.name, seed=seed)}
        for method in {a.method for a in of_seed}:
            assert own[method] == sum(a.method == method for a in of_seed)
    storage = registry.totals.by_method(run.name)
    assert {own.method for own in storage} == {a.method for a in arrivals}
    for own in storage:
        files = [diffs[a.digest] for a in arrivals if a.method == own.method and a.digest]
        assert own.n_files == len(files)
        assert own.file_bytes == sum(diff.file_bytes for diff in files)
        assert own.full_checkpoint_bytes == sum(diff.full_checkpoint_bytes for diff in files)
        mean = sum(diff.density for diff in files) / len(files) if files else None
        assert own.mean_density == (None if mean is None else pytest.approx(mean, rel=1e-12))
    assert MethodStorage("never_done", 0, None, 0, 0) in storage


def test_totals_are_told_of_one_thing_by_its_name(registry: Registry, run: RunRecord) -> None:
    fill(registry, run)
    groupings: tuple[Grouping, ...] = ("run", "task", "provider", "method")

    for by in groupings:
        everything = registry.totals.list(by)
        for name in {total.name for total in everything}:
            own = tuple(total for total in everything if total.name == name)
            assert registry.totals.list(by, name=name) == own
        assert registry.totals.list(by, name="nothing") == ()


def test_scores_are_narrowed_to_those_an_arrival_is_judged_by(
    registry: Registry, run: RunRecord
) -> None:
    fill(registry, run)
    both = [new_score(metric="f1", is_primary=False), new_score()]
    registry.arrivals.add(new_arrival(run.id, version=7), new_diff("both"), both)

    primary = tuple(score for score in registry.scores.list() if score.is_primary)
    assert registry.scores.list(primary=True) == primary != registry.scores.list()


def test_artifacts_and_scores_are_found_for_many_at_once(
    registry: Registry, run: RunRecord
) -> None:
    fill(registry, run)
    arrivals = registry.arrivals.list(task="rte")

    digests = {a.digest for a in arrivals if a.digest}
    assert {
        d.digest for d in registry.artifacts.with_digests({*digests, digest_of("nothing")})
    } == digests
    found = sorted(registry.scores.of_arrivals([a.id for a in arrivals] + [99]), key=lambda s: s.id)
    assert found == sorted(registry.scores.list(task="rte"), key=lambda s: s.id) != []
    assert (registry.artifacts.with_digests([]), registry.scores.of_arrivals([])) == ((), ())


def test_scores_are_listed_in_the_order_of_their_arrivals(
    registry: Registry, run: RunRecord
) -> None:
    fill(registry, run)

    found = [(s.run, s.seed, s.method, s.after_sequence, s.metric) for s in registry.scores.list()]

    assert found == [
        (name, seed, method, sequence + later, metric)
        for name, seed, sequence, method in ORDER
        if sequence < 2
        for later, metric in ((0, "accuracy"), (0, "f1"), (1, "accuracy"))
    ]
    assert registry.scores.list(limit=4) == registry.scores.list()[:4]
    assert {s.task for s in registry.scores.list(task="rte")} == {"rte"}
    assert {s.run for s in registry.scores.list(run="sst-1")} == {"sst-1"}
    assert len(registry.scores.list(run="glue-1", task="rte")) == 6


def test_artifacts_are_listed_of_one_run_or_of_all(registry: Registry, run: RunRecord) -> None:
    fill(registry, run)
    registry.arrivals.add(
        new_arrival(run.id, version=7), new_diff("2 1 0 diff_pruning"), []
    )  # shared with the other run

    digests = [d.digest for d in registry.artifacts.list()]
    assert len(digests) == len(set(digests)) == 5
    assert [d.digest for d in registry.artifacts.list(run="sst-1")] == digests[:1]
    assert [d.digest for d in registry.artifacts.list(run="glue-1", limit=2)] == digests[:2]


@pytest.mark.usefixtures("run")
def test_a_listing_of_an_unknown_run_is_refused(registry: Registry) -> None:
    for listing in (registry.arrivals.list, registry.scores.list, registry.artifacts.list):
        with pytest.raises(NotInRegistryError, match="Did you mean `glue-1`"):
            listing(run="glue-7")


def test_summaries_count_a_shared_file_once_where_it_is_stored(
    registry: Registry, run: RunRecord
) -> None:
    baseline = new_diff("baseline", kind="checkpoint", file_bytes=1000, values_bytes=914)
    adapter = new_diff("adapter", kind="adapter", file_bytes=300, values_bytes=214)
    for arrival, diff in [
        (new_arrival(run.id), new_diff()),
        (new_arrival(run.id, version=2), new_diff()),
        (new_arrival(run.id, method="full_finetuning"), baseline),
        (new_arrival(run.id, method="lora"), adapter),
        (new_arrival(run.id, task="rte", provider="newswire"), new_diff("rte")),
        (new_arrival(run.id, task="rte", provider="reviews_inc"), new_diff()),
    ]:
        registry.arrivals.add(arrival, diff, [])
    registry.arrivals.add_failed(new_arrival(run.id, task="rte"), "no rows")
    registry.arrivals.add_failed(new_arrival(run.id, task="cola"), "no rows")
    registry.arrivals.add_failed(new_arrival(run.id, task="cola"), "too big", rule="size")

    tasks = [dataclasses.astuple(task) for task in registry.totals.tasks()]
    providers = [dataclasses.astuple(provider) for provider in registry.totals.providers()]

    assert tasks == [
        ("cola", 0, 1, 1, 0, 0, 0, 0),
        ("rte", 2, 1, 0, 200, 0, 0, 200),
        ("sst2", 4, 0, 0, 200, 1000, 300, 1400),
    ]
    assert providers == [
        ("newswire", 1, 0, 0, 100, 0, 0, 100),
        ("reviews_inc", 5, 2, 1, 300, 1000, 300, 1400),
    ]


def test_a_diff_answers_to_the_beginning_of_its_digest(registry: Registry, run: RunRecord) -> None:
    diffs = [new_diff(digest=digest) for digest in ("ab" + "0" * 62, "ab" + "f" * 62, "ac" * 32)]
    for version, diff in enumerate(diffs):
        registry.arrivals.add(new_arrival(run.id, version=version), diff, [])

    assert registry.artifacts.get("abf").digest == diffs[1].digest
    assert registry.artifacts.get("AC").digest == diffs[2].digest
    with pytest.raises(NotInRegistryError, match=r"begin with 'ab': ab00.*, abff"):
        registry.artifacts.get("ab")
    with pytest.raises(NotInRegistryError, match="no artifact whose digest begins with 'ad'"):
        registry.artifacts.get("ad")
    for wrong in ("", "xyz", "%", "a" * 65):
        with pytest.raises(NotInRegistryError, match="does not begin a digest"):
            registry.artifacts.get(wrong)


def test_everything_that_happens_is_logged_in_order(
    registry: Registry, run: RunRecord, clock: Clock
) -> None:
    clock.now = 1001.0
    arrival = registry.arrivals.add(new_arrival(run.id), new_diff(), [])
    registry.arrivals.add_scores(arrival.id, [new_score()])
    failed = registry.arrivals.add_failed(new_arrival(run.id, task="rte"), "no rows")
    registry.runs.finish(run.id, "interrupted", "stopped")
    registry.runs.resume(run.id)
    registry.events.add("note", "glue-1", "looks fine")
    event = registry.events.list()[-1]

    assert [(e.kind, e.subject) for e in registry.events.list()] == [
        ("base-added", FINGERPRINT),
        ("run-started", "glue-1"),
        ("arrival-finished", str(arrival.id)),
        ("scores-added", str(arrival.id)),
        ("arrival-failed", str(failed.id)),
        ("run-interrupted", "glue-1"),
        ("run-resumed", "glue-1"),
        ("note", "glue-1"),
    ]
    assert (event.at, event.message, event.version) == (1001.0, "looks fine", __version__)
    assert [e.kind for e in registry.events.list(limit=2)] == ["run-resumed", "note"]


def test_threads_may_write_at_once(registry: Registry, run: RunRecord) -> None:
    failures: list[BaseException] = []

    def write(thread: int) -> None:
        try:
            for version in range(10):
                arrival = new_arrival(run.id, task=f"t{thread}", version=version)
                registry.arrivals.add(arrival, new_diff(f"{thread} {version}"), [new_score()])
                registry.arrivals.list(run=run.name, limit=3)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(registry.arrivals.list()) == len(registry.scores.list()) == 30


def test_an_empty_registry_lists_nothing_and_answers_with_errors(registry: Registry) -> None:
    asks: tuple[Callable[[], object], ...] = (
        lambda: registry.runs.get("latest"),
        lambda: registry.runs.get(1),
        lambda: registry.arrivals.get(1),
        lambda: registry.artifacts.get("ab"),
        lambda: registry.bases.get(FINGERPRINT),
    )

    assert (
        registry.bases.list()
        == registry.runs.list()
        == registry.arrivals.list()
        == registry.artifacts.list()
        == ()
    )
    assert (
        registry.scores.list()
        == registry.totals.tasks()
        == registry.totals.providers()
        == registry.events.list()
        == ()
    )
    for ask in asks:
        with pytest.raises(NotInRegistryError, match="registry holds no"):
            ask()


def test_a_registry_tells_what_it_takes_and_that_it_is_whole(
    registry: Registry, run: RunRecord
) -> None:
    fill(registry, run)

    assert registry.integrity.find_damage() == ()
    assert (registry.disk_bytes() > 0) == ("/" in registry.url.removeprefix("sqlite://"))
    assert registry.arrivals.task_names() == ("sst2", "rte", "cola")
    stored = registry.integrity.artifacts(limit=9)
    assert [one.digest for one in stored] == [diff.digest for diff in registry.artifacts.list()]
    assert [
        (sum(one.tensor_counts), one.base_fingerprint, one.is_counted, one.is_used)
        for one in stored
    ] == [(7, FINGERPRINT, True, True)] * 5
    assert registry.integrity.artifacts(after=stored[1].id, limit=2) == stored[2:4]
    assert registry.artifacts.count() == 5


def test_changes_in_one_transaction_are_kept_together_or_not_at_all(
    registry: Registry, run: RunRecord
) -> None:
    def work() -> ArrivalRecord:
        arrival = registry.arrivals.add(new_arrival(run.id), new_diff(), [new_score()])
        registry.runs.heartbeat(run.id)
        return arrival

    def broken() -> None:
        registry.arrivals.add(new_arrival(run.id, version=2), new_diff(), [])
        registry.runs.heartbeat(99)

    arrival = registry.transaction(work)
    before = (registry.events.list(), registry.totals.list("all"))
    with pytest.raises(NotInRegistryError):
        registry.transaction(broken)

    assert registry.arrivals.list() == (arrival,)
    assert (registry.events.list(), registry.totals.list("all")) == before


def test_the_primary_stream_is_the_first_seed_by_the_primary_method(
    registry: Registry, run: RunRecord
) -> None:
    with pytest.raises(RegistryError, match="nothing to show"):
        registry.primary_stream(run.name)
    second = registry.arrivals.add(new_arrival(run.id, version=2, sequence=1), new_diff("b"), [])
    first = registry.arrivals.add(new_arrival(run.id), new_diff(), [])
    for other in ({"seed": 2}, {"method": "lora"}):
        registry.arrivals.add(new_arrival(run.id, **other), new_diff("c"), [])

    stream = registry.primary_stream(run.name)

    assert (stream.seed, stream.method, stream.arrivals) == (1, "diff_pruning", (first, second))
    assert stream.diffs.keys() == {first.digest, second.digest}
    assert (stream.run, stream.base) == (run, registry.bases.get(FINGERPRINT))


def test_arrivals_can_be_walked_through_a_few_at_a_time(
    registry: Registry, run: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = registry.runs.start(new_run())
    for number in range(7):
        run_id = other.id if number == 3 else run.id
        for method in ("lora", "diff_pruning"):
            changes = {"sequence": -(-number // 2), "version": number + 1, "method": method}
            arrival = new_arrival(run_id, **changes)
            registry.arrivals.add(arrival, new_diff(str((number, method))), [])
    registry.arrivals.add_failed(new_arrival(run.id, seed=2), "broke down")
    listed = registry.arrivals.list()

    for page in (1, 2, 5, 100):
        monkeypatch.setattr("streamlab.registry.arrivals._PAGE", page)
        assert tuple(registry.arrivals.walk()) == listed
        assert [*registry.arrivals.walk(run.name, method="lora", status="finished")] == [
            one for one in listed if (one.run, one.method) == (run.name, "lora")
        ]
    assert len(listed) == 15


def test_the_places_after_which_arrivals_were_scored_are_told_by_run(
    registry: Registry, run: RunRecord
) -> None:
    first = registry.arrivals.add(new_arrival(run.id), new_diff(), [new_score()])
    registry.arrivals.add_scores(
        first.id, [new_score(after_sequence=3), new_score(after_sequence=3, metric="f1")]
    )
    other = registry.runs.start(new_run())

    assert registry.scores.places(run.name) == {(first.id, 0), (first.id, 3)}
    assert registry.scores.places(other.name) == set()
