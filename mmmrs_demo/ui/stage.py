"""Where a run is started, watched, stopped and shown: the same buttons, progress and result on every tab."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, cast

import gradio as gr

from mmmrs_demo.errors import UserError
from mmmrs_demo.make import PNG
from mmmrs_demo.request import Step
from mmmrs_demo.ui.page import QUIET
from mmmrs_demo.ui.run import ONE_AT_A_TIME, EngineLike, News, running

if TYPE_CHECKING:
    from gradio.components import Component
    from PIL import Image

    from mmmrs_demo.ui.job import Job, Made

_BROKEN = "It failed inside the program, whose log says why; nothing that you entered was lost."
_MINUTE = 60  # seconds

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Actions:
    """The buttons of a tab, and what is said while it works."""

    start: gr.Button
    stop: gr.Button
    progress: gr.HTML

    @classmethod
    def lay_out(cls, verb: str) -> Actions:
        """Lay out the one button of a tab; Stop takes its place while it works."""
        start = gr.Button(verb, variant="primary", size="lg")
        stop = gr.Button("Stop", variant="stop", size="lg", visible=False)
        return cls(start, stop, gr.HTML(elem_classes="progress", visible=False, padding=False))


@dataclass(frozen=True)
class Result:
    """The picture of a tab, and what can be done with it."""

    picture: gr.Image | gr.ImageSlider
    facts: gr.HTML
    download: gr.DownloadButton
    reuse: gr.Button
    seed: gr.State

    @classmethod
    def lay_out(cls, picture: gr.Image | gr.ImageSlider) -> Result:
        """Lay out what belongs beneath a picture."""
        facts = gr.HTML(elem_classes="facts", visible=False, padding=False)
        with gr.Row():
            download = gr.DownloadButton("Download PNG", visible=False, size="md")
            reuse = gr.Button("Use this seed again", visible=False, size="md")
        return cls(picture, facts, download, reuse, gr.State(""))


def connect(
    engine: EngineLike,
    prepare: Callable[..., Job],
    form: dict[str, Component],
    actions: Actions,
    result: Result,
) -> None:
    """Make the buttons do what they say.

    Args:
        engine: Runs the requests.
        prepare: Turns the values of the form, by name, into a job; raises UserError.
        form: Components by name of the value.
        actions: The buttons.
        result: Where the rendering is shown.
    """

    async def run(**values: Any) -> AsyncGenerator[dict[Component, Any]]:
        with told():
            yield {actions.progress: _said("Preparing …")}
            job = await asyncio.to_thread(prepare, **values)
            before = await asyncio.to_thread(job.before)
            async with running(engine, job) as work:
                async for news in work.news():
                    shown: dict[Component, Any] = {actions.progress: _counted(news) if news else gr.skip()}
                    if isinstance(news, Step) and news.preview:
                        shown[result.picture] = _framed(before, news.preview)
                    yield shown
                made = await work.result()
            title = engine.catalog.bundle(made.request.bundle or "").title
            kind = "PNG" if made.file.endswith(PNG) else "GeoTIFF"
            yield {
                result.picture: _framed(before, made.picture),
                result.facts: gr.update(value=_facts(made, title), visible=True),
                result.download: gr.update(value=made.file, label=f"Download {kind}", visible=True),
                result.reuse: gr.update(visible=True),
                result.seed: str(made.request.seed),
            }

    # The buttons change places in the browser, at once: an answer from the server could come after the next click.
    buttons = [actions.start, actions.stop, actions.progress]
    busy = _in_browser(gr.update(visible=False), gr.update(visible=True), _said("Waiting for its turn …"))
    idle = _in_browser(gr.update(visible=True), gr.update(visible=False), gr.update(visible=False))
    stopped = _in_browser(gr.update(visible=True), gr.update(visible=False), _said("Stopped.", bar=""))
    caption = cast("gr.Textbox", form["caption"])
    started = gr.on([actions.start.click, caption.submit], None, None, buttons, js=busy)
    work = started.then(
        run,
        inputs_kwargs=form,
        preprocess=False,  # the request checks what is said, and our own readers are the first to open an upload
        outputs=[actions.progress, result.picture, result.facts, result.download, result.reuse, result.seed],
        show_progress="hidden",
        api_visibility="private",
        **ONE_AT_A_TIME,
    )
    work.success(None, None, buttons, js=idle)
    work.failure(None, None, buttons, js=stopped)  # to Gradio a run that was cancelled has failed, too
    actions.stop.click(None, cancels=work)
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


def _counted(news: News) -> dict[str, Any]:
    if isinstance(news, Step):
        done, counted = news.index, f"Step {news.index} of {news.total} · {_duration(news.seconds)}"
        left: float | None = news.seconds / news.index * (news.total - news.index)
    else:
        done, counted = news.done, f"Window {news.done:,} of {news.total:,}"
        left = news.seconds_left
    said = counted if left is None else f"{counted}, about {_duration(left)} left"
    return _said(said, f"<progress aria-label='Progress' max='{news.total}' value='{done}'></progress>")


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:.0f} s"


def _facts(made: Made, title: str) -> str:
    request = made.request
    told = (
        "<strong>Synthetic image</strong>",
        escape(title),
        f"seed {request.seed}",
        f"{request.steps} steps",
        *((f"{made.windows:,} windows",) if made.windows else ()),
        f"{made.size[0]}×{made.size[1]} px",
        _duration(made.seconds),
    )
    return " · ".join(f"<span>{words}</span>" for words in told)
