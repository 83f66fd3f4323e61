"""A submission, all that passes from a provider to the lab, and its Ed25519 signature.

private key    ed25519-private:<base64 of 32 bytes>    stays with the provider
public key     ed25519:<base64 of 32 bytes>            in the scenario
signed         a line that names the purpose, then the canonical JSON of
               [digest, task, version, provider, base, session]
session        the run, its lab and its seed, as `session_of` writes them
"""

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
from streamlab.registry.records import ArtifactKind, RunRecord


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The bytes of an artifact, and what its provider states; none of it is verified yet."""

    provider: str
    task: str
    version: int
    kind: ArtifactKind
    data: bytes
    declared_score: float | None = None  # the primary metric on held-out examples
    signature: bytes | None = None  # over what `signed_message` returns


SIMULATED = "simulated"  # in place of a key: a pair derived from seed and name
PRIVATE, _PUBLIC = "ed25519-private:", "ed25519:"
_KEY_BYTES = 32
_PRIME = (1 << 255) - 19
# y of the points of order 1, 2, 4 and 8 (Bernstein et al., Ed25519; libsodium refuses the same).
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_LOW_ORDER = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})
# A signature for one purpose is worthless for another.
_PURPOSE = b"streamlab submission, version 1\n"


@dataclass(frozen=True)
class KeyPair:
    """A provider's two keys as text; `repr` leaves the private one out."""

    private: str = field(repr=False)
    public: str


def generate() -> KeyPair:
    """Generate a key pair from the operating system's randomness."""
    return _pair(Ed25519PrivateKey.generate())


def simulated_keys(seed: int, provider: str) -> KeyPair:
    """Derive the key pair of a simulated provider.

    It is not secret, as it follows from the scenario; it makes signed runs repeatable.
    """
    text = canonical_json(["simulated keys", seed, provider])
    return _pair(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(text.encode()).digest()))


def checked_key(text: str) -> str:
    """Validate a public key, or SIMULATED, for settings. Raises without repeating the text."""
    if text != SIMULATED:
        try:
            _public_key(text)
        except ValueError as error:
            raise secret_problem(f"{error}; or `{SIMULATED}`") from error
    return text


def checked_private_key(text: str) -> str:
    """Return the text of a private key. Raises ValueError for anything else."""
    _raw(text, PRIVATE, "private")
    return text


Key = Annotated[str, AfterValidator(checked_key)]


def session_of(run: RunRecord, seed: int) -> str:
    """Return what tells one seed of one run in one lab from every other.

    Two labs that start the same scenario differ by the time, to the microsecond.
    """
    return canonical_json([run.name, run.scenario_digest, round(run.started_at * 1e6), seed])


def signed_message(
    digest: str, *, task: str, version: int, provider: str, base: str, session: str
) -> bytes:
    """Return the bytes that a provider signs, unambiguously.

    `digest`: SHA-256 in hex of the submission's bytes. `base`: the base's fingerprint.
    """
    return _PURPOSE + canonical_json([digest, task, version, provider, base, session]).encode()


def message_of(submission: Submission, base: str, session: str) -> bytes:
    """Return the bytes that the signature of a submission must cover."""
    return signed_message(
        hashlib.sha256(submission.data).hexdigest(),
        task=submission.task,
        version=submission.version,
        provider=submission.provider,
        base=base,
        session=session,
    )


def sign(message: bytes, private: str) -> bytes:
    """Return the signature, 64 bytes. Raises ValueError for a malformed key."""
    raw = _raw(private, PRIVATE, "private")
    return Ed25519PrivateKey.from_private_bytes(raw).sign(message)


def signed(submission: Submission, *, base: str, session: str, private: str) -> Submission:
    """Return the submission with a signature."""
    return replace(submission, signature=sign(message_of(submission, base, session), private))


def is_signed_by(message: bytes, signature: bytes, public: str) -> bool:
    """Tell whether `signature` is by the key `public`. Raises ValueError for a malformed key."""
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
    raw = _raw(text, _PUBLIC, "public")
    y = int.from_bytes(raw, "little") & ~(1 << 255)  # without the sign of x
    if y >= _PRIME or y in _LOW_ORDER:
        raise ValueError("a public key must not be of low order: anyone can sign for such a key")
    return Ed25519PublicKey.from_public_bytes(raw)


def _raw(text: str, prefix: str, which: str) -> bytes:
    """Return a key's bytes. The error never repeats the text, which may be a private key."""
    written = text.removeprefix(prefix)
    try:
        raw = base64.b64decode(written, validate=True)
    except ValueError:
        raw = b""
    # Only the canonical text, so that a key has one.
    if not text.startswith(prefix) or len(raw) != _KEY_BYTES or _encoded(raw) != written:
        hint = "; this is the private one" if text.startswith(PRIVATE) else ""
        raise ValueError(
            f"a {which} key is `{prefix}` and 44 characters of base64, as `streamlab keygen` "
            f"makes it{hint}"
        )
    return raw


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
