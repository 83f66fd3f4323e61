"""`streamlab.DiffVector`: a diff with what users of `transformers` expect of a thing they tune.

diff = DiffVector.from_models(base, tuned)      DiffVector.from_pretrained(name, base=base)
diff.save_pretrained(folder)                    diff.merge_into(model)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from streamlab.diff import vector
from streamlab.diff.checkpoints import (
    difference,
    find_file,
    merge,
    read_file,
    write_file,
    write_folder,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel

    from streamlab.diff.checkpoints import HasLayout
    from streamlab.diff.format.values import ValueType
    from streamlab.diff.layout import Layout


class DiffVector(vector.DiffVector):
    """Hold one task's change to a base, and make, read, write and use it.

    Nothing is added to what `streamlab.diff.vector.DiffVector` holds; the two are equal where
    their content is.
    """

    @classmethod
    def of(cls, diff: vector.DiffVector) -> Self:
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
