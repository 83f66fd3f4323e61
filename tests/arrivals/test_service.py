"""The virtual time of a training is its own, one that was measured before, or the one given."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streamlab.arrivals.service import QueueSettings, service_us
from streamlab.errors import UsageError

HISTORY = (1.5, 20.25, 300.000001)


def taken(settings: QueueSettings, *, history: tuple[float, ...] = HISTORY, seed: int = 1) -> int:
    return service_us(settings, trained_seconds=12.3456789, history=history, seed=seed)


def test_by_default_there_is_one_slot_and_a_task_takes_its_own_time() -> None:
    assert QueueSettings() == QueueSettings(slots=1, service="real")
    assert taken(QueueSettings()) == 12_345_679


def test_a_fixed_time_is_alike_for_all() -> None:
    assert taken(QueueSettings(service="fixed", seconds=90.5)) == 90_500_000
    assert taken(QueueSettings(service="fixed", seconds=0)) == 0


def test_a_time_of_the_history_is_drawn_by_the_seed_and_each_comes_up() -> None:
    drawn = [taken(QueueSettings(service="history"), seed=seed) for seed in range(300)]

    assert drawn == [taken(QueueSettings(service="history"), seed=seed) for seed in range(300)]
    assert set(drawn) == {1_500_000, 20_250_000, 300_000_001}
    # 100 expected of each; 4 standard deviations of a binomial are 33.
    assert all(67 < drawn.count(time) < 133 for time in set(drawn))


def test_without_a_history_there_is_nothing_to_draw_from() -> None:
    with pytest.raises(UsageError, match=r"has none\. Run the scenario once with `service: real`"):
        taken(QueueSettings(service="history"), history=())


@pytest.mark.parametrize(
    "tree",
    [
        {"slots": 0},
        {"service": "fixed"},
        {"seconds": 3},
        {"service": "history", "seconds": 3},
        {"service": "fixed", "seconds": -1},
        {"service": "guess"},
    ],
)
def test_settings_that_mean_nothing_are_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        QueueSettings.model_validate(tree)
