"""The base: one pretrained model, loaded once, never changed, identified by a fingerprint."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field, PositiveInt

from streamlab.config import Settings
from streamlab.diff.layout import Layout
from streamlab.errors import BaseMismatchError, SourceError, StreamlabError
from streamlab.exact.coder import Kind
from streamlab.exact.tensor_files import file_start, in_file_order, standard_header
from streamlab.hashing import fingerprint_tensors, split_head
from streamlab.locations import (
    GGUF_SUFFIX,
    PACKAGE_PREFIX,
    Located,
    cached_only,
    locate_model,
    refuse_missing_folder,
    weights_digest,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# The `transformers` class whose backbone is the layout: parts that it lacks are not trained.
MODEL_CLASS: Final = "AutoModelForSequenceClassification"
LANGUAGE_MODEL_CLASS: Final = "AutoModelForCausalLM"
_UNLIMITED_LENGTH: Final = 512  # tokens, where the configuration names no limit
# Lists in a configuration that have one entry a layer.
_LAYER_LISTS: Final = ("layer_types", "mlp_layer_types", "attention_window", "attention_layers")


SAFETENSORS_TYPES: Final = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
}
_DIGITS: Final = re.compile(r"\d+")


class BaseSettings(Settings):
    """The pretrained model that every task of a scenario is a diff on."""

    model: str = Field(min_length=1)
    """`package:NAME` (a model folder in an installed package), a folder, or a hub id; or a GGUF
    file, as `package:NAME/FILE.gguf` or a path."""
    revision: str | None = None
    """Of a hub id: a branch, tag or commit. A commit pins the base."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the weights file; another file is an error."""
    layers: PositiveInt | None = None
    """Keep only this many of the lowest layers. Default: all."""
    dtype: Literal["bf16"] | None = None
    """`bf16`: of a checkpoint in bf16, answer in bf16, so that what is stored, applied and merged
    has the same bits. Trainings keep their weights in float32. Default: float32."""

    def placed(self, folder: Path) -> BaseSettings:
        """Return these settings with a local model, relative to `folder`, as an absolute path.

        Raises SourceError for the path of a model that is missing.
        """
        place = folder / self.model
        is_model = place.is_dir() or (place.suffix == GGUF_SUFFIX and place.is_file())
        if self.model.startswith(PACKAGE_PREFIX):
            return self
        if not is_model:
            if not Path(self.model).exists():
                refuse_missing_folder(self.model, folder)
            return self
        return self.model_copy(update={"model": os.path.abspath(place)})  # noqa: PTH100 - links stay


@dataclass(frozen=True)
class ModelParts:
    """What a model of a class has beside the backbone, by the model's names, and what it lacks."""

    head: tuple[str, ...]  # trained with every task
    unused: tuple[str, ...] = ()  # of the backbone, by its own names: no answer depends on them
    frozen: Mapping[str, Tensor] = field(default_factory=dict)  # of the base, and never trained

    @property
    def frozen_digest(self) -> str | None:
        """Return the SHA-256 of what is frozen, None where nothing is."""
        return fingerprint_tensors(self.frozen) if self.frozen else None


