"""What the tabs share: the engine, the limits, and the bundle in use with what there is to say about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import gradio as gr

from mmmrs_demo.catalog import BASE, LORA, Bundle, Catalog, part_title
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.request import TextRequest, TranslationRequest
from mmmrs_demo.ui.language import both, marked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradio.components import Component

    from mmmrs_demo.settings import Settings
    from mmmrs_demo.ui.run import EngineLike

TITLE = "MMM-RS Demo"
TEXT = "text"
"""Id of the tab for words; those of the translations have their keys."""

_PURPOSE = (
    "Synthetic satellite images from words, and tiles of one sensor rendered as another's, "
    "after the [MMM-RS paper](https://arxiv.org/abs/2410.22362)."
)

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Arguments of the events that keep the page in order: they run no model, and are of no use to a program."""


class Page:
    """Build it inside a `gr.Blocks`, where it lays out the head of the page with the choice of a bundle.

    Attributes:
        engine: Runs the requests.
        catalog: The bundles.
        settings: Limits, and the bundle that is chosen at first.
        bundle: Holds the key of the chosen bundle; hidden where there is only one.
        memory: Holds the same in the browser.
        corner: Place beneath the head for what all tabs share.
        forms: Of each tab that makes pictures, by its id: components by name, as `controls.form_values` calls them.
        restores: How a component comes back that hangs on others: given what its form said, its update.
    """

    def __init__(self, engine: EngineLike, catalog: Catalog, settings: Settings) -> None:
        self.engine = engine
        self.catalog = catalog
        self.settings = settings
        self.forms: dict[Any, dict[str, Component]] = {}
        self.restores: dict[Component, Callable[[dict[str, Any]], Any]] = {}
        bundles = catalog.bundles
        with gr.Row(elem_classes="head"):
            with gr.Column(scale=2, min_width=320):
                gr.Markdown(f"# {TITLE}\n{marked(_PURPOSE)}")
            with gr.Column(scale=1, min_width=320):
                self.bundle = gr.Dropdown(
                    [(one.title, one.key) for one in bundles.values()],
                    value=settings.bundle,
                    label="Model",
                    filterable=False,
                    visible=len(bundles) > 1,
                )
        self.memory = remembered("page", {"bundle": self.bundle})
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                described = gr.Markdown(_description(self.first), elem_classes="about")
            with gr.Column(scale=1, min_width=320) as self.corner:
                pass
        self.bundle.change(lambda key: _description(catalog.bundle(key)), self.bundle, described, **QUIET)

    @property
    def first(self) -> Bundle:
        """The bundle that is chosen when the page opens."""
        return self.catalog.bundle(self.settings.bundle)

    def absences(self, *parts: str) -> None:
        """Lay out a note on those of `parts` that the chosen bundle lacks: what to do about each."""
        note = gr.Markdown(visible=False, elem_classes="note")

        def look(key: str) -> dict[str, Any]:
            try:
                said = _absences(self.catalog, self.catalog.bundle(key), parts)
            except UserError as error:
                said = str(error)
            return gr.update(value=said, visible=bool(said))

        gr.on(None, look, self.bundle, note, **QUIET)  # on load, and when another bundle is chosen

    def follow_defaults(self, fields: dict[str, Component], translation: str | None) -> None:
        """Set `fields` to the defaults of a bundle when a person chooses it; what they set themselves stays."""
        usual = [defaults(bundle, translation) for bundle in self.catalog.bundles.values()]

        def follow(key: str, *values: Any) -> list[Any]:
            own = defaults(self.catalog.bundle(key), translation)
            untouched = (value in [one[name] for one in usual] for name, value in zip(own, values, strict=True))
            return [own[name] if free else gr.skip() for name, free in zip(own, untouched, strict=True)]

        moved = [fields[name] for name in usual[0]]
        self.bundle.input(follow, [self.bundle, *moved], moved, **QUIET)


def thumbnails(label: str, pictures: Sequence[tuple[str, str]] = (), **more: Any) -> gr.Gallery:
    """Lay out small pictures, of which one can be chosen; given are their paths and captions."""
    return gr.Gallery(
        list(pictures),
        label=label,
        fit_columns=False,
        height="auto",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_classes="thumbnails",
        **more,
    )


def remembered(key: str, form: dict[str, Component]) -> gr.BrowserState:
    """Keep what a form says in the browser, by name; nothing of it goes to the server.

    The events of a component are answered one after another, so it is kept sooner the earlier this is called.
    """
    together = f"(...values) => Object.fromEntries({json.dumps(list(form))}.map((name, at) => [name, values[at]]))"
    state = gr.BrowserState(None, storage_key=f"mmmrs-form-{key}", secret="mmmrs")  # noqa: S106 - nobody's secret
    changes = [cast("Any", component).change for component in form.values()]
    gr.on(changes, None, list(form.values()), state, js=together)
    return state


def defaults(bundle: Bundle, translation: str | None = None) -> dict[str, Any]:
    """Return what a bundle does where a request says nothing, by field; for text, or for a translation."""
    asked = TranslationRequest(translation=translation) if translation else TextRequest()
    complete = bundle.complete(asked).model_dump()
    tunable = ("steps", "guidance", "scheduler", "lora_scale", "controlnet_scale", "width", "height")
    return {field: complete[field] for field in tunable if field in complete}


def _description(bundle: Bundle) -> str:
    always = both("Licence: {}. Every picture made here is synthetic.", bundle.licence)
    return f"**{bundle.title}** · {bundle.summary} {always.html}"


def _absences(catalog: Catalog, bundle: Bundle, parts: tuple[str, ...]) -> str:
    here = {part: row.present for part, row in zip((BASE, LORA, *TRANSLATIONS), catalog.status(bundle), strict=True)}
    said = []
    for part in parts:
        location = catalog.locate(bundle, part)
        if location.kind == "hub" and not here[part]:
            fetched = "The {} will be fetched from the Hub at the first run: {}."
            said.append(both(fetched, both(part_title(part)), location.where).html)
        said.append(location.hint)
    return "\n\n".join(filter(None, said))
