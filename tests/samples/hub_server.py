"""A small server that speaks the hub's protocol as `huggingface_hub` uses it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_test"  # noqa: S105 - of no real hub


class Hub(ThreadingHTTPServer):
    """Repositories in memory: files by name, and the last commit of each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.messages: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit_of(self, repo: str) -> str:
        content = sorted((name, data.hex()) for name, data in self.files[repo].items())
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()  # noqa: S324 - as git does


@contextmanager
def running_hub() -> Iterator[Hub]:
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if path != "/api/validate-yaml" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid credentials"})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        else:
            repo, action = self._repo(path)
            if repo not in self.server.files:
                self._answer(404, {"error": "Repository not found"})
            elif action == "preupload":
                files = json.loads(body)["files"]
                chosen = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                    for f in files
                ]
                self._answer(200, {"files": chosen})
            elif action == "commit":
                self._commit(repo, [json.loads(line) for line in body.splitlines()])

    def do_GET(self) -> None:
        self._resolve(with_body=True)

    def do_HEAD(self) -> None:
        self._resolve(with_body=False)

    def _create(self, asked: dict[str, Any]) -> None:
        repo = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        exists = repo in self.server.files
        self.server.files.setdefault(repo, {})
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add(repo)
        self._answer(409 if exists else 200, {"url": f"{self.server.url}/{repo}", "name": repo})

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["key"] == "header":
                self.server.messages.append(line["value"]["summary"])
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.files[repo][line["value"]["path"]] = content
        oid = self.server.commit_of(repo)
        url = f"{self.server.url}/{repo}/commit/{oid}"
        self._answer(200, {"success": True, "commitUrl": url, "commitOid": oid, "hookOutput": ""})

    def _resolve(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        repo, _, place = path.partition("/resolve/")
        data = self.server.files.get(repo, {}).get(place.partition("/")[2])
        if data is None:
            code = "EntryNotFound" if repo in self.server.files else "RepoNotFound"
            self._answer(404, {"error": code}, {"X-Error-Code": code})
            return
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',  # noqa: S324 - as git does
            "X-Repo-Commit": self.server.commit_of(repo),
        }
        self._send(200, data, headers, with_body=with_body)

    def _repo(self, path: str) -> tuple[str, str]:
        """Return the repository and the action of /api/models/OWNER/NAME/ACTION/REVISION."""
        owner, name, action = path.removeprefix("/api/models/").split("/")[:3]
        return f"{owner}/{name}", action

    def _answer(self, status: int, tree: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(tree).encode(), headers or {}, with_body=True)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body and self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""
