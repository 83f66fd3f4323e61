"""YAML in, frozen settings out, every problem at once."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, PositiveInt, ValidationError, model_validator

from streamlab.config import (
    Settings,
    canonical_json,
    digest,
    expand_variables,
    override,
    parse_yaml,
    read_yaml,
    validate,
)
from streamlab.errors import ConfigError


class Square(Settings):
    name: Literal["square"]
    side: float = Field(gt=0.0)


class Circle(Settings):
    name: Literal["circle"]
    radius: float = Field(gt=0.0)


class Drawing(Settings):
    title: str
    copies: PositiveInt = 1
    background: Square | None = None
    shapes: tuple[Annotated[Square | Circle, Field(discriminator="name")], ...] = ()
    named: dict[str, Circle] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _copies_of_something(self) -> Drawing:
        if self.copies > 100:
            raise ValueError("Nobody wants that many copies")
        return self


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("-1E+3", -1000.0), ("2.5", 2.5), (".5", 0.5), ("1.", 1.0), ("7", 7),
        ("+.inf", math.inf), ("true", True), ("False", False), ("~", None), ("null", None),
        ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("OFF", "OFF"), ("y", "y"), ("1e", "1e"),
        ("0", 0), ("-12", -12), ("0o17", 15), ("0x1F", 31), ("02142", "02142"), ("007", "007"),
        ("12:30", "12:30"), ("190:20:30", "190:20:30"), ("1_000", "1_000"), ("0b11", "0b11"),
        ("=", "="), ("2024-01-02", "2024-01-02"), ("2024-13-45", "2024-13-45"), ("1.2.3", "1.2.3"),
        ("012e3", "012e3"), ("08.5", "08.5"), ("0.5", 0.5), ("0e1", 0.0),
        ("'1e-5'", "1e-5"),
    ],
)  # fmt: skip
def test_plain_scalars_are_read_as_they_look(text: str, value: object) -> None:
    read = parse_yaml(f"a: {text}", origin="x")["a"]

    assert read == value
    assert type(read) is type(value)


def test_merge_keys_give_values_that_own_keys_override() -> None:
    text = "t: &t {a: 1, b: 2}\nu: &u {<<: *t, b: 3}\nv: {<<: [*u, {a: 9, c: 4}], a: 5}"

    assert parse_yaml(text, origin="x")["v"] == {"a": 5, "b": 3, "c": 4}
    assert parse_yaml(text, origin="x")["t"] == {"a": 1, "b": 2}


def test_merges_of_merges_take_no_more_room_than_their_keys() -> None:
    levels = (f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 40))
    lines = "\n".join(["a0: &a0 {x: 1, y: 2}", *levels])

    assert parse_yaml(lines, origin="x")["a39"] == {"x": 1, "y": 2}


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(parse_yaml("a: .nan", origin="x")["a"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\na: 2", "the key `a` is given twice"),
        ("a: {b: 1, c: 2, b: 3}", "the key `b` is given twice"),
        ("a: [", "is not valid YAML"),
        ("[a]: 1", "a list or a mapping cannot be a key"),
        ("{a: 1}: 1", "a list or a mapping cannot be a key"),
        ("a: {<<: {b: 1}, <<: {c: 1}}", "the key `<<` is given twice"),
        ("{1: a, 0x1: b}", "the key `1` is given twice"),
        ("a: <<", "`<<` is a key that merges mappings, and no value"),
        ("a: !!float 12:30", "'12:30' is no float in YAML 1.2"),
        ("a: !!int 1_000", "'1_000' is no int in YAML 1.2"),
        ("a: !!bool yes", "'yes' is no bool in YAML 1.2"),
        ("a: {<<: 3}", "is not valid YAML"),
        ("a: !!int word", "is not valid YAML"),
        ("a: !!int 010", "is not valid YAML"),
        ("a: !!python/name:os.system", "is not valid YAML"),
        ("a: " + "[" * 1000, "is not valid YAML"),
        ("- a", "must hold a mapping of settings, holds list."),
        ("", "must hold a mapping of settings, holds NoneType."),
    ],
)
def test_what_is_no_mapping_of_settings_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, origin="mine.yaml")

    assert str(caught.value).startswith("mine.yaml has 1 problem:\n  ")
    assert reason in caught.value.problems[0]


def test_the_place_of_a_mistake_is_named() -> None:
    with pytest.raises(ConfigError, match="line 3, column 1"):
        parse_yaml("a: 1\nb: 2\na: 3", origin="x")


def test_a_file_is_read_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("a: häuser".encode())

    assert read_yaml(path) == {"a": "häuser"}


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: häuser".encode("latin-1"))

    with pytest.raises(ConfigError, match=r"is not UTF-8 text\. Save it as UTF-8\."):
        read_yaml(latin)
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "none.yaml")

    assert caught.value.origin == str(tmp_path / "none.yaml")
    assert caught.value.problems == ("cannot be read: No such file or directory. Check the path.",)


def test_every_problem_is_reported_in_one_go_with_its_path_and_what_to_do() -> None:
    tree = {
        "copys": 2,
        "copies": 0,
        "background": {"name": "square", "side": -1.0, "sied": 2.0},
        "shapes": [{"name": "circle", "radius": 1.0}, {"name": "circle", "radios": 2.0}],
        "named": {"big": {"name": "circle", "radius": "wide", "zzz": 1}},
    }

    with pytest.raises(ConfigError) as caught:
        validate(Drawing, tree, origin="mine.yaml")

    assert sorted(caught.value.problems) == [
        "background.side: input should be greater than 0, got -1.0.",
        "background.sied: unknown key. Did you mean `side`?",
        "copies: input should be greater than 0, got 0.",
        "copys: unknown key. Did you mean `copies`?",
        "named.big.radius: input should be a valid number, unable to parse string as a number, "
        "got 'wide'.",
        "named.big.zzz: unknown key. Known: name, radius.",
        "shapes.1.circle.radios: unknown key. Did you mean `radius`?",
        "shapes.1.circle.radius: is required and missing.",
        "title: is required and missing.",
    ]
    assert str(caught.value).splitlines()[0] == "mine.yaml has 9 problems:"


def test_what_a_settings_class_says_itself_is_passed_on() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Drawing, {"title": "a", "copies": 101}, origin="x")

    assert caught.value.problems == ("the file: nobody wants that many copies.",)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_infinities_and_nan_are_no_settings(value: float) -> None:
    with pytest.raises(ConfigError, match="finite number"):
        validate(Circle, {"name": "circle", "radius": value}, origin="x")


def test_valid_settings_are_built_and_frozen() -> None:
    settings = validate(
        Drawing, {"title": "a", "shapes": [{"name": "square", "side": 2}]}, origin=""
    )

    assert settings == Drawing(title="a", shapes=(Square(name="square", side=2.0),))
    with pytest.raises(ValidationError, match="frozen"):
        settings.copies = 2


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a.b=5", {"a": {"b": 5, "c": [1, {"d": 2}]}}),
        ("a.rate=1e-5", {"a": {"b": 1, "c": [1, {"d": 2}], "rate": 1e-5}}),
        ("a.b=no", {"a": {"b": "no", "c": [1, {"d": 2}]}}),
        ("a.b=x=y", {"a": {"b": "x=y", "c": [1, {"d": 2}]}}),
        ("a.b=", {"a": {"b": None, "c": [1, {"d": 2}]}}),
        ("a.c.0=[7, 8]", {"a": {"b": 1, "c": [[7, 8], {"d": 2}]}}),
        ("a.c.1.d=3", {"a": {"b": 1, "c": [1, {"d": 3}]}}),
        ("a={e: 1}", {"a": {"e": 1}}),
        ("new.deep.er=1", {"a": {"b": 1, "c": [1, {"d": 2}]}, "new": {"deep": {"er": 1}}}),
        ("a.b.f=1", {"a": {"b": {"f": 1}, "c": [1, {"d": 2}]}}),
    ],
)
def test_an_assignment_sets_a_value_at_its_path(assignment: str, expected: Any) -> None:
    tree = {"a": {"b": 1, "c": [1, {"d": 2}]}}

    assert override(tree, [assignment]) == expected
    assert tree == {"a": {"b": 1, "c": [1, {"d": 2}]}}


def test_later_assignments_win() -> None:
    assert override({}, ["a.b=1", "a.b=2", "a.c=3"]) == {"a": {"b": 2, "c": 3}}


def test_every_malformed_assignment_is_reported_in_one_go() -> None:
    with pytest.raises(ConfigError) as caught:
        override({"a": [1]}, ["a", "=1", "a..b=1", "a.1=2", "a.x=2", "a.0.b=1", "c=[", "b=1"])

    assert caught.value.origin == "the command line"
    assert caught.value.problems[:6] == (
        "--set 'a': write it as `a.b=value`.",
        "--set '=1': write it as `a.b=value`.",
        "--set 'a..b=1': write it as `a.b=value`.",
        "--set 'a.1=2': `1` is not an index of a list of 1.",
        "--set 'a.x=2': `x` is not an index of a list of 1.",
        "--set 'a.0.b=1': `a.0` holds no settings.",
    )
    assert caught.value.problems[6].startswith("--set 'c=[': while parsing a flow node")
    assert len(caught.value.problems) == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${SET}", "value"),
        ("a/${SET}/b/${SET}", "a/value/b/value"),
        ("${SET:-other}", "value"),
        ("${UNSET:-other}", "other"),
        ("${UNSET:-}", ""),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("$SET {SET} ${} ${1}", "$SET {SET} ${} ${1}"),
        ("${NESTED}", "${SET}"),
    ],
)
def test_variables_are_replaced(text: str, expected: str) -> None:
    environment = {"SET": "value", "EMPTY": "", "NESTED": "${SET}"}

    assert expand_variables(text, environment) == expected


def test_an_unset_variable_without_a_default_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`UNSET` is not set; .* as `\$\{UNSET:-\.\.\.\}`"):
        expand_variables("a/${UNSET}", {})


def test_canonical_json_is_written_one_way_only() -> None:
    tree = {"b": [1, 2.5, None, True], "a": {"é": "x", "c": 1e-5}}

    assert canonical_json(tree) == '{"a":{"c":1e-05,"\\u00e9":"x"},"b":[1,2.5,null,true]}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json([math.nan])


def test_a_digest_stays_the_same_from_version_to_version() -> None:
    expected = "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777"

    assert digest({"b": 2, "a": 1}) == expected == digest({"a": 1, "b": 2})
    assert digest({"a": 1, "b": 3}) != expected


json_trees = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), json_trees, max_size=4))
def test_the_order_of_keys_does_not_reach_the_digest(tree: dict[str, Any]) -> None:
    assert digest(dict(reversed(tree.items()))) == digest(tree)


def chain(n: int) -> str:
    return "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, n))


LEVELS = "".join(
    f"{b}: &{b} [{f'*{a}, ' * 10}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXTS = f"a: &a {'x' * 1_000_000}\nb: [{'*a, ' * 1000}]"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [1, 2]\n" + LEVELS, "more than 300,000 values"),
        (TEXTS, "more than 300,000 values"),
        ("a: &a [*a]", "levels, or in itself"),
        ("a: &a {b: {c: *a}}", "levels, or in itself"),
        (chain(3000), "nested in more than 64 levels"),
        ("{a: " * 50_000, "nested in more than 64 levels"),
        ("a: " + "9" * 5000, "a whole number has 5000 digits"),
        ("a: 0x" + "f" * 5000, "a whole number has 5002 digits"),
        ("a: !!set {b}", "a set is not a setting"),
        ("a: !!bool maybe", "is no bool in YAML 1.2"),
        ("a: !!timestamp soon", "does not suit its tag"),
    ],
    ids=lambda text: text[:20],
)
def test_a_bomb_is_refused_in_one_sentence_before_it_grows(text: str, reason: str) -> None:
    began = time.process_time()

    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, origin="mine.yaml")
    with pytest.raises(ConfigError):
        override({}, [f"b={text.partition(': ')[2]}", "c"])

    assert time.process_time() - began < 2
    assert reason in caught.value.problems[0]
    assert len(str(caught.value)) < 300


def test_thousands_of_problems_are_counted_and_not_listed() -> None:
    tree = {"title": "a", "named": {f"x{n}": {"radius": "y" * 5000} for n in range(1500)}}

    with pytest.raises(ConfigError) as caught:
        validate(Drawing, tree, origin="x")

    lines = str(caught.value).splitlines()
    assert lines[-1] == "  and 970 more problems."
    assert max(map(len, lines)) < 1100


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("${A:-${B}}", "write a variable as"),
        ("${A:-" * 20_000, "write a variable as"),
        ("${A:-${B:-" * 5000 + "}" * 10_000, "write a variable as"),
        ("a/${HOME-x}", "write a variable as"),
        ("${LONG}" * 1000, "longer than 65,536 characters"),
    ],
    ids=lambda text: text[:12],
)
def test_a_variable_that_would_be_read_otherwise_than_written_is_refused(
    text: str, reason: str
) -> None:
    began = time.process_time()

    with pytest.raises(ValueError, match=reason):
        expand_variables(text, {"A": "", "HOME": "/", "LONG": "x" * 1000})

    assert time.process_time() - began < 1
