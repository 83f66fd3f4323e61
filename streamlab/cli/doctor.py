"""`streamlab doctor`: check that everything a run needs is present."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import click

from streamlab.cli.options import Place, with_place
from streamlab.cli.output import Format, format_option, print_table
from streamlab.errors import StreamlabError
from streamlab.units import format_bytes
from streamlab.version import __version__
from streamlab.views.table import columns, tabulate

_COLUMNS = columns("check = name, status, found")
_TORCH_SECONDS = 60.0
_HUB_SECONDS = 2.0


@click.command()
@format_option()
@click.option("--ray-address", metavar="ADDRESS", help="Compare the machines of a Ray cluster.")
@with_place
def doctor(*, place: Place, ray_address: str | None, form: Format) -> None:
    """Check versions, processor, compiler, GPU, hub, data, home, disk, registry and store.

    A store outside the home is tried out: one file is put, read, listed and deleted. A `note` is
    for information only. The exit code is 1 if something is `broken`.

    \b
    Example:
      streamlab doctor
      streamlab doctor --store other-disk/diffs
    """
    findings = list(find_out(place, torch_seconds=_TORCH_SECONDS, hub_seconds=_HUB_SECONDS))
    if ray_address is not None:
        findings += check_ray(ray_address)
    print_table(tabulate("checks", "Checks", _COLUMNS, findings), form)
    broken = [finding.name for finding in findings if finding.status == "broken"]
    if broken:
        raise StreamlabError(f"runs will fail because of: {', '.join(broken)}.")


LIBRARIES = (
    "torch", "transformers", "datasets", "safetensors", "numpy", "pcodec", "pyarrow",
    "scikit-learn", "scipy", "sqlalchemy", "alembic", "pydantic", "PyYAML", "matplotlib",
)  # fmt: skip
_OLDEST_PYTHON = (3, 11)
_LOW_DISK_BYTES = 1_000_000_000  # a few checkpoints of a baseline fill this
_FULL_DISK_BYTES = 50_000_000  # less than the smallest run needs
# Instruction sets that speed up bfloat16 and matrix products, by their names on Linux.
_INSTRUCTIONS = (
    "avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16",
)  # fmt: skip
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
_PROBE = """
import json, torch
gpu = torch.cuda.is_available()
print(json.dumps({
    "gpu": torch.cuda.get_device_name(0) if gpu else None,
    "bytes": torch.cuda.get_device_properties(0).total_memory if gpu else 0,
}))
"""


@dataclass(frozen=True)
class Finding:
    """One row of the table; `broken`: a run would fail."""

    name: str
    status: Literal["ok", "note", "broken"]
    found: str


def find_out(place: Place, *, torch_seconds: float, hub_seconds: float) -> Iterator[Finding]:
    """Yield every finding; torch is loaded in its own process within `torch_seconds`."""
    yield check_python(sys.version_info[:3])
    yield Finding("streamlab", "ok", __version__)
    yield from (check_library(name) for name in LIBRARIES)
    yield Finding("processor", "ok", f"{os.cpu_count()} cores, {platform.machine()}")
    yield check_instructions(Path("/proc/cpuinfo"))
    yield check_compiler()
    yield check_torch(torch_seconds)
    yield check_hub(hub_seconds)
    yield check_data(os.environ)
    yield check_home(place.home.path)
    yield check_disk(place.home.path)
    yield check_registry(place)
    yield check_store(place)


def check_python(found: tuple[int, int, int]) -> Finding:
    """Compare Python's version with the oldest supported one."""
    text = ".".join(map(str, found))
    if found[:2] < _OLDEST_PYTHON:
        return Finding("python", "broken", f"{text}; install 3.11 or newer")
    return Finding("python", "ok", text)


def check_library(name: str) -> Finding:
    """Find a library's version without loading it."""
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "broken", f"missing; pip install {name}")


