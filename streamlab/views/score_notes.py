"""Notes on scores that say little: not above the majority class, or of a few examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamlab.registry.records import ArrivalRecord, RunRecord
from streamlab.registry.registry import Registry
from streamlab.units import counted
from streamlab.views.table import Fact, Facts
from streamlab.views.task_scores import TaskScore

FEW_EXAMPLES = 50  # of so many, a share of one half has a standard error of 0.07
_MOST_TASKS = 20  # with a note each


def not_learned(run: RunRecord, scores: Sequence[TaskScore]) -> list[TaskScore]:
    """Return the scores by the run's own method that are not above the majority class's."""
    own = run.settings.primary_method
    return [score for score in scores if score.method == own and score.learned is False]


def learning_advice(run: RunRecord, scores: Sequence[TaskScore]) -> str:
    """Return which tasks were not learned and what to try, empty where all were."""
    found = [score.task for score in not_learned(run, scores)]
    if not found:
        return ""
    n_own = sum(score.method == run.settings.primary_method for score in scores)
    names = ", ".join(found[:_MOST_TASKS]) + (", ..." if len(found) > _MOST_TASKS else "")
    return (
        f"Not above the majority class of the training examples: {names} ({len(found):,} of "
        f"{counted(n_own, 'task')}). Try more steps (`training.min_steps`, "
        "`training.epochs`), a higher `training.learning_rate`, or more examples (in its files, or "
        "by `data.max_train_examples` where that leaves some out)."
    )


def score_notes(registry: Registry, run: RunRecord, scores: Sequence[TaskScore]) -> Facts:
    """Return a note on each task whose score by the run's own method says little."""
    weak = not_learned(run, scores)
    few = [
        score
        for score in scores
        if score.method == run.settings.primary_method and score.n_examples < FEW_EXAMPLES
    ]
    noted = list(dict.fromkeys(score.task for score in (*weak, *few)))
    facts = []
    for task in noted[:_MOST_TASKS]:
        found = [score for score in weak if score.task == task]
        notes = [note for score in found for note in _weak_notes(registry, run, score)]
        notes += [
            f"{counted(score.n_examples, f'{score.split} example')} can tell little"
            for score in few
            if score.task == task
        ]
        facts.append(Fact(task, "; ".join(notes)))
    if len(noted) > _MOST_TASKS:
        facts.append(Fact("others", len(noted) - _MOST_TASKS, "count"))
    return Facts("notes", "Notes on scores", tuple(facts))


def _weak_notes(registry: Registry, run: RunRecord, score: TaskScore) -> Iterator[str]:
    """Yield what is known of a task that was not learned."""
    yield f"{score.metric} {score.mean:.4f}, where the majority class has {score.majority:.4f}"
    arrivals = registry.arrivals.list(
        run=run.id, task=score.task, method=score.method, status="finished"
    )
    constant = [arrival for arrival in arrivals if _is_constant(arrival)]
    if constant:
        several = f" in {len(constant)} of {len(arrivals)} arrivals" * (len(arrivals) > 1)
        yield f"all answers are one class{several}"
    last = arrivals[-1]
    examples = counted(last.n_train_examples, "example")
    yield f"trained for {counted(last.n_steps, 'step')} on {examples}"


def _is_constant(arrival: ArrivalRecord) -> bool:
    """Tell whether an arrival's answers to all dev examples are known to be one class."""
    confusion = arrival.details.confusion
    return confusion is not None and sum(map(any, zip(*confusion.counts, strict=True))) == 1
