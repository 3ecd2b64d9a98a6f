"""The form: the four parts of a prompt and the settings folded away beneath them; every tab is built from these."""

from __future__ import annotations

import json
import math
from html import escape
from typing import TYPE_CHECKING, Any, Literal, cast

import gradio as gr
from pydantic import ValidationError

from mmmrs_demo.errors import UserError, explain
from mmmrs_demo.prompt import GSD_LEVELS, MAX_TOKENS, SATELLITES, WEATHERS, GSDLevel, Prompt, count, overflow
from mmmrs_demo.radiometry import Quantity
from mmmrs_demo.request import (
    FULL_SPEED,
    MAX_SAMPLES,
    SCHEDULERS,
    SPEEDS,
    TextRequest,
    TranslationRequest,
    parse_request,
)
from mmmrs_demo.ui.job import MAX_PICTURES
from mmmrs_demo.ui.language import marked
from mmmrs_demo.ui.page import QUIET, defaults
from mmmrs_demo.ui.presets import IDEAS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Sized

    from gradio.components import Component

    from mmmrs_demo.settings import Settings
    from mmmrs_demo.ui.page import Page
    from mmmrs_demo.ui.presets import Preset

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

_READ = "Prompt that the model reads"
_IF_EMPTY = "caption => ({__type__: 'update', visible: !caption?.trim()})"
_ANY_IDEA = f"() => {{ const ideas = {json.dumps(IDEAS)}; return ideas[Math.floor(Math.random() * ideas.length)]; }}"


def prompt_parts(prompt: Prompt) -> dict[str, Component]:
    """Lay out the four parts, filled with `prompt`; the keys are the fields of a Prompt."""
    caption = gr.Textbox(
        prompt.caption,
        label="Caption",
        placeholder="a satellite image shows …",
        lines=1,
        max_lines=4,
    )
    idea = gr.Button("Idea for a caption", size="sm", visible=not prompt.caption)
    caption.change(None, caption, idea, js=_IF_EMPTY)
    idea.click(None, None, caption, js=_ANY_IDEA)
    with gr.Row():
        gsd = gr.Dropdown(
            _LEVELS, value=prompt.gsd or _LEFT_OUT, label="Ground sample distance", filterable=False, min_width=220
        )
        satellite = gr.Dropdown(
            _SATELLITES, value=prompt.satellite or _LEFT_OUT, label="Satellite", filterable=False, min_width=220
        )
    weather = gr.Radio(_WEATHERS, value=prompt.weather or _LEFT_OUT, label="Weather")
    return {"gsd": gsd, "weather": weather, "caption": caption, "satellite": satellite}


def part_values(prompt: Prompt) -> dict[str, str]:
    """Return what the components of `prompt_parts` hold for a prompt, by name."""
    return {part: word or _LEFT_OUT for part, word in prompt.model_dump().items()}


def form_values(request: TextRequest | TranslationRequest) -> dict[str, Any]:
    """Return what the components of a form hold for a request, by name.

    What the request leaves to the bundle is left out, but for the seed, which is then empty.
    """
    settings = set(type(request).model_fields) - {"kind", "prompt", "translation", "source_sha256"}
    said = {name: value for name in settings if (value := getattr(request, name)) is not None}
    seed = "" if request.seed is None else str(request.seed)  # larger ones are not exact as a browser's numbers
    return {**part_values(request.prompt), **said, "seed": seed}


def presets(label: str, presets: Sequence[Preset], fields: dict[str, Component]) -> None:
    """Lay out a row of buttons that fill the form.

    Args:
        label: What is said above it.
        presets: One for each button.
        fields: Components of the form by name.
    """
    row = gr.Dataset(
        label=label,
        components=["textbox"],
        samples=[[preset.label] for preset in presets],
        samples_per_page=len(presets),
        layout="gallery",
        type="index",
    )
    values = [{**part_values(preset.prompt), **preset.settings} for preset in presets]
    used = dict.fromkeys(name for one in values for name in one)

    def fill(index: int) -> list[Any]:
        return [values[index].get(name, gr.skip()) for name in used]

    row.click(fill, row, [fields[name] for name in used], **QUIET)


def _composed(**parts: str) -> str:
    try:
        return Prompt(**parts).text
    except ValidationError as error:
        return explain(error)


