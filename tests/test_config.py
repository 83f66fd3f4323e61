"""YAML in, frozen settings out, every problem at once."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ByteSize, Field, PositiveInt, ValidationError, model_validator

from streamlab.config import (
    Settings,
    canonical_json,
    digest,
    expand_variables,
    parse_yaml,
    read_value,
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
        "background.side: must be above 0, got -1.0.",
        "background.sied: unknown key. Did you mean `side`?",
        "copies: must be above 0, got 0.",
        "copys: unknown key. Did you mean `copies`?",
        "named.big.radius: must be a number, got 'wide'.",
        "named.big.zzz: unknown key. Known: name, radius.",
        "shapes.1.radios: unknown key. Did you mean `radius`?",
        "shapes.1.radius: is required and missing.",
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
    with pytest.raises(ValueError, match=r"\w") as alone:
        read_value(text.partition(": ")[2])

    assert time.process_time() - began < 2
    assert reason in caught.value.problems[0]
    assert len(str(caught.value)) < 300
    assert len(str(alone.value)) < 300


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


class Mixed(Settings):
    rate: Literal["base"] | Annotated[float, Field(ge=0.0, lt=1.0)] = "base"
    items: tuple[str | dict[str, int], ...] = ("a",)
    names: tuple[str, ...] = Field(default=("a",), min_length=1)
    size: ByteSize = ByteSize(1)
    kind: Literal["a", "b"] = "a"
    word: Annotated[str, Field(pattern="^[a-z]+$", max_length=3)] = "a"
    flag: bool = False


LIBRARY_WORDS = re.compile(
    r"[Ii]nput|valid|pars|tuple|dict\b|str\b|int\b|constrained|literal\[|function-|"
    r"scalar|token|node|flow|block|mapping values|indicator|constructor"
)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"rate": 2}, "rate: must be 'base' or below 1, got 2."),
        ({"rate": "x"}, "rate: must be 'base' or a number, got 'x'."),
        ({"items": [3]}, "items.0: must be text, which here needs quotes or a mapping of"),
        ({"items": [{"a": "x"}]}, "items.0.a: must be a whole number, got 'x'."),
        ({"names": []}, "names: must have at least 1 entry."),
        ({"names": "a"}, "names: must be a list in brackets, got 'a'."),
        ({"names": [1, 2]}, "names.0: must be text, which here needs quotes, got 1."),
        ({"size": "2XB"}, "size: must be a number of bytes, as 64MB or 1.5GiB, got '2XB'."),
        ({"kind": "c"}, "kind: must be 'a' or 'b', got 'c'."),
        ({"word": "abcd"}, "word: must have at most 3 characters, got 'abcd'."),
        ({"word": "A"}, "word: must match `^[a-z]+$`, got 'A'."),
        ({"flag": "maybe"}, "flag: must be true or false, got 'maybe'."),
    ],
)  # fmt: skip
def test_what_a_setting_must_be_is_said_in_plain_words(given: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Mixed, given, origin="x")

    assert caught.value.problems[0].startswith(problem)
    assert not LIBRARY_WORDS.search(str(caught.value))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1,\nb: 2", "a list in brackets is not closed: `,` or `]` is missing."),
        ("{a: 1", "line 2, column 1: a mapping in braces is not closed: `,` or `}` is missing."),
        ("a: 'x", "line 1, column 6: a quotation mark is never closed."),
        ("a: b: c", "line 1, column 5: a `:` cannot stand here. Put text that holds"),
        ("\ta: 1", "line 1, column 1: a tab cannot stand before a value or a key. Use blanks."),
        ("a: @x", "line 1, column 4: no value begins with `@`. Put it in quotes."),
        ("a: *x", "line 1, column 4: `*` stands for something that was marked by `&` before"),
        ("a: !foo 1", "line 1, column 4: `!` has no meaning here."),
        ("a:\n  - b\n  c: 1", "line 3, column 3: the items of a list must begin with `-`"),
        ("a: 1\n b: 2\n", "line 2, column 3: a `:` cannot stand here."),
        ("a:\n  b: 1\n c: 2\n", "line 3, column 2: the keys of one mapping must each begin as far"),
        ("a: 1\nb", "a key has no `:` after it."),
        ('a: "\\q"', "line 1, column 5: a backslash in double quotes has a meaning of its own."),
        ("--- a\n--- b", "line 2, column 1: it holds several documents. Keep one."),
        ("a: \x00", "it holds a control character, at position 4."),
        ("a: &\nb", "line 1, column 5: it ends early."),
    ],
)  # fmt: skip
def test_what_is_no_yaml_is_said_in_plain_words(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, origin="x")

    assert problem in caught.value.problems[0]
    assert not LIBRARY_WORDS.search(caught.value.problems[0].removeprefix("is not valid YAML: "))
