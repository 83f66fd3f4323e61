"""The grammar of references by itself: what a text is taken apart into."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.errors import UsageError
from streamlab.registry.references import KINDS, Reference, Target, parse


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("latest", None, "latest"),
        ("sst2@3", None, "sst2@3"),
        ("run:glue_stream-1", "run", "glue_stream-1"),
        ("arrival:7", "arrival", "7"),
        ("diff:31f6", "diff", "31f6"),
        ("task:a:b", "task", "a:b"),
        ("base:cae662", "base", "cae662"),
    ],
)
def test_a_kind_stands_before_the_first_colon(text: str, kind: str | None, name: str) -> None:
    found = parse(text)

    assert (found.kind, found.name) == (kind, name)


@pytest.mark.parametrize("text", ["", "run:", "colour:1", ":1", "Run:1", " run:1"])
def test_an_unknown_kind_and_an_empty_name_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


@given(st.sampled_from(KINDS), st.text(min_size=1))
def test_a_target_is_written_as_a_reference_to_itself(kind: str, name: str) -> None:
    found = parse(f"{kind}:{name}")

    assert found == Reference(found.kind, name)
    assert parse(str(Target("run", name))).name == name


@pytest.mark.parametrize(
    ("name", "number"),
    [("7", 7), ("007", 7), ("-7", None), ("7.0", None), ("²", None), ("1" * 18, int("1" * 18)),
     ("1" * 19, None), ("seven", None)],
)  # fmt: skip
def test_a_number_is_plain_digits(name: str, number: int | None) -> None:
    assert parse(name).number == number


@pytest.mark.parametrize(
    ("name", "is_digest"),
    [("31f65e", True), ("31f65", False), ("a" * 64, True), ("a" * 65, False), ("31F65E", False),
     ("facade", True), ("sst2", False), ("123456", True)],
)  # fmt: skip
def test_six_hexadecimal_digits_can_be_a_digest(name: str, is_digest: bool) -> None:
    assert parse(name).is_digest is is_digest


@pytest.mark.parametrize(
    ("name", "versioned"),
    [("sst2@2", ("sst2", 2)), ("a@b@3", ("a@b", 3)), ("sst2@", None), ("sst2@x", None),
     ("@2", None), ("sst2", None)],
)  # fmt: skip
def test_a_version_follows_the_last_at(name: str, versioned: tuple[str, int] | None) -> None:
    assert parse(name).versioned == versioned
