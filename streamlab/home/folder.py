"""The home folder: its registry, store, curves, figures and reports."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from streamlab.errors import RegistryError, StoreError, UsageError
from streamlab.files import (
    disk_error_text,
    has_room,
    read_text,
    refuse_link,
    write_atomically,
)
from streamlab.home.curves import short_name

_RESERVE_BYTES = 1 << 20
_NO_REGISTRY = (
    "Name another home with `--home` or STREAMLAB_HOME, or make one with "
    "`streamlab run SCENARIO.yaml`."
)


@dataclass(frozen=True)
class Home:
    """The paths inside a home; nothing is created before `create`."""

    path: Path

    @property
    def registry_url(self) -> str:
        """Return the SQLAlchemy URL of the home's own database."""
        # Here, so that a home alone does not load SQLAlchemy.
        from streamlab.registry.backends import default_url

        return default_url(self.path / "registry.db")

    @property
    def store(self) -> Path:
        """Return the folder of artifacts."""
        return self.path / "store"

    @property
    def cache(self) -> Path:
        """Return the folder of copies from a store that is not on this machine."""
        return self.path / "cache"

    @property
    def stages(self) -> Path:
        """Return the folder of training stages that the cells of a study share."""
        return self.path / "stages"

    def store_id(self) -> str:
        """Return the id under which this home uses a store outside it; made with the first use."""
        file = self.path / ".store-id"
        with suppress(FileExistsError):
            if not file.exists():
                write_atomically(file, uuid.uuid4().hex.encode(), replace=False)
        return read_text(file, most_bytes=32)

    @property
    def curves(self) -> Path:
        """Return the folder of loss and density curves."""
        return self.path / "curves"

    @property
    def tracking(self) -> Path:
        """Return the folder of trackers' files, one folder each; created by the first one."""
        return self.path / "tracking"

    @property
    def quarantine(self) -> Path:
        """Return the folder of submissions refused by admission; created with the first one."""
        return self.path / "quarantine"

    def quarantine_of(self, provider: str) -> Path:
        """Return the folder of one provider's refused submissions, named by digest."""
        # Dots are quoted too, so that no name leads out of the folder.
        return self.quarantine / short_name(quote(provider, safe="").replace(".", "%2E"))

    @property
    def figures(self) -> Path:
        """Return the folder of figures."""
        return self.path / "figures"

    def figures_of(self, run: str) -> Path:
        """Return the folder of one run's figures."""
        folder = self.figures / _plain(run)
        refuse_link(folder)
        return folder

    @property
    def reports(self) -> Path:
        """Return the folder of reports."""
        return self.path / "reports"

    def report_of(self, run: str) -> Path:
        """Return the file of one run's report."""
        return self.reports / f"{_plain(run)}.html"

    @property
    def has_registry(self) -> bool:
        """Return whether the registry's file exists. Raises StoreError if access is denied."""
        file = self.path / "registry.db"
        try:
            return file.is_file()
        except OSError as error:
            raise _unusable(error, file) from error

    def require_registry(self, hint: str = _NO_REGISTRY) -> None:
        """Raise RegistryError where the home has no registry; `hint` says what to do."""
        self.refuse_links()
        if not self.has_registry:
            raise RegistryError(f"There is no registry in the home {self.path}. {hint}")

    def refuse_links(self) -> None:
        """Raise StoreError where a folder of the home is a link, which may lead out of it."""
        folders = (self.store, self.cache, self.curves, self.figures, self.reports)
        for folder in (*folders, self.quarantine, self.stages, self.tracking):
            refuse_link(folder)

    def create(self) -> None:
        """Create missing folders and check that each is writable.

        Raises StoreError where one cannot be created or written to, or the disk is full.
        """
        self.refuse_links()
        for folder in (self.path, self.store, self.curves, self.figures, self.reports):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder) as probe:
                    probe.write(b"\0")
                    probe.flush()
            except OSError as error:
                raise _unusable(error, folder) from error
        self._keep_reserve()

    @contextmanager
    def reserve_freed(self, needed: bool = True) -> Iterator[None]:
        """Give the reserve to a block that is to free space, where the disk is full."""
        if needed and not has_room(self.path, _RESERVE_BYTES):
            with suppress(OSError):
                self._reserve.unlink()
        try:
            yield
        finally:
            if needed:
                self._keep_reserve()

    @property
    def _reserve(self) -> Path:
        return self.path / ".reserve"

    def _keep_reserve(self) -> None:
        """Take the space without which nothing could be removed from a full disk."""
        here = self.path.is_dir() and not self._reserve.exists()
        if here and has_room(self.path, 2 * _RESERVE_BYTES):
            with suppress(StoreError, UsageError):
                write_atomically(self._reserve, b"\0" * _RESERVE_BYTES)


def _unusable(error: OSError, path: Path) -> StoreError:
    text = disk_error_text(error, path)
    return StoreError(f"The home cannot be used. {text} Choose another home with `--home`.")


def _plain(run: str) -> str:
    """Return a run's name, which may be anything in an import, as a safe file name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", run).lstrip(".")[:100] or "run"


def find_file_bytes(url: str) -> int | None:
    """Return the bytes of a registry's file and its log; None if it is not a file."""
    from streamlab.registry.backends import backend_of

    try:
        return backend_of(url).file_bytes() or None
    except RegistryError:  # not a database that this program opens
        return None


def empty_file_bytes() -> int:
    """Return the bytes of an empty registry, by creating a temporary one."""
    from streamlab.registry.registry import Registry

    with tempfile.TemporaryDirectory(prefix="streamlab-empty-") as folder:
        home = Home(Path(folder))
        Registry.open(home.registry_url, clock=lambda: 0.0).close()
        return (home.path / "registry.db").stat().st_size
