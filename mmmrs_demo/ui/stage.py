"""Where a run is started, watched, stopped and shown: the same buttons, progress and result on every tab."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component
from PIL import Image

from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.outputs import PNG
from mmmrs_demo.provenance import parameters
from mmmrs_demo.request import Step
from mmmrs_demo.scene import Progress
from mmmrs_demo.scene_file import unfinished
from mmmrs_demo.ui.cache import thumbnail
from mmmrs_demo.ui.job import Outcome
from mmmrs_demo.ui.page import QUIET
from mmmrs_demo.ui.run import EngineLike, News, Waiting, running, seconds_left, share_of
from mmmrs_demo.ui.visits import Kept, Place, Return, Updates, Visits, Watched, keep, tab_here

if TYPE_CHECKING:
    from mmmrs_demo.ui.job import Job, Spread

_BROKEN = "It failed inside the program, whose log says why; nothing that you entered was lost."
_MINUTE = 60  # seconds

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Actions:
    """The buttons of a tab, and what is said while it works.

    Attributes:
        verb: What the button says.
        start: The button.
        stop: Takes its place while it works.
        progress: How far it is.
    """

    verb: str
    start: gr.Button
    stop: gr.Button
    progress: gr.HTML

    @classmethod
    def lay_out(cls, verb: str) -> Actions:
        """Lay out the one button of a tab."""
        start = gr.Button(verb, variant="primary", size="lg")
        stop = gr.Button("Stop", variant="stop", size="lg", visible=False)
        return cls(verb, start, stop, gr.HTML(elem_classes="progress", visible=False, padding=False))

    @property
    def place(self) -> int:
        """What its results are known by, which is the same as long as the program runs."""
        return self.start._id  # noqa: SLF001 - Gradio has no other name for it

    def goes_on(self) -> dict[str, Any]:
        """Return the update of the progress that says how to go on."""
        return _said(f"Stopped. “{self.verb}” goes on where it was, as long as nothing is changed.", bar="")

    def connect(
        self,
        work: Callable[..., AsyncGenerator[Updates]],
        form: dict[str, Component],
        outputs: Sequence[Block],
        put_back: Callable[..., Updates],
        kept: Sequence[Component] = (),
        more: Sequence[Any] = (),
    ) -> None:
        """Make the buttons do what they say; a run goes on though its page is closed, until a page comes back to it.

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
        busy = _in_browser(gr.update(visible=False), gr.update(visible=True), _said("Preparing …"))
        idle = _in_browser(gr.update(visible=True), gr.update(visible=False), gr.update(visible=False))
        stopped = _in_browser(gr.update(visible=True), gr.update(visible=False), _said("Stopped.", bar=""))
        event: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
        ran = gr.on([self.start.click, *more], None, None, buttons, js=busy).then(
            watching.run,
            inputs_kwargs={"token": visits.token, **form},
            preprocess=False,  # the request checks what is said, and our own readers are the first to open an upload
            outputs=[self.progress, *outputs],
            **event,
        )
        ran.success(None, None, buttons, js=idle)
        failed = ran.failure(None, None, buttons, js=stopped)
        failed.then(watching.after, [visits.token, *kept], [self.progress, *outputs], **event)
        self.stop.click(None, None, self.progress, js=_in_browser(_said("Stopping …")))
        self.stop.click(watching.stop, None, None, **QUIET)
        visits.ends.append(ran)
        visits.returns[self.place] = Return([*buttons, *outputs], watching.come_back)


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
        """Watch what was begun on a page that is no more; the buttons have no click that they could come after."""
        progress = self.actions.progress
        yield {self.actions.start: gr.update(visible=False), self.actions.stop: gr.update(visible=True)}
        idle: Updates = {self.actions.start: gr.update(visible=True), self.actions.stop: gr.update(visible=False)}
        try:
            async with aclosing(self._followed(made, page)) as shown:
                async for updates in shown:
                    yield updates
        except gr.Error:
            after = self._after(made.visitor.room(self.actions.place), *[None] * self.kept)
            said = {part: update for part, update in after.items() if update != gr.skip()}
            yield {progress: _said("Stopped.", bar=""), **idle, **said}
            raise
        # All at once, for a browser may pass over what is followed by more at once, and nothing more will follow.
        yield {**made.view(), progress: gr.update(visible=False), **idle}

    async def stop(self, request: gr.Request) -> None:
        """Stop what this page watches."""
        await self.visits.stop(_page(request), self.actions.place)

    def after(self, request: gr.Request, token: str | None, *kept: Any) -> Updates:
        """Return what is shown after a run that came to no end."""
        return self._after(self.visits.visitor(token, _page(request)).room(self.actions.place), *kept)

    def _after(self, room: Path, *kept: Any) -> Updates:
        said = self.actions.goes_on() if unfinished(room) else gr.skip()
        with told():
            return {self.actions.progress: said, **self.put_back(room, *kept)}

    async def _followed(self, made: Watched, page: str) -> AsyncGenerator[Updates]:
        async with aclosing(self.visits.follow(made, page)) as shown:
            async for updates in shown:
                yield updates or {self.actions.progress: gr.skip()}
        with told():
            made.check()
        if made.stopped:
            raise gr.Error(visible=False, print_exception=False)


