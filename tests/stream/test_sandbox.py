"""A provider in a sandbox reads its base and the libraries, and writes nothing that lasts.

The probes only open files; none writes, so that a sandbox that fails to hold does no harm.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stream_samples import Lab, Ran, arrivals_in, carry_out, only, runs_in, stored

from streamlab.errors import UsageError
from streamlab.stream.executors import sandbox
from streamlab.stream.executors.sandbox import Sandbox, find_sandbox

PROBE = """
import json, os, socket, sys
def opens(path, flags):
    try:
        os.close(os.open(path, flags))
        return True
    except OSError:
        return False
readable, writable = json.loads(sys.argv[1])
def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False
print(json.dumps({
    "read": [p for p in readable if opens(p, os.O_RDONLY)],
    "written": [p for p in writable if opens(p, os.O_WRONLY)],
    "created": [p for p in writable if opens(p + "/new", os.O_CREAT | os.O_WRONLY)],
    "connected": connects(int(sys.argv[2])),
    "processes": sorted(p for p in os.listdir("/proc") if p.isdecimal()),
    "descriptors": len(os.listdir("/proc/self/fd")),
    "environment": sorted(os.environ),
}))
"""


@pytest.fixture(scope="module")
def bwrap() -> Sandbox:
    """A sandbox, where this machine can have one."""
    program = shutil.which("bwrap")
    if program is None or sandbox._problem(program) is not None:
        if os.environ.get("STREAMLAB_REQUIRE_BWRAP"):
            pytest.fail("bubblewrap cannot be used here, and STREAMLAB_REQUIRE_BWRAP is set")
        pytest.skip("bubblewrap cannot be used here")
    return Sandbox(program)


def probe(box: Sandbox, files: tuple[Path, ...], *paths: Path | str, port: int = 1) -> Any:
    asked = json.dumps([[str(p) for p in paths]] * 2)
    command = box.command(sys.executable, "-s", "-c", PROBE, asked, str(port), files=files)
    done = subprocess.run(
        command, env=box.environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_only_what_is_given_can_be_read_and_nothing_written(
    bwrap: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, home = tmp_path / "base", tmp_path / "base" / "home"
    home.mkdir(parents=True)
    given, record, other = base / "config.json", home / "registry.db", tmp_path / "rows.jsonl"
    for path in (given, record, other):
        path.write_text("x")
    monkeypatch.setenv("HF_TOKEN", "secret")
    kernel = ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/swappiness")

    found = probe(
        Sandbox(bwrap.program, (home,)), (base,),
        given, record, other, base, home, "/etc/passwd", "/root", "/home", "/usr", "/",
        *kernel, sys.prefix,
    )  # fmt: skip

    assert str(given) in found["read"]
    assert not {str(record), str(other), "/etc/passwd"} & set(found["read"])
    assert (found["written"], found["created"]) == ([], [])
    assert "HF_TOKEN" not in found["environment"]
    assert len(found["processes"]) <= 2
    assert found["descriptors"] == 4  # three standard ones, and the listing itself


def test_there_is_no_network(bwrap: Sandbox) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert probe(bwrap, (), port=server.getsockname()[1])["connected"] is False


@pytest.mark.usefixtures("bwrap")
def test_a_stream_in_a_sandbox_leaves_the_same_files(lab: Lab, plain: Ran, tmp_path: Path) -> None:
    execution = {"executor": "processes", "sandbox": "bwrap", "timeout_seconds": 500}
    path = lab.scenario(name="boxed", execution=execution, **only("mood"))

    ran = carry_out(path, tmp_path / "home")

    assert [row.status for row in arrivals_in(ran.home)] == ["finished"]
    assert stored(ran.home).items() <= stored(plain.home).items()
    (record,) = runs_in(ran.home)
    assert record.environment["sandbox"] == "bwrap"


def test_a_sandbox_that_is_wanted_and_not_there_is_an_error_and_otherwise_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    assert find_sandbox("auto", hidden=(), on_gpu=False) is None
    assert find_sandbox("none", hidden=(), on_gpu=False) is None
    with pytest.raises(UsageError, match="`bwrap`, and bubblewrap is not installed"):
        find_sandbox("bwrap", hidden=(), on_gpu=False)


def test_bubblewrap_that_does_not_work_is_found_out_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(program))

    assert find_sandbox("auto", hidden=(), on_gpu=False) is None
    with pytest.raises(UsageError, match="No permissions to create new namespace"):
        find_sandbox("bwrap", hidden=(), on_gpu=False)