@dataclass(frozen=True)
class Base:
    """A loaded base; make it with `load_base`.

    `tensors` holds the backbone as float32 on the CPU, in the order of `layout`; it must not be
    written to. `full_names` maps a backbone name to its name in the classifier.
    """

    settings: BaseSettings
    layout: Layout
    tensors: Mapping[str, Tensor]
    full_names: Mapping[str, str]
    head_names: tuple[str, ...]  # of a sequence classifier
    initialised: tuple[str, ...]  # backbone tensors the checkpoint lacked, drawn from the seed
    tokenizer: PreTrainedTokenizerBase
    config: PretrainedConfig
    max_length: int  # the longest input the model takes, in tokens
    file_bytes: int  # the backbone as a safetensors file
    pads_with_end: bool  # the tokenizer has no padding token, and its end-of-text token stands in
    _held: str  # fingerprint of `tensors` after the cast to float32
    # What was found out of other models than sequence classifiers, by their class.
    _parts: dict[str, ModelParts] = field(default_factory=dict, compare=False, repr=False)

    @property
    def dequantised(self) -> tuple[str, ...]:
        """Return the types of GGUF that weights were read from, by reading the file's header."""
        located = locate_model(self.settings.model)
        if located.gguf is None:
            return ()
        from gguf import GGUFReader

        reader = GGUFReader(Path(located.target) / located.gguf)
        types = {tensor.tensor_type.name for tensor in reader.tensors}
        return tuple(sorted(types - {"F32", "F16", "BF16", "F64"}))

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype that models answer in."""
        import torch

        return torch.bfloat16 if self.settings.dtype == "bf16" else torch.float32

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of weights as loaded, configuration and tokenizer."""
        return self.layout.fingerprint

    def check_unchanged(self) -> None:
        """Raise BaseMismatchError if a single bit of the base differs from what was loaded."""
        if fingerprint_tensors(self.tensors) != self._held:
            raise BaseMismatchError(
                f"The base {self.settings.model!r} was changed in memory since it was loaded. "
                "The last training or scoring wrote to it; discard its results, and start again."
            )

    def parts(self, model_class: str) -> ModelParts:
        """Return which tensors a model of a class has beside the backbone.

        Raises SourceError where the base cannot be such a model.
        """
        if model_class == MODEL_CLASS:
            return ModelParts(self.head_names)
        if model_class not in self._parts:
            with loading_errors(self.settings, model_class):
                parts = self._found_parts(model_class)
            if model_class == LANGUAGE_MODEL_CLASS:
                from streamlab.base_probe import check_causal

                model = self._built(1, 0, model_class, parts)
                check_causal(self.settings.model, model, self.tokenizer)
            self._parts[model_class] = parts
        return self._parts[model_class]

    def _found_parts(self, model_class: str) -> ModelParts:
        import torch

        with torch.device("meta"), quiet_transformers():
            outline = auto_class(model_class).from_config(self.config, trust_remote_code=False)
        names = [name for name, _ in outline.named_parameters()]
        found, own = split_head(names, self.layout.names, outline.base_model_prefix)
        unused = tuple(name for name in self.layout.names if name not in found)
        if any(self.full_names[name] != full for name, full in found.items()):
            raise SourceError(
                f"The base {self.settings.model!r} keeps its backbone elsewhere as "
                f"`{model_class}`. Give a model of another architecture."
            )
        if model_class != LANGUAGE_MODEL_CLASS:
            return ModelParts(own, unused=unused)
        return ModelParts((), unused=unused, frozen=self._pretrained(own) if own else {})

    def _pretrained(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Load the language model's head, whose weights are not tied to the embeddings."""
        import torch

        located = find_model(self.settings)
        with torch.random.fork_rng(devices=[]), quiet_transformers():
            model, info = load_transformers(
                self.settings, located, self.config, LANGUAGE_MODEL_CLASS
            )
        lacking = sorted(info["missing_keys"] & {*names})
        if lacking:
            raise SourceError(
                f"The checkpoint of {self.settings.model!r} has no language model's head "
                f"(`{lacking[0]}`), which `kind: causal_lm` needs. Give the checkpoint of a whole "
                "language model."
            )
        return {
            name: model.get_parameter(name).detach().to(torch.float32).contiguous().clone()
            for name in names
        }

    def build(
        self,
        *,
        n_outputs: int,
        seed: int,
        model_class: str = MODEL_CLASS,
        dtype: torch.dtype | None = None,
    ) -> PreTrainedModel:
        """Build a fresh model: the base's backbone under a head initialised from `seed`.

        `model_class` is the `transformers` class that has the head. The head of a language model
        is the base's own, and frozen where it is no part of the backbone. `dtype`: default:
        float32. Raises SourceError where the base cannot be such a model.
        """
        return self._built(n_outputs, seed, model_class, self.parts(model_class), dtype)

    def _built(
        self,
        n_outputs: int,
        seed: int,
        model_class: str,
        parts: ModelParts,
        dtype: torch.dtype | None = None,
    ) -> PreTrainedModel:
        import torch

        config = type(self.config).from_dict(self.config.to_dict())
        if model_class != LANGUAGE_MODEL_CLASS:
            config.num_labels = n_outputs
        with torch.random.fork_rng(devices=[]), quiet_transformers():
            torch.manual_seed(seed)
            model: PreTrainedModel = auto_class(model_class).from_config(
                config, dtype=dtype or torch.float32, trust_remote_code=False
            )
        if parts.unused:
            self._graft(model, parts.unused)
        parameters = dict(model.named_parameters())
        full_names, _ = split_head(list(parameters), self.layout.names, model.base_model_prefix)
        with torch.no_grad():
            for name, full_name in full_names.items():
                parameters[full_name].copy_(self.tensors[name])
            for name, tensor in parts.frozen.items():
                parameters[name].copy_(tensor)
                parameters[name].requires_grad_(False)
        model.eval()
        return model

    def _graft(self, model: PreTrainedModel, unused: tuple[str, ...]) -> None:
        """Add what a model leaves out of the backbone, such as the pooler, for diffs to fit."""
        import torch

        with torch.device("meta"), quiet_transformers():
            headless = auto_class("AutoModel").from_config(self.config, trust_remote_code=False)
        for top in {name.partition(".")[0] for name in unused}:
            module = getattr(headless, top).to_empty(device="cpu").to(model.dtype)
            setattr(model.base_model, top, module)


def load_base(settings: BaseSettings, *, seed: int) -> Base:
    """Load, cut, freeze, fingerprint and probe a pretrained model.

    `seed` fills the pooler where the checkpoint lacks it. Raises SourceError where the model
    cannot be found, read or used as a sequence classifier, or its answers depend on more than the
    text; BaseMismatchError where its weights are not those that the scenario pins.
    """
    import torch

    from streamlab.base_probe import check_tokenizer, takes_token_types

    located = find_model(settings)
    config = load_config(settings, located)
    with torch.random.fork_rng(devices=[]), quiet_transformers(), loading_errors(settings):
        torch.manual_seed(seed)
        headless, info = load_transformers(settings, located, config, "AutoModel")
        tokenizer = _load_tokenizer(settings, located)
        with torch.device("meta"):
            outline = auto_class(MODEL_CLASS).from_config(config, trust_remote_code=False)
        check_tokenizer(settings.model, tokenizer, _n_embedded(settings, headless))
        if located.gguf is not None:
            _check_special_tokens(settings, config, tokenizer)
    loaded = {name: parameter.detach() for name, parameter in headless.named_parameters()}
    full_names, head_names = split_head(
        [name for name, _ in outline.named_parameters()], loaded, outline.base_model_prefix
    )
    backbone = {name: loaded[name] for name in full_names}
    initialised = tuple(sorted(info["missing_keys"] & backbone.keys()))
    _check_backbone(settings, backbone, head_names, outline.base_model_prefix, initialised)
    tensors = {name: t.to(torch.float32).contiguous().clone() for name, t in backbone.items()}
    if settings.dtype == "bf16" and any(
        not torch.equal(t.to(torch.bfloat16).to(torch.float32), t) for t in tensors.values()
    ):
        raise SourceError(
            f"`base.dtype` is `bf16`, and the weights of {settings.model!r} do not fit into it. "
            "Give a checkpoint in bf16, or leave it out."
        )
    layout = Layout.of(backbone, headless.config, tokenizer)
    pads_with_end = tokenizer.pad_token_id is None  # of the files: they decide the fingerprint
    if pads_with_end:
        tokenizer.pad_token = tokenizer.eos_token
    if not takes_token_types(type(outline)):
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]
    base = Base(
        settings=settings,
        layout=layout,
        tensors=tensors,
        full_names=full_names,
        head_names=head_names,
        initialised=initialised,
        tokenizer=tokenizer,
        config=config,
        max_length=min(longest_declared(config), int(tokenizer.model_max_length)),
        file_bytes=checkpoint_bytes(backbone),
        pads_with_end=pads_with_end,
        _held=fingerprint_tensors(tensors),
    )
    with loading_errors(settings):
        return _probed(base, headless)