def _page(request: gr.Request) -> str:
    """Return what an open page is known by."""
    return str(request.session_hash)


@dataclass(frozen=True)
class Result:
    """The picture of a tab, and what can be done with it.

    Attributes:
        picture: The picture, or a preview of it.
        last: Holds the outcome of the last finished run.
        spread: How far its samples lie apart, where it had several.
        facts: What is said of that run.
        download: Its file.
        apart: That of the spread, where there is one.
        reuse: Fills in its seed.
        seed: Holds its seed.
        further: Around all that can be done with a result.
        sending: Around what sends the picture to other tabs.
        written: Around the settings as text.
        text: Those, as other programs read them.
        sends: Buttons that send the picture to a tab, by the key of its translation.
    """

    picture: gr.Image | gr.ImageSlider
    last: gr.State
    spread: gr.Image
    facts: gr.HTML
    download: gr.DownloadButton
    apart: gr.DownloadButton
    reuse: gr.Button
    seed: gr.State
    further: gr.Column
    sending: gr.Row
    written: gr.Accordion
    text: gr.Textbox
    sends: dict[str, gr.Button]

    @classmethod
    def lay_out(cls, picture: gr.Image | gr.ImageSlider) -> Result:
        """Lay out what belongs beneath a picture, inside a tab that has the key of its translation."""
        spread = gr.Image(
            visible=False, format="png", interactive=False, buttons=["fullscreen"], elem_classes="picture spread"
        )
        facts = gr.HTML(elem_classes="facts", visible=False, padding=False)
        with gr.Row():
            download = gr.DownloadButton("Download PNG", visible=False, size="md")
            apart = gr.DownloadButton("Download spread", visible=False, size="md")
            reuse = gr.Button("Use this seed again", visible=False, size="md")
        here = tab_here().id
        shown = TRANSLATIONS[here].target if here in TRANSLATIONS else Modality.RGB
        with gr.Column(visible=False) as further, gr.Row(visible=False) as sending:
            sends = {
                key: gr.Button(f"Send to {translation.title}", size="md")
                for key, translation in TRANSLATIONS.items()
                if translation.source is shown
            }
        with gr.Accordion("Settings as text", open=False, visible="hidden") as written:
            text = gr.Textbox(
                label="As other programs read them",
                lines=3,
                interactive=False,
                buttons=["copy"],
                elem_classes="written",
            )
        return cls(
            picture,
            gr.State(None),
            spread,
            facts,
            download,
            apart,
            reuse,
            gr.State(""),
            further,
            sending,
            written,
            text,
            sends,
        )

    @property
    def outputs(self) -> list[Block]:
        """What shows a finished run."""
        return [part for part in vars(self).values() if part is not self.sends]

    def showing(self, outcome: Outcome) -> Updates:
        """Return the updates that show a finished run."""
        made = outcome.made
        kind = "PNG" if made.file.endswith(PNG) else "GeoTIFF"
        return {
            self.picture: _framed(outcome.before, made.picture),
            self.last: outcome,
            self.spread: _spread(made.spread),
            self.facts: gr.update(value=_facts(outcome), visible=True),
            self.download: gr.update(value=made.file, label=f"Download {kind}", visible=True),
            self.apart: _there(made.spread and made.spread.file),
            self.reuse: gr.update(visible=True),
            self.seed: str(made.request.seed),
            self.further: gr.update(visible=True),
            self.sending: gr.update(visible=True),
            self.written: gr.update(visible=True),
            self.text: parameters(made.request, made.size),
        }