def check_instructions(cpuinfo: Path) -> Finding:
    """List the instruction sets that make bfloat16 fast; `cpuinfo` is Linux's file."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Finding("instructions", "note", "unknown on this system")
    flags: set[str] = set()
    for line in lines:
        if line.lower().startswith(("flags", "features")):
            flags.update(line.partition(":")[2].split())
    known = [name for name in _INSTRUCTIONS if name in flags]
    if _BF16 & flags:
        return Finding("instructions", "ok", ", ".join(known))
    listed = ", ".join(known) or "none that speeds up training"
    return Finding("instructions", "note", f"{listed}; no bf16, so `auto` trains in fp32")


def check_compiler() -> Finding:
    """Find the C compiler that builds the kernels."""
    found = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if found is None:
        return Finding("C compiler", "note", "none; the slower eager step is used")
    return Finding("C compiler", "ok", found)


def check_torch(seconds: float) -> Finding:
    """Load torch in its own process and look for a GPU."""
    try:
        # Runs this interpreter on a constant of this file.
        answer = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return Finding("GPU", "note", f"unknown; torch took over {seconds:.0f} s to load")
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding("GPU", "broken", f"torch cannot be loaded: {last}")
    gpu: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    if gpu["gpu"] is None:
        return Finding("GPU", "note", "none; training uses the processor")
    return Finding("GPU", "ok", f"{gpu['gpu']}, {format_bytes(gpu['bytes'])}")


def check_hub(seconds: float) -> Finding:
    """Test whether the model and data hub answers; runs work without it."""
    from streamlab.tasks.sources.hub import HubReach

    reach = HubReach(timeout_seconds=seconds)
    # In a thread that may be left behind, since a DNS lookup has no timeout.
    asking = threading.Thread(target=lambda: reach.obstacle, daemon=True)
    asking.start()
    asking.join(seconds + 1.0)
    obstacle = "The hub does not answer" if asking.is_alive() else reach.obstacle
    if obstacle is None:
        return Finding("hub", "ok", "answers")
    return Finding("hub", "note", f"{obstacle.rstrip('.')}; files and synthetic data still work")


def check_data(environment: Mapping[str, str]) -> Finding:
    """Look for the folder of real data that the shipped scenarios read."""
    folder = environment.get("STREAMLAB_DATA")
    if not folder:
        return Finding(
            "data", "note", "STREAMLAB_DATA is not set, so no folder of real data is read"
        )
    if not Path(folder).is_dir():
        return Finding(
            "data", "broken", f"STREAMLAB_DATA names {folder}, which is no folder; correct it"
        )
    return Finding("data", "ok", folder)


def check_home(home: Path) -> Finding:
    """Try to write where the home is or would be created."""
    try:
        folder = _existing(home)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("home", "broken", f"{home} cannot be written: {error.strerror}")
    made = "" if folder == home else "; the first run creates it"
    return Finding("home", "ok", f"{home}, writable{made}")


def check_disk(home: Path) -> Finding:
    """Measure the free space of the home's disk."""
    try:
        free = shutil.disk_usage(_existing(home)).free
    except OSError as error:
        return Finding("disk", "note", f"unknown: {error.strerror}")
    text = f"{format_bytes(free)} free"
    if free < _FULL_DISK_BYTES:
        return Finding("disk", "broken", f"{text}; too little for any run")
    if free < _LOW_DISK_BYTES:
        return Finding("disk", "note", f"{text}; little for baselines that keep checkpoints")
    return Finding("disk", "ok", text)


def check_registry(place: Place) -> Finding:
    """Ask the registry's database for its version and rights, and report the schema's version."""
    from streamlab.registry import schema
    from streamlab.registry.database import Database

    try:
        if place.registry is None and not place.home.has_registry:
            return Finding("registry", "ok", "none yet; the first run creates it")
        with closing(Database(place.url, read_only=True)) as database:
            server = schema.check_server(database)
            found = schema.check(database)
    except StreamlabError as error:
        return Finding("registry", "broken", str(error))
    if found is None:
        return Finding("registry", "ok", f"{server}, empty; the first run makes the tables")
    if found != schema.NEWEST:
        return Finding("registry", "note", f"{server}, version {found}; the next run upgrades it")
    return Finding("registry", "ok", f"{server}, version {found}")


def check_store(place: Place) -> Finding:
    """Put, get, list and delete one file in a store outside the home."""
    from streamlab.home.store_location import TRY_SECONDS, open_store, recorded_url

    try:
        where = place.store_url
        if where is None and (place.registry or place.home.has_registry):
            with place.open() as registry:
                where = recorded_url(registry)
        if where is None:
            return Finding("store", "ok", "in the home")
        noted = open_store(place.home, where, patience=TRY_SECONDS).try_out()
    except StreamlabError as error:
        return Finding("store", "broken", str(error))
    return Finding("store", "note" if noted else "ok", f"{where} {noted or ''}".rstrip())


def check_ray(address: str) -> Iterator[Finding]:
    """Compare the versions on every machine of a Ray cluster with those here."""
    try:
        from streamlab.stream.executors.ray import connected

        with connected(address) as nodes:
            for node in nodes:
                counted = f"{node.cpus:g} CPUs, {node.gpus:g} GPUs, {format_bytes(node.memory)}"
                status: Literal["ok", "broken"] = "broken" if node.differs else "ok"
                yield Finding(f"Ray on {node.name}", status, node.differs or counted)
    except StreamlabError as error:
        yield Finding("Ray", "broken", str(error))


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
