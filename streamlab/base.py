"""The base: one pretrained encoder, loaded once, never changed, identified by a fingerprint."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, PositiveInt

from streamlab.config import Settings
from streamlab.diff.layout import Layout
from streamlab.errors import BaseMismatchError, SourceError, StreamlabError
from streamlab.hashing import fingerprint_tensors, split_head
from streamlab.sources import PACKAGE_PREFIX, Located, locate_model, weights_digest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# The `transformers` class whose backbone is the layout: parts that it lacks are not trained.
MODEL_CLASS: Final = "AutoModelForSequenceClassification"


class BaseSettings(Settings):
    """The pretrained model that every task of a scenario is a diff on."""

    model: str = Field(min_length=1)
    """`package:NAME` (a model folder in an installed package), a folder, or a hub id."""
    revision: str | None = None
    """Of a hub id: a branch, tag or commit. A commit pins the base."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the weights file; another file is an error."""
    layers: PositiveInt | None = None
    """Keep only this many of the lowest layers. Default: all."""

    def placed(self, folder: Path) -> BaseSettings:
        """Return these settings with a model folder, relative to `folder`, made absolute."""
        place = folder / self.model
        if self.model.startswith(PACKAGE_PREFIX) or not place.is_dir():
            return self
        return self.model_copy(update={"model": os.path.abspath(place)})  # noqa: PTH100 - links stay


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
    head_names: tuple[str, ...]
    initialised: tuple[str, ...]  # backbone tensors the checkpoint lacked, drawn from the seed
    tokenizer: PreTrainedTokenizerBase
    config: PretrainedConfig
    max_length: int  # the longest input the model takes, in tokens
    file_bytes: int  # the backbone as a safetensors file
    _held: str  # fingerprint of `tensors` after the cast to float32

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 over the backbone as loaded, before any cast."""
        return self.layout.fingerprint

    def check_unchanged(self) -> None:
        """Raise BaseMismatchError if a single bit of the base differs from what was loaded."""
        if fingerprint_tensors(self.tensors) != self._held:
            raise BaseMismatchError(
                f"The base {self.settings.model!r} was changed in memory since it was loaded. "
                "The last training or scoring wrote to it; discard its results, and start again."
            )

    def classifier(
        self, *, n_outputs: int, seed: int, model_class: str = MODEL_CLASS
    ) -> PreTrainedModel:
        """Build a fresh model: the base's backbone under a head initialised from `seed`.

        `model_class` is the `transformers` class that has the head.
        """
        import torch

        config = type(self.config).from_dict(self.config.to_dict())
        config.num_labels = n_outputs
        with torch.random.fork_rng(devices=[]), quiet_transformers():
            torch.manual_seed(seed)
            model: PreTrainedModel = _auto_class(model_class).from_config(
                config, dtype=torch.float32
            )
        parameters = dict(model.named_parameters())
        full_names, _ = split_head(list(parameters), self.layout.names, model.base_model_prefix)
        with torch.no_grad():
            for name, full_name in full_names.items():
                parameters[full_name].copy_(self.tensors[name])
        model.eval()
        return model


def load_base(settings: BaseSettings, *, seed: int) -> Base:
    """Load, cut, freeze and fingerprint a pretrained encoder.

    `seed` fills backbone tensors that the checkpoint lacks. Raises SourceError where the model
    cannot be found, read or used as a sequence classifier, BaseMismatchError where its weights
    are not those that the scenario pins.
    """
    import torch
    from transformers import AutoTokenizer

    located = locate_model(settings.model)
    _check_pin(settings, located)
    config = _load_config(settings, located)
    with torch.random.fork_rng(devices=[]), quiet_transformers(), _explained(settings):
        torch.manual_seed(seed)
        headless, missing = _load_weights("AutoModel", settings, located, config)
        tokenizer = AutoTokenizer.from_pretrained(located.target, revision=settings.revision)
        with torch.device("meta"):
            outline = _auto_class(MODEL_CLASS).from_config(config)
    loaded = {name: parameter.detach() for name, parameter in headless.named_parameters()}
    full_names, head_names = split_head(
        [name for name, _ in outline.named_parameters()], loaded, outline.base_model_prefix
    )
    backbone = {name: loaded[name] for name in full_names}
    tensors = {name: t.to(torch.float32).contiguous().clone() for name, t in backbone.items()}
    return Base(
        settings=settings,
        layout=Layout.of(backbone),
        tensors=tensors,
        full_names=full_names,
        head_names=head_names,
        initialised=tuple(sorted(set(missing) & set(backbone))),
        tokenizer=tokenizer,
        config=config,
        max_length=_longest_input(config, tokenizer),
        file_bytes=checkpoint_bytes(backbone),
        _held=fingerprint_tensors(tensors),
    )


def load_model(settings: BaseSettings) -> PreTrainedModel:
    """Load a checkpoint as it is, in its own dtype, with its head if it has one.

    Raises SourceError, or BaseMismatchError where another file is pinned.
    """
    located = locate_model(settings.model)
    _check_pin(settings, located)
    config = _load_config(settings, located)
    with quiet_transformers(), _explained(settings):
        model, missing = _load_weights(MODEL_CLASS, settings, located, config)
        backbone = f"{model.base_model_prefix}."
        if any(not name.startswith(backbone) for name in missing):
            model, _ = _load_weights("AutoModel", settings, located, config)
    return model


def _auto_class(name: str) -> Any:
    import transformers

    return getattr(transformers, name)


def checkpoint_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the size in bytes of these tensors as one safetensors file, by writing it."""
    from safetensors.torch import save

    # The format refuses shared storage, and a checkpoint holds a copy per tensor.
    return len(save({name: t.detach().contiguous().clone() for name, t in tensors.items()}))


