"""The language of `--where`: text is parsed to a condition on columns.

A value is a bare word, or text in quotes that contains a quote by doubling it. Nothing is ever
evaluated.

A column decides how a value is read: 200kB under bytes, 5min under seconds, 0.5% under a share,
a day or a minute (UTC) under a time. A day means all of that day, and the first digits of a digest
mean every digest that begins so: these are spans, and so is any value, if only of one point.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, cast

from streamlab.errors import UsageError
from streamlab.registry.conditions import Both, Comparison, Condition, Not, Operator, Span
from streamlab.units import (
    BYTE_UNITS,
    DAY_US,
    MICROSECOND_UNITS,
    MINUTE_US,
    SECOND_UNITS,
    SHARE_UNITS,
    Units,
    nearest,
    parse_amount,
)
from streamlab.views.table import Column, Kind

if TYPE_CHECKING:
    from lark import Lark, Token
    from lark import Tree as ParseTree

_DEEPEST = 50  # levels of parentheses and `not`; far from Python's own limit
_WIDEST = 70  # of text that is printed with a mark below it
_DIGITS = 64  # of a whole digest
_KEYWORDS = {"and", "or", "not", "in", "like", "is", "null"}
_BLANK = r" \t\n\r\f\v"
_WORD = rf"[^{_BLANK}\"'(),<>=!]+"
_END = rf"(?!{_WORD[:-1]})"
# What tables print with a blank inside: 90.9 MB, 2 h 01 min, 2026-09-21 14:13.
_GAP = f"[{_BLANK}]+"
_AMOUNT = rf"[0-9.]+{_GAP}(?:[kmgt]?i?b|ms|s|min|h|d)"
_TIME = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{_GAP}[0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}})?"
_QUANTITY = rf"(?:{_AMOUNT}(?:{_GAP}{_AMOUNT})*|{_TIME}){_END}"
_GRAMMAR = (
    r"""
    any: all (OR all)*
    all: one (AND one)*
    ?one: NOT one -> negated
        | LPAR any RPAR -> group
        | test
    test: WORD -> flag
        | WORD SIGN value -> compared
        | WORD NOT? IN LPAR value (COMMA value)* RPAR -> listed
        | WORD NOT? LIKE value -> like
        | WORD IS NOT? NULL -> null
    ?value: WORD | QUANTITY | STRING

    SIGN: "==" | "!=" | "<>" | "<=" | ">=" | "=" | "<" | ">"
    LPAR: "("
    RPAR: ")"
    COMMA: ","
    STRING: /"(?:[^"]|"")*"|'(?:[^']|'')*'/
    """
    + f"\n%ignore /{_GAP}/"
    # Not by the flag `i`, for which other letters are an `s` too.
    + "".join(
        f"\n{word.upper()}.3: /{''.join(f'[{c}{c.upper()}]' for c in word)}{_END}/"
        for word in sorted(_KEYWORDS)
    )
    + f"\nQUANTITY.2: /{_QUANTITY}/i\nWORD: /{_WORD}/\n"
)
# What a parser in a state that takes these tokens expects, the first that fits.
_EXPECTED: Sequence[tuple[set[str], str]] = (
    ({"STRING"}, "a value"),
    ({"WORD", "NOT"}, "a column"),
    ({"SIGN"}, "a comparison after `{before}`, as in `{before} = ...`"),
    ({"IN", "LIKE"}, "`in` or `like`"),
    ({"NULL"}, "`null`"),
    ({"LPAR"}, "`(`"),
    ({"RPAR"}, "`)`"),
    (set(), "`and`, `or` or the end"),
)


def parse_condition(text: str, columns: Sequence[Column]) -> Condition:
    """Parse an expression about rows of these columns.

    Raises UsageError, with the place, for a syntax error, for an unknown column with the nearest
    name, and for a value or a comparison that the column's kind does not have.
    """
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    try:
        parsed = _parser().parse(text)
    except UnexpectedCharacters as error:
        at = int(error.pos_in_stream or 0)
        found = text[at]
        problem = "this quote is never closed." if found in "\"'" else f"what is {found!r}?"
        raise _refused(text, at, problem) from error
    except UnexpectedToken as error:
        raise _unexpected(text, error.token, error.accepts) from error
    return _condition(parsed, text, columns, depth=0)


@cache
def _parser() -> Lark:
    from lark import Lark  # here, since only `--where` needs it

    return Lark(_GRAMMAR, start="any", parser="lalr", lexer="basic")


def _unexpected(text: str, token: Token, accepted: set[str]) -> UsageError:
    at = len(text) if token.type == "$END" else token.start_pos or 0
    if token.type == "NULL" and "STRING" in accepted:
        return _refused(text, at, "write `is null` or `is not null`.")
    expected = next(words for tokens, words in _EXPECTED if tokens <= accepted)
    before = text[:at].split()[-1] if text[:at].strip() else ""
    got = "the end" if token.type == "$END" else repr(_unquoted(token))
    return _refused(text, at, f"expected {expected.format(before=before)}, got {got}.")


def _refused(text: str, at: int | None, problem: str) -> UsageError:
    """Return the error of an expression that is wrong at a place, which is marked."""
    at = at or 0
    if text.isprintable() and text.isascii() and len(text) <= _WIDEST:
        return UsageError(f"`--where`: {problem}\n  {text}\n  {' ' * at}^")
    return UsageError(f"`--where`, at character {at + 1}: {problem}")


def _unquoted(token: Token) -> str:
    if token.type != "STRING":
        return str(token)
    quote = token[0]
    return token[1:-1].replace(2 * quote, quote)


def _condition(
    parsed: ParseTree[Token], text: str, columns: Sequence[Column], *, depth: int
) -> Condition:
    parts = parsed.children
    if parsed.data in ("any", "all"):
        trees = cast("Sequence[ParseTree[Token]]", parts[::2])
        found = tuple(_condition(tree, text, columns, depth=depth) for tree in trees)
        return found[0] if len(found) == 1 else Both("or" if parsed.data == "any" else "and", found)
    if parsed.data not in ("negated", "group"):
        return _comparison(parsed.data, cast("Sequence[Token]", parts), text, columns)
    if depth == _DEEPEST:
        at = cast("Token", parts[0]).start_pos
        raise _refused(text, at, f"more than {_DEEPEST} levels; use fewer.")
    inner = _condition(cast("ParseTree[Token]", parts[1]), text, columns, depth=depth + 1)
    return Not(inner) if parsed.data == "negated" else inner


def _comparison(
    rule: str, tokens: Sequence[Token], text: str, columns: Sequence[Column]
) -> Condition:
    name, *values = (token for token in tokens if token.type in ("WORD", "QUANTITY", "STRING"))
    sign = str(tokens[1]) if rule == "compared" else {"listed": "in"}.get(rule, rule)
    negated = sign in ("!=", "<>") or any(token.type == "NOT" for token in tokens)
    operator = cast("Operator", "=" if sign in ("==", "!=", "<>") else sign)
    column = _find_column(name, text, columns)
    _refuse_unfit(operator, name, text, column)
    meaning = _TEXT if operator == "like" else _MEANINGS[column.kind]
    spans = tuple(_span(value, text, column.name, meaning) for value in values)
    found = Comparison(column.name, operator, spans)
    return Not(found) if negated else found


def _find_column(token: Token, text: str, columns: Sequence[Column]) -> Column:
    names = [column.name for column in columns]
    if token in names:
        return columns[names.index(token)]
    near = nearest(token, names)
    known = "" if near.startswith("Known") else f" Known: {', '.join(names)}."
    raise _refused(text, token.start_pos, f"there is no column `{token}`. {near}{known}")


@dataclass(frozen=True)
class _Meaning:
    """How the values of a kind of column are read, and what they are called in an error."""

    read: Callable[[str], Span | None]
    holds: str
    write: str
    ordered: bool = True
    is_text: bool = False  # that can be like a pattern


def _refuse_unfit(operator: Operator, token: Token, text: str, column: Column) -> None:
    """Raise UsageError for a comparison that a column's kind does not have."""
    meaning = _MEANINGS[column.kind]
    if operator == "like" and not meaning.is_text:
        problem = "has nothing that `like` could be asked of"
    elif operator == "flag" and column.kind != "flag":
        problem = "must be compared with something"
    elif operator in ("<", "<=", ">", ">=") and not meaning.ordered:
        problem = f"knows no order, so that `{operator}` means nothing"
    else:
        return
    asked = f"`{column.name}` holds {meaning.holds} and {problem}."
    raise _refused(text, token.start_pos, f"{asked} Write {meaning.write}, or `is null`.")


