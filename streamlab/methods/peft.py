"""Adapters by the PEFT library: any of the types in `peft_types`, by name and settings.

What is trained is rounded to fp16 before it is stored, and the model answers with the rounded
numbers from then on, so that a score is that of the stored file.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

import torch
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, field_validator, model_validator
from torch import Tensor, nn

from streamlab.config import Settings, secret_problem, validate_nested
from streamlab.diff.layout import QUERIES_AND_VALUES, Layout
from streamlab.errors import DiffError, TrainingError, UsageError
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.adapter_file import AdapterFile, read_adapter, rounded, write_adapter
from streamlab.methods.api import Adapter, Artifact, Method, TrainingJob
from streamlab.methods.peft_types import TYPES, AdapterType, scenario_settings
from streamlab.methods.training_loop import TakeStep, training_mode

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Where a model has no query and value matrices of their own.
_FUSED: Final = frozenset(("Wqkv", "c_attn", "query_key_value", "qkv_proj", "qkv", "in_proj"))
# How PEFT refuses settings and tensors.
_REFUSALS: Final = (
    ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError,
    AssertionError,
)  # fmt: skip
_ADAPTER: Final = "default"  # PEFT's name of the only adapter of a model


class AdapterSettings(Settings):
    """A type of adapter and its settings, all under PEFT's names."""

    model_config = ConfigDict(extra="allow")

    type: str
    """The type, in lower case: [Adapters](../guides/adapters.md) lists all and their settings."""

    @field_validator("type")
    @classmethod
    def _known_type(cls, name: str) -> str:
        if name not in TYPES:
            raise secret_problem(f"unknown type {name!r}. Known: {', '.join(sorted(TYPES))}.")
        return name

    @model_validator(mode="after")
    def _known_settings(self) -> Self:
        validate_nested(scenario_settings(self.type), self.given)
        return self

    @property
    def given(self) -> Mapping[str, Any]:
        """Return the settings beside the type; what is left out has PEFT's default."""
        return self.model_extra or {}


class AdapterMethod(Method):
    """Train an adapter and the head on the frozen base."""

    artifact: ClassVar[Artifact] = "adapter"

    learning_rate: PositiveFloat = 1e-3
    """Of the adapter."""

    @property
    @abstractmethod
    def adapter(self) -> AdapterSettings:
        """Return the type of adapter and its settings."""

    def expected_entries(self, _layout: Layout) -> int:
        """Return 0: an adapter stores no entries of the backbone."""
        return 0

    def train(self, job: TrainingJob) -> Adapter:
        """Train an adapter and the head.

        Raises UsageError where PEFT or the type is missing in what is installed, TrainingError
        where the adapter does not fit the base.
        """
        penalties: list[Callable[[], Tensor]] = []

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            found = job.loss(logits, labels)
            for penalty in penalties:
                found = found + penalty()
            return found

        with training_mode(replace(job, loss=loss)) as loop:
            inserted = _insert(self.adapter, job, loop.n_left)
            penalties.extend(inserted.penalties())
            _, take_step = adam_optimizer(
                (inserted.adapter, self.learning_rate),
                (inserted.head, job.training.head_learning_rate),
                clipped=inserted.trained,
                clip_norm=job.training.clip_norm,
            )
            loop.run_last("adapter", inserted.followed(take_step), inserted.trained)
        data = inserted.stored()
        # AdaLoRA's pattern is long; the file has it.
        settings = {k: v for k, v in read_adapter(data).settings.items() if k != "rank_pattern"}
        return Adapter(data=data, summary=loop.summary(adapter=settings))


class Peft(AdapterMethod):
    """Train an adapter of any type that the PEFT library has, within a list of known ones."""

    name: Literal["peft"] = "peft"
    peft: AdapterSettings
    """The type and its settings, for example `{type: fourierft, n_frequency: 1000}`."""

    @property
    def adapter(self) -> AdapterSettings:
        """Return the settings as given."""
        return self.peft

    @property
    def default_label(self) -> str:
        """Return the type's name, so that records tell one type from another."""
        return self.peft.type


