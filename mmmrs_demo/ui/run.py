"""Runs a request in a worker thread and tells how it goes; page and API reach the engine through this file only."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sized

    from PIL import Image

    from mmmrs_demo.request import Rendering, Step, TextRequest, TranslationRequest

_LOOK_EVERY = 0.15  # seconds between two looks at a running engine

ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "engine", "concurrency_limit": 1}
"""Arguments of every event that runs the model: all of them share one queue."""


class EngineLike(Protocol):
    """What the page needs of an engine."""

    def run(
        self,
        request: TextRequest | TranslationRequest,
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Rendering:
        """Run a request; raises Stopped within one step after `stop` is set."""

    def load(self, bundle: str) -> None:
        """Load a bundle, so that the next run need not."""

    def tokenize(self, bundle: str, text: str) -> Sized:
        """Return the tokens of a text, without start and end marks."""


@dataclass(frozen=True)
class Run:
    """A request on its way."""

    work: asyncio.Task[Rendering]
    newest: deque[Step]

    async def steps(self) -> AsyncGenerator[Step | None]:
        """Yield a few times a second until the work is done: the newest step, or None where there is no news.

        It blocks no event loop, and whoever passes its values on is asked often whether anyone still listens.
        """
        while not self.work.done():
            await asyncio.wait({self.work}, timeout=_LOOK_EVERY)
            yield self.newest.pop() if self.newest else None

    async def rendering(self) -> Rendering:
        """Wait for the result.

        Raises:
            UserError: From the engine.
        """
        await asyncio.wait({self.work})
        return self.work.result()


@asynccontextmanager
async def running(
    engine: EngineLike, request: TextRequest | TranslationRequest, image: Image.Image | None = None
) -> AsyncGenerator[Run]:
    """Run a request for as long as the context is open.

    Whatever ends it (the result, Stop, a closed page, a lost connection), the engine has been told to stop and has
    left this request when the context is closed.
    """
    stop = threading.Event()
    newest: deque[Step] = deque(maxlen=1)
    work = asyncio.create_task(asyncio.to_thread(engine.run, request, image, newest.append, stop))
    try:
        yield Run(work, newest)
    finally:
        stop.set()
        await asyncio.gather(work, return_exceptions=True)
