"""The tab that renders a tile in another modality; built once for each translation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.catalog import BASE
from mmmrs_demo.errors import UserError
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.raster import read_tile
from mmmrs_demo.ui import controls
from mmmrs_demo.ui.page import QUIET
from mmmrs_demo.ui.stage import Actions, Job, Result, connect, told, uploaded

if TYPE_CHECKING:
    from mmmrs_demo.modality import Translation
    from mmmrs_demo.ui.page import Page

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


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
            if examples := sorted(_EXAMPLES.glob(f"{source}_*.png")):
                gr.Examples([[str(file)] for file in examples], tile, label="Tiles to try", api_visibility="private")
            parts = controls.prompt_parts(prompt)
            controls.composed_prompt(page, parts, prompt)
            page.absences(BASE, translation.key)
            actions = Actions.lay_out(f"Translate to {target.label}")
            settings = controls.advanced_settings(page, translation.key)
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

    def prepare(tile: dict[str, Any] | None, **form: Any) -> Job:
        if tile is None:
            raise UserError(f"Choose the {source.label} tile first: drop a picture file on the field, or click it.")
        image = read_tile(uploaded(tile), source, page.settings)
        request = controls.to_request(form, kind="translation", translation=translation.key)
        return Job(request, image)

    def check(tile: dict[str, Any]) -> None:
        with told():
            read_tile(uploaded(tile), source, page.settings)

    # Without the queue an error would not be shown.
    tile.upload(check, tile, None, preprocess=False, **(QUIET | {"queue": True}))
    connect(page.engine, prepare, {"bundle": page.bundle, "tile": tile, **parts, **settings}, actions, result)
