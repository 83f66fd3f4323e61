"""The command line: every command parses, makes one library call and prints.

Data goes to standard output, progress and notes to standard error. A command's module is
loaded when the command runs, never for `--help`.
"""

from __future__ import annotations

import click

from streamlab.cli.lazy_group import LazyCommand, LazyGroup
from streamlab.version import __version__

COMMANDS = {
    "init": LazyCommand("scenarios:init", "Write a commented starter scenario."),
    "run": LazyCommand("run_scenario:run", "Run a scenario and record every arrival."),
    "plan": LazyCommand("scenarios:plan", "Show what a scenario would run, and stop."),
    "keygen": LazyCommand("scenarios:keygen", "Make a provider's key pair."),
    "ls": LazyCommand("inspection:ls", "List runs, arrivals, diffs, scores, tasks, ..."),
    "show": LazyCommand("inspection:show", "Show all of one run, arrival, diff or task."),
    "compare": LazyCommand("inspection:compare", "Show what differs, with scores."),
    "plot": LazyCommand("plots:plot", "Draw a figure and write its numbers as CSV."),
    "report": LazyCommand("plots:report", "Write a run as one HTML page."),
    "predict": LazyCommand("inference:predict", "Answer texts with a stored diff."),
    "swap": LazyCommand("inference:swap", "Time switching among stored tasks."),
    "merge": LazyCommand("inference:merge", "Write base and diff as one model folder."),
    "export": LazyCommand("exchange:export", "Write a diff or a table to a file."),
    "import": LazyCommand("exchange:import_", "Take in a diff file or other runs."),
    "fit": LazyCommand("planning:fit", "Show how many tasks fit a budget."),
    "simulate": LazyCommand("planning:simulate", "Show what many tasks would take."),
    "diff": LazyCommand("exchange:diff", "Write the diff between two checkpoints."),
    "du": LazyCommand("inspection:du", "Add up bytes by task, provider, method, part, run."),
    "verify": LazyCommand("maintenance:verify", "Check every stored file and its row."),
    "check": LazyCommand("scenarios:check", "Prove that the order changes no file."),
    "tag": LazyCommand("inspection:tag", "Name a run, arrival or diff; list the names."),
    "rm": LazyCommand("maintenance:rm", "Remove arrivals, a task's or a run's."),
    "restore": LazyCommand("maintenance:restore", "Bring removed arrivals back."),
    "gc": LazyCommand("maintenance:gc", "Delete files that nothing needs any more."),
    "rollback": LazyCommand(
        "maintenance:rollback", "Put an earlier version of a task back to use."
    ),
    "purge": LazyCommand("maintenance:purge", "Remove all that came from a provider."),
    "db": LazyCommand("maintenance:db", "Show or change the version of the tables."),
    "doctor": LazyCommand("doctor:doctor", "Check that all is there that is needed."),
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
