"""A submission: all that crosses from a provider to the lab."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AfterValidator

from streamlab.config import secret_problem
from streamlab.hashing import canonical_json
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


SIMULATED = "simulated"  # in place of a key: a pair derived from the seed and the name
PRIVATE, _PUBLIC = "ed25519-private:", "ed25519:"
_KEY_BYTES = 32
# What is signed for one purpose says nothing for another.
_PURPOSE = b"streamlab submission, version 1\n"


@dataclass(frozen=True)
class KeyPair:
    """A provider's two keys as text; the private one is left out when it is printed."""

    private: str = field(repr=False)
    public: str


def generate() -> KeyPair:
    """Draw a key pair from the operating system's randomness."""
    return _pair(Ed25519PrivateKey.generate())


def simulated_keys(seed: int, provider: str) -> KeyPair:
    """Derive the key pair of a simulated provider.

    No secret: whoever knows the scenario has it. It stands in for a real one where a run has to
    give the same bytes again.
    """
    text = canonical_json(["simulated keys", seed, provider])
    return _pair(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(text.encode()).digest()))


def checked_key(text: str) -> str:
    """Return a public key, or SIMULATED, as it is; for settings, whose author may mistake keys."""
    if text != SIMULATED:
        try:
            _public_key(text)
        except ValueError as error:
            raise secret_problem(f"{error}; or `{SIMULATED}`") from error
    return text


def checked_private_key(text: str) -> str:
    """Return a private key's text as it is. Raises ValueError where it is none."""
    _raw(text, PRIVATE, "private")
    return text


Key = Annotated[str, AfterValidator(checked_key)]


def signed_message(digest: str, *, task: str, version: int, provider: str, base: str) -> bytes:
    """Return the bytes that a provider signs: each part has one place, and none can run over.

    `digest`: SHA-256 in hex of the submission's bytes. `base`: the base's fingerprint.
    """
    return _PURPOSE + canonical_json([digest, task, version, provider, base]).encode()


def message_of(submission: Submission, base: str) -> bytes:
    """Return what a signature over `submission` has to be a signature of."""
    return signed_message(
        hashlib.sha256(submission.data).hexdigest(),
        task=submission.task,
        version=submission.version,
        provider=submission.provider,
        base=base,
    )


def sign(message: bytes, private: str) -> bytes:
    """Return the signature, 64 bytes. Raises ValueError where `private` is no private key."""
    raw = _raw(private, PRIVATE, "private")
    return Ed25519PrivateKey.from_private_bytes(raw).sign(message)


def signed(submission: Submission, *, base: str, private: str) -> Submission:
    """Return the submission with a signature over all that is signed of it."""
    return replace(submission, signature=sign(message_of(submission, base), private))


def is_signed_by(message: bytes, signature: bytes, public: str) -> bool:
    """Tell whether `signature` is that of `public`. Raises ValueError where that is no key."""
    try:
        _public_key(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _pair(key: Ed25519PrivateKey) -> KeyPair:
    return KeyPair(
        PRIVATE + base64.b64encode(key.private_bytes_raw()).decode(),
        _PUBLIC + base64.b64encode(key.public_key().public_bytes_raw()).decode(),
    )


def _public_key(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(_raw(text, _PUBLIC, "public"))


def _raw(text: str, prefix: str, which: str) -> bytes:
    """Return a key's bytes; a refusal never repeats the text, which may be a private key."""
    written = text.removeprefix(prefix)
    try:
        raw = base64.b64decode(written, validate=True)
    except ValueError:
        raw = b""
    # Written one way only, so that one key is not two texts.
    if not text.startswith(prefix) or len(raw) != _KEY_BYTES or _encoded(raw) != written:
        hint = "; this is the private one" if text.startswith(PRIVATE) else ""
        raise ValueError(
            f"a {which} key is `{prefix}` and 44 characters of base64, as `streamlab keygen` "
            f"makes it{hint}"
        )
    return raw


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
