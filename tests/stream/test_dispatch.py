"""Every worker has something to do for as long as there is something that it may do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from streamlab.stream import dispatch
from streamlab.stream.dispatch import Dispatcher, Work
from streamlab.stream.providers.provider import Answer, Effort
from streamlab.stream.submission import Submission

SECONDS = 60  # after which a worker that waits for the others gives up


def answer(n_bytes: int = 1) -> Answer:
    submission = Submission(
        provider="p", task="t", version=1, kind="diff", data=bytes(n_bytes), declared_score=None
    )
    return Answer(submission, Effort(n_steps=0, training_seconds=0, peak_memory_bytes=0))


class Together:
    """Workers of which none ends an order before all of them have one."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers)
        self._barrier = threading.Barrier(workers)
        self.n_answered = 0

    def submit(self) -> Future[Answer]:
        return self._pool.submit(self._answer)

    def _answer(self) -> Answer:
        self._barrier.wait(SECONDS)
        self.n_answered += 1
        return answer()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def together(workers: int) -> Iterator[Together]:
    with closing(Together(workers)) as made:
        yield made


def once(submit: Callable[[], Future[Answer]]) -> Work:
    future = submit()
    yield future
    future.result()


def settle_all(providers: list[str], work: Callable[[int], Work], workers: int) -> None:
    """Have all places finished in their order, as the event loop does."""
    with closing(Dispatcher(work, providers, workers=workers)) as dispatcher:
        for place in range(len(providers)):
            dispatcher.finish(place)


@pytest.mark.parametrize("workers", [2, 4])
def test_a_provider_with_many_arrivals_holds_up_no_worker(workers: int) -> None:
    n_rounds = 30
    many, others = n_rounds * ["many"], [f"p{n}" for n in range((workers - 1) * n_rounds)]

    with together(workers) as pool:
        settle_all(many + others, lambda _: once(pool.submit), workers)

    assert pool.n_answered == workers * n_rounds


def test_providers_that_take_turns_are_all_at_work() -> None:
    with together(4) as pool:
        settle_all(10 * ["a", "b", "c", "d"], lambda _: once(pool.submit), 4)

    assert pool.n_answered == 40


def test_a_place_that_waits_for_its_turn_keeps_no_worker() -> None:
    order: list[str] = []

    def work(place: int) -> Work:
        if place == 5:
            yield None
            order.append(f"5 after {pool.n_answered}")
            yield from once(lambda: answered(answer()))
        else:
            yield from once(pool.submit)

    with together(3) as pool:
        settle_all([f"p{n}" for n in range(13)], work, 3)

    (line,) = order
    assert int(line.removeprefix("5 after ")) > 5  # others went on in the meantime
    assert pool.n_answered == 12


def test_attempts_at_one_place_follow_one_another_beside_others() -> None:
    def work(place: int) -> Work:
        for _ in range(3 if place == 0 else 1):
            yield from once(pool.submit)

    with together(2) as pool:
        settle_all(["a", "b", "c", "d"], work, 2)

    assert pool.n_answered == 6


def test_a_provider_has_one_order_at_a_time() -> None:
    at_work: list[str] = []
    providers = 5 * ["a", "b", "a", "c"]

    def work(place: int) -> Work:
        def begin() -> Answer:
            assert providers[place] not in at_work
            at_work.append(providers[place])
            time.sleep(0.002)
            at_work.remove(providers[place])
            return answer()

        return once(lambda: pool.submit(begin))

    with ThreadPoolExecutor(3) as pool:
        settle_all(providers, work, 3)


def answered(given: Answer) -> Future[Answer]:
    future: Future[Answer] = Future()
    future.set_result(given)
    return future


def begun_ahead(n_bytes: int, workers: int) -> int:
    """Return how many places are begun while the first one takes for ever."""
    begun: list[int] = []
    first: Future[Answer] = Future()

    def work(place: int) -> Work:
        begun.append(place)
        return once(lambda: answered(answer(n_bytes)) if place else first)

    providers = [f"p{n}" for n in range(300)]
    with closing(Dispatcher(work, providers, workers=workers)) as dispatcher:
        for _ in range(100):
            dispatcher.poll()
        first.set_result(answer())
        dispatcher.finish(0)
    return len(begun)


def test_work_goes_far_ahead_while_its_answers_take_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert begun_ahead(1000, workers=2) > 200

    monkeypatch.setattr(dispatch, "_MOST_BYTES_AHEAD", 1 << 20)
    assert 12 <= begun_ahead(100_000, workers=2) <= 16
    assert begun_ahead(10 << 20, workers=2) <= 1 + 4 * 2 + 4  # whatever their size


def test_the_time_that_an_order_waits_for_a_worker_is_told() -> None:
    futures: list[Future[Answer]] = []
    free_at: list[float | None] = []

    def work(_: int) -> Work:
        futures.append(Future())
        free_at.append((yield futures[-1]))

    with closing(Dispatcher(work, ["a", "b", "c"], workers=1)) as dispatcher:
        dispatcher.poll()
        assert len(futures) == 2  # the second waits for the worker
        before = time.perf_counter()
        futures[0].set_result(answer())
        after = time.perf_counter()
        dispatcher.poll()
        futures[1].set_result(answer())
        futures[2].set_result(answer())
        dispatcher.poll()

    first, second, third = free_at
    assert first == 0
    assert second is not None
    assert before <= second <= after
    assert third is not None
    assert third > after


def test_without_workers_nothing_is_done_ahead() -> None:
    begun: list[int] = []

    def work(place: int) -> Work:
        begun.append(place)
        return once(lambda: answered(answer()))

    with closing(Dispatcher(work, ["a", "b", "c"], workers=0)) as dispatcher:
        dispatcher.poll()
        assert begun == []
        dispatcher.finish(0)
        dispatcher.poll()
        assert begun == [0]
