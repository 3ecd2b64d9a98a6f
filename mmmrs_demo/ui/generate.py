"""The tab that makes a picture from words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.catalog import BASE, LORA
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt
from mmmrs_demo.ui import controls
from mmmrs_demo.ui.job import Job, text_job
from mmmrs_demo.ui.stage import Actions, Result, connect

if TYPE_CHECKING:
    from mmmrs_demo.ui.page import Page

_PRESETS = PAPER_PROMPTS[: -len(TRANSLATIONS)]  # the paper's last prompts are those of its translations


def generate_tab(page: Page) -> None:
    """Lay out the tab inside the current context and make it work."""
    first = _PRESETS[1]
    with gr.Row():
        with gr.Column(min_width=340):
            parts = controls.prompt_parts(first)
            controls.composed_prompt(page, parts, first)
            page.absences(BASE, LORA)
            actions = Actions.lay_out("Generate")
            settings = controls.advanced_settings(page)
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
    gr.Examples(
        [controls.part_values(prompt) for prompt in _PRESETS],
        list(parts.values()),
        label="Prompts from the paper",
        example_labels=[_label(prompt) for prompt in _PRESETS],
        examples_per_page=len(_PRESETS),
        api_visibility="private",
    )

    def prepare(**form: Any) -> Job:
        return text_job(controls.to_text(form), page.catalog, page.settings)

    connect(page.engine, prepare, {"bundle": page.bundle, **parts, **settings}, actions, result)


def _label(prompt: Prompt) -> str:
    told = (prompt.caption.removeprefix("a satellite image shows ").capitalize(), prompt.gsd, prompt.weather)
    return " · ".join(part for part in told if part)
