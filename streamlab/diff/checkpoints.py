"""Diffs of `transformers` models: taken between checkpoints, saved to and loaded from folders.

diff = DiffVector.from_models(base, tuned)      diff.save_pretrained(folder)
diff = DiffVector.from_pretrained(name, base=base)      diff.merge_into(model)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import torch

from streamlab.diff.apply import plan
from streamlab.diff.format.container import decode, encode
from streamlab.diff.format.values import keep_values
from streamlab.diff.layout import Layout
from streamlab.diff.model_card import CARD_NAME, FILE_NAME, CardFacts, model_card
from streamlab.diff.vector import DiffVector, Mode, SparseTensor
from streamlab.errors import DiffError, SourceError, UsageError
from streamlab.files import atomic_folder, write_atomically
from streamlab.hashing import split_head
from streamlab.locations import hub_obstacle, is_path, near_by

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from torch.nn import Parameter
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from streamlab.diff.format.container import EncodedDiff
    from streamlab.diff.format.values import ValueType


_BLOCK_ENTRIES = 1 << 24  # that are compared at a time
_PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


@dataclass(frozen=True)
class Weights:
    """A model and its tensors by name, which may be read one at a time while it has none itself."""

    model: PreTrainedModel
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self:
        """Return the weights of a model in memory."""
        return cls(model, {name: tensor.detach() for name, tensor in model.named_parameters()})


@dataclass(frozen=True)
class _Renamed(Mapping[str, "Tensor"]):
    """Tensors by other names; each is read when it is asked for."""

    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]  # in `tensors`

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class HasLayout(Protocol):
    """An object with the layout of a base, such as `streamlab.base.Base`."""

    @property
    def layout(self) -> Layout:
        """Return the layout."""


def layout_of(base: Layout | HasLayout | PreTrainedModel | Weights) -> Layout:
    """Return the layout of a base, a headless model or a classifier on one.

    A model's fingerprint is computed from its current weights, its configuration and the tokenizer
    in the folder or repository it was loaded from: pass it unchanged, loaded with `dtype="auto"`
    as the base was. A model made in memory has no tokenizer, and is another base.
    """
    if isinstance(base, Layout):
        return base
    if isinstance(base, torch.nn.Module):
        base = Weights.of(base)
    if isinstance(base, Weights):
        backbone = _Renamed(base.tensors, _backbone_names(base.model)[0])
        return Layout.of(backbone, base.model.config, tokenizer_beside(base.model))
    return base.layout


def backbone_and_head(
    model: torch.nn.Module, head: Sequence[str] | None = None
) -> tuple[Layout, dict[str, Parameter], dict[str, Parameter]]:
    """Split a model that is at the base's weights: its layout, its backbone, its head, by name.

    `head` names modules or parameters; it may be left out where `transformers` knows the head. A
    module that is not of `transformers` is known by its weights alone. Raises UsageError.
    """
    from transformers import PreTrainedModel

    parameters = dict(model.named_parameters())
    known = model if isinstance(model, PreTrainedModel) else None
    if head is None and known is None:
        raise UsageError(
            f"{type(model).__name__} is no model of `transformers`, whose head is known. Give the "
            "names of what is trained densely as `head`, or `head=[]`."
        )
    for name in head or ():
        if not any(n == name or n.startswith(f"{name}.") for n in parameters):
            raise UsageError(
                f"`head` names {name!r}, and {type(model).__name__} has no such module or "
                f"parameter. Its modules: {', '.join(n for n, _ in model.named_children())}."
            )
    named = [n for n in parameters if any(n == h or n.startswith(f"{h}.") for h in head or ())]
    if known is None:
        backbone = {n: p for n, p in parameters.items() if n not in named}
        layout = Layout.of(backbone, None, None)
    else:
        names, of_head = _backbone_names(known)
        if head is not None and set(named) != set(of_head):
            raise UsageError(
                f"The head of {type(model).__name__} is {', '.join(of_head) or 'empty'}, and "
                f"`head` names {', '.join(named) or 'nothing'}. Leave `head` out."
            )
        named = list(of_head)
        backbone = {name: parameters[full] for name, full in names.items()}
        layout = layout_of(known)
    if not backbone:
        raise UsageError("`head` names every parameter, so that none is left to prune.")
    return layout, backbone, {name: parameters[name] for name in named}


def tokenizer_beside(model: PreTrainedModel) -> PreTrainedTokenizerBase | None:
    """Load the tokenizer from where a model was loaded; None where there is none."""
    from transformers import AutoTokenizer

    if not model.name_or_path:
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model.name_or_path,
            revision=getattr(model.config, "_commit_hash", None),
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError, ImportError):
        return None
    # Without any file, the library makes one of special tokens alone.
    return tokenizer if len(tokenizer) > len(tokenizer.all_special_tokens) else None


def find_file(name: str | Path, revision: str | None) -> Path:
    """Return the diff file in a folder, or in a repository on the hub or in its cache.

    Raises SourceError.
    """
    if Path(name).is_dir():
        return Path(name) / FILE_NAME
    if is_path(str(name)):
        advice = near_by(name) or "Give a folder written by `save_pretrained`."
        raise SourceError(f"The folder {str(name)!r} does not exist. {advice}")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        cached = hub_obstacle() is not None  # the library would try for half a minute
        return Path(
            hf_hub_download(str(name), FILE_NAME, revision=revision, local_files_only=cached)
        )
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(
            f"{str(name)!r} is not a folder, and {FILE_NAME} cannot be loaded from a repository of "
            f"that name on the hub: {reason} Give a folder written by `save_pretrained`, or the "
            "name of a repository that can be reached or is in the cache."
        ) from error


def _backbone_names(
    model: PreTrainedModel, *, every: bool = False
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return a model's backbone as {layout name: parameter name}, and the names of its head.

    The backbone of a headless model has the tensors that the classifier of its architecture keeps
    (RoBERTa's drops the pooler); all of them with `every`, or without such a classifier.
    """
    names = [name for name, _ in model.named_parameters()]
    prefix = model.base_model_prefix
    if model.base_model is not model:
        short = [name.removeprefix(f"{prefix}.") for name in names if name.startswith(f"{prefix}.")]
        return split_head(names, short, prefix)
    if every:
        return {name: name for name in names}, ()
    from transformers import AutoModelForSequenceClassification

    try:
        with torch.device("meta"):
            outline = AutoModelForSequenceClassification.from_config(
                model.config, trust_remote_code=False
            )
    except ValueError:  # this architecture has no classifier
        return {name: name for name in names}, ()
    kept, _ = split_head([name for name, _ in outline.named_parameters()], names, prefix)
    return {name: name for name in kept}, ()


