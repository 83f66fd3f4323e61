"""Parts add up, measured sizes come out as they are, and what is beyond them is their mean."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_samples import REGISTRY, made_up, model_of, nine

from streamlab.planning.storage_model import RegistryBytes, StorageModel, in_blocks

bytes_ = st.integers(0, 10**7)
tasks = st.builds(
    made_up,
    st.integers(0, 5),
    positions_bytes=bytes_,
    values_bytes=bytes_,
    head_bytes=bytes_,
    metadata_bytes=bytes_,
)
models = st.builds(
    StorageModel,
    base=st.integers(1, 10**9),
    tasks=st.lists(tasks, min_size=1, max_size=6).map(tuple),
    registry=st.none() | st.builds(RegistryBytes, bytes_, bytes_, st.integers(1, 9)),
    block_bytes=st.sampled_from((1, 512, 4096)),
    n_copies=st.integers(1, 3),
)


@given(models, st.integers(0, 10**9))
def test_the_parts_add_up_to_the_total(model: StorageModel, n_tasks: int) -> None:
    storage = model.at(n_tasks)

    assert sum(storage.parts().values()) == storage.total
    assert storage.total == model.n_copies * storage.once


@given(models)
def test_inside_the_data_every_part_is_the_sum_of_the_files(model: StorageModel) -> None:
    for n_tasks in range(len(model.tasks) + 1):
        storage, own = model.at(n_tasks), model.tasks[:n_tasks]

        assert storage.basis == "measured"
        assert storage.files == model.base + sum(task.file_bytes for task in own)
        assert storage.heads == sum(task.head_bytes for task in own)
        distinct = {task.digest: task for task in reversed(own)}
        in_store = sum(in_blocks(task.file_bytes, model.block_bytes) for task in distinct.values())
        base, registry = model.base, storage.registry or 0
        assert storage.once == in_store + sum(
            in_blocks(size, model.block_bytes) for size in (base, registry)
        )


@given(models, st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_tasks_never_take_fewer_bytes(model: StorageModel, n_tasks: int, more: int) -> None:
    distinct = replace(
        model,
        tasks=tuple(replace(task, digest=str(i)) for i, task in enumerate(model.tasks)),
    )
    few, many = distinct.at(n_tasks), distinct.at(n_tasks + more)

    assert few.total <= many.total
    assert few.files <= many.files


def test_beyond_the_data_a_task_takes_the_mean() -> None:
    measured = nine()
    model = measured.model()

    doubled = model.at(18)

    assert doubled.basis == "extrapolated"
    assert doubled.files - model.base == 2 * sum(task.file_bytes for task in measured.tasks)


def test_files_come_out_as_the_storage_figure_has_them() -> None:
    # 92,237,961 is the last line of the CSV that `plot storage` wrote of the same run.
    storage = nine().model().at(9)

    assert storage.files == 92_237_961
    assert storage.registry == REGISTRY.file


def test_a_file_that_is_there_already_takes_nothing_more() -> None:
    once, twice = model_of(made_up(1)), model_of(made_up(1), made_up(1))

    assert twice.at(2).total == once.at(1).total
    assert twice.at(2).files == once.at(1).files + made_up(1).file_bytes


def test_a_registry_grows_by_its_arrivals() -> None:
    registry = RegistryBytes(file=200_000, empty=140_000, n_arrivals=6)

    assert [registry.at(n) for n in (0, 3, 6, 12)] == [140_000, 170_000, 200_000, 260_000]


def test_without_a_file_the_registry_is_no_part() -> None:
    assert "registry" not in model_of(made_up(1)).at(1).parts()


def test_copies_are_of_everything() -> None:
    model = nine().model()
    three = replace(model, n_copies=3)

    assert three.at(20).total == 3 * model.at(20).total
    assert three.at(20).parts()["copies"] == 2 * model.at(20).total


@pytest.mark.parametrize(("size", "on_disk"), [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)])
def test_files_fill_whole_blocks(size: int, on_disk: int) -> None:
    task = made_up(0, positions_bytes=size, values_bytes=0, head_bytes=0, metadata_bytes=0)

    assert in_blocks(task.file_bytes, 4096) == on_disk
