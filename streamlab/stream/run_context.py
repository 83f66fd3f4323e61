"""What a run works with: the base, every arrival's encoded examples, and one classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from streamlab.base import Base
from streamlab.errors import BaseMismatchError, UsageError
from streamlab.hashing import fingerprint_tensors
from streamlab.methods.api import TrainingSettings
from streamlab.methods.training_loop import set_dropout
from streamlab.stream.scenario import Scenario
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.tasks.batches import Encoded, encode
from streamlab.tasks.examples import TaskData
from streamlab.tasks.load import load_task
from streamlab.tasks.sources.hub import HubReach

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HEAD_SPREAD = 0.02  # standard deviation of a head that nothing was trained into


@dataclass(frozen=True)
class EncodedTask:
    """A task's examples as token ids, by split."""

    data: TaskData
    train: Encoded
    validation: Encoded
    dev: Encoded


def encode_task(data: TaskData, base: Base, training: TrainingSettings) -> EncodedTask:
    """Tokenise a task for a base.

    Raises UsageError where `max_length` exceeds the base's, or the device does not exist.
    """
    find_device(training.device)  # now rather than when the arrival's turn has come
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
    """Return the device to train on. Raises UsageError for a GPU that does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"`training.device` is {name!r}, and no GPU can be used here. Set it to `auto` or "
            "`cpu`, or install a build of torch that finds the GPU."
        )
    return device


class Classifiers:
    """The classifiers of one process, of which one at a time exists: trained, then scored with.

    Building one takes longer than all the evaluation of a small task, so that the model that was
    trained is used again, after its weights have been replaced by the base's.
    """

    def __init__(self, base: Base) -> None:
        self._base = base
        self._model: PreTrainedModel | None = None
        self._key: tuple[object, ...] = ()
        self._outline: list[tuple[Any, ...]] = []

    def build(self, task: EncodedTask, training: TrainingSettings, *, seed: int) -> PreTrainedModel:
        """Build the base under a head drawn from `seed`, on the device to train on."""
        self._model = None  # before there are two in memory
        torch.set_num_threads(training.threads)
        data = task.data
        model = self._base.classifier(
            n_outputs=data.n_outputs, seed=seed, model_class=data.type.model_class
        )
        # The library's wrapper around `to` has types that fit no call of it.
        model.to(find_device(training.device))  # type: ignore[arg-type]
        if training.dropout != "base":
            set_dropout(model, training.dropout)
        self._model, self._key, self._outline = model, _key(task, training), _outline(model)
        return model

    def clean(self, task: EncodedTask, training: TrainingSettings) -> PreTrainedModel:
        """Return a classifier that is the base, bit for bit, under a head that was never trained.

        This is the classifier built last, if it has the right shape and its modules are still
        the same, and a new one otherwise. A head that an artifact does not bring cannot be that
        of the training. Raises BaseMismatchError where the backbone is not the base.
        """
        model = self._model
        if model is None or self._key != _key(task, training) or self._outline != _outline(model):
            model = self.build(task, training, seed=0)
        torch.set_num_threads(training.threads)
        parameters = dict(model.named_parameters())
        if not self._is_base(parameters):
            # New storage: what a training kept of the old one stays as it is.
            for name, full in self._base.full_names.items():
                parameter = parameters[full]
                parameter.data = self._base.tensors[name].to(parameter.device, copy=True)
        draw = torch.Generator().manual_seed(0)
        for name in self._base.head_names:
            head = torch.empty(parameters[name].shape).normal_(std=_HEAD_SPREAD, generator=draw)
            parameters[name].data = head.to(model.device)
        if not self._is_base(parameters):
            raise BaseMismatchError(
                "A classifier's backbone is not the base, though it was just restored: two of its "
                "tensors share their memory. Nothing can be scored with it; start again."
            )
        model.eval()
        return model

    def head_shapes(
        self, task: EncodedTask, training: TrainingSettings
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of a task's head."""
        if self._model is None or self._key != _key(task, training):
            self.build(task, training, seed=0)
        shapes = {name: shape for kind, name, shape in self._outline if kind is torch.nn.Parameter}
        return {name: shapes[name] for name in self._base.head_names}

    def _is_base(self, parameters: dict[str, torch.nn.Parameter]) -> bool:
        """Compare the backbone with the base, bit for bit."""
        return all(
            _bits(parameters[full].detach().cpu()).equal(_bits(self._base.tensors[name]))
            for name, full in self._base.full_names.items()
        )


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.int32)


