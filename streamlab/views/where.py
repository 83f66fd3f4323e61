"""The language of `--where`: its words, its tree and how it is read; what it means is for others.

    expression  = all ("or" all)*
    all         = one ("and" one)*
    one         = "not" one | "(" expression ")" | test
    test        = column                                   a column of yes and no
                | column ("=" | "!=" | "<" | "<=" | ">" | ">=") value
                | column ["not"] "in" "(" value ("," value)* ")"
                | column ["not"] "like" value              a glob: * and ?
                | column "is" ["not"] "null"

A value is a bare word, or a text in quotes that holds a quote by doubling it. Nothing is ever
evaluated: text becomes a tree, and `str` of a tree is text that becomes the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, cast

from streamlab.errors import UsageError

Op = Literal["flag", "null", "=", "<", "<=", ">", ">=", "in", "like"]

_DEEPEST = 50  # parentheses and nots in each other; far from Python's own limit
_BLANKS = " \t\n\r\f\v"
_WIDEST = 70  # of what is printed with a mark below
_KEYWORDS = {"and", "or", "not", "in", "like", "is", "null"}
_SIGNS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_STRING = r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'"
_SIGN = "|".join(sorted(_SIGNS, key=len, reverse=True)) + "|[(),]"
_WORD = r"[^\s\"'(),<>=!]+"
_BARE = re.compile(_WORD, re.ASCII)
_END = r"(?![^\s\"'(),<>=!])"
# What tables print with a blank inside: 90.9 MB, 2 h 01 min, 2026-09-21 14:13.
_QUANTITY = r"[\d.]+\s+(?:[kmgt]?i?b|ms|s|min|h|d)"
_BLANKED = rf"(?:{_QUANTITY}(?:\s+{_QUANTITY})*|\d{{4}}-\d\d-\d\d\s+\d\d:\d\d(?::\d\d)?){_END}"
_TOKEN = re.compile(
    rf"(?P<text>{_STRING})|(?P<sign>{_SIGN})|(?P<word>{_BLANKED}|{_WORD})",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class Word:
    """A column's name or a value, and its place in the expression, which tells no two apart."""

    text: str
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        bare = _BARE.fullmatch(self.text) and self.text.lower() not in _KEYWORDS
        return self.text if bare else '"' + self.text.replace('"', '""') + '"'


@dataclass(frozen=True)
class Term:
    """One column held against its values: none for `flag` and `null`, several for `in` only."""

    column: Word
    op: Op
    values: tuple[Word, ...] = ()

    def __str__(self) -> str:
        if self.op == "flag":
            return str(self.column)
        if self.op == "null":
            return f"{self.column} is null"
        if self.op == "in":
            return f"{self.column} in ({', '.join(map(str, self.values))})"
        return f"{self.column} {self.op} {self.values[0]}"


@dataclass(frozen=True)
class Not:
    """The opposite; `!=`, `not in`, `not like` and `is not null` are read as this."""

    part: Tree

    def __str__(self) -> str:
        return f"not ({self.part})" if isinstance(self.part, Both) else f"not {self.part}"


@dataclass(frozen=True)
class Both:
    """Two or more parts, of which all hold (`and`), or one at least (`or`)."""

    word: Literal["and", "or"]
    parts: tuple[Tree, ...]

    def __str__(self) -> str:
        # `and` holds its parts together more than `or` does.
        loose = {"or": ("or",), "and": ("or", "and")}[self.word]
        inner = (
            f"({part})" if isinstance(part, Both) and part.word in loose else str(part)
            for part in self.parts
        )
        return f" {self.word} ".join(inner)


Tree = Term | Not | Both


def refusal(text: str, at: int, problem: str) -> UsageError:
    """Return the error of an expression that is wrong at a place, which is marked."""
    if text.isprintable() and text.isascii() and len(text) <= _WIDEST:
        return UsageError(f"`--where`: {problem}\n  {text}\n  {' ' * at}^")
    return UsageError(f"`--where`, at character {at + 1}: {problem}")


def parse(text: str) -> Tree:
    """Read an expression. Raises UsageError, with the place, where it is none."""
    return _Parser(text).whole()