def backbone_of(weights: Weights) -> Mapping[str, Tensor]:
    """Return all backbone tensors of a model by their layout names, to be read one at a time."""
    return _Renamed(weights.tensors, _backbone_names(weights.model, every=True)[0])


def _check_pooler(base: PreTrainedModel, names: Collection[str]) -> None:
    """Raise DiffError for a pooler that the base's checkpoint lacks: each load draws another."""
    from safetensors import safe_open

    poolers = [name for name in names if name.startswith("pooler.")]
    paths = Path(base.name_or_path).glob("*.safetensors") if base.name_or_path else []
    stored: list[str] = []
    for path in paths:
        with safe_open(path, "pt") as file:
            stored += file.keys()
    if poolers and stored and not any("pooler." in name for name in stored):
        raise DiffError(
            f"The checkpoint of {base.name_or_path!r} lacks `{poolers[0]}`, which every load draws "
            "anew, so that nothing would fit a diff on it. Save the base whole, load it from "
            "there, and train on that."
        )


def _check_dropped(dropped: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> None:
    """Raise DiffError for a change in a tensor that the classifier does not keep."""
    for name, tensor in dropped.items():
        if name not in held or not torch.equal(held[name], tensor):
            raise DiffError(
                f"`{name}` differs, but classifiers of this architecture do not have it, so a diff "
                "cannot store the change. Compare classifiers in place of headless models."
            )


class _Changes:
    """The changed entries of all tensors in two arrays that grow in place.

    Arrays of each tensor would leave memory in pieces that cannot be given back.
    """

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._positions = np.empty(0, dtype=np.int64)
        self._values = np.empty(0, dtype=np.float32)
        self._n = 0
        self._parts: list[tuple[tuple[int, ...], slice]] = []

    def add(self, name: str, old: Tensor, new: Tensor) -> None:
        """Compare the next tensor. Raises DiffError where shapes or dtypes do not fit."""
        if old.shape != new.shape or old.dtype not in _BITS or new.dtype not in _BITS:
            raise DiffError(
                f"`{name}` is {old.dtype} {tuple(old.shape)} in the base and {new.dtype} "
                f"{tuple(new.shape)} in the tuned model; shapes must be equal, and dtypes one of "
                f"{', '.join(str(dtype) for dtype in _BITS)}."
            )
        if self._exact and old.dtype != new.dtype:
            raise DiffError(
                f"`{name}` is {old.dtype} in the base and {new.dtype} in the tuned model; an exact "
                "diff needs equal dtypes. Save the tuned model in the base's dtype."
            )
        first = self._n
        blocks = (t.cpu().contiguous().view(-1).split(_BLOCK_ENTRIES) for t in (old, new))
        for start, before, after in zip(count(0, _BLOCK_ENTRIES), *blocks, strict=False):
            if self._exact:
                bits = _BITS[before.dtype]
                entries, moved = after, before.view(bits) != after.view(bits)
            else:
                entries = after.float() - before.float()
                moved = entries != 0
            places = moved.nonzero().view(-1)
            self._append((places + start).numpy(), entries[places].float().numpy())
        self._parts.append((tuple(old.shape), slice(first, self._n)))

    def _append(self, positions: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        end = self._n + len(positions)
        if end > len(self._positions):
            self._resize(max(end, len(self._positions) * 5 // 4))
        self._positions[self._n : end] = positions
        self._values[self._n : end] = values
        self._n = end

    def _resize(self, size: int) -> None:
        for array in (self._positions, self._values):
            array.resize(size, refcheck=False)  # nothing else refers to it

    def tensors(self) -> tuple[SparseTensor, ...]:
        """Return the changes of every tensor; no more can be added."""
        self._resize(self._n)
        return tuple(
            SparseTensor(shape, self._positions[place], self._values[place])
            for shape, place in self._parts
        )


def frozen_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of a language model's head that is not tied to the embeddings."""
    outputs = model.get_output_embeddings()
    inputs = {*map(id, model.get_input_embeddings().parameters())}
    own = set() if outputs is None else {*map(id, outputs.parameters())} - inputs
    return tuple(name for name, parameter in model.named_parameters() if id(parameter) in own)


def _without_frozen(base: Weights, tuned: Weights, head: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a head without those of a language model, which must be the base's.

    Raises DiffError where they are not.
    """
    frozen = {*frozen_names(tuned.model)} & {*head}
    for name in sorted(frozen):
        old = base.tensors.get(name)
        if old is None or not torch.equal(old, tuned.tensors[name]):
            raise DiffError(
                f"`{name}`, the head of the language model, is not that of the base. A diff leaves "
                "it as it is: tune with that head frozen, or with its weights tied to the "
                "embeddings, and give the base as a whole language model."
            )
    return tuple(name for name in head if name not in frozen)


class PretrainedDiff(DiffVector):
    """A `DiffVector` with the conventions of `transformers`, exported as `streamlab.DiffVector`.

    It adds reading, writing and merging, and no data; it equals a plain `DiffVector` with the
    same content.
    """

    @classmethod
    def of(cls, diff: DiffVector) -> Self:
        """Return a plain diff as this class, without copying its arrays."""
        return cls(diff.layout, diff.tensors, diff.head, diff.task, diff.mode, diff.rule)

    @classmethod
    def from_models(
        cls,
        base: PreTrainedModel,
        tuned: PreTrainedModel,
        *,
        exact: bool = False,
        task: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the difference of two models' backbones, with the head of the tuned one, if any.

        `exact`: store every weight whose bits differ, for a reconstruction bit for bit; otherwise
        float32(tuned) - float32(base). Raises DiffError where names, shapes or dtypes do not
        match, or nothing differs.
        """
        return cls.from_weights(Weights.of(base), Weights.of(tuned), exact=exact, task=task)

    @classmethod
    def from_weights(
        cls,
        base: Weights,
        tuned: Weights,
        *,
        exact: bool = False,
        task: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return what `from_models` does; no more than a tensor of each is held at a time."""
        held, parameters = base.tensors, tuned.tensors
        base_names = _backbone_names(base.model, every=True)[0]
        names, head_names = _backbone_names(tuned.model)
        lacking = sorted(names.keys() - base_names.keys())
        if lacking:
            raise DiffError(
                f"The base lacks `{lacking[0]}` of the tuned model ({len(lacking)} such tensors): "
                "the two have different architectures. Give two models of one architecture."
            )
        # Some models for tasks leave the pooler out, which is then unchanged.
        in_layout = _backbone_names(base.model)[0]
        own = [n for n in in_layout if n in names or n.startswith("pooler.")]
        own += [name for name in names if name not in in_layout]
        before = _Renamed(held, {name: base_names[name] for name in own})
        _check_pooler(base.model, [*before])
        kept = {*names.values(), *head_names}
        dropped = {name: name for name in parameters if name not in kept}
        _check_dropped(_Renamed(parameters, dropped), held)
        changes = _Changes(exact=exact)
        for name in before:
            changes.add(
                name, before[name], parameters[names[name]] if name in names else before[name]
            )
        head_names = _without_frozen(base, tuned, head_names)
        head = {name: parameters[name].float().cpu().numpy().copy() for name in head_names}
        layout = Layout.of(before, base.model.config, tokenizer_beside(base.model))
        mode: Mode = "replace" if exact else "add"
        return cls(layout, changes.tensors(), head, task or {}, mode)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        base: Layout | HasLayout | PreTrainedModel,
        expected_digest: str | None = None,
    ) -> Self:
        """Read a diff file of `base`. Raises SourceError, and what `decode` raises."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise SourceError(f"No diff can be read from {path}: {error.strerror}.") from error
        return cls.of(decode(data, layout_of(base), expected_digest=expected_digest))

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        base: Layout | HasLayout | PreTrainedModel,
        revision: str | None = None,
        expected_digest: str | None = None,
    ) -> Self:
        """Read the diff in a folder or in a repository on the hub. Raises as `load` does."""
        return cls.load(find_file(name, revision), base=base, expected_digest=expected_digest)

    def encoded(self, value_type: ValueType | None) -> EncodedDiff:
        """Encode the diff; by default as bf16, or in the narrowest exact type to replace weights.

        Raises DiffError where the type does not fit.
        """
        default = self.narrowest_type() if self.mode == "replace" else "bf16"
        return encode(self, value_type=value_type or default)

    def narrowest_type(self) -> ValueType:
        """Return the float type of the fewest bytes that holds every value bit for bit."""
        types: tuple[ValueType, ...] = ("bf16", "fp16")
        for candidate in types:
            with suppress(DiffError):
                keep_values(self.entries, candidate)
                return candidate
        return "fp32"

    def save(self, path: str | Path, *, value_type: ValueType | None = None) -> str:
        """Write a diff file atomically and return its SHA-256; see `encoded`.

        Raises StoreError where the disk is full or not writable.
        """
        encoded = self.encoded(value_type)
        write_atomically(Path(path), encoded.data)
        return encoded.digest

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        value_type: ValueType | None = None,
        base_model: str | None = None,
        scores: Mapping[str, float] | None = None,
        score_source: str | None = None,
    ) -> str:
        """Write the diff and a model card into a folder; return the file's SHA-256.

        What the card says beside the diff: see `CardFacts`. A new folder is written as a whole, an
        existing one file by file. Raises as `save` does, and UsageError for scores without a
        source.
        """
        facts = CardFacts(base_model=base_model, scores=scores or {}, score_source=score_source)
        folder, encoded = Path(folder), self.encoded(value_type)
        with nullcontext(folder) if folder.exists() else atomic_folder(folder) as target:
            write_atomically(target / FILE_NAME, encoded.data)
            write_atomically(target / CARD_NAME, model_card(self, encoded, facts).encode())
        return encoded.digest

    def push_to_hub(
        self,
        repo_id: str,
        *,
        value_type: ValueType | None = None,
        base_model: str | None = None,
        scores: Mapping[str, float] | None = None,
        score_source: str | None = None,
        private: bool = False,
        revision: str | None = None,
        message: str = "Add a diff",
    ) -> str:
        """Commit what `save_pretrained` writes to a repository on the hub; return the commit.

        The repository is made if it is missing; the token is that of `hf auth login` or HF_TOKEN.
        Raises as `save_pretrained` does, and SourceError where the hub refuses.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        with tempfile.TemporaryDirectory() as name:
            self.save_pretrained(
                name,
                value_type=value_type,
                base_model=base_model,
                scores=scores,
                score_source=score_source,
            )
            try:
                hub = HfApi()
                hub.create_repo(repo_id, private=private, exist_ok=True)
                made = hub.upload_folder(
                    repo_id=repo_id, folder_path=name, revision=revision, commit_message=message
                )
            except (OSError, HfHubHTTPError, HFValidationError) as error:
                reason = " ".join(str(error).split())[:200]
                raise SourceError(
                    f"The diff cannot be pushed to {repo_id!r}: {reason} Check the name, and that "
                    "the token of `hf auth login` or HF_TOKEN may write to it."
                ) from error
        return str(made.oid)

    def merge_into(self, model: PreTrainedModel) -> int:
        """Merge the diff into a model's weights; return how many backbone weights changed.

        A classifier gets the diff's head, and with it the number and names of its labels; a
        headless model takes the backbone alone. Raises BaseMismatchError where the model's
        weights are not the base's, and DiffError for a model of another kind or in a wrapper.
        """
        from transformers import PreTrainedModel

        if not isinstance(model, PreTrainedModel):
            raise DiffError(
                f"A diff is merged into a model of `transformers`, got {type(model).__name__}. "
                "Give the model inside it; merge or remove its adapters first."
            )
        head = {} if model.base_model is model else self.head
        diff = DiffVector(self.layout, self.tensors, head, self.task, self.mode, self.rule)
        planned = plan(model, diff, expected=layout_of(model).fingerprint)
        resized = [
            (swap.linear.out_features, swap.tensor.shape[0])
            for swap in planned.swaps
            if swap.linear is not None and swap.width != swap.linear.out_features
        ]
        if any(before != model.config.num_labels for before, _ in resized):
            raise DiffError(
                f"{type(model).__name__} has a head of another meaning than one output a label. "
                "Give a model for sequence classification, or a headless one."
            )
        widths = {after for _, after in resized}
        n_changed = planned.put_on().n_changed
        if head:
            _set_labels(model, max(widths) if widths else model.config.num_labels, self.task)
        return n_changed


def _set_labels(model: Any, n_labels: int | None, task: Mapping[str, Any]) -> None:
    """Write the number of labels, and their names and meaning where the diff has them."""
    config, labels, problem = model.config, task.get("labels"), task.get("problem_type")
    if config.num_labels != n_labels:
        config.num_labels = n_labels  # which also numbers the labels
        config.problem_type = None  # as the number says
    if problem in _PROBLEM_TYPES:
        config.problem_type = problem
    if isinstance(labels, list) and len(labels) == n_labels:
        config.id2label = {place: str(label) for place, label in enumerate(labels)}
        config.label2id = {str(label): place for place, label in enumerate(labels)}
    if hasattr(model, "num_labels"):
        model.num_labels = n_labels
