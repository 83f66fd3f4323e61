"""Names of models and packages: `package:NAME[/path]`, a folder or file on disk, or a hub id."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamlab.errors import SourceError

PACKAGE_PREFIX = "package:"
GGUF_SUFFIX = ".gguf"
_HUB_ID = re.compile(r"^[\w.-]+(?:/[\w.-]+)?$")


@dataclass(frozen=True)
class Located:
    """A named model: a folder that exists, or an id that the hub resolves."""

    kind: Literal["package", "folder", "hub"]
    target: str  # what `from_pretrained` takes
    gguf: str | None = None  # the name of the model's one file in that folder

    @property
    def options(self) -> dict[str, str]:
        """Return what `from_pretrained` takes beside."""
        return {} if self.gguf is None else {"gguf_file": self.gguf}


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
    if name.startswith((".", "/", "~")) or not _HUB_ID.match(name):
        raise SourceError(
            f"The base {name!r} is not an existing folder. Give a folder with a `config.json`, "
            "`package:NAME`, or a hub id such as `bert-base-cased`."
        )
    return Located("hub", name)


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
