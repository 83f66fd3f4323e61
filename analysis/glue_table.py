"""How far is diff pruning from full finetuning on GLUE, with which confidence interval?

Applies the stored artifacts of some runs to the base, predicts the dev examples of each, compares
the score with the recorded one, and resamples the differences by a paired bootstrap over examples
and seeds (streamlab/stats/bootstrap.py). Prints a Markdown table with the mean over tasks without
WNLI, and writes glue_table.csv and glue_predictions.npz. Predictions already in this file are not
made again; with --predictions none are, and no model is needed:

    python analysis/glue_table.py --home streamlab-home --run glue_eight-1 -o figures
    python analysis/glue_table.py --predictions figures/glue_predictions.npz -o figures

STREAMLAB_DATA must be what it was for the runs; other paths are relative to the current folder.
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
from streamlab.home.store import FolderStore
from streamlab.registry.records import ArrivalRecord, ArtifactKind, RunRecord, ScoreRecord
from streamlab.registry.registry import Registry
from streamlab.stats.bootstrap import N_DRAWS, draw_differences, interval, mean_scores
from streamlab.stats.predictions import (
    PredictionFacts,
    Predictions,
    find_pairs,
    read_predictions,
    write_predictions,
)
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import resolve_scenario
from streamlab.stream.scoring import stored_outputs
from streamlab.tasks.glue import GLUE
from streamlab.views.export import markdown_table, write_csv
from streamlab.views.table import Cell
from streamlab.views.task_scores import own_scores

OURS, THEIRS = "diff_pruning", "full_finetuning"
SHOWN_ONLY = "glue/wnli"  # 71 adversarial examples: never averaged in
ROUNDING = 0.005  # difference allowed between machines: a few of 1,000 examples


@dataclass(frozen=True)
class Stored:
    """One finished arrival of a GLUE task, its artifact and its own score."""

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
    n_examples: int | None
    n_seeds: int | None
    ours: float
    theirs: float
    low: float
    high: float

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Return the raw numbers."""
        difference = self.ours - self.theirs
        start = (self.name, self.metric, self.n_examples, self.n_seeds)
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
    path = options.predictions or options.output / "glue_predictions.npz"
    try:
        if options.predictions is None:
            gather(Home(options.home), options.run or ["latest"], path)
        predictions = read_predictions(path)
        lines = table(predictions, seed=options.seed, n_draws=options.draws)
        header = ("task", "metric", "examples", "seeds", OURS, THEIRS, "difference")
        raw = (*header, "low", "high")
        write_csv(options.output / "glue_table.csv", raw, (line.cells for line in lines))
    except StreamlabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(markdown_table((*header, "95% interval"), (line.written for line in lines)))
    print(f"\n{reproduced(predictions)}")
    return 0


def gather(home: Home, names: Sequence[str], path: Path) -> None:
    """Predict with every artifact missing in `path`, and write the predictions of all there.

    Raises NotInRegistryError where no task has both methods, and what `Predictor` raises.
    """
    known = {one.facts.digest: one for one in read_predictions(path)} if path.exists() else {}
    with Registry.open(home.registry_url, clock=time.time, read_only=True) as registry:
        listed = [one for name in names for one in _stored(registry, registry.runs.get(name))]
    wanted = list(_in_pairs(listed))
    if not wanted:
        raise NotInRegistryError(
            f"No task of GLUE has finished by both {OURS} and {THEIRS} in {', '.join(names)}. "
            "Let the runs go on, or run scenarios/glue_eight.yaml."
        )
    predictors: dict[int, Predictor] = {}
    for one in wanted:
        if one.digest in known:
            continue
        if one.run.id not in predictors:
            predictors = {one.run.id: Predictor(one.run, FolderStore(home.store))}  # one at a time
        known[one.digest] = predictors[one.run.id].predict(one)
        facts = known[one.digest].facts
        what = f"{facts.task}, {facts.method}, seed {facts.seed}: {facts.metric} {facts.score:.4f}"
        print(f"{what}, {facts.recorded:.4f} recorded", file=sys.stderr)
    write_predictions(path, [known[one.digest] for one in wanted])


def _stored(registry: Registry, run: RunRecord) -> Iterator[Stored]:
    """Yield a run's finished GLUE tasks by either method. Raises UsageError for synthetic data."""
    scores = own_scores(registry.scores.list(run=run.id))
    kinds = {diff.digest: diff.kind for diff in registry.artifacts.list(run=run.id)}
    for arrival in registry.arrivals.list(run=run.id, status="finished"):
        dataset = str(run.settings.task(arrival.task).get("dataset", ""))
        recorded = scores.get(arrival.id)
        if arrival.method not in (OURS, THEIRS) or dataset not in GLUE:
            continue
        if recorded is None or arrival.digest is None:
            continue
        if recorded.synthetic:
            raise UsageError(
                f"The data of `{arrival.task}` in {run.name} are synthetic, and no score on them "
                "is one of GLUE. Set STREAMLAB_DATA to a folder with GLUE's data and run again."
            )
        yield Stored(run, arrival, arrival.digest, kinds[arrival.digest], dataset, recorded)


