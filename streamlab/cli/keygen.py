"""`streamlab keygen`: a key pair for a provider that signs what it brings."""

from __future__ import annotations

import os
from pathlib import Path

import click

from streamlab.errors import UsageError
from streamlab.stream.signing import generate


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("provider.key"),
    show_default=True,
    help="The file for the private key.",
)
def keygen(*, out: Path) -> None:
    """Make an Ed25519 key pair: the private key to a file, the public one to standard output.

    The public key goes into the scenario, under its provider. The private key stays with the
    provider; only its owner may read the file, and a file that is there is never replaced.

    \b
    Example:
      streamlab keygen --out reviews_inc.key
    """
    keys = generate()
    write_secret(out, keys.private + "\n")
    click.echo(keys.public)
    click.echo(f"Wrote the private key to {out}. Give it to nobody.", err=True)


def write_secret(path: Path, text: str) -> None:
    """Write a new file that only its owner can read. Raises UsageError where that cannot be."""
    try:
        # Never there with another mode, not even for a moment.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise UsageError(
            f"{path} is there already, and a private key that is lost cannot be made again. "
            "Give another name with `--out`."
        ) from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}. Give another path with `--out`."
        ) from error
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        path.unlink()
        raise UsageError(
            f"{path} cannot be written: {error.strerror}. Give another path with `--out`."
        ) from error
