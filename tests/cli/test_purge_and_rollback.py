"""`purge` and `rollback` on the fixed registry: what goes, what stays, and what is said."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import pytest
from click.testing import CliRunner, Result

from streamlab.cli import cli
from streamlab.errors import NotInRegistryError, UsageError
from streamlab.home.curves import curve_path, writing_curve
from streamlab.home.folder import Home
from streamlab.home.purge import carry_out, plan
from streamlab.home.store import FolderStore
from streamlab.registry.records import NewArrival, NewDiff
from streamlab.registry.references import TaskFilter, find_artifact
from streamlab.registry.registry import Registry

RUN = "glue_stream-1"


def opened(home: Home) -> Registry:
    return Registry.open(home.registry_url, clock=lambda: 2e9)


def again(registry: Registry, number: int, **changes: object) -> int:
    """Record an arrival once more, with changes and the same artifact."""
    old = registry.arrivals.get(number)
    diff = registry.artifacts.get(old.digest or "")
    new = NewArrival(**{f.name: getattr(old, f.name) for f in fields(NewArrival)})
    known = NewDiff(**{f.name: getattr(diff, f.name) for f in fields(NewDiff)})
    return registry.arrivals.add(replace(new, **changes), known, []).id  # type: ignore[arg-type]


def files_in(home: Home) -> dict[str, bytes]:
    """Return the bytes of every file but the registry's."""
    paths = (path for path in home.path.rglob("*") if path.is_file())
    return {
        str(path.relative_to(home.path)): path.read_bytes()
        for path in paths
        if not path.name.startswith("registry.db")
    }


@pytest.fixture
def full(home: Home) -> Home:
    """The fixed registry with files, curves and quarantined bytes, and one artifact of two."""
    store = FolderStore(home.store)
    with opened(home) as registry:
        for arrival in registry.arrivals.list(status="finished"):
            name = f"{arrival.run} {arrival.seed} {arrival.task} {arrival.method}"
            assert store.put(name.encode()) == arrival.digest
            path = curve_path(
                home.curves, run=arrival.run, seed=arrival.seed, provider=arrival.provider,
                task=arrival.task, version=arrival.version, method=arrival.method,
            )  # fmt: skip
            with writing_curve(path) as curve:
                curve.append({"step": 1})
        again(registry, 5, provider="copycat", task="copied")
    for provider in ("newswire", "copycat"):
        FolderStore(home.quarantine_of(provider)).put(f"evil of {provider}".encode())
    return home


def rows(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, object]] = json.loads(result.stdout)
    return found


def test_a_dry_run_lists_all_and_changes_nothing(full: Home, call: Callable[..., Result]) -> None:
    before = files_in(full)

    found = rows(call("purge", "--provider", "newswire", "--dry-run", "--format", "json"))

    kinds = [row["what"] for row in found]
    assert kinds == ["arrival"] * 3 + ["shared", "artifact"] + ["curve"] * 2 + ["quarantined"]
    assert [row["name"] for row in found[:3]] == ["4", "5", "6"]
    assert found[3]["note"] == "kept, as it also came from copycat"
    assert files_in(full) == before
    assert len(rows(call("ls", "arrivals", "--format", "json"))) == 8


def test_all_that_came_from_a_provider_goes_and_nothing_else(
    full: Home, call: Callable[..., Result]
) -> None:
    call("rm", "6")  # goes as well, though it was left out before
    before = files_in(full)
    listed = rows(call("purge", "--provider", "newswire", "--dry-run", "--format", "json"))

    result = call("purge", "--provider", "newswire", "--yes", "--format", "json")

    assert rows(result) == listed
    assert result.stderr == (
        "Deleted for provider `newswire`: 3 arrivals, 1 artifact, 2 curves, 1 quarantined file. "
        "Files shared with other arrivals stay: 1.\n"
        "All 5 other artifacts are unchanged.\n"
    )
    gone = before.keys() - files_in(full).keys()
    going = [row["file"] for row in listed if row["what"] in ("artifact", "curve", "quarantined")]
    assert {str(full.path / path) for path in gone} == set(going)
    assert files_in(full).items() <= before.items()
    assert not full.quarantine_of("newswire").exists()
    with opened(full) as registry:
        every = (*registry.arrivals.list(), *registry.arrivals.list(removed=True))
        assert {arrival.provider for arrival in every} == {"reviews_inc", "copycat"}
        assert "newswire" not in {summary.name for summary in registry.totals.providers()}
        assert {score.provider for score in registry.scores.list()} == {"reviews_inc"}
        revoked = [e for e in registry.events.list() if e.kind == "arrival-revoked"]
        assert [(e.subject, e.message) for e in revoked] == [
            (number, "from `newswire`") for number in ("4", "5", "6")
        ]
        assert registry.integrity.find_damage() == ()


