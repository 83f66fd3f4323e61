"""Diffs between models of `transformers`, and folders that hold one as its users know them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch

from streamlab.diff.apply import plan
from streamlab.diff.format.container import decode, encode
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import DiffError, SourceError
from streamlab.hashing import fingerprint_tensors, split_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from transformers import PreTrainedModel

    from streamlab.diff.format.container import EncodedDiff
    from streamlab.diff.format.values import ValueType


FILE_NAME = "diff.safetensors"
CARD_NAME = "README.md"
_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


class HasLayout(Protocol):
    """Whatever knows the layout of a base, as `streamlab.base.Base` does."""

    @property
    def layout(self) -> Layout:
        """Return it."""


def layout_of(base: Layout | HasLayout | PreTrainedModel) -> Layout:
    """Return the layout of a base, of a headless model or of a classifier on one.

    A model's fingerprint is that of its weights as they are: load it as the base was loaded
    (`dtype="auto"`), before anything is changed.
    """
    if isinstance(base, Layout):
        return base
    if isinstance(base, torch.nn.Module):
        tensors = dict(base.named_parameters())
        return _layout({name: tensors[full] for name, full in _backbone_names(base)[0].items()})
    return base.layout


def difference(
    base: PreTrainedModel, tuned: PreTrainedModel, *, exact: bool, task: Mapping[str, Any]
) -> DiffVector:
    """Take the difference of two models' backbones, and the head of the tuned one, if any.

    `exact`: keep every weight with other bits as it is, else float32(tuned) - float32(base).
    Raises DiffError where names, shapes or dtypes do not fit, or nothing differs.
    """
    names, head_names = _backbone_names(tuned)
    held, parameters = dict(base.named_parameters()), dict(tuned.named_parameters())
    own = _backbone_names(base, alone=True)[0]
    before = {name: held[own[name]].detach() for name in names if name in own}
    lacking = sorted(names.keys() - before.keys())
    if lacking:
        raise DiffError(
            f"The base has no `{lacking[0]}`, which the tuned model has ({len(lacking)} such "
            "tensors); the two are not of one architecture."
        )
    _check_dropped(
        {n: p for n, p in parameters.items() if n not in {*names.values(), *head_names}}, held
    )
    pairs = [(name, before[name], parameters[full].detach()) for name, full in names.items()]
    tensors = tuple(_changed(name, old, new, exact=exact) for name, old, new in pairs)
    head = {name: parameters[name].detach().float().cpu().numpy().copy() for name in head_names}
    return DiffVector(_layout(before), tensors, head, task, "replace" if exact else "add")


def merge(model: PreTrainedModel, diff: DiffVector) -> int:
    """Write a diff into a model for good, and return how many backbone weights changed.

    Raises BaseMismatchError where the model's weights are not those of the diff's base.
    """
    return plan(model, diff, expected=layout_of(model).fingerprint).put_on().n_changed


def write_file(diff: DiffVector, path: Path, value_type: ValueType | None) -> EncodedDiff:
    """Write a diff aside and move it into place.

    Without a value type: bf16, or where weights are replaced the narrowest that holds them.
    """
    encoded = encode(diff, value_type=value_type or _default_type(diff))
    _write(path, encoded.data)
    return encoded


def read_file(
    path: Path, base: Layout | HasLayout | PreTrainedModel, expected_digest: str | None
) -> DiffVector:
    """Read a diff file. Raises SourceError where it is not there, and what `decode` raises."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"No diff can be read from {path}: {error.strerror}.") from error
    return decode(data, layout_of(base), expected_digest=expected_digest)


def find_file(name: str | Path, revision: str | None) -> Path:
    """Find the diff file of a folder, or of a repository on the hub or in its cache.

    Raises SourceError.
    """
    if Path(name).is_dir():
        return Path(name) / FILE_NAME
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(str(name), FILE_NAME, revision=revision))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(
            f"{str(name)!r} is no folder, and no repository on the hub gives its {FILE_NAME}: "
            f"{reason} Give a folder that `save_pretrained` wrote, or the name of a repository "
            "that can be reached or is in the cache."
        ) from error


def write_folder(diff: DiffVector, folder: Path, value_type: ValueType | None) -> EncodedDiff:
    """Write a diff and a model card that says what it is into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    encoded = write_file(diff, folder / FILE_NAME, value_type)
    _write(folder / CARD_NAME, _card(diff, encoded).encode())
    return encoded


def _backbone_names(
    model: PreTrainedModel, *, alone: bool = False
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return a model's backbone as short name -> own name, and the names of its head.

    Of a headless model, the tensors that its classifier keeps (RoBERTa's drops the pooler), all
    of them where it is `alone`, or where there is no such classifier.
    """
    names = [name for name, _ in model.named_parameters()]
    prefix = model.base_model_prefix
    if model.base_model is not model:
        short = [name.removeprefix(f"{prefix}.") for name in names if name.startswith(f"{prefix}.")]
        return split_head(names, short, prefix)
    if alone:
        return {name: name for name in names}, ()
    from transformers import AutoModelForSequenceClassification

    try:
        with torch.device("meta"):
            outline = AutoModelForSequenceClassification.from_config(model.config)
    except ValueError:  # there is no classifier of this kind
        return {name: name for name in names}, ()
    kept, _ = split_head([name for name, _ in outline.named_parameters()], names, prefix)
    return {name: name for name in kept}, ()


