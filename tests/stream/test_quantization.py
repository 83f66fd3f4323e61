"""The value type is the smallest that leaves a diff's answers on rows of its own as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from stream_samples import Ran

from streamlab.base import load_base
from streamlab.diff.apply import applied
from streamlab.diff.format.container import decode, open_diff
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import StoreError
from streamlab.home.store import FolderStore
from streamlab.inference.artifact_kinds import read_artifact
from streamlab.inference.model import logits
from streamlab.stream.providers.quantization import SMALLEST_FIRST, quantize
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import load_scenario
from streamlab.stream.scoring import check_probe, take_probe

if TYPE_CHECKING:
    from streamlab.methods.api import TrainingSettings
    from streamlab.stream.run_context import EncodedTask


@pytest.fixture(scope="module")
def context(plain: Ran) -> RunContext:
    loaded = load_scenario(plain.path)
    made = RunContext(loaded.scenario, load_base(loaded.scenario.base, seed=1), loaded.folder)
    made.prepare()
    return made


def parts(
    plain: Ran, context: RunContext, task: str
) -> tuple[DiffVector, EncodedTask, TrainingSettings]:
    """Return a stored diff with noise below its rounding, its task and its training."""
    outcome = next(o for o in plain.outcomes if o.arrival.task == task)
    assert outcome.diff is not None
    data = FolderStore(plain.home.store).get(outcome.diff.digest)
    diff = decode(data, context.base.layout)
    rng = np.random.default_rng(0)

    def shaken(tensor: SparseTensor) -> SparseTensor:
        noise = (1 + 1e-3 * rng.random(len(tensor))).astype(np.float32)
        return replace(tensor, values=tensor.values * noise)

    diff = DiffVector(diff.layout, tuple(map(shaken, diff.tensors)), diff.head, diff.task)
    return diff, context.encoded(outcome.arrival), context.scenario.tasks[task].training


@pytest.mark.parametrize("name", ["mood", "degree"])
def test_the_chosen_type_passes_and_smaller_ones_do_not(
    plain: Ran, context: RunContext, name: str
) -> None:
    diff, task, training = parts(plain, context, name)

    model = context.classifiers.clean(task, training)
    with applied(model, diff):
        before = logits(model, task.validation)
    chosen = quantize(diff, task, model, before, values="auto")

    facts = chosen.details
    assert facts["least"] == {"mood": 0.995, "degree": 0.999}[name]
    passed = [
        facts["agreement"][t] >= facts["least"] for t in SMALLEST_FIRST if t in facts["agreement"]
    ]
    assert passed == [False] * (len(passed) - 1) + [True]
    assert open_diff(chosen.encoded.data).header.value_type == facts["values"]
    with applied(model, decode(chosen.encoded.data, context.base.layout)):
        after = logits(model, task.validation)
    assert np.array_equal(after, chosen.outputs)
    if name == "mood":
        assert (before.argmax(1) == after.argmax(1)).mean() >= 0.995
    else:
        ranks = [np.argsort(np.argsort(outputs[:, 0])) for outputs in (before, after)]
        assert np.corrcoef(*ranks)[0, 1] >= 0.999


def test_values_of_which_every_bit_counts_stay_wide(plain: Ran, context: RunContext) -> None:
    diff, task, training = parts(plain, context, "degree")
    # One large value a tensor: four bits stretch to reach it, and the small ones swell.
    scales = (np.where(np.arange(len(t)) == 0, 100, 1).astype(np.float32) for t in diff.tensors)
    skewed = (replace(t, values=t.values * s) for t, s in zip(diff.tensors, scales, strict=True))
    wild = DiffVector(diff.layout, tuple(skewed), diff.head, diff.task)

    model = context.classifiers.clean(task, training)
    with applied(model, wild):
        expected = logits(model, task.validation)
    chosen = quantize(wild, task, model, expected, values="auto")

    assert chosen.details["agreement"]["int4"] < 0.999
    assert open_diff(chosen.encoded.data).header.value_type == chosen.details["values"] != "int4"


def test_every_arrival_records_its_quantization_and_its_probe(plain: Ran) -> None:
    for outcome in plain.outcomes:
        details = outcome.record.details
        assert outcome.diff is not None
        assert details.reported.quantization is not None
        assert details.probe is not None
        assert details.reported.quantization["values"] == outcome.diff.value_type
        assert 0 < details.probe.n_changed <= outcome.diff.n_entries
        assert len(details.probe.sha256) == 64


def test_a_base_that_answers_otherwise_is_noticed(plain: Ran, context: RunContext) -> None:
    outcome = plain.outcomes[0]
    assert outcome.diff is not None
    task = context.encoded(outcome.arrival)
    training = context.scenario.tasks[outcome.arrival.task].training
    recorded = outcome.record.details.probe
    assert recorded is not None
    digest = outcome.diff.digest
    data = FolderStore(plain.home.store).get(digest)
    model = context.classifiers.clean(task, training)

    with read_artifact("diff", data, context.base).applied_to(model) as served:
        same = take_probe(served, logits(model, task.dev), training)
        fewer = replace(recorded, n_changed=recorded.n_changed - 1)
        with torch.no_grad():
            next(model.parameters()).add_(0.01)
        other = take_probe(served, logits(model, task.dev), training)

    assert same == recorded
    check_probe(same, recorded, digest=digest)
    with pytest.raises(StoreError, match="`n_changed` is"):
        check_probe(fewer, recorded, digest=digest)
    with pytest.raises(StoreError, match="`sha256` is"):
        check_probe(other, recorded, digest=digest)
    elsewhere = replace(recorded, machine="another", sha256="00")
    check_probe(other, elsewhere, digest=digest)
