"""A stream with hostile providers: each is stopped by its rule, and nobody else notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stream_samples import Lab, Ran, arrivals_in, carry_out, only, reading, runs_in, stored, task

from streamlab.home.folder import Home
from streamlab.stream.engine import run

STOPPED_BY = {
    "oversized": "size",
    "wrong_base": "base",
    "nan": "values",
    "truncated": "container",
    "tampered": "signature",
    "duplicate": "duplicate",
    "replayed": "signature",
}


def hostile(lab: Lab, behaviour: object, **settings: Any) -> Path:
    """Write a scenario in which `press` is honest first, and another provider is not."""
    tree = lab.tree(name="hostile", **settings)
    tree["tasks"] = {"mood": task("mood"), "degree": task("degree")}
    tree["providers"] = {
        "press": {"tasks": ["mood"], "key": "simulated"},
        "stranger": {"tasks": ["degree"], "key": "simulated", "behaviour": behaviour},
    }
    return lab.write(tree, file="hostile.yaml")


@pytest.mark.parametrize("behaviour", [name for name in STOPPED_BY if name != "replayed"])
def test_a_hostile_submission_is_stopped_by_its_rule_and_by_no_other(
    lab: Lab, plain: Ran, tmp_path: Path, behaviour: str
) -> None:
    path = hostile(lab, behaviour, admission={"signatures": "required"})
    ran = carry_out(path, tmp_path / "home")

    honest, stopped = ran.outcomes
    assert (honest.record.status, honest.record.behaviour) == ("finished", None)
    assert (stopped.record.status, stopped.record.behaviour) == ("quarantined", behaviour)
    assert stopped.record.rule == STOPPED_BY[behaviour]
    # Nothing of it is with what serves, and the other's file is what it would have been.
    assert len(stored(ran.home)) == 1
    assert stored(ran.home).items() <= stored(plain.home).items()
    assert [record.status for record in runs_in(ran.home)] == ["finished"]


def test_an_earlier_submission_handed_in_again_fails_by_its_signature(
    lab: Lab, tmp_path: Path
) -> None:
    tree = lab.tree(name="replayed", admission={"signatures": "required"}, **only("mood"))
    tree["providers"]["press"] |= {"key": "simulated", "n_arrivals": 2, "behaviour": "replayed"}

    first, second = carry_out(lab.write(tree, file="replayed.yaml"), tmp_path / "home").outcomes

    # At first there was nothing to hand in again.
    assert (first.record.status, first.record.behaviour) == ("finished", None)
    assert (second.record.rule, second.record.behaviour) == ("signature", "replayed")


@pytest.mark.parametrize(("share", "n_kept"), [(256_000_000, 1), (100, 0)])
def test_a_score_that_is_not_there_is_found_out_by_the_probe_and_kept_within_a_share(
    lab: Lab, tmp_path: Path, share: int, n_kept: int
) -> None:
    admission = {"probe_tolerance": 0.3, "quarantine_bytes": share}
    tree = lab.tree(name="flipped", admission=admission, **only("degree"))
    tree["tasks"]["degree"]["training"] = {"min_steps": 240, "learning_rate": 1e-3, "dropout": 0}
    settings = {"label_flip": 1.0, "flipped_labels": 1.0}
    tree["providers"]["press"]["behaviour"] = settings

    (stopped,) = carry_out(lab.write(tree, file="flipped.yaml"), tmp_path / "home").outcomes

    assert (stopped.record.rule, stopped.record.behaviour) == ("probe", "label_flip")
    kept = [p for p in Home(tmp_path / "home").quarantine.rglob("*") if p.is_file()]
    assert len(kept) == n_kept
    assert stored(Home(tmp_path / "home")) == {}


def test_an_honest_submission_passes_the_probe_and_leaves_quarantine(
    lab: Lab, plain: Ran, tmp_path: Path
) -> None:
    path = lab.scenario(name="probed", admission={"probe_tolerance": 1.0}, evaluation="full")

    ran = carry_out(path, tmp_path / "home")

    assert stored(ran.home) == stored(plain.home)
    assert [p for p in ran.home.quarantine.rglob("*") if p.is_file()] == []
    assert all(row.declared_score is not None for row in arrivals_in(ran.home))


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_provider_that_crashes_every_time_fails_alone(
    lab: Lab, tmp_path: Path, executor: str
) -> None:
    execution = {"executor": executor, "sandbox": "none", "attempts": 2, "timeout_seconds": 200}
    ran = carry_out(hostile(lab, "crash", execution=execution), tmp_path / "home")

    rows = arrivals_in(ran.home)
    assert [(row.task, row.status, row.attempt) for row in rows] == [
        ("mood", "finished", 1),
        ("degree", "failed", 1),
        ("degree", "failed", 2),
    ]
    assert {row.behaviour for row in rows} == {None, "crash"}
    if executor == "processes":
        assert "`stranger` ended with exit code 70" in str(rows[1].reason)


def test_a_slow_provider_takes_longer_by_the_virtual_clock_alone(lab: Lab, tmp_path: Path) -> None:
    settings = {"slow": 1.0, "slowdown": 7.0}
    path = hostile(lab, settings, queue={"service": "fixed", "seconds": 10})

    carry_out(path, tmp_path / "home")

    rows = arrivals_in(Home(tmp_path / "home"))
    times = [(row.arrived_us, row.began_us, row.ended_us) for row in rows]
    assert times == [(0, 0, 10_000_000), (0, 10_000_000, 80_000_000)]


def test_slots_serve_side_by_side_in_virtual_time(lab: Lab, plain: Ran, tmp_path: Path) -> None:
    queue = {"slots": 2, "service": "fixed", "seconds": 10}

    ran = carry_out(lab.scenario(name="slots", evaluation="full", queue=queue), tmp_path / "home")

    rows = arrivals_in(ran.home)
    assert [row.began_us for row in rows] == [0, 0, 10_000_000]
    assert stored(ran.home) == stored(plain.home)


def test_a_device_that_fills_up_is_logged_and_goes_on_after_a_kill(
    lab: Lab, plain: Ran, tmp_path: Path
) -> None:
    sizes = [len(data) for data in stored(plain.home).values()]
    uses = {"rate_per_day": 1e6}
    storage = {"budget": max(sizes) + 10, "policy": "evict_lru", "uses": uses}
    path = lab.scenario(name="device", storage=storage)
    outcomes = run(path, tmp_path / "home")
    next(outcomes)
    outcomes.close()

    list(run(path, tmp_path / "home", resume=True))

    home = Home(tmp_path / "home")
    assert stored(home) == stored(plain.home)  # the store keeps what the device let go
    with reading(home) as registry:
        log = registry.placements.list("device-1")
        requests = registry.placements.requests("device-1")
    assert [line.action for line in log] == ["stored", "evicted", "stored", "evicted", "stored"]
    assert max(line.device_bytes for line in log) <= storage["budget"]
    assert [one.policy for one in requests] == ["reject", "evict_lru", "evict_worst"]
    assert len({one.n_requests for one in requests}) == 1
    assert requests[0].n_requests > 0