class Lora(AdapterMethod):
    """LoRA (Hu et al., 2022): short for `peft` of the type `lora`, under PEFT's names."""

    name: Literal["lora"] = "lora"
    r: PositiveInt = 8
    """The rank."""
    lora_alpha: PositiveInt = 16
    """The scale; changes are multiplied by `lora_alpha / r`."""
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout before the adapter."""
    target_modules: Literal["auto"] | tuple[str, ...] = "auto"
    """Names of the adapted layers. `auto`: PEFT's choice for the model type, otherwise the
    attention's queries and values."""

    @property
    def adapter(self) -> AdapterSettings:
        """Return the settings of PEFT's LoRA."""
        given: dict[str, Any] = {
            "r": self.r, "lora_alpha": self.lora_alpha, "lora_dropout": self.lora_dropout
        }  # fmt: skip
        if self.target_modules != "auto":
            given["target_modules"] = self.target_modules
        return AdapterSettings(type="lora", **given)

    @model_validator(mode="after")
    def _valid_adapter(self) -> Self:
        self.adapter  # noqa: B018 - which validates it
        return self


@dataclass(frozen=True)
class _Inserted:
    """An adapter in a model: PEFT's wrapper of it, and the parameters that are trained."""

    kind: AdapterType
    wrapper: Any
    adapter: list[nn.Parameter]
    head: list[nn.Parameter]
    head_modules: list[str]

    @property
    def trained(self) -> list[nn.Parameter]:
        return self.adapter + self.head

    @property
    def config(self) -> Any:
        return self.wrapper.peft_config[_ADAPTER]

    def penalties(self) -> list[Callable[[], Tensor]]:
        """Return what the type adds to the loss."""
        return [self._orthogonality] if hasattr(self.config, "orth_reg_weight") else []

    def _orthogonality(self) -> Tensor:
        """Return the mean norm of P^T P - I over both factors (Zhang et al., 2023, equation 4)."""
        norms = []
        for name, p in self.wrapper.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                square = p @ p.T if ".lora_A." in name else p.T @ p
                norms.append(torch.linalg.matrix_norm(square - torch.eye(len(square)).to(square)))
        mean: Tensor = self.config.orth_reg_weight * torch.stack(norms).mean()
        return mean

    def followed(self, take_step: TakeStep) -> TakeStep:
        """Return a step that also does what the type does after every step."""
        allocate = getattr(self.wrapper.base_model, "update_and_allocate", None)
        n_taken = 0

        def followed(share: float) -> None:
            nonlocal n_taken
            take_step(share)
            n_taken += 1
            if allocate is not None:
                allocate(n_taken)
            for parameter in self.trained:  # a prompt is no parameter of the model
                parameter.grad = None

        return followed

    def stored(self) -> bytes:
        """Round the adapter and the head in the model, and return the file."""
        from peft import get_peft_model_state_dict

        def state() -> Mapping[str, Tensor]:
            found: Mapping[str, Tensor] = get_peft_model_state_dict(
                self.wrapper, save_embedding_layers=False
            )
            return found

        with torch.no_grad():
            for tensor in (*self.trained, *state().values()):
                tensor.copy_(rounded(tensor))
        if hasattr(self.config, "rank_pattern") and "rank_pattern" in self.kind.written:
            self.config.rank_pattern = self._ranks_in_use()
        return write_adapter(state(), self._settings())

    def _ranks_in_use(self) -> dict[str, list[bool]]:
        """Return which singular values of every layer are not 0, as AdaLoRA records them."""
        return {
            name.removeprefix("base_model.model."): (p != 0).view(-1).tolist()
            for name, p in self.wrapper.named_parameters()
            if name.endswith(f".lora_E.{_ADAPTER}")
        }

    def _settings(self) -> dict[str, Any]:
        """Return the settings that decide the answers, as JSON."""
        values = self.config.to_dict()
        kept = {
            name: sorted(value) if isinstance(value, set) else value
            for name in (*self.kind.answers, *self.kind.written)
            if (value := values.get(name)) is not None
        }
        return {
            "peft_type": self.config.peft_type.value,
            "task_type": self.config.task_type,
            "peft_version": self.config.peft_version,
            "modules_to_save": self.head_modules,
            **kept,
        }


