"""How the settings of a row are found: a grid, or a search by Optuna over the same block.

    tune: {training.learning_rate: [1e-4, 2e-4, 5e-5]}                            a grid
    tune: {n_trials: 8, space: {training.learning_rate: {low: 1e-5, high: 1e-3}}}   a search

A search is replayed from what is recorded whenever it is asked for: Optuna is told the scores of
the trials so far, in order, and its sampler is seeded by the study, so that the same records give
the same next trial, in whatever process.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from streamlab.config import Settings
from streamlab.errors import UsageError
from streamlab.seeds import derived_seed

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

Value = bool | int | float | str
Setting = tuple[tuple[str, Value], ...]  # values of the settings that are tuned
SettingPath = Annotated[str, Field(pattern=r"^(method|training|storage|base)(\.\w+)+$")]
Values = Annotated[tuple[Value, ...], Field(min_length=1)]
Grid = Mapping[SettingPath, Values]


class Interval(Settings):
    """A number between two bounds."""

    low: float
    high: float
    log: bool = True
    """Whether it is sampled on a logarithmic axis."""

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("`low` must be below `high`, and above 0 on a logarithmic axis")
        return self


class Search(Settings):
    """A search by Optuna, an extra: `pip install "streamlab[tune]"`."""

    n_trials: PositiveInt
    """Settings that are tried."""
    space: Mapping[SettingPath, Interval | Values] = Field(min_length=1)
    """Where each setting is sampled: an interval, or a list of values."""
    sampler: Literal["tpe", "random", "quasi_random"] = "tpe"
    """Optuna's sampler: tree-structured Parzen estimators, uniform, or a Sobol sequence."""
    pruner: Literal["none", "median", "successive_halving"] = "none"
    """Optuna's pruner: after each task, whether a trial is given up, by its mean score so far."""


def _kind(tune: Any) -> str:
    """Tell a search from a grid, so that what is wrong is said of the one that is meant."""
    is_search = isinstance(tune, Search) or (isinstance(tune, Mapping) and "n_trials" in tune)
    return "search" if is_search else "grid"


Tune = Annotated[
    Annotated[Search, Tag("search")] | Annotated[Grid, Tag("grid")], Discriminator(_kind)
]


class SearchReplay:
    """One search, as far as it is recorded."""

    def __init__(self, search: Search, *, seed: int, name: str) -> None:
        """`seed`, `name`: of the study and of what is searched for. Raises UsageError."""
        try:
            import optuna
        except ImportError as error:
            raise UsageError(
                "A search (`tune` with `n_trials`) needs Optuna, which is not installed. Install "
                'it with `pip install "streamlab[tune]"`, or give lists of values.'
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._search = search
        self._pruned = optuna.trial.TrialState.PRUNED
        self._failed = optuna.trial.TrialState.FAIL
        self._optuna = optuna.create_study(
            direction="maximize",
            sampler=self._sampler(derived_seed("tune", seed, name) % (1 << 32)),
            pruner=self._pruner(),
        )
        self._trial: OptunaTrial | None = None

    def _sampler(self, seed: int) -> BaseSampler:
        from optuna import samplers

        if self._search.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        if self._search.sampler == "quasi_random":
            return samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        # By default the first ten trials are random, which few searches have.
        n_random = max(2, self._search.n_trials // 3)
        return samplers.TPESampler(seed=seed, n_startup_trials=n_random)

    def _pruner(self) -> BasePruner:
        from optuna import pruners

        if self._search.pruner == "median":
            return pruners.MedianPruner(n_startup_trials=2)
        if self._search.pruner == "successive_halving":
            return pruners.SuccessiveHalvingPruner()
        return pruners.NopPruner()

    def suggest(self) -> Setting:
        """Return the next setting to try."""
        self._trial = self._optuna.ask()
        return tuple((path, self._suggested(path)) for path in self._search.space)

    def _suggested(self, path: str) -> Value:
        assert self._trial is not None  # noqa: S101 - called by `suggest` alone
        space = self._search.space[path]
        if isinstance(space, Interval):
            value = self._trial.suggest_float(path, space.low, space.high, log=space.log)
            return float(f"{value:.4g}")  # so that a record names it in full
        choice = self._trial.suggest_categorical(path, space)
        assert choice is not None  # noqa: S101 - the space has none
        return choice

    def should_stop(self, scores: Sequence[float]) -> bool:
        """Tell whether the trial is to be given up, by the scores of its tasks so far."""
        assert self._trial is not None  # noqa: S101 - after `suggest`
        self._trial.report(sum(scores) / len(scores), step=len(scores))
        return self._trial.should_prune()

    def tell(self, score: float | None, *, pruned: bool = False) -> None:
        """End the trial with its mean score; None where a training broke down."""
        assert self._trial is not None  # noqa: S101 - after `suggest`
        if score is None:
            self._optuna.tell(self._trial, state=self._failed)
        elif pruned:
            self._optuna.tell(self._trial, state=self._pruned)
        else:
            self._optuna.tell(self._trial, score)


def grid_settings(grid: Grid) -> Iterator[Setting]:
    """Yield every combination of the values of a grid."""
    pairs: Iterator[list[Any]] = (
        [(path, value) for value in values] for path, values in grid.items()
    )
    yield from itertools.product(*pairs)


def first_setting(tune: Grid | Search) -> Setting:
    """Return one setting of a grid or a search, to validate what it would make."""
    if not isinstance(tune, Search):
        return next(grid_settings(tune))
    return tuple(
        (path, space.low if isinstance(space, Interval) else space[0])
        for path, space in tune.space.items()
    )