def _in_pairs(listed: Sequence[Stored]) -> Iterator[Stored]:
    """Yield tasks that both methods have under the same seed, and report the others."""
    done = {(one.dataset, one.arrival.seed, one.arrival.method) for one in listed}
    for one in listed:
        arrival = one.arrival
        if all((one.dataset, arrival.seed, method) in done for method in (OURS, THEIRS)):
            yield one
        else:
            what = f"{arrival.task}, seed {arrival.seed}"
            print(f"{what}: only by {arrival.method}, left out", file=sys.stderr)


class Predictor:
    """A run's base and data, loaded again, to predict with its artifacts."""

    def __init__(self, run: RunRecord, store: FolderStore) -> None:
        """Load the base. Raises BaseMismatchError where it has changed."""
        origin = f"the scenario of {run.name}"
        loaded = resolve_scenario(dict(run.scenario), origin=origin, folder=Path.cwd())
        base = load_base(loaded.scenario.base, seed=loaded.scenario.seeds[0])
        if base.fingerprint != run.base_fingerprint:
            raise BaseMismatchError(
                f"{run.name} is on the base {run.base_fingerprint[:12]}, and "
                f"{base.settings.model!r} now holds {base.fingerprint[:12]}. Put the base back."
            )
        self._context = RunContext(loaded.scenario, base, loaded.folder)
        self._store = store

    def predict(self, stored: Stored) -> Predictions:
        """Apply an artifact to the base and predict its dev examples.

        Raises DataError where the data differ from those it was scored on, StoreError where the
        score differs.
        """
        record, context = stored.arrival, self._context
        task = context.reported(record.task)
        fingerprint = task.data.source.examples_fingerprint
        if fingerprint != record.examples_fingerprint:
            raise DataError(
                f"The data of `{record.task}` are not those that {record.run} was scored on. "
                "Set STREAMLAB_DATA to the folder used for that run."
            )
        outputs = stored_outputs(
            context,
            record.task,
            stored.digest,
            stored.kind,
            self._store,
            record.details,
        )
        facts = PredictionFacts(
            task=record.task,
            dataset=stored.dataset,
            method=record.method,
            seed=record.seed,
            digest=stored.digest,
            examples_fingerprint=fingerprint,
            metric=task.data.metrics[0].name,
            recorded=stored.recorded.value,
            score=task.data.primary_score(outputs, task.dev.labels),
        )
        _check_score(facts)
        return Predictions(facts, task.dev.labels, task.data.type.decode(outputs))


def _check_score(facts: PredictionFacts) -> None:
    if abs(facts.score - facts.recorded) > ROUNDING:
        raise StoreError(
            f"The artifact {facts.digest} of `{facts.task}` ({facts.method}, seed {facts.seed}) "
            f"has a {facts.metric} of {facts.score}, and {facts.recorded} was recorded. "
            "The code that applies it, or the base, has changed; train the task again."
        )


def table(predictions: Sequence[Predictions], *, seed: int, n_draws: int) -> list[Line]:
    """Resample the difference of each task and of their mean. Raises UsageError as `find_pairs`."""
    lines: list[Line] = []
    means, drawn_means = [], []
    for place, (dataset, entry) in enumerate(GLUE.items()):
        own = [one for one in predictions if one.facts.dataset == dataset]
        pairs = find_pairs(own, OURS, THEIRS) if own else None
        if pairs is None:
            continue
        scores = mean_scores(pairs)
        drawn = draw_differences(pairs, np.random.default_rng([seed, place]), n_draws=n_draws)
        n_seeds, n_examples = pairs.this.shape
        name = f"{entry.hub_name} (not averaged)" if dataset == SHOWN_ONLY else entry.hub_name
        lines.append(Line(name, pairs.metric, n_examples, n_seeds, *scores, *interval(drawn)))
        if dataset != SHOWN_ONLY:
            means.append(scores)
            drawn_means.append(drawn)
    if means:
        ours, theirs = np.mean(means, axis=0).tolist()
        ends = interval(np.mean(drawn_means, axis=0))
        name = f"mean of {len(means)}"
        lines.append(Line(name, None, None, None, ours, theirs, *ends))
    return lines


def reproduced(predictions: Sequence[Predictions]) -> str:
    """Return a sentence that compares the scores with the recorded ones."""
    apart = [abs(one.facts.score - one.facts.recorded) for one in predictions]
    n_exact = sum(distance == 0.0 for distance in apart)
    start = f"{len(apart)} scores measured again from the stored artifacts: {n_exact} exactly"
    if n_exact == len(apart):
        return f"{start} as recorded."
    return f"{start} as recorded, the others within {max(apart):.2g} (rounding)."


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--home", type=Path, default=Path("streamlab-home"))
    parser.add_argument("--run", action="append", help="repeat for runs of other seeds")
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="in place of a home")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap; default: 0")
    parser.add_argument("--draws", type=int, default=N_DRAWS, help=f"default: {N_DRAWS}")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("figures"), metavar="DIR", help="default: figures"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
