"""Honest diffs pass, and what is no file of its provider for this base is refused by its rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from admission_samples import (
    KEEPING,
    LAYOUT,
    OPEN,
    SIGNED,
    VALUE_TYPES,
    admit,
    drawn,
    head_only,
    in_own_name,
    rule_broken,
    submitted,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.diff.format.codec import CodecName
from streamlab.diff.format.container import decode, encode
from streamlab.diff.format.frame import read_frame
from streamlab.diff.format.head import HeadType
from streamlab.diff.format.values import ValueType
from streamlab.errors import RefusedError
from streamlab.stream.admission import (
    AdmissionContext,
    AdmissionSettings,
    check_size,
    content_digest,
)
from streamlab.stream.providers.forgeries import for_another_base, rewritten
from streamlab.stream.submission import simulated_keys

DATA = encode(drawn()).data


@pytest.mark.parametrize("head_type", ["fp32", "fp16"])
@pytest.mark.parametrize("codec", ["pcodec", "xz"])
@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_an_honest_diff_passes_however_it_is_written(
    value_type: ValueType, codec: CodecName, head_type: HeadType
) -> None:
    data = encode(drawn(), value_type=value_type, codec=codec, head_type=head_type).data

    assert admit(submitted(data)) == decode(data, LAYOUT)
    assert admit(in_own_name(submitted(data)), SIGNED) == decode(data, LAYOUT)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KEEPING))
def test_every_honest_diff_passes_the_rules_as_they_stand(seed: int, value_type: ValueType) -> None:
    diff = drawn(seed, head=bool(seed % 3))

    found = admit(submitted(encode(diff, value_type=value_type).data))

    assert content_digest(found) == content_digest(diff)


def test_a_diff_of_a_head_alone_passes() -> None:
    assert admit(submitted(encode(head_only()).data)) == head_only()


# Size


@settings(deadline=None)
@given(st.integers(1, 2 * len(DATA)))
def test_one_byte_over_the_size_is_refused(most: int) -> None:
    settings = AdmissionSettings(max_bytes=most)  # type: ignore[arg-type]

    if len(DATA) <= most:
        assert admit(submitted(DATA), settings).n_entries
    else:
        assert rule_broken(submitted(DATA), settings) == "size"


def test_the_size_can_be_asked_before_anything_is_read() -> None:
    check_size(64_000_000, OPEN)

    with pytest.raises(RefusedError, match=r"64000000 bytes .*, got 64000001") as refusal:
        check_size(64_000_001, OPEN)
    assert refusal.value.rule == "size"


# Signature


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "wire"},
        {"task": "same"},
        {"version": 2},
        {"data": encode(drawn(1)).data},
        {"signature": None},
        {"signature": b""},
        {"signature": bytes(64)},
    ],
)
def test_a_signature_holds_for_one_submission(change: dict[str, Any]) -> None:
    honest = in_own_name(submitted())

    assert admit(honest, SIGNED)
    assert rule_broken(replace(honest, **change), SIGNED) == "signature"


def test_a_provider_whose_key_is_not_known_is_refused() -> None:
    assert rule_broken(in_own_name(submitted()), SIGNED, AdmissionContext()) == "signature"


def test_a_signature_of_another_provider_is_refused() -> None:
    other = AdmissionContext(public_key=simulated_keys(1, "wire").public)

    assert rule_broken(in_own_name(submitted()), SIGNED, other) == "signature"


@settings(deadline=None)
@given(st.binary(max_size=70))
def test_junk_for_a_signature_is_refused(junk: bytes) -> None:
    assert rule_broken(submitted(DATA, signature=junk), SIGNED) == "signature"


def test_signatures_are_not_looked_at_where_none_is_asked_for() -> None:
    assert admit(submitted(signature=b"junk"), OPEN, AdmissionContext())


# Quota


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_quota_of_bytes_counts_what_comes(quota: int, held: int) -> None:
    settings = AdmissionSettings(quota_bytes=quota)  # type: ignore[arg-type]

    if held + len(DATA) <= quota:
        assert admit(submitted(DATA), settings, AdmissionContext(n_bytes=held))
    else:
        assert rule_broken(submitted(DATA), settings, AdmissionContext(n_bytes=held)) == "quota"


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, 5))
def test_a_quota_of_tasks_counts_what_comes(quota: int, held: int) -> None:
    settings = AdmissionSettings(quota_tasks=quota)

    if held < quota:
        assert admit(submitted(DATA), settings, AdmissionContext(n_tasks=held))
    else:
        assert rule_broken(submitted(DATA), settings, AdmissionContext(n_tasks=held)) == "quota"


# Container


@settings(deadline=None)
@given(st.integers(0, len(DATA) - 1))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    assert rule_broken(submitted(DATA[:length])) == "container"


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_junk_is_refused(junk: bytes) -> None:
    assert rule_broken(submitted(junk)) == "container"


@settings(deadline=None)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_file_with_one_byte_changed_is_refused(at: int, change: int) -> None:
    damaged = DATA[:at] + bytes([DATA[at] ^ change]) + DATA[at + 1 :]

    assert rule_broken(submitted(damaged)) == "container"


def test_what_is_no_diff_is_refused() -> None:
    assert rule_broken(replace(submitted(), kind="checkpoint")) == "container"


def test_a_refusal_keeps_the_name_of_the_rule_of_the_format() -> None:
    with pytest.raises(RefusedError, match=r"the rule `container`: .*the rule `content-digest`"):
        admit(submitted(DATA[:-1]))


# Base


def test_a_diff_of_another_base_is_refused() -> None:
    assert rule_broken(submitted(for_another_base(DATA))) == "base"


def test_a_diff_that_claims_another_size_of_the_base_is_refused() -> None:
    claimed = rewritten(read_frame(DATA), header={"d": LAYOUT.n_gated + 1})

    assert rule_broken(submitted(claimed)) == "base"
