"""Write what `scale_out.py` measured, and what follows for a large stream, into docs/scaling.md.

The text between the markers of that page is replaced; nothing there is typed by hand.

    python benchmarks/scale_out_table.py benchmarks/results/scale_out.json
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scaling.md"
RESULTS = ROOT / "benchmarks" / "results" / "scale_out.json"
_MARKER = "written by benchmarks/scale_out_table.py"
BLOCK = re.compile(rf"(<!-- (\w+): {_MARKER} -->\n).*?(<!-- end -->)", re.DOTALL)

# Name of a figure, what it is, its format, and its goal.
ROWS = (
    ("serial1_per_hour", "arrivals per hour, `serial`, one thread", "{:,.0f}", ""),
    ("processes1_over_serial1", "`processes`, 1 worker, relative to `serial`", "{:.2f}", ""),
    ("processes2_over_serial1", "`processes`, 2 workers, relative to `serial`", "{:.2f}", "1.7"),
    ("ray2_over_serial1", "`ray`, 2 workers, relative to `serial`", "{:.2f}", ""),
    ("settle_ms_two_layers", "the lab's time per arrival, ms", "{:.0f}", ""),
    ("second_worker_mib", "memory that a second worker adds, MiB", "{:.0f}", ""),
    ("task_state_mib", "of which the state of its training, MiB", "{:.0f}", ""),
    ("extra_worker_mib", "beyond that state, MiB", "{:.0f}", "at most 400"),
    ("serial_instant_ms", "an instant order under `serial`, ms", "{:.1f}", ""),
    ("processes_overhead_ms", "what `processes` adds to it, ms", "{:.1f}", "below 10"),
    ("ray_overhead_ms", "what `ray` adds to it, ms", "{:.1f}", "below 50"),
    ("processes_change_ms", "each order another provider's: `processes`, ms", "{:.0f}", ""),
    ("ray_change_ms", "the same under `ray`, ms", "{:.0f}", ""),
    ("driver_growth_mb", "growth of the driver over 9,500 arrivals, MB", "{:.0f}", "at most 100"),
    ("serial_early_ms", "an instant arrival under `serial`, after the 500th, ms", "{:.0f}", ""),
    ("serial_late_ms", "the same, before the last of 10,000, ms", "{:.0f}", ""),
    ("processes_early_ms", "under `processes`, 2 workers, after the 500th, ms", "{:.0f}", ""),
    ("processes_late_ms", "the same, before the last of 10,000, ms", "{:.0f}", ""),
    ("serial_settle_ms", "of which the lab's, on a tiny base, ms", "{:.0f}", ""),
    ("postgresql_inserts_per_second", "arrivals recorded a second, PostgreSQL", "{:,.0f}", ""),
    ("sqlite_inserts_per_second", "the same in SQLite", "{:,.0f}", ""),
    ("store_puts_per_second_local_1", "files of 150 kB stored per second, a folder", "{:,.0f}", ""),
    ("store_puts_per_second_local_8", "the same from 8 threads", "{:,.0f}", ""),
    ("store_puts_per_second_s3_1", "the same into moto's S3 server on loopback", "{:,.0f}", ""),
    ("store_puts_per_second_s3_8", "the same from 8 threads", "{:,.0f}", ""),
)  # fmt: skip

# The stream that the arithmetic is about.
ARRIVALS_A_DAY, WORKERS, WORKERS_A_NODE = 1_000_000, 1000, 32
ARTIFACT_BYTES, EXAMPLES_BYTES, BASE_BYTES = 150_000, 1_000_000, 91_000_000
RECORD_BYTES = 2_200  # docs/measurements.md, "A registry of a million arrivals"
PUTS, GETS, TRANSACTIONS = 1, 2, 2  # of an arrival: stored, scored, scored again at the end
S3_PUTS, S3_GETS = 3500, 5500  # a second and prefix, by Amazon's documentation

Found = Mapping[str, Any]


def main() -> None:
    """Fill the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", nargs="?", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = json.loads(options.json.read_text("utf-8"))
    PAGE.write_text(filled(PAGE.read_text("utf-8"), found), "utf-8")


def filled(page: str, found: Found) -> str:
    """Return the page with its blocks written anew."""
    return BLOCK.sub(lambda m: f"{m[1]}{chr(10).join(BLOCKS[m[2]](found))}\n{m[3]}", page)


