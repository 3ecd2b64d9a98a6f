"""A finished run on the page: its picture, what is said of it, and what can be done with it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
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
from mmmrs_demo.ui.cache import thumbnail
from mmmrs_demo.ui.job import Outcome
from mmmrs_demo.ui.language import both, joined, marked
from mmmrs_demo.ui.page import QUIET, thumbnails
from mmmrs_demo.ui.progress import SPOKEN, counted, duration, said
from mmmrs_demo.ui.run import PART, PICTURE, EngineLike, News, Several, running
from mmmrs_demo.ui.visits import Kept, Place, Updates, Visits, keep, tab_here

if TYPE_CHECKING:
    from mmmrs_demo.ui.job import Job, Made, Spread
    from mmmrs_demo.ui.stage import Actions


_COSTLY = ("bundle", "tile", "steps", "samples", "speed", "pictures", "width", "height")
"""What the time of a run depends on, by name in a form."""


@dataclass(frozen=True)
class Result:
    """The picture of a tab, and what can be done with it.

    Attributes:
        picture: The picture, or a preview of it.
        strip: All pictures of one click, where there are several; each can be chosen.
        among: Holds the outcomes of that click.
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
    strip: gr.Gallery
    among: gr.State
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
        strip = thumbnails("Pictures of this click", show_label=False, visible=False)
        spread = gr.Image(
            visible=False, format="png", interactive=False, buttons=["fullscreen"], elem_classes="picture spread"
        )
        facts = gr.HTML(elem_classes="facts", visible=False, padding=False, js_on_load=SPOKEN)
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
            strip,
            gr.State(()),
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

    def showing(self, outcome: Outcome, among: Sequence[Outcome] = ()) -> Updates:
        """Return the updates that show a finished run, and all those of its click where it is one of several."""
        made = outcome.made
        pictures = [(one.made.picture, f"seed {one.made.request.seed}") for one in among if len(among) > 1]
        download = "Download PNG" if made.file.endswith(PNG) else "Download GeoTIFF"
        return {
            self.picture: _framed(outcome.before, made.picture),
            self.strip: gr.update(value=pictures, visible=bool(pictures), selected_index=None),
            self.among: tuple(among),
            self.last: outcome,
            self.spread: _spread(made.spread),
            self.facts: gr.update(value=_facts(outcome), visible=True),
            self.download: gr.update(value=made.file, label=marked(download), visible=True),
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
    prepare: Callable[..., Sequence[Job]],
    form: dict[str, Component],
    actions: Actions,
    result: Result,
) -> None:
    """Make a tab do what it says.

    Args:
        engine: Runs the requests.
        prepare: Turns the values of the form, by name, into jobs; raises UserError.
        form: Components by name of the value.
        actions: The buttons.
        result: Where the rendering is shown.
    """
    tab = tab_here()
    Visits.here().places[actions.place] = Place(
        tab, str(tab.label), result.outputs, result.showing, result.last, result.sends, form.get("tile")
    )

    async def work(room: Path, **values: Any) -> AsyncGenerator[Updates]:
        jobs = await asyncio.to_thread(prepare, **values)
        making = _Making(engine, actions, result, jobs)
        for number, job in enumerate(jobs, 1):
            making.several.next_is(number, job.name)
            async with aclosing(making.one(job, room)) as shown:
                async for updates in shown:
                    yield updates

    def put_back(_: Path, last: Outcome | None, among: Sequence[Outcome] | None) -> Updates:
        return result.showing(last, among or ()) if last else {result.picture: None}

    def chosen(event: gr.SelectData, among: Sequence[Outcome]) -> Updates:
        updates = result.showing(among[event.index], among)
        return {part: update for part, update in updates.items() if part is not result.strip}

    def cost(**values: Any) -> dict[str, Any]:
        try:
            efforts = [job.effort(engine.catalog) for job in prepare(**values)]
        except UserError:  # it is said to whoever presses the button
            efforts = [None]
        known = [seconds for effort in efforts if effort and (seconds := effort.seconds)]
        return _there(f"<p>{both('About {}', duration(sum(known))).html}</p>" if len(known) == len(efforts) else None)

    caption = cast("gr.Textbox", form["caption"])
    ran = actions.connect(work, form, result.outputs, put_back, [result.last, result.among], [caption.submit])
    costly = [cast("Any", field).change for name, field in form.items() if name in _COSTLY]
    asked: dict[str, Any] = {"inputs_kwargs": form, "outputs": actions.cost, "preprocess": False, **QUIET}
    gr.on(costly, cost, trigger_mode="always_last", **asked)
    ran.then(cost, **asked)
    result.strip.select(chosen, result.among, result.outputs, **QUIET)
    result.reuse.click(lambda seed: seed, result.seed, form["seed"], **QUIET)


