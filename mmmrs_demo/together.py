"""What is asked for at the same time is done together: whoever comes while something is done joins the next batch.

Knows neither models nor pictures. Nobody is kept waiting for others to come: what is alone is done alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mmmrs_demo.errors import heed

PATIENCE = 0.05
"""Seconds between two looks at whether a wait should end."""

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
        if not self.results.done():
            self.results.set_result(results)

    def fail(self, error: BaseException) -> None:
        """Let whoever waits raise an error, unless there are results."""
        if not self.results.done():
            self.results.set_exception(error)


class Together(Generic[T, R]):
    """Does what several threads ask for, one batch after another, in a thread that ends when nothing is left to do.

    So a caller who stops leaves at once, and those whose things are in the same batch lose nothing.
    """

    def __init__(self, do: Callable[[list[Asked[T, R]]], None], most: Callable[[Any], int]) -> None:
        """Begin with nothing to do.

        Args:
            do: Does a batch and settles the results of each; what it raises is the result of all that are left.
            most: How many things of a kind a batch may have.
        """
        self._do, self._most = do, most
        self._lock = threading.Lock()
        self._waiting: list[Asked[T, R]] = []
        self._busy = False

    def ask(self, asked: Asked[T, R]) -> Sequence[R]:
        """Wait until it is done, and return the results.

        Raises:
            Stopped: Its `stop` was set.
            Exception: What went wrong.
        """
        heed(asked.stop)
        with self._lock:
            self._waiting.append(asked)
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._work, name="together").start()
        try:
            while not wait([asked.results], PATIENCE).done:
                heed(asked.stop)
        finally:
            asked.gone.set()
        return asked.results.result()

    def _work(self) -> None:
        while batch := self._next():
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
            self._busy = bool(batch)
            return batch