def _key(task: EncodedTask, training: TrainingSettings) -> tuple[object, ...]:
    data = task.data
    device = find_device(training.device)
    return data.type.model_class, data.n_outputs, device, training.dropout


def _outline(model: torch.nn.Module) -> list[tuple[Any, ...]]:
    """Return what restoring the weights leaves as it is: modules, hooks, shapes and buffers."""
    modules = ((type(m), name, tuple(m._forward_hooks)) for name, m in model.named_modules())
    parameters = (
        (torch.nn.Parameter, name, tuple(p.shape)) for name, p in model.named_parameters()
    )
    buffers = (torch.Tensor, "", fingerprint_tensors(dict(model.named_buffers())))
    return [*modules, *parameters, buffers]


class RunContext:
    """Everything the arrivals of a run share, read only but for caches."""

    def __init__(self, scenario: Scenario, base: Base, folder: Path) -> None:
        """`folder` is where relative paths of the scenario start."""
        self.scenario = scenario
        self.base = base
        self.folder = folder
        self.classifiers = Classifiers(base)
        self._hub = HubReach()
        self._seed: int | None = None
        self._loaded: dict[tuple[str, int], TaskData] = {}  # by task and version
        self._encoded: dict[tuple[str, int], EncodedTask] = {}

    def prepare(self, seed: int) -> None:
        """Load and encode every version of every task under a scenario seed.

        Raises what is wrong with any.
        """
        if seed == self._seed:
            return
        loaded, encoded = {}, {}
        for arrival in arrivals(self.scenario):
            key = arrival.task, arrival.version
            if arrival.seed != seed or key in loaded:
                continue
            entry = self.scenario.tasks[arrival.task]
            task = load_task(
                arrival.task,
                entry,
                self.scenario.data,
                seed=arrival.data_seed,
                hub=self._hub,
                base_folder=self.folder,
            )
            loaded[key] = task
            encoded[key] = encode_task(task, self.base, entry.training)
        self._seed, self._loaded, self._encoded = seed, loaded, encoded

    def receive(self, arrival: Arrival, task: TaskData) -> None:
        """Take an arrival's examples from the lab, in place of loading every provider's."""
        if arrival.seed != self._seed:
            self._seed, self._loaded, self._encoded = arrival.seed, {}, {}
        key = arrival.task, arrival.version
        if self._loaded.get(key) != task:
            self._loaded[key] = task
            self._encoded[key] = encode_task(task, self.base, self.training(arrival.task))

    def check_keys(self) -> None:
        """Raise UsageError where a provider's own key cannot be read."""
        for name in self.scenario.providers:
            self.find_private_key(name, self.scenario.seeds[0])

    def find_private_key(self, provider: str, seed: int) -> str | None:
        """Return the key that a provider signs with, None where it has none. Raises UsageError."""
        return self.scenario.providers[provider].find_private_key(seed, provider, self.folder)

    def training(self, task: str) -> TrainingSettings:
        """Return the training settings of a task."""
        return self.scenario.tasks[task].training

    def tasks(self) -> tuple[TaskData, ...]:
        """Return every task as first loaded for the latest seed, in the order of arrival."""
        return tuple(task for (_, version), task in self._loaded.items() if version == 1)

    def loaded(self, arrival: Arrival) -> TaskData:
        """Return an arrival's examples and which sources were tried."""
        self.prepare(arrival.seed)
        return self._loaded[arrival.task, arrival.version]

    def encoded(self, arrival: Arrival) -> EncodedTask:
        """Return an arrival's examples as token ids."""
        self.prepare(arrival.seed)
        return self._encoded[arrival.task, arrival.version]
