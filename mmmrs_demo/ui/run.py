"""Does jobs in threads, in fair order, and tells how each goes; page and API reach the engine through this file."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from mmmrs_demo.errors import UserError, heed
from mmmrs_demo.maker import Maker
from mmmrs_demo.request import Step, TextRequest
from mmmrs_demo.scene import Progress
from mmmrs_demo.settings import Settings
from mmmrs_demo.ui import zerogpu

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sized

    from mmmrs_demo.ui.language import Sentence

LOOK_EVERY = 0.15
"""Seconds between two looks at a running job."""

AT_ONCE = 8
"""How many runs of one kind may be with the engine at the same time, which makes them in batches."""

FOR_PROGRAMS: dict[str, Any] = {"concurrency_id": "engine", "concurrency_limit": AT_ONCE}
"""Arguments of every event for programs that runs the model; those of the page wait in the line below alone."""

FILE, PICTURE, PART = "File {} of {}: {}", "Picture {} of {}: {}", "Part {} of {}: {}"
"""What is said of one of several; the places are for its number, how many there are, and its name."""

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
        what: Words for it, with places for the number, how many there are, and the name.
    """

    number: int
    total: int
    name: Sentence | str
    news: Step | Progress | None = None
    seconds_left: float | None = None
    what: str = FILE


@dataclass(frozen=True)
class Waiting:
    """A run of which nothing is made yet.

    Attributes:
        before: How many runs are done before it; 0 from its turn on.
        seconds_left: Until it is done, as it seems; None where nothing is known yet.
    """

    before: int
    seconds_left: float | None = None


News = Step | Progress | OfSeveral | Waiting
"""How far a picture has come, or a scene, or several files, or a run that waits for its turn."""


def share_of(news: News | None) -> float:
    """Return how much is done, from 0 to 1."""
    if isinstance(news, Step):
        return news.index / news.total
    if isinstance(news, Progress):
        return news.done / news.total
    if isinstance(news, OfSeveral):
        return (news.number - 1 + share_of(news.news)) / news.total
    return 0.0


def seconds_left(news: News) -> float | None:
    """Return how many seconds are left, as it seems; None where nothing is known yet."""
    if isinstance(news, Step):
        return news.seconds / news.index * (news.total - news.index)
    return news.seconds_left


class Several:
    """Tells how far several files or pictures have come, and how long the rest will take.

    Attributes:
        made: How many were made since it began; those that were there already took no time.
    """

    def __init__(self, total: int, tell: Callable[[News], None], what: str = FILE) -> None:
        """Begin; `what` is as in `OfSeveral`."""
        self.made = 0
        self._total, self._tell, self._what = total, tell, what
        self._number, self._began = 1, time.monotonic()
        self._name: Sentence | str = ""

    def next_is(self, number: int, name: Sentence | str) -> None:
        """Tell that one is begun: its number from 1, and what a sentence calls it."""
        self._number, self._name = number, name
        self.told()

    def told(self, news: Step | Progress | None = None) -> None:
        """Tell how far it has come."""
        so_far = self.made + share_of(news)
        ahead = self._total + 1 - self._number - share_of(news)
        left = (time.monotonic() - self._began) / so_far * ahead if so_far else None
        self._tell(OfSeveral(self._number, self._total, self._name, news, left, self._what))


class EngineLike(Maker, Protocol):
    """What the page needs of an engine."""

    def load(self, bundle: str) -> None:
        """Load a bundle, so that the next run need not."""

    def tokenize(self, bundle: str, text: str) -> Sized:
        """Return the tokens of a text, without start and end marks."""

    def together(self, request: TextRequest) -> int:
        """Return how many pictures like that of a request are faster made in one batch than one after the other."""


class Effort(NamedTuple):
    """What has to be done in a run.

    Attributes:
        kind: Bundle, kind of request and speed: a step of each of one kind takes equally long on one machine, and they
            may be with the engine at the same time.
        steps: Of all its pictures and samples together.
        together: How many these are, which the engine makes in batches.
    """

    kind: tuple[str, str, str]
    steps: int
    together: int = 1

    @property
    def seconds(self) -> float | None:
        """How long it takes, as it seems; None before there was a run of its kind."""
        pace = _PACES.get((self.kind, self.together)) or _PACES.get((self.kind, 1))
        return pace and pace * self.steps


