"""What nothing needs goes, and nothing else, whatever happened to the home before."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from damage_samples import DAMAGES, NOW, execute, first_diff, opened, path_of, work_on

from streamlab.cli import cli
from streamlab.errors import RegistryError, UsageError
from streamlab.files import atomic_write
from streamlab.home.folder import Home
from streamlab.home.gc import GRACE_SECONDS, QUARANTINE_SECONDS, Plan, collect, plan
from streamlab.home.import_home import staging
from streamlab.home.store import FolderStore
from streamlab.home.verify import verify
from streamlab.registry.records import NewArrival, NewDiff, given_part

GONE_TOO = {"an orphan", "a file left half-written"}  # what a collection mends
REFUSED = {"an arrival without its row"}


def gather(home: Home, *, now: float = NOW, young_too: bool = False) -> Plan:
    """Collect, and return what was planned."""
    store = FolderStore(home.store)
    with opened(home) as registry:
        planned = plan(registry, store, now=now, young_too=young_too)
        assert list(collect(registry, store, planned)) == list(planned.files)
    return planned


def files_of(home: Home) -> set[Path]:
    return {path for path in home.store.rglob("*") if path.is_file()}


def found_in(home: Home) -> list[str]:
    with opened(home) as registry:
        return [f.problem for f in verify(registry, FolderStore(home.store), now=NOW)]


def call(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home.path)])


def sharers(home: Home) -> list[int]:
    """Return the two arrivals that share the first artifact."""
    digest = first_diff(home).digest
    with opened(home) as registry:
        return [arrival.id for arrival in registry.arrivals.list() if arrival.digest == digest]


def test_nothing_goes_from_a_whole_home(home: Home) -> None:
    before = files_of(home)

    planned = gather(home, young_too=True)

    assert (planned.files, planned.arrivals, files_of(home)) == ((), (), before)


@pytest.mark.parametrize("name", DAMAGES)
def test_after_damage_nothing_goes_that_a_row_needs(name: str, home: Home) -> None:
    DAMAGES[name].do(home)
    before, damage = files_of(home), found_in(home)
    kept = {path for path in before if path.is_relative_to(home.store) and _has_row(home, path)}

    if name in REFUSED:
        with pytest.raises(RegistryError, match="is damaged"):
            gather(home, young_too=True)
    else:
        gather(home, young_too=True)

    assert kept <= files_of(home)
    if name in GONE_TOO:
        assert found_in(home) == []
        assert files_of(home) == kept
    else:
        assert files_of(home) == before
        assert found_in(home) == damage


def _has_row(home: Home, path: Path) -> bool:
    with opened(home) as registry:
        return path.parent.name + path.name in registry.artifacts.digests()


def test_a_digest_that_was_edited_does_not_cost_its_file(home: Home) -> None:
    path = path_of(home)
    execute(home, f"UPDATE diffs SET digest = '{'0' * 64}' WHERE id = 1")  # noqa: S608

    planned = gather(home, young_too=True)

    assert (planned.files, planned.n_held) == ((), 1)
    assert path.is_file()


def test_a_shared_file_stays_as_long_as_one_arrival_needs_it(home: Home) -> None:
    path, (first, second) = path_of(home), sharers(home)
    with opened(home) as registry:
        registry.removal.remove([first])
    assert gather(home).files == ()
    assert path.is_file()

    with opened(home) as registry:
        registry.removal.remove([second])
    planned = gather(home)

    assert [(w.where, w.reason) for w in planned.files] == [(str(path), "removed")]
    assert planned.arrivals == (second,)
    assert not path.exists()
    assert found_in(home) == []


def test_a_restored_arrival_has_its_file(home: Home) -> None:
    with opened(home) as registry:
        numbers = [arrival.id for arrival in registry.arrivals.list()]
        registry.removal.remove(numbers)
        registry.removal.restore(numbers)
    before = files_of(home)

    gather(home, young_too=True)

    assert files_of(home) == before
    assert found_in(home) == []


def test_a_missing_file_of_a_removed_arrival_is_survived(home: Home) -> None:
    with opened(home) as registry:
        registry.removal.remove(sharers(home))
    path_of_removed = {path for path in files_of(home) if not _is_listed(home, path)}
    assert len(path_of_removed) == 1
    path_of_removed.pop().unlink()

    planned = gather(home)

    assert [waste.n_bytes for waste in planned.files] == [0]
    assert found_in(home) == []


def _is_listed(home: Home, path: Path) -> bool:
    with opened(home) as registry:
        return path.parent.name + path.name in {diff.digest for diff in registry.artifacts.list()}


def test_a_file_without_a_row_goes_when_it_is_old_enough(home: Home) -> None:
    DAMAGES["an orphan"].do(home)
    written = time.time()

    young = gather(home, now=written + GRACE_SECONDS / 2)
    assert (young.files, young.n_young) == ((), 1)
    old = gather(home, now=written + GRACE_SECONDS + 60)
    assert [waste.reason for waste in old.files] == ["orphan"]
    assert found_in(home) == []


def test_a_young_file_without_a_row_goes_on_demand(home: Home) -> None:
    DAMAGES["an orphan"].do(home)

    assert len(gather(home, now=time.time(), young_too=True).files) == 1


def test_young_files_do_not_go_while_a_run_is_at_work(home: Home) -> None:
    work_on(home)

    with pytest.raises(UsageError, match="leave out `--now`"):
        gather(home, young_too=True)


def test_a_removed_file_that_a_run_has_stored_again_stays(home: Home) -> None:
    store, path = FolderStore(home.store), path_of(home)
    data, numbers = path.read_bytes(), sharers(home)
    with opened(home) as registry:
        registry.removal.remove(numbers)
    # As if removed long ago, and learnt again now.
    execute(home, "UPDATE arrivals SET removed_at = 1.0 WHERE removed_at IS NOT NULL")
    work_on(home)
    store.put(data)

    with opened(home) as registry:
        now = time.time()
        assert plan(registry, store, now=now).n_young == 1
        assert plan(registry, store, now=now).arrivals == ()
        later = plan(registry, store, now=now + GRACE_SECONDS + 60)
        assert [waste.where for waste in later.files] == [str(path)]


def test_each_file_that_goes_is_logged(home: Home) -> None:
    digest, n_bytes = first_diff(home).digest, path_of(home).stat().st_size
    with opened(home) as registry:
        registry.removal.remove(sharers(home))
    gather(home)

    with opened(home) as registry:
        deleted = [event for event in registry.events.list() if event.kind == "file-deleted"]
    assert [(e.digest, e.message) for e in deleted] == [(digest, f"removed, {n_bytes} bytes")]


def test_a_collection_that_breaks_off_is_finished_by_the_next(home: Home) -> None:
    with opened(home) as registry:
        registry.removal.remove(sharers(home))
        planned = plan(registry, FolderStore(home.store), now=NOW)
        registry.removal.delete(planned.arrivals)  # and no file is deleted

    assert [waste.reason for waste in gather(home).files] == ["orphan"]
    assert found_in(home) == []


def test_the_command_lists_and_deletes_nothing_when_dry(home: Home) -> None:
    numbers, digest = sharers(home), first_diff(home).digest
    removed = call(home, "rm", *map(str, numbers))
    before = files_of(home)

    dry = call(home, "gc", "--dry-run")
    assert files_of(home) == before
    wet = call(home, "gc")

    assert removed.stderr == (
        f"Removed 2 arrivals. Undo with: streamlab restore {numbers[0]} {numbers[1]}\n"
    )
    assert dry.stdout == wet.stdout
    assert dry.stdout.splitlines()[1].split()[:2] == ["removed", digest[:12]]
    assert dry.stderr.startswith("Would delete 1 file, ")
    assert wet.stderr.startswith("Deleted 1 file, ")
    assert wet.stderr.endswith("and 2 removed arrivals for good.\n")
    assert len(files_of(home)) == len(before) - 1
    assert call(home, "verify").exit_code == 0


def test_the_bytes_told_are_those_of_the_files(home: Home) -> None:
    sizes = [path.stat().st_size for path in files_of(home)]

    rows = {row["what"]: row for row in json.loads(call(home, "du", "--format", "json").stdout)}

    stored = [rows["diffs"], rows["checkpoints"]]
    assert sum(row["physical_bytes"] for row in stored) == sum(sizes)
    assert sum(row["files"] for row in stored) == len(sizes)
    assert rows["total"]["logical_bytes"] == 2 * sum(sizes)  # two runs share every file


def test_what_is_stored_again_after_the_plan_was_made_stays(home: Home) -> None:
    store, digest = FolderStore(home.store), first_diff(home).digest
    call(home, "rm", *(str(number) for number in sharers(home)))
    with opened(home) as registry:
        planned = plan(registry, store, now=time.time())
        assert digest in {waste.digest for waste in planned.files}
        time.sleep(0.05)  # as far apart as a file system can tell
        store.put(store.get(digest))

        gone = list(collect(registry, store, planned))

    assert digest not in {waste.digest for waste in gone}
    assert digest in store


def test_what_was_stored_again_a_moment_ago_waits_for_its_row(home: Home) -> None:
    store, digest = FolderStore(home.store), first_diff(home).digest
    numbers = [str(number) for number in sharers(home)]
    call(home, "rm", *numbers)
    store.put(store.get(digest))

    with opened(home) as registry:
        planned = plan(registry, store, now=time.time())

    assert digest not in {waste.digest for waste in planned.files}
    assert planned.n_young == 1
    assert set(planned.arrivals).isdisjoint(map(int, numbers))


def test_what_lies_in_the_store_and_is_not_in_use_is_counted_too(home: Home) -> None:
    FolderStore(home.store).put(b"nobody's")
    call(home, "rm", *(str(number) for number in sharers(home)))
    (home.figures / "run").mkdir(parents=True)
    (home.figures / "run" / "a.png").write_bytes(b"x" * 7)

    told = json.loads(call(home, "du", "--format", "json").stdout)

    by_name = {row["what"]: row for row in told}
    there = sum(path.stat().st_size for path in files_of(home))
    kinds = ("diffs", "checkpoints", "adapters", "removed", "other in store")
    assert sum(by_name[kind]["physical_bytes"] for kind in kinds) == there
    assert by_name["removed"]["files"] == 1
    assert by_name["other in store"]["physical_bytes"] == len(b"nobody's")
    assert by_name["figures"]["physical_bytes"] == 7


def test_refused_submissions_go_after_a_week_or_at_once_when_asked(home: Home) -> None:
    kept = FolderStore(home.quarantine_of("press"))
    for n_bytes in (1, 2):
        kept.put(b"x" * n_bytes)
    now, store = time.time(), FolderStore(home.store)

    with opened(home) as registry:

        def gone(now: float, *, at_once: bool = False) -> list[tuple[str, int]]:
            planned = plan(registry, store, now=now, young_too=at_once, home=home)
            return sorted((w.reason, w.n_bytes) for w in collect(registry, store, planned))

        assert gone(now + QUARANTINE_SECONDS - 60) == []
        assert gone(now + QUARANTINE_SECONDS + 60) == [("quarantined", 1), ("quarantined", 2)]
        kept.put(b"xxx")
        assert gone(time.time() + 1, at_once=True) == [("quarantined", 3)]
    assert list(kept.list()) == []


def test_what_was_left_anywhere_in_a_home_is_found_and_goes(home: Home) -> None:
    left = [
        home.path / ".tmp-1", home.curves / "pair-1/.tmp-2", home.figures / "r/.tmp-3/a",
        home.reports / ".tmp-4", home.quarantine / "p" / "ab" / ".tmp-5", home.store / ".tmp-6",
    ]  # fmt: skip
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")

    found = call(home, "verify", "--format", "json")
    call(home, "gc", "--now")

    assert [row["finding"] for row in json.loads(found.stdout)] == ["leftover"] * len(left)
    assert not any(path.exists() for path in (*left, left[2].parent))
    assert call(home, "verify").exit_code == 0


def test_what_is_being_written_is_not_left_over(home: Home) -> None:
    with atomic_write(home.reports / "a.html") as file, staging(home) as folder:
        file.write(b"half")
        (folder / "ab").write_bytes(b"half")

        assert call(home, "verify").exit_code == 0
        assert call(home, "gc", "--now").exit_code == 0
        assert (folder / "ab").exists()

    assert (home.reports / "a.html").read_bytes() == b"half"


def test_a_collection_waits_for_the_rows_of_an_import(home: Home, tmp_path: Path) -> None:
    store = FolderStore(home.store)
    (tmp_path / "new").write_bytes(b"new")
    digest = hashlib.sha256(b"new").hexdigest()
    with opened(home) as registry, ThreadPoolExecutor() as pool:
        record = replace(first_diff(home), digest=digest)
        arrival = registry.arrivals.list()[0]
        with store.adding({digest: tmp_path / "new"}):
            planned = plan(registry, store, now=time.time() + 1, young_too=True)
            collecting = pool.submit(lambda: list(collect(registry, store, planned)))
            checking = pool.submit(found_in, home)
            time.sleep(0.2)
            assert not collecting.done()
            new = given_part(arrival, NewArrival, version=9)
            registry.arrivals.add(new, given_part(record, NewDiff), [])

        assert [waste.digest for waste in planned.files] == [digest]
        assert collecting.result() == []
        assert "orphan" not in checking.result()
    assert digest in store


def test_files_of_an_import_that_fails_are_deleted_again(home: Home, tmp_path: Path) -> None:
    before = files_of(home)
    (tmp_path / "new").write_bytes(b"new")
    digest = hashlib.sha256(b"new").hexdigest()

    with (
        pytest.raises(RegistryError, match="no"),
        FolderStore(home.store).adding({digest: tmp_path / "new"}),
    ):
        raise RegistryError("no")

    assert files_of(home) == before
