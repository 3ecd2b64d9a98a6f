"""The form: the four parts of a prompt and the settings folded away beneath them; every tab is built from these."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any, cast

import gradio as gr
from pydantic import ValidationError

from mmmrs_demo.errors import UserError, explain
from mmmrs_demo.prompt import GSD_LEVELS, SATELLITES, WEATHERS, GSDLevel, Prompt, overflow
from mmmrs_demo.radiometry import Quantity
from mmmrs_demo.request import MAX_SAMPLES, SCHEDULERS, TextRequest, TranslationRequest, parse_request
from mmmrs_demo.ui.page import QUIET, defaults

if TYPE_CHECKING:
    from gradio.components import Component

    from mmmrs_demo.settings import Settings
    from mmmrs_demo.ui.page import Page

_LEFT_OUT = ""
"""Value of a choice that leaves its part out of the prompt; Gradio keeps None for itself."""


def _level_choice(level: GSDLevel) -> tuple[str, str]:
    name = level.words.removesuffix(" precision resolution")
    if level.lower_m == 0:
        bounds = f"< {level.upper_m:g}"
    elif math.isinf(level.upper_m):
        bounds = f"> {level.lower_m:g}"
    else:
        bounds = f"{level.lower_m:g} to {level.upper_m:g}"
    return f"{name} ({bounds} m/px)", level.key


_LEVELS = [("Not said", _LEFT_OUT), *map(_level_choice, GSD_LEVELS)]
_WEATHERS = [("Clear", _LEFT_OUT), *((weather.capitalize(), weather) for weather in WEATHERS)]
_SATELLITES = [("Not said", _LEFT_OUT), *((satellite, satellite) for satellite in SATELLITES)]


def prompt_parts(prompt: Prompt) -> dict[str, Component]:
    """Lay out the four parts, filled with `prompt`; the keys are the fields of a Prompt."""
    caption = gr.Textbox(
        prompt.caption,
        label="Caption",
        placeholder="a satellite image shows …",
        lines=1,
        max_lines=4,
    )
    with gr.Row():
        gsd = gr.Dropdown(
            _LEVELS, value=prompt.gsd or _LEFT_OUT, label="Ground sample distance", filterable=False, min_width=220
        )
        satellite = gr.Dropdown(
            _SATELLITES, value=prompt.satellite or _LEFT_OUT, label="Satellite", filterable=False, min_width=220
        )
    weather = gr.Radio(_WEATHERS, value=prompt.weather or _LEFT_OUT, label="Weather")
    return {"gsd": gsd, "weather": weather, "caption": caption, "satellite": satellite}


def part_values(prompt: Prompt) -> list[str]:
    """Return what the components of `prompt_parts` hold for a prompt, in their order."""
    return [prompt.gsd or _LEFT_OUT, prompt.weather or _LEFT_OUT, prompt.caption, prompt.satellite or _LEFT_OUT]


def composed_prompt(page: Page, parts: dict[str, Component], prompt: Prompt) -> None:
    """Show the prompt that the parts compose, live, and a note where the model would not read all of it."""
    shown = gr.Textbox(
        prompt.text,
        label="Prompt that the model reads",
        lines=1,
        interactive=False,
        elem_classes="composed",
    )
    note = gr.HTML(visible=False, elem_classes="note")

    def compose(**parts: str) -> str:
        try:
            return Prompt(**parts).text
        except ValidationError as error:
            return explain(error)

    def measure(key: str, text: str) -> dict[str, Any]:
        try:
            said = overflow(text, lambda words: page.engine.tokenize(key, words)) or ""
        except UserError:  # the bundle has no tokenizer yet; the note on missing weights says so
            said = ""
        return gr.update(value=escape(said), visible=bool(said))

    gr.on(None, compose, inputs_kwargs=parts, outputs=shown, trigger_mode="always_last", **QUIET)
    gr.on([shown.change, page.bundle.change], measure, [page.bundle, shown], note, trigger_mode="always_last", **QUIET)


def advanced_settings(page: Page, translation: str | None = None) -> dict[str, Component]:
    """Lay out the settings, folded away and filled with the defaults of the bundle in use.

    Args:
        page: Where they belong.
        translation: Key of a translation, whose settings have a ControlNet scale and samples.

    Returns:
        Components by field of a request.
    """
    with gr.Accordion("Advanced settings", open=False):
        fields = _settings(page.settings, defaults(page.first, translation))
    page.follow_defaults(fields, translation)
    return fields


def _settings(settings: Settings, defaults: dict[str, Any]) -> dict[str, Component]:
    fields: dict[str, Component] = {}
    fields["negative_prompt"] = gr.Textbox(
        label="Negative prompt", placeholder="what the picture should not show", lines=1, max_lines=3
    )
    with gr.Row():
        fields["steps"] = gr.Slider(1, settings.max_steps, defaults["steps"], step=1, label="Steps")
        fields["guidance"] = gr.Slider(
            0, 30, defaults["guidance"], step=0.5, label="Guidance", info="1 or less turns it off"
        )
    with gr.Row():
        fields["lora_scale"] = gr.Slider(0, 2, defaults["lora_scale"], step=0.05, label="LoRA scale", info="0 is off")
        if "controlnet_scale" in defaults:
            fields["controlnet_scale"] = gr.Slider(
                0, 2, defaults["controlnet_scale"], step=0.05, label="ControlNet scale", info="0 ignores the tile"
            )
    with gr.Row():
        fields["scheduler"] = gr.Dropdown(
            [(label, key) for key, label in SCHEDULERS.items()],
            value=defaults["scheduler"],
            label="Scheduler",
            filterable=False,
            min_width=200,
        )
        with gr.Column(min_width=200):
            fields["seed"] = gr.Textbox(label="Seed", placeholder="a new one each time", max_lines=1)
            random = gr.Button("Random seed", size="sm")
    random.click(str, None, fields["seed"], **QUIET)
    if "controlnet_scale" in defaults:
        fields["samples"] = gr.Slider(1, MAX_SAMPLES, 1, step=1, label="Samples", info="the picture is their mean")
    if "width" in defaults:
        with gr.Row():
            for side in ("width", "height"):
                fields[side] = gr.Slider(64, 2048, defaults[side], step=8, label=side.capitalize(), info="pixels")
    return fields


def to_request(form: dict[str, Any], **more: Any) -> TextRequest | TranslationRequest:
    """Build a request from the values of a form; what is empty is left out of it.

    Raises:
        UserError: One sentence that names what is wrong.
    """
    said = {name: value for name, value in form.items() if value not in (None, "")}
    prompt = {part: said.pop(part) for part in Prompt.model_fields if part in said}
    return parse_request({**said, **more, "prompt": prompt})


def to_text(form: dict[str, Any]) -> TextRequest:
    """Build the request of a picture from words as `to_request` does."""
    return cast("TextRequest", to_request(form, kind="text"))


def to_translation(form: dict[str, Any], key: str) -> TranslationRequest:
    """Build the request of a translation as `to_request` does."""
    request = to_request(form, kind="translation", translation=key)
    return cast("TranslationRequest", request)


def quantity_of(name: str | None) -> Quantity | None:
    """Return what the samples of a SAR band are; None where nothing was said.

    Raises:
        UserError: There is no such quantity.
    """
    if not name:
        return None
    if name not in list(Quantity):
        raise UserError(f"Samples of SAR are {', '.join(Quantity)}, not “{name[:40]}”.")
    return Quantity(name)