@dataclass(eq=False)
class _Turn:
    """A run in the line.

    Attributes:
        effort: What has to be done, where that is known.
        stop: Set to end it.
        news: How far it has come.
    """

    effort: Effort | None
    stop: threading.Event = field(default_factory=threading.Event)
    news: News | None = None

    @property
    def seconds_left(self) -> float | None:
        return seconds_left(self.news) if self.news else self.effort and self.effort.seconds

    @property
    def may_begin(self) -> bool:
        """Whether it is first, or only runs of its kind are before it: the engine may make them together."""
        ahead = _LINE[: _LINE.index(self)]
        kinds = {turn.effort.kind if turn.effort else None for turn in (*ahead, self)}
        return not ahead or (len(ahead) < AT_ONCE and len(kinds) == 1 and None not in kinds and not zerogpu.lends())

    def waiting(self) -> Waiting:
        """Return how long it has to wait."""
        ahead = _LINE[: _LINE.index(self)]
        left = [turn.seconds_left for turn in (*ahead, self)]
        known = [seconds for seconds in left if seconds is not None]
        return Waiting(len(ahead), sum(known) if len(known) == len(left) else None)


_LINE: list[_Turn] = []
"""All runs of this process, for it has one engine: the first is on its way, with those of its kind that follow it."""

_PACES: dict[tuple[tuple[str, str, str], int], float] = {}
"""Seconds of a step in the last run of each kind, by how many were made together."""


def stop_all() -> None:
    """Stop all runs, those that nobody watches too."""
    for turn in _LINE:
        turn.stop.set()


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
            await asyncio.wait({self.work}, timeout=LOOK_EVERY)
            yield self.newest.pop() if self.newest else None

    async def result(self) -> T:
        """Wait for the result.

        Raises:
            UserError: From the job, or because too many are waiting.
        """
        await asyncio.wait({self.work})
        return self.work.result()


@asynccontextmanager
async def running(
    make: Callable[[Callable[[News], None], threading.Event], T],
    effort: Effort | None = None,
    *,
    in_line: bool = True,
) -> AsyncGenerator[Run[T]]:
    """Do a job when its turn has come, for as long as the context is open.

    Whatever ends it, the job has been told to stop and has left the engine when the context is closed.

    Args:
        make: Does it, tells how far it is, and raises Stopped soon after the event is set.
        effort: What has to be done, where that is known: then waiting people are told how long.
        in_line: It needs the engine, and waits for those who came before.
    """
    turn = _Turn(effort)
    newest: deque[News] = deque(maxlen=1)

    def tell(news: News) -> None:
        turn.news = news
        newest.append(news)
        if effort and isinstance(news, Step) and news.index == news.total:
            _PACES[effort.kind, effort.together] = news.seconds / news.total

    async def in_turn() -> T:
        _queue_up(turn)
        try:
            while not turn.may_begin:
                heed(turn.stop)
                newest.append(turn.waiting())
                await asyncio.sleep(LOOK_EVERY)
            heed(turn.stop)
            doing = asyncio.create_task(asyncio.to_thread(zerogpu.do, make, tell, turn.stop))
            while not doing.done():
                if turn.news is None:
                    newest.append(turn.waiting())
                await asyncio.wait({doing}, timeout=LOOK_EVERY)
            return doing.result()
        finally:
            _LINE.remove(turn)

    work = asyncio.create_task(in_turn() if in_line else asyncio.to_thread(zerogpu.do, make, tell, turn.stop))
    try:
        yield Run(work, newest)
    finally:
        turn.stop.set()
        await asyncio.gather(work, return_exceptions=True)


def _queue_up(turn: _Turn) -> None:
    waiting = len(_LINE) - 1
    if waiting >= Settings().queue_size:
        raise UserError(f"{waiting} runs are waiting already: try again in a few minutes.")
    _LINE.append(turn)
