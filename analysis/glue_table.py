"""How far is diff pruning from full finetuning on GLUE, and how sure is that?

Puts the stored artifacts of some runs on the base again, asks each for its dev rows, holds the
score against the recorded one, and draws the differences by a paired bootstrap over rows and
seeds (streamlab/stats/bootstrap.py). Prints a Markdown table with the mean over tasks, WNLI left
out of it, and writes glue_table.csv and glue_answers.npz. What this file answers already is not
asked again; with --answers nothing is, and no model is needed:

    python analysis/glue_table.py --home streamlab-home --run glue_eight-1 -o figures
    python analysis/glue_table.py --answers figures/glue_answers.npz -o figures

STREAMLAB_DATA must be what it was for the runs; other paths start at the current folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamlab.base import load_base
from streamlab.errors import (
    BaseMismatchError,
    DataError,
    NotInRegistryError,
    StoreError,
    StreamlabError,
    UsageError,
)
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore
from streamlab.registry.records import ArrivalRecord, ArtifactKind, RunRecord, ScoreRecord
from streamlab.registry.registry import Registry
from streamlab.stats.bootstrap import N_DRAWS, draw_differences, interval, mean_scores
from streamlab.stats.predictions import Answered, Facts, find_pairs, read_answers, write_answers
from streamlab.stream.context import RunContext
from streamlab.stream.event_loop import identity_of
from streamlab.stream.scenario import resolve_scenario
from streamlab.stream.schedule import arrivals
from streamlab.stream.scoring import stored_outputs
from streamlab.tasks.glue import GLUE
from streamlab.views.export import markdown_table, write_csv
from streamlab.views.table import Cell
from streamlab.views.task_scores import by_arrival, find_own_score

OURS, THEIRS = "diff_pruning", "full_finetuning"
SHOWN_ONLY = "glue/wnli"  # 71 adversarial rows: never averaged in
ROUNDING = 0.005  # what another machine or library may do to a score: a few of 1,000 rows


@dataclass(frozen=True)
class Stored:
    """One finished arrival of a GLUE task, its artifact and the score it is judged by."""

    run: RunRecord
    arrival: ArrivalRecord
    digest: str
    kind: ArtifactKind
    dataset: str
    recorded: ScoreRecord


@dataclass(frozen=True)
class Line:
    """One line of the table; scores are shares of one."""

    name: str
    metric: str | None
    n_rows: int | None
    n_seeds: int | None
    ours: float
    theirs: float
    low: float
    high: float

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Return the raw numbers."""
        difference = self.ours - self.theirs
        start = (self.name, self.metric, self.n_rows, self.n_seeds)
        return (*start, self.ours, self.theirs, difference, self.low, self.high)

    @property
    def written(self) -> tuple[str, ...]:
        """Return the cells as text, scores times 100."""
        start = (str("" if cell is None else cell) for cell in self.cells[:4])
        ours, theirs, low, high = (100 * v for v in (self.ours, self.theirs, self.low, self.high))
        difference = f"{ours - theirs:+.2f}"
        return (*start, f"{ours:.1f}", f"{theirs:.1f}", difference, f"[{low:+.2f}, {high:+.2f}]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, write the files and return the exit code."""
    options = _parser().parse_args(arguments)
    path = options.answers or options.output / "glue_answers.npz"
    try:
        if options.answers is None:
            gather(Home(options.home), options.run or ["latest"], path)
        answered = read_answers(path)
        lines = table(answered, seed=options.seed, n_draws=options.draws)
        header = ("task", "metric", "rows", "seeds", OURS, THEIRS, "difference")
        raw = (*header, "low", "high")
        write_csv(options.output / "glue_table.csv", raw, (line.cells for line in lines))
    except StreamlabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(markdown_table((*header, "95% interval"), (line.written for line in lines)))
    print(f"\n{told(answered)}")
    return 0


def gather(home: Home, names: Sequence[str], path: Path) -> None:
    """Ask every artifact that `path` has no answers of, and write the answers of all there.

    Raises NotInRegistryError where no task has both methods, and what asking raises.
    """
    known = {one.facts.digest: one for one in read_answers(path)} if path.exists() else {}
    with Registry.open(home.registry_url, clock=time.time, read_only=True) as registry:
        listed = [one for name in names for one in _stored(registry, registry.runs.get(name))]
    wanted = list(_in_pairs(listed))
    if not wanted:
        raise NotInRegistryError(
            f"No task of GLUE has finished by both {OURS} and {THEIRS} in {', '.join(names)}. "
            "Let the runs go on, or run scenarios/glue_eight.yaml."
        )
    asked: dict[int, Asker] = {}
    for one in wanted:
        if one.digest in known:
            continue
        if one.run.id not in asked:
            asked = {one.run.id: Asker(one.run, ArtifactStore(home.store))}  # one at a time
        known[one.digest] = asked[one.run.id].ask(one)
        facts = known[one.digest].facts
        what = f"{facts.task}, {facts.method}, seed {facts.seed}: {facts.metric} {facts.score:.4f}"
        print(f"{what}, {facts.recorded:.4f} recorded", file=sys.stderr)
    write_answers(path, [known[one.digest] for one in wanted])


def _stored(registry: Registry, run: RunRecord) -> Iterator[Stored]:
    """Yield what a run holds of GLUE by either method. Raises UsageError for synthetic data."""
    scores = by_arrival(registry.scores.list(run=run.id))
    kinds = {diff.digest: diff.kind for diff in registry.artifacts.list(run=run.id)}
    for arrival in registry.arrivals.list(run=run.id, status="finished"):
        dataset = str(run.scenario["tasks"][arrival.task]["dataset"])
        recorded = find_own_score(scores.get(arrival.id, ()))
        if arrival.method not in (OURS, THEIRS) or dataset not in GLUE:
            continue
        if recorded is None or arrival.digest is None:
            continue
        if recorded.synthetic:
            raise UsageError(
                f"The data of `{arrival.task}` in {run.name} are synthetic, and no score on them "
                "is one of GLUE. Set STREAMLAB_DATA to a folder of GLUE's rows and run again."
            )
        yield Stored(run, arrival, arrival.digest, kinds[arrival.digest], dataset, recorded)


def _in_pairs(listed: Sequence[Stored]) -> Iterator[Stored]:
    """Yield what has a partner by the other method, and say what is left out."""
    done = {(one.dataset, one.arrival.seed, one.arrival.method) for one in listed}
    for one in listed:
        arrival = one.arrival
        if all((one.dataset, arrival.seed, method) in done for method in (OURS, THEIRS)):
            yield one
        else:
            what = f"{arrival.task}, seed {arrival.seed}"
            print(f"{what}: by {arrival.method} alone so far, left out", file=sys.stderr)


class Asker:
    """A run's base and rows, loaded again, to ask its artifacts."""

    def __init__(self, run: RunRecord, store: ArtifactStore) -> None:
        """Load the base; raises BaseMismatchError where it is another one now."""
        origin = f"the scenario of {run.name}"
        loaded = resolve_scenario(dict(run.scenario), origin=origin, folder=Path.cwd())
        base = load_base(loaded.scenario.base, seed=loaded.scenario.seeds[0])
        if base.fingerprint != run.base_fingerprint:
            raise BaseMismatchError(
                f"{run.name} is on the base {run.base_fingerprint[:12]}, and "
                f"{base.settings.model!r} now holds {base.fingerprint[:12]}. Put the base back."
            )
        self._context = RunContext(loaded.scenario, base, loaded.folder)
        self._planned = {arrival.identity: arrival for arrival in arrivals(loaded.scenario)}
        self._store = store

    def ask(self, stored: Stored) -> Answered:
        """Put an artifact on the base and ask it for its dev rows.

        Raises DataError where the rows are not those it was scored on, StoreError where its
        score is another one.
        """
        record, context = stored.arrival, self._context
        task = context.encoded(self._planned[identity_of(record)])
        fingerprint = task.data.source.examples_fingerprint
        if fingerprint != record.examples_fingerprint:
            raise DataError(
                f"The rows of `{record.task}` are not those that {record.run} was scored on. "
                "Set STREAMLAB_DATA to the folder that it was set to then."
            )
        rows, outputs = stored_outputs(
            context,
            self._planned[identity_of(record)],
            stored.digest,
            stored.kind,
            self._store,
            record.details,
            splits=("dev",),
        )["dev"]
        facts = Facts(
            task=record.task,
            dataset=stored.dataset,
            method=record.method,
            seed=record.seed,
            digest=stored.digest,
            examples_fingerprint=fingerprint,
            metric=task.data.metrics[0].name,
            recorded=stored.recorded.value,
            score=task.data.primary_score(outputs, rows.labels),
        )
        _check_score(facts)
        return Answered(facts, rows.labels, task.data.type.decode(outputs))


def _check_score(facts: Facts) -> None:
    if abs(facts.score - facts.recorded) > ROUNDING:
        raise StoreError(
            f"The artifact {facts.digest} of `{facts.task}` ({facts.method}, seed {facts.seed}) "
            f"has a {facts.metric} of {facts.score}, and {facts.recorded} was recorded. What puts "
            "it on the base, or the base, is not what it was; train the task again."
        )


def table(answered: Sequence[Answered], *, seed: int, n_draws: int) -> list[Line]:
    """Draw every task's difference, and that of their mean. Raises UsageError as `find_pairs`."""
    lines: list[Line] = []
    means, drawn_means = [], []
    for place, (dataset, entry) in enumerate(GLUE.items()):
        own = [one for one in answered if one.facts.dataset == dataset]
        pairs = find_pairs(own, OURS, THEIRS) if own else None
        if pairs is None:
            continue
        scores = mean_scores(pairs)
        drawn = draw_differences(pairs, np.random.default_rng([seed, place]), n_draws=n_draws)
        n_seeds, n_rows = pairs.this.shape
        name = f"{entry.hub_name} (not averaged)" if dataset == SHOWN_ONLY else entry.hub_name
        lines.append(Line(name, pairs.metric, n_rows, n_seeds, *scores, *interval(drawn)))
        if dataset != SHOWN_ONLY:
            means.append(scores)
            drawn_means.append(drawn)
    if means:
        ours, theirs = np.mean(means, axis=0).tolist()
        ends = interval(np.mean(drawn_means, axis=0))
        name = f"mean of {len(means)}"
        lines.append(Line(name, None, None, None, ours, theirs, *ends))
    return lines


def told(answered: Sequence[Answered]) -> str:
    """Say how the scores taken again compare with the recorded ones."""
    apart = [abs(one.facts.score - one.facts.recorded) for one in answered]
    n_exact = sum(distance == 0.0 for distance in apart)
    start = f"{len(apart)} scores taken again from the stored artifacts: {n_exact} exactly"
    if n_exact == len(apart):
        return f"{start} as recorded."
    return f"{start} as recorded, the others within {max(apart):.2g} (rounding)."


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--home", type=Path, default=Path("streamlab-home"))
    parser.add_argument("--run", action="append", help="several times, for runs of other seeds")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="in place of a home and runs")
    parser.add_argument("--seed", type=int, default=0, help="of the draws; default: 0")
    parser.add_argument("--draws", type=int, default=N_DRAWS, help=f"default: {N_DRAWS}")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("figures"), metavar="DIR", help="default: figures"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