def connect(
    engine: EngineLike,
    prepare: Callable[..., Job],
    form: dict[str, Component],
    actions: Actions,
    result: Result,
) -> None:
    """Make a tab do what it says.

    Args:
        engine: Runs the requests.
        prepare: Turns the values of the form, by name, into a job; raises UserError.
        form: Components by name of the value.
        actions: The buttons.
        result: Where the rendering is shown.
    """
    tab = tab_here()
    Visits.here().places[actions.place] = Place(
        tab, str(tab.label), result.outputs, result.showing, result.last, result.sends, form.get("tile")
    )

    async def work(room: Path, **values: Any) -> AsyncGenerator[Updates]:
        job = await asyncio.to_thread(prepare, **values)
        before = await asyncio.to_thread(job.before)
        effort = await asyncio.to_thread(job.effort, engine.catalog)
        async with running(partial(job.make, engine, room), effort) as run:
            async for news in run.news():
                shown: Updates = {actions.progress: counted(news)}
                if isinstance(news, Step) and news.preview:
                    shown[result.picture] = _framed(before, news.preview)
                yield shown
            made = await run.result()
        outcome = Outcome(made, before, engine.catalog.bundle(made.request.bundle or "").title)
        in_history = await asyncio.to_thread(kept_of, actions.place, outcome)
        keep(in_history)
        if comparing := job.comparing(made):
            yield {actions.progress: _said("Comparing with the real picture …"), result.last: outcome}
            async with running(comparing, in_line=False) as run:
                async for _ in run.news():
                    yield {actions.progress: gr.skip()}
                outcome = replace(outcome, compared=tuple(await run.result()))
            keep(replace(in_history, outcome=outcome))
        yield result.showing(outcome)

    def put_back(_: Path, last: Outcome | None) -> Updates:
        return result.showing(last) if last else {result.picture: None}

    caption = cast("gr.Textbox", form["caption"])
    actions.connect(work, form, result.outputs, put_back, [result.last], [caption.submit])
    result.reuse.click(lambda seed: seed, result.seed, form["seed"], **QUIET)


def kept_of(place: int, outcome: Outcome) -> Kept:
    """Return a finished run as the history keeps it."""
    made = outcome.made
    files = [Path(made.file), *([Path(made.spread.file)] if made.spread and made.spread.file else [])]
    with Image.open(made.picture, formats=["PNG"]) as picture:
        return Kept(place, outcome, tuple(files), thumbnail(picture, files[0]), made.request)


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


def _framed(before: str | None, picture: Image.Image | str) -> Any:
    return picture if before is None else (before, picture)


def _said(words: str, bar: str = "<progress aria-label='Progress'></progress>") -> dict[str, Any]:
    return gr.update(value=f"{bar}<p>{words}</p>", visible=True)


def counted(news: News | None) -> dict[str, Any]:
    """Return the update of a progress that says how far a run is; of no news, one that changes nothing."""
    if news is None:
        return gr.skip()
    words, left = _words(news), seconds_left(news)
    if isinstance(news, Step):
        words += f" · {_duration(news.seconds)}"
    if left is not None:
        words += f", about {_duration(left)} left"
    if isinstance(news, Waiting):
        return _said(words)
    return _said(words, f"<progress aria-label='Progress' value='{share_of(news):.4f}'></progress>")


def _words(news: News) -> str:
    if isinstance(news, Step):
        of_each = news.total // news.samples
        sample, step = divmod(news.index - 1, of_each)
        begun = f"Sample {sample + 1} of {news.samples}, step" if news.samples > 1 else "Step"
        return f"{begun} {step + 1} of {of_each}"
    if isinstance(news, Waiting):
        return f"Waiting for its turn: {news.before} before you" if news.before else "Starting …"
    if isinstance(news, Progress):
        return f"Window {news.done:,} of {news.total:,}"
    within = f", {_words(news.news).lower()}" if news.news else ""
    return f"{news.what} {news.number:,} of {news.total:,}: {escape(news.name)}{within}"


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:.0f} s"


def _there(value: Any, **more: Any) -> dict[str, Any]:
    """Return the update of what is shown only where it has a value."""
    return gr.update(value=value, visible=value is not None, **more)


def _spread(spread: Spread | None) -> dict[str, Any]:
    if spread is None:
        return _there(None)
    return _there(
        spread.picture,
        label=f"Spread: white is {spread.white} or more",
        alt_text=f"How far the samples lie apart: black where they agree, white where by {spread.white} or more",
    )


def _facts(outcome: Outcome) -> str:
    made = outcome.made
    request = made.request
    told = (
        "<strong>Synthetic image</strong>",
        escape(outcome.title),
        *((f"mean of {request.samples} samples",) if request.samples > 1 else ()),
        f"seed {request.seed}",
        f"{request.steps} steps",
        *((f"{made.windows:,} windows",) if made.windows else ()),
        f"{made.size[0]}×{made.size[1]} px",
        _duration(made.seconds),
    )
    facts = " · ".join(f"<span>{words}</span>" for words in told)
    return facts + "".join(f"<p>{escape(words)}</p>" for words in outcome.compared)