@pytest.mark.usefixtures("full")
def test_purging_twice_finds_nothing_more(call: Callable[..., Result]) -> None:
    call("purge", "--provider", "newswire", "--yes")

    result = call("purge", "--provider", "newswire", "--yes")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "0 arrivals, 0 artifacts, 0 curves, 0 quarantined files." in result.stderr


def test_a_curve_whose_row_went_before_goes_too(full: Home, call: Callable[..., Result]) -> None:
    call("rm", "5", "6")
    call("gc")
    n_curves = len(list(full.curves.rglob("*newswire*")))

    found = rows(call("purge", "--provider", "newswire", "--yes", "--format", "json"))

    assert n_curves == [row["what"] for row in found].count("curve") == 2
    assert list(full.curves.rglob("*newswire*")) == []


def test_an_artifact_that_changed_meanwhile_is_a_finding(
    full: Home, call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted slip: purging deletes a file too many."""
    with opened(full) as registry:
        digest = registry.arrivals.get(1).digest or ""
    path, delete = FolderStore(full.store).path(digest), FolderStore.delete

    def slip(store: FolderStore, which: str) -> None:
        delete(store, which)
        path.write_bytes(b"altered")

    monkeypatch.setattr(FolderStore, "delete", slip)
    result = call("purge", "--provider", "newswire", "--yes")

    assert result.exit_code == 1
    assert f"Error: 1 of 5 other artifacts changed meanwhile: {digest[:12]}." in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["newswire"], 2, "Give either `--dry-run` to list, or `--yes` to delete."),
        (["newswire", "--yes", "--dry-run"], 2, "Give either"),
        (["newswir", "--yes"], 2, "no provider 'newswir'. Did you mean `newswire`?"),
    ],
)
def test_a_call_that_is_not_whole_removes_nothing(
    arguments: list[str], code: int, message: str, full: Home, call: Callable[..., Result]
) -> None:
    before = files_in(full)

    result = call("purge", "--provider", *arguments)

    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert files_in(full) == before


@pytest.mark.parametrize("thing", ["arrival:5", f"run:{RUN}", "diff"])
def test_what_a_tag_keeps_is_not_removed(
    thing: str, full: Home, call: Callable[..., Result]
) -> None:
    with opened(full) as registry:
        on = f"diff:{registry.arrivals.get(6).digest}" if thing == "diff" else thing
    call("tag", "precious", on)
    before = files_in(full)

    result = call("purge", "--provider", "newswire", "--yes")

    assert result.exit_code == 1
    assert "is kept by 1 tag: `" in result.stderr
    assert ":precious`. Nothing was removed; take each off first" in result.stderr
    assert files_in(full) == before
    assert len(rows(call("ls", "arrivals", "--format", "json"))) == 8


def test_nothing_is_removed_while_a_run_is_worked_on(
    full: Home, call: Callable[..., Result]
) -> None:
    with Registry.open(full.registry_url, clock=time.time) as registry:
        run = registry.runs.get("tiny-1")
        registry.runs.resume(run.id)
    before = files_in(full)

    result = call("purge", "--provider", "newswire", "--yes")

    assert result.exit_code == 1
    assert "The run `tiny-1` is being worked on" in result.stderr
    assert files_in(full) == before


def test_what_came_since_the_plan_stops_the_purge(full: Home) -> None:
    store = FolderStore(full.store)
    with opened(full) as registry:
        planned = plan(registry, store, full, provider="newswire")
        again(registry, 5, task="more")

        with pytest.raises(Exception, match=r"since they were listed; nothing was removed"):
            carry_out(registry, store, full, planned)
        assert len(registry.arrivals.list(provider="newswire")) == 4


@pytest.fixture
def versions(home: Home) -> Iterator[Registry]:
    """Version 2 of sst2, recorded before version 3, recorded before version 1 by another seed."""
    with opened(home) as registry:
        for version in (3, 2):
            again(registry, 1, version=version)
        again(registry, 1, version=1, seed=9)
        yield registry


def test_a_tasks_name_means_its_highest_version(versions: Registry) -> None:
    def version(word: str, **narrowing: object) -> tuple[int, int]:
        found = find_artifact(versions, word, TaskFilter(run=RUN, **narrowing)).arrival  # type: ignore[arg-type]
        assert found is not None
        return found.version, found.seed

    assert version("sst2") == (3, 1)
    assert version("task:sst2@2") == (2, 1)
    assert version("sst2@1") == (1, 9)
    assert version("sst2@1", seed=2) == (1, 2)
    for word, message in (
        ("sst2@4", "`sst2` has no finished arrival of version 4 in the run"),
        ("sst2@x", "no task, digest or tag 'sst2@x'"),
    ):
        with pytest.raises(NotInRegistryError, match=message):
            version(word)
    with pytest.raises(UsageError, match="one thing already"):
        version("arrival:1")


def test_a_task_whose_very_name_has_a_version_is_itself(home: Home) -> None:
    with opened(home) as registry:
        number = again(registry, 1, task="odd@2")

        found = find_artifact(registry, "odd@2", TaskFilter()).arrival

    assert found is not None
    assert found.id == number


def test_a_version_is_taken_back_into_use_and_the_later_ones_restored(
    versions: Registry, call: Callable[..., Result]
) -> None:
    result = call("rollback", "sst2@2", "--run", RUN, "--format", "json")

    assert [row["id"] for row in rows(result)] == [8]
    assert result.stderr == (
        f"`sst2` in `{RUN}` is at version 2 again. Undo with: streamlab restore 8\n"
    )
    assert find_artifact(versions, "sst2", TaskFilter(run=RUN)).arrival == versions.arrivals.get(9)
    assert call("restore", "8").exit_code == 0
    assert find_artifact(versions, "sst2", TaskFilter(run=RUN)).arrival == versions.arrivals.get(8)


def test_without_a_run_the_latest_that_has_the_task_is_meant(call: Callable[..., Result]) -> None:
    tiny = call("rollback", "sst2@1")
    glue = call("rollback", "mrpc@1")

    assert tiny.stderr == "`sst2@1` is the highest version in `tiny-1` already.\n"
    assert glue.stderr == f"`mrpc@1` is the highest version in `{RUN}` already.\n"
    assert (tiny.exit_code, glue.exit_code, tiny.stdout) == (0, 0, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sst2"], "Say which version of `sst2` to use: `sst2@1`."),
        (["sst2@7"], "The run `tiny-1` has no version 7 of `sst2`. There is version 1."),
        (["mrpc@1", "--run", "tiny-1"], "No arrival of it finished there"),
        (["sst@1"], "no task or tag 'sst'. Did you mean `sst2`?"),
        (["sst2@1", "--run", "none"], "no run 'none'"),
    ],
)
def test_a_version_that_is_not_there_changes_nothing(
    words: list[str], message: str, call: Callable[..., Result]
) -> None:
    result = call("rollback", *words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert call("ls", "arrivals", "--removed").stdout == ""


def test_a_home_without_files_is_purged_of_its_rows(
    home: Home, call: Callable[..., Result]
) -> None:
    shutil.rmtree(home.store)

    result = call("purge", "--provider", "reviews_inc", "--yes")

    assert result.exit_code == 0
    assert "All 0 other artifacts" in result.stderr
    assert call("ls", "runs").stdout.count("-1") == 2  # the runs themselves stay


@pytest.mark.parametrize("after", ["curves", "rows"])
def test_a_purge_that_was_interrupted_is_finished_by_the_next(
    after: str, full: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry.open(full.registry_url, clock=time.time) as registry:
        store = FolderStore(full.store)
        planned = plan(registry, store, full, provider="newswire")
        going = planned.going
        method = {"curves": "revoke", "rows": "release"}[after]

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(registry.removal, method, stop)
        with pytest.raises(KeyboardInterrupt):
            carry_out(registry, store, full, planned)
    assert going
    words = ("purge", "--provider", "newswire", "--yes", "--home", str(full.path))

    result = CliRunner().invoke(cli, words)

    assert result.exit_code == 0, result.output
    assert ("goes on with a purge that was interrupted" in result.stderr) == (after == "rows")
    assert not any(digest in store for digest in going)
    again = CliRunner().invoke(cli, words)
    assert "interrupted" not in again.stderr


def test_a_run_is_purged_by_name(full: Home) -> None:
    (name, *others) = _runs_of(full)
    words = ("purge", "--run", name, "--yes", "--home", str(full.path))

    result = CliRunner().invoke(cli, words)

    assert result.exit_code == 0, result.output
    assert _runs_of(full) == others
    assert not (full.curves / name).exists() or not [*(full.curves / name).iterdir()]
    assert CliRunner().invoke(cli, words).exit_code == 2


def _runs_of(home: Home) -> list[str]:
    with Registry.open(home.registry_url, clock=time.time, read_only=True) as registry:
        return [run.name for run in registry.runs.list()]
