"""The model card of a diff: what its repository or folder says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from streamlab.errors import UsageError
from streamlab.units import printable

if TYPE_CHECKING:
    from streamlab.diff.format.container import EncodedDiff
    from streamlab.diff.vector import DiffVector, Mode

FILE_NAME = "diff.sldiff"
CARD_NAME = "README.md"
_HUB_ID: Final = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
_MEANINGS: Final[Mapping[Mode, str]] = MappingProxyType(
    {
        "add": "Its values are added to the base's weights.",
        "replace": "Its values replace the base's weights.",
        "prune": "Its values are added to weights; all others of their tensors become 0.",
    }
)


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says beside the diff.

    `base_model`: the base by its hub id or another name. `scores`: by metric, as shares of one or
    as the metric has them. `score_source`: the examples that were scored, which scores require.
    Raises UsageError.
    """

    base_model: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    score_source: str | None = None

    def __post_init__(self) -> None:
        """Check that scores have a source."""
        if self.scores and not self.score_source:
            raise UsageError(
                "Scores need their source: say by `score_source` which examples were scored."
            )


def model_card(diff: DiffVector, encoded: EncodedDiff, facts: CardFacts) -> str:
    """Return the card as Markdown; its header names the base where that is a hub id."""
    task = printable(str(diff.task.get("task") or diff.task.get("name") or "a task"))
    base = facts.base_model
    on_hub = base is not None and bool(_HUB_ID.match(base))
    # A string of JSON is one of YAML.
    header = f"base_model: {json.dumps(base)}\nbase_model_relation: adapter\n" if on_hub else ""
    named = f" `{printable(base)}`," if base else ""
    return f"""---
library_name: streamlab
{header}tags: [diff-pruning, sparse]
---

# A diff for {task}

{diff.n_entries:,} of {diff.n_gated:,} weights ({diff.density:.3%}) of one pretrained model, the
base,{named} whose fingerprint is `{diff.layout.fingerprint}`. {_MEANINGS[diff.mode]}
It includes a dense head of {diff.n_head_entries:,} weights.

| part | bytes |
|---|---|
| positions | {encoded.parts.positions:,} |
| values | {encoded.parts.values:,} |
| head | {encoded.parts.head:,} |
| metadata | {encoded.parts.metadata:,} |
| **file** | **{len(encoded.data):,}** |

SHA-256 of `{FILE_NAME}`: `{encoded.digest}`
{_score_table(facts)}
```python
from streamlab import DiffVector

diff = DiffVector.from_pretrained(FOLDER_OR_NAME, base=model)  # model: the base, or one built on it
diff.merge_into(model)
```
"""


def _score_table(facts: CardFacts) -> str:
    if not facts.scores:
        return ""
    rows = "\n".join(f"| {printable(name)} | {value:.4g} |" for name, value in facts.scores.items())
    source = printable(str(facts.score_source))
    return f"\n| score | value |\n|---|---|\n{rows}\n\nScored on: {source}.\n"
