"""Arguments that are amounts: bytes as 64MB or 1.5GiB, counts as 340M, shares as 0.1%."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click

from streamlab.errors import UsageError

_AMOUNT = re.compile(
    r"((?:\d[\d_,]*\.?\d*|\.\d+)(?:e[+-]?\d{1,2})?)\s*([a-z%]*)", re.ASCII | re.IGNORECASE
)
_LETTERS = "kmgt"


if TYPE_CHECKING:
    AmountType = click.ParamType[float]
else:  # an older click's takes no parameter
    AmountType = click.ParamType


class Amount(AmountType):
    """A number above 0 with a unit; a whole one unless `whole` says otherwise."""

    def __init__(
        self, name: str, units: Mapping[str, int | Fraction], hint: str, *, whole: bool = True
    ) -> None:
        self.name = name
        self.units = units
        self.hint = hint
        self.whole = whole

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,  # noqa: ARG002
    ) -> int | float:
        """Return the amount. Raises UsageError for what is none."""
        amount = self._read(str(value).strip())
        if amount is None or amount <= 0 or (self.whole and amount.denominator != 1):
            option = f"`{param.opts[-1]}`" if param else "An amount"
            raise UsageError(f"{option} takes {self.hint}, got {value!r}.")
        return int(amount) if self.whole else float(amount)

    def _read(self, text: str) -> Fraction | None:
        found = _AMOUNT.fullmatch(text)
        unit = self.units.get(found[2].lower()) if found else None
        if found is None or unit is None:
            return None
        return Fraction(found[1].replace("_", "").replace(",", "")) * unit


BYTES = Amount(
    "bytes",
    {"": 1, "b": 1}
    | {
        f"{letter}{i}b": (1024 if i else 1000) ** power
        for power, letter in enumerate(_LETTERS, start=1)
        for i in ("", "i")
    },
    "bytes above 0, as 64MB, 1.5GiB or 64000000",
)
COUNT = Amount(
    "count",
    {"": 1, "k": 10**3, "m": 10**6, "b": 10**9},
    "a whole number above 0, as 340M or 340000000",
)
SHARE = Amount(
    "share",
    {"": 1, "%": Fraction(1, 100)},
    "a share above 0 and at most 1, as 0.001 or 0.1%",
    whole=False,
)
RATE = Amount("rate", {"": 1}, "a number of tasks a day above 0, as 40 or 0.5", whole=False)
