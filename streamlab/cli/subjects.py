"""An argument that is one of a few names, and suggests the nearest for a mistyped one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamlab.errors import UsageError
from streamlab.units import nearest

if TYPE_CHECKING:
    Choice = click.Choice[str]
else:  # below click 8.2 it takes no parameter
    Choice = click.Choice


class OneOf(Choice):
    """A choice whose error names what was probably meant; `what` says what is chosen."""

    def __init__(self, names: tuple[str, ...], *, what: str) -> None:
        super().__init__(names)
        self.names = names
        self.what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name as it is. Raises UsageError where it is none of them."""
        if value not in self.names:
            near = nearest(str(value), self.names)
            raise UsageError(f"There is no {self.what} `{value}`. {near}")
        return super().convert(value, param, ctx)
