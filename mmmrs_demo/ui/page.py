"""What the tabs share: the engine, the limits, and the bundle in use with what there is to say about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.catalog import BASE, LORA, Bundle, Catalog, part_title
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.request import TextRequest, TranslationRequest

if TYPE_CHECKING:
    from gradio.components import Component

    from mmmrs_demo.settings import Settings
    from mmmrs_demo.ui.run import EngineLike

TITLE = "MMM-RS Demo"
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
    """

    def __init__(self, engine: EngineLike, catalog: Catalog, settings: Settings) -> None:
        self.engine = engine
        self.catalog = catalog
        self.settings = settings
        bundles = catalog.bundles
        with gr.Row(elem_classes="head"):
            with gr.Column(scale=2, min_width=320):
                gr.Markdown(f"# {TITLE}\n{_PURPOSE}")
            with gr.Column(scale=1, min_width=320):
                self.bundle = gr.Dropdown(
                    [(one.title, one.key) for one in bundles.values()],
                    value=settings.bundle,
                    label="Model",
                    filterable=False,
                    visible=len(bundles) > 1,
                )
        described = gr.Markdown(_description(self.first), elem_classes="about")
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
        """Set `fields` to the defaults of a bundle whenever another one is chosen."""
        self.bundle.change(
            lambda key: list(defaults(self.catalog.bundle(key), translation).values()),
            self.bundle,
            [fields[name] for name in defaults(self.first, translation)],
            **QUIET,
        )


def defaults(bundle: Bundle, translation: str | None = None) -> dict[str, Any]:
    """Return what a bundle does where a request says nothing, by field; for text, or for a translation."""
    asked = TranslationRequest(translation=translation) if translation else TextRequest()
    complete = bundle.complete(asked).model_dump()
    tunable = ("steps", "guidance", "scheduler", "lora_scale", "controlnet_scale", "width", "height")
    return {field: complete[field] for field in tunable if field in complete}


def _description(bundle: Bundle) -> str:
    return f"**{bundle.title}** · {bundle.summary} Licence: {bundle.licence}. Every picture made here is synthetic."


def _absences(catalog: Catalog, bundle: Bundle, parts: tuple[str, ...]) -> str:
    here = {part: row.present for part, row in zip((BASE, LORA, *TRANSLATIONS), catalog.status(bundle), strict=True)}
    said = []
    for part in parts:
        location = catalog.locate(bundle, part)
        if location.kind == "hub" and not here[part]:
            said.append(f"The {part_title(part)} will be fetched from the Hub at the first run: {location.where}.")
        said.append(location.hint)
    return "\n\n".join(filter(None, said))
