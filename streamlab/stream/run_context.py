"""What a run works with: the base, every arrival's encoded examples, and one classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from streamlab.base import Base
from streamlab.config import digest
from streamlab.errors import (
    BaseMismatchError,
    DataError,
    DataProblemsError,
    SourceError,
    UsageError,
)
from streamlab.hashing import fingerprint_tensors
from streamlab.home.cache import StageCache
from streamlab.methods.api import TrainingSettings
from streamlab.methods.training_loop import set_dropout
from streamlab.stream.scenario import Scenario
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.tasks.batches import Encoded, encode
from streamlab.tasks.examples import TaskData
from streamlab.tasks.load import TaskExamples, read_task
from streamlab.tasks.sources.hub import HubReach
from streamlab.tasks.types.example import Example
from streamlab.units import counted

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HEAD_SPREAD = 0.02  # standard deviation of a head that nothing was trained into
# Examples that are held at most, some 0.3 kB each as text and 2 kB as token ids.
_MOST_READ, _MOST_ENCODED = 200_000, 32_768

Key = TypeVar("Key")
Value = TypeVar("Value")
_Version = tuple[str, int]  # a task's key, and the seed of its examples


@dataclass(frozen=True)
class EncodedTask:
    """A task's examples as token ids, by split; those of a training are tokenised when needed."""

    data: TaskData
    dev: Encoded
    _tokenizer: PreTrainedTokenizerBase

    @cached_property
    def train(self) -> Encoded:
        """Return the examples to learn from."""
        return self._encode(self.data.train)

    @cached_property
    def validation(self) -> Encoded:
        """Return the examples to choose by."""
        return self._encode(self.data.validation)

    def _encode(self, examples: tuple[Example, ...]) -> Encoded:
        length = self.dev.max_length
        return encode(examples, self._tokenizer, self.data.type, max_length=length)


