"""The dense finetuning that several selectors start from; equal trainings make it once.

Its state is all that the rest of the training sees of it: backbone, head, buffers, the random
generators, the losses it showed, and how many batches it took. Adam's moments end with it. It is
kept under the digest of all that it depends on, so that a state that is found is the one that
training would give, bit for bit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from streamlab.hashing import canonical_json, fingerprint_tensors
from streamlab.methods.api import TrainingJob
from streamlab.methods.training_loop import dense_step, endless
from streamlab.version import __version__

_STAGE = "finetune"
_RANDOM, _RANDOM_GPU, _LOSSES = "random", "random_gpu", "losses"
_MODEL, _ROWS = "model.", "rows."


def finetune(job: TrainingJob, schedule: Sequence[float]) -> None:
    """Finetune backbone and head by a schedule of learning rates, or take it from `job.stages`.

    A training with `max_seconds` is never shared: what it does depends on the time.
    """
    if job.stages is None or job.training.max_seconds is not None:
        optimizer, take_step = dense_step(job)
        job.loop.run(_STAGE, schedule, take_step, holds=(optimizer,))
        return
    key = _key(job, schedule)
    data = job.stages.get(key)
    if data is not None and _restore(job, data, len(schedule)):
        return
    rows = [
        [math.nan if v is None else v for v in (p.loss, p.held_back_loss, p.held_back_score)]
        for p in job.loop.run(_STAGE, schedule, dense_step(job)[1])
    ]
    shown = {_LOSSES: torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)}
    job.stages.add(key, save(_packed(job, _state(job)) | shown))


def _key(job: TrainingJob, schedule: Sequence[float]) -> str:
    """Return the digest of everything that decides the state after the stage."""
    loop = job.loop
    first, n = loop.n_batches_taken, len(schedule) * job.training.accumulate
    examples = hashlib.sha256()
    assert job.batches is not None  # noqa: S101 - stages are kept of trainings that have them
    for batch in islice(endless(job.batches), first, first + n):
        tensors = {**batch.inputs, "labels of the batch": batch.labels}
        if batch.positions is not None:
            tensors["positions of the batch"] = batch.positions
        examples.update(fingerprint_tensors(tensors).encode())
    parts = {
        "versions": [__version__, torch.__version__],
        "base": job.layout.fingerprint,
        "model": repr(job.model),
        "loss": _named(job.loss),
        "training": job.training.model_dump(mode="json"),
        "device": str(loop.device),
        "threads": torch.get_num_threads(),
        "schedule": list(schedule),
        "examples": examples.hexdigest(),
        "start": fingerprint_tensors(_state(job)),
    }
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def _named(loss: Callable[[Tensor, Tensor], Tensor]) -> list[Any]:
    """Return what tells a loss from others: its name, and the arguments given ahead."""
    if isinstance(loss, partial):
        return [*_named(loss.func), loss.keywords]
    return [getattr(loss, name, "") for name in ("__module__", "__qualname__")]


def _state(job: TrainingJob) -> dict[str, Tensor]:
    """Return the model and the random generators, as tensors by name."""
    named = (*job.model.named_parameters(), *job.model.named_buffers())
    state = {f"{_MODEL}{name}": tensor.detach().contiguous() for name, tensor in named}
    state[_RANDOM] = torch.get_rng_state()
    if job.loop.device.type == "cuda":
        state[_RANDOM_GPU] = torch.cuda.get_rng_state(job.loop.device)
    return state


def _bases(job: TrainingJob) -> dict[str, Tensor]:
    """Return the base of every matrix of the backbone, by its name in the state."""
    of = {id(p): job.base[name] for name, p in job.backbone.items() if p.ndim > 1}
    return {f"{_MODEL}{name}": of[id(p)] for name, p in job.model.named_parameters() if id(p) in of}


def _packed(job: TrainingJob, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state with the changed rows alone where few are: embeddings of words in use."""
    packed = dict(state)
    for name, base in _bases(job).items():
        now = state[name]
        if now.dtype != torch.float32:
            continue
        differs = _bits(now) != _bits(base.to(now.device))
        rows = differs.flatten(1).any(1).nonzero().squeeze(-1)
        if 2 * len(rows) < len(now):
            packed[name], packed[f"{_ROWS}{name}"] = now[rows], rows
    return packed


def _unpacked(job: TrainingJob, packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state that was packed. Raises ValueError for rows that the model does not have."""
    state = {name: tensor for name, tensor in packed.items() if not name.startswith(_ROWS)}
    for name, base in _bases(job).items():
        rows, some = packed.get(f"{_ROWS}{name}"), state.get(name)
        if rows is None or some is None:
            continue
        fits = rows.dtype == torch.int64 and rows.ndim == 1 and some.dtype == base.dtype
        if not fits or some.shape != (len(rows), *base.shape[1:]):
            raise ValueError("other rows")
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(base):
            raise ValueError("rows outside")
        state[name] = base.cpu().index_copy(0, rows, some)
    return state


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.int32)


def _read(
    job: TrainingJob, data: bytes, n_steps: int
) -> tuple[dict[str, Tensor], list[tuple[float, float | None, float | None]]]:
    """Return a state and what its steps showed. Raises ValueError where they do not fit."""
    try:
        found = _unpacked(job, load(data))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    losses = found.pop(_LOSSES, torch.zeros(0))
    if losses.shape != (n_steps, 3) or not bool(losses[:, 0].isfinite().all()):
        raise ValueError("other losses")
    expected = _state(job)
    if found.keys() != expected.keys() or any(
        found[name].shape != now.shape or found[name].dtype != now.dtype
        for name, now in expected.items()
    ):
        raise ValueError("another model")
    shown = [
        (loss, *(None if math.isnan(value) else value for value in held_back))
        for loss, *held_back in losses.tolist()
    ]
    return found, shown


def _restore(job: TrainingJob, data: bytes, n_steps: int) -> bool:
    """Put the model and the loop where the stage left them; False for a state that does not fit."""
    device, random = job.loop.device, torch.get_rng_state()
    try:
        found, shown = _read(job, data, n_steps)
        torch.set_rng_state(found[_RANDOM])
        if _RANDOM_GPU in found:
            torch.cuda.set_rng_state(found[_RANDOM_GPU], device)
    except (ValueError, RuntimeError):  # the latter for no state of a generator
        torch.set_rng_state(random)
        return False
    with torch.no_grad():
        for name, tensor in (*job.model.named_parameters(), *job.model.named_buffers()):
            tensor.copy_(found[f"{_MODEL}{name}"])
    job.loop.skip(_STAGE, shown)
    return True
