"""The tab that renders a tile in another modality; built once for each translation."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.bands import band_numbers
from mmmrs_demo.catalog import BASE
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import Modality
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.radiometry import Quantity
from mmmrs_demo.raster import read_tile
from mmmrs_demo.ui import controls
from mmmrs_demo.ui.cache import fresh_folder, uploaded
from mmmrs_demo.ui.job import Job, translation_job
from mmmrs_demo.ui.modalities import modalities_of_tile
from mmmrs_demo.ui.page import QUIET, thumbnails
from mmmrs_demo.ui.result import Result, connect
from mmmrs_demo.ui.several import several_files
from mmmrs_demo.ui.stage import Actions, told
from mmmrs_demo.ui.tile import PREVIEW, is_picture, look, raster_of

if TYPE_CHECKING:
    from gradio.components import Component

    from mmmrs_demo.modality import Translation
    from mmmrs_demo.ui.page import Page

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_BANDS = {Modality.RGB: "4, 3, 2", Modality.NIR: "4", Modality.SAR: "1"}  # for example
_CALLED = {Quantity.DB: "dB"}
_IF_THERE_STILL = f"""(held, seen) => {{
    const raster = file => file?.path.split("{PREVIEW}")[0].split("/").slice(-2).join("/");
    const ours = held && seen && held.path !== seen.path && raster(held) === raster(seen);
    return ours ? seen : {{__type__: "update"}};
}}"""
"""In the browser, where a later upload may have come before the preview of an earlier one: it is shown if the field
still holds its raster, known by the last two parts of its path."""

_ANSWERED: dict[str, Any] = QUIET | {"queue": True, "preprocess": False}
"""Arguments of events about the upload: without the queue an error would not be shown, and only we open it."""


def translate_tab(page: Page, translation: Translation) -> None:
    """Lay out the tab of one translation inside the current context and make it work."""
    prompt = Prompt(gsd=translation.gsd, caption=translation.caption, satellite=translation.satellite)
    source, target = translation.source, translation.target
    with gr.Row():
        with gr.Column(min_width=340):
            tile = gr.Image(
                label=f"{source.label} tile",
                sources=["upload", "clipboard"],
                placeholder=f"Drop the {source.label} tile here\n- or -\nclick to choose it",
                buttons=[],
                height=256,
                elem_classes="tile",
            )
            other = gr.UploadButton(
                "Choose a GeoTIFF or JPEG 2000", file_types=[".tif", ".tiff", ".jp2", ".j2k"], size="sm"
            )
            reading = _Reading.lay_out(source)
            if examples := sorted(_EXAMPLES.glob(f"{source}_*.png")):
                _offer(examples, tile)
            parts = controls.prompt_parts(prompt)
            controls.composed_prompt(page, parts, prompt)
            page.absences(BASE, translation.key)
            actions = Actions.lay_out(f"Translate to {target.label}")
            settings = controls.advanced_settings(page, translation.key)
            page.forms[translation.key] = {**parts, **settings}
            asked = {"bundle": page.bundle, **page.forms[translation.key]}
            reference = _reference(target)
            several_files(page, translation, asked)
        with gr.Column(min_width=340, elem_classes="result"):
            result = Result.lay_out(
                gr.ImageSlider(
                    label=f"{source.label} tile | {target.label} picture (synthetic)",
                    format="png",
                    interactive=False,
                    buttons=["fullscreen"],
                    max_height=640,
                    elem_classes="picture",
                )
            )

    def prepare(
        tile: dict[str, Any] | None,
        reference: dict[str, Any] | None,
        bands: str,
        quantity: str,
        units: bool,  # noqa: FBT001 - a value of the form
        metadata: bool,  # noqa: FBT001 - as above
        **form: Any,
    ) -> Job:
        if tile is None:
            raise UserError(f"Choose the {source.label} tile first: drop a picture file on the field, or click it.")
        if reference and not metadata:
            raise UserError("To be compared a file needs its settings: tick “Keep settings in the file”.")
        request = controls.to_translation(form, translation.key)
        real = uploaded(reference) if reference else None
        file = uploaded(tile)
        raster = raster_of(file)
        said: dict[str, Any] = {}
        if raster:  # else a picture, or a raster about which nothing could be said yet
            said = {"bands": band_numbers(bands), "quantity": controls.quantity_of(quantity), "units": units}
        return translation_job(request, raster or file, page.catalog, page.settings, real, metadata=metadata, **said)

    def hand_over(file: dict[str, Any]) -> str:
        with told():
            return str(uploaded(file))

    # Many a browser does not know that a JPEG 2000 is a picture, and the field takes what it knows as one.
    other.upload(hand_over, other, tile, **_ANSWERED)
    reading.follow(page, source, tile, parts["gsd"])
    form = {"tile": tile, "reference": reference, **reading.fields, **asked}
    connect(page.engine, lambda **values: [prepare(**values)], form, actions, result)
    if source is Modality.RGB:
        modalities_of_tile(page, prepare, form)


def _offer(examples: list[Path], tile: gr.Image) -> None:
    """Lay out tiles to try, each of which fills in the form."""
    captioned = [(str(file), file.stem.partition("_")[2].replace("_", " ").capitalize()) for file in examples]
    gallery = thumbnails("Tiles to try", captioned)

    def choose(event: gr.SelectData) -> str:
        return str(shutil.copy(examples[event.index], fresh_folder()))

    gallery.select(choose, None, tile, **QUIET)


def _reference(target: Modality) -> gr.File:
    """Lay out the fold for what is compared with the result."""
    with gr.Accordion("Compare with a real picture", open=False):
        gr.Markdown(
            "Of the same ground, as large as the tile: a picture, GeoTIFF or JPEG 2000. The figures appear with the "
            "result.",
            elem_classes="about",
        )
        return gr.File(label=f"Real {target.label} picture", height=180, elem_classes="reference")


@dataclass(frozen=True)
class _Reading:
    """How a raster is read, beneath its preview; hidden for pictures.

    Attributes:
        seen: Holds the preview until it is known whether it is still wanted.
        note: What is known of the raster.
        row: Around the choices.
        bands: Numbers.
        quantity: What their samples are, of SAR.
        units: Whether to write physical ones.
    """

    seen: gr.Image
    note: gr.HTML
    row: gr.Row
    bands: gr.Textbox
    quantity: gr.Dropdown
    units: gr.Checkbox

    @property
    def fields(self) -> dict[str, Component]:
        """What a person can say, by name."""
        return {"bands": self.bands, "quantity": self.quantity, "units": self.units}

    @classmethod
    def lay_out(cls, source: Modality) -> _Reading:
        """Lay it out beneath the tile."""
        seen = gr.Image(visible=False)
        note = gr.HTML(visible=False, elem_classes="note raster")
        with gr.Row(visible=False, elem_classes="reading") as row:
            bands = gr.Textbox(
                "",
                label="Bands",
                placeholder=f"such as {_BANDS[source]}",
                lines=1,
                max_lines=1,
                min_width=120,
            )
            quantity = gr.Dropdown(
                [("As detected", ""), *((_CALLED.get(one, one.capitalize()), one.value) for one in Quantity)],
                value="",
                label="Samples are",
                filterable=False,
                min_width=120,
                visible=source is Modality.SAR,
            )
            units = gr.Checkbox(
                label="Physical units",
                info="dB or reflectance, not grey values",
                min_width=120,
                visible=source is not Modality.SAR,  # a picture made from backscatter has none
            )
        return cls(seen, note, row, bands, quantity, units)

    def follow(self, page: Page, source: Modality, tile: gr.Image, gsd: Component) -> None:
        """Draw what is uploaded, say what is known of it, and do so again when something else is said."""
        outputs = [self.seen, self.note, self.row, self.bands, self.quantity, self.units, gsd]

        def arrive(tile: dict[str, Any] | None) -> Any:
            hidden = [gr.skip(), gr.update(visible=False), gr.update(visible=False), "", "", False, gr.skip()]
            if tile is None:
                return hidden
            with told():
                file = uploaded(tile)
                if raster_of(file):  # its preview, which was drawn here
                    return gr.skip()
                if is_picture(file):
                    read_tile(file, source, page.settings, slim=True)
                    return hidden
                seen = look(file, source, page.settings)
            return [
                str(seen.preview),
                gr.update(value=seen.facts, visible=True),
                gr.update(visible=True),
                gr.update(value=seen.bands, visible=seen.choice),
                "",
                False,
                seen.level or gr.skip(),
            ]

        def again(tile: dict[str, Any] | None, bands: str, quantity: str) -> Any:
            raster = raster_of(uploaded(tile)) if tile else None
            if raster is None:
                return gr.skip()
            with told():
                seen = look(raster, source, page.settings, band_numbers(bands), controls.quantity_of(quantity))
            return [str(seen.preview), gr.update(value=seen.facts, visible=True)]

        arrived = tile.change(arrive, tile, outputs, **_ANSWERED)
        changed = gr.on(
            [self.bands.submit, self.bands.blur, self.quantity.input],
            again,
            [tile, self.bands, self.quantity],
            [self.seen, self.note],
            trigger_mode="always_last",
            **_ANSWERED,
        )
        for drawn in (arrived, changed):
            drawn.success(None, [tile, self.seen], tile, js=_IF_THERE_STILL)
