"""The command line: each command parses, makes one library call and prints.

Data goes to standard output, progress and notes to standard error. A command's module is
loaded when the command runs, never for `--help`.
"""

from __future__ import annotations

import click

from streamlab.cli.lazy_group import LazyCommand, LazyGroup
from streamlab.version import __version__

COMMANDS = {
    "init": LazyCommand("scenarios:init", "Write a commented starter scenario."),
    "scenarios": LazyCommand("scenarios:scenarios", "List the scenarios that come with streamlab."),
    "run": LazyCommand("run_scenario:run", "Run a scenario and record every arrival."),
    "study": LazyCommand("study:study", "Compare methods, each at its tuned settings."),
    "plan": LazyCommand("scenarios:plan", "Estimate bytes and time without training."),
    "keygen": LazyCommand("scenarios:keygen", "Make a key pair for a provider."),
    "ls": LazyCommand("inspection:ls", "List runs, arrivals, diffs, scores, tasks, ..."),
    "show": LazyCommand("inspection:show", "Show one run, arrival, diff, task or base."),
    "compare": LazyCommand("inspection:compare", "Compare runs, arrivals or diffs."),
    "plot": LazyCommand("plots:plot", "Draw a figure and write its data as CSV."),
    "report": LazyCommand("plots:report", "Write a run as one HTML page."),
    "predict": LazyCommand("inference:predict", "Predict labels or values for texts."),
    "swap": LazyCommand("inference:swap", "Measure how long switching tasks takes."),
    "merge": LazyCommand("inference:merge", "Write base plus diff as a model folder."),
    "export": LazyCommand("exchange:export", "Write a diff or a table to a file."),
    "import": LazyCommand("exchange:import_", "Import a diff file or the runs of a home."),
    "fit": LazyCommand("planning:fit", "Estimate how many tasks fit a budget."),
    "simulate": LazyCommand("planning:simulate", "Estimate bytes and waits of many tasks."),
    "diff": LazyCommand("exchange:diff", "Write the diff between two checkpoints."),
    "apply": LazyCommand("exact:apply", "Apply exact differences to a checkpoint."),
    "chain": LazyCommand("exact:chain", "Keep checkpoints as exact differences."),
    "du": LazyCommand("inspection:du", "Show disk usage of the home."),
    "verify": LazyCommand("maintenance:verify", "Check every stored file and its record."),
    "check": LazyCommand("scenarios:check", "Test that tasks do not affect each other."),
    "tag": LazyCommand("inspection:tag", "Name a run, arrival or diff; list names."),
    "rm": LazyCommand("maintenance:rm", "Remove arrivals from all listings."),
    "restore": LazyCommand("maintenance:restore", "Restore removed arrivals."),
    "gc": LazyCommand("maintenance:gc", "Delete files that are no longer needed."),
    "rollback": LazyCommand("maintenance:rollback", "Use an earlier version of a task again."),
    "purge": LazyCommand("maintenance:purge", "Delete everything a provider submitted."),
    "db": LazyCommand("maintenance:db", "Show or upgrade the database schema."),
    "doctor": LazyCommand("doctor:doctor", "Check the installation and the home."),
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
    """Simulate a stream of tasks, each stored as a small diff on one shared base model.

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