def _check_pin(settings: BaseSettings, located: Located) -> None:
    if settings.sha256 is None:
        return
    if located.kind == "hub":
        raise SourceError(
            f"`base.sha256` pins a file on disk, and {settings.model!r} is a hub id. "
            "Pin a hub model by `base.revision` instead."
        )
    found = weights_digest(Path(located.target))
    if found != settings.sha256:
        raise BaseMismatchError(
            f"The weights of {settings.model!r} have the SHA-256 {found}, and the scenario pins "
            f"{settings.sha256}. The package or folder holds another model than the scenario was "
            "written for. Install the version that it names, or change `base.sha256`."
        )


def _load_config(settings: BaseSettings, located: Located) -> PretrainedConfig:
    from transformers import AutoConfig

    with _explained(settings):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            located.target, revision=settings.revision
        )
    if settings.layers is not None:
        if settings.layers > config.num_hidden_layers:
            raise SourceError(
                f"`base.layers` asks for {settings.layers} layers, and {settings.model!r} has "
                f"{config.num_hidden_layers}. Give a smaller number, or leave it out."
            )
        config.num_hidden_layers = settings.layers
    return config


def _load_weights(
    model_class: str, settings: BaseSettings, located: Located, config: PretrainedConfig
) -> tuple[PreTrainedModel, list[str]]:
    """Load a checkpoint in its own dtype; return the model and the names that the file lacks."""
    model, info = _auto_class(model_class).from_pretrained(
        located.target,
        revision=settings.revision,
        config=config,
        dtype="auto",
        output_loading_info=True,
    )
    return model, list(info["missing_keys"])


def _longest_input(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    positions = int(getattr(config, "max_position_embeddings", 512))
    # RoBERTa numbers positions from pad_token_id + 1.
    if config.model_type in {"roberta", "xlm-roberta", "camembert"}:
        positions -= int(config.pad_token_id or 0) + 1
    return min(positions, int(tokenizer.model_max_length))


@contextmanager
def _explained(settings: BaseSettings) -> Iterator[None]:
    """Turn whatever the library raises while it loads a model into a SourceError."""
    from safetensors import SafetensorError

    try:
        yield
    except StreamlabError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SourceError(
            f"The base {settings.model!r} cannot be loaded: {reason} Give a model that "
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
