"""What the tests of methods share: both fused steps, and a task small enough to learn at once."""

from __future__ import annotations

import pytest

from streamlab.methods.native import NativeStep, find_native_step


@pytest.fixture(scope="session")
def native_step() -> NativeStep:
    """The compiled step on two threads."""
    found = find_native_step(2)
    if found is None:
        pytest.skip("no C compiler that can make the compiled step")
    return found


@pytest.fixture(params=["eager", "native"])
def fused_step(request: pytest.FixtureRequest) -> NativeStep | None:
    """Each of the two steps in turn; None stands for the one in PyTorch."""
    if request.param == "eager":
        return None
    native: NativeStep = request.getfixturevalue("native_step")
    return native
