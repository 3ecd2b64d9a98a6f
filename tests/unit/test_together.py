"""What is asked for at the same time is done in one batch, in one thread, and whoever leaves costs nobody anything."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from mmmrs_demo.errors import Stopped
from mmmrs_demo.together import Asked, OneThread, Together

pytestmark = pytest.mark.unit


class Doubling:
    """Doubles numbers, once it may, and remembers its batches and threads."""

    def __init__(self, most: int = 4) -> None:
        self.thread = OneThread()
        self.together: Together[int, int] = Together(self.double, lambda _: most, self.thread)
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.answers: dict[int, object] = {}
        self.go = threading.Event()

    def double(self, batch: list[Asked[int, int]]) -> None:
        self.threads.add(threading.get_ident())
        self.batches.append([thing for asked in batch for thing in asked.things])
        assert self.go.wait(20)
        for asked in batch:
            if 13 in asked.things:
                raise ValueError
            asked.finish([2 * thing for thing in asked.things])

    def ask(self, things: list[int], kind: str = "a", stop: threading.Event | None = None) -> threading.Thread:
        """Ask in a thread of its own, and wait until it is in the line, or begun where it is the first."""
        asked = Asked[int, int](kind, things, stop=stop)

        def ask() -> None:
            try:
                self.answers[things[0]] = self.together.ask(asked)
            except (Stopped, ValueError) as error:
                self.answers[things[0]] = error

        thread = threading.Thread(target=ask)
        thread.start()
        while asked not in self.together._waiting and not any(things[0] in batch for batch in self.batches):
            assert thread.is_alive()
            time.sleep(0.001)
        while not self.batches:  # the first has to be begun before another comes
            time.sleep(0.001)
        return thread


@pytest.fixture
def doubling() -> Iterator[Doubling]:
    made = Doubling()
    yield made
    made.go.set()


def test_who_waits_is_served_in_order_and_with_all_of_its_kind_that_fit(doubling: Doubling) -> None:
    threads = [doubling.ask([1])]
    for things, kind in (([2], "a"), ([3], "b"), ([4, 5], "a"), ([6, 7], "a"), ([8], "a"), ([9], "b")):
        threads.append(doubling.ask(things, kind))
    doubling.go.set()
    for thread in threads:
        thread.join(20)
    assert doubling.batches == [[1], [2, 4, 5, 8], [3, 9], [6, 7]]
    assert doubling.answers == {1: [2], 2: [4], 3: [6], 4: [8, 10], 6: [12, 14], 8: [16], 9: [18]}
    assert len(doubling.threads) == 1


def test_who_stops_leaves_at_once_and_is_not_waited_for(doubling: Doubling) -> None:
    stop = threading.Event()
    first, second, third = doubling.ask([1]), doubling.ask([2], stop=stop), doubling.ask([3])
    stop.set()
    second.join(20)
    assert isinstance(doubling.answers[2], Stopped)
    assert first.is_alive()
    doubling.go.set()
    for thread in (first, third):
        thread.join(20)
    assert doubling.batches == [[1], [3]]
    with pytest.raises(Stopped):
        doubling.together.ask(Asked("a", [4], stop=stop))


def test_what_breaks_breaks_for_its_batch_alone(doubling: Doubling) -> None:
    threads = [doubling.ask([1]), doubling.ask([13]), doubling.ask([3]), doubling.ask([4], "b")]
    doubling.go.set()
    for thread in threads:
        thread.join(20)
    assert {n: type(answer) for n, answer in doubling.answers.items()} == {
        1: list,
        13: ValueError,
        3: ValueError,
        4: list,
    }


def test_one_thread_does_one_thing_after_another() -> None:
    thread, go, stop = OneThread(), threading.Event(), threading.Event()
    done: list[str] = []

    def wait() -> None:
        assert go.wait(20)
        done.append("first")

    first, waiting = thread.submit(wait), thread.submit(partial(done.append, "second"))
    stop.set()
    with pytest.raises(Stopped):
        thread.do(partial(done.append, "never"), stop)
    go.set()
    assert thread.do(threading.get_ident) != threading.get_ident()
    assert first.done()
    assert waiting.done()
    assert done == ["first", "second"]
    with pytest.raises(ZeroDivisionError):
        thread.do(lambda: 1 // 0)


def test_a_stopped_wait_takes_its_place_out_of_the_line() -> None:
    thread, go, stop = OneThread(), threading.Event(), threading.Event()
    done: list[str] = []
    thread.submit(lambda: go.wait(20))
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Stopped):
        thread.do(partial(done.append, "never"), stop)
    go.set()
    assert thread.do(lambda: list(done)) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_was_forked_has_a_thread_of_its_own() -> None:
    thread = OneThread()
    assert thread.do(os.getpid) == os.getpid()
    child = os.fork()
    if not child:
        os._exit(0 if thread.do(os.getpid) == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
