from __future__ import annotations

import pytest
from stream_samples import Lab, Ran, carry_out, make_lab

from streamlab import open_home
from streamlab.inference.model import LoadedBase
from streamlab.library.home import OpenHome


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A tiny base, three tasks in files and their scenario."""
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="session")
def ran(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Three tasks learnt with two seeds, and a baseline that keeps checkpoints; to be read only."""
    path = lab.scenario(name="served", seeds=[1, 2], baselines=["full_finetuning"])
    return carry_out(path, tmp_path_factory.mktemp("ran") / "home")


@pytest.fixture(scope="session")
def opened(ran: Ran) -> OpenHome:
    return open_home(ran.home.path)


@pytest.fixture(scope="session")
def loaded(opened: OpenHome) -> LoadedBase:
    """The base, loaded once."""
    return opened.load_base()
