"""The description of a task that a tuned checkpoint's configuration gives."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from streamlab.base import auto_class, longest_declared
from streamlab.errors import UsageError
from streamlab.tasks.types import TASK_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from streamlab.tasks.types.contract import TaskType

_SINGLE: Final = "single_label_classification"


def model_class_of(config: PretrainedConfig) -> str | None:
    """Return the class of `transformers` for tasks that a checkpoint is of, None for none."""
    architectures = getattr(config, "architectures", None) or ()
    for name in dict.fromkeys(one.model_class for one in TASK_TYPES.values()):
        if _class_name(name, config) in architectures:
            return name
    return None


def describe_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    name: str | None,
    labels: Sequence[str],
) -> dict[str, Any]:
    """Return what a diff file must say of a tuned model's task, so that it can be used.

    The type, the labels and the longest text come from the model's configuration and tokenizer;
    `name` default: the last part of where the model is. `labels`: in place of the configuration's.
    A model without a head has a name alone. Raises UsageError for labels that do not fit.
    """
    config: Any = model.config
    described: dict[str, Any] = {"task": name or PurePath(config.name_or_path).name or "task"}
    kind = _type_of(model)
    if kind is None:
        if labels:
            raise UsageError(
                f"`--labels` are for a classifier, and TUNED is a {type(model).__name__}. Leave "
                "them out."
            )
        return described
    named = tuple(labels) or (_labels(config) if kind.has_classes else ())
    try:
        kind.check_labels(named)
        if kind.has_classes and len(named) != config.num_labels:
            raise ValueError(f"the model has {config.num_labels} outputs")
    except ValueError as error:
        raise UsageError(
            f"The labels {', '.join(named) or '(none)'} do not fit: {error}. Give one for each "
            "output by `--labels a,b,...`."
        ) from error
    longest = longest_declared(config)
    if tokenizer is not None:
        longest = min(longest, int(tokenizer.model_max_length))
    described |= {"kind": kind.kind, "labels": [*named], "max_length": longest}
    if kind.generates:
        if tokenizer is None:
            raise UsageError(
                "TUNED is a language model without a tokenizer beside it, so that no prompt can be "
                "completed. Put the tokenizer's files into its folder."
            )
        described |= kind.serving_facts((), tokenizer)
        # Prompt and completion together are as long as the model takes.
        described["max_new_tokens"] = min(described["max_new_tokens"], longest // 2)
        described["max_length"] = longest - described["max_new_tokens"]
    return described | ({"problem_type": kind.problem_type} if kind.problem_type else {})


def _type_of(model: PreTrainedModel) -> TaskType | None:
    """Return the type of task that a model's class and configuration answer."""
    config = model.config
    problem = config.problem_type or ("regression" if config.num_labels == 1 else _SINGLE)
    for kind in TASK_TYPES.values():
        fits = type(model).__name__ == _class_name(kind.model_class, config)
        if fits and kind.problem_type in (problem, None):
            return kind
    return None


def _labels(config: Any) -> tuple[str, ...]:
    """Return the names of the outputs in order."""
    return tuple(str(config.id2label[place]) for place in range(config.num_labels))


def _class_name(auto: str, config: PretrainedConfig) -> str | None:
    """Return the name of the class that an `Auto` class takes for a configuration."""
    known = auto_class(auto)._model_mapping
    return known[type(config)].__name__ if type(config) in known else None