class _Making:
    """Does the jobs of one click, one after the other, and shows each picture.

    Attributes:
        several: Tells how far all have come.
    """

    def __init__(self, engine: EngineLike, actions: Actions, result: Result, jobs: Sequence[Job]) -> None:
        self._engine, self._actions, self._result, self._total = engine, actions, result, len(jobs)
        self._outcomes: list[Outcome] = []
        self._news: deque[News] = deque(maxlen=1)
        what = PICTURE if all(job.pictures == 1 for job in jobs) else PART
        self.several = Several(len(jobs), self._news.append, what)

    async def one(self, job: Job, room: Path) -> AsyncGenerator[Updates]:
        """Do one job and yield what is shown."""
        progress = self._actions.progress
        before = await asyncio.to_thread(job.before)
        effort = await asyncio.to_thread(job.effort, self._engine.catalog)
        async with running(partial(job.make, self._engine, room), effort) as run:
            async for news in run.news():
                shown: Updates = {progress: counted(self._of_all(news))}
                if isinstance(news, Step) and news.preview:
                    shown[self._result.picture] = _framed(before, news.preview)
                yield shown
            made = await run.result()
        self.several.made += 1
        for one in made:
            async with aclosing(self._finished(job, one, before)) as finished:
                async for shown in finished:
                    yield shown

    async def _finished(self, job: Job, made: Made, before: str | None) -> AsyncGenerator[Updates]:
        progress = self._actions.progress
        outcome = Outcome(made, before, self._engine.catalog.bundle(made.request.bundle or "").title)
        in_history = await asyncio.to_thread(kept_of, self._actions.place, outcome)
        keep(in_history)
        if comparing := job.comparing(made):
            yield {progress: said(both("Comparing with the real picture …")), self._result.last: outcome}
            async with running(comparing, in_line=False) as comparison:
                async for _ in comparison.news():
                    yield {progress: gr.skip()}
                outcome = replace(outcome, compared=tuple(await comparison.result()))
            keep(replace(in_history, outcome=outcome))
        self._outcomes.append(outcome)
        yield self._result.showing(outcome, self._outcomes)

    def _of_all(self, news: News | None) -> News | None:
        if self._total == 1 or not isinstance(news, Step | Progress):
            return news
        self.several.told(news)
        return self._news.pop()


def kept_of(place: int, outcome: Outcome) -> Kept:
    """Return a finished run as the history keeps it."""
    made = outcome.made
    files = [Path(made.file), *([Path(made.spread.file)] if made.spread and made.spread.file else [])]
    with Image.open(made.picture, formats=["PNG"]) as picture:
        return Kept(place, outcome, tuple(files), thumbnail(picture, files[0]), made.request)


def _framed(before: str | None, picture: Image.Image | str) -> Any:
    return picture if before is None else (before, picture)


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
        both("<strong>{}</strong>", both("Synthetic image")),
        outcome.title,
        *((both("mean of {} samples", request.samples),) if request.samples > 1 else ()),
        both("seed {}", request.seed),
        both("{} steps", request.steps),
        *((both("{} windows", f"{made.windows:,}"),) if made.windows else ()),
        both("{}×{} px", *made.size),
        duration(made.seconds),
    )
    facts = joined(" · ", *(both("<span>{}</span>", fact) for fact in told)).html
    return facts + "".join(f"<p>{both('{}', words).html}</p>" for words in outcome.compared)
