"""Behaviours: drawn as likely as set, and each stopped by the rule that is there for it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from admission_samples import (
    BY_RULE,
    KEYS,
    LAYOUT,
    OPEN,
    SIGNED,
    VALUE_TYPES,
    admit,
    drawn,
    head_only,
    in_own_name,
    rule_broken,
    ruled,
    submitted,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.config import Settings, validate
from streamlab.diff.format.container import decode, encode, rounded
from streamlab.diff.format.values import ValueType
from streamlab.diff.rules import Rule
from streamlab.errors import ConfigError
from streamlab.stream.admission import AdmissionContext, AdmissionSettings, content_digest
from streamlab.stream.providers.behaviours import (
    BEHAVIOURS,
    Behaviour,
    BehaviourSettings,
    draw,
    misbehave,
)
from streamlab.stream.submission import Submission

MOST = 20_000
SETTINGS = (
    AdmissionSettings(max_bytes=MOST),  # type: ignore[arg-type]
    AdmissionSettings(max_bytes=MOST, signatures="required"),  # type: ignore[arg-type]
)
SEEDS = st.integers(0, 10_000)
TYPES = st.sampled_from(VALUE_TYPES)
EARLIER = (
    in_own_name(submitted(encode(drawn(101)).data, task="same")),
    replace(in_own_name(submitted(encode(drawn(102)).data)), provider="wire", task="other"),
)
KNOWN = AdmissionContext(
    contents={content_digest(drawn(seed)): "`wire`" for seed in (101, 102)},
    public_key=KEYS.public,
)


def honest(seed: int = 0, value_type: ValueType = "bf16") -> Submission:
    return in_own_name(submitted(encode(drawn(seed), value_type=value_type).data))


def act(
    behaviour: Behaviour,
    submission: Submission,
    *,
    seed: int = 0,
    earlier: Submission | None = EARLIER[0],
) -> Submission:
    return misbehave(
        behaviour,
        submission,
        earlier=earlier,
        seed=seed,
        base=LAYOUT.fingerprint,
        session="",
        max_bytes=MOST,
        private=KEYS.private,
    )


def rules_for(behaviour: Behaviour, submission: Submission, seed: int = 0) -> tuple[str, str]:
    """Return the rules that stop a behaviour without signatures, and with them."""
    changed = act(behaviour, submission, seed=seed)
    assert changed.data != submission.data
    # Only the bytes and the signature are the provider's to choose.
    assert changed == replace(submission, data=changed.data, signature=changed.signature)
    open_, signed = (rule_broken(changed, settings, KNOWN) for settings in SETTINGS)
    return open_, signed


@settings(deadline=None)
@given(SEEDS, TYPES)
def test_a_duplicate_is_stopped_by_its_content(seed: int, value_type: ValueType) -> None:
    own = honest(seed % 100, value_type)

    assert rules_for("duplicate", own, seed) == ("duplicate", "duplicate")


def test_a_duplicate_is_no_copy_of_the_bytes() -> None:
    copies = {act("duplicate", honest(), earlier=earlier).data for earlier in EARLIER}

    contents = {content_digest(decode(copy, LAYOUT)) for copy in copies}
    assert contents == set(KNOWN.contents)
    described = replace(EARLIER[1], data=encode(replace(drawn(102), task={"task": "x"})).data)
    copy = act("duplicate", honest(), earlier=described).data
    assert copy != described.data
    assert decode(copy, LAYOUT).task == {"task": "mood"}


@settings(deadline=None)
@given(SEEDS, TYPES)
def test_an_oversized_file_is_stopped_by_its_size(seed: int, value_type: ValueType) -> None:
    assert rules_for("oversized", honest(seed, value_type)) == ("size", "size")


def test_an_oversized_file_has_nothing_else_against_it() -> None:
    assert admit(act("oversized", honest()), SIGNED)


@settings(deadline=None)
@given(SEEDS, TYPES)
def test_a_diff_of_another_base_is_stopped_by_the_base(seed: int, value_type: ValueType) -> None:
    changed = act("wrong_base", honest(seed, value_type))

    assert rules_for("wrong_base", honest(seed, value_type)) == ("base", "base")
    other = replace(LAYOUT, fingerprint=hashlib.sha256(LAYOUT.fingerprint.encode()).hexdigest())
    kept = rounded(drawn(seed), value_type=value_type).n_entries
    assert decode(changed.data, other).n_entries == kept


@settings(deadline=None)
@given(SEEDS, TYPES)
def test_a_nan_is_stopped_by_the_values(seed: int, value_type: ValueType) -> None:
    assert rules_for("nan", honest(seed, value_type), seed) == ("values", "values")


def test_a_nan_in_a_diff_of_a_head_alone_is_stopped_by_the_values() -> None:
    own = in_own_name(submitted(encode(head_only(), head_type="fp16").data))

    assert rules_for("nan", own) == ("values", "values")


@settings(deadline=None)
@given(SEEDS, TYPES)
def test_a_truncated_file_is_stopped_by_the_container(seed: int, value_type: ValueType) -> None:
    own = honest(seed, value_type)

    assert rules_for("truncated", own, seed) == ("container", "container")
    assert own.data.startswith(act("truncated", own, seed=seed).data)


@settings(deadline=None)
@given(SEEDS, TYPES)
def test_a_tampered_diff_is_stopped_by_the_signature_and_else_by_nothing_but_its_score(
    seed: int, value_type: ValueType
) -> None:
    own = honest(seed, value_type)

    tampered = act("tampered", own)

    assert rule_broken(tampered, SIGNED) == "signature"
    before, after = admit(own), admit(tampered)
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert np.array_equal(new.positions, old.positions)
        assert np.array_equal(new.values, -old.values)
    assert all(np.array_equal(after.head[name], -before.head[name]) for name in before.head)


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@pytest.mark.parametrize("rule", BY_RULE, ids=lambda rule: rule.name)
def test_a_diff_by_rule_is_forged_as_any_other(rule: Rule, value_type: ValueType) -> None:
    own = in_own_name(submitted(encode(ruled(rule), value_type=value_type).data))

    before, after = admit(own), admit(act("tampered", own))

    assert after.rule == before.rule == rule
    assert np.array_equal(after.entries, -before.entries)
    assert rules_for("nan", own) == ("values", "values")


@settings(deadline=None)
@given(SEEDS, TYPES)
def test_a_replay_is_stopped_by_the_signature(seed: int, value_type: ValueType) -> None:
    own = honest(seed % 100, value_type)

    assert rules_for("replayed", own, seed) == ("duplicate", "signature")
    assert act("replayed", own, seed=seed).data == EARLIER[0].data


def test_a_replay_for_another_version_of_the_same_task_is_stopped_by_the_signature() -> None:
    second = in_own_name(submitted(encode(drawn(5)).data, version=2))

    replay = act("replayed", second, earlier=honest())

    assert admit(honest(), SIGNED)
    assert rule_broken(replay, SIGNED) == "signature"


@pytest.mark.parametrize("behaviour", ["duplicate", "replayed"])
def test_without_an_earlier_diff_copying_is_honest(behaviour: Behaviour) -> None:
    own = honest()

    assert act(behaviour, own, earlier=None) is own


@pytest.mark.parametrize("behaviour", ["honest", "label_flip", "slow", "crash", "hang"])
def test_what_is_no_matter_of_the_bytes_leaves_them(behaviour: Behaviour) -> None:
    own = honest()

    assert act(behaviour, own) is own
    assert admit(act(behaviour, own), SIGNED, KNOWN)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_what_is_no_diff_stays_as_it_is(behaviour: Behaviour) -> None:
    own = replace(honest(), kind="checkpoint", data=b"weights")

    assert act(behaviour, own) is own


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_the_same_seed_gives_the_same_bytes(behaviour: Behaviour) -> None:
    own = honest()

    assert act(behaviour, own, seed=7) == act(behaviour, own, seed=7)


def test_without_a_key_nothing_is_signed_anew() -> None:
    own = submitted()

    changed = misbehave(
        "nan",
        own,
        earlier=None,
        seed=1,
        base=LAYOUT.fingerprint,
        session="",
        max_bytes=MOST,
        private=None,
    )

    assert changed.signature is None
    assert rule_broken(changed, OPEN) == "values"


# Drawing


def test_behaviours_are_drawn_as_likely_as_set() -> None:
    settings = BehaviourSettings(honest=0.5, duplicate=0.2, nan=0.1)
    n = 20_000

    drawn_ = [draw(settings, seed) for seed in range(n)]

    shares: dict[Behaviour, float] = {"honest": 0.7, "duplicate": 0.2, "nan": 0.1}
    for behaviour, share in shares.items():
        error = (share * (1 - share) / n) ** 0.5
        assert abs(drawn_.count(behaviour) / n - share) < 4 * error
    assert set(drawn_) == set(shares)


@settings(deadline=None)
@given(st.sampled_from(BEHAVIOURS), SEEDS)
def test_a_bare_name_is_what_a_provider_always_does(behaviour: Behaviour, seed: int) -> None:
    assert draw(BehaviourSettings.model_validate(behaviour), seed) == behaviour


@settings(deadline=None)
@given(SEEDS)
def test_nothing_set_is_honest(seed: int) -> None:
    assert draw(BehaviourSettings(), seed) == "honest"


class Provider(Settings):
    behaviour: BehaviourSettings = BehaviourSettings()


def test_settings_survive_being_written_and_read() -> None:
    for given_ in ("nan", {"nan": 0.25, "label_flip": 0.5, "flipped_labels": 0.3}):
        once = validate(Provider, {"behaviour": given_}, origin="s.yaml")

        assert Provider.model_validate(once.model_dump(mode="json")) == once


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ("evil", "behaviour: unknown behaviour; known: honest, duplicate, .*, got 'evil'"),
        ({"evil": 0.1}, "behaviour.evil: unknown key"),
        ({"nan": 1.5}, "behaviour.nan: .*at most 1, got 1.5"),
        ({"nan": -0.5}, "behaviour.nan: .*at least 0"),
        ({"nan": 0.6, "honest": 0.6}, "behaviour: the probabilities must add up to at most 1"),
        ({"slowdown": 0.5}, "behaviour.slowdown: .*at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tree: object, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        validate(Provider, {"behaviour": tree}, origin="s.yaml")


def test_probabilities_that_add_up_to_one_may_be_rounded() -> None:
    shares = dict.fromkeys(BEHAVIOURS[1:11], 0.1)
    assert sum([0.1] * 10) != 1.0

    assert BehaviourSettings.model_validate(shares).honest == 0
