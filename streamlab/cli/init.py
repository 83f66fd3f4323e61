"""`streamlab init`: write a starter scenario with a comment on every setting."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from streamlab.errors import UsageError


@click.command()
@click.argument(
    "path", type=click.Path(dir_okay=False, path_type=Path), default=Path("scenario.yaml")
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def init(path: Path, *, force: bool) -> None:
    """Write a commented starter scenario to PATH (default: scenario.yaml).

    \b
    Example:
      streamlab init mine.yaml
    """
    if path.exists() and not force:
        raise UsageError(f"{path} is there already. Give another name, or `--force` to replace it.")
    text = (files("streamlab.cli") / "starter.yaml").read_text(encoding="utf-8")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}. Give another path."
        ) from error
    click.echo(f"Wrote {path}. Run it with: streamlab run {path}", err=True)