def _load_tokenizer(settings: BaseSettings, located: Located) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            located.target,
            revision=settings.revision,
            trust_remote_code=False,
            **located.options,
        )
    except Exception as error:  # of many kinds in the library
        reason = " ".join(str(error).split())
        if "trust_remote_code" in reason:
            raise
        raise SourceError(
            f"The tokenizer of the base {settings.model!r} cannot be loaded: its files are missing "
            "or damaged. Put the model's own tokenizer files (`tokenizer.json`, or the vocabulary) "
            f"beside its weights. ({type(error).__name__}: {reason[:120]})"
        ) from error
    return tokenizer


def _n_embedded(settings: BaseSettings, headless: PreTrainedModel) -> int:
    """Return the rows of the table of input embeddings. Raises SourceError without one."""
    try:
        return len(headless.get_input_embeddings().get_parameter("weight"))
    except (AttributeError, NotImplementedError) as error:
        raise SourceError(
            f"The base {settings.model!r} ({headless.config.model_type}) cannot be used: it has no "
            "table of input embeddings with one row a token. Give a model of another architecture."
        ) from error


def _probed(base: Base, headless: PreTrainedModel) -> Base:
    """Return the base with what a probe of its answers shows."""
    from streamlab.base_probe import Probe

    model = base.build(n_outputs=2, seed=0)
    _check_buffers(base.settings, model, headless)
    probe = Probe(base.settings.model, model, base.tokenizer)
    max_length = min(base.max_length, probe.longest_input())
    base.config.pad_token_id = probe.settle_padding(max_length)
    return replace(base, max_length=max_length)


