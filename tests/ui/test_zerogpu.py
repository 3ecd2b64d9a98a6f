"""On ZeroGPU jobs are done in children: the `spaces` here forks and pickles as the real one does."""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.request import Step, TextRequest
from mmmrs_demo.scene import Progress
from mmmrs_demo.scene_file import unfinished
from mmmrs_demo.settings import Settings
from mmmrs_demo.ui import zerogpu
from mmmrs_demo.ui.cache import fresh_folder
from mmmrs_demo.ui.job import TextJob
from mmmrs_demo.ui.run import running
from tests import loops
from tests.ui.fake import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mmmrs_demo.ui.job import Made
    from mmmrs_demo.ui.run import News

pytestmark = pytest.mark.ui

SPACES = '''
"""Does what the decorator of Hugging Face's package does, but for finding a GPU."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import gradio

context = multiprocessing.get_context("fork")
durations = []


def GPU(task, duration):
    def lent(*args):
        durations.append(duration(*args))
        if durations[-1] > 1000:
            raise gradio.Error("The <b>requested</b> GPU duration is larger than the maximum allowed", title="ZeroGPU")
        sent, answers, stop = context.SimpleQueue(), context.SimpleQueue(), context.Event()
        child = context.Process(target=work, args=(sent, answers, stop), daemon=True)
        child.start()
        sent.put(args)
        try:
            while (answer := answers.get()) is not None:
                if isinstance(answer, Exception):
                    raise gradio.Error(type(answer).__name__, title="ZeroGPU worker error")
                (value,) = answer
                yield value
        except GeneratorExit:
            stop.set()
            raise
        finally:
            while stop.is_set() and answers.get() is not None:
                pass
            child.join()

    def work(sent, answers, stop):
        def iterate(args):
            generator = task(*args)
            try:
                for value in generator:
                    if stop.is_set():
                        generator.close()
                        break
                    answers.put((value,))
            except Exception as error:
                answers.put(error)

        with ThreadPoolExecutor() as threads:
            threads.submit(iterate, sent.get())
        answers.put(None)

    return lent
'''
CONFIG = """
class Config:
    zero_gpu = True
"""


