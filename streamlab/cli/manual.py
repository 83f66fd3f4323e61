"""The command reference, written from the commands' own help.

`python -m streamlab.cli.manual > docs/commands.md` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from streamlab.cli import cli
from streamlab.views.listings import SUBJECTS, columns_of

WIDTH = 80
_HEAD = """\
# Commands

Written from the commands' own help by `python -m streamlab.cli.manual > docs/commands.md`.

Data goes to standard output, progress and notes to standard error. The exit code is 0 where all is
well, 1 for a finding or a failure, 2 for a mistake in what was asked, 130 after Ctrl-C. Into a pipe
tables are 80 columns wide and without colour; `NO_COLOR=1` keeps a terminal plain too.
"""
_TAIL = """\
## Shell completion

Commands, options and subjects complete with Tab once the shell has been told:

```sh
eval "$(_STREAMLAB_COMPLETE=bash_source streamlab)"                # bash, in ~/.bashrc
eval "$(_STREAMLAB_COMPLETE=zsh_source streamlab)"                 # zsh, in ~/.zshrc
_STREAMLAB_COMPLETE=fish_source streamlab | source                 # fish, in config.fish
```
"""


def reference() -> str:
    """Return the whole reference as Markdown."""
    found = every_command()
    listed = [f"- [`{path}`](#{path.replace(' ', '-')})\n" for path in found]
    blocks = [_HEAD, "".join(listed[1:])]
    for path, ctx in found.items():
        text = ctx.command.get_help(ctx)
        blocks.append(f"## {path}\n\n```text\n{text}\n```\n")
        if path == "streamlab ls":
            blocks.append(_listings())
    return "\n".join([*blocks, _TAIL])


def every_command() -> dict[str, click.Context]:
    """Return every command by how it is called, the program itself first."""
    root = click.Context(cli, info_name="streamlab", terminal_width=WIDTH, **cli.context_settings)
    return dict(_below(root))


def _below(ctx: click.Context) -> Iterator[tuple[str, click.Context]]:
    yield ctx.command_path, ctx
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            below = ctx.command.get_command(ctx, name)
            assert below is not None, name  # noqa: S101 - it is listed
            yield from _below(click.Context(below, parent=ctx, info_name=name))


def examples(command: click.Command) -> list[str]:
    """Return the lines of a command's help that show how it is called."""
    _, _, shown = (command.help or "").partition("Example:\n")
    lines = (line.strip() for line in shown.split("\n\n")[0].splitlines())
    return [line for line in lines if line.startswith("streamlab ")]


def _listings() -> str:
    """Return the columns of every subject, with what `--where` takes for each."""
    lines = ["### Columns\n", "For `--columns`, `--sort` and [`--where`](where.md).\n"]
    for subject in SUBJECTS:
        names = [f"`{c.name}` ({c.kind})" for c in columns_of(subject)]
        lines.append(f"- {subject}: {', '.join(names)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    click.echo(reference(), nl=False)
