"""Does a job in a worker thread and tells how it goes; page and API reach the engine through this file only."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mmmrs_demo.make import Maker
from mmmrs_demo.request import Step
from mmmrs_demo.scene import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sized

    from mmmrs_demo.ui.job import Job, Made

_LOOK_EVERY = 0.15  # seconds between two looks at a running job

ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "engine", "concurrency_limit": 1}
"""Arguments of every event that runs the model: all of them share one queue."""

News = Step | Progress
"""How far a picture has come, or a scene."""


class EngineLike(Maker, Protocol):
    """What the page needs of an engine."""

    def load(self, bundle: str) -> None:
        """Load a bundle, so that the next run need not."""

    def tokenize(self, bundle: str, text: str) -> Sized:
        """Return the tokens of a text, without start and end marks."""


@dataclass(frozen=True)
class Run:
    """A job on its way."""

    work: asyncio.Task[Made]
    newest: deque[News]

    async def news(self) -> AsyncGenerator[News | None]:
        """Yield a few times a second until the work is done: the newest there is, or None where there is no news.

        It blocks no event loop, and whoever passes its values on is asked often whether anyone still listens.
        """
        while not self.work.done():
            await asyncio.wait({self.work}, timeout=_LOOK_EVERY)
            yield self.newest.pop() if self.newest else None

    async def result(self) -> Made:
        """Wait for the result.

        Raises:
            UserError: From the job.
        """
        await asyncio.wait({self.work})
        return self.work.result()


@asynccontextmanager
async def running(engine: EngineLike, job: Job) -> AsyncGenerator[Run]:
    """Do a job for as long as the context is open.

    Whatever ends it (the result, Stop, a closed page, a lost connection), the job has been told to stop and has left
    the engine when the context is closed.
    """
    stop = threading.Event()
    newest: deque[News] = deque(maxlen=1)
    work = asyncio.create_task(asyncio.to_thread(job.make, engine, newest.append, stop))
    try:
        yield Run(work, newest)
    finally:
        stop.set()
        await asyncio.gather(work, return_exceptions=True)
