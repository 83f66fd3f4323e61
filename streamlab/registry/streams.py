"""A run's own stream: the tasks of its first seed, learnt by the scenario's own method."""

from __future__ import annotations

from dataclasses import dataclass

from streamlab.errors import RegistryError
from streamlab.registry.own import own_method, own_seeds
from streamlab.registry.records import ArrivalRecord, BaseRecord, DiffRecord, RunRecord
from streamlab.registry.registry import Registry


@dataclass(frozen=True)
class OwnStream:
    """One seed's finished arrivals by one method, in order, and their artifacts."""

    run: RunRecord
    base: BaseRecord
    seed: int
    method: str
    arrivals: tuple[ArrivalRecord, ...]  # at least one
    diffs: dict[str, DiffRecord]  # by digest


def own_stream(registry: Registry, run: str) -> OwnStream:
    """Read a run's own stream.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet.
    """
    record = registry.run(run)
    seed, method = own_seeds(record)[0], own_method(record)
    arrivals = registry.arrivals(run=record.id, method=method, status="finished", seed=seed)
    if not arrivals:
        raise RegistryError(
            f"In the run `{record.name}` no arrival with seed {seed} by `{method}` has finished, "
            "so there is nothing to show. Let the run go on, or name another one with `--run`."
        )
    digests = {arrival.digest for arrival in arrivals if arrival.digest}
    return OwnStream(
        run=record,
        base=registry.base(record.base_fingerprint),
        seed=seed,
        method=method,
        arrivals=tuple(sorted(arrivals, key=lambda a: (a.sequence, a.id))),
        diffs={diff.digest: diff for diff in registry.diffs_of(digests)},
    )
