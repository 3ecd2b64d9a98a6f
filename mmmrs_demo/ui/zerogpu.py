"""Does jobs on a GPU that ZeroGPU of Hugging Face Spaces lends for as long as each takes; elsewhere it changes nothing.

There a job runs in a child that was forked from this process. What goes there and comes back is pickled, and an Event
that is set here is not seen there; but that a generator is closed is.
"""

from __future__ import annotations

import math
import pickle
import re
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from html import unescape
from io import BytesIO
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import gradio as gr

from mmmrs_demo.errors import UserError, heed
from mmmrs_demo.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mmmrs_demo.ui.run import EngineLike, News

_ENGINE = "engine"
_TELL_EVERY = 0.15  # seconds between two answers of a child, each of which is a chance to end it

# What is asked for has to be more than a run takes, for a run that takes longer is cut short. These are generous
# guesses for SD1.5 in 16 bits with a ControlNet: no GPU that is lent was measured.
_START = 20  # seconds for a child to begin, and to load what was not loaded before
_LOOK = 0.1  # seconds of a UNet's look at 512 × 512 px

T = TypeVar("T")
_kept: dict[str, EngineLike] = {}


@dataclass(frozen=True)
class _Done(Generic[T]):
    result: T


def keep(engine: EngineLike) -> bool:
    """Keep the engine for the children, which have it from this process; returns whether there will be any."""
    _kept[_ENGINE] = engine
    return lends()


def lends() -> bool:
    """Whether GPUs are lent here, for one job at a time."""
    return _on_gpu is not None


def do(
    make: Callable[[Callable[[News], None], threading.Event], T], tell: Callable[[News], None], stop: threading.Event
) -> T:
    """Return what ``make(tell, stop)`` returns: of what holds the engine, where GPUs are lent, done in a child.

    Args:
        make: What pickle can send, but for the engine that was kept; raises Stopped soon after the event is set.
        tell: Told now and then how far it is.
        stop: Once set, ends it, and the child is done with it before this returns.

    Raises:
        Stopped: `stop` was set.
        UserError: From `make`; or no GPU was lent, or not for long enough.
    """
    if _on_gpu is None:
        return make(tell, stop)
    sent = BytesIO()
    pickler = _Pickler(sent)
    pickler.dump(make)
    if not pickler.met:
        return make(tell, stop)
    try:
        with closing(_on_gpu(sent.getvalue(), _seconds(make))) as answers:
            for answer in answers:
                heed(stop)
                if isinstance(answer, _Done):
                    return answer.result
                if isinstance(answer, UserError):
                    raise answer
                if answer is not None:
                    tell(answer)
    except gr.Error as error:
        reason = unescape(re.sub(r"<[^>]+>", "", str(error.message))).strip().rstrip(".")
        raise UserError(f"ZeroGPU did not do this ({reason}): what is done is kept, so try again.") from error
    raise UserError("ZeroGPU ended this before it was done: try again.")


class _Pickler(pickle.Pickler):
    """Sends the engine by its name.

    Attributes:
        met: Whether there was one to send.
    """

    met = False

    def persistent_id(self, thing: Any) -> str | None:
        if thing is not _kept.get(_ENGINE):
            return None
        self.met = True
        return _ENGINE


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, name: str) -> EngineLike:
        return _kept[name]


def _work(sent: bytes, _: int) -> Generator[News | _Done[Any] | UserError | None]:
    """Do a job in a child; yields the newest there is to tell, or None, and at last what came of it."""
    make = _Unpickler(BytesIO(sent)).load()
    stop = threading.Event()
    newest: deque[News] = deque(maxlen=1)
    with ThreadPoolExecutor(1) as thread:
        work = thread.submit(make, newest.append, stop)
        try:
            while not wait([work], _TELL_EVERY).done:
                yield newest.pop() if newest else None
        finally:
            stop.set()
    error = work.exception()
    yield error if isinstance(error, UserError) else _Done(work.result())


def _lent() -> Callable[[bytes, int], Generator[News | _Done[Any] | UserError | None]] | None:
    """Return `_work` as ZeroGPU does it; None where this is no such Space."""
    try:
        import spaces  # type: ignore[import-not-found] # Spaces bring it
        from spaces.config import Config  # type: ignore[import-not-found]
    except ImportError:
        return None
    return spaces.GPU(_work, duration=lambda _, seconds: seconds) if Config.zero_gpu else None


_on_gpu = _lent()


def _seconds(make: Callable[..., Any]) -> int:
    """Return for how long a GPU is asked: as long as a picture takes, or as is allowed where that cannot be told."""
    from mmmrs_demo.ui.job import FileJob, TextJob

    longest = Settings().gpu_seconds
    job = getattr(getattr(make, "func", None), "__self__", None)
    if not isinstance(job, TextJob | FileJob):
        return longest
    return min(longest, _START + math.ceil(_LOOK * _looks(job)))


def _looks(job: Any) -> float:
    """Return how many looks at 512 × 512 px a `TextJob` or `FileJob` takes; guidance doubles them, decoding is one."""
    from mmmrs_demo.make import in_windows
    from mmmrs_demo.raster import read_size
    from mmmrs_demo.request import TextRequest
    from mmmrs_demo.scene import OVERLAP, OVERLAP_OF_WORDS, Field

    bundle = _kept[_ENGINE].catalog.bundle(job.request.bundle or job.settings.bundle)
    request = bundle.complete(job.request)
    side, words = bundle.size, isinstance(request, TextRequest)
    width, height = (request.width, request.height) if words else read_size(job.file, job.settings)
    pictures = width * height / side**2 if words else 1.0
    if in_windows((width, height), bundle):
        overlap = round(side * (OVERLAP_OF_WORDS if words else OVERLAP))
        pictures = Field(max(side, height), max(side, width), side, overlap).windows
    passes = 2 if request.guidance > 1 else 1
    pictures *= job.pictures if words else request.samples
    return pictures * (request.steps * passes + 1) * (side / 512) ** 2