@dataclass(frozen=True)
class _Token:
    kind: Literal["text", "sign", "word", "end"]
    text: str
    at: int

    @property
    def keyword(self) -> str:
        """Return the keyword or sign that this is, else nothing."""
        if self.kind == "sign":
            return _SIGNS.get(self.text, self.text)
        lower = self.text.lower()
        return lower if self.kind == "word" and lower in _KEYWORDS else ""

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"{self.text!r}"


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while True:
        while at < len(text) and text[at] in _BLANKS:
            at += 1
        if at == len(text):
            break
        found = _TOKEN.match(text, at)
        if found is None:
            unclosed = text[at] in "\"'"
            raise refusal(
                text, at, "this quote is never closed." if unclosed else f"what is {text[at]!r}?"
            )
        kind = cast("Literal['text', 'sign', 'word']", found.lastgroup)
        inner = found.group()
        if kind == "text":
            inner = inner[1:-1].replace(inner[0] * 2, inner[0])
        yield _Token(kind, inner, at)
        at = found.end()
    yield _Token("end", "", at)


class _Parser:
    """Reads tokens from left to right, one ahead; a method for each line of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = next(self._tokens)
        self._depth = 0

    def whole(self) -> Tree:
        """Read the expression to its end."""
        tree = self._any()
        if self._next.kind != "end":
            raise self._expected("`and`, `or` or the end")
        return tree

    def _any(self) -> Tree:
        parts = [self._all()]
        while self._took("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Both("or", tuple(parts))

    def _all(self) -> Tree:
        parts = [self._one()]
        while self._took("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Both("and", tuple(parts))

    def _one(self) -> Tree:
        opening = self._next
        if opening.keyword not in ("not", "("):
            return self._test()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise refusal(self._text, opening.at, f"more than {_DEEPEST} levels; use fewer.")
        self._step()
        if opening.keyword == "not":
            tree: Tree = Not(self._one())
        else:
            tree = self._any()
            self._expect(")")
        self._depth -= 1
        return tree

    def _test(self) -> Tree:
        named = self._next.kind == "word" and not self._next.keyword
        if not named or str(Word(self._next.text)) != self._next.text:
            raise self._expected("a column")
        column = self._word()
        if self._took("is"):
            opposite = self._took("not")
            self._expect("null")
            return _turned(Term(column, "null"), opposite=opposite)
        opposite = self._took("not")
        if self._took("in"):
            return _turned(Term(column, "in", self._list()), opposite=opposite)
        if self._took("like"):
            return _turned(Term(column, "like", (self._value(),)), opposite=opposite)
        if opposite:
            raise self._expected("`in` or `like`")
        if self._next.kind == "sign" and self._next.text in _SIGNS:
            sign = _SIGNS[self._step().text]
            op = cast("Op", "=" if sign == "!=" else sign)
            return _turned(Term(column, op, (self._value(),)), opposite=sign == "!=")
        if self._next.kind == "end" or self._next.keyword in ("and", "or", ")"):
            return Term(column, "flag")
        raise self._expected(f"a comparison after `{column}`, as in `{column} = ...`")

    def _list(self) -> tuple[Word, ...]:
        self._expect("(")
        values = [self._value()]
        while self._took(","):
            values.append(self._value())
        self._expect(")")
        return tuple(values)

    def _value(self) -> Word:
        if self._next.keyword == "null":
            raise refusal(self._text, self._next.at, "write `is null` or `is not null`.")
        if self._next.kind not in ("word", "text") or self._next.keyword:
            raise self._expected("a value")
        return self._word()

    def _word(self) -> Word:
        token = self._step()
        return Word(token.text, token.at)

    def _step(self) -> _Token:
        token = self._next
        if token.kind != "end":
            self._next = next(self._tokens)
        return token

    def _took(self, keyword: str) -> bool:
        found = self._next.keyword == keyword
        if found:
            self._step()
        return found

    def _expect(self, keyword: str) -> None:
        if not self._took(keyword):
            raise self._expected(f"`{keyword}`")

    def _expected(self, what: str) -> UsageError:
        return refusal(self._text, self._next.at, f"expected {what}, got {self._next}.")


def _turned(test: Term, *, opposite: bool) -> Tree:
    return Not(test) if opposite else test
