"""What is asked for at the same time is done together: whoever comes while something is done joins the next batch.

Knows neither models nor pictures. Nobody is kept waiting for others to come: what is alone is done alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mmmrs_demo.errors import heed

_PATIENCE = 0.05  # seconds between two looks at whether a wait should end

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class Asked(Generic[T, R]):
    """What one caller wants done, all of it in one batch.

    Attributes:
        kind: Only what is of one kind can be done together.
        things: What is to be done.
        tell: Told how far it has come; what it raises is what went wrong.
        stop: Once set, the caller wants it no longer.
        results: One for each thing, or what went wrong.
        gone: Set once nobody waits for it any more.
    """

    kind: Hashable
    things: Sequence[T]
    tell: Callable[[Any], None] | None = None
    stop: threading.Event | None = None
    results: Future[Sequence[R]] = field(default_factory=Future)
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not (self.gone.is_set() or self.results.done() or (self.stop and self.stop.is_set()))

    def told(self, news: Any) -> None:
        """Tell who waits for it, if anyone does."""
        if self.tell and self.wanted:
            try:
                self.tell(news)
            except BaseException as error:  # noqa: BLE001 - who waits raises it
                self.fail(error)

    def finish(self, results: Sequence[R]) -> None:
        """Give the results to who waits for them."""
        with suppress(InvalidStateError):  # nobody does
            self.results.set_result(results)

    def fail(self, error: BaseException) -> None:
        """Let who waits for the results raise an error, unless there are results."""
        with suppress(InvalidStateError):
            self.results.set_exception(error)


class OneThread:
    """Does one thing after another in a thread of its own, in the order in which they are asked for.

    Whichever thread computes has helpers on all cores. Those of several threads stand in each other's way, even while
    they have nothing to do: a small model takes twice as long.
    """

    def __init__(self) -> None:
        self._process = 0

    def submit(self, do: Callable[[], R]) -> Future[R]:
        """Have something done; returns at once."""
        if self._process != os.getpid():  # a child that was forked has no threads
            self._process, self._thread = os.getpid(), ThreadPoolExecutor(1, "engine")
        return self._thread.submit(do)

    def do(self, do: Callable[[], R], stop: threading.Event | None = None) -> R:
        """Wait until something is done, and return what came of it.

        Raises:
            Stopped: `stop` was set.
            Exception: What it raised.
        """
        heed(stop)
        future = self.submit(do)
        _wait(future, stop)
        return future.result()


def _wait(future: Future[Any], stop: threading.Event | None) -> None:
    try:
        while not wait([future], _PATIENCE).done:
            heed(stop)
    except BaseException:
        future.cancel()  # unless it is being done
        raise


class Together(Generic[T, R]):
    """Does what several threads ask for, one batch after another.

    So a caller who stops leaves at once, and those whose things are in the same batch lose nothing.
    """

    def __init__(self, do: Callable[[list[Asked[T, R]]], None], most: Callable[[Any], int], thread: OneThread) -> None:
        """Begin with nothing to do.

        Args:
            do: Does a batch and settles the results of each; what it raises is the result of all that are left.
            most: How many things of a kind a batch may have.
            thread: Where batches are done.
        """
        self._do, self._most, self._thread = do, most, thread
        self._lock = threading.Lock()
        self._waiting: list[Asked[T, R]] = []

    def ask(self, asked: Asked[T, R]) -> Sequence[R]:
        """Wait until it is done, and return the results.

        Raises:
            Stopped: Its `stop` was set.
            Exception: What went wrong.
        """
        heed(asked.stop)
        with self._lock:
            self._waiting.append(asked)
        self._thread.submit(self._work)
        try:
            _wait(asked.results, asked.stop)
        finally:
            asked.gone.set()
        return asked.results.result()

    def _work(self) -> None:
        if batch := self._next():  # somebody else's batch may have had them all
            try:
                self._do(batch)
            except BaseException as error:  # noqa: BLE001 - those who wait raise it
                for asked in batch:
                    asked.fail(error)

    def _next(self) -> list[Asked[T, R]]:
        """Take who came first, and all of its kind that there is room for; nothing where nobody waits."""
        with self._lock:
            self._waiting = [asked for asked in self._waiting if not asked.gone.is_set()]
            batch = self._waiting[:1]
            room = self._most(batch[0].kind) - len(batch[0].things) if batch else 0
            for asked in self._waiting[1:]:
                if asked.kind == batch[0].kind and len(asked.things) <= room:
                    batch.append(asked)
                    room -= len(asked.things)
            self._waiting = [asked for asked in self._waiting if asked not in batch]
            return batch
