"""What a diff file says of itself: the one metadata tree, version 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from streamlab.config import Settings
from streamlab.diff.format.streams import CodecName
from streamlab.diff.format.values import INTEGER_BITS, ValueType
from streamlab.diff.vector import Mode
from streamlab.errors import DiffFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT_NAME: Literal["streamlab-diff"] = "streamlab-diff"
FORMAT_VERSION: Literal[1] = 1
MAX_ENTRIES = (1 << 31) - 1  # so that a sum of 32-bit gaps fits in 63 bits

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Digests(Settings):
    """SHA-256 in hex: of each part's blocks in the file's order, and of the header's JSON.

    Together they cover every byte, so that no accident goes unnoticed even where nobody knows
    the digest of the file.
    """

    model_config = ConfigDict(strict=True)

    positions: Digest
    values: Digest
    head: Digest
    header: Digest


class Header(Settings):
    """The metadata tree: `d` backbone entries of which `k` change, and how they are written."""

    model_config = ConfigDict(strict=True)

    format: Literal["streamlab-diff"]
    version: Literal[1]
    base: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    d: Annotated[int, Field(ge=0, lt=1 << 53)]
    k: Annotated[int, Field(ge=0, le=MAX_ENTRIES)]
    codec: CodecName
    mode: Mode
    value_type: ValueType
    sha256: Digests
    task: dict[str, Any]


def read_header(tree: Mapping[str, Any]) -> Header:
    """Check the metadata tree.

    Raises DiffFormatError: `format-name`, `format-version`, `metadata-schema`.
    """
    if tree.get("format") != FORMAT_NAME:
        raise DiffFormatError(
            "format-name", f"the format must be {FORMAT_NAME!r}, got {tree.get('format')!r}."
        )
    version = tree.get("version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise DiffFormatError(
            "format-version", f"this reader knows version {FORMAT_VERSION}, got {version!r}."
        )
    try:
        header = Header.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DiffFormatError(
            "metadata-schema", f"`{place}`: {first['msg']}, got {_shortened(first['input'])}."
        ) from error
    if header.k > header.d:
        raise DiffFormatError(
            "metadata-schema", f"`k` is {header.k}, more than the {header.d} entries of `d`."
        )
    if header.mode == "replace" and header.value_type in INTEGER_BITS:
        raise DiffFormatError(
            "metadata-schema", f"{header.value_type} has scales, and replaces no weight exactly."
        )
    return header


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
