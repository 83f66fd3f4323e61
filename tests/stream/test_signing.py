"""Signatures: they hold for what was signed and for nothing else."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from admission_samples import LAYOUT, in_own_name, submitted
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.config import Settings, validate
from streamlab.errors import ConfigError
from streamlab.stream.submission import (
    Key,
    checked_key,
    generate,
    is_signed_by,
    message_of,
    sign,
    signed_message,
    simulated_keys,
)

KEYS = simulated_keys(1, "press")
PARTS = st.tuples(st.text(), st.text(), st.integers(), st.text(), st.text(), st.text())


def message(digest: str, task: str, version: int, provider: str, base: str, session: str) -> bytes:
    return signed_message(
        digest, task=task, version=version, provider=provider, base=base, session=session
    )


@settings(deadline=None)
@given(PARTS, PARTS)
def test_two_submissions_have_one_message_only_if_they_agree_in_all_parts(
    one: tuple[str, str, int, str, str, str], other: tuple[str, str, int, str, str, str]
) -> None:
    assert (message(*one) == message(*other)) == (one == other)


def test_text_that_runs_over_into_the_next_part_gives_another_message() -> None:
    assert message("d", 'a",1,"b', 1, "c", "e", "s") != message("d", "a", 1, 'b",1,"c', "e", "s")


@settings(deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_signature_holds_for_its_message_only(one: bytes, other: bytes) -> None:
    assert is_signed_by(other, sign(one, KEYS.private), KEYS.public) == (one == other)


@settings(deadline=None)
@given(st.binary(max_size=70))
def test_bytes_that_are_no_signature_hold_for_nothing(junk: bytes) -> None:
    assert not is_signed_by(b"m", junk, KEYS.public)


def test_a_signature_of_another_key_does_not_hold() -> None:
    assert not is_signed_by(b"m", sign(b"m", generate().private), KEYS.public)


@pytest.mark.parametrize(
    "change", [{"provider": "wire"}, {"task": "same"}, {"version": 2}, {"data": b"other"}]
)
def test_what_is_signed_covers_bytes_and_names(change: dict[str, Any]) -> None:
    honest = in_own_name(submitted())

    assert honest.signature is not None
    assert is_signed_by(message_of(honest, LAYOUT.fingerprint, ""), honest.signature, KEYS.public)
    other = message_of(replace(honest, **change), LAYOUT.fingerprint, "")
    assert not is_signed_by(other, honest.signature, KEYS.public)
    assert not is_signed_by(message_of(honest, "cd" * 32, ""), honest.signature, KEYS.public)
    elsewhere = message_of(honest, LAYOUT.fingerprint, "another run, seed or lab")
    assert not is_signed_by(elsewhere, honest.signature, KEYS.public)


def test_drawn_keys_differ_and_derived_ones_follow_from_seed_and_provider() -> None:
    assert generate().public != generate().public
    assert simulated_keys(1, "press") == KEYS
    others = {simulated_keys(2, "press").public, simulated_keys(1, "wire").public, KEYS.public}
    assert len(others) == 3


def test_a_printed_pair_does_not_show_its_private_key() -> None:
    assert KEYS.private not in repr(KEYS)
    assert KEYS.public in repr(KEYS)


def test_a_public_key_is_read_as_it_is_written() -> None:
    assert KEYS.public.startswith("ed25519:")
    assert checked_key(KEYS.public) == KEYS.public


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519:",
        KEYS.private,
        KEYS.public.removeprefix("ed25519:"),
        KEYS.public + "=",
        KEYS.public + "\n",
        KEYS.public[:-1],
        "ed25519:" + base64.b64encode(bytes(31)).decode(),
        "ed25519:" + base64.b64encode(bytes(33)).decode(),
        "ed25519:" + "é" * 44,
    ],
)
def test_what_is_no_public_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="a public key is") as refusal:
        checked_key(text)

    assert KEYS.private not in str(refusal.value)
    assert ("this is the private one" in str(refusal.value)) == (text == KEYS.private)


ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"


@pytest.mark.parametrize(
    "point",
    [
        bytes(32),
        b"\1" + bytes(31),
        b"\xec" + b"\xff" * 30 + b"\x7f",
        bytes.fromhex(ORDER_8),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        b"\xed" + b"\xff" * 30 + b"\x7f",  # the first two again, by numbers beyond the field
        b"\xee" + b"\xff" * 30 + b"\x7f",
    ],
)
@pytest.mark.parametrize("sign_of_x", [0, 0x80])
def test_a_key_of_low_order_is_refused(point: bytes, sign_of_x: int) -> None:
    raw = point[:31] + bytes([point[31] | sign_of_x])

    with pytest.raises(ValueError, match="must not be of low order"):
        checked_key("ed25519:" + base64.b64encode(raw).decode())


def test_a_key_has_one_spelling() -> None:
    text = "ed25519:" + base64.b64encode(b"\xff" * 32).decode()
    assert text.endswith("8=")

    with pytest.raises(ValueError, match="a public key is"):
        checked_key(text[:-2] + "9=")  # the same bytes to a reader that is not strict


def test_a_public_key_does_not_sign() -> None:
    with pytest.raises(ValueError, match="a private key is"):
        sign(b"m", KEYS.public)


class Provider(Settings):
    key: Key | None = None


def test_settings_take_a_public_key_and_refuse_what_is_none() -> None:
    assert validate(Provider, {"key": KEYS.public}, origin="s.yaml").key == KEYS.public
    assert validate(Provider, {"key": "simulated"}, origin="s.yaml").key == "simulated"
    with pytest.raises(ConfigError, match="key: a public key is"):
        validate(Provider, {"key": "ed25519:short"}, origin="s.yaml")


def test_a_private_key_put_in_place_of_the_public_one_is_not_shown_to_whoever_looks_on() -> None:
    with pytest.raises(ConfigError, match="this is the private one") as refusal:
        validate(Provider, {"key": KEYS.private}, origin="s.yaml")

    assert KEYS.private.partition(":")[2] not in str(refusal.value)
    assert len(refusal.value.problems) == 1
