"""`fit` and `simulate` print what the registry measured, and refuse what makes no sense."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streamlab.cli import cli
from streamlab.cli.options import BYTES, COUNT, SHARE
from streamlab.figures.storage import storage_series
from streamlab.home.folder import Home
from streamlab.registry.registry import Registry

RUN = ("--run", "glue_stream-1")


def tree(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def csv_rows(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.stderr
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_the_parts_of_a_fit_add_up(call: Callable[..., Result]) -> None:
    rows = csv_rows(call("fit", "--budget", "200MB", *RUN, "--format", "csv"))

    for column in ("measured_bytes", "planned_bytes"):
        *parts, total = (int(row[column]) for row in rows)
        assert sum(parts) == total
    assert int(rows[-1]["planned_bytes"]) <= 200_000_000
    assert rows[-1]["part"] == "total"


def test_a_fit_says_how_many_and_at_least_how_many(call: Callable[..., Result]) -> None:
    result = call("fit", "--budget", "200MB", *RUN, "--format", "json")

    found = tree(result)["fit"]
    assert 0 < found["at least (95%)"] < found["tasks that fit"]
    assert found["basis"] == "extrapolated"
    # Two measured tasks tell little of the most that may fit.
    assert found["at most (95%)"] is None
    assert result.stderr == "The measured diffs differ too much for an upper limit.\n"


def test_one_task_is_no_ground_for_an_interval(call: Callable[..., Result]) -> None:
    result = call("fit", "--budget", "200MB", "--run", "tiny-1")

    assert result.exit_code == 0
    assert "95%" not in result.stdout
    assert result.stderr == "One task was measured, so there is no interval.\n"


def test_the_first_tasks_are_held_against_all(call: Callable[..., Result]) -> None:
    found = tree(call("fit", "--budget", "200MB", *RUN, "--first", "1", "--format", "json"))

    assert found["measured"]["tasks"] == 1
    assert found["check"]["measured"] > 90_868_376
    assert found["check"]["covered"] is None


def test_the_density_that_fits_is_one_at_which_as_many_fit(call: Callable[..., Result]) -> None:
    asked = tree(call("fit", "--budget", "95MB", "--tasks", "200", *RUN, "--format", "json"))
    density = asked["fit"]["density"]

    there = call("fit", "--budget", "95MB", "--density", str(density), *RUN, "--format", "json")

    assert asked["fit"]["tasks"] == 200
    assert asked["fit"]["density"] == asked["fit"]["retained weights per task"] / 60_040
    assert tree(there)["fit"]["tasks that fit"] >= 200
    assert tree(there)["fit"]["assumed density"] == density


def test_a_simulation_inside_the_data_is_the_storage_figure(
    home: Home, call: Callable[..., Result]
) -> None:
    with Registry.open(home.registry_url, clock=lambda: 0.0, read_only=True) as registry:
        series = storage_series(registry, "glue_stream-1")

    rows = csv_rows(call("simulate", "--tasks", "2", *RUN, "--format", "csv"))

    assert [row["n_tasks"] for row in rows] == ["1", "2"]
    assert {row["basis"] for row in rows} == {"measured"}
    assert [int(row["files_bytes"]) for row in rows] == [r.ours_bytes for r in series.rows[1:]]
    assert [int(row["full_bytes"]) for row in rows] == [r.full_bytes for r in series.rows[1:]]


def test_beyond_the_data_a_simulation_says_so(call: Callable[..., Result]) -> None:
    result = call("simulate", "--tasks", "1M", *RUN)

    assert result.exit_code == 0
    (last,) = [line for line in result.stdout.splitlines() if line.startswith("1,000,000")]
    assert " extrapolated " in last
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_json_is_a_format_by_a_shorter_name(call: Callable[..., Result]) -> None:
    short = call("simulate", "--tasks", "10", *RUN, "--format", "json")

    assert short.stdout == call("simulate", "--tasks", "10", *RUN, "--format", "json").stdout
    assert tree(short)["steps"][-1]["n_tasks"] == 10


def test_markdown_shows_every_table(call: Callable[..., Result]) -> None:
    result = call("simulate", "--tasks", "10", *RUN, "--rate", "5", "--format", "md")

    assert result.exit_code == 0
    titles = [line for line in result.stdout.splitlines() if line.startswith("## ")]
    assert "## Bytes stored" in titles
    assert "## Time" in titles


def test_suppositions_are_named(call: Callable[..., Result]) -> None:
    found = tree(
        call(
            *("simulate", "--tasks", "100", *RUN, "--format", "json", "--density", "0.1%"),
            *("--value-type", "int4", "--base-params", "340k", "--heads", "3"),
            *("--replication", "2"),
        )
    )

    assert found["what_if"] == {
        "density": 0.001,
        "value type": "int4",
        "base parameters": 340_000,
        "classes": 3,
        "copies": 2,
    }
    assert {step["basis"] for step in found["steps"]} == {"what if"}


def test_arrivals_wait_and_finish(call: Callable[..., Result]) -> None:
    asked = ("simulate", "--tasks", "1000", *RUN, "--format", "json", "--rate", "5000")

    found = tree(call(*asked))
    again, other = tree(call(*asked)), tree(call(*asked, "--seed", "1"))

    # Each of the run's trainings took 8.25 seconds.
    assert found["queue"]["load"] == pytest.approx(5000 * 8.25 / 86_400)
    assert found["queue"]["mean wait"] > 0
    last = found["times"][-1]
    assert last["arrived_day"] <= last["done_day"] == pytest.approx(0.2, rel=0.2)
    assert again == found
    assert other["times"] != found["times"]


def test_tasks_that_come_unevenly_wait_longer(call: Callable[..., Result]) -> None:
    asked = ("simulate", "--tasks", "2000", *RUN, "--format", "json", "--rate", "5000")
    plain, even, uneven, bursts = (
        tree(call(*asked, *more))["queue"]
        for more in ((), ("--cv", "0.2"), ("--cv", "3"), ("--burst", "20"))
    )

    assert [q["arrivals"] for q in (plain, uneven, bursts)] == ["poisson", "gamma", "burst"]
    assert (uneven["coefficient of variation"], bursts["burst size"]) == (3, 20)
    waits = [queue["mean wait"] for queue in (even, plain, uneven, bursts)]
    assert waits == sorted(waits)


def test_a_rate_past_the_slots_is_told(call: Callable[..., Result]) -> None:
    asked = ("simulate", "--tasks", "100", *RUN, "--rate", "20000")

    assert "Tasks arrive faster than 1 at a time" in call(*asked).stderr
    assert call(*asked, "--slots", "2").stderr == ""


def test_a_budget_says_when_it_is_full(call: Callable[..., Result]) -> None:
    asked = ("simulate", "--tasks", "10000", *RUN, "--budget", "100MB", "--format", "json")

    assert tree(call(*asked))["budget"]["full on day"] is None
    found = tree(call(*asked, "--rate", "100"))
    assert found["budget"]["full on day"] == pytest.approx(
        found["budget"]["full after tasks"] / 100, rel=0.2
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("fit", "--budget", "64MB"), "Error: The base and an empty registry alone take"),
        (("fit", "--budget", "much"), "`--budget` takes bytes above 0, as 64MB, 1.5GiB"),
        (("fit", "--budget", "0"), "got '0'."),
        (("fit", "--budget", "-5MB"), "got '-5MB'."),
        (("fit", "--budget", "1GB", "--tasks", "many"), "`--tasks` takes a whole number above 0"),
        (("fit", "--budget", "1GB", "--tasks", "2.5"), "got '2.5'."),
        (("fit", "--budget", "1GB", "--density", "0"), "`--density` takes a share above 0"),
        (("fit", "--budget", "1GB", "--density", "2"), "must be in (0, 1], got 2."),
        (("fit", "--budget", "1GB", "--density", "1%", "--tasks", "5"), "Leave one of them out."),
        (("fit", "--budget", "1GB", "--first", "10"), "a number from 1 to 2."),
        (("fit", "--budget", "91.1MB", "--tasks", "9000"), "at no density"),
        (("simulate", "--tasks", "lots"), "`--tasks` takes a whole number above 0"),
        (("simulate", "--tasks", "0"), "got '0'."),
        (("simulate", "--tasks", "9e15"), "takes at most 1e+15"),
        (("simulate", "--tasks", "10", "--density", "0%"), "`--density` takes a share"),
        (("simulate", "--tasks", "10", "--value-type", "float"), "'float' is not one of"),
        (("simulate", "--tasks", "10", "--base-params", "big"), "`--base-params` takes"),
        (("simulate", "--tasks", "10", "--slots", "2"), "give `--rate PER_DAY` too"),
        (("simulate", "--tasks", "10", "--cv", "2"), "`--cv` applies to simulated arrivals"),
        (("simulate", "--tasks", "10", "--burst", "2"), "`--burst` applies to simulated arrivals"),
        (
            ("simulate", "--tasks", "10", "--rate", "5", "--cv", "2", "--burst", "2"),
            "Leave one of them out.",
        ),
        (("simulate", "--tasks", "10", "--rate", "5", "--cv", "0"), "0.0 is not in the range"),
        (
            ("simulate", "--tasks", "10", "--rate", "1e-9"),
            "Raise the rate, or let fewer tasks arrive.",
        ),
        (("simulate", "--tasks", "10", "--rate", "often"), "`--rate` takes a number of tasks"),
        (("simulate", "--tasks", "100M", "--rate", "5"), "at most 10,000,000 tasks"),
        (("simulate", "--tasks", "10", "--budget", "1kB"), "more than the budget of 1,000."),
    ],
)
def test_what_makes_no_sense_is_one_paragraph(
    arguments: tuple[str, ...], text: str, call: Callable[..., Result]
) -> None:
    result = call(*arguments, *RUN)

    assert result.exit_code == 2, result.stdout
    assert text in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [("fit", "--budget", "1GB"), ("simulate", "--tasks", "10")])
def test_without_a_finished_run_there_is_nothing_to_go_by(
    arguments: tuple[str, ...], tmp_path: Path, home: Home, call: Callable[..., Result]
) -> None:
    with Registry.open(home.registry_url, clock=lambda: 2e9) as registry:
        registry.runs.start(registry.runs.get("glue_stream-1"))

    started = call(*arguments)
    nowhere = CliRunner().invoke(cli, [*arguments, "--home", str(tmp_path / "nowhere")])
    unknown = call(*arguments, "--run", "other-1")

    assert (started.exit_code, nowhere.exit_code, unknown.exit_code) == (1, 1, 2)
    assert "has finished, so there is nothing to show" in started.stderr
    assert "There is no registry" in nowhere.stderr
    assert "other-1" in unknown.stderr


def test_a_million_tasks_are_light_and_load_no_torch(home: Home) -> None:
    """One process from start to end; a benchmark tells its time."""
    code = (
        "import sys, pathlib\n"
        "from streamlab.cli import cli\n"
        "cli.main(sys.argv[1:], standalone_mode=False)\n"
        "print([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules])\n"
        # The most this program took; getrusage would tell of the process that started it, too.
        "print(pathlib.Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])\n"
    )
    asked = [
        "simulate",
        "--tasks",
        "1000000",
        *RUN,
        "--rate",
        "5000",
        "--slots",
        "2",
        "--format",
        "json",
    ]

    done = subprocess.run(
        [sys.executable, "-c", code, *asked],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"STREAMLAB_HOME": str(home.path)},
        timeout=60,
    )

    *_, loaded, kilobytes = done.stdout.splitlines()
    assert loaded == "[]"
    assert int(kilobytes) < 500_000


@pytest.mark.parametrize(
    ("text", "amount"),
    [("64MB", 64_000_000), ("1.5 GiB", 3 * 2**29), ("1_000", 1000), ("2e3", 2000), ("7b", 7)],
)
def test_bytes_are_read_with_their_units(text: str, amount: int) -> None:
    assert BYTES.convert(text, None, None) == amount


def test_counts_and_shares_are_read_with_theirs() -> None:
    assert COUNT.convert("340M", None, None) == 340_000_000
    assert COUNT.convert("1.5B", None, None) == 1_500_000_000
    assert COUNT.convert("1,000,000", None, None) == 10**6
    assert SHARE.convert("0.1%", None, None) == 0.001
    assert SHARE.convert("0.001", None, None) == 0.001
