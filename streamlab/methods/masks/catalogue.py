"""The mask selectors, found by name behind one contract (`selection.MaskSelector`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from streamlab.config import NamedSettings
from streamlab.methods.masks.candidates import OpenCandidates
from streamlab.methods.masks.counts import CountsWithin
from streamlab.methods.masks.gradients import Fisher, Gradient
from streamlab.methods.masks.groups import RowsWithin, WholeGroups
from streamlab.methods.masks.largest_change import LargestChange, Rewound
from streamlab.methods.masks.learned import Learned
from streamlab.methods.masks.magnitude import Magnitude
from streamlab.methods.masks.random import Random
from streamlab.methods.masks.selection import MaskSelector
from streamlab.methods.masks.shared import SharedValues
from streamlab.methods.masks.tensors import MatchingTensors

_CLASSES = (
    *(Fisher, Gradient, LargestChange, Learned, Magnitude, MatchingTensors, Random, Rewound),
    *(SharedValues, CountsWithin, RowsWithin, WholeGroups, OpenCandidates),
)
MASKS: Final[Mapping[str, str]] = MappingProxyType(
    {c.model_fields["name"].default: f"{c.__module__}:{c.__name__}" for c in _CLASSES}
)
# A mask selector in a scenario, validated and dumped by the class that its `name` stands for.
MaskSettings = Annotated[
    MaskSelector,
    NamedSettings(group="streamlab.masks", key="name", builtin=MASKS, base=MaskSelector),
]
