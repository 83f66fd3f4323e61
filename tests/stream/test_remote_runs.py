"""A run whose files are in a bucket: the same results, and every command finds them."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from damage_samples import execute
from s3_server import ISOLATED, Proxy, S3Server
from stream_samples import Ran, carry_out, reading, runs_in, stored

from streamlab.cli import cli
from streamlab.cli.doctor import check_store
from streamlab.cli.options import Place
from streamlab.errors import StoreError, UsageError
from streamlab.home.folder import Home
from streamlab.home.gc import GRACE_SECONDS, plan
from streamlab.home.remote_store import RemoteStore
from streamlab.home.store_location import open_store
from streamlab.home.verify import verify
from streamlab.registry.registry import Registry
from streamlab.stream.engine import run

pytestmark = pytest.mark.s3
LATER = GRACE_SECONDS + 60


@dataclass(frozen=True)
class Remote:
    """A home, and the URL of its store."""

    home: Home
    url: str

    @cached_property
    def store(self) -> RemoteStore:
        store = open_store(self.home, self.url, patience=5)
        assert isinstance(store, RemoteStore)
        return store

    def call(self, *arguments: str) -> Result:
        """Call the command line on the home, without saying where its files are."""
        return CliRunner().invoke(cli, [*arguments, "--home", str(self.home.path)])


@pytest.fixture(scope="module")
def environment(s3: S3Server) -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (s3.environment | ISOLATED).items():
            patched.setenv(name, value)
        yield s3


@pytest.fixture(scope="module")
def remote(environment: S3Server, plain: Ran, tmp_path_factory: pytest.TempPathFactory) -> Remote:
    """The scenario of `plain`, run into a bucket; to be read only."""
    home, url = tmp_path_factory.mktemp("remote") / "home", environment.bucket()
    return Remote(carry_out(plain.path, home, store_url=url).home, url)


@pytest.fixture
def own(remote: Remote, environment: S3Server, tmp_path: Path) -> Remote:
    """A copy of that home and its bucket, to be changed; the registry is told of the move."""
    copied = Remote(
        Home(shutil.copytree(remote.home.path, tmp_path / "home")), environment.bucket()
    )
    for found in remote.store.list():
        assert found.digest is not None
        copied.store.put(remote.store.get(found.digest))
    marker = remote.store._read_marker() or b""
    copied.store._add_marker(marker)
    move = f"UPDATE runs SET environment = replace(environment, '{remote.url}', '{copied.url}')"  # noqa: S608
    execute(copied.home, move)
    return copied


def facts(home: Home) -> list[object]:
    """Return what must be the same wherever the files are."""
    with reading(home) as registry:
        (record,) = registry.runs.list()
        environment = {k: v for k, v in record.environment.items() if not k.startswith("store")}
        rows = [(row.task, row.digest, row.status, row.n_steps) for row in registry.arrivals.list()]
        return [environment, rows, registry.scores.list(), registry.totals.list("all")]


def digests(registry: Registry) -> set[str]:
    return set(registry.artifacts.digests())


def test_a_run_into_a_bucket_ends_in_the_same_files_and_records(plain: Ran, remote: Remote) -> None:
    files = {found.digest: remote.store.get(found.digest or "") for found in remote.store.list()}

    assert {f"{(d or '')[:2]}/{(d or '')[2:]}": data for d, data in files.items()} == stored(
        plain.home
    )
    assert stored(remote.home) == {}
    assert facts(remote.home) == facts(plain.home)


def test_a_run_records_where_its_files_are(remote: Remote) -> None:
    (record,) = runs_in(remote.home)

    assert record.environment["store"] == remote.url
    assert remote.url in remote.call("show", "latest").stdout


COMMANDS = (
    "show latest", "show arrival:1", "ls diffs", "verify", "gc --dry-run", "du",
    "predict mood good", "export mood -o {out}/mood.sldiff",
    "purge --provider press --dry-run",
)  # fmt: skip
LONG_ONES = (
    "report -o {out}/report.html", "plot overlap -o {out}", "plot bytes -o {out}",
    "merge mood --to {out}/merged", "swap mood same --repeats 2",
)  # fmt: skip


@pytest.mark.parametrize(
    "command", [*COMMANDS, *(pytest.param(one, marks=pytest.mark.slow) for one in LONG_ONES)]
)
def test_each_command_finds_the_files_by_itself(
    command: str, remote: Remote, tmp_path: Path
) -> None:
    result = remote.call(*command.format(out=tmp_path).split())

    assert result.exit_code == 0, result.output


def test_a_diffs_page_has_bounds_computed_from_its_file(remote: Remote) -> None:
    (first, *_) = remote.store.list()

    shown = json.loads(remote.call("show", f"diff:{first.digest}", "--format", "json").stdout)

    assert "bound" in json.dumps(shown)


def test_doctor_tries_the_store_out(remote: Remote) -> None:
    before = list(remote.store.list())

    found = check_store(Place(remote.home, None))

    assert (found.status, found.found) == ("ok", remote.url)
    assert list(remote.store.list()) == before


def test_doctor_says_what_is_wrong_with_a_store(environment: S3Server, tmp_path: Path) -> None:
    assert environment

    found = check_store(Place(Home(tmp_path), None, "s3://there-is-none/x"))

    assert found.status == "broken"
    assert found.found.startswith("There is no bucket")


def test_a_store_that_refuses_stops_a_run_before_anything_is_made(
    environment: S3Server, plain: Ran, tmp_path: Path
) -> None:
    assert environment
    with pytest.raises(StoreError, match="There is no bucket"):
        list(run(plain.path, tmp_path / "home", store_url="s3://there-is-none/x"))

    assert not (tmp_path / "home").exists()


def test_a_recorded_store_that_refuses_stops_a_run_before_it_trains(
    plain: Ran, own: Remote
) -> None:
    move = f"UPDATE runs SET environment = replace(environment, '{own.url}', 's3://gone/x')"  # noqa: S608
    execute(own.home, move)

    with pytest.raises(StoreError, match="There is no bucket for the store s3://gone/x"):
        list(run(plain.path, own.home.path))

    assert len(runs_in(own.home)) == 1


def test_damage_in_a_bucket_is_found(own: Remote) -> None:
    missing, altered, longer = (found.digest or "" for found in own.store.list())
    data = own.store.get(altered)
    own.store.delete(missing)
    for digest, changed in ((altered, data[::-1]), (longer, bytes(1 << 20))):
        own.store._objects.overwrite(f"{digest[:2]}/{digest[2:]}", changed)
    orphan = own.store.put(b"nobody's")
    own.store._objects.overwrite("notes.txt", b"mine")

    def found(now: float) -> set[tuple[str, str | None]]:
        with reading(own.home) as registry:
            store = own.store
            return {(f.problem, f.digest) for f in verify(registry, store, now=now)}

    damage = {("missing", missing), ("altered", altered), ("altered", longer)}
    assert found(time.time()) == damage  # a row may follow what is young
    assert found(time.time() + LATER) == damage | {("orphan", orphan), ("stray", None)}


def test_a_collection_deletes_what_nothing_needs_and_is_old(own: Remote) -> None:
    orphan = own.store.put(b"nobody's")
    made = own.store._objects
    made._call("create_multipart_upload", **made._where("ab/cd"))  # type: ignore[attr-defined]
    removed = own.call("rm", "1")
    # As if the files had not been stored a moment before.
    execute(own.home, "UPDATE arrivals SET removed_at = removed_at + 10")
    (gone,) = json.loads(own.call("ls", "arrivals", "--removed", "--format", "json").stdout)

    with reading(own.home) as registry:
        young = plan(registry, own.store, now=time.time())
        old = plan(registry, own.store, now=time.time() + LATER)
    assert removed.exit_code == 0
    assert (young.n_young, [w.reason for w in young.files]) == (1, ["removed", "leftover"])
    assert {w.digest for w in old.files} == {gone["digest"], orphan, None}

    assert own.call("gc", "--now").exit_code == 0

    with reading(own.home) as registry:
        assert {found.digest for found in own.store.list()} == digests(registry)
    assert list(own.store.leftovers()) == []
    assert own.call("verify").exit_code == 0


def test_what_is_marked_again_after_the_plan_stays(own: Remote) -> None:
    from streamlab.home.gc import collect

    own.call("rm", "1")
    execute(own.home, "UPDATE arrivals SET removed_at = removed_at + 10")
    store = own.store
    with Registry.open(own.home.registry_url, clock=time.time) as registry:
        planned = plan(registry, store, now=time.time(), young_too=True)
        (waste,) = planned.files
        data = store.get(waste.digest or "")
        time.sleep(1.1)
        store.put(data)

        assert list(collect(registry, store, planned)) == []
    assert waste.digest in store


def test_a_purge_deletes_what_came_from_a_provider_and_its_copies(own: Remote) -> None:
    with reading(own.home) as registry:
        theirs = {a.digest for a in registry.arrivals.list(provider="press")}
        others = digests(registry) - theirs
    for digest in theirs | others:
        own.store.get(digest or "")

    result = own.call("purge", "--provider", "press", "--yes")

    assert result.exit_code == 0, result.output
    assert "All 1 other artifacts are unchanged." in result.stderr
    assert {found.digest for found in own.store.list()} == others
    assert {path.name for path in own.home.cache.iterdir()} == others


def test_a_store_that_was_moved_is_named_once_more(own: Remote, environment: S3Server) -> None:
    moved = Remote(own.home, environment.bucket())
    for found in own.store.list():
        moved.store.put(own.store.get(found.digest or ""))
        own.store.delete(found.digest or "")
    shutil.rmtree(own.home.cache)
    assert own.call("verify").exit_code == 1

    assert own.call("verify", "--store", moved.url).exit_code == 0
    refused = own.call("gc", "--store", moved.url)
    assert (refused.exit_code, moved.url in refused.stderr) == (1, True)
    moved.store._add_marker(own.store._read_marker() or b"")
    assert own.call("gc", "--store", moved.url).exit_code == 0


def test_the_runs_of_one_home_have_one_store(
    plain: Ran, own: Remote, environment: S3Server, tmp_path: Path
) -> None:
    local = Remote(Home(shutil.copytree(plain.home.path, tmp_path / "local")), "")
    other = environment.bucket()

    env = {"STREAMLAB_STORE": other}
    shown = CliRunner().invoke(cli, ["verify", "--home", str(local.home.path)], env=env)
    assert (shown.exit_code, "have their files in" in shown.stderr) == (2, True)
    for home, store, reason in (
        (local.home, other, f"have their files in {local.home.store}, not in {other}"),
        (own.home, str(own.home.store), f"have their files in {own.url}, not in "),
        (own.home, other, f"{other} is not the one that this registry's runs have used"),
    ):
        with pytest.raises((UsageError, StoreError), match=re.escape(reason)):
            list(run(plain.path, home.path, store_url=store))
        assert len(runs_in(home)) == 1


def test_two_homes_do_not_share_a_store(plain: Ran, own: Remote, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is in use by another registry"):
        list(run(plain.path, tmp_path / "other", store_url=own.url))

    assert runs_in(Home(tmp_path / "other")) == ()


def test_a_first_use_that_failed_can_be_repeated(
    plain: Ran, environment: S3Server, tmp_path: Path
) -> None:
    home, url = tmp_path / "home", environment.bucket()
    stopped = run(plain.path, home, store_url=url, started=lambda *_: 1 / 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ZeroDivisionError):
        list(stopped)
    execute(Home(home), "DELETE FROM runs")

    outcomes = run(plain.path, home, store_url=url)
    assert next(outcomes).record.status == "finished"
    outcomes.close()


def test_a_home_is_imported_into_a_bucket(
    plain: Ran, environment: S3Server, tmp_path: Path
) -> None:
    here = Remote(Home(tmp_path / "home"), environment.bucket())

    result = here.call(
        "import", str(plain.home.path), "--base", str(plain.path.parent / "base"),
        "--store", here.url,
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert len(list(here.store.list())) == len(stored(plain.home))
    assert stored(here.home) == {}
    assert here.call("verify").exit_code == 0
    assert runs_in(here.home)[0].environment["store"] == here.url


def test_a_file_is_imported_into_a_bucket(own: Remote, tmp_path: Path) -> None:
    file = tmp_path / "mood.sldiff"
    exported = own.call("export", "mood", "-o", str(file))

    result = own.call("import", str(file), "--provider", "elsewhere")

    assert (exported.exit_code, result.exit_code) == (0, 0), result.output
    assert own.call("verify").exit_code == 0
    assert {record.environment["store"] for record in runs_in(own.home)} == {own.url}


def test_no_secret_reaches_a_home_or_an_output(remote: Remote, environment: S3Server) -> None:
    secret = environment.environment["AWS_SECRET_ACCESS_KEY"].encode()

    assert secret not in remote.call("show", "--format", "json").output.encode()
    for path in remote.home.path.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path


@pytest.mark.slow
def test_a_connection_that_is_cut_in_the_middle_of_a_run_loses_nothing(
    plain: Ran, environment: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, home = environment.bucket(), Home(tmp_path / "home")
    with Proxy(environment.port) as proxy:
        monkeypatch.setenv("STREAMLAB_S3_ENDPOINT", f"http://127.0.0.1:{proxy.port}")
        n_cut = 0

        def cut(point: str) -> None:
            nonlocal n_cut
            if point in ("admitted", "stored", "scored"):
                n_cut += 1
                proxy.cut()
                threading.Timer(2.0, proxy.mend).start()

        outcomes = list(run(plain.path, home.path, store_url=url, reached=cut))

    assert n_cut == 3 * len(outcomes)
    monkeypatch.setenv("STREAMLAB_S3_ENDPOINT", environment.endpoint)
    assert [o.record.digest for o in outcomes] == [o.record.digest for o in plain.outcomes]
    assert [record.status for record in runs_in(home)] == ["finished"]
    assert Remote(home, url).call("verify").exit_code == 0


@pytest.mark.slow
def test_a_run_whose_store_stays_away_is_continued_by_resume(
    plain: Ran, environment: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamlab.home import store_location

    url, home = environment.bucket(), Home(tmp_path / "home")
    with Proxy(environment.port) as proxy, monkeypatch.context() as patched:
        patched.setenv("STREAMLAB_S3_ENDPOINT", f"http://127.0.0.1:{proxy.port}")
        opened = store_location.RemoteStore
        patched.setattr(
            store_location,
            "RemoteStore",
            lambda *a, **k: opened(*a, **k | {"patience": 2.0}),
        )

        def cut(point: str) -> None:
            if point == "recorded":
                proxy.cut()

        with pytest.raises(StoreError, match="has not answered for 2 seconds"):
            list(run(plain.path, home.path, store_url=url, reached=cut))
    assert [record.status for record in runs_in(home)] == ["failed"]

    again = list(run(plain.path, home.path, resume=True))

    assert len(again) == len(plain.outcomes) - 1
    with reading(home) as registry:
        assert digests(registry) == {o.record.digest for o in plain.outcomes}
    assert Remote(home, url).call("verify").exit_code == 0
