"""The fold that shows an RGB scene in all modalities, with one seed: SAR and NIR as they are made, and their NDVI."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gradio as gr
from PIL import Image

from mmmrs_demo.errors import UserError
from mmmrs_demo.make import translate_file
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.request import TranslationRequest
from mmmrs_demo.ui.cache import cached, discard, handed_out, kept, thumbnail
from mmmrs_demo.ui.progress import counted
from mmmrs_demo.ui.run import PICTURE, Several, running
from mmmrs_demo.ui.stage import Actions
from mmmrs_demo.ui.tile import glance
from mmmrs_demo.ui.visits import Kept, Place, Updates, Visits, keep, tab_here

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncGenerator, Callable

    from gradio.components import Component

    from mmmrs_demo.settings import Settings
    from mmmrs_demo.ui.job import FileJob, Job, Outcome
    from mmmrs_demo.ui.page import Page
    from mmmrs_demo.ui.result import Result
    from mmmrs_demo.ui.run import EngineLike, News

_MADE = tuple(one for one in TRANSLATIONS.values() if one.source is Modality.RGB)
_NDVI = "NDVI"
_LABELS = (*(one.target.label for one in _MADE), _NDVI)


@dataclass(frozen=True)
class Modalities:
    """A scene in all modalities.

    Attributes:
        files: Files by label, which Gradio may serve.
        pictures: Paths of what the page shows of them, by label.
        request: That of the near infrared.
    """

    files: dict[str, str]
    pictures: dict[str, str]
    request: TranslationRequest


@dataclass(frozen=True)
class ModalitiesJob:
    """A scene to be made in all modalities.

    Attributes:
        request: What to make; its translation is put in.
        file: The scene in RGB.
        settings: Limits.
        bands: Numbers of a raster's bands, where a person chose.
    """

    request: TranslationRequest
    file: Path
    settings: Settings
    bands: list[int] | None = None

    def make(self, engine: EngineLike, room: Path, tell: Callable[[News], None], stop: threading.Event) -> Modalities:
        """Make them, or go on with it; raises UserError and, soon after `stop` is set, Stopped."""
        from mmmrs_demo.ndvi import write_ndvi

        folder = kept(room, self.request.model_dump(), self.file, self.bands)
        several, request, made = Several(len(_MADE), tell, PICTURE), self.request, {}
        for number, translation in enumerate(_MADE, 1):
            label = translation.target.label
            out = folder / translation.key
            out.mkdir(exist_ok=True)

            several.next_is(number, label)
            path = next((file for file in out.iterdir() if file.is_file()), None)
            if path is None:
                request = request.model_copy(update={"translation": translation.key})
                reading: dict[str, Any] = {"bands": self.bands, "stop": stop}
                reading |= {"on_progress": several.told, "on_step": several.told}
                path = translate_file(engine, request, self.file, out, self.settings, **reading).path
                several.made += 1
            made[label] = path
        file, drawn = write_ndvi(self.file, made[Modality.NIR.label], self.settings)
        pictures = {
            one.target.label: cached(glance(made[one.target.label], one.target, self.settings)[0]) for one in _MADE
        }
        files = {label: str(handed_out(path)) for label, path in (made | {_NDVI: file}).items()}
        pictures[_NDVI] = files[_NDVI] if drawn == file else str(handed_out(drawn))
        discard(folder)
        return Modalities(files, pictures, request)


def modalities_of_result(page: Page, result: Result) -> None:
    """Lay the fold out for the picture that is shown in a tab."""

    def prepare(last: Outcome | None) -> ModalitiesJob:
        if last is None:
            raise UserError("There is no picture yet: make one first.")
        said = last.made.request
        request = TranslationRequest(bundle=said.bundle, prompt=said.prompt, seed=said.seed, translation=_MADE[0].key)
        return ModalitiesJob(request, Path(last.made.file), page.settings)

    with result.further:
        _fold(page, prepare, {"last": result.last}, result.further)


def modalities_of_tile(page: Page, prepare: Callable[..., Job], form: dict[str, Component]) -> None:
    """Lay the fold out for the tile of a tab.

    Args:
        page: Where it belongs.
        prepare: Turns the values of the form, by name, into the job of the tab; raises UserError.
        form: Components by name of the value.
    """

    def job(**values: Any) -> ModalitiesJob:
        if not values["metadata"]:
            raise UserError("For the NDVI the files need their settings: tick “Keep settings in the file”.")
        asked = cast("FileJob", prepare(**values))
        seed = page.catalog.bundle(asked.request.bundle or page.settings.bundle).complete(asked.request).seed
        request = asked.request.model_copy(update={"samples": 1, "seed": seed})  # one for all
        return ModalitiesJob(request, asked.file, page.settings, asked.bands)

    _fold(page, job, form)


def _fold(page: Page, prepare: Callable[..., ModalitiesJob], form: dict[str, Component], *around: gr.Column) -> None:
    pictures: dict[str, gr.Image] = {}
    downloads: dict[str, gr.DownloadButton] = {}
    with gr.Accordion("All modalities", open=False) as fold:
        gr.Markdown(
            "The same scene as SAR and NIR, with one seed, and its NDVI: from its red and the synthetic NIR, so it is "
            "a guess, too.",
            elem_classes="about",
        )
        actions = Actions.lay_out("Make SAR, NIR and NDVI")
        with gr.Row(visible="hidden", elem_classes="modalities") as shown:
            for label in _LABELS:
                with gr.Column(min_width=140):
                    pictures[label] = gr.Image(
                        label=label,
                        format="png",
                        interactive=False,
                        buttons=["fullscreen"],
                        alt_text=f"{label} of the scene (synthetic)",
                        elem_classes="picture",
                    )
                    downloads[label] = gr.DownloadButton(f"Download {label}", size="sm")

    def showing(made: Modalities) -> Updates:
        updates: Updates = {fold: gr.update(open=True), **{part: gr.update(visible=True) for part in (shown, *around)}}
        for label in _LABELS:
            updates |= {pictures[label]: made.pictures[label], downloads[label]: made.files[label]}
        return updates

    async def work(room: Path, **values: Any) -> AsyncGenerator[Updates]:
        job = await asyncio.to_thread(prepare, **values)
        async with running(partial(job.make, page.engine, room)) as run:
            async for news in run.news():
                yield {actions.progress: counted(news)}
            made = await run.result()
        files = tuple(map(Path, made.files.values()))
        with Image.open(made.pictures[_NDVI], formats=["PNG"]) as picture:
            small = await asyncio.to_thread(thumbnail, picture, files[0])
        keep(Kept(actions.place, made, files, small, made.request))
        yield showing(made)

    outputs = [fold, shown, *around, *pictures.values(), *downloads.values()]
    Visits.here().places[actions.place] = Place(tab_here(), f"{tab_here().label}: all modalities", outputs, showing)
    actions.connect(work, form, outputs, lambda _: {})
