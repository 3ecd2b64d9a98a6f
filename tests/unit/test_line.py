"""The line of runs: one at a time and in fair order, and everybody knows how long."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack
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
def test_runs_wait_for_those_before_them_and_know_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "AT_ONCE", 1)
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
@pytest.mark.parametrize(("lent", "at_once"), [(False, 2), (True, 1)])
def test_runs_of_one_kind_are_with_the_engine_at_the_same_time(
    lent: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmmrs_demo.ui.zerogpu.lends", lambda: lent)
    free, kinds, inside, most = threading.Event(), ("text", "text", "translation", "text", None), [0], [0]

    def make(tell: Callable[[News], None], stop: threading.Event) -> str:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        assert free.wait(20)
        assert not stop.is_set()
        tell(Step(4, 4, None, 1.0))
        inside[0] -= 1
        return "made"

    async def all_five() -> None:
        async with AsyncExitStack() as stack:
            runs = []
            for kind in kinds:
                effort = Effort(("mini", kind, "full"), 4) if kind else None
                runs.append(await stack.enter_async_context(running(make, effort)))
            assert [(await waiting(job, before)).before for before, job in enumerate(runs)] == [0, 1, 2, 3, 4]
            assert inside == [at_once]
            free.set()
            for job in runs:
                await job.result()

    loops.run(all_five())
    assert most == [at_once]


@pytest.mark.usefixtures("line")
def test_no_more_runs_than_a_few_are_with_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "AT_ONCE", 2)
    free, made = threading.Event(), list[str]()
    effort = Effort(("mini", "text", "full"), 4)

    async def three() -> None:
        async with AsyncExitStack() as stack:
            runs = [await stack.enter_async_context(running(held(free, made, name), effort)) for name in "abc"]
            await waiting(runs[2], 2)
            assert [turn.may_begin for turn in run._LINE] == [True, True, False]
            free.set()
            await runs[2].result()

    loops.run(three())
    assert sorted(made[:2]) == ["a", "b"]
    assert made[2:] == ["c"]


@pytest.mark.usefixtures("line")
def test_what_is_made_together_has_a_pace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ("mini", "text", "full")
    monkeypatch.setattr(run, "_PACES", {(kind, 1): 2.0})
    assert Effort(kind, 16, 4).seconds == 32.0  # as long as nothing better is known
    run._PACES[kind, 4] = 1.0
    assert Effort(kind, 16, 4).seconds == 16.0
    assert Effort(kind, 4).seconds == 8.0


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
