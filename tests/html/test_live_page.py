"""`show --live`: a page on loopback that follows a run, reads only, and ends with Ctrl-C."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from large_samples import make_home
from page_samples import SCRIPT, hostile_home
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from stream_samples import make_lab, only, reading, runs_in

from streamlab.cli import cli
from streamlab.errors import UsageError
from streamlab.home.folder import Home
from streamlab.html.live import LiveRun, LiveServer
from streamlab.registry.records import NewRun, given_part
from streamlab.registry.registry import Registry
from streamlab.stream.engine import run

if TYPE_CHECKING:
    from stream_samples import Ran


@contextmanager
def served(home: Home, name: str) -> Iterator[LiveServer]:
    live = LiveRun(lambda: reading(home), home, name, clock=time.time)
    with LiveServer(live) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(many: Ran) -> Iterator[LiveServer]:
    with served(many.home, "many-1") as one:
        yield one


def asked(
    server: LiveServer, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=300)
    with closing(connection):
        connection.request(method, path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_the_page_is_the_report_and_says_that_it_follows_the_run(server: LiveServer) -> None:
    status, headers, body = asked(server, "/")

    text = body.decode()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "The run is finished: 8 of 8 arrivals finished." in text
    assert "connect-src &#39;self&#39;" in text
    assert "<svg" in text
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_the_state_has_the_version_of_the_page(server: LiveServer) -> None:
    _, _, page = asked(server, "/")
    status, headers, body = asked(server, "/state")

    state = json.loads(body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert f'data-version="{state["version"]}"' in page.decode()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "", "[::1]"])
def test_another_host_gets_nothing_of_the_run(host: str, server: LiveServer) -> None:
    for path in ("/", "/state"):
        status, _, body = asked(server, path, host=host.format(port=server.server_port))

        assert status == 421
        assert b"many" not in body


def test_localhost_is_this_host_too(server: LiveServer) -> None:
    assert asked(server, "/state", host=f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(method: str, server: LiveServer) -> None:
    assert asked(server, "/", method=method)[0] == 501


def test_nothing_else_is_served(server: LiveServer) -> None:
    for path in ("/registry.db", "/../registry.db", "/state?x", "/page.js", "*"):
        assert asked(server, path)[0] == 404
    status, headers, body = asked(server, "/state", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0
    assert asked(server, "/favicon.ico")[0] == 204


def test_it_listens_on_loopback_alone(server: LiveServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_refused(server: LiveServer) -> None:
    with pytest.raises(UsageError, match=rf"Port {server.server_port} .* cannot be used"):
        LiveServer(server.live, server.server_port)


def test_hostile_names_stay_text(many: Ran, tmp_path: Path) -> None:
    home = hostile_home(many.home, tmp_path / "home")
    with served(home, runs_in(home)[0].name) as server:
        _, _, body = asked(server, "/")

    assert SCRIPT.encode() not in body


def test_a_run_that_is_gone_is_said_and_the_server_stays(many: Ran) -> None:
    with served(many.home, "gone-1") as server:
        status, _, body = asked(server, "/")
        again, _, _ = asked(server, "/state")

    assert (status, again) == (503, 503)
    assert b"no run 'gone-1'" in body


def test_a_run_without_an_arrival_has_a_page(many: Ran, tmp_path: Path) -> None:
    home = Home(shutil.copytree(many.home.path, tmp_path / "home"))
    with Registry.open(home.registry_url, clock=time.time) as registry:
        name = registry.runs.start(given_part(registry.runs.get("latest"), NewRun)).name
    with served(home, name) as server:
        status, _, body = asked(server, "/")

    assert status == 200
    assert b"Running: 0 of 8 arrivals finished." in body
    assert b"No task of this run has finished" in body


def test_a_new_arrival_makes_a_new_version(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", 2)
    with served(home, "long-1") as server:
        before = json.loads(asked(server, "/state")[2])["version"]
        again = json.loads(asked(server, "/state")[2])["version"]
        with Registry.open(home.registry_url, clock=time.time) as registry:
            registry.removal.remove([1])
        after = json.loads(asked(server, "/state")[2])["version"]

    assert before == again != after


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "80"], "`--port` is for the page that `--live` serves"),
        (["task:mood", "--live"], "`--live` follows a run, and 'task:mood' is task `mood`"),
    ],
)
def test_what_cannot_be_followed_is_refused(options: list[str], words: str, many: Ran) -> None:
    done = CliRunner().invoke(cli, ["show", *options, "--home", str(many.home.path)])

    assert done.exit_code == 2
    assert words in done.stderr


def test_ctrl_c_ends_it_without_a_word_of_python(many: Ran) -> None:
    command = [sys.executable, "-m", "streamlab.cli", "show", "latest", "--live"]
    code = "from streamlab.cli import main; main()"
    command[1:3] = ["-c", code]
    with subprocess.Popen(
        [*command, "--home", str(many.home.path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"COLUMNS": "80"},
        # Processes that a shell runs in the background are made without it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        port = int(url.rstrip("/").rpartition(":")[2])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", "/state")
            assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 0
    assert out == ""
    assert "The page follows many-1." in err
    assert "Traceback" not in err


@pytest.mark.browser
def test_a_browser_follows_a_run_while_it_runs(browser: webdriver.Chrome, tmp_path: Path) -> None:
    path = make_lab(tmp_path).scenario(name="live", **only("mood", "same"))
    home = Home(tmp_path / "home")
    outcomes = run(path, home.path)
    with closing(outcomes):
        next(outcomes)
        with served(home, "live-1") as server:
            browser.get("about:blank")
            browser.get_log("browser")
            browser.get(server.url)
            wait = WebDriverWait(browser, 120)
            wait.until(lambda b: "Running: 1 of 2" in b.find_element(By.ID, "live").text)
            before = browser.find_elements(By.CSS_SELECTOR, "#table-arrivals tbody tr")
            assert len(before) == 1
            button = browser.find_element(By.CSS_SELECTOR, "#configuration summary")
            browser.execute_script("arguments[0].click()", button)

            assert list(outcomes)  # the second arrival, and the end of the run

            rows = "#table-arrivals tbody tr"
            wait.until(lambda b: len(b.find_elements(By.CSS_SELECTOR, rows)) == 2)
            wait.until(lambda b: "The run is finished" in b.find_element(By.ID, "live").text)
            assert browser.find_elements(By.CSS_SELECTOR, "#table-arrivals th button")
            assert browser.find_elements(By.CSS_SELECTOR, "#configuration details[open]")
            assert browser.get_log("browser") == []
