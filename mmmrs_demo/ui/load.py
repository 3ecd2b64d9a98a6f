"""Forms that fill themselves: with the settings inside a file or a text, and with what the browser remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.files import called
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.provenance import Found, find, parse_parameters
from mmmrs_demo.request import TranslationRequest
from mmmrs_demo.ui.cache import uploaded
from mmmrs_demo.ui.controls import form_values
from mmmrs_demo.ui.language import Sentence, both, joined
from mmmrs_demo.ui.page import QUIET, TEXT, remembered
from mmmrs_demo.ui.stage import told

if TYPE_CHECKING:
    from gradio.components import Component

    from mmmrs_demo.ui.page import Page

_HASH_SHOWN = 12  # hexadecimal digits of an input's hash


def load_settings(page: Page, tabs: gr.Tabs) -> None:
    """Lay out the fold in the head of the page that fills a form, once all forms are there, and make it work."""
    with page.corner, gr.Accordion("Load settings", open=False):
        gr.Markdown("Of a picture that was saved here, or of another program's.", elem_classes="about")
        file = gr.File(label="PNG or GeoTIFF", file_types=[".png", ".tif", ".tiff"], height=140, elem_classes="loader")
        text = gr.Textbox(
            label="Or its settings as text",
            placeholder="a park in the city\nSteps: 20, Sampler: Euler a, CFG scale: 4, Seed: 7",
            lines=2,
            max_lines=6,
        )
        button = gr.Button("Fill in the form", size="sm")
        note = gr.HTML(visible=False, elem_classes="note")

    def from_file(upload: dict[str, Any], bundle: str) -> dict[Any, Any]:
        with told():
            path = uploaded(upload)
            return fill(find(path), called(path), bundle)

    def from_text(text: str, bundle: str) -> dict[Any, Any]:
        with told():
            return fill(parse_parameters(text), both("the text"), bundle)

    def fill(found: Found, who: Sentence | str, bundle: str) -> dict[Any, Any]:
        request = found.request
        key = request.bundle if request.bundle in page.catalog.bundles else bundle
        complete = page.catalog.bundle(key).complete(request)
        values = form_values(complete.model_copy(update={"seed": request.seed}))  # one that was drawn now says nothing
        tab = request.translation if isinstance(request, TranslationRequest) else TEXT
        filled = {component: values[name] for name, component in page.forms[tab].items() if name in values}
        said = joined(" ", both("The settings of {} are in the form.", who), *_beside(page, found, key))
        return {
            **filled,
            tabs: gr.Tabs(selected=tab),
            page.bundle: key,
            note: gr.update(value=said.html, visible=True),
        }

    fields = [component for form in page.forms.values() for component in form.values()]
    outputs = [tabs, page.bundle, note, *fields]
    answered: dict[str, Any] = QUIET | {"queue": True}  # without the queue an error would not be shown
    file.upload(from_file, [file, page.bundle], outputs, preprocess=False, **answered)
    gr.on([button.click, text.submit], from_text, [text, page.bundle], outputs, **answered)


def _beside(page: Page, found: Found, bundle: str) -> list[Sentence | str]:
    """Return what there is to say beside the settings that are in the form, a sentence each."""
    said: list[Sentence | str] = list(found.problems)
    request = found.request
    if request.bundle not in (None, bundle):
        title = page.catalog.bundle(bundle).title
        wanted = called(request.bundle or "", request.bundle)
        said.insert(0, both("There is no model {} here: it is {} now, and the picture will be another.", wanted, title))
    if isinstance(request, TranslationRequest):
        source = TRANSLATIONS[request.translation].source.label
        sha256 = request.source_sha256
        known = both(", whose pixels have the SHA-256 {}…", sha256[:_HASH_SHOWN]) if sha256 else ""
        bands = found.details.get("bands")  # it may come from anywhere
        numbers = [str(band) for band in bands[:3] if isinstance(band, int)] if isinstance(bands, list) else []
        read = both(", and read its bands {}", ", ".join(numbers)) if numbers else ""
        said.append(both("Choose the same {} tile again{}{}.", source, known, read))
    return said


def remember_forms(page: Page, blocks: gr.Blocks) -> None:
    """Keep what the forms say in the browser, once all of them are there, and bring it back when the page is opened.

    The browser keeps no picture, and nothing goes to the server before the page is opened again.
    """
    states = [page.memory, *(remembered(key, form) for key, form in page.forms.items())]
    forms: list[dict[str, Component]] = [{"bundle": page.bundle}, *page.forms.values()]
    fields = [component for form in forms for component in form.values()]

    def back(component: Component, name: str, said: Any) -> Any:
        if not isinstance(said, dict):
            return gr.skip()
        if restore := page.restores.get(component):
            return restore(said)
        return said[name] if _fits(component, said.get(name)) else gr.skip()

    def recall(*stored: Any) -> list[Any]:
        return [
            back(component, name, said)
            for form, said in zip(forms, stored, strict=True)
            for name, component in form.items()
        ]

    blocks.load(recall, states, fields, **QUIET)


def _fits(component: Component, value: Any) -> bool:
    """Whether a component can hold a value that a browser remembered, perhaps from an earlier version."""
    if isinstance(component, gr.Slider):
        return isinstance(value, int | float) and component.minimum <= value <= component.maximum
    if isinstance(component, gr.Dropdown | gr.Radio):
        return value in [choice for _, choice in component.choices]
    return isinstance(value, bool if isinstance(component, gr.Checkbox) else str)
