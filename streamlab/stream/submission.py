"""A submission: all that crosses from a provider to the lab."""

from __future__ import annotations

from dataclasses import dataclass

from streamlab.registry.records import ArtifactKind


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The bytes of an artifact, and what its provider says of them; none of it is believed yet."""

    provider: str
    task: str
    version: int
    kind: ArtifactKind
    data: bytes
    declared_score: float | None = None  # the primary metric on rows that the provider held back
    signature: bytes | None = None  # Ed25519, over what `signing.signed_message` returns
