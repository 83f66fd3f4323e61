"""Objects below a URL of any fsspec file system; the only file that imports fsspec and s3fs.

Each call is tried again with growing pauses while the connection is lost or the server asks for
patience, and raises StoreError in the end. Folders mean nothing: an object is there or not.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache, cached_property
from typing import Any, TypeVar

from streamlab.errors import StoreError, UsageError

PATIENCE_SECONDS = 120.0  # for which a lost connection is tried again
_LONGEST_PAUSE = 10.0
_COPY_LIMIT = 5 * 2**30  # bytes that S3 copies in one request
_CALL_SECONDS = 60.0  # that one request may take, and one more for each of
_SLOW_BYTES = 1 << 18
_PART_BYTES = 50 * 2**20  # of an upload in parts, from twice as many on
_AGAIN = {408, 409, 429, 500, 502, 503, 504}  # states in which HTTP asks for another try
_CODES_AGAIN = {"RequestTimeout", "SlowDown", "ConditionalRequestConflict", "OperationAborted"}
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
_SECRET_PARTS = re.compile(r"(?i)((?:signature|credential|security-token)=|//)[^&\s/@]+@?")

T = TypeVar("T")


@dataclass(frozen=True)
class Object:
    """One object: its name below the URL, and what a listing says of it."""

    name: str
    n_bytes: int
    modified_at: float  # by the server's clock, in whole seconds
    tag: str | None = None  # changes with the content


@dataclass(frozen=True)
class Upload:
    """An upload in parts that was not completed."""

    name: str
    id: str
    began_at: float


class Objects:
    """Objects of any file system that fsspec knows; `clock` is this machine's, in seconds."""

    def __init__(self, url: str, *, patience: float, clock: Callable[[], float]) -> None:
        self.url = url
        self.root = url.partition("://")[2]
        self._patience = patience
        self._clock = clock

    @cached_property
    def fs(self) -> Any:
        """Return fsspec's file system. Raises UsageError where its package is missing."""
        return _file_system(self.url.partition("://")[0])

    def create(self, name: str, data: bytes) -> bool:
        """Write a new object; return False where one is there, which then stays as it is.

        An object that an earlier try of this call has written counts as new.
        """
        tries = 0

        def attempt() -> bool:
            nonlocal tries
            tries += 1
            try:
                self._create(self._path(name), data)
            except FileExistsError:
                return tries > 1 and self._read(name, len(data)) == data
            return True

        return self._retried(attempt)

    def overwrite(self, name: str, data: bytes) -> None:
        """Write an object, whether it exists or not."""
        self._retried(lambda: self._write(self._path(name), data, mode="overwrite"))

    def touch(self, name: str, data: bytes) -> None:
        """Set the time of an object that holds `data` to now."""
        self.overwrite(name, data)

    def read(self, name: str, most_bytes: int) -> bytes:
        """Read an object. Raises FileNotFoundError, and StoreError for more than `most_bytes`."""
        return self._retried(lambda: self._read(name, most_bytes))

    def find(self, name: str) -> Object | None:
        """Return what the server says of an object."""
        try:
            return self._retried(lambda: self._find(name))
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Delete an object, if it exists."""
        with suppress(FileNotFoundError):
            self._retried(lambda: self.fs.rm_file(self._path(name)))

    def list(self) -> Iterator[Object]:
        """Yield every object in ascending order, with one folder of names in memory at a time."""
        for info in self._children(self.root):
            if info["type"] == "directory":
                yield from map(self._object, self._children(info["name"]))
            else:
                yield self._object(info)

    def uploads(self) -> Iterator[Upload]:
        """Yield the uploads in parts that were begun and not completed."""
        return iter(())

    def abort(self, upload: Upload) -> None:
        """Give up an upload in parts, if it still exists."""

    @cached_property
    def clock_ahead(self) -> float:
        """Return the seconds by which the server's clock is ahead of this machine's."""
        return 0.0

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _create(self, path: str, data: bytes) -> None:
        self._write(path, data, mode="create")

    def _write(self, path: str, data: bytes, *, mode: str) -> None:
        self.fs.pipe_file(path, data, mode=mode)

    def _find(self, name: str) -> Object:
        info = self.fs.info(self._path(name))
        if info["type"] != "file":
            raise FileNotFoundError(name)
        return self._object(info)

    def _read(self, name: str, most_bytes: int) -> bytes:
        n_bytes = self._find(name).n_bytes
        self._refuse_large(name, n_bytes, most_bytes)
        data: bytes = self.fs.cat_file(self._path(name))
        return data

    def _refuse_large(self, name: str, n_bytes: int, most_bytes: int) -> None:
        if n_bytes > most_bytes:
            raise StoreError(
                f"{self.url}/{name} has {n_bytes:,} bytes, more than the {most_bytes:,} that it "
                "may have. Remove it and run again."
            )

    def _children(self, folder: str) -> Iterable[Mapping[str, Any]]:
        def attempt() -> list[Mapping[str, Any]]:
            return sorted(self.fs.ls(folder, detail=True), key=lambda info: str(info["name"]))

        with suppress(FileNotFoundError):
            return self._retried(attempt)
        return ()

    def _object(self, info: Mapping[str, Any]) -> Object:
        name = self.fs._strip_protocol(info["name"]).removeprefix(self._stripped_root + "/")
        times = (info.get(key) for key in ("LastModified", "mtime", "created", "updated"))
        return Object(name, int(info["size"] or 0), max(map(_seconds, times)), info.get("ETag"))

    @cached_property
    def _stripped_root(self) -> str:
        return str(self.fs._strip_protocol(self.url))

    def _retried(self, attempt: Callable[[], T]) -> T:
        """Return what a call returns, tried again while the connection is lost."""
        began, pause = time.monotonic(), 0.1
        while True:
            try:
                return attempt()
            except (FileNotFoundError, StoreError, UsageError) as error:
                self._refuse_missing_bucket(error)
                raise
            except Exception as error:
                if not self._is_passing(error):
                    raise StoreError(self._text(error)) from error
                if time.monotonic() + pause > began + self._patience:
                    raise StoreError(self._lost(error)) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _is_passing(self, error: Exception) -> bool:
        return isinstance(error, (ConnectionError, TimeoutError))

    def _refuse_missing_bucket(self, error: Exception) -> None:
        """Raise StoreError where not the object but all of the store is missing."""
        if _code(error) == "NoSuchBucket":
            raise StoreError(
                f"There is no bucket for the store {self.url}. Create it, or correct the name."
            ) from error

    def _lost(self, error: Exception) -> str:
        return (
            f"The store {self.url} has not answered for {self._patience:.0f} seconds "
            f"({_masked(error)}). Check the network and the endpoint; a run is continued with "
            "`--resume`."
        )

    def _text(self, error: Exception) -> str:
        if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
            return (
                f"The store {self.url} refuses access: {_masked(error)}. Check the credentials in "
                "the environment or in AWS's own files, and that they may get, put, list and "
                "delete objects there."
            )
        return f"The store {self.url} cannot be used: {_masked(error)}."


class S3Objects(Objects):
    """Objects of a server that speaks S3: conditional puts, listings by page, copies in place."""

    @cached_property
    def fs(self) -> Any:
        """Return s3fs's file system, one for all stores on a server."""
        names = [name for name in os.environ if name.startswith(("AWS_", "STREAMLAB_S3_"))]
        # Not that of the process which this one was forked from: it would hang.
        return _connect(os.getpid(), tuple((name, os.environ[name]) for name in sorted(names)))

    @cached_property
    def _bucket(self) -> str:
        return str(self.fs.split_path(self.url + "/")[0])

    @cached_property
    def _prefix(self) -> str:
        return str(self.fs.split_path(self.url + "/")[1])

    def touch(self, name: str, data: bytes) -> None:
        """Copy an object onto itself, which is done by the server; a large one is written."""
        if len(data) > _COPY_LIMIT:
            self.overwrite(name, data)
            return
        where = self._where(name)
        self._call(
            "copy_object", **where, CopySource=where, MetadataDirective="REPLACE", Metadata={}
        )

    def delete(self, name: str) -> None:
        """Delete an object, if it exists."""
        self._call("delete_object", **self._where(name))

    def list(self) -> Iterator[Object]:
        """Yield every object in ascending order, with one page of them in memory at a time."""
        more: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Bucket=self._bucket, Prefix=self._prefix, **more)
            for found in page.get("Contents", ()):
                yield self._found(found["Key"].removeprefix(self._prefix), found["Size"], found)
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def uploads(self) -> Iterator[Upload]:
        """Yield the uploads in parts that were begun and not completed, page by page."""
        more: dict[str, str] = {}
        while True:
            page = self._call(
                "list_multipart_uploads", Bucket=self._bucket, Prefix=self._prefix, **more
            )
            for found in page.get("Uploads", ()):
                name = found["Key"].removeprefix(self._prefix)
                yield Upload(name, found["UploadId"], _seconds(found["Initiated"]))
            if not page.get("IsTruncated"):
                return
            more = {
                "KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"],
            }  # fmt: skip

    def abort(self, upload: Upload) -> None:
        """Give up an upload in parts, if it still exists."""
        with suppress(FileNotFoundError):
            where = self._where(upload.name)
            self._call("abort_multipart_upload", **where, UploadId=upload.id)

    @cached_property
    def clock_ahead(self) -> float:
        """Return the seconds by which the server's clock is ahead of this machine's."""
        page = self._call("list_objects_v2", Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        date = page["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is None:
            return 0.0
        # Dates are in whole seconds, and so is the answer: it is the same for all processes.
        return float(round(parsedate_to_datetime(date).timestamp() + 0.5 - self._clock()))

    def _where(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    def _call(self, method: str, **given: Any) -> Any:
        return self._retried(lambda: self._request(method, **given))

    def _request(self, method: str, **given: Any) -> Any:
        return self._awaited(0, self.fs._call_s3, method, **given)

    def _awaited(self, n_bytes: int, call: Callable[..., Awaitable[T]], *args: Any, **kw: Any) -> T:
        """Return what a call of s3fs returns; it is cancelled where it takes too long."""
        from fsspec.asyn import sync

        async def bounded() -> T:
            return await asyncio.wait_for(call(*args, **kw), _seconds_for(n_bytes))

        result: T = sync(self.fs.loop, bounded)
        return result

    def _write(self, path: str, data: bytes, *, mode: str) -> None:
        parts = {"mode": mode, "chunksize": _PART_BYTES}
        self._awaited(len(data), self.fs._pipe_file, path, data, **parts)

    def _create(self, path: str, data: bytes) -> None:
        try:
            self._write(path, data, mode="create")
        except OSError as error:
            status = _status(error)
            if status == 412:
                raise FileExistsError(path) from error
            if status != 501:
                raise
            # A server without conditional puts; what it overwrites has the same digest.
            if self._is_there(path):
                raise FileExistsError(path) from error
            self._write(path, data, mode="overwrite")

    def _is_there(self, path: str) -> bool:
        try:
            self._find(path.removeprefix(self.root + "/"))
        except FileNotFoundError:
            return False
        return True

    def _find(self, name: str) -> Object:
        found = self._request("head_object", **self._where(name))
        return self._found(name, found["ContentLength"], found)

    def _found(self, name: str, n_bytes: int, found: Mapping[str, Any]) -> Object:
        return Object(name, n_bytes, _seconds(found["LastModified"]), found.get("ETag"))

    def _read(self, name: str, most_bytes: int) -> bytes:
        answer = self._request("get_object", **self._where(name))
        n_bytes = answer["ContentLength"]

        async def read() -> bytes:
            async with answer["Body"] as body:
                self._refuse_large(name, n_bytes, most_bytes)
                data: bytes = await body.read()
            return data

        return self._awaited(n_bytes, read)

    def _is_passing(self, error: Exception) -> bool:
        status = _status(error)
        if status is not None:
            return status in _AGAIN or _code(error) in _CODES_AGAIN
        return super()._is_passing(error) or isinstance(error, self._connection_errors)

    @cached_property
    def _connection_errors(self) -> tuple[type[Exception], ...]:
        import aiohttp
        from botocore import exceptions as botocore

        broken = (botocore.ConnectionError, botocore.HTTPClientError)
        return (*broken, botocore.IncompleteReadError, aiohttp.ClientError)


def open_objects(url: str, *, patience: float, clock: Callable[[], float]) -> Objects:
    """Return the objects below a URL; nothing is imported or connected before they are used."""
    kind = S3Objects if url.partition("://")[0].lower() in ("s3", "s3a") else Objects
    return kind(url, patience=patience, clock=clock)


@cache
def _connect(_process: int, _settings: tuple[tuple[str, str], ...]) -> Any:
    """Return s3fs's file system for a process and its settings; it tries each call once."""
    waits = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}
    made = _file_system("s3", endpoint_url=_endpoint(), config_kwargs=waits)
    made.retries = 1  # all further ones are made by `_retried`
    return made


def _file_system(protocol: str, **options: Any) -> Any:
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        extra = "Install it: pip install 'streamlab[s3]'" if protocol == "s3" else str(error)
        raise UsageError(
            f"A store at `{protocol}://` needs a package that is not installed. {extra}."
        ) from error
    except ValueError as error:
        raise UsageError(
            f"`{protocol}://` is not a kind of store. Give a folder, `s3://BUCKET/PREFIX` or "
            "another URL that fsspec knows."
        ) from error
    return kind(skip_instance_cache=True, use_listings_cache=False, **options)


def _seconds_for(n_bytes: int) -> float:
    """Return how long a request may take that carries so many bytes."""
    return _CALL_SECONDS + n_bytes / _SLOW_BYTES


def _endpoint() -> str | None:
    """Return the server of STREAMLAB_S3_ENDPOINT; AWS's own variables are read by botocore."""
    text = os.environ.get("STREAMLAB_S3_ENDPOINT") or None
    names = ("STREAMLAB_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if any("@" in os.environ.get(name, "") for name in names):
        raise UsageError(
            "The S3 endpoint has credentials before `@`. Give them by AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY or in AWS's own files instead."
        )
    return text


def _seconds(moment: object) -> float:
    """Return a moment as seconds since the epoch, whole ones, as S3 tells them."""
    if isinstance(moment, datetime):
        return float(int(moment.timestamp()))
    return float(int(moment)) if isinstance(moment, (int, float)) else 0.0


def _response(error: BaseException | None) -> Mapping[str, Any]:
    """Return the server's answer that an error, or the cause of one, comes from."""
    while error is not None:
        found = getattr(error, "response", None)
        if isinstance(found, Mapping):
            return found
        error = error.__cause__
    return {}


def _status(error: Exception) -> int | None:
    status: int | None = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _code(error: Exception) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def _masked(error: Exception) -> str:
    """Return an error's text in one line, without anything secret."""
    text = " ".join(str(error).split()) or type(error).__name__
    for value in (os.environ.get(name) for name in _SECRETS):
        text = text.replace(value, "***") if value else text
    return _SECRET_PARTS.sub(_mask, text)[:500].rstrip(".")


def _mask(found: re.Match[str]) -> str:
    """Mask the value of a signature, and what is before `@` in a URL."""
    whole, name = found[0], found[1]
    if name == "//":
        return "//***@" if whole.endswith("@") else whole
    return f"{name}***"