def _insert(adapter: AdapterSettings, job: TrainingJob, n_steps: int) -> _Inserted:
    """Put an adapter into `job.model` in place. Raises UsageError and TrainingError."""
    kind = TYPES[adapter.type]
    head_modules = sorted({name.partition(".")[0] for name in job.head})
    settings = dict(adapter.given) | {
        name: list(value) for name, value in adapter.given.items() if isinstance(value, tuple)
    }
    if "total_step" in kind.written:
        # A tenth to learn first, and half to settle; PEFT has no default that suits any length.
        n_final = max(0, min(n_steps // 2, n_steps - 2))  # ranks are first judged after a step
        settings = {"tinit": n_steps // 10, "tfinal": n_final} | settings
        settings["total_step"] = n_steps
    if "random_seed" in kind.training:
        settings.setdefault("random_seed", job.seed % (1 << 32))
    if "target_modules" not in settings and kind.targets != "none":
        settings |= _default_targets(adapter.type, job)
    if "token_dim" in kind.written:
        settings |= _prompt_sizes(job.model)
    config = _config(adapter.type, settings, head_modules, _task_type(job))
    _check_length(config, job)
    if hasattr(config, "target_r") and config.target_r >= config.init_r:
        raise TrainingError(
            f"`{adapter.type}` must end with fewer ranks than it begins with, got `target_r` "
            f"{config.target_r} and `init_r` {config.init_r}. Raise `init_r`."
        )
    try:
        wrapper = _wrapped(job.model, config)
    except _REFUSALS as error:
        raise TrainingError(
            f"PEFT cannot put `{adapter.type}` into this base: {' '.join(str(error).split())} "
            "Name layers of the base in `target_modules`, or change its other settings."
        ) from error
    prefix = "base_model." if config.is_prompt_learning else "base_model.model."
    copied = f".modules_to_save.{_ADAPTER}."
    found = {n.removeprefix(prefix): p for n, p in wrapper.named_parameters() if p.requires_grad}
    trained = {name.replace(copied, "."): parameter for name, parameter in found.items()}
    in_head = {name.replace(copied, ".") for name in found if copied in name}
    for name in in_head ^ job.head.keys():
        raise TrainingError(
            f"PEFT takes `{name}` for a part of the head, or does not: its name occurs twice "
            f"in this base. Use another base for `{adapter.type}`."
        )
    return _Inserted(
        kind,
        wrapper.train(),
        adapter=[p for name, p in trained.items() if name not in in_head],
        head=[trained[name] for name in job.head],
        head_modules=head_modules,
    )


def _prompt_sizes(model: Any) -> dict[str, int]:
    """Return what PEFT has to know of a model, and does not find in every configuration."""
    config = model.config
    return {
        "token_dim": model.get_input_embeddings().weight.shape[1],
        "num_attention_heads": config.num_attention_heads,
        "num_layers": config.num_hidden_layers,
    }


def _check_length(config: Any, job: TrainingJob) -> None:
    """Raise TrainingError where virtual tokens and a text together exceed the model's longest.

    Or where the task is asked at tokens of its own, which virtual tokens would move.
    """
    if config.is_prompt_learning and config.task_type != "SEQ_CLS":
        raise TrainingError(
            f"`{config.peft_type.value.lower()}` puts tokens before a text, which moves the tokens "
            f"that `{job.task}` is asked at. Use another type for it."
        )
    model: Any = job.model
    longest = getattr(model.config, "max_position_embeddings", None)
    n_virtual = getattr(config, "num_virtual_tokens", None) or 0
    if n_virtual and longest and job.training.max_length + n_virtual > longest:
        raise TrainingError(
            f"{n_virtual} virtual tokens and texts of {job.training.max_length} are more than the "
            f"{longest} tokens that the base takes. Lower `num_virtual_tokens` or "
            "`training.max_length`."
        )


def _default_targets(name: str, job: TrainingJob) -> dict[str, Any]:
    """Return what is adapted where PEFT has no choice of its own for the model; else nothing."""
    model: Any = job.model
    if model.config.model_type in _choices_of_peft(name):
        return {}
    head = {name.partition(".")[0] for name in job.head}
    modules = [
        (path.rpartition(".")[2], module)
        for path, module in model.named_modules()
        if path.partition(".")[0] not in head and hasattr(module, "weight")
    ]
    if TYPES[name].targets == "norms":
        found = {last for last, module in modules if "norm" in type(module).__name__.lower()}
    else:
        matrices = {last for last, module in modules if module.weight.dim() == 2}
        found = matrices & QUERIES_AND_VALUES or matrices & _FUSED
    if not found:
        raise TrainingError(
            f"PEFT has no default for `{name}` on a base of the type `{model.config.model_type}`, "
            "and no layer has a usual name. Name layers of the base in `target_modules`."
        )
    targets: dict[str, Any] = {"target_modules": sorted(found)}
    if "feedforward_modules" in TYPES[name].answers:
        targets["feedforward_modules"] = []
    return targets


def _choices_of_peft(name: str) -> Mapping[str, Any]:
    """Return the layers that PEFT adapts by default, by the type of model."""
    peft = _peft()
    tuner = peft.PEFT_TYPE_TO_TUNER_MAPPING.get(name.upper())
    known = f"TRANSFORMERS_MODELS_TO_{name.upper()}_TARGET_MODULES_MAPPING"
    choices = getattr(tuner, "target_module_mapping", None) or getattr(peft.utils, known, None)
    return choices or {}


def _task_type(job: TrainingJob) -> str:
    """Return PEFT's name for the models of a task's type."""
    if not job.head:
        return "CAUSAL_LM"
    is_tokens = type(job.model).__name__.endswith("ForTokenClassification")
    return "TOKEN_CLS" if is_tokens else "SEQ_CLS"


def _config(name: str, settings: Mapping[str, Any], head_modules: list[str], task_type: str) -> Any:
    """Return PEFT's configuration. Raises UsageError and TrainingError."""
    peft = _peft()
    make = peft.PEFT_TYPE_TO_CONFIG_MAPPING.get(name.upper())
    if make is None:
        raise UsageError(
            f"PEFT {peft.__version__} has no type `{name}`. Install a newer version, or use "
            "another type."
        )
    try:
        with _warnings_ignored():
            # PEFT extends this list.
            return make(task_type=task_type, modules_to_save=[*head_modules] or None, **settings)
    except _REFUSALS as error:
        raise TrainingError(f"PEFT refuses these settings of `{name}`: {error}") from error


def _peft() -> Any:
    """Return the library. Raises UsageError where it is not installed."""
    try:
        import peft
        from peft.tuners.boft import layer
    except ImportError as error:
        raise UsageError(
            "This method needs the PEFT library, which is not installed. Install it with "
            '`pip install "streamlab[peft]"`, or remove the method from the scenario.'
        ) from error
    # Otherwise BOFT compiles code on first use, and differs where there is no compiler.
    vars(layer)["_FBD_CUDA"] = False
    torch.sparse.check_sparse_tensor_invariants.enable()  # SHiRA's positions
    return peft


def _wrapped(model: nn.Module, config: Any, *, empty: bool = False) -> Any:
    """Return PEFT's wrapper of a model; from now on the model itself answers with the adapter.

    `empty`: without memory for the adapter's parameters.
    """
    peft = _peft()
    with _warnings_ignored():
        wrapper = peft.get_peft_model(model, config, low_cpu_mem_usage=empty)
    if config.is_prompt_learning:  # all others change layers inside the model
        _answer_through(model, wrapper)
    return wrapper


def _answer_through(model: nn.Module, wrapper: nn.Module) -> None:
    """Make a model answer by its wrapper, which calls the model's own forward."""
    own = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        model.forward = own
        try:
            return wrapper(*args, **kwargs)
        finally:
            model.forward = forward

    model.forward = forward


@contextmanager
def adapted(
    model: PreTrainedModel, file: AdapterFile, *, longest: int | None = None
) -> Iterator[PreTrainedModel]:
    """Load an adapter onto a model by PEFT; the model stays changed.

    `longest`: the most tokens that the model takes. No memory is taken for tensors before they
    are known to be those of the file. Raises DiffError where they do not fit the model.
    """
    peft = _peft()
    settings = {k: v for k, v in file.settings.items() if k not in ("peft_type", "task_type")}
    head_modules = list(settings.pop("modules_to_save", ()))
    _check_copied(model, head_modules, settings.get("target_modules", ()))
    try:
        if "token_dim" in file.kind.written:
            settings |= _prompt_sizes(model)
        task_type = str(file.settings.get("task_type") or "SEQ_CLS")
        config = _config(file.name, settings | {"inference_mode": True}, head_modules, task_type)
        wrapper = _wrapped(model, config, empty=file.kind.builds_empty)
        expected = peft.get_peft_model_state_dict(wrapper, save_embedding_layers=False)
        _check_shapes(expected, file)
        _check_positions(wrapper, file)
        floats = {n: t.float() if t.is_floating_point() else t for n, t in file.tensors.items()}
        with _warnings_ignored():
            peft.set_peft_model_state_dict(
                wrapper, floats, low_cpu_mem_usage=file.kind.builds_empty
            )
        _check_loaded(peft.get_peft_model_state_dict(wrapper, save_embedding_layers=False), file)
    except (TrainingError, *_REFUSALS) as error:
        reason = " ".join(str(error).split())
        raise DiffError(f"The adapter does not fit the model: {reason}") from error
    n_virtual = getattr(config, "num_virtual_tokens", None) or 0
    if n_virtual and longest is not None:
        wrapper.register_forward_pre_hook(_length_check(longest - n_virtual), with_kwargs=True)
    wrapper.eval()
    yield model.eval()


def _check_copied(
    model: PreTrainedModel, head_modules: list[str], targets: str | list[str]
) -> None:
    """Raise DiffError for a part of the model that PEFT would copy, and that is no head or layer.

    Copies of modules within one another would grow without bound.
    """
    children = {name for name, _ in model.named_children()} - {model.base_model_prefix}
    for name in head_modules:
        if name not in children:
            raise DiffError(
                f"The adapter calls `{name}` a part of the head, and the base does not."
            )
    for path, module in model.named_modules():
        inside = next(module.children(), None)
        if inside is None or isinstance(targets, str):
            continue
        for name in targets:
            if f".{path}".endswith(f".{name}"):
                raise DiffError(f"The adapter's target `{name}` is no layer, but a group of them.")


def _check_shapes(expected: Mapping[str, Tensor], file: AdapterFile) -> None:
    needed = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    given = {name: tuple(tensor.shape) for name, tensor in file.tensors.items()}
    for name, _ in sorted(needed.items() ^ given.items()):
        raise DiffError(
            f"The adapter has `{name}` as {given.get(name, 'no tensor')}, and the model needs it "
            f"as {needed.get(name, 'no tensor')}."
        )


def _check_loaded(held: Mapping[str, Tensor], file: AdapterFile) -> None:
    """Raise DiffError where PEFT did not take a tensor as it is."""
    for name, tensor in file.tensors.items():
        # VB-LoRA converts shares to logarithms; all others are equal.
        if held[name].is_meta or not torch.allclose(held[name].float(), tensor.float(), 1e-3, 1e-4):
            raise DiffError(f"PEFT cannot use the adapter's `{name}` as it is.")


def _check_positions(wrapper: Any, file: AdapterFile) -> None:
    """Raise DiffError for positions outside their matrix, or given twice."""
    for name, places in file.tensors.items():
        path, _, last = name.rpartition(".")
        if last != file.kind.positions:
            continue
        n_rows, n_columns = wrapper.get_submodule(path).base_layer.weight.shape
        rows, columns = places.long()
        inside = (rows >= 0) & (rows < n_rows) & (columns >= 0) & (columns < n_columns)
        flat = rows * n_columns + columns
        if places.is_floating_point() or not bool(inside.all()) or len(flat.unique()) < len(flat):
            raise DiffError(f"The adapter's `{name}` has positions outside its matrix, or twice.")


def _length_check(longest: int) -> Callable[[Any, Any, Mapping[str, Any]], None]:
    def check(_module: Any, _args: Any, inputs: Mapping[str, Any]) -> None:
        n_tokens = inputs["input_ids"].shape[1]
        if n_tokens > longest:
            raise DiffError(
                f"A text has {n_tokens} tokens, and beside the adapter's virtual tokens the base "
                f"takes {max(0, longest)}. Lower `max_length`."
            )

    return check


@contextmanager
def _warnings_ignored() -> Iterator[None]:
    """Ignore what PEFT warns of: names it deprecates, and what is compared or said elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