@pytest.fixture
def spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Space with ZeroGPU."""
    package = tmp_path / "packages/spaces"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SPACES)
    (package / "config.py").write_text(CONFIG)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr(zerogpu, "_on_gpu", zerogpu._lent())
    monkeypatch.setattr(zerogpu, "_kept", {})
    yield sys.modules["spaces"]
    for name in ("spaces", "spaces.config"):
        del sys.modules[name]


class Watched(FakeEngine):
    """Leaves word of the process in which it ran, and of the one in which it was stopped.

    Attributes:
        words: Folder of these.
        refusal: What it refuses each request with.
    """

    def __init__(self, settings: Settings, words: Path) -> None:
        super().__init__(Catalog.load(settings.weights), settings)
        self.words = words
        self.refusal = ""

    def run(self, *args: Any) -> Any:
        (self.words / "ran").write_text(str(os.getpid()))
        if self.refusal:
            raise UserError(self.refusal)
        try:
            return super().run(*args)
        except Stopped:
            (self.words / "stopped").write_text(str(os.getpid()))
            raise


@pytest.fixture
def engine(settings: Settings, tmp_path: Path) -> Watched:
    return Watched(settings, tmp_path)


def text_job(settings: Settings, **more: Any) -> TextJob:
    return TextJob(TextRequest(bundle="small", seed=7, **more), settings)


async def followed(make: Callable[..., list[Made]], told: list[News], enough: int | None = None) -> Made:
    """Do it as a tab does; with `enough`, leave after so many pieces of news."""
    async with running(make) as run:
        async for news in run.news():
            told.extend([news] if isinstance(news, Step) else [])
            if enough and len(told) >= enough:
                raise Stopped
        (made,) = await run.result()
        return made


def test_a_job_is_done_in_a_child_and_tells_how_far_it_is(spaces: Any, engine: Watched, settings: Settings) -> None:
    assert zerogpu.keep(engine)
    engine.pause = 0.2
    told: list[News] = []
    made = loops.run(followed(partial(text_job(settings).make, engine, fresh_folder()), told))
    assert (engine.words / "ran").read_text() != str(os.getpid())
    assert Path(made.file).stat().st_size
    assert made.request.seed == 7
    steps = [news.index for news in told if isinstance(news, Step)]
    assert len(steps) > 2
    assert steps == sorted(steps)
    assert all(isinstance(news, Step) and news.preview for news in told)
    assert spaces.durations == [zerogpu._START + 1]


def test_the_child_has_stopped_when_the_page_says_so(spaces: Any, engine: Watched, settings: Settings) -> None:
    del spaces
    zerogpu.keep(engine)
    engine.hold_after = 2
    room, began = fresh_folder(), time.monotonic()
    with pytest.raises(Stopped):
        loops.run(followed(partial(text_job(settings).make, engine, room), [], enough=1))
    assert time.monotonic() - began < 30
    assert (engine.words / "stopped").read_text() == (engine.words / "ran").read_text() != str(os.getpid())


def test_what_a_child_refuses_is_told_in_its_words(spaces: Any, engine: Watched, settings: Settings) -> None:
    del spaces
    zerogpu.keep(engine)
    engine.refusal = "There is no such ground: choose another."
    with pytest.raises(UserError) as refused:
        zerogpu.do(partial(text_job(settings).make, engine, fresh_folder()), lambda _: None, threading.Event())
    assert str(refused.value) == engine.refusal
    assert (engine.words / "ran").read_text() != str(os.getpid())


def test_an_unfinished_scene_goes_on_in_the_next_child(spaces: Any, engine: Watched, settings: Settings) -> None:
    zerogpu.keep(engine)
    room = fresh_folder()
    make = partial(text_job(settings, width=256, height=128).make, engine, room)
    engine.hold_after = 5
    stop = threading.Event()

    def tell(news: News) -> None:
        if isinstance(news, Progress) and news.done == 14:  # of 15 windows in 3 rows, in 5 batches
            stop.set()

    with pytest.raises(Stopped):
        zerogpu.do(make, tell, stop)
    assert unfinished(room)
    engine.hold_after = sys.maxsize
    (made,) = zerogpu.do(make, lambda _: None, threading.Event())
    assert made.size == (256, 128)
    assert made.windows
    assert not unfinished(room)
    assert len(spaces.durations) == 2


def test_what_the_gpu_refuses_is_a_sentence(
    spaces: Any, engine: Watched, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    del spaces
    zerogpu.keep(engine)
    monkeypatch.setenv("MMMRS_GPU_SECONDS", "5000")
    monkeypatch.setattr(zerogpu, "_START", 2000)
    make = partial(text_job(settings).make, engine, fresh_folder())
    with pytest.raises(UserError, match=r"\(The requested GPU duration is larger than the maximum allowed\)"):
        zerogpu.do(make, lambda _: None, threading.Event())


def test_what_breaks_in_a_child_is_an_error_here(spaces: Any, engine: Watched, settings: Settings) -> None:
    del spaces
    zerogpu.keep(engine)
    make = partial(text_job(settings).make, engine, fresh_folder() / "no such room")
    with pytest.raises(UserError, match="FileNotFoundError"):
        zerogpu.do(make, lambda _: None, threading.Event())


def test_what_needs_no_engine_takes_no_gpu(spaces: Any, engine: Watched) -> None:
    zerogpu.keep(engine)
    assert zerogpu.do(_process, lambda _: None, threading.Event()) == os.getpid()
    assert spaces.durations == []


def _process(*_: Any) -> int:
    return os.getpid()


def test_elsewhere_nothing_changes(engine: Watched, settings: Settings) -> None:
    assert not zerogpu.keep(engine)
    told: list[News] = []
    (made,) = zerogpu.do(partial(text_job(settings).make, engine, fresh_folder()), told.append, threading.Event())
    assert (engine.words / "ran").read_text() == str(os.getpid())
    assert made.request.seed == 7
    assert len(told) == 8


@pytest.mark.usefixtures("spaces")
def test_no_longer_is_asked_for_than_the_run_takes_nor_than_is_allowed(engine: Watched, settings: Settings) -> None:
    zerogpu.keep(engine)

    def asked(**more: Any) -> float:
        return zerogpu._looks(text_job(settings, **more))

    once = asked()
    assert once == (8 * 2 + 1) * (64 / 512) ** 2  # guidance of 4 doubles the bundle's 8 steps
    several = TextJob(text_job(settings).request, settings, pictures=3)
    assert zerogpu._looks(several) == 3 * once
    assert asked(guidance=1) == (8 + 1) * (64 / 512) ** 2
    assert asked(width=96, height=64) == 1.5 * once
    assert asked(width=1024, height=1024) > 256 * once  # windows overlap
    big = partial(text_job(settings, width=2048, height=2048, steps=150).make, engine, Path())
    assert zerogpu._seconds(big) == Settings().gpu_seconds
    assert zerogpu._seconds(_process) == Settings().gpu_seconds  # nobody knows
    assert zerogpu._seconds(partial(text_job(settings).make, engine, Path())) == zerogpu._START + 1