def _check_dropped(dropped: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> None:
    """Refuse a change that no diff can hold: in a tensor that a classifier does not keep."""
    for name, tensor in dropped.items():
        if name not in held or not torch.equal(held[name], tensor):
            raise DiffError(
                f"`{name}` differs, and no classifier of this architecture keeps it. Compare "
                "classifiers in place of headless models."
            )


def _layout(tensors: Mapping[str, Tensor]) -> Layout:
    shapes = tuple(tuple(tensor.shape) for tensor in tensors.values())
    return Layout(fingerprint_tensors(tensors), tuple(tensors), shapes)


def _changed(name: str, old: Tensor, new: Tensor, *, exact: bool) -> SparseTensor:
    if old.shape != new.shape or old.dtype not in _BITS or new.dtype not in _BITS:
        raise DiffError(
            f"`{name}` is {old.dtype} {tuple(old.shape)} in the base and {new.dtype} "
            f"{tuple(new.shape)} in the tuned model; shapes must agree, and dtypes be among "
            f"{', '.join(str(dtype) for dtype in _BITS)}."
        )
    shape = tuple(old.shape)
    old, new = old.cpu().contiguous().reshape(-1), new.cpu().contiguous().reshape(-1)
    if exact:
        if old.dtype != new.dtype:
            raise DiffError(
                f"`{name}` is {old.dtype} in the base and {new.dtype} in the tuned model; an exact "
                "diff needs one dtype. Save the tuned model in the base's own."
            )
        values, moved = new.float(), old.view(_BITS[old.dtype]) != new.view(_BITS[new.dtype])
    else:
        values = new.float() - old.float()
        moved = values != 0
    positions = moved.nonzero().reshape(-1)
    return SparseTensor(shape, positions.numpy(), values[positions].numpy())


def _default_type(diff: DiffVector) -> ValueType:
    """Return bf16 for values to add, else the narrowest type that holds every weight exactly."""
    if diff.mode == "add":
        return "bf16"
    types: tuple[ValueType, ...] = ("bf16", "fp16")
    for value_type in types:
        try:
            encode(diff, value_type=value_type, codec="xz")
        except DiffError:
            continue
        return value_type
    return "fp32"


def _write(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise SourceError(f"{path} cannot be written: {error.strerror}.") from error


def _card(diff: DiffVector, encoded: EncodedDiff) -> str:
    task = diff.task.get("task") or diff.task.get("name") or "a task"
    what = "replace" if diff.mode == "replace" else "are added to"
    return f"""---
library_name: streamlab
tags: [diff-pruning, sparse]
---

# A diff for {task}

{diff.n_entries:,} of {diff.n_gated:,} weights ({diff.density:.3%}) of one pretrained model, the
base, whose fingerprint is `{diff.layout.fingerprint}`. Its values {what} the base's weights.
A head of {diff.n_head_entries:,} weights comes with it.

| part | bytes |
|---|---|
| positions | {encoded.parts.positions:,} |
| values | {encoded.parts.values:,} |
| head | {encoded.parts.head:,} |
| metadata | {encoded.parts.metadata:,} |
| **file** | **{len(encoded.data):,}** |

SHA-256 of `{FILE_NAME}`: `{encoded.digest}`

```python
from streamlab import DiffVector

diff = DiffVector.from_pretrained(FOLDER_OR_NAME, base=model)  # model: the base, or one built on it
diff.merge_into(model)
```
"""


class PretrainedDiff(DiffVector):
    """Hold one task's change to a base, and make, read, write and use it.

    Nothing is added to what `streamlab.diff.DiffVector` holds; the two are equal where
    their content is.
    """

    @classmethod
    def of(cls, diff: DiffVector) -> Self:
        """Give a diff the methods of this class."""
        return cls(diff.layout, diff.tensors, diff.head, diff.task, diff.mode)

    @classmethod
    def from_models(
        cls,
        base: PreTrainedModel,
        tuned: PreTrainedModel,
        *,
        exact: bool = False,
        task: Mapping[str, Any] | None = None,
    ) -> Self:
        """Take the difference of two models of one architecture, and the tuned one's head.

        `exact`: the weights with other bits as they are, for a reconstruction bit for bit.
        Raises DiffError where the models do not fit or nothing differs.
        """
        return cls.of(difference(base, tuned, exact=exact, task=task or {}))

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        base: Layout | HasLayout | PreTrainedModel,
        expected_digest: str | None = None,
    ) -> Self:
        """Read a diff file that belongs to `base`; see `streamlab.diff.format.container.decode`."""
        return cls.of(read_file(Path(path), base, expected_digest))

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        base: Layout | HasLayout | PreTrainedModel,
        revision: str | None = None,
        expected_digest: str | None = None,
    ) -> Self:
        """Read the diff of a folder, or of a repository on the Hugging Face hub.

        Raises SourceError where there is none, and what reading a file raises.
        """
        return cls.of(read_file(find_file(name, revision), base, expected_digest))

    def save(self, path: str | Path, *, value_type: ValueType | None = None) -> str:
        """Write a diff file, bf16 or what an exact diff needs, and return its SHA-256."""
        return write_file(self, Path(path), value_type).digest

    def save_pretrained(self, folder: str | Path, *, value_type: ValueType | None = None) -> str:
        """Write the diff and a model card into a folder, and return the file's SHA-256."""
        return write_folder(self, Path(folder), value_type).digest

    def merge_into(self, model: PreTrainedModel) -> int:
        """Write the diff into a model for good; return how many backbone weights changed.

        Raises BaseMismatchError where the model's weights are not the base's.
        """
        return merge(model, self)
