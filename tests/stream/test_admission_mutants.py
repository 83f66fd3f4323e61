"""Files as a hostile author would make them: anything changed, and the checksums right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from admission_samples import BY_RULE, LAYOUT, VALUE_TYPES, drawn, judged, ruled, submitted
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.diff.format.container import decode, encode
from streamlab.diff.format.frame import read_frame
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.stream.admission import RULES
from streamlab.stream.providers.forgeries import rewritten


@st.composite
def mutants(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """Damage one section, and state something else in the header."""
    value_type = draw(st.sampled_from(VALUE_TYPES))
    codec = draw(st.sampled_from(["pcodec", "xz"]))
    diff = draw(st.sampled_from([drawn(7), *map(ruled, BY_RULE)]))
    frame = read_frame(encode(diff, value_type=value_type, codec=codec).data)
    name = draw(st.sampled_from([name for name, data in frame.sections.items() if len(data)]))
    data = bytearray(frame.sections[name])
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data) - 1))
        data[at] = draw(st.integers(0, 255))
    data = data[: draw(st.integers(0, len(data)))] + draw(st.binary(max_size=8))
    header = draw(
        st.one_of(
            st.just({}),
            st.fixed_dictionaries({"k": st.integers(0, 500)}),
            st.fixed_dictionaries({"d": st.integers(0, 500)}),
            st.fixed_dictionaries({"codec": st.sampled_from(["xz", "pcodec"])}),
            st.fixed_dictionaries({"mode": st.sampled_from(["add", "replace", "prune"])}),
            st.fixed_dictionaries({"value_type": st.sampled_from(VALUE_TYPES)}),
            st.fixed_dictionaries({"task": st.just({})}),
        )
    )
    return rewritten(frame, header=header, sections={name: bytes(data)})


@settings(deadline=None)
@given(mutants())
def test_a_mutant_is_refused_by_name_or_is_a_valid_diff(data: bytes) -> None:
    diff = judged(submitted(data))

    if isinstance(diff, str):
        assert diff in RULES
        return
    # Building it again checks everything that reading it has proven.
    tensors = tuple(SparseTensor(t.shape, t.positions, t.values) for t in diff.tensors)
    valid = DiffVector(LAYOUT, tensors, diff.head, diff.task, rule=diff.rule)
    assert valid == diff
    assert valid.n_entries <= 0.1 * LAYOUT.n_gated + 1
    assert decode(encode(valid, value_type="fp32").data, LAYOUT) == valid
