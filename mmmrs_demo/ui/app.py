"""The page, put together: what is said at its head, its tabs, and how it is served."""

from __future__ import annotations

import logging
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.ui import zerogpu
from mmmrs_demo.ui.about import about_tab
from mmmrs_demo.ui.api import add_endpoints
from mmmrs_demo.ui.compare import compare_tab
from mmmrs_demo.ui.generate import generate_tab
from mmmrs_demo.ui.history import history
from mmmrs_demo.ui.language import localize, translations
from mmmrs_demo.ui.load import load_settings, remember_forms
from mmmrs_demo.ui.page import TEXT, TITLE, Page
from mmmrs_demo.ui.run import stop_all
from mmmrs_demo.ui.send import connect_sending
from mmmrs_demo.ui.translate import translate_tab
from mmmrs_demo.ui.visits import Visits

if TYPE_CHECKING:
    from mmmrs_demo.catalog import Catalog
    from mmmrs_demo.settings import Settings
    from mmmrs_demo.ui.run import EngineLike

# The fonts are the system's, so that nothing is fetched; words stand out from what is behind them by 4.5 : 1 at least.
_THEME = gr.themes.Default(
    primary_hue="teal",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    body_text_color_subdued="*neutral_500",
    color_accent="*primary_700",
    link_text_color_dark="*secondary_400",
    link_text_color_visited_dark="*secondary_400",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
)

_KEEP_FOCUS = """() => {
    let left, place;
    document.addEventListener("focusin", event => {
        left = event.target.closest("button:is(.primary, .stop)");
        place = left?.parentElement;
    });
    new MutationObserver(() => {
        if (left?.isConnected === false && document.activeElement === document.body)
            place.querySelector(":scope > button:is(.primary, .stop)")?.focus();
    }).observe(document.body, {childList: true, subtree: true});
}"""
"""In the browser: when the button that starts a run and Stop change places, who was on one is on the other."""

_CACHE = (3600, 86400)  # every hour, files older than a day are deleted

_THREADS = 40  # that answer what runs no model

_log = logging.getLogger(__name__)


def create_app(engine: EngineLike, catalog: Catalog, settings: Settings) -> gr.Blocks:
    """Build the page. No weights are loaded, and torch is not imported."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=_CACHE) as blocks:
        page = Page(engine, catalog, settings)
        Visits.here()  # laid out outside of the tabs, which come into being when they are opened
        with gr.Tabs() as tabs:
            with gr.Tab("Generate", id=TEXT):
                generate_tab(page)
            for translation in TRANSLATIONS.values():
                with gr.Tab(translation.title, id=translation.key):
                    translate_tab(page, translation)
            with gr.Tab("Compare", id="compare"):
                compare_tab(page)
            with gr.Tab("About") as about:
                about_tab(page, about)
        connect_sending(tabs)
        history(page, blocks, tabs)
        load_settings(page, tabs)
        remember_forms(page, blocks)
        add_endpoints(page)
    localize(blocks)
    return blocks.queue(max_size=settings.queue_size)


def launch_options(settings: Settings) -> dict[str, Any]:
    """Return what the page needs of ``launch()``: its looks, its limits and who may see it.

    Raises:
        UserError: The settings do not say who may, or ask for tools whose package is not installed.
    """
    if settings.mcp and find_spec("mcp") is None:
        raise UserError("MMMRS_MCP needs the package mcp: install it with pip install 'mmmrs-demo[mcp]'.")
    if settings.mcp and settings.auth.get_secret_value():
        raise UserError("MMMRS_MCP and MMMRS_AUTH do not go together, for tools cannot log in: leave one of them out.")
    return {
        "mcp_server": settings.mcp,
        "auth": _auth(settings),
        "theme": _THEME,
        "js": _KEEP_FOCUS,
        "css_paths": Path(__file__).with_name("style.css"),
        "footer_links": ["api", "settings"],
        "i18n": translations(),
        "max_file_size": max(
            settings.max_bytes, settings.max_scene_bytes
        ),  # what is too much of each is said by its reader
        "max_threads": settings.queue_size + _THREADS,  # all who wait are told so, and the page answers beside that
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
    options = launch_options(settings)
    lent = zerogpu.keep(engine)
    if lent:  # a child gets what is loaded now, on this thread, and would have to load again what came later
        _warm_up(engine, settings.bundle)
    blocks.launch(**options, **launch, prevent_thread_lock=True)
    if not lent:
        threading.Thread(target=_warm_up, args=(engine, settings.bundle), daemon=True).start()
    blocks.block_thread()
    stop_all()


def _auth(settings: Settings) -> tuple[str, str] | None:
    said = settings.auth.get_secret_value()
    user, _, password = said.partition(":")
    if said and not (user and password):
        raise UserError("MMMRS_AUTH should be a user and a password with a colon in between, such as maria:secret.")
    return (user, password) if said else None


def _warm_up(engine: EngineLike, bundle: str) -> None:
    try:
        engine.load(bundle)
    except UserError as error:  # the page says the same where it matters
        _log.warning("%s", error)