def longest_declared(config: PretrainedConfig) -> int:
    """Return the longest input in tokens by a configuration, 512 where it names none."""
    names = ("max_position_embeddings", "max_seq_len")  # the latter in MPT
    declared = next((n for name in names if (n := getattr(config, name, None))), 0)
    return declared if declared > 0 else _UNLIMITED_LENGTH


def _check_backbone(
    settings: BaseSettings,
    backbone: Mapping[str, Tensor],
    head: tuple[str, ...],
    prefix: str,
    initialised: tuple[str, ...],
) -> None:
    """Raise SourceError for pretrained weights that are missing, unusable or taken for a head."""
    inside = [name for name in head if name.startswith(f"{prefix}.")]
    if inside:
        raise SourceError(
            f"The base {settings.model!r} has `{inside[0]}` inside its backbone, but `AutoModel` "
            f"loads no such tensor ({len(inside)} of them), so that it would be trained as a part "
            "of the head. Give a model without adapters, of an architecture that `AutoModel` loads "
            "whole."
        )
    missing = [name for name in initialised if not name.startswith("pooler.")]
    if missing:
        raise SourceError(
            f"The checkpoint of {settings.model!r} lacks `{missing[0]}` ({len(missing)} such "
            "tensors), which would be random numbers. Give a whole checkpoint, and a "
            "`config.json` that belongs to it."
        )
    bad = [name for name, t in backbone.items() if not bool(t.isfinite().all())]
    if bad:
        raise SourceError(
            f"`{bad[0]}` of the base {settings.model!r} holds NaN or infinite weights "
            f"({len(bad)} such tensors). Give a checkpoint without them."
        )


def _check_buffers(
    settings: BaseSettings, model: PreTrainedModel, headless: PreTrainedModel
) -> None:
    """Raise SourceError for a stored buffer that a classifier of the base does not share."""
    import torch

    prefix, stored = f"{model.base_model_prefix}.", headless.state_dict()
    built = {name.removeprefix(prefix): buffer for name, buffer in model.named_buffers()}
    for name, buffer in headless.named_buffers():
        if name in stored and not torch.equal(built.get(name, buffer).to(buffer.dtype), buffer):
            raise SourceError(
                f"The base {settings.model!r} keeps numbers in the buffer `{name}`, which a diff "
                "on its weights does not cover. Give a model of another architecture."
            )


