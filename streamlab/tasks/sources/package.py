"""Real text inside an installed Python package, found without importing the package."""

from __future__ import annotations

from importlib import metadata

from streamlab.errors import SourceError
from streamlab.sources import PACKAGE_PREFIX, package_path
from streamlab.tasks.sources.files import read_task_folder
from streamlab.tasks.sources.readers import read_split
from streamlab.tasks.sources.records import RawData, Unavailable, joined


def read_package(name: str) -> RawData | Unavailable:
    """Read `NAME/path`: a file of rows, a folder of splits or a folder of class folders.

    A package that is not installed, or has no such path, is no error: the next source is tried.
    Raises DataError where the path is there and cannot be read.
    """
    name = name.removeprefix(PACKAGE_PREFIX)
    try:
        path = package_path(name)
    except SourceError as error:
        return Unavailable(str(error))
    # Where the package lies is this machine's affair; what it is called is everybody's.
    detail = joined(f"{PACKAGE_PREFIX}{name}", _version(name))
    if path.is_dir():
        return read_task_folder(path, "package", known_as=detail)
    return RawData(kind="package", detail=detail, train=read_split(path), dev=None)


def _version(name: str) -> str:
    """Return `package==version`, or nothing where no distribution is called like the package."""
    package = name.partition("/")[0]
    try:
        return f"{package}=={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""