def encode_task(
    data: TaskData, base: Base, training: TrainingSettings, *, dev: Encoded | None = None
) -> EncodedTask:
    """Tokenise a task for a base; `dev`: where that is done already for the examples to report on.

    Raises UsageError where `max_length` exceeds the base's, or the device does not exist,
    SourceError where the base cannot be a model of the task's type.
    """
    base.parts(data.type.model_class)
    find_device(training.device)  # now rather than when the arrival's turn has come
    length = training.max_length
    if length > base.max_length:
        raise UsageError(
            f"`training.max_length` of `{data.name}` is {length} tokens, and the base "
            f"{base.settings.model!r} takes at most {base.max_length}. Lower it."
        )
    dev = dev or encode(data.dev, base.tokenizer, data.type, max_length=length)
    return EncodedTask(data, dev, base.tokenizer)


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

    def build(
        self,
        task: EncodedTask,
        training: TrainingSettings,
        *,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ) -> PreTrainedModel:
        """Build the base under a head drawn from `seed`, on the device to train on."""
        self._model = None  # before there are two in memory
        torch.set_num_threads(training.threads)
        data = task.data
        model = self._base.build(
            n_outputs=data.n_outputs,
            seed=seed,
            model_class=data.type.model_class,
            dtype=dtype,
        )
        head = self._base.parts(data.type.model_class).head
        data.type.prepare_head(map(model.get_parameter, head), data.labels)
        # The library's wrapper around `to` has types that fit no call of it.
        model.to(find_device(training.device))  # type: ignore[arg-type]
        if training.dropout != "base":
            set_dropout(model, training.dropout)
        self._model, self._key = model, _key(task, training, dtype)
        self._outline = _outline(model)
        return model

    def clean(
        self,
        task: EncodedTask,
        training: TrainingSettings,
        *,
        dtype: torch.dtype | None = None,
    ) -> PreTrainedModel:
        """Return a classifier that is the base, bit for bit, under a head that was never trained.

        This is the classifier built last, if it has the right shape and its modules are still
        the same, and a new one otherwise. A head that an artifact does not bring cannot be that
        of the training. `dtype`: default: that in which the base answers. Raises
        BaseMismatchError where the backbone is not the base.
        """
        model, dtype = self._model, dtype or self._base.dtype
        key = _key(task, training, dtype)
        if model is None or self._key != key or self._outline != _outline(model):
            model = self.build(task, training, seed=0, dtype=dtype)
        torch.set_num_threads(training.threads)
        parameters = dict(model.named_parameters())
        parts = self._base.parts(task.data.type.model_class)
        fixed = self._tensors() | dict(parts.frozen)
        if not _are(parameters, fixed):
            # New storage: what a training kept of the old one stays as it is.
            for name, tensor in fixed.items():
                parameters[name].data = tensor.to(parameters[name].device, dtype, copy=True)
        draw = torch.Generator().manual_seed(0)
        for name in parts.head:
            head = torch.empty(parameters[name].shape).normal_(std=_HEAD_SPREAD, generator=draw)
            parameters[name].data = head.to(model.device, dtype)
        if not _are(parameters, fixed):
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
        if self._model is None or self._key[1:] != _key(task, training, self._base.dtype)[1:]:
            self.build(task, training, seed=0)
        shapes = {name: shape for kind, name, shape in self._outline if kind is torch.nn.Parameter}
        return {name: shapes[name] for name in self._base.parts(task.data.type.model_class).head}

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the backbone by their names in a model."""
        return {full: self._base.tensors[name] for name, full in self._base.full_names.items()}


def _are(parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, torch.Tensor]) -> bool:
    """Compare parameters with tensors, bit for bit."""
    return all(
        _bits(parameters[name].detach().cpu()).equal(_bits(tensor.to(parameters[name].dtype)))
        for name, tensor in tensors.items()
    )


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.int16 if tensor.itemsize == 2 else torch.int32)


def _key(task: EncodedTask, training: TrainingSettings, dtype: torch.dtype) -> tuple[object, ...]:
    data = task.data
    device = find_device(training.device)
    return dtype, data.type.model_class, data.n_outputs, device, training.dropout


def _outline(model: torch.nn.Module) -> list[tuple[Any, ...]]:
    """Return what restoring the weights leaves as it is: modules, hooks, shapes and buffers."""
    modules = ((type(m), name, tuple(m._forward_hooks)) for name, m in model.named_modules())
    parameters = (
        (torch.nn.Parameter, name, tuple(p.shape)) for name, p in model.named_parameters()
    )
    buffers = (torch.Tensor, "", fingerprint_tensors(dict(model.named_buffers())))
    return [*modules, *parameters, buffers]


class Recent(Generic[Key, Value]):
    """What was made or used last, of a total weight of at most `most`; one may weigh more."""

    def __init__(self, weigh: Callable[[Value], int], *, most: int) -> None:
        self._weigh, self._most = weigh, most
        self._held: dict[Key, Value] = {}  # the latest used comes last
        self._weight = 0

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return what is held for `key`, made where nothing is."""
        if key not in self._held:
            self.put(key, make())
        self._held[key] = value = self._held.pop(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Hold a value in place of that for the same key, and of others used long ago."""
        if key in self._held:
            self._weight -= self._weigh(self._held.pop(key))
        self._held[key] = value
        self._weight += self._weigh(value)
        while self._weight > self._most and len(self._held) > 1:
            self._weight -= self._weigh(self._held.pop(next(iter(self._held))))


class ExamplesRead:
    """Examples as they were read, and as token ids: those used last."""

    def __init__(self) -> None:
        self.sources: Recent[str, TaskExamples] = Recent(len, most=_MOST_READ)
        self.reported: Recent[str, EncodedTask] = Recent(
            lambda task: len(task.data.dev), most=_MOST_ENCODED
        )
        self.drawn: Recent[_Version, EncodedTask] = Recent(
            lambda task: len(task.data.train) + len(task.data.validation), most=_MOST_ENCODED
        )


@dataclass(frozen=True)
class SharedWork:
    """What several runs of this process have in common."""

    stages: StageCache | None = None  # of equal trainings
    examples: ExamplesRead = field(default_factory=ExamplesRead)


def _together(found: Mapping[str, DataError | SourceError]) -> DataProblemsError:
    """Return the problems with the data of several tasks as one error."""
    every = [
        (task, error if isinstance(error, DataProblemsError) else DataProblemsError([str(error)]))
        for task, error in found.items()
    ]
    return DataProblemsError(
        [f"{task}: {problem}" for task, error in every for problem in error.problems],
        n_others=sum(error.n_others for _, error in every),
        advice=next((error.advice for _, error in every if error.advice), ""),
    )


class RunContext:
    """Everything the arrivals of a run share, read only but for caches.

    Of examples it holds those used last, so that its memory does not grow with the run; others
    are drawn again, from their source where that is no longer held either.
    """

    def __init__(
        self, scenario: Scenario, base: Base, folder: Path, *, shared: SharedWork | None = None
    ) -> None:
        """`folder` is where relative paths of the scenario start; `shared`: with other runs."""
        self.scenario = scenario
        self.base = base
        self.folder = folder
        self.stages = None if shared is None else shared.stages
        self.classifiers = Classifiers(base)
        self._hub = HubReach()
        self._examples = ExamplesRead() if shared is None else shared.examples
        self._keys: dict[str, str] = {}

    def prepare(self) -> None:
        """Read every task, and draw the examples of all its versions.

        Raises what is wrong: of the data, the problems of all tasks together.
        """
        own = (a for a in arrivals(self.scenario) if a.method == self.scenario.defaults.method)
        by_task: dict[str, list[Arrival]] = {task: [] for task in self.scenario.tasks}
        for arrival in own:
            by_task[arrival.task].append(arrival)
        found: dict[str, DataError | SourceError] = {}
        # Task by task, as not all their examples may be held at once.
        for task, of_task in by_task.items():
            try:
                self._prepare(of_task)
            except (DataError, SourceError) as error:
                found[task] = error
        if found:
            raise _together(found)

    def _prepare(self, of_task: Sequence[Arrival]) -> None:
        for arrival in of_task:
            if arrival.version > 1 or arrival.seed != self.scenario.seeds[0]:
                self._source(arrival.task).draw(arrival.data_seed)
            else:
                _ = self.encoded(arrival).train, self.encoded(arrival).validation

    def receive(self, arrival: Arrival, task: TaskData) -> None:
        """Take an arrival's examples from the lab, in place of reading every provider's."""
        encoded = encode_task(task, self.base, self.training(arrival.task))
        self._examples.drawn.put(self._version(arrival), encoded)

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

    def tasks(self) -> Iterator[TaskData]:
        """Yield every task in the order of arrival, without examples to learn from."""
        for task in dict.fromkeys(arrival.task for arrival in arrivals(self.scenario)):
            yield self.reported(task).data

    def skipped_sources(self) -> Iterator[str]:
        """Yield a line on each source that was tried in vain: how many tasks it lacks, and why."""
        skipped: dict[str, list[str]] = {}
        for task in self.tasks():
            for attempt in task.tried:
                source, _, reason = attempt.partition(": ")
                skipped.setdefault(source, []).append(reason)
        for source, reasons in skipped.items():
            yield f"not from {source} ({counted(len(reasons), 'task')}): {reasons[0]}"

    def reported(self, task: str) -> EncodedTask:
        """Return what is the same for every version of a task: all but what it is learnt from."""
        return self._examples.reported.get(self._key(task), lambda: self._share(task))

    def loaded(self, arrival: Arrival) -> TaskData:
        """Return an arrival's examples and which sources were tried."""
        return self.encoded(arrival).data

    def encoded(self, arrival: Arrival) -> EncodedTask:
        """Return an arrival's examples as token ids."""
        return self._examples.drawn.get(self._version(arrival), lambda: self._draw(arrival))

    def _draw(self, arrival: Arrival) -> EncodedTask:
        data = self._source(arrival.task).draw(arrival.data_seed)
        dev = self.reported(arrival.task).dev
        return encode_task(data, self.base, self.training(arrival.task), dev=dev)

    def _share(self, task: str) -> EncodedTask:
        data = self._source(task).with_examples()
        return encode_task(data, self.base, self.training(task))

    def _source(self, task: str) -> TaskExamples:
        return self._examples.sources.get(self._key(task), lambda: self._read(task))

    def _read(self, task: str) -> TaskExamples:
        entry, data = self.scenario.tasks[task], self.scenario.data
        return read_task(task, entry, data, hub=self._hub, base_folder=self.folder)

    def _version(self, arrival: Arrival) -> _Version:
        return self._key(arrival.task), arrival.data_seed

    def _key(self, task: str) -> str:
        """Return what decides a task's examples as token ids, but for the seed."""
        if task not in self._keys:
            entry = self.scenario.tasks[task]
            parts = [
                task,
                entry.model_dump(mode="json", exclude={"training"}),
                self.scenario.data.model_dump(mode="json"),
                str(self.folder.absolute()),
                self.base.fingerprint,
                entry.training.max_length,
            ]
            self._keys[task] = digest(parts)
        return self._keys[task]