def measured(found: Found) -> Iterator[str]:
    """Yield the lines of the table of figures."""
    yield f"{found['machine']}."
    if found["quick"]:
        yield ""
        yield "**Measured with `--quick` on a busy machine: these figures mean nothing yet.**"
    yield ""
    yield "| | measured | goal |"
    yield "|---|---|---|"
    for name, what, form, goal in ROWS:
        value = form.format(found[name]) if name in found else "not measured"
        yield f"| {what} | {value} | {goal} |"


def needed(found: Found) -> Iterator[str]:
    """Yield the lines of the table of what the large stream needs."""
    rate = ARRIVALS_A_DAY / 86_400
    settle = found["settle_ms_two_layers"] / 1e3
    inserts = found.get("postgresql_inserts_per_second")
    n_nodes = -(-WORKERS // WORKERS_A_NODE)
    at_driver = ARTIFACT_BYTES * (1 + PUTS + GETS) + EXAMPLES_BYTES
    growth = max(found.get("driver_growth_mb", 0.0), 0.0) / 9_500
    yield "| | needed | arithmetic |"
    yield "|---|---|---|"
    yield f"| arrivals | {rate:.1f} a second | {ARRIVALS_A_DAY:,} / 86,400 s |"
    yield f"| time for a training | {WORKERS / rate:.0f} s | {WORKERS:,} workers / {rate:.1f} |"
    yield (
        f"| the driver settles | {rate * settle:.1f} s of work a second | "
        f"{rate:.1f} times {1e3 * settle:.0f} ms, two layers and 132 examples |"
    )
    yield (
        f"| registry | {rate * TRANSACTIONS:.0f} transactions a second | {TRANSACTIONS} of an "
        f"arrival: recorded, scored again; 8 writers reached {_shown(inserts)} |"
    )
    yield (
        f"| registry's growth | {ARRIVALS_A_DAY * RECORD_BYTES / 1e9:.1f} GB a day | "
        f"{RECORD_BYTES:,} bytes of records |"
    )
    yield (
        f"| object store | {rate * PUTS:.0f} PUT and {rate * GETS:.0f} GET a second | "
        f"S3 allows {S3_PUTS:,} and {S3_GETS:,} per prefix |"
    )
    yield (
        f"| store's growth | {ARRIVALS_A_DAY * ARTIFACT_BYTES / 1e9:.0f} GB a day | "
        f"{ARTIFACT_BYTES / 1e3:.0f} kB a diff |"
    )
    yield (
        f"| network of the driver | {rate * at_driver * 8 / 1e6:.0f} Mbit/s | examples out "
        f"({EXAMPLES_BYTES / 1e6:.0f} MB), diff in, to the store and {GETS} times back |"
    )
    yield (
        f"| the base | {n_nodes * BASE_BYTES / 1e9:.1f} GB once | {BASE_BYTES / 1e6:.0f} MB to "
        f"{n_nodes} machines of {WORKERS_A_NODE} cores; workers of one share it |"
    )
    if "second_worker_mib" in found:
        yield (
            f"| memory of a machine | {WORKERS_A_NODE * found['second_worker_mib'] / 1024:.0f} GiB "
            f"| {WORKERS_A_NODE} times {found['second_worker_mib']:.0f} MiB, two layers |"
        )
    yield (
        f"| memory of the driver | {ARRIVALS_A_DAY * growth / 1e3:.1f} GB more after a day | "
        f"{1e3 * growth:.1f} kB an arrival, as measured over 9,500 |"
    )


def bottleneck(found: Found) -> Iterator[str]:
    """Yield the sentence that names the first bottleneck."""
    rate = ARRIVALS_A_DAY / 86_400
    used = {"driver, which settles arrivals one by one": rate * found["settle_ms_two_layers"] / 1e3}
    if "postgresql_inserts_per_second" in found:
        inserts = found["postgresql_inserts_per_second"]
        used["registry in PostgreSQL"] = rate * TRANSACTIONS / inserts
    first, *others = sorted(used, key=lambda name: -used[name])
    yield (
        f"**The first bottleneck is the {first}: {100 * used[first]:.0f}% of what it can do is "
        "needed.**"
    )
    for name in others:
        yield f"Of what the {name} can do, {100 * used[name]:.0f}% is needed."


def _shown(value: float | None) -> str:
    return "an unmeasured number" if value is None else f"{value:,.0f}"


BLOCKS: dict[str, Callable[[Found], Iterator[str]]] = {
    "measured": measured,
    "needed": needed,
    "bottleneck": bottleneck,
}


if __name__ == "__main__":
    main()
