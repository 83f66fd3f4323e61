"""The command line: every command parses, makes one library call and prints.

Data goes to standard output, progress and notes to standard error. A command's module is
loaded when the command runs, never for `--help`.
"""

from __future__ import annotations

import click

from streamlab.cli.group import LazyCommand, LazyGroup
from streamlab.version import __version__

COMMANDS = {
    "init": LazyCommand("streamlab.cli.init:init", "Write a commented starter scenario."),
    "run": LazyCommand("streamlab.cli.run:run", "Run a scenario and record every arrival."),
    "plan": LazyCommand("streamlab.cli.plan:plan", "Show what a scenario would run, and stop."),
    "keygen": LazyCommand("streamlab.cli.keygen:keygen", "Make a provider's key pair."),
    "ls": LazyCommand("streamlab.cli.ls:ls", "List runs, arrivals, diffs, scores, tasks, ..."),
    "show": LazyCommand("streamlab.cli.show:show", "Show all of one run, arrival, diff or task."),
    "compare": LazyCommand("streamlab.cli.compare:compare", "Show what differs, with scores."),
    "plot": LazyCommand("streamlab.cli.plot:plot", "Draw a figure and write its numbers as CSV."),
    "report": LazyCommand("streamlab.cli.report:report", "Write a run as one HTML page."),
    "predict": LazyCommand("streamlab.cli.predict:predict", "Answer texts with a stored diff."),
    "swap": LazyCommand("streamlab.cli.swap:swap", "Time switching among stored tasks."),
    "merge": LazyCommand("streamlab.cli.merge:merge", "Write base and diff as one model folder."),
    "export": LazyCommand("streamlab.cli.export:export", "Write a diff or a table to a file."),
    "import": LazyCommand("streamlab.cli.import_:import_", "Take in a diff file or other runs."),
    "fit": LazyCommand("streamlab.cli.fit:fit", "Show how many tasks fit a budget."),
    "simulate": LazyCommand("streamlab.cli.simulate:simulate", "Show what many tasks would take."),
    "diff": LazyCommand("streamlab.cli.diff:diff", "Write the diff between two checkpoints."),
    "du": LazyCommand("streamlab.cli.du:du", "Add up bytes by task, provider, method, part, run."),
    "verify": LazyCommand("streamlab.cli.verify:verify", "Check every stored file and its row."),
    "check": LazyCommand("streamlab.cli.check:check", "Prove that the order changes no file."),
    "tag": LazyCommand("streamlab.cli.tag:tag", "Name a run, arrival or diff; list the names."),
    "rm": LazyCommand("streamlab.cli.removal:rm", "Remove arrivals, a task's or a run's."),
    "restore": LazyCommand("streamlab.cli.removal:restore", "Bring removed arrivals back."),
    "gc": LazyCommand("streamlab.cli.gc:gc", "Delete files that nothing needs any more."),
    "rollback": LazyCommand(
        "streamlab.cli.rollback:rollback", "Put an earlier version of a task back to use."
    ),
    "purge": LazyCommand("streamlab.cli.purge:purge", "Remove all that came from a provider."),
    "db": LazyCommand("streamlab.cli.db:db", "Show or change the version of the tables."),
    "doctor": LazyCommand("streamlab.cli.doctor:doctor", "Check that all is there that is needed."),
}


class Streamlab(LazyGroup):
    """All commands."""

    table = COMMANDS


@click.group(
    cls=Streamlab,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, prog_name="streamlab")
def cli() -> None:
    """Simulate tasks that arrive one after another, each kept as a small diff on one base.

    \b
    Example:
      streamlab init scenario.yaml
      streamlab run scenario.yaml
      streamlab ls scores
      streamlab plot storage
    """


def main() -> None:
    """Run the command line and end the process with its exit code."""
    cli.main(prog_name="streamlab")
