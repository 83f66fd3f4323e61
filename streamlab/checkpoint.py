"""A stored model whose tensors are read one at a time, so that it may be larger than memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.base import (
    MODEL_CLASS,
    BaseSettings,
    auto_class,
    check_layers,
    check_shape,
    find_model,
    load_config,
    load_transformers,
    loading_errors,
    quiet_transformers,
)
from streamlab.diff.checkpoints import Weights
from streamlab.errors import SourceError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

    from streamlab.locations import Located

Places = Mapping[str, tuple[Path, str]]  # the file of a tensor and its name there


class StoredTensors(Mapping[str, "Tensor"]):
    """Tensors in safetensors files by their names in the model, in its dtype.

    A file is mapped anew for every tensor that is read, and its memory is given back when the
    tensor is dropped.
    """

    def __init__(self, places: Places, dtype: torch.dtype) -> None:
        self._places = places
        self._dtype = dtype

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor."""
        from safetensors import safe_open

        path, key = self._places[name]
        with safe_open(path, "pt") as file:
            tensor: Tensor = file.get_tensor(key)
        return tensor.to(self._dtype)

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._places)


@dataclass(frozen=True)
class Checkpoint:
    """A stored model; `left_out` names stored tensors that it does not have."""

    weights: Weights
    left_out: tuple[str, ...]


def open_checkpoint(
    settings: BaseSettings,
    *,
    model_class: Callable[[PretrainedConfig], str | None] = lambda _config: None,
) -> Checkpoint:
    """Open a checkpoint as it is, in its own dtype.

    `model_class` gives a class of `transformers`, or None for the classifier if its head is stored,
    else the model without a head. Tensors are read when they are asked for, if they are stored in
    safetensors files under the names that `transformers` gives them; otherwise the model is loaded
    whole. Raises SourceError, or BaseMismatchError where another file is pinned.
    """
    located = find_model(settings)
    config = load_config(settings, located)
    wanted = model_class(config)
    classes = (MODEL_CLASS, "AutoModel") if wanted in (MODEL_CLASS, None) else (wanted,)
    with quiet_transformers(), loading_errors(settings):
        opened = _opened(settings, located, config, classes)
    return opened or _loaded(settings, located, config, classes)


def _opened(
    settings: BaseSettings, located: Located, config: PretrainedConfig, classes: tuple[str, ...]
) -> Checkpoint | None:
    """Open a checkpoint by tensor; None where its tensors are not those of the model."""
    import torch

    if located.gguf is not None:
        return None
    shapes, dtypes, place_of = _stored(_files(settings, located))
    dtype = getattr(config, "dtype", None) or next(iter(dtypes), None)
    if dtype is None or dtypes != {dtype}:
        return None
    config.name_or_path = located.target
    for model_class in classes:
        with torch.device("meta"):
            outline: PreTrainedModel = auto_class(model_class).from_config(
                config, dtype=dtype, trust_remote_code=False
            )
        prefix = f"{outline.base_model_prefix}."
        keys, missing = {}, []
        for name, parameter in outline.named_parameters():
            key = next((n for n in _alternatives(name, prefix) if n in shapes), None)
            if key is None:
                missing.append(name)
                continue
            check_shape(settings, name, shapes[key], tuple(parameter.shape))
            keys[name] = key
        if _is_converted(outline, dtype) or _lacking(outline, missing):
            return None
        if not missing:
            # Tied tensors and buffers may be stored once more.
            known = {n for name in outline.state_dict() for n in _alternatives(name, prefix)}
            left_out = tuple(sorted(shapes.keys() - known))
            check_layers(settings, outline, left_out)
            places = {name: (place_of[key], key) for name, key in keys.items()}
            return Checkpoint(Weights(outline, StoredTensors(places, dtype)), left_out)
    return None


def _alternatives(name: str, prefix: str) -> tuple[str, ...]:
    """Return the names under which models with and without a head store a tensor."""
    return name, name.removeprefix(prefix), prefix + name


def _is_converted(outline: PreTrainedModel, dtype: torch.dtype) -> bool:
    """Return whether the library changes stored tensors when it loads them."""
    import torch
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    kept = outline._keep_in_fp32_modules or outline._keep_in_fp32_modules_strict
    return bool(kept and dtype != torch.float32) or bool(
        get_checkpoint_conversion_mapping(outline.config.model_type)
    )


def _files(settings: BaseSettings, located: Located) -> list[Path]:
    """Return the safetensors files of a model, from the hub where it is there; [] without any."""
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
    from transformers.utils.hub import cached_file

    def find(name: str) -> Path | None:
        found = cached_file(
            located.target,
            name,
            revision=settings.revision,
            _raise_exceptions_for_missing_entries=False,
        )
        return None if found is None else Path(found)

    single = find(SAFE_WEIGHTS_NAME)
    if single is not None:
        return [single]
    index = find(SAFE_WEIGHTS_INDEX_NAME)
    if index is None:
        return []
    names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return [path for path in map(find, names) if path is not None]


def _stored(
    files: Collection[Path],
) -> tuple[dict[str, tuple[int, ...]], set[torch.dtype], dict[str, Path]]:
    """Return the shapes of stored tensors, their dtypes, and the file of each."""
    from safetensors import safe_open

    shapes, dtypes, place_of = {}, set(), {}
    for path in files:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                part = file.get_slice(key)
                shapes[key] = tuple(part.get_shape())
                place_of[key] = path
                dtypes.add(file.get_tensor(key).dtype)  # mapped, and not read
    return shapes, dtypes, place_of


def _loaded(
    settings: BaseSettings, located: Located, config: PretrainedConfig, classes: tuple[str, ...]
) -> Checkpoint:
    """Load a checkpoint whole, by the last of `classes` where it lacks all of the head."""
    import torch

    with torch.random.fork_rng(devices=[]), quiet_transformers(), loading_errors(settings):
        torch.manual_seed(0)  # for a pooler that no classifier keeps: the same in two checkpoints
        model, info = load_transformers(settings, located, config, classes[0])
        lacking = _lacking(model, info["missing_keys"])
        if lacking or (info["missing_keys"] and len(classes) == 1):
            raise SourceError(
                f"The checkpoint of {settings.model!r} lacks "
                f"`{[*lacking, *sorted(info['missing_keys'])][0]}`, which would be random "
                "numbers. Save the model whole, by `save_pretrained` of its classifier or of "
                "`AutoModel`."
            )
        if info["missing_keys"]:  # all of its head
            model, info = load_transformers(settings, located, config, classes[-1])
    return Checkpoint(Weights.of(model), tuple(sorted(info["unexpected_keys"])))


def _lacking(model: PreTrainedModel, missing: Collection[str]) -> list[str]:
    """Return the missing tensors of a classifier's backbone and of a head that is not whole."""
    modules = Counter(name.rpartition(".")[0] for name, _ in model.named_parameters())
    lost = Counter(name.rpartition(".")[0] for name in missing)
    prefix = f"{model.base_model_prefix}."
    return [
        name
        for name in sorted(missing)
        if name.startswith(prefix) or lost[m := name.rpartition(".")[0]] < modules[m]
    ]
