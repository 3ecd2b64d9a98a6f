"""The fold that translates many files, or what is in a zip, and gives one zip back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo import batch, worldfile
from mmmrs_demo.archive import gather, pack
from mmmrs_demo.errors import UserError, heed
from mmmrs_demo.files import called
from mmmrs_demo.make import translate_file
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.provenance import settings_kept
from mmmrs_demo.ui import controls
from mmmrs_demo.ui.cache import discard, fresh_folder, handed_out, kept, thumbnail, uploaded
from mmmrs_demo.ui.job import without_choice
from mmmrs_demo.ui.language import Sentence, both, joined
from mmmrs_demo.ui.progress import counted
from mmmrs_demo.ui.run import Several, running
from mmmrs_demo.ui.stage import Actions
from mmmrs_demo.ui.tile import glance
from mmmrs_demo.ui.visits import Kept, Place, Visits, keep, tab_here

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncGenerator, Callable, Sequence

    from gradio.components import Component

    from mmmrs_demo.make import Done
    from mmmrs_demo.modality import Translation
    from mmmrs_demo.request import TranslationRequest
    from mmmrs_demo.settings import Settings
    from mmmrs_demo.ui.page import Page
    from mmmrs_demo.ui.run import EngineLike, News
    from mmmrs_demo.ui.visits import Updates

_SHOWN = 10  # failures that are told on the page
_OUT = "out"  # folder of the results, in that of the job
_USED = {*batch.READ, *(suffix for read in batch.READ for suffix in worldfile.suffixes(Path(f"tile{read}")))}


def several_files(page: Page, translation: Translation, form: dict[str, Component]) -> None:
    """Lay the fold out inside the current context and make it work.

    Args:
        page: Where it belongs.
        translation: What it does with each file.
        form: Components of the prompt and the settings by field of a request.
    """
    with gr.Accordion("Several files", open=False):
        gr.Markdown(
            "Pictures, GeoTIFF and JPEG 2000, with the prompt and the settings above; bands as each file says.",
            elem_classes="about",
        )
        files = gr.File(
            label=f"{translation.source.label} files, or one zip",
            file_count="multiple",
            height=180,
            elem_classes="several",
        )
        actions = Actions.lay_out(f"Translate all to {translation.target.label}")
        outcome = gr.HTML(visible=False, elem_classes="note outcome")
        download = gr.DownloadButton("Download zip", visible=False, size="md")

    def prepare(files: list[dict[str, Any]] | None, *, metadata: bool, **form: Any) -> FilesJob:
        if not files:
            raise UserError(f"Choose the {translation.source.label} files first: drop them on the field, or click it.")
        request = controls.to_translation(form, translation.key)
        bundle = page.catalog.bundle(request.bundle or page.settings.bundle)
        return FilesJob(without_choice(request, bundle), [uploaded(file) for file in files], page.settings, metadata)

    async def work(room: Path, **values: Any) -> AsyncGenerator[Updates]:
        job = await asyncio.to_thread(prepare, **values)
        async with running(partial(job.make, page.engine, room)) as run:
            async for news in run.news():
                yield {actions.progress: counted(news)}
            packed = await run.result()
        if packed.thumbnail:
            keep(Kept(actions.place, packed, (packed.file,), packed.thumbnail, job.request))
        yield shown(packed)

    def shown(packed: Packed) -> Updates:
        return {
            outcome: gr.update(value=packed.told, visible=True),
            download: gr.update(value=str(packed.file), visible=True),
        }

    def put_back(room: Path) -> Updates:
        done = next(room.glob(f"*/{_OUT}/{batch.MANIFEST}.json"), None)
        if done is None:
            return {}
        packed = Packed.of(done.parent, fresh_folder() / _name(translation))
        return {actions.progress: actions.goes_on(), **shown(packed)}

    tab, outputs = tab_here(), [outcome, download]
    Visits.here().places[actions.place] = Place(tab, f"{tab.label}: several files", outputs, shown)
    actions.connect(work, {"files": files, **form}, outputs, put_back)


@dataclass(frozen=True)
class Packed:
    """What came of several files.

    Attributes:
        file: Path of a zip.
        told: HTML: how many, and what failed and why.
        thumbnail: Path of a small picture of the first result; None where there is none yet.
    """

    file: Path
    told: str
    thumbnail: Path | None = None

    @classmethod
    def of(cls, out: Path, file: Path, notes: Sequence[Sentence | str] = ()) -> Packed:
        """Pack the output folder of a batch; `notes` are further sentences."""
        pack(out, file)
        entries = batch.entries(out)
        failed = [entry for entry in entries if entry.error]
        counts = {"{} translated": len(entries) - len(failed), "{} failed": len(failed)}
        counted = [both(state, f"{count:,}") for state, count in counts.items() if count]
        told: list[Sentence | str] = [f"{_folder(entry)}{entry.error}" for entry in failed[:_SHOWN]]
        if len(failed) > _SHOWN:
            more = f"{len(failed) - _SHOWN:,}"
            told.append(both("And {} more, which {} in the zip names.", more, f"{batch.MANIFEST}.csv"))
        reasons = "".join(f"<li>{both('{}', reason).html}</li>" for reason in told)
        said = (both("{}.", joined(", ", *counted)), *notes)
        first, *rest = [f"<p>{both('{}', sentence).html}</p>" for sentence in said]
        return cls(file, "".join([first, f"<ul>{reasons}</ul>" if reasons else "", *rest]))


@dataclass(frozen=True)
class FilesJob:
    """Many files, one after another.

    Attributes:
        request: What to make of each.
        files: The uploads: files, or one zip.
        settings: Limits.
        metadata: Whether the results carry their settings.
    """

    request: TranslationRequest
    files: list[Path]
    settings: Settings
    metadata: bool

    def make(self, engine: EngineLike, room: Path, tell: Callable[[News], None], stop: threading.Event) -> Packed:
        """Translate them, or go on with it; raises UserError and, soon after `stop` is set, Stopped."""
        folder = kept(room, self.request.model_dump(), self.files, self.metadata)
        inputs, out = folder / "in", folder / _OUT
        discard(inputs)
        inputs.mkdir()
        try:
            passed_over = gather(self.files, inputs, lambda name: name.suffix.lower() in _USED, self.settings, stop)
            if not any(inputs.iterdir()):
                raise UserError("There is no picture and no raster among the files: choose others.")
            items, notes = batch.collect([inputs], out)
            with settings_kept(kept=self.metadata):
                self._translate(engine, items, out, inputs, tell, stop)
        finally:
            discard(inputs)
        packed = Packed.of(out, folder / _name(TRANSLATIONS[self.request.translation]), [*notes, *_said(passed_over)])
        heed(stop)  # for who stops it now gets what is there
        packed = replace(packed, file=handed_out(packed.file))
        first = next((out / entry.output for entry in batch.entries(out) if not entry.error), None)
        if first:
            small, _ = glance(first, TRANSLATIONS[self.request.translation].target, self.settings)
            packed = replace(packed, thumbnail=thumbnail(small, packed.file))
        discard(folder)
        return packed

    def _translate(
        self,
        engine: EngineLike,
        items: list[batch.Item],
        out: Path,
        inputs: Path,
        tell: Callable[[News], None],
        stop: threading.Event,
    ) -> None:
        numbers = {item.name: number for number, item in enumerate(items, 1)}
        several = Several(len(items), tell)

        def one(item: batch.Item, path: Path, overwrite: bool) -> Done:  # noqa: FBT001 - as it is called
            several.next_is(numbers[item.name], called(item.file))
            return translate_file(
                engine,
                self.request,
                item.file,
                path,
                self.settings,
                overwrite=overwrite,
                on_progress=several.told,
                on_step=several.told,
                stop=stop,
            )

        asked = {"request": self.request.model_dump(mode="json")}
        for outcome in batch.translate_all(items, out, asked, one, root=inputs):
            several.made += outcome.state != "skipped"


def _name(translation: Translation) -> str:
    return f"mmmrs_{translation.key}.zip"


def _folder(entry: batch.Entry) -> str:
    """Return where in the tree an input lies, for a sentence that names the file alone."""
    folder = PurePath(entry.input).parent
    return f"{folder}: " if folder.name else ""


def _said(passed_over: list[str]) -> list[Sentence]:
    if not passed_over:
        return []
    names, more = ", ".join(map(called, passed_over[:3])), len(passed_over) - 3
    said = both("{} and {} more", names, f"{more:,}") if more > 0 else names
    return [both("Passed over, as hidden or no picture: {}.", said)]
