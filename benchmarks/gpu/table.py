"""The markdown table of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from step_times import ADAMW_BYTES, GATED_BYTES, GATED_KERNELS


def markdown(found: Mapping[str, Any]) -> str:
    """Return all tables of a run."""
    lines = [", ".join(f"{name} {value}" for name, value in found["environment"].items()), ""]
    if found["quick"]:
        lines += ["Tiny shapes: these times mean nothing.", ""]
    for part in (_errors, _steps, _updates, _switching, _arrivals):
        lines += [*part(found), ""]
    return "\n".join(lines)


def _errors(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| kernels, tensors | unstructured | structured | fixed mask | repeats bit for bit |"
    yield "|---|---|---|---|---|"
    for name, errors in found["kernels"].items():
        if isinstance(errors, dict):
            worst = " | ".join(f"{max(by_result.values()):.1e}" for by_result in errors.values())
            yield f"| {name} | {worst} | {found['kernels'][f'{name}, repeats']} |"


def _shapes(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: rows for name, rows in found["steps"].items() if isinstance(rows, dict)}


def _steps(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "| shape, method | step ms | of full | kernels alone ms | launches "
        "| step with passes as a graph ms | of full | its update ms | peak GB |"
    )
    yield "|---" * 9 + "|"
    for shape, rows in _shapes(found).items():
        whole = rows["full finetuning"]
        for method, row in rows.items():
            yield f"| {shape}, {method} | {_step(row, whole)} |"


def _step(row: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    cells = [f"{row['step_ms']:.1f}", f"{row['step_ms'] / whole['step_ms']:.2f}"]
    if "graph" not in row:  # on a CPU
        return " | ".join(cells + [""] * 6)
    trace, graph = row["profile"], row["graph"]
    cells += [f"{trace['kernel_ms']:.1f}", f"{trace['n_kernels']:.0f}"]
    cells += [f"{graph['step_ms']:.1f}", f"{graph['step_ms'] / whole['graph']['step_ms']:.2f}"]
    cells += [f"{graph['update_ms']:.2f}", f"{row['peak_bytes'] / 1e9:.1f}"]
    return " | ".join(cells)


def _updates(found: Mapping[str, Any]) -> Iterator[str]:
    copy = found["steps"]["copy_bytes_per_second"]
    yield f"A copy on the device reads and writes {copy / 1e12:.3f} TB/s."
    yield ""
    yield "| shape, update | bytes per parameter | kernels ms | TB/s | of the copy |"
    yield "|---|---|---|---|---|"
    for shape, rows in _shapes(found).items():
        for method, row in rows.items():
            if "profile" not in row:
                continue
            ours = row["profile"]["ours_ms"]
            gated = sum(ours.get(name, 0.0) for name in GATED_KERNELS)
            n_bytes, ms = (
                (GATED_BYTES, gated) if gated else (ADAMW_BYTES, row["profile"]["adamw_ms"])
            )
            if not (gated or method.startswith("full")) or not ms:
                continue
            speed = n_bytes * row["n_parameters"] / (1e-3 * ms)
            yield (
                f"| {shape}, {method} | {n_bytes} | {ms:.2f} | {speed / 1e12:.2f} "
                f"| {speed / copy:.0%} |"
            )


def _switching(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| diff of 0.5% on | entries | decode ms | match ms | apply ms | swap ms | restored |"
    yield "|---|---|---|---|---|---|---|"
    for shape, row in found["switching"].items():
        times = " | ".join(f"{row[f'{n}_ms']:.2f}" for n in ("decode", "plan", "apply", "swap"))
        yield f"| {shape} | {row['entries']:,} | {times} | {row['base_restored']} |"


def _arrivals(found: Mapping[str, Any]) -> Iterator[str]:
    rows = found.get("arrivals") or {}
    if not rows:
        return
    one = next(iter(rows.values()))
    yield (
        "| providers at once | arrivals an hour | of one | training s | lab s | same bytes as one |"
    )
    yield "|---|---|---|---|---|---|"
    for n_workers, row in rows.items():
        rate = row["arrivals_per_hour"]
        yield (
            f"| {n_workers} | {rate:.0f} | {rate / one['arrivals_per_hour']:.2f} "
            f"| {row['training_seconds']:.1f} | {row['evaluation_seconds']:.1f} "
            f"| {row['digests'][: len(one['digests'])] == one['digests']} |"
        )
