"""What a provider's process may send to the lab, of the right types and no more."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from streamlab.config import Settings
from streamlab.hashing import parse_json
from streamlab.registry.records import ArtifactKind
from streamlab.stream.providers.behaviours import Behaviour
from streamlab.stream.providers.provider import Effort

MAX_MESSAGE_BYTES: Final = 64 << 10  # the longest message beside an artifact
_MAX_PROGRESS_BYTES: Final = 1 << 10
_LARGEST: Final = 1 << 53  # of steps, seconds or bytes: what every number format holds


class AnswerMessage(Settings):
    """An answer without its artifact, as a provider sends it: of the right types, no more."""

    kind: ArtifactKind
    declared_score: float | None
    signature: Annotated[str, StringConstraints(pattern=r"^(?:[0-9a-f]{2}){1,64}$")] | None
    effort: Effort
    behaviour: Behaviour

    @field_validator("effort")
    @classmethod
    def _can_be_recorded(cls, effort: Effort) -> Effort:
        numbers = (effort.n_steps, effort.training_seconds, effort.peak_memory_bytes)
        if not all(0 <= number <= _LARGEST for number in numbers):
            raise ValueError(f"must take from 0 to {_LARGEST} of everything, got {numbers}")
        return effort


class ProgressMessage(Settings):
    """A step of training, short enough to be one of very many."""

    stage: Annotated[str, StringConstraints(max_length=64, pattern=r"^[ -~]*$")]
    step: Annotated[int, Field(ge=1, le=_LARGEST)]
    n_steps: Annotated[int, Field(ge=1, le=_LARGEST)]
    loss: float
    density: float | None
    held_back_loss: float | None = None
    held_back_score: float | None = None


class FailedMessage(Settings):
    """Why there is no answer; `memory`: there was not enough, and alone there may be."""

    kind: Literal["training", "memory"]
    reason: str


class Message(Settings):
    """A message from a provider: exactly one of these."""

    progress: ProgressMessage | None = None
    answer: AnswerMessage | None = None
    failed: FailedMessage | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if [self.progress, self.answer, self.failed].count(None) != 2:
            raise ValueError("must be one of `progress`, `answer` and `failed`")
        return self


def parse_message(text: bytes) -> Message:
    """Parse a message. Raises ValueError for anything else."""
    tree = parse_json(text)
    if b"\\u0000" in text:
        raise ValueError("it holds the character NUL")
    message = Message.model_validate(tree)
    if message.progress is not None and len(text) > _MAX_PROGRESS_BYTES:
        raise ValueError(f"progress takes at most {_MAX_PROGRESS_BYTES} bytes")
    return message
