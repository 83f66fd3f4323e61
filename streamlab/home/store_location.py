"""Where a home's artifacts are: in its own folder, in another one, or behind a URL.

A run records the place, so that the commands find it without `--store`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from streamlab.errors import UsageError
from streamlab.home.folder import Home
from streamlab.home.objects import PATIENCE_SECONDS
from streamlab.home.remote_store import RemoteStore
from streamlab.home.store import ArtifactStore, FolderStore
from streamlab.registry.records import RunRecord
from streamlab.registry.registry import Registry
from streamlab.units import BYTE_UNITS, parse_amount

TRY_SECONDS = 10.0  # for which a store that is tried out may be away
CACHE_BYTES = 1 << 30  # the default bound of a home's cache
_WHERE, _ID = "store", "store_id"  # names in the environment that a run records


@dataclass(frozen=True)
class StorePlace:
    """A store outside a home, as a run records it; `id` says which one it is."""

    where: str
    id: str

    def recorded(self) -> dict[str, str]:
        """Return what a run's environment says of it."""
        return {_WHERE: self.where, _ID: self.id}


def open_store(
    home: Home, where: str | None, *, patience: float = PATIENCE_SECONDS
) -> ArtifactStore:
    """Return the store of a path or URL, or of the home; nothing is opened before it is used.

    `patience`: seconds for which a lost connection is tried again. Raises UsageError for what is
    not a path or a URL without credentials.
    """
    if where is None:
        return FolderStore(home.store)
    folder = _as_folder(where)
    if folder is not None:
        return FolderStore(folder)
    url, n_bytes = _check_url(where), _cache_bytes()
    return RemoteStore(url, home.cache, cache_bytes=n_bytes, patience=patience)


def find_store(home: Home, registry: Registry, given: str | None = None) -> ArtifactStore:
    """Return the store to read from: the one given, else the one that the last run recorded.

    Raises UsageError where one outside the home is given, and the runs have their files in it.
    """
    known = recorded_url(registry)
    store = open_store(home, given or known)
    if known is None and registry.runs.list(1) and not _is_own(store, home):
        raise _elsewhere(home, str(home.store), store)
    return store


def recorded_url(registry: Registry) -> str | None:
    """Return the place of the store that the last run recorded, None for the home's own."""
    return _recorded(registry).get(_WHERE)


def claim_store(
    home: Home, registry: Registry, given: str | None = None
) -> tuple[ArtifactStore, StorePlace | None]:
    """Return the store to change, and its place where it is outside the home.

    Raises UsageError where the registry's runs have their files elsewhere, and StoreError where
    the store belongs to another registry.
    """
    known = _recorded(registry)
    store = open_store(home, given or known.get(_WHERE))
    is_own = _is_own(store, home)
    if is_own == (_WHERE in known) and registry.runs.list(1):
        raise _elsewhere(home, known.get(_WHERE, str(home.store)), store)
    if is_own:
        return store, None
    own = known.get(_ID) or home.store_id()
    store.claim(own, is_known=_ID in known)
    return store, StorePlace(store.where, own)


def _is_own(store: ArtifactStore, home: Home) -> bool:
    return store.where in (str(home.store), str(home.store.absolute()))


def _elsewhere(home: Home, known: str, store: ArtifactStore) -> UsageError:
    return UsageError(
        f"The runs in the home {home.path} have their files in {known}, not in {store.where}. "
        "Leave `--store` and STREAMLAB_STORE out, or choose another home with `--home`."
    )


def placed(run: RunRecord, place: StorePlace | None) -> RunRecord:
    """Return an imported run with the place of its files here."""
    kept = {name: text for name, text in run.environment.items() if name not in (_WHERE, _ID)}
    return replace(run, environment=kept | ({} if place is None else place.recorded()))


def _recorded(registry: Registry) -> Mapping[str, str]:
    """Return the environment of the last run."""
    last = registry.runs.list(1)
    return last[0].environment if last else {}


def _as_folder(where: str) -> Path | None:
    """Return the folder of a path or a `file:` URL, None for another URL."""
    scheme, is_url, path = where.partition("://")
    if not is_url:
        return Path(where).absolute()
    return Path(path).absolute() if scheme.lower() in ("file", "local") else None


def _check_url(url: str) -> str:
    """Return a URL without its last slash. Raises UsageError where it may hold a secret."""
    scheme, _, rest = url.partition("://")
    if "@" in rest or "?" in rest or "#" in rest or "::" in url:
        raise UsageError(
            f"The store's URL `{scheme}://...` has more than a name and a prefix (`@`, `?`, `#` or "
            "`::`). Write `s3://BUCKET/PREFIX`, and give credentials in the environment or in "
            "AWS's own files: a URL is recorded and shown."
        )
    if not rest.strip("/") or not rest.isprintable():
        raise UsageError(f"The store's URL {url!r} names no bucket. Write `s3://BUCKET/PREFIX`.")
    return url.rstrip("/")


def _cache_bytes() -> int:
    text = os.environ.get("STREAMLAB_STORE_CACHE", "").strip()
    amount = parse_amount(text, BYTE_UNITS) if text else CACHE_BYTES
    if text == "0":
        return 0
    if not isinstance(amount, int) or amount < 0:
        raise UsageError(
            f"STREAMLAB_STORE_CACHE takes bytes, as 64MB, 1.5GiB or 0 for no cache, got {text!r}."
        )
    return amount