def composed_prompt(
    page: Page,
    form: dict[str, Component],
    prompt: Prompt,
    compose: Callable[..., str] = _composed,
    label: str = _READ,
    trigger_mode: Literal["always_last", "multiple"] = "always_last",
) -> None:
    """Show the prompt that a form composes and its tokens, live; a note says where they are too many.

    Args:
        page: Where it belongs.
        form: Components by name of the value; where nothing else is said, the parts of a prompt.
        prompt: What it composes at first.
        compose: Returns the text of the prompt for those values.
        label: What is said above it.
        trigger_mode: "multiple" where one value changes another, for "always_last" would go round in circles there.
    """
    shown = gr.Textbox(
        prompt.text,
        label=label,
        lines=1,
        interactive=False,
        elem_classes="composed",
    )
    note = gr.HTML(visible=False, elem_classes="note")

    def measure(key: str, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
        def tokenize(words: str) -> Sized:
            return page.engine.tokenize(key, words)

        try:
            counted, said = f": {count(text, tokenize)}/{MAX_TOKENS}", overflow(text, tokenize) or ""
        except UserError:  # the bundle has no tokenizer yet; the note on missing weights says so
            counted, said = "", ""
        return gr.update(label=marked(label) + counted), gr.update(value=escape(said), visible=bool(said))

    raw = QUIET | {"preprocess": False}  # numbers may be typed that are none of the choices
    gr.on(None, compose, inputs_kwargs=form, outputs=shown, trigger_mode=trigger_mode, **raw)
    gr.on(None, measure, [page.bundle, shown], [shown, note], trigger_mode="always_last", **QUIET)


def advanced_settings(page: Page, translation: str | None = None, *, several: bool = False) -> dict[str, Component]:
    """Lay out the settings, folded away and filled with the defaults of the bundle in use.

    Args:
        page: Where they belong.
        translation: Key of a translation, whose settings have a ControlNet scale and samples.
        several: Whether one click may make several pictures.

    Returns:
        Components by field of a request, and two that `to_request` expects to be seen to by then: `metadata`, whether
        files keep their settings, and `pictures`, how many are made, where that may be several.
    """
    with gr.Accordion("Advanced settings", open=False):
        fields = _settings(page.settings, defaults(page.first, translation), several=several)
        reset = gr.Button("Reset settings", size="sm")
    page.follow_defaults(fields, translation)

    def usual(key: str) -> list[Any]:
        own = defaults(page.catalog.bundle(key), translation)
        return [own.get(name, first) for name, first in firsts.items()]

    firsts = {name: getattr(field, "value", None) for name, field in fields.items()}
    reset.click(usual, page.bundle, list(fields.values()), **QUIET)
    return fields


def _settings(settings: Settings, defaults: dict[str, Any], *, several: bool) -> dict[str, Component]:
    fields: dict[str, Component] = {}
    fields["negative_prompt"] = gr.Textbox(
        label="Negative prompt", placeholder="what the picture should not show", lines=1, max_lines=3
    )
    with gr.Row():
        fields["steps"] = gr.Slider(1, settings.max_steps, defaults["steps"], step=1, label="Steps")
        fields["guidance"] = gr.Slider(
            0, 30, defaults["guidance"], step=0.5, label="Guidance", info="1 or less turns it off"
        )
    fields["speed"] = gr.Radio(
        [(speed.label, key) for key, speed in SPEEDS.items()],
        value=FULL_SPEED,
        label="Speed",
        info="large pictures are always made in full",
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
    if several:
        fields["pictures"] = gr.Slider(
            1, MAX_PICTURES, 1, step=1, label="Pictures", info="each has the seed after the one before"
        )
    if "controlnet_scale" in defaults:
        fields["samples"] = gr.Slider(1, MAX_SAMPLES, 1, step=1, label="Samples", info="the picture is their mean")
    if "width" in defaults:
        with gr.Row():
            for side in ("width", "height"):
                fields[side] = gr.Slider(64, 2048, defaults[side], step=8, label=side.capitalize(), info="pixels")
    fields["metadata"] = gr.Checkbox(
        value=True,
        label="Keep settings in the file",
        info="Without them it says no more than “synthetic”, which always stays.",
    )
    return fields


def to_request(form: dict[str, Any], **more: Any) -> TextRequest | TranslationRequest:
    """Build a request from the values of a form; what is empty is left out of it.

    Raises:
        UserError: One sentence that names what is wrong.
    """
    said = {name: value for name, value in form.items() if value not in (None, "")}
    if not said.pop("metadata", True):  # whoever can do without has taken it out of the form
        raise UserError("These files always keep their settings: tick “Keep settings in the file” first.")
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
