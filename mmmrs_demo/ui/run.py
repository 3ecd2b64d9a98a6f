"""Does a job in a worker thread and tells how it goes; page and API reach the engine through this file only."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from mmmrs_demo.maker import Maker
from mmmrs_demo.request import Step
from mmmrs_demo.scene import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sized

_LOOK_EVERY = 0.15  # seconds between two looks at a running job

ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "engine", "concurrency_limit": 1}
"""Arguments of every event that runs the model: all of them share one queue."""

T = TypeVar("T")


@dataclass(frozen=True)
class OfSeveral:
    """How far several files have come.

    Attributes:
        number: The file that is being made, from 1 to `total`.
        total: How many there are.
        name: What a sentence calls it.
        news: How far it has come; None at its beginning.
        seconds_left: Until all are made, as it seems; None where nothing is known yet.
    """

    number: int
    total: int
    name: str
    news: Step | Progress | None = None
    seconds_left: float | None = None


News = Step | Progress | OfSeveral
"""How far a picture has come, or a scene, or several files."""


def share_of(news: News | None) -> float:
    """Return how much is done, from 0 to 1."""
    if isinstance(news, Step):
        return news.index / news.total
    if isinstance(news, Progress):
        return news.done / news.total
    return (news.number - 1 + share_of(news.news)) / news.total if news else 0.0


class EngineLike(Maker, Protocol):
    """What the page needs of an engine."""

    def load(self, bundle: str) -> None:
        """Load a bundle, so that the next run need not."""

    def tokenize(self, bundle: str, text: str) -> Sized:
        """Return the tokens of a text, without start and end marks."""


@dataclass(frozen=True)
class Run(Generic[T]):
    """A job on its way."""

    work: asyncio.Task[T]
    newest: deque[News]

    async def news(self) -> AsyncGenerator[News | None]:
        """Yield a few times a second until the work is done: the newest there is, or None where there is no news.

        It blocks no event loop, and whoever passes its values on is asked often whether anyone still listens.
        """
        while not self.work.done():
            await asyncio.wait({self.work}, timeout=_LOOK_EVERY)
            yield self.newest.pop() if self.newest else None

    async def result(self) -> T:
        """Wait for the result.

        Raises:
            UserError: From the job.
        """
        await asyncio.wait({self.work})
        return self.work.result()


@asynccontextmanager
async def running(make: Callable[[Callable[[News], None], threading.Event], T]) -> AsyncGenerator[Run[T]]:
    """Do a job for as long as the context is open.

    Whatever ends it (the result, Stop, a closed page, a lost connection), the job has been told to stop and has left
    the engine when the context is closed.

    Args:
        make: Does it, tells how far it is, and raises Stopped soon after the event is set.
    """
    stop = threading.Event()
    newest: deque[News] = deque(maxlen=1)
    work = asyncio.create_task(asyncio.to_thread(make, newest.append, stop))
    try:
        yield Run(work, newest)
    finally:
        stop.set()
        await asyncio.gather(work, return_exceptions=True)