def _span(token: Token, text: str, name: str, meaning: _Meaning) -> Span:
    value = _unquoted(token)
    try:
        span = meaning.read(value)
    except (ValueError, OverflowError):
        span = None
    if span is None:
        asked = f"`{name}` holds {meaning.holds}, got {value!r}. Write {meaning.write}."
        raise _refused(text, token.start_pos, asked)
    return span


def _exact(value: str | float) -> Span:
    return Span(value, value)


def _status(word: str) -> Span:
    return _exact(word.lower())  # a table writes STALE


def _digest(word: str) -> Span | None:
    low = word.lower()
    if not re.fullmatch("[0-9a-f]+", low) or len(low) > _DIGITS:
        return None
    # "g" follows every hexadecimal digit.
    return Span(low, low if len(low) == _DIGITS else f"{low}g")


def _flag(word: str) -> Span | None:
    found = {"yes": True, "true": True, "no": False, "false": False}.get(word.lower())
    return None if found is None else _exact(found)


def _amount(units: Units) -> Callable[[str], Span | None]:
    """Return the reader of a sum of numbers with units, or of a bare number."""

    def read(word: str) -> Span | None:
        found = parse_amount(word, units)
        return None if found is None else _exact(found)

    return read


_TIMES = {
    "%Y-%m-%d": timedelta(days=1),
    "%Y-%m-%d %H:%M": timedelta(minutes=1),
    "%Y-%m-%d %H:%M:%S": timedelta(seconds=1),
}


