"""Who is here: known by a token in the browser, with what is on its way for them and what was made for them."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component
from gradio.context import Context, get_render_context
from gradio.events import Dependency

from mmmrs_demo.request import TextRequest, TranslationRequest
from mmmrs_demo.ui.cache import discard, fresh_folder
from mmmrs_demo.ui.run import LOOK_EVERY

MOST_KEPT = 30
"""Results that are kept for one person."""

_LOOKS = 20  # for what a page just began, or just left
_KEPT_FOR = 86400  # seconds that a person, and what was made for them, is remembered after they were last here
_TOKEN = re.compile(r"[0-9a-f]{32}")

Updates = dict[Block, Any]


@dataclass(frozen=True)
class Place:
    """Where results of one kind are shown.

    Attributes:
        tab: The tab that it is in.
        name: What the history calls it.
        outputs: The components that show a result.
        show: Returns what they show of one.
        last: Holds the outcome that is shown, where it can be sent to other tabs.
        sends: Buttons that do so, by the key of the tab that each sends it to.
        tile: Takes what is sent here; None where the tab has no input.
    """

    tab: gr.Tab
    name: str
    outputs: Sequence[Block]
    show: Callable[[Any], Updates]
    last: gr.State | None = None
    sends: Mapping[str, gr.Button] = field(default_factory=dict)
    tile: Component | None = None


@dataclass(frozen=True)
class Kept:
    """A result in a history.

    Attributes:
        place: Key of the place where it is shown.
        outcome: What is shown there.
        files: Those that were made, each in a folder of its own.
        thumbnail: Path of a small picture, in the folder of the first of them.
        request: What made it, or the first of them.
        key: Names it within the history.
        at: When it was made, in seconds since 1970.
    """

    place: int
    outcome: Any
    files: tuple[Path, ...]
    thumbnail: Path
    request: TextRequest | TranslationRequest
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    at: float = field(default_factory=time.time)

    def discard(self) -> None:
        """Delete its files."""
        for file in self.files:
            discard(file.parent)


@dataclass(eq=False)
class Visitor:
    """One person, that is, one browser.

    Attributes:
        folder: Theirs alone; None as long as nothing is in it.
        kept: Their results, newest first.
        seen: When they were last here, in seconds since 1970.
    """

    folder: Path | None = None
    kept: list[Kept] = field(default_factory=list)
    seen: float = field(default_factory=time.time)

    def room(self, place: int) -> Path:
        """Return the folder where the unfinished work of a place stays."""
        self.folder = self.folder or fresh_folder()
        room = self.folder / str(place)
        room.mkdir(exist_ok=True)
        return room

    def keep(self, result: Kept) -> None:
        """Put a result into the history, in the place of an earlier version of it; the oldest of too many goes."""
        self.kept = [result, *(one for one in self.kept if one.key != result.key)]
        for old in self.kept[MOST_KEPT:]:
            old.discard()
        del self.kept[MOST_KEPT:]

    def forget(self, result: Kept) -> None:
        """Delete a result."""
        result.discard()
        self.kept.remove(result)


_PRESENT: ContextVar[Visitor] = ContextVar("the visitor for whom something is made")


def keep(result: Kept) -> None:
    """Put a result into the history of whoever it is made for; of a program nothing is kept."""
    if visitor := _PRESENT.get(None):
        visitor.keep(result)


@dataclass(eq=False)
class _Watch:
    """A page that watches, and what it has not seen yet."""

    page: str
    news: Updates


class Watched:
    """Something that is made for a person and watched by their pages; it goes on where no page watches.

    Attributes:
        visitor: The person.
        place: Key of the place where it is shown.
        stopped: It was told to stop.
    """

    def __init__(self, visitor: Visitor, place: int, updates: AsyncGenerator[Updates]) -> None:
        """Begin.

        Args:
            visitor: The person.
            place: Key of the place.
            updates: Makes it and yields what is shown; closed where it is stopped.
        """
        self.visitor, self.place, self.stopped = visitor, place, False
        self._view: Updates = {}
        self._watches: list[_Watch] = []
        self._task = asyncio.create_task(self._make(updates))

    @property
    def done(self) -> bool:
        """Whether it has come to its end, whatever that was."""
        return self._task.done()

    @property
    def alone(self) -> bool:
        """Whether no page watches it."""
        return not self._watches

    def watched_by(self, page: str) -> bool:
        """Whether a page watches it."""
        return page in [watch.page for watch in self._watches]

    def view(self) -> Updates:
        """Return all that is shown."""
        view: Updates = {}
        _merge(view, self._view)
        return view

    async def watch(self, page: str) -> AsyncGenerator[Updates]:
        """Yield a few times a second what is new, at first all that is shown, until its end; often there is nothing."""
        self._watches.append(watch := _Watch(page, self.view()))
        try:
            while True:
                done, new = self.done, watch.news
                watch.news = {}
                yield new
                if done:
                    break
                await asyncio.wait({self._task}, timeout=LOOK_EVERY)
        finally:
            self._watches.remove(watch)

    def check(self) -> None:
        """Raise what it failed with, if it has, and UserError is one of that."""
        if not self.stopped:
            self._task.result()

    def stop(self) -> None:
        """Make an end of it, soon."""
        self.stopped = True
        self._task.cancel()

    async def _make(self, updates: AsyncGenerator[Updates]) -> None:
        _PRESENT.set(self.visitor)
        async with aclosing(updates) as shown:
            async for new in shown:
                for view in (self._view, *(watch.news for watch in self._watches)):
                    _merge(view, new)


@dataclass(frozen=True)
class Return:
    """What a page does that comes back to something on its way.

    Attributes:
        outputs: The components that show it.
        watch: Given it and what the page is known by, yields what they show.
    """

    outputs: Sequence[Block]
    watch: Callable[[Watched, str], AsyncGenerator[Updates]]


def _merge(view: Updates, updates: Updates) -> None:
    """Put updates into a view, each as a dict of its own, for Gradio takes apart those that it is given."""
    for component, new in updates.items():
        if isinstance(component, gr.State):
            view[component] = new
        else:
            view[component] = {**_update(view.get(component, gr.skip())), **_update(new)}


def _update(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) and value.get("__type__") == "update" else gr.update(value=value)


class Visits:
    """All persons of one page, what is on its way for them, and the places where results are shown.

    Attributes:
        token: Holds what a browser is known by; in no address, and in no element of the page.
        places: By key, which is the same as long as the program runs.
        returns: What a page does that comes back to something on its way, by the key of its place.
        ends: The events after which something has come to an end.
    """

    def __init__(self) -> None:
        """Lay out the token inside the current context."""
        # The secret is none, for every page has it; it only has to stay the same.
        self.token = gr.BrowserState("", storage_key="mmmrs-visitor", secret="mmmrs-visitor")  # noqa: S106
        self.places: dict[int, Place] = {}
        self.returns: dict[int, Return] = {}
        self.ends: list[Dependency] = []
        self._visitors: dict[str, Visitor] = {}
        self._drawn: dict[str, str] = {}  # tokens, by page
        self._on_its_way: list[Watched] = []

    @classmethod
    def here(cls) -> Visits:
        """Return those of the `gr.Blocks` that is being built; the first call lays them out."""
        blocks = Context.root_block
        if blocks is None:
            raise RuntimeError("There is no page being built.")
        if blocks not in _VISITS:
            _VISITS[blocks] = cls()
        return _VISITS[blocks]

    def token_of(self, said: Any, page: str) -> str:
        """Return the token that a page says; of one that has none yet, a new one, the same each time."""
        return said if is_token(said) else self._drawn.setdefault(page, secrets.token_hex(16))

    def visitor(self, said: Any, page: str) -> Visitor:
        """Return who a token belongs to."""
        self._forget_the_old()
        visitor = self._visitors.setdefault(self.token_of(said, page), Visitor())
        visitor.seen = time.time()
        return visitor

    def start(self, visitor: Visitor, place: int, updates: AsyncGenerator[Updates]) -> Watched:
        """Begin something, as `Watched` takes it."""
        begun = Watched(visitor, place, updates)
        self._on_its_way.append(begun)
        return begun

    async def follow(self, made: Watched, page: str) -> AsyncGenerator[Updates]:
        """Watch until the end; whoever closes this before has left, and something may go on alone.

        Of one person no more than one goes on alone.
        """
        ended = False
        try:
            async with aclosing(made.watch(page)) as shown:
                async for updates in shown:
                    yield updates
            ended = True
        finally:
            if ended:
                self._seen(made)
            else:
                self._left(made)

    async def stop(self, page: str, place: int) -> None:
        """Stop what a page watches in a place; a click may be here before what it is to stop."""
        for _ in range(_LOOKS):
            for one in self._on_its_way:
                if one.place == place and one.watched_by(page):
                    one.stop()
                    return
            await asyncio.sleep(LOOK_EVERY)

    async def left_alone(self, visitor: Visitor, page: str, place: int | None = None) -> Watched | None:
        """Return what went on alone for a person who has come back; their last page may be about to close only now.

        Args:
            visitor: The person.
            page: The page that has come back; it may be the same one, of whose lost connection nobody knows here yet.
            place: Where it is shown; None for any place.
        """
        for _ in range(_LOOKS):
            mine = [one for one in self._of(visitor) if place in (None, one.place)]
            free = [one for one in reversed(mine) if one.alone or one.watched_by(page)]
            alone = sorted(free, key=lambda one: one.done)
            for one in alone[1:]:
                self._seen(one)  # it is done, for only one goes on alone, and in the history
            if alone or not mine:
                return alone[0] if alone else None
            await asyncio.sleep(LOOK_EVERY)
        return None

    def _of(self, visitor: Visitor) -> list[Watched]:
        return [one for one in self._on_its_way if one.visitor is visitor]

    def _left(self, made: Watched) -> None:
        """Let nothing go on alone but the first thing of a person."""
        for one in [one for one in self._of(made.visitor) if one.alone and not one.done][1:]:
            one.stop()
            self._seen(one)

    def _seen(self, made: Watched) -> None:
        if made in self._on_its_way:
            self._on_its_way.remove(made)

    def _forget_the_old(self) -> None:
        now = time.time()
        for key, one in list(self._visitors.items()):
            for result in [result for result in one.kept if now - result.at > _KEPT_FOR]:
                one.forget(result)
            if now - one.seen > _KEPT_FOR and not self._of(one):
                discard(self._visitors.pop(key).folder)
                self._drawn = {page: token for page, token in self._drawn.items() if token != key}


_VISITS: WeakKeyDictionary[gr.Blocks, Visits] = WeakKeyDictionary()


def is_token(said: Any) -> bool:
    """Whether something that a browser says has the form of a token."""
    return isinstance(said, str) and _TOKEN.fullmatch(said) is not None


def tab_here() -> gr.Tab:
    """Return the tab that is being laid out."""
    block = get_render_context()
    while not isinstance(block, gr.Tab):
        if block is None:
            raise RuntimeError("There is no tab being laid out.")
        block = block.parent
    return block
