"""A page with a fake engine behind it, a real browser before it, and a watch on what neither should do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.settings import Settings
from mmmrs_demo.ui import translate
from mmmrs_demo.ui.app import create_app, launch_options
from tests.browser import find
from tests.ui.fake import FREE, FakeEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = (
    120_000  # milliseconds, for a machine that is busy with other things; nothing waits that long where all is well
)

CATALOG = """
[small]
title = "Small"
summary = "Trained on nothing at all."
licence = "CC0-1.0"
card = "small.md"
size = 64
base = { path = "small" }
lora = { path = "small/lora" }
defaults = { steps = 8, guidance = 4.0, scheduler = "dpm++2m-karras" }
[small.controlnets]
rgb2sar = { path = "small/controlnet/rgb2sar" }
rgb2nir = { path = "small/controlnet/rgb2nir" }
sar2rgb = { path = "small/controlnet/sar2rgb" }
nir2rgb = { path = "small/controlnet/nir2rgb" }

[large]
title = "Large"
summary = "Somebody else's."
licence = "OpenRAIL"
card = "large.md"
size = 128
base = { path = "large" }
lora = { path = "large/lora" }
defaults = { steps = 30, guidance = 7.5, scheduler = "ddim" }
"""

expect.set_options(timeout=PATIENCE)


@dataclass
class Server:
    """A page that is being served."""

    url: str
    engine: FakeEngine


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings with a catalog of two bundles: one whose files are all there, and one that has none."""
    weights = tmp_path_factory.mktemp("weights")
    (weights / "catalog.toml").write_text(CATALOG)
    marks = ["model_index.json", "unet/config.json", "lora/pytorch_lora_weights.safetensors"]
    marks += [f"controlnet/{key}/config.json" for key in TRANSLATIONS]
    for mark in marks:
        file = weights / "small" / mark
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    return Settings(weights=weights, bundle="small")


@pytest.fixture(scope="session")
def running(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    examples = tmp_path_factory.mktemp("examples")
    Image.linear_gradient("L").convert("RGB").save(examples / "rgb_slope.png")
    catalog = Catalog.load(settings.weights)
    engine = FakeEngine(catalog, settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translate, "_EXAMPLES", examples)
        app = create_app(engine, catalog, settings)
    _, url, _ = app.launch(**launch_options(settings), prevent_thread_lock=True, quiet=True)
    yield Server(url, engine)
    app.close()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The page, as if just started; whatever a test left running ends with it."""
    running.engine.requests.clear()
    running.engine.stopped = 0
    yield running
    running.engine.hold_after, running.engine.batch = FREE, 1


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("There is no Chromium for the browser tests; `make test` says how to get one.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(server: Server, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages; when the test is over, none may have logged an error or asked for anything outside."""
    contexts = []
    wrong: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((server.url, "data:", "blob:")):
            wrong.append(f"asked for {request.url}")

    def open_one(width: int = 1280, height: int = 900, query: str = "") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", asked)
        page.goto(server.url + query)
        expect(page.get_by_role("button", name="Generate", exact=True)).to_be_visible()
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


@pytest.fixture
def returning(server: Server, browser: Browser) -> Iterator[Page]:
    """A page that is left and loaded anew, for which Gradio's client complains in the console of what it lost."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(server.url)
    expect(page.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    yield page
    context.close()
