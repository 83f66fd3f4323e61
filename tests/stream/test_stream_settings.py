"""What a scenario says of hostile providers, admission and a device, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stream_samples import Lab, carry_out

from streamlab.errors import ConfigError, UsageError
from streamlab.stream.scenario import Scenario, load_scenario
from streamlab.stream.submission import generate, is_signed_by, sign


def loaded(lab: Lab, **settings: Any) -> Scenario:
    return load_scenario(lab.write(lab.tree(name="settings", **settings))).scenario


def with_press(lab: Lab, **settings: Any) -> Scenario:
    tree = lab.tree(name="settings")
    execution = settings.pop("execution", None)
    tree["providers"]["press"] |= settings
    return load_scenario(lab.write(tree | ({"execution": execution} if execution else {}))).scenario


def test_a_bound_that_would_refuse_every_honest_diff_is_refused(lab: Lab) -> None:
    method = {"name": "diff_pruning", "target_density": 0.2}

    with pytest.raises(ConfigError, match=r"admission\.max_density: .*at least .*0\.2"):
        loaded(lab, defaults={"method": method})

    wide = loaded(lab, defaults={"method": method}, admission={"max_density": 0.2})
    assert wide.admission.max_density == 0.2


def test_a_provider_that_hangs_needs_a_time_limit(lab: Lab) -> None:
    with pytest.raises(ConfigError, match=r"press\.behaviour\.hang: needs .*timeout_seconds"):
        with_press(lab, behaviour="hang", execution={"executor": "processes"})

    limited = {"executor": "processes", "timeout_seconds": 5}
    assert with_press(lab, behaviour="hang", execution=limited).execution.timeout_seconds == 5


def test_without_a_budget_there_is_no_device(lab: Lab) -> None:
    assert loaded(lab).storage.budget is None

    device = loaded(lab, storage={"budget": "64MB", "policy": "evict_worst"}).storage
    assert (device.budget, device.policy) == (64_000_000, "evict_worst")


def test_how_arrivals_are_executed_is_no_part_of_the_digest_of_a_scenario(lab: Lab) -> None:
    path = lab.scenario(name="same")
    before = load_scenario(path)

    how = "execution={executor: processes, memory: 2GB, timeout_seconds: 9}"
    elsewhere = load_scenario(path, overrides=[how])
    assert elsewhere.digest == before.digest
    assert elsewhere.resolved["execution"]["memory"] == 2_000_000_000
    assert load_scenario(path, overrides=["execution.attempts=2"]).digest != before.digest
    assert load_scenario(path, overrides=["execution.attempts=1"]).digest == before.digest


@pytest.mark.parametrize(
    ("execution", "problem"),
    [
        ({"memory": "2GB"}, r"execution\.memory: needs providers .*add `executor: processes`"),
        ({"sandbox": "bwrap"}, r"execution\.sandbox: needs providers .*add `executor: processes`"),
        ({"executor": "processes", "memory": 2**63}, r"execution\.memory: .*less than"),
        ({"executor": "processes", "memory": 0}, r"execution\.memory: .*above 0"),
    ],
)
def test_a_bound_to_memory_is_refused_where_it_would_bound_nothing(
    lab: Lab, execution: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        loaded(lab, execution=execution)


def test_a_provider_signs_with_the_key_in_its_file(lab: Lab, tmp_path: Path) -> None:
    keys = generate()
    file = tmp_path / "press.key"
    file.write_text(f"{keys.private}\n", encoding="utf-8")
    file.chmod(0o600)
    press = with_press(lab, key=keys.public, private_key_file="press.key").providers["press"]

    private = press.find_private_key(1, "press", tmp_path)

    assert private is not None
    public = press.public_key(1, "press")
    assert public == keys.public
    assert is_signed_by(b"all of it", sign(b"all of it", private), public)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_private_key_that_others_may_use_is_refused(lab: Lab, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "press.key"
    file.write_text(generate().private, encoding="utf-8")
    file.chmod(mode)
    press = with_press(lab, private_key_file=str(file)).providers["press"]

    with pytest.raises(UsageError, match=f"can be used by other users .mode {mode:o}.*chmod 600"):
        press.find_private_key(1, "press", tmp_path)


def test_a_key_file_that_is_not_there_is_told_with_what_to_do(lab: Lab, tmp_path: Path) -> None:
    press = with_press(lab, private_key_file=str(tmp_path / "none.key")).providers["press"]

    with pytest.raises(UsageError, match=r"`press` cannot be read .*streamlab keygen"):
        press.find_private_key(1, "press", tmp_path)


@pytest.mark.parametrize("key", [None, "not a key", "public"])
def test_a_run_with_a_key_file_of_no_use_ends_before_anything_is_written(
    lab: Lab, tmp_path: Path, key: str | None
) -> None:
    file = tmp_path / "press.key"
    if key is not None:
        file.write_text(generate().public if key == "public" else key, encoding="utf-8")
    tree = lab.tree(name="keyed")
    tree["providers"]["press"]["private_key_file"] = str(file)

    with pytest.raises(UsageError, match="private key of the provider `press` cannot be read"):
        carry_out(lab.write(tree), tmp_path / "home")

    assert not (tmp_path / "home").exists()


def test_a_simulated_provider_has_one_pair_for_each_seed(lab: Lab, tmp_path: Path) -> None:
    press = with_press(lab, key="simulated").providers["press"]
    private, public = press.find_private_key(1, "press", tmp_path), press.public_key(1, "press")

    assert private is not None
    assert public is not None
    assert is_signed_by(b"x", sign(b"x", private), public)
    assert press.public_key(2, "press") != public


def test_a_key_in_place_of_its_file_is_refused_and_not_shown(lab: Lab) -> None:
    keys = generate()

    with pytest.raises(ConfigError, match="and this is the key itself") as refusal:
        with_press(lab, private_key_file=keys.private)

    assert keys.private.partition(":")[2] not in str(refusal.value)
