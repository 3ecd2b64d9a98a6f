"""The page, put together: what is said at its head, its tabs, and how it is served."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.ui.api import add_endpoints
from mmmrs_demo.ui.generate import generate_tab
from mmmrs_demo.ui.page import TITLE, Page
from mmmrs_demo.ui.translate import translate_tab

if TYPE_CHECKING:
    from mmmrs_demo.catalog import Catalog
    from mmmrs_demo.settings import Settings
    from mmmrs_demo.ui.run import EngineLike

# The fonts are the system's, so that nothing is fetched; the button's colours are dark enough for white letters.
_THEME = gr.themes.Default(
    primary_hue="teal",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    body_text_color_subdued="*neutral_500",
    color_accent="*primary_600",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_600",
)

_CACHE = (3600, 86400)  # every hour, files older than a day are deleted

_log = logging.getLogger(__name__)


def create_app(engine: EngineLike, catalog: Catalog, settings: Settings) -> gr.Blocks:
    """Build the page. No weights are loaded, and torch is not imported."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=_CACHE) as blocks:
        page = Page(engine, catalog, settings)
        with gr.Tabs():
            with gr.Tab("Generate"):
                generate_tab(page)
            for translation in TRANSLATIONS.values():
                with gr.Tab(translation.title):
                    translate_tab(page, translation)
        add_endpoints(page)
    return blocks.queue(max_size=settings.queue_size)


def launch_options(settings: Settings) -> dict[str, Any]:
    """Return what the page needs of ``launch()``: its looks and its limits."""
    return {
        "theme": _THEME,
        "css_paths": Path(__file__).with_name("style.css"),
        "footer_links": ["api", "settings"],
        "max_file_size": max(
            settings.max_bytes, settings.max_scene_bytes
        ),  # what is too much of each is said by its reader
        "run_history": False,
        "enable_monitoring": False,
    }


def serve(engine: EngineLike, catalog: Catalog, settings: Settings, **launch: Any) -> None:
    """Serve the page until the program is stopped; the bundle in use is loaded once the page answers.

    Args:
        engine: Runs the requests.
        catalog: The bundles to choose from.
        settings: Limits, and the bundle to load.
        launch: More arguments of `gr.Blocks.launch`, such as `server_port`.
    """
    blocks = create_app(engine, catalog, settings)
    blocks.launch(**launch_options(settings), **launch, prevent_thread_lock=True)
    threading.Thread(target=_warm_up, args=(engine, settings.bundle), daemon=True).start()
    blocks.block_thread()


def _warm_up(engine: EngineLike, bundle: str) -> None:
    try:
        engine.load(bundle)
    except UserError as error:  # the page says the same where it matters
        _log.warning("%s", error)
