"""Stores behind a URL: conditional puts, lost connections, clocks, leftovers and secrets."""

from __future__ import annotations

import hashlib
import http.client
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from s3_server import Proxy, S3Server

from streamlab.errors import StoreError, UsageError
from streamlab.home import objects
from streamlab.home.folder import Home
from streamlab.home.remote_store import RemoteStore
from streamlab.home.store_location import open_store

pytestmark = pytest.mark.s3
DATA = b"a diff"
DIGEST = hashlib.sha256(DATA).hexdigest()


def remote(url: str, tmp_path: Path, *, patience: float = 5.0) -> RemoteStore:
    return RemoteStore(url, tmp_path / "cache", cache_bytes=1 << 20, patience=patience)


@pytest.fixture
def proxy(s3: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, which this process reaches through it alone."""
    assert s3_url  # after it, since it names the server itself
    with Proxy(s3.port) as proxy:
        monkeypatch.setenv("STREAMLAB_S3_ENDPOINT", f"http://127.0.0.1:{proxy.port}")
        yield proxy


@pytest.mark.parametrize("kind", ["memory", "s3"])
@pytest.mark.parametrize("n_bytes", [0, 5, 12 << 20], ids=["empty", "small", "in parts"])
def test_a_second_create_fails_and_changes_nothing(
    kind: str, n_bytes: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PART_BYTES", 5 << 20)
    memory = f"memory://{uuid.uuid4().hex}"
    url = memory if kind == "memory" else request.getfixturevalue("s3_url")
    made = objects.open_objects(url, patience=5, clock=time.time)
    first, second = b"1" * n_bytes, b"2" * n_bytes

    assert made.create("name", first)
    assert not made.create("name", second)

    assert made.read("name", n_bytes) == first
    assert list(made.uploads()) == []
    assert [(found.name, found.n_bytes) for found in made.list()] == [("name", n_bytes)]


def test_a_put_whose_answer_was_lost_counts_as_done(
    s3_url: str, proxy: Proxy, tmp_path: Path
) -> None:
    store = remote(s3_url, tmp_path)
    list(store.list())
    proxy.n_lost = 1

    assert store._objects.create("name", DATA)

    assert proxy.n_lost == 0
    assert store._objects.read("name", 10) == DATA


def test_a_lost_answer_to_another_content_is_not_taken_for_ones_own(
    s3_url: str, proxy: Proxy, tmp_path: Path
) -> None:
    store = remote(s3_url, tmp_path)
    store._objects.create("name", b"theirs")
    proxy.n_lost = 1

    assert not store._objects.create("name", DATA)
    assert store._objects.read("name", 10) == b"theirs"


def test_a_server_that_ignores_conditions_is_noted_and_harmless(
    s3_url: str, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.edit = lambda request: request.replace(b"If-None-Match", b"X-Nothing-Asks")
    store = remote(s3_url, tmp_path)

    assert "ignores conditional puts" in (store.try_out() or "")
    assert store.put(DATA) == store.put(DATA) == DIGEST
    assert [found.digest for found in store.list()] == [DIGEST]
    assert store.get(DIGEST) == DATA


class Refusing(BaseHTTPRequestHandler):
    """Refuse conditional puts as not implemented, and pass everything else on."""

    protocol_version = "HTTP/1.1"
    target = 0

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server = http.client.HTTPConnection("127.0.0.1", self.target, timeout=10)
        status, headers, answer = 501, [("Content-Type", "application/xml")], NOT_IMPLEMENTED
        if "If-None-Match" not in self.headers:
            server.request(self.command, self.path, body, dict(self.headers))
            response = server.getresponse()
            status, headers, answer = response.status, response.getheaders(), response.read()
        server.close()
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = pass_on  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


NOT_IMPLEMENTED = b"<Error><Code>NotImplemented</Code><Message>If-None-Match</Message></Error>"


def test_a_server_that_refuses_conditions_is_written_without_them(
    s3: S3Server, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refusing, "target", s3.port)
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STREAMLAB_S3_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        store = remote(s3_url, tmp_path)

        assert store.try_out() is None
        assert store.put(DATA) == store.put(DATA) == DIGEST
        assert not store._objects.create(f"{DIGEST[:2]}/{DIGEST[2:]}", b"another")
        assert store.get(DIGEST) == DATA
        server.shutdown()


def test_a_bucket_can_be_a_store_without_a_prefix(s3_url: str, tmp_path: Path) -> None:
    store = remote(s3_url.removesuffix("/diffs"), tmp_path)

    digest = store.put(DATA)

    assert [found.digest for found in store.list()] == [digest]
    assert store.get(digest) == DATA


def test_a_connection_that_comes_back_loses_nothing(
    s3_url: str, proxy: Proxy, tmp_path: Path
) -> None:
    store = remote(s3_url, tmp_path, patience=30)
    first = store.put(b"first")
    proxy.cut()
    mending = threading.Timer(1.0, proxy.mend)
    mending.start()

    assert store.put(DATA) == DIGEST

    mending.join()
    assert {found.digest for found in store.list()} == {first, DIGEST}


def test_a_connection_that_stays_lost_ends_in_one_sentence(
    s3_url: str, proxy: Proxy, tmp_path: Path
) -> None:
    store = remote(s3_url, tmp_path, patience=1)
    store.put(DATA)
    proxy.cut()
    began = time.monotonic()

    with pytest.raises(StoreError, match="has not answered for 1 seconds") as caught:
        store.get(DIGEST)

    assert time.monotonic() - began < 5
    assert "`--resume`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_never_answers_is_given_up(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_CALL_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("STREAMLAB_S3_ENDPOINT", f"http://127.0.0.1:{port}")
        store = remote(s3_url, tmp_path, patience=1)

        for call in (lambda: store.put(DATA), lambda: store.get(DIGEST)):
            with pytest.raises(StoreError, match="has not answered for 1 seconds"):
                call()


def test_a_listing_goes_on_where_the_connection_broke(
    s3_url: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = remote(s3_url, tmp_path)
    digests = sorted(store.put(bytes([number])) for number in range(7))
    call = store._objects._call  # type: ignore[attr-defined]

    def by_two(method: str, **given: object) -> object:
        return call(method, **given | {"MaxKeys": 2})

    monkeypatch.setattr(store._objects, "_call", by_two)
    found = []
    for stored in store.list():
        found.append(stored.digest)
        proxy.cut()
        proxy.mend()

    assert found == digests


def test_times_are_those_of_this_machines_clock(s3_url: str, tmp_path: Path) -> None:
    behind = RemoteStore(
        s3_url, tmp_path, cache_bytes=0, patience=5, clock=lambda: time.time() - 7200
    )
    behind.put(DATA)

    found = behind.find(DIGEST)

    assert found is not None
    assert abs(found.marked_at - (time.time() - 7200)) < 5


def test_an_upload_in_parts_that_was_left_is_found_and_given_up(
    s3_url: str, tmp_path: Path
) -> None:
    store = remote(s3_url, tmp_path)
    made = store._objects
    assert isinstance(made, objects.S3Objects)
    made._call("create_multipart_upload", **made._where("ab/cd"))

    (left,) = store.leftovers()
    store.delete_leftover(left)
    store.delete_leftover(left)

    assert (left.digest, left.is_complete) == (None, False)
    assert left.where.startswith(f"{s3_url}/ab/cd#")
    assert list(store.leftovers()) == []


def test_a_missing_bucket_is_named(s3_url: str, tmp_path: Path) -> None:
    assert s3_url
    store = remote("s3://there-is-none/diffs", tmp_path)

    for call in (lambda: store.put(DATA), lambda: list(store.list()), lambda: store.try_out()):
        with pytest.raises(StoreError, match="There is no bucket for the store s3://there-is-none"):
            call()


def test_no_credentials_are_said_to_be_missing(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(StoreError, match=r"refuses access: .*credentials.* Check the credentials"):
        remote(s3_url, tmp_path).put(DATA)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hidden@bucket/prefix",
        "s3://bucket/prefix?X-Amz-Signature=hidden",
        "s3://bucket/#hidden",
        "simplecache::s3://bucket/hidden",
        "s3://",
    ],
)
def test_a_url_that_may_hold_a_secret_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="s3://BUCKET/PREFIX") as caught:
        open_store(Home(tmp_path), url)

    assert "hidden" not in str(caught.value)


def test_an_endpoint_with_a_password_is_refused_and_not_repeated(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://me:hidden@localhost:1")

    with pytest.raises(UsageError, match="AWS_SECRET_ACCESS_KEY") as caught:
        remote(s3_url, tmp_path).put(DATA)

    assert "hidden" not in str(caught.value)


def test_secrets_in_a_servers_answer_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-secret")
    text = (
        "no: hidden-secret\nat https://me:hidden@host/b?X-Amz-Signature=hidden&x=1, http://host/b"
    )

    masked = objects._masked(OSError(text))

    assert masked == "no: *** at https://***@host/b?X-Amz-Signature=***&x=1, http://host/b"


def test_what_no_package_can_open_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`nonsense://` is not a kind of store"):
        open_store(Home(tmp_path), "nonsense://bucket").put(DATA)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from pathlib import Path\n"
        "from streamlab.home.folder import Home\n"
        "from streamlab.home.store_location import open_store\n"
        f"open_store(Home(Path({str(tmp_path)!r})), 's3://bucket/x').put(b'')"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert "UsageError: A store at `s3://` needs a package that is not installed." in done.stderr
    assert "pip install 'streamlab[s3]'" in done.stderr
