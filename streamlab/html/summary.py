"""The summary at the top of the page: a few numbers, two paragraphs, and warnings."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streamlab.figures.accuracy import BASELINE
from streamlab.home.verify import Finding
from streamlab.registry.records import ArrivalRecord, RunRecord
from streamlab.units import counted, format_bytes
from streamlab.views.run_storage import RunStorage
from streamlab.views.score_notes import learning_advice
from streamlab.views.table import Fact, readable
from streamlab.views.task_scores import TaskScore, paired, pooled


@dataclass(frozen=True)
class Summary:
    """Key numbers, what they mean, and warnings about them."""

    numbers: tuple[Fact, ...]
    paragraphs: tuple[str, ...]
    warnings: tuple[str, ...]


def summarise(
    run: RunRecord,
    storage: RunStorage,
    arrivals: Sequence[ArrivalRecord],
    scores: Sequence[TaskScore],
    findings: Sequence[Finding],
) -> Summary:
    """Summarise a run: bytes of its first seed by the own method, and scores over all seeds."""
    method, seed = run.settings.primary_method, run.settings.seeds[0]
    own = [a for a in arrivals if (a.method, a.seed, a.status) == (method, seed, "finished")]
    mine = [score for score in scores if score.method == method]
    numbers = _numbers(storage, mine) if own else ()
    paragraphs = (_storage(run, own, storage), _scores(mine, scores)) if own else ()
    advice = learning_advice(run, mine)
    warnings = (*_warnings(run, arrivals, own, findings), *filter(None, [advice]))
    return Summary(tuple(numbers), tuple(" ".join(sentences) for sentences in paragraphs), warnings)


def _numbers(storage: RunStorage, mine: Sequence[TaskScore]) -> Iterator[Fact]:
    yield Fact("diffs stored", storage.n_files, "count")
    yield Fact("all diffs", storage.files_bytes, "bytes")
    yield Fact("full checkpoints", storage.full_checkpoint_bytes, "bytes")
    yield Fact("times smaller, base included", storage.ratio, "ratio")
    if mine:
        yield Fact("mean score", _mean(mine), "score")


def _storage(run: RunRecord, own: Sequence[ArrivalRecord], storage: RunStorage) -> Iterator[str]:
    providers = counted(len({arrival.provider for arrival in own}), "provider")
    diffs, full = storage.files_bytes, storage.full_checkpoint_bytes
    seeds = run.settings.seeds
    which = f" (seed {seeds[0]} of {len(seeds)})" if len(seeds) > 1 else ""
    n_tasks = len({(arrival.provider, arrival.task) for arrival in own})
    versions = "" if n_tasks == len(own) else f" in {len(own):,} versions"
    yield (
        f"{counted(n_tasks, 'task')}{versions} from {providers}, trained with "
        f"{run.settings.primary_method}{which}, {'is' if len(own) == 1 else 'are'} stored as "
        f"diffs of {format_bytes(diffs)} beside one base of {format_bytes(storage.base_bytes)}: "
        f"{format_bytes(storage.total_bytes)} in total. A full checkpoint for each would "
        f"take {format_bytes(full)}, {readable(storage.ratio, 'ratio')} times as much."
    )
    yield (
        f"Another task like these adds {format_bytes(diffs / storage.n_files)}, where a full "
        f"checkpoint adds {format_bytes(full / storage.n_files)}."
    )


def _scores(mine: Sequence[TaskScore], scores: Sequence[TaskScore]) -> Iterator[str]:
    if not mine:
        yield "No task has a score yet."
        return
    splits = " and ".join(sorted({score.split for score in mine}))
    yield (
        f"The mean score is {_mean(mine):.4f} over {counted(len(mine), 'task')}, each by its own "
        f"metric on {splits} examples."
    )
    full = {score.task: score for score in scores if score.method == BASELINE}
    both = [score for score in mine if score.task in full]
    pairs = pooled(paired(score, full[score.task]) for score in both)
    if pairs.mean is None:
        yield "Full finetuning was not trained in this run, so there is no score to compare with."
        return
    yield (
        f"Full finetuning, trained on {len(both):,} of these tasks, scores "
        f"{_mean([full[score.task] for score in both]):.4f} there, where the diffs score "
        f"{_mean(both):.4f}: a mean difference of {pairs.mean:+.4f} over "
        f"{counted(pairs.n_pairs, 'pair')} of task and seed."
    )


def _mean(scores: Sequence[TaskScore]) -> float:
    return statistics.fmean(score.mean for score in scores)


def _warnings(
    run: RunRecord,
    arrivals: Sequence[ArrivalRecord],
    own: Sequence[ArrivalRecord],
    findings: Sequence[Finding],
) -> Iterator[str]:
    if run.status != "finished":
        reason = f": {run.reason}" if run.reason else ""
        yield (
            f"The run is {run.status}{reason}. {len(own)} tasks of its first seed are finished; "
            f"of all {run.n_expected} expected arrivals, "
            f"{sum(a.status == 'finished' for a in arrivals)} are."
        )
    made = {arrival.task for arrival in own if arrival.source == "synthetic"}
    if made:
        whose = "every task" if len(made) == len({a.task for a in own}) else (
            f"{len(made)} of {counted(len({a.task for a in own}), 'task')}"
        )  # fmt: skip
        yield (
            f"The data of {whose} are synthetic, in the shape of the data sets they are named "
            "after. Their scores say nothing about the real data sets."
        )
    n_failed = sum(arrival.status == "failed" for arrival in arrivals)
    if n_failed:
        yield f"{counted(n_failed, 'attempt')} at an arrival failed; the reasons are below."
    n_stopped = sum(arrival.status == "quarantined" for arrival in arrivals)
    if n_stopped:
        yield (
            f"{counted(n_stopped, 'submission')} broke an admission rule, and nothing of them is "
            "used; the rules are below."
        )
    if findings:
        yield f"Verification found {counted(len(findings), 'problem')} in the home; see below."
