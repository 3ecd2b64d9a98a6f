"""The line of runs: one at a time and in fair order, and everybody knows how long."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.request import Step
from mmmrs_demo.ui import run
from mmmrs_demo.ui.progress import counted
from mmmrs_demo.ui.run import Effort, News, Waiting, running, seconds_left, share_of
from tests import loops

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without anybody, that is looked at more often."""
    monkeypatch.setattr(run, "_LINE", [])
    monkeypatch.setattr(run, "_PACES", {})
    monkeypatch.setattr(run, "LOOK_EVERY", 0.001)


def held(free: threading.Event, made: list[str], name: str) -> Any:
    def make(tell: Callable[[News], None], stop: threading.Event) -> str:
        tell(Step(1, 4, None, 2.0))
        while not free.wait(0.001):
            if stop.is_set():
                raise Stopped
        tell(Step(4, 4, None, 8.0))
        made.append(name)
        return name

    return make


async def waiting(job: run.Run[str], before: int) -> Waiting:
    """Wait for the news that so many come before a job."""
    async for news in job.news():
        if isinstance(news, Waiting) and news.before == before:
            return news
    raise AssertionError("it did not wait")


@pytest.mark.usefixtures("line")
def test_runs_wait_for_those_before_them_and_know_how_long() -> None:
    free, made = threading.Event(), list[str]()
    effort = Effort(("mini", "text", "full"), 4)

    async def all_three() -> None:
        async with running(held(free, made, "a"), effort) as a, running(held(free, made, "b"), effort) as b:
            assert (await waiting(b, 1)).seconds_left is None  # nothing is known of this machine yet
            free.set()
            assert await b.result() == "b"
            assert await a.result() == "a"
        free.clear()
        async with running(held(free, made, "c"), effort) as c, running(held(free, made, "d"), effort) as d:
            async for news in c.news():
                if isinstance(news, Step):
                    break
            told = await waiting(d, 1)
            assert told.seconds_left == 6 + 8  # what is left of the one, and all of the other
            assert "Waiting for its turn: 1 before you, about 14.0 s left" in counted(told)["value"]
            free.set()
            await c.result()
            await d.result()
        assert Effort(("mini", "translation", "full"), 4).seconds is None  # of another kind nothing is known

    loops.run(all_three())
    assert made == ["a", "b", "c", "d"]


@pytest.mark.usefixtures("line")
def test_who_leaves_the_line_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMMRS_QUEUE_SIZE", "2")
    free, made = threading.Event(), list[str]()

    async def leave() -> None:
        async with running(held(free, made, "a")) as a:
            async with running(held(free, made, "b")) as b, running(held(free, made, "c")) as c:
                await waiting(c, 2)
                async with running(held(free, made, "d")) as d:
                    with pytest.raises(UserError, match="2 runs are waiting already"):
                        await d.result()
                assert not b.work.done()
            assert b.work.done()
            async with running(held(free, made, "e")) as e:
                await waiting(e, 1)
                async with running(held(free, made, "f"), in_line=False) as f:  # needs no engine
                    free.set()
                    await f.result()
                await a.result()
                await e.result()

    loops.run(leave())
    assert sorted(made) == ["a", "e", "f"]
    assert made.index("a") < made.index("e")


@pytest.mark.usefixtures("line")
def test_all_stop_at_the_end() -> None:
    free, made = threading.Event(), list[str]()

    async def stop() -> None:
        async with running(held(free, made, "a")) as a, running(held(free, made, "b")) as b:
            await waiting(b, 1)
            run.stop_all()
            for job in (a, b):
                with pytest.raises(Stopped):
                    await job.result()

    loops.run(stop())
    assert made == []


def test_nothing_of_a_waiting_run_is_done() -> None:
    assert share_of(Waiting(2, 5.0)) == 0
    assert seconds_left(Waiting(2, 5.0)) == 5.0
    assert "value=" not in counted(Waiting(0))["value"]
    assert "Starting …, about 5.0 s left" in counted(Waiting(0, 5.0))["value"]
