"""The figures of docs/scaling.md are those of the file that the benchmark wrote."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from script_samples import load_script

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scale_out_table.py"


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return load_script("benchmarks/scale_out_table.py")


def test_the_page_holds_what_was_measured(table: ModuleType) -> None:
    page = table.PAGE.read_text("utf-8")
    found = json.loads(table.RESULTS.read_text("utf-8"))

    assert table.filled(page, found) == page
    assert table.filled(page, found | {"settle_ms_two_layers": 12_345}) != page
    assert "12345 ms" in table.filled(page, found | {"settle_ms_two_layers": 12_345})


def test_the_part_that_is_used_most_is_the_bottleneck(table: ModuleType) -> None:
    rate = table.ARRIVALS_A_DAY / 86_400
    slow, fast = 2 * 1e3 / rate, 0.5 * 1e3 / rate
    inserts = rate * table.TRANSACTIONS / 0.75  # three quarters of which are needed

    def first(ms: float) -> str:
        figures = {"settle_ms_two_layers": ms, "postgresql_inserts_per_second": inserts}
        return "\n".join(table.bottleneck(figures))

    assert "is the driver, which settles arrivals one by one: 200% of" in first(slow)
    assert "is the registry in PostgreSQL: 75% of" in first(fast)
    assert "one by one can do, 50% is needed" in first(fast)