def _time(word: str) -> Span | None:
    blanked = re.sub(r"(?<=\d)[Tt](?=\d)|\s+", " ", word.strip())
    for form, lasting in _TIMES.items():
        try:
            low = datetime.strptime(blanked, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return Span(low.timestamp(), low.timestamp() + lasting.total_seconds())
    return _amount({"": 1})(word)


_DAY = re.compile(r"day\s*(\d{1,9})(?:\s+(\d\d):(\d\d))?", re.ASCII | re.IGNORECASE)


def _virtual(word: str) -> Span | None:
    """Read `day 6`, `day 6 05:42`, a time since the start as `5d 4h`, or microseconds."""
    found = _DAY.fullmatch(word.strip())
    if found is None:
        return _amount(MICROSECOND_UNITS)(word)
    day, hour, minute = (int(part or 0) for part in found.groups())
    if day == 0 or hour > 23 or minute > 59:
        return None
    low = (day - 1) * DAY_US + (hour * 60 + minute) * MINUTE_US
    return Span(low, low + (DAY_US if found[2] is None else MINUTE_US))


_TEXT = _Meaning(_exact, "text", 'a word or a "text in quotes"', ordered=False, is_text=True)
_NUMBER = _Meaning(_amount({"": 1}), "numbers", "one as 12 or 0.9")
_MEANINGS: Mapping[Kind, _Meaning] = {
    "text": _TEXT,
    "setting": _TEXT,
    "status": _Meaning(_status, "states", "one as `finished`", ordered=False, is_text=True),
    "digest": _Meaning(
        _digest, "digests", "hexadecimal digits, the first few or all", ordered=False, is_text=True
    ),
    "flag": _Meaning(_flag, "yes or no", "the name alone, or `not` and the name", ordered=False),
    "number": _NUMBER,
    "count": _NUMBER,
    "score": _Meaning(_amount(SHARE_UNITS), "numbers", "one as 0.9 or 90%"),
    "ratio": _NUMBER,
    "change": _Meaning(_amount(SHARE_UNITS), "numbers", "one as -0.01 or 1%"),
    "share": _Meaning(_amount(SHARE_UNITS), "shares", "one as 0.005 or 0.5%"),
    "bytes": _Meaning(_amount(BYTE_UNITS), "bytes", "a number, or one as 200kB or 1.5MiB"),
    "seconds": _Meaning(_amount(SECOND_UNITS), "seconds", "a number, or one as 90s or 5min"),
    "virtual": _Meaning(_virtual, "virtual times", '"day 6", "day 6 05:42", 5d or microseconds'),
    "time": _Meaning(_time, "times", "a day as 2026-01-31 or a time as 2026-01-31T14:05 (UTC)"),
}
