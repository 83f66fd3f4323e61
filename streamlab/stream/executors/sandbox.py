"""A sandbox around a provider's process, by bubblewrap.

Inside, there are the libraries, the base, the provider's own key, and an empty /tmp. There is no
network, no other process, and nothing that can be written to outside /tmp and /dev/shm.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from streamlab.errors import UsageError
from streamlab.locations import locate_model
from streamlab.stream.executors.provider_process import Common

SandboxName = Literal["auto", "none", "bwrap"]

_SYSTEM: Final = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache",
    "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/sys/devices/system/cpu",
)  # fmt: skip
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "CC", "PYTHONHASHSEED", "PYTHONWARNINGS")
_KEPT_PREFIXES: Final = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "TORCH_")
_MAX_FILES_BYTES: Final = 1 << 30  # in each of the folders in memory
_START: Final = (
    "import json, socket, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from streamlab.stream.executors.provider_process import work; "
    "work(socket.socket(fileno=int(sys.argv[1])))"
)


@dataclass(frozen=True)
class Sandbox:
    """The program, and folders that must not be seen inside wherever they lie."""

    program: str
    hidden: tuple[Path, ...] = ()

    def environment(self) -> dict[str, str]:
        """Return the variables that a provider's process gets; none that may hold a secret."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in _KEPT or name.startswith(_KEPT_PREFIXES)
        }
        return kept | {
            "HOME": "/tmp",  # noqa: S108 - empty, and of this process alone; here and below
            "TMPDIR": "/tmp",  # noqa: S108
            "USER": "provider",
            "LOGNAME": "provider",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_CACHE": str(_hub_cache()),
        }

    def command(self, *inside: str, files: Iterator[Path] | tuple[Path, ...] = ()) -> list[str]:
        """Return the command that runs `inside` with `files` and folders readable."""
        arguments = [
            self.program, "--unshare-all", "--die-with-parent", "--new-session",
            "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev",
        ]  # fmt: skip
        for folder in ("/tmp", "/dev/shm"):  # noqa: S108
            arguments += ["--size", str(_MAX_FILES_BYTES), "--tmpfs", folder]
        # Of /proc too: root may write to the kernel's settings there, even without capabilities.
        arguments += ["--remount-ro", "/dev", "--remount-ro", "/proc"]
        mounted = [*_libraries(), *files]
        for path in map(Path, _SYSTEM):
            if path.is_symlink():
                arguments += ["--symlink", str(path.readlink()), str(path)]
            elif path.exists():
                arguments += ["--ro-bind", str(path), str(path)]
        for path in mounted:
            arguments += ["--ro-bind", str(path), str(path)]
        for path in self.hidden:
            if any(path.is_relative_to(seen) for seen in (*mounted, "/usr")):
                arguments += ["--tmpfs", str(path), "--remount-ro", str(path)]
        return [*arguments, "--remount-ro", "/", "--chdir", "/tmp", "--", *inside]  # noqa: S108


def find_sandbox(wanted: SandboxName, *, hidden: tuple[Path, ...], on_gpu: bool) -> Sandbox | None:
    """Return the sandbox to use; None for none.

    `auto`: where this machine has one, and nothing trains on a GPU. Raises UsageError where `bwrap`
    is wanted and cannot be used.
    """
    if wanted == "none" or (wanted == "auto" and on_gpu):
        return None
    program = shutil.which("bwrap")
    problem = "bubblewrap is not installed" if program is None else _problem(program)
    if on_gpu:
        problem = "no GPU can be used in it"
    if program is not None and problem is None:
        return Sandbox(program, tuple(Path(os.path.realpath(path)) for path in hidden))
    if wanted == "auto":
        return None
    raise UsageError(
        f"`execution.sandbox` is `bwrap`, and {problem}. Install the package `bubblewrap` and "
        "allow user namespaces, or set it to `auto` or `none`; then providers are not kept from "
        "reading this machine's files."
    )


@functools.cache
def _problem(program: str) -> str | None:
    """Return why bubblewrap does not work here, by starting an interpreter as a provider's."""
    command = Sandbox(program).command(sys.executable, "-s", "-c", "pass")
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"it does not run here ({error})"
    if done.returncode == 0:
        return None
    lines = done.stderr.decode(errors="replace").split("\n")
    return f"it does not run here ({lines[0][:200] or f'exit code {done.returncode}'})"


def _libraries() -> list[Path]:
    """Return where the interpreter and its packages lie, and every other module in use."""
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix)}
    folders |= {Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")}
    found = [folder for folder in sorted(folders) if folder.is_dir()]
    system = (*found, Path("/usr"))
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or not isinstance(file, str):
            continue
        path = Path(file).absolute()
        if path.exists() and not any(path.is_relative_to(folder) for folder in system):
            found.append(path.parent if path.name == "__init__.py" else path)
    return found


def _hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def files_of(common: Common, provider: str) -> Iterator[Path]:
    """Yield what a provider may read: its base, the targets of the base's links, and its key."""
    located = locate_model(common.base.settings.model)
    if located.kind == "hub":
        folder = _hub_cache() / f"models--{located.target.replace('/', '--')}"
        if folder.is_dir():
            yield folder
    else:
        folder = Path(located.target)
        yield folder
        for path in folder.iterdir():
            if path.is_symlink() and path.is_file():
                yield Path(os.path.realpath(path))
    key = common.scenario.providers[provider].private_key_file
    if key is not None:
        yield common.folder / key


def start_sandboxed(
    end: socket.socket, sandbox: Sandbox, files: Iterator[Path], environment: Mapping[str, str]
) -> Sandboxed:
    """Start a provider's process in a sandbox, with one end of a connection to the lab."""
    number = end.fileno()
    inside = [sys.executable, "-s", "-c", _START, str(number), json.dumps(sys.path)]
    return Sandboxed(
        subprocess.Popen(  # noqa: S603 - a fixed command
            sandbox.command(*inside, files=files),
            env=environment,
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    )


class Sandboxed:
    """A provider's process in a sandbox; all its processes end with bubblewrap's own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid, self.exited = process.pid, os.pidfd_open(process.pid)

    def exit_code(self, seconds: float) -> int | None:
        """Wait for it to end; see `Started`."""
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(seconds)
            return code if code <= 128 else 128 - code  # bubblewrap's way to tell a signal
        return None
