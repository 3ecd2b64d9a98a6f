"""Where a run is started, watched, stopped and shown: the same buttons, progress and result on every tab."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gradio as gr
from gradio.components import Component

from mmmrs_demo.errors import UserError
from mmmrs_demo.outputs import PNG
from mmmrs_demo.request import Step
from mmmrs_demo.scene import Progress
from mmmrs_demo.scene_file import unfinished
from mmmrs_demo.ui.cache import discard, fresh_folder
from mmmrs_demo.ui.page import QUIET
from mmmrs_demo.ui.run import ONE_AT_A_TIME, EngineLike, News, running, share_of

if TYPE_CHECKING:
    from PIL import Image

    from mmmrs_demo.ui.job import Job, Made, Spread

_BROKEN = "It failed inside the program, whose log says why; nothing that you entered was lost."
_MINUTE = 60  # seconds

Updates = dict[Component, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Actions:
    """The buttons of a tab, and what is said while it works.

    Attributes:
        verb: What the button says.
        start: The button.
        stop: Takes its place while it works.
        progress: How far it is.
        room: Holds the path of a folder of this visitor's own, where what is done stays when it is stopped.
    """

    verb: str
    start: gr.Button
    stop: gr.Button
    progress: gr.HTML
    room: gr.State

    @classmethod
    def lay_out(cls, verb: str) -> Actions:
        """Lay out the one button of a tab."""
        start = gr.Button(verb, variant="primary", size="lg")
        stop = gr.Button("Stop", variant="stop", size="lg", visible=False)
        progress = gr.HTML(elem_classes="progress", visible=False, padding=False)
        return cls(verb, start, stop, progress, gr.State(None, delete_callback=discard))

    def goes_on(self) -> dict[str, Any]:
        """Return the update of the progress that says how to go on."""
        return _said(f"Stopped. “{self.verb}” goes on where it was, as long as nothing is changed.", bar="")

    def connect(
        self,
        work: Callable[..., AsyncGenerator[Updates]],
        form: dict[str, Component],
        outputs: Sequence[Component],
        put_back: Callable[..., Updates],
        kept: Sequence[Component] = (),
        more: Sequence[Any] = (),
    ) -> None:
        """Make the buttons do what they say.

        Args:
            work: Given the room and the values of the form, by name, yields what is shown.
            form: Components by name of the value.
            outputs: Where it is shown, beside the progress.
            put_back: Given the room and the values of `kept`, returns what is shown after a run that came to no end.
            kept: Components.
            more: Events, beside a click, that start it.
        """

        async def run(room: str | None, **values: Any) -> AsyncGenerator[Updates]:
            with told():
                room = room or str(fresh_folder())
                yield {self.progress: _said("Preparing …"), self.room: room}
                async with aclosing(work(Path(room), **values)) as shown:
                    async for updates in shown:
                        yield updates

        def after(room: str | None, *values: Any) -> Updates:
            if room is None:
                return {self.progress: gr.skip()}
            said = self.goes_on() if unfinished(Path(room)) else gr.skip()
            with told():
                return {self.progress: said, **put_back(Path(room), *values)}

        # The buttons change places in the browser, at once: an answer from the server could come after the next click.
        buttons = [self.start, self.stop, self.progress]
        busy = _in_browser(gr.update(visible=False), gr.update(visible=True), _said("Waiting for its turn …"))
        idle = _in_browser(gr.update(visible=True), gr.update(visible=False), gr.update(visible=False))
        stopped = _in_browser(gr.update(visible=True), gr.update(visible=False), _said("Stopped.", bar=""))
        started = gr.on([self.start.click, *more], None, None, buttons, js=busy)
        ran = started.then(
            run,
            inputs_kwargs={"room": self.room, **form},
            preprocess=False,  # the request checks what is said, and our own readers are the first to open an upload
            outputs=[self.progress, self.room, *outputs],
            show_progress="hidden",
            api_visibility="private",
            **ONE_AT_A_TIME,
        )
        ran.success(None, None, buttons, js=idle)
        failed = ran.failure(None, None, buttons, js=stopped)  # to Gradio a cancelled run has failed, too
        failed.then(after, [self.room, *kept], [self.progress, *outputs], **(QUIET | {"queue": True}))
        self.stop.click(None, cancels=ran)


@dataclass(frozen=True)
class Result:
    """The picture of a tab, and what can be done with it.

    Attributes:
        picture: The picture, or a preview of it.
        last: Holds what shows the last finished run again.
        spread: How far its samples lie apart, where it had several.
        facts: What is said of that run.
        download: Its file.
        apart: That of the spread, where there is one.
        reuse: Fills in its seed.
        seed: Holds its seed.
    """

    picture: gr.Image | gr.ImageSlider
    last: gr.State
    spread: gr.Image
    facts: gr.HTML
    download: gr.DownloadButton
    apart: gr.DownloadButton
    reuse: gr.Button
    seed: gr.State

    @classmethod
    def lay_out(cls, picture: gr.Image | gr.ImageSlider) -> Result:
        """Lay out what belongs beneath a picture."""
        spread = gr.Image(
            visible=False, format="png", interactive=False, buttons=["fullscreen"], elem_classes="picture spread"
        )
        facts = gr.HTML(elem_classes="facts", visible=False, padding=False)
        with gr.Row():
            download = gr.DownloadButton("Download PNG", visible=False, size="md")
            apart = gr.DownloadButton("Download spread", visible=False, size="md")
            reuse = gr.Button("Use this seed again", visible=False, size="md")
        return cls(picture, gr.State(None), spread, facts, download, apart, reuse, gr.State(""))

    def showing(self, made: Made, before: str | None, title: str, compared: Sequence[str] = ()) -> Updates:
        """Return the updates that show a finished run.

        Args:
            made: What came of it.
            before: Path of a picture of its input.
            title: Of the bundle.
            compared: How near it comes to a reference, a paragraph each.
        """
        kind = "PNG" if made.file.endswith(PNG) else "GeoTIFF"
        return {
            self.picture: _framed(before, made.picture),
            self.spread: _spread(made.spread),
            self.facts: gr.update(value=_facts(made, title, compared), visible=True),
            self.download: gr.update(value=made.file, label=f"Download {kind}", visible=True),
            self.apart: _there(made.spread and made.spread.file),
            self.reuse: gr.update(visible=True),
            self.seed: str(made.request.seed),
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

    async def work(room: Path, **values: Any) -> AsyncGenerator[Updates]:
        job = await asyncio.to_thread(prepare, **values)
        before = await asyncio.to_thread(job.before)
        async with running(partial(job.make, engine, room)) as run:
            async for news in run.news():
                shown: Updates = {actions.progress: counted(news)}
                if isinstance(news, Step) and news.preview:
                    shown[result.picture] = _framed(before, news.preview)
                yield shown
            made = await run.result()
        show = partial(result.showing, made, before, engine.catalog.bundle(made.request.bundle or "").title)
        if comparing := job.comparing(made):
            yield {actions.progress: _said("Comparing with the real picture …"), result.last: show}
            async with running(comparing) as run:
                async for _ in run.news():
                    yield {actions.progress: gr.skip()}
                show = partial(show, await run.result())
        yield show() | {result.last: show}

    def put_back(_: Path, show: Callable[[], Updates] | None) -> Updates:
        return show() if show else {result.picture: None}

    caption = cast("gr.Textbox", form["caption"])
    actions.connect(work, form, list(vars(result).values()), put_back, [result.last], [caption.submit])
    result.reuse.click(lambda seed: seed, result.seed, form["seed"], **QUIET)


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
    words = _words(news)
    if isinstance(news, Step):
        words += f" · {_duration(news.seconds)}"
        left: float | None = news.seconds / news.index * (news.total - news.index)
    else:
        left = news.seconds_left
    said = words if left is None else f"{words}, about {_duration(left)} left"
    return _said(said, f"<progress aria-label='Progress' value='{share_of(news):.4f}'></progress>")


def _words(news: News) -> str:
    if isinstance(news, Step):
        of_each = news.total // news.samples
        sample, step = divmod(news.index - 1, of_each)
        begun = f"Sample {sample + 1} of {news.samples}, step" if news.samples > 1 else "Step"
        return f"{begun} {step + 1} of {of_each}"
    if isinstance(news, Progress):
        return f"Window {news.done:,} of {news.total:,}"
    within = f", {_words(news.news).lower()}" if news.news else ""
    return f"File {news.number:,} of {news.total:,}: {escape(news.name)}{within}"


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


def _facts(made: Made, title: str, compared: Sequence[str]) -> str:
    request = made.request
    told = (
        "<strong>Synthetic image</strong>",
        escape(title),
        *((f"mean of {request.samples} samples",) if request.samples > 1 else ()),
        f"seed {request.seed}",
        f"{request.steps} steps",
        *((f"{made.windows:,} windows",) if made.windows else ()),
        f"{made.size[0]}×{made.size[1]} px",
        _duration(made.seconds),
    )
    facts = " · ".join(f"<span>{words}</span>" for words in told)
    return facts + "".join(f"<p>{escape(words)}</p>" for words in compared)
