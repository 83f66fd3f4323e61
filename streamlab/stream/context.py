"""What a run works with: the base, and the rows of every arrival, encoded once a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from streamlab.base import Base
from streamlab.errors import TrainingError, UsageError
from streamlab.inference.model import logits
from streamlab.methods.api import Progress, TrainingJob, TrainingResult, TrainingSettings
from streamlab.methods.training_loop import set_dropout
from streamlab.stream.scenario import Scenario
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.tasks.batches import Encoded, encode, n_batches, training_batches
from streamlab.tasks.examples import TaskData
from streamlab.tasks.load import LoadedTask, load_task
from streamlab.tasks.sources.hub import HubReach

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RunContext:
    """Everything the arrivals of a run share, read only but for the cache of encoded rows."""

    def __init__(
        self, scenario: Scenario, base: Base, folder: Path, *, provider: str | None = None
    ) -> None:
        """`folder` is where relative paths of the scenario start.

        `provider`: whose rows alone are to be had; all providers' where it is None.
        """
        self.scenario = scenario
        self.base = base
        self._folder = folder
        self._provider = provider
        self._hub = HubReach()
        self._seed: int | None = None
        self._loaded: dict[tuple[str, int], LoadedTask] = {}  # by task and version
        self._encoded: dict[tuple[str, int], EncodedTask] = {}

    def prepare(self, seed: int) -> None:
        """Load and encode every version of every task under a scenario seed.

        Raises what is wrong with any.
        """
        if seed == self._seed:
            return
        loaded, encoded = {}, {}
        for arrival in arrivals(self.scenario):
            key = _key(arrival)
            if arrival.seed != seed or key in loaded:
                continue
            if self._provider not in (None, arrival.provider):
                continue
            entry = self.scenario.tasks[arrival.task]
            task = load_task(
                arrival.task,
                entry,
                self.scenario.data,
                seed=arrival.data_seed,
                hub=self._hub,
                base_folder=self._folder,
            )
            loaded[key] = task
            encoded[key] = encode_task(task, self.base, entry.training)
        self._seed, self._loaded, self._encoded = seed, loaded, encoded

    def check_keys(self) -> None:
        """Raise UsageError where a provider's own key cannot be read."""
        for name in self.scenario.providers:
            self.find_private_key(name, self.scenario.seeds[0])

    def find_private_key(self, provider: str, seed: int) -> str | None:
        """Return the key that a provider signs with, None where it has none. Raises UsageError."""
        return self.scenario.providers[provider].find_private_key(seed, provider, self._folder)

    def tasks(self) -> tuple[LoadedTask, ...]:
        """Return every task as first loaded for the latest seed, in the order of arrival."""
        return tuple(task for (_, version), task in self._loaded.items() if version == 1)

    def loaded(self, arrival: Arrival) -> LoadedTask:
        """Return an arrival's rows and which sources were tried."""
        self.prepare(arrival.seed)
        return self._loaded[_key(arrival)]

    def encoded(self, arrival: Arrival) -> EncodedTask:
        """Return an arrival's rows as token ids."""
        self.prepare(arrival.seed)
        return self._encoded[_key(arrival)]


def _key(arrival: Arrival) -> tuple[str, int]:
    return arrival.task, arrival.version


@dataclass(frozen=True)
class EncodedTask:
    """A task's rows as token ids, split by what they are for."""

    data: TaskData
    train: Encoded
    validation: Encoded
    dev: Encoded


def encode_task(data: TaskData, base: Base, training: TrainingSettings) -> EncodedTask:
    """Tokenise a task for a base.

    Raises UsageError where `max_length` is past the base's, or the device is not there.
    """
    find_device(training.device)  # now, and not when the arrival's turn has come
    if training.max_length > base.max_length:
        raise UsageError(
            f"`training.max_length` of `{data.name}` is {training.max_length} tokens, and the base "
            f"{base.settings.model!r} takes at most {base.max_length}. Lower it."
        )
    length = training.max_length
    return EncodedTask(
        data,
        encode(data.train, base.tokenizer, data.type, max_length=length),
        encode(data.validation, base.tokenizer, data.type, max_length=length),
        encode(data.dev, base.tokenizer, data.type, max_length=length),
    )


def find_device(name: str) -> torch.device:
    """Return the device to train on. Raises UsageError for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"`training.device` is {name!r}, and no GPU can be used here. Set it to `auto` or "
            "`cpu`, or install a build of torch that finds the GPU."
        )
    return device


def train(
    arrival: Arrival,
    task: EncodedTask,
    base: Base,
    training: TrainingSettings,
    watch: Callable[[Progress], None],
) -> TrainingResult:
    """Train one arrival on a fresh copy of the base.

    Raises TrainingError where it breaks down, BaseMismatchError where it touched the base.
    """
    seed = arrival.training_seed
    model = fresh_model(base, task.data, training, seed=seed)
    parameters = dict(model.named_parameters())
    device = model.device
    job = TrainingJob(
        task=arrival.task,
        model=model,
        layout=base.layout,
        base={name: tensor.to(device) for name, tensor in base.tensors.items()},
        backbone={name: parameters[full] for name, full in base.full_names.items()},
        head={name: parameters[name] for name in base.head_names},
        n_batches=n_batches(task.train, training.batch_size),
        batches=lambda epoch: training_batches(
            task.train, batch_size=training.batch_size, seed=seed, epoch=epoch
        ),
        loss=task.data.type.loss,
        training=training,
        seed=seed,
        watch=watch,
        validate=None if training.patience is None else partial(_validation_score, model, task),
    )
    trained = arrival.method.train(job)
    base.check_unchanged()
    return trained


def _validation_score(model: PreTrainedModel, task: EncodedTask) -> float:
    """Score a model in training on the rows split from train, by the task's first metric."""
    rows = task.validation
    if not len(rows.labels):
        raise TrainingError(
            f"`{task.data.name}` has no rows split from train to stop early by. Raise "
            "`data.validation_share`, or leave `training.patience` out."
        )
    return task.data.primary_score(logits(model, rows), rows.labels)


def fresh_model(
    base: Base, data: TaskData, training: TrainingSettings, *, seed: int
) -> PreTrainedModel:
    """Build a classifier of the base for a task, on the device to train on."""
    torch.set_num_threads(training.threads)
    model = base.classifier(n_outputs=data.n_outputs, seed=seed, model_class=data.type.model_class)
    # The library's wrapper around `to` has types that fit no call of it.
    model.to(find_device(training.device))  # type: ignore[arg-type]
    if training.dropout != "base":
        set_dropout(model, training.dropout)
    return model
