"""The tab that makes a picture from words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.catalog import BASE, LORA
from mmmrs_demo.ui import controls
from mmmrs_demo.ui.job import Job, text_jobs
from mmmrs_demo.ui.modalities import modalities_of_result
from mmmrs_demo.ui.page import TEXT
from mmmrs_demo.ui.presets import OWN, PAPER
from mmmrs_demo.ui.result import Result, connect
from mmmrs_demo.ui.stage import Actions

if TYPE_CHECKING:
    from mmmrs_demo.ui.page import Page


def generate_tab(page: Page) -> None:
    """Lay out the tab inside the current context and make it work."""
    first = PAPER[1].prompt
    with gr.Row():
        with gr.Column(min_width=340):
            parts = controls.prompt_parts(first)
            controls.composed_prompt(page, parts, first)
            page.absences(BASE, LORA)
            actions = Actions.lay_out("Generate")
            settings = controls.advanced_settings(page, several=True)
        with gr.Column(min_width=340, elem_classes="result"):
            result = Result.lay_out(
                gr.Image(
                    label="Picture (synthetic)",
                    format="png",
                    interactive=False,
                    buttons=["fullscreen"],
                    alt_text="Synthetic satellite image of the prompt",
                    elem_classes="picture",
                )
            )
    page.forms[TEXT] = {**parts, **settings}
    controls.presets("Prompts from the paper", PAPER, page.forms[TEXT])
    controls.presets("More to try", OWN, page.forms[TEXT])

    def prepare(*, pictures: int, metadata: bool, **form: Any) -> list[Job]:
        return text_jobs(controls.to_text(form), pictures, page.engine, page.settings, metadata=metadata)

    connect(page.engine, prepare, {"bundle": page.bundle, **page.forms[TEXT]}, actions, result)
    modalities_of_result(page, result)
