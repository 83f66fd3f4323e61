"""The report page of a run that goes on, served on loopback and renewed as arrivals finish.

The server only reads. It answers GET and HEAD for two paths: `/`, the page, and `/state`, what the
page's script asks every two seconds. A request must name this server as its host, so that no other
name that resolves to loopback reaches it (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from streamlab.errors import StreamlabError, UsageError
from streamlab.home.folder import Home
from streamlab.html.document import LiveLine, build_page
from streamlab.registry.records import RunRecord
from streamlab.registry.registry import Registry
from streamlab.units import counted, format_seconds, printable

ADDRESS = "127.0.0.1"
_TIMEOUT = 10.0  # seconds for a request, after which its connection is closed
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # beside that of the page itself
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class LiveRun:
    """A run whose page is built again once there is something new."""

    def __init__(
        self,
        open_registry: Callable[[], AbstractContextManager[Registry]],
        home: Home,
        run: str,
        *,
        clock: Callable[[], float],
        store_url: str | None = None,
    ) -> None:
        """Take what opens the registry to read, and a clock in seconds since the epoch."""
        self._open = open_registry
        self._home, self._run, self._store_url = home, run, store_url
        self._clock = clock
        self._lock = Lock()  # one page at a time: figures are drawn in one global style
        self._version, self._page = "", b""

    def state(self) -> LiveLine:
        """Return how far the run is. Raises StreamlabError where it cannot be read."""
        with self._open() as registry:
            return self._state(registry)

    def page(self) -> bytes:
        """Return the page. Raises StreamlabError where it cannot be read."""
        with self._lock, self._open() as registry:
            state = self._state(registry)
            if state.version != self._version:
                page = build_page(
                    registry,
                    self._home,
                    registry.runs.get(self._run),
                    None,
                    now=self._clock(),
                    store_url=self._store_url,
                    live=state,
                )
                self._version, self._page = state.version, page.encode()
            return self._page

    def _state(self, registry: Registry) -> LiveLine:
        run = registry.runs.get(self._run)
        totals = registry.totals.list("run", name=run.name)
        counts = sorted((total.kind, total.n_arrivals) for total in totals)
        told = json.dumps([run.status, run.finished_at, counts])
        n_done = sum(n for kind, n in counts if kind not in ("failed", "quarantined"))
        version = hashlib.sha256(told.encode()).hexdigest()[:16]
        return LiveLine(version, self._line(run, n_done))

    def _line(self, run: RunRecord, n_done: int) -> str:
        arrivals = f"{n_done:,} of {counted(run.n_expected, 'arrival')} finished"
        if run.status != "running":
            return f"The run is {run.status}: {arrivals}."
        silent = format_seconds(max(self._clock() - run.heartbeat_at, 0.0))
        return f"Running: {arrivals}. Last heartbeat {silent} ago."


class LiveServer(ThreadingHTTPServer):
    """Serves one live run on loopback."""

    daemon_threads = True

    def __init__(self, live: LiveRun, port: int = 0) -> None:
        """Listen on `port`, 0 for a free one. Raises UsageError where it is taken."""
        self.live = live
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"Port {port} of {ADDRESS} cannot be used: {error.strerror}. Name another one with "
                "`--port`, or leave it out."
            ) from error

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    @property
    def hosts(self) -> frozenset[str]:
        """Return what a request may name as its host."""
        return frozenset(f"{name}:{self.server_port}" for name in (ADDRESS, "localhost"))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, but for a browser that leaves in the middle of an answer."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    server_version = "streamlab"
    sys_version = ""
    timeout = _TIMEOUT

    def do_GET(self) -> None:
        """Answer with the page or the state."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Log nothing."""

    def _answer(self) -> None:
        answers = {"/": self._page, "/state": self._state}
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            self._send(HTTPStatus.MISDIRECTED_REQUEST, "This server is not that host.\n")
        elif self.path == "/favicon.ico":  # browsers ask for it unasked
            self._send(HTTPStatus.NO_CONTENT, "")
        elif self.path not in answers:
            self._send(HTTPStatus.NOT_FOUND, "There are / and /state only.\n")
        else:
            try:
                kind, body = answers[self.path]()
            except StreamlabError as error:
                text = printable(str(error), keep="\n")
                self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"{text}\n")
            else:
                self._send(HTTPStatus.OK, body, kind)

    def _page(self) -> tuple[str, bytes]:
        return "text/html; charset=utf-8", self.server.live.page()

    def _state(self) -> tuple[str, bytes]:
        return "application/json", json.dumps(asdict(self.server.live.state())).encode()

    def _send(
        self, status: HTTPStatus, body: bytes | str, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(data)), **_HEADERS}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