def auto_class(name: str) -> Any:
    """Return a class of `transformers`."""
    import transformers

    return getattr(transformers, name)


def safetensors_header(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, list[str]]:
    """Return what precedes float tensors in a safetensors file, and their names in its order."""
    kinds = {name: kind_of(tensor) for name, tensor in tensors.items()}
    return file_start(standard_header(kinds, metadata)), in_file_order(kinds)


def kind_of(tensor: Tensor) -> Kind:
    """Return safetensors' kind of a float tensor."""
    name = str(tensor.dtype).removeprefix("torch.")
    return Kind(SAFETENSORS_TYPES[name], tuple(tensor.shape))


def checkpoint_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the size in bytes of float tensors as one safetensors file, tied ones by each name."""
    return len(safetensors_header(tensors)[0]) + sum(t.nbytes for t in tensors.values())


def _check_pin(settings: BaseSettings, located: Located) -> None:
    if settings.sha256 is None:
        return
    if located.kind == "hub":
        raise SourceError(
            f"`base.sha256` pins a file on disk, and {settings.model!r} is a hub id. "
            "Pin a hub model by `base.revision` instead."
        )
    found = weights_digest(located)
    if found != settings.sha256:
        raise BaseMismatchError(
            f"The weights of {settings.model!r} have the SHA-256 {found}, and the scenario pins "
            f"{settings.sha256}. The package or folder holds another model than the scenario was "
            "written for. Install the version that it names, or change `base.sha256`."
        )


def find_model(settings: BaseSettings) -> Located:
    """Find a model that can be read, and is the one that is pinned."""
    located = locate_model(settings.model)
    _check_pin(settings, located)
    if located.kind == "hub":
        return cached_only(located, settings.revision)
    if located.gguf is not None and find_spec("gguf") is None:
        raise SourceError(
            f"The base {settings.model!r} is a GGUF file, which needs the package `gguf`. Install "
            "it with `pip install 'streamlab[gguf]'`."
        )
    return located


def _check_special_tokens(
    settings: BaseSettings, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raise SourceError where a converted tokenizer begins or ends texts otherwise than the model.

    Converters have confused the two.
    """
    for name in ("bos_token_id", "eos_token_id"):
        expected, found = getattr(config, name, None), getattr(tokenizer, name, None)
        if expected is not None and found != expected:
            raise SourceError(
                f"The GGUF file of {settings.model!r} gives {expected} as `{name}`, and the "
                f"tokenizer that is made of it {found}. Give a folder with the model's own "
                "tokenizer in its place."
            )


def load_config(settings: BaseSettings, located: Located) -> PretrainedConfig:
    """Load a model's configuration, cut to `settings.layers`. Raises SourceError."""
    from transformers import AutoConfig

    if located.kind != "hub" and (Path(located.target) / "adapter_config.json").exists():
        raise SourceError(
            f"The folder of the base {settings.model!r} holds a PEFT adapter beside the model. "
            "Remove it, or merge it into the model by `merge_and_unload` first."
        )
    with loading_errors(settings):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            located.target,
            revision=settings.revision,
            trust_remote_code=False,
            **located.options,
        )
    if settings.layers is not None:
        _cut(config, settings, settings.layers)
    return config


def _cut(config: PretrainedConfig, settings: BaseSettings, n_layers: int) -> None:
    """Keep the lowest layers in a configuration, in its lists of one entry a layer too."""
    found = getattr(config, "num_hidden_layers", None)
    if found is not None and n_layers > found:
        raise SourceError(
            f"`base.layers` asks for {n_layers} layers, and {settings.model!r} has {found}. Give a "
            "smaller number, or leave it out."
        )
    try:
        for name in _LAYER_LISTS:
            values = getattr(config, name, None)
            if isinstance(values, list | tuple) and len(values) == found:
                setattr(config, name, values[:n_layers])
        config.num_hidden_layers = n_layers
    except (NotImplementedError, AttributeError, ValueError, TypeError) as error:
        raise SourceError(
            f"`base.layers` cannot cut {settings.model!r}: a {config.model_type} model is not a "
            "stack of equal layers. Leave it out."
        ) from error


