"""Options that take an amount with a unit: bytes, counts, shares and rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamlab.errors import UsageError
from streamlab.units import BYTE_UNITS, COUNT_UNITS, SHARE_UNITS, Units, parse_amount

if TYPE_CHECKING:
    AmountType = click.ParamType[float]
else:  # an older click's takes no parameter
    AmountType = click.ParamType


class Amount(AmountType):
    """A number above 0 with a unit; a whole one unless `whole` is false."""

    def __init__(self, name: str, units: Units, hint: str, *, whole: bool = True) -> None:
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
        """Return the amount. Raises UsageError where `value` is not one."""
        amount = parse_amount(str(value).strip(), self.units)
        if amount is None or amount <= 0 or (self.whole and not isinstance(amount, int)):
            option = f"`{param.opts[-1]}`" if param else "An amount"
            raise UsageError(f"{option} takes {self.hint}, got {value!r}.")
        return amount if self.whole else float(amount)


BYTES = Amount("bytes", BYTE_UNITS, "bytes above 0, as 64MB, 1.5GiB or 64000000")
COUNT = Amount("count", COUNT_UNITS, "a whole number above 0, as 340M or 340000000")
SHARE = Amount("share", SHARE_UNITS, "a share above 0 and at most 1, as 0.001 or 0.1%", whole=False)
RATE = Amount("rate", {"": 1}, "a number of tasks a day above 0, as 40 or 0.5", whole=False)
