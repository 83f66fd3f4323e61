"""Names of models and packages: `package:NAME[/path]`, a folder or file on disk, or a hub id.

A name that can only be a folder, or whose parent folder exists, is never looked for on the hub.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Final, Literal

from streamlab.errors import SourceError
from streamlab.units import did_you_mean

PACKAGE_PREFIX = "package:"
GGUF_SUFFIX = ".gguf"
_HUB_ID = re.compile(r"^[\w.-]+(?:/[\w.-]+)?$")
_OFFLINE_VARIABLES: Final = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})
# What a proxy or a broken gateway answers in the hub's place.
_REFUSALS: Final = frozenset({403, 407})


@dataclass(frozen=True)
class Located:
    """A named model: a folder that exists, or an id that the hub resolves."""

    kind: Literal["package", "folder", "hub"]
    target: str  # what `from_pretrained` takes
    gguf: str | None = None  # the name of the model's one file in that folder
    offline: bool = False  # to be taken from the hub's cache

    @property
    def options(self) -> dict[str, str | bool]:
        """Return what `from_pretrained` takes beside."""
        given = {} if self.gguf is None else {"gguf_file": self.gguf}
        return given | ({"local_files_only": True} if self.offline else {})


def package_path(name: str) -> Path:
    """Return the path of `NAME[/path]` inside an installed package, without importing it.

    Raises SourceError where the package is not installed or has no such path.
    """
    package, _, inside = name.removeprefix(PACKAGE_PREFIX).partition("/")
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"The package `{package}` is not installed. Install it with "
            f"`pip install {package.replace('_', '-')}`, or `pip install -e '.[demo]'` for "
            "the packages of the examples."
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    path = (folder / inside).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.exists():
        raise SourceError(
            f"The package `{package}` has no path {inside!r}. Check the path after the name."
        )
    return path


def locate_model(name: str) -> Located:
    """Find a pretrained model by `package:NAME`, folder, GGUF file or hub id.

    Raises SourceError where it is none of them.
    """
    if name.startswith(PACKAGE_PREFIX):
        return _located("package", package_path(name), name)
    if Path(name).is_dir() or (name.endswith(GGUF_SUFFIX) and Path(name).is_file()):
        return _located("folder", Path(name), name)
    refuse_missing_folder(name)
    return Located("hub", name)


def refuse_missing_folder(name: str, folder: Path = Path()) -> None:
    """Raise SourceError for the name of a base that can only be a folder, which is missing.

    `folder`: where relative paths start.
    """
    if is_path(name, folder):
        advice = near_by(name, folder) or (
            "Give a folder with a `config.json`, `package:NAME`, or a hub id such as "
            "`bert-base-cased`."
        )
        raise SourceError(f"The base {name!r} is not an existing folder. {advice}")


def is_path(name: str, folder: Path = Path()) -> bool:
    """Tell whether a name is that of a folder or file, there or not, and of nothing on the hub.

    It is no hub id, or the folder before its slash exists; relative paths start from `folder`.
    """
    if name.startswith((".", "/", "~")) or name.endswith(GGUF_SUFFIX) or not _HUB_ID.match(name):
        return True
    return "/" in name and (folder / name).parent.is_dir()


def near_by(name: str | Path, folder: Path = Path()) -> str:
    """Ask whether something of nearly the name of a missing path was meant; empty without any.

    `folder`: where relative paths start.
    """
    if str(name).startswith("~") and (home := Path(name).expanduser()).exists():
        return f"`~` has no meaning here: write `{home}`."
    path = folder / name
    try:
        above = next(place for place in path.parents if place.is_dir())
        missing = path.relative_to(above).parts[0]
        # A name without an ending is that of a folder.
        entries = [e for e in above.iterdir() if Path(missing).suffix or e.is_dir()]
    except (OSError, RuntimeError, ValueError, StopIteration):
        return ""
    start = str(above) if Path(name).is_absolute() else os.path.relpath(above, folder)
    names = sorted(entry.name for entry in entries)
    return did_you_mean(missing, names, below="" if start == "." else f"{start.rstrip('/')}/")


def hub_obstacle(
    *,
    environment: Mapping[str, str] = os.environ,
    endpoint: str | None = None,
    timeout_seconds: float = 3.0,
) -> str | None:
    """Return why the hub cannot be used, as the start of a sentence, or None where it can.

    `environment` is searched for the hub's own switches to stay offline; `endpoint` defaults to
    that of the hub's library.
    """
    from huggingface_hub import constants

    for name in _OFFLINE_VARIABLES:
        if environment.get(name, "").upper() in _TRUE:
            return f"The hub is switched off by `{name}`"
    endpoint = endpoint or str(constants.ENDPOINT)
    if not endpoint.startswith(("https://", "http://")):
        return f"The hub's address {endpoint!r} is no web address"
    request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        error.close()
        refused = error.code in _REFUSALS or error.code >= 500
        return f"The hub cannot be reached (answer {error.code})" if refused else None
    except (OSError, HTTPException, ValueError) as error:
        return f"The hub cannot be reached ({getattr(error, 'reason', error)})"


def cached_only(located: Located, revision: str | None, *, cache: Path | None = None) -> Located:
    """Return a hub model as one to take from the hub's cache where the hub does not answer.

    `cache` defaults to that of the hub's library. Raises SourceError at once where the model is
    not in it: the library would try for half a minute.
    """
    obstacle = hub_obstacle()
    if obstacle is None:
        return located
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        located.target, "config.json", cache_dir=cache, revision=revision
    )
    if isinstance(found, str):
        return replace(located, offline=True)
    near = near_by(located.target)
    raise SourceError(
        f"{obstacle}, and its local cache has no model {located.target!r}. "
        f"{near or 'Give a folder, `package:NAME`, or an id that is in the cache.'}"
    )


def _located(kind: Literal["package", "folder"], path: Path, name: str) -> Located:
    if path.is_dir():
        return Located(kind, str(_model_folder(path, name)))
    if path.suffix != GGUF_SUFFIX:
        raise SourceError(
            f"{name!r} is a file that is no model. Give a folder with a `config.json`, or a "
            f"`{GGUF_SUFFIX}` file."
        )
    return Located(kind, str(path.parent), path.name)


def _model_folder(folder: Path, name: str) -> Path:
    found = sorted(path.parent for path in folder.rglob("config.json") if _weights_in(path.parent))
    if not found:
        raise SourceError(
            f"{name!r} holds no model: no folder in it has a `config.json` beside a "
            "`model.safetensors`. Check the name; a GGUF file is given with its name."
        )
    return min(found, key=lambda path: (len(path.parts), path))


def _weights_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def weights_digest(located: Located) -> str:
    """Return the SHA-256 of a local model's weights file, in hex (of all of them in order)."""
    digest, folder = hashlib.sha256(), Path(located.target)
    paths = _weights_in(folder) if located.gguf is None else [folder / located.gguf]
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