def load_transformers(
    settings: BaseSettings, located: Located, config: PretrainedConfig, model_class: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a checkpoint whole in its own dtype; returns the library's report beside the model.

    Raises SourceError where it has other shapes or more layers than its configuration says.
    """
    # Of GGUF files, the library shows the progress of dequantisation on stderr.
    with nullcontext() if located.gguf is None else redirect_stderr(StringIO()):
        model, info = auto_class(model_class).from_pretrained(
            located.target,
            revision=settings.revision,
            config=config,
            dtype="auto",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            trust_remote_code=False,
            **located.options,
        )
    for name, stored, expected in sorted(info["mismatched_keys"]):
        check_shape(settings, name, tuple(stored), tuple(expected))
    check_layers(settings, model, info["unexpected_keys"])
    if getattr(model, "_hf_peft_config_loaded", False):
        raise SourceError(
            f"{settings.model!r} is a PEFT adapter, not a model. Merge it into its model by "
            "`merge_and_unload`, and give that."
        )
    return model, info


def check_shape(
    settings: BaseSettings, name: str, stored: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    """Raise SourceError where a tensor is stored with another shape than the model has."""
    if stored == expected:
        return
    if settings.layers is not None:
        raise SourceError(
            f"`base.layers` cannot cut {settings.model!r}: the shape of `{name}` depends on "
            "the number of layers. Leave it out."
        )
    raise SourceError(
        f"`{name}` has the shape {stored} in the checkpoint of {settings.model!r}, and "
        f"{expected} by its `config.json`. Restore the configuration that belongs to "
        "the checkpoint."
    )


def check_layers(
    settings: BaseSettings, model: PreTrainedModel, unexpected: Collection[str]
) -> None:
    """Raise SourceError for stored tensors, `unexpected`, of layers that the model lacks."""
    kinds = {_DIGITS.sub("#", name) for name, _ in model.named_parameters()}
    prefix = f"{model.base_model_prefix}."
    unread = [
        name
        for name in sorted(unexpected)
        if kinds & {_DIGITS.sub("#", name), _DIGITS.sub("#", name.removeprefix(prefix))}
    ]
    if unread and settings.layers is None:
        raise SourceError(
            f"The checkpoint of {settings.model!r} has more layers than its `config.json` says, "
            f"such as `{unread[0]}`. Restore the configuration that belongs to it, or set "
            "`base.layers`."
        )


@contextmanager
def loading_errors(settings: BaseSettings, model_class: str = MODEL_CLASS) -> Iterator[None]:
    """Turn whatever the library raises about a model into a SourceError."""
    try:
        yield
    except (StreamlabError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        if "trust_remote_code" in reason:
            raise SourceError(
                f"The base {settings.model!r} needs Python code from its own folder, which is "
                "never run. Give a model of an architecture that `transformers` has itself."
            ) from error
        if "weights_only" in reason:
            raise SourceError(
                f"The weights of {settings.model!r} are a pickle of more than tensors, which might "
                "run code and is never loaded. Save the model as `model.safetensors`."
            ) from error
        if model_class != MODEL_CLASS:
            raise SourceError(
                f"The base {settings.model!r} cannot be used as `{model_class}`: {reason[:120]} "
                "Give a model of an architecture that `transformers` has this class for."
            ) from error
        raise SourceError(
            f"The base {settings.model!r} cannot be loaded: {reason[:300]} Give a model that "
            "`transformers` can load for sequence classification; a hub id needs the hub or a "
            "filled cache."
        ) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence progress bars and load reports inside a `with` block."""
    from transformers.utils import logging as library

    level = library.get_verbosity()
    bars = library.is_progress_bar_enabled()
    library.set_verbosity(logging.ERROR)
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()
