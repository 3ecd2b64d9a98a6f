"""Where a run is started, watched and stopped: the same buttons and progress on every tab."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component
from gradio.events import Dependency

from mmmrs_demo.errors import UserError
from mmmrs_demo.scene_file import unfinished
from mmmrs_demo.ui.language import both
from mmmrs_demo.ui.page import QUIET
from mmmrs_demo.ui.progress import SPOKEN, said
from mmmrs_demo.ui.visits import Return, Updates, Visits, Watched

_BROKEN = "It failed inside the program, whose log says why; nothing that you entered was lost."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Actions:
    """The buttons of a tab, and what is said while it works.

    Attributes:
        verb: What the button says.
        start: The button.
        stop: Takes its place while it works.
        progress: How far it is.
        cost: How long a run would take, where that is known.
    """

    verb: str
    start: gr.Button
    stop: gr.Button
    progress: gr.HTML
    cost: gr.HTML

    @classmethod
    def lay_out(cls, verb: str) -> Actions:
        """Lay out the one button of a tab."""
        start = gr.Button(verb, variant="primary", size="lg")
        stop = gr.Button("Stop", variant="stop", size="lg", visible=False)
        progress = gr.HTML(elem_classes="progress", visible=False, padding=False, js_on_load=SPOKEN)
        cost = gr.HTML(elem_classes="cost", visible=False, padding=False)
        return cls(verb, start, stop, progress, cost)

    @property
    def place(self) -> int:
        """What its results are known by, which is the same as long as the program runs."""
        return self.start._id  # noqa: SLF001 - Gradio has no other name for it

    def goes_on(self) -> dict[str, Any]:
        """Return the update of the progress that says how to go on."""
        words = both("Stopped. “{}” goes on where it was, as long as nothing is changed.", both(self.verb))
        return said(words, bar="")

    def connect(
        self,
        work: Callable[..., AsyncGenerator[Updates]],
        form: dict[str, Component],
        outputs: Sequence[Block],
        put_back: Callable[..., Updates],
        kept: Sequence[Component] = (),
        more: Sequence[Any] = (),
    ) -> Dependency:
        """Make the buttons do what they say; a run goes on though its page is closed, until a page comes back to it.

        Returns the run, for what comes after it.

        Args:
            work: Given a folder of this person's own, where what is done stays when it is stopped, and the values of
                the form, by name, yields what is shown.
            form: Components by name of the value.
            outputs: Where it is shown, beside the progress.
            put_back: Given the folder and the values of `kept`, returns what is shown after a run that came to no end.
            kept: Components.
            more: Events, beside a click, that start it.
        """
        visits = Visits.here()
        watching = _Watching(visits, self, work, put_back, len(kept))
        # The buttons change places in the browser, at once: an answer from the server could come after the next click.
        buttons = [self.start, self.stop, self.progress]
        busy = _in_browser(gr.update(visible=False), gr.update(visible=True), said(both("Preparing …")))
        idle = _in_browser(gr.update(visible=True), gr.update(visible=False), gr.update(visible=False))
        again = _in_browser(gr.update(visible=True), gr.update(visible=False))
        event: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
        ran = gr.on([self.start.click, *more], None, None, buttons, js=busy).then(
            watching.run,
            inputs_kwargs={"token": visits.token, **form},
            preprocess=False,  # the request checks what is said, and our own readers are the first to open an upload
            outputs=[self.progress, *outputs],
            **event,
        )
        ran.success(None, None, buttons, js=idle)
        failed = ran.failure(None, None, buttons[:2], js=again)
        looked = failed.then(watching.after, [visits.token, *kept], [*buttons, *outputs], **event)
        looked.failure(None, None, buttons, js=idle)
        self.stop.click(None, None, self.progress, js=_in_browser(said(both("Stopping …"))))
        self.stop.click(watching.stop, None, None, **QUIET)
        visits.ends += [ran, looked]
        visits.returns[self.place] = Return([*buttons, *outputs], watching.come_back)
        return ran


@dataclass(frozen=True)
class _Watching:
    """What the events of some buttons do on the server.

    Attributes:
        visits: Who is here.
        actions: The buttons.
        work: As `Actions.connect` takes it.
        put_back: The same.
        kept: How many values that takes beside the folder, all None on a page that was just opened.
    """

    visits: Visits
    actions: Actions
    work: Callable[..., AsyncGenerator[Updates]]
    put_back: Callable[..., Updates]
    kept: int

    async def run(self, request: gr.Request, token: str | None, **values: Any) -> AsyncGenerator[Updates]:
        """Begin, and watch."""
        visitor = self.visits.visitor(token, _page(request))
        room = visitor.room(self.actions.place)
        made = self.visits.start(visitor, self.actions.place, self.work(room, **values))
        async with aclosing(self._followed(made, _page(request))) as shown:
            async for updates in shown:
                yield updates

    async def come_back(self, made: Watched, page: str) -> AsyncGenerator[Updates]:
        """Watch what was begun on a page that is no more; the buttons have no click that they could come after.

        All that is shown is shown again, ever more seldom: a page that is still being built may pass over it.
        """

        def buttons(*, busy: bool) -> Updates:
            return {self.actions.start: gr.update(visible=not busy), self.actions.stop: gr.update(visible=busy)}

        began, repeated = time.monotonic(), 0.0
        try:
            async with aclosing(self._followed(made, page)) as shown:
                async for updates in shown:
                    again = (so_far := time.monotonic() - began) > 2 * repeated
                    repeated = so_far if again else repeated
                    yield {**made.view(), **buttons(busy=True), **_news(updates)} if again else updates
        except gr.Error:
            after = self._after(made.visitor.room(self.actions.place), *[None] * self.kept)
            yield _news(after) | buttons(busy=False)
            raise
        # All at once, for a browser may pass over what is followed by more at once, and nothing more will follow.
        yield {**made.view(), self.actions.progress: gr.update(visible=False), **buttons(busy=False)}

    async def stop(self, request: gr.Request) -> None:
        """Stop what this page watches."""
        await self.visits.stop(_page(request), self.actions.place)

    async def after(self, request: gr.Request, token: str | None, *kept: Any) -> AsyncGenerator[Updates]:
        """Show what there is after a run that came to no end here; where only the connection was lost, it goes on."""
        visitor, page = self.visits.visitor(token, _page(request)), _page(request)
        if made := await self.visits.left_alone(visitor, page, self.actions.place):
            async with aclosing(self.come_back(made, page)) as shown:
                async for updates in shown:
                    yield updates
        else:
            yield self._after(visitor.room(self.actions.place), *kept)

    def _after(self, room: Path, *kept: Any) -> Updates:
        how = self.actions.goes_on() if unfinished(room) else gr.skip()
        with told():
            return {self.actions.progress: how, **self.put_back(room, *kept)}

    async def _followed(self, made: Watched, page: str) -> AsyncGenerator[Updates]:
        progress = self.actions.progress
        async with aclosing(self.visits.follow(made, page)) as shown:
            async for updates in shown:
                yield updates or {progress: gr.skip()}
        try:
            with told():
                made.check()
        except gr.Error:
            yield {progress: gr.update(visible=False)}
            raise
        if made.stopped:
            yield {progress: said(both("Stopped."), bar="")}
            raise gr.Error(visible=False, print_exception=False)


def _news(updates: Updates) -> Updates:
    """Return the updates that change something."""
    return {part: update for part, update in updates.items() if update != gr.skip()}


def _page(request: gr.Request) -> str:
    """Return what an open page is known by."""
    return str(request.session_hash)


@contextmanager
def told() -> Iterator[None]:
    """Say what goes wrong inside to the person (a message on the page) or to the program that called."""
    try:
        yield
    except UserError as error:
        raise gr.Error(escape(str(error)), print_exception=False) from error
    except Exception as error:
        _log.exception("Something failed that should not")
        raise gr.Error(_BROKEN, print_exception=False) from error


def _in_browser(*updates: dict[str, Any]) -> str:
    """Return a JavaScript function that gives these updates, so that they need no server."""
    return f"() => {json.dumps(updates)}"
