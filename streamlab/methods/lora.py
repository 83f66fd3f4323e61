"""LoRA (Hu et al., 2022) by the PEFT library, stored as the file that PEFT writes."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
)
from torch import nn

from streamlab.diff.layout import Layout
from streamlab.errors import DiffError, TrainingError, UsageError
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.api import Adapter, Artifact, Method, TrainingJob
from streamlab.methods.training_loop import training_mode

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

WEIGHTS_FILE = "adapter_model.safetensors"  # PEFT's own names
CONFIG_FILE = "adapter_config.json"


class Lora(Method):
    """Settings of LoRA: rank, scale and layers, under PEFT's names."""

    artifact: ClassVar[Artifact] = "adapter"

    name: Literal["lora"] = "lora"
    r: PositiveInt = 8
    """The rank."""
    lora_alpha: PositiveInt = 16
    """The scale; changes are multiplied by `lora_alpha / r`."""
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout before the adapter."""
    target_modules: Literal["auto"] | tuple[str, ...] = "auto"
    """Names of the adapted layers. `auto`: PEFT's choice for the model type; for BERT the
    attention's queries and values."""
    learning_rate: PositiveFloat = 1e-3
    """Of the adapter."""

    def expected_entries(self, _layout: Layout) -> int:
        """Return 0: an adapter stores no entries of the backbone."""
        return 0

    def train(self, job: TrainingJob) -> Adapter:
        """Train an adapter and the head; returns PEFT's files.

        Raises UsageError where PEFT is missing, TrainingError where it finds no layer to adapt.
        """
        with training_mode(job) as loop:
            adapted = self._adapt(job)
            trained = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
            adapters = [p for name, p in trained.items() if ".lora_" in name]
            head = [p for name, p in trained.items() if ".lora_" not in name]
            _, take_step = adam_optimizer(
                (adapters, self.learning_rate),
                (head, job.training.head_learning_rate),
                clipped=trained.values(),
                clip_norm=job.training.clip_norm,
            )
            loop.run_last("lora", take_step, trained.values())
        weights, config = _saved(adapted)
        return Adapter(weights=weights, config=config, summary=loop.summary())

    def _adapt(self, job: TrainingJob) -> nn.Module:
        """Insert adapters into `job.model` in place, and return PEFT's model around it."""
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError as error:
            raise UsageError(
                "The method `lora` needs the PEFT library, which is not installed. Install it "
                'with `pip install "streamlab[lora]"`, or remove `lora` from the scenario.'
            ) from error
        modules = sorted({name.partition(".")[0] for name in job.head})
        config = LoraConfig(
            task_type="SEQ_CLS",
            modules_to_save=modules,  # every module of the head is trained and stored
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=None if self.target_modules == "auto" else list(self.target_modules),
        )
        try:
            with _peft_warnings_ignored():
                adapted: nn.Module = get_peft_model(job.model, config)
        except ValueError as error:
            raise TrainingError(
                f"PEFT cannot put LoRA into this base: {error} Name layers of the base in "
                "`target_modules`."
            ) from error
        trained = {
            name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
            for name, parameter in adapted.named_parameters()
            if parameter.requires_grad and ".lora_" not in name
        }
        for name in trained ^ job.head.keys():
            raise TrainingError(
                f"PEFT takes `{name}` for a part of the head, or does not: its name occurs twice "
                "in this base. Use another base for `lora`."
            )
        return adapted.train()


def _saved(adapted: Any) -> tuple[bytes, Mapping[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="streamlab-lora-") as folder:
        adapted.save_pretrained(folder)
        config = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
        # The base's path differs between machines and does not belong to the adapter.
        config["base_model_name_or_path"] = None
        return (Path(folder) / WEIGHTS_FILE).read_bytes(), config


_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,200}$")]


class AdapterConfig(BaseModel):
    """What PEFT's settings of an adapter may hold; every other setting has PEFT's default."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    peft_type: Literal["LORA"]
    task_type: Literal["SEQ_CLS"]
    r: Annotated[int, Field(ge=1, le=1 << 16)]
    lora_alpha: Annotated[int | float, Field(gt=0, le=1e6)]
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[list[_Name], Field(min_length=1, max_length=256)]
    modules_to_save: Annotated[list[_Name], Field(max_length=16)] | None = None
    fan_in_fan_out: bool = False
    inference_mode: bool = True
    base_model_name_or_path: None = None
    peft_version: Annotated[str, StringConstraints(max_length=64)] | None = None


def checked_adapter(weights: bytes, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of an adapter whose settings PEFT may see.

    The settings ask for no more memory than the tensors take. Raises DiffError.
    """
    from peft import LoraConfig
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        checked = AdapterConfig.model_validate(dict(config))
        tensors = load(weights)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DiffError(f"PEFT's settings of the adapter: `{place}`: {first['msg']}.") from error
    except SafetensorError as error:
        raise DiffError(f"The adapter is not a safetensors file: {error}.") from error
    defaults = vars(LoraConfig())
    for name, value in (checked.model_extra or {}).items():
        if name not in defaults or value != defaults[name]:
            raise DiffError(f"PEFT's settings of the adapter: `{name}` must be left out.")
    for name, tensor in tensors.items():
        if ".lora_A." in name and tensor.shape[:1] != (checked.r,):
            raise DiffError(
                f"The adapter's rank `r` is {checked.r}, and `{name}` has the shape "
                f"{tuple(tensor.shape)}."
            )
    if not any(".lora_A." in name for name in tensors):
        raise DiffError("The adapter has no tensor of LoRA.")
    return tensors


@contextmanager
def adapted(
    model: PreTrainedModel, weights: bytes, config: Mapping[str, Any]
) -> Iterator[PreTrainedModel]:
    """Load PEFT's files onto a model, as PEFT does; the model stays wrapped.

    Raises DiffError where they are not those of a LoRA adapter, or do not fit the model.
    """
    from peft import PeftModel, get_peft_model_state_dict

    tensors = checked_adapter(weights, config)
    with tempfile.TemporaryDirectory(prefix="streamlab-lora-") as folder:
        (Path(folder) / WEIGHTS_FILE).write_bytes(weights)
        (Path(folder) / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
        with _peft_warnings_ignored():
            try:
                wrapped: Any = PeftModel.from_pretrained(model, folder)
            except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
                raise DiffError(f"The adapter does not fit the model: {error}") from error
    expected = {n: tuple(t.shape) for n, t in get_peft_model_state_dict(wrapped).items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name, _ in sorted(expected.items() ^ given.items()):
        raise DiffError(
            f"The adapter has `{name}` as {given.get(name, 'no tensor')}, and the model needs it "
            f"as {expected.get(name, 'no tensor')}."
        )
    yield wrapped.eval()


@contextmanager
def _peft_warnings_ignored() -> Iterator[None]:
    """Ignore deprecated names of PEFT, and missing tensors, which are checked here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found missing adapter keys")
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        yield
