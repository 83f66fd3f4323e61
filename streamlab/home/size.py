"""How many bytes a registry in a file takes, and how many of them before anything is recorded."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sqlalchemy.engine import make_url

from streamlab.registry import sqlite
from streamlab.registry.registry import Registry


def find_file_bytes(url: str) -> int | None:
    """Return the bytes of a registry's file and of its log, None where it is in no file."""
    location = make_url(url)
    if location.get_backend_name() != "sqlite" or sqlite.in_memory(location):
        return None
    return sqlite.file_bytes(Path(str(location.database))) or None


def empty_file_bytes() -> int:
    """Return the bytes of a registry that remembers nothing, by making one aside."""
    with tempfile.TemporaryDirectory(prefix="streamlab-empty-") as folder:
        path = Path(folder) / "registry.db"
        Registry.open(f"sqlite:///{path}", clock=lambda: 0.0).close()
        return path.stat().st_size
