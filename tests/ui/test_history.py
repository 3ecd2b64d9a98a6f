"""What was made before, and what goes on without a page: seen again, made again, deleted, taken along, sent on."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rasterio
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo import provenance
from mmmrs_demo.request import TextRequest, TranslationRequest
from mmmrs_demo.ui.visits import _VISITS
from tests.ui.fake import FREE
from tests.ui.test_page import done, download, generate, press, tab, tile, unfold, upload
from tests.ui.test_rasters import drop, on_the_same_grid, optical

if TYPE_CHECKING:
    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui


def leave(page: Page) -> None:
    """Close the page, and wait until the server has noticed."""
    page.goto("about:blank")
    while not all(one.alone for visits in _VISITS.values() for one in visits._on_its_way):
        page.wait_for_timeout(50)


def history(page: Page, count: int) -> Locator:
    """Open the fold and return it, once it has so many results."""
    fold = page.locator(".history")
    button = fold.get_by_role("button", name=f"History ({count})")
    expect(button).to_be_visible()
    if not fold.get_by_role("button", name="Zip all").is_visible():
        button.click()
    expect(fold.get_by_role("button", name=re.compile("Thumbnail"))).to_have_count(count)
    return fold


def pick(fold: Locator, number: int) -> None:
    fold.get_by_role("button", name=f"Thumbnail {number} of").click()
    expect(fold.get_by_role("button", name="Open", exact=True)).to_be_enabled()


def make_two(page: Page, server: Server) -> None:
    """Make a picture from words with the seed 7, and a translation."""
    panel = tab(page, "Generate")
    panel.get_by_label("Caption").fill("a <b>harbour</b>")
    unfold(panel)
    panel.get_by_label("Seed", exact=True).fill("7")
    generate(panel, server)
    panel = tab(page, "RGB → NIR")
    upload(panel, tile())
    press(panel, "Translate to NIR")
    done(panel)


def test_earlier_results_can_be_seen_and_made_again(returning: Page, server: Server, tmp_path: Path) -> None:
    expect(returning.locator(".history")).to_be_hidden()
    make_two(returning, server)
    first = server.engine.requests[0]
    panel = tab(returning, "Generate")
    made = download(returning, panel, tmp_path).read_bytes()
    panel.get_by_label("Caption").fill("something else")
    returning.reload()
    panel = tab(returning, "Generate")
    expect(panel.locator(".block.facts")).to_be_hidden()

    fold = history(returning, 2)
    expect(fold.get_by_text("Generate · seed 7")).to_be_visible()
    tab(returning, "SAR → RGB")
    pick(fold, 2)
    press(fold, "Open")
    expect(panel.locator(".block.facts")).to_contain_text("seed 7")
    assert download(returning, panel, tmp_path).read_bytes() == made

    press(fold, "Use these settings")
    expect(panel.get_by_label("Caption")).to_have_value("a <b>harbour</b>")
    unfold(panel)
    expect(panel.get_by_label("Seed", exact=True)).to_have_value("7")
    generate(panel, server)
    assert server.engine.requests[-1] == first
    history(returning, 3)

    pick(fold, 2)
    press(fold, "Open")
    panel = returning.get_by_role("tabpanel").filter(visible=True)
    expect(panel.get_by_text("Translate to NIR")).to_be_visible()
    expect(panel.get_by_test_id("imageslider-image")).to_have_count(2)
    expect(panel.locator(".block.facts")).to_contain_text("96×64 px")


def test_results_are_deleted_and_taken_along(page: Page, server: Server, tmp_path: Path) -> None:
    make_two(page, server)
    fold = history(page, 2)
    press(fold, "Zip all")
    with page.expect_download() as zipped:
        press(fold, "Download zip")
    with zipfile.ZipFile(zipped.value.path()) as archive:
        archive.extractall(tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert [name[:3] for name in names] == ["01_", "02_"]
    assert [provenance.read(tmp_path / name).request for name in names] == server.engine.requests

    panel = tab(page, "RGB → NIR")
    with page.expect_download() as download:
        press(panel, "Download PNG")
    address = download.value.url
    pick(fold, 1)
    press(fold, "Delete")
    history(page, 1)
    expect(fold.get_by_role("button", name="Open", exact=True)).to_be_disabled()
    assert page.request.get(address).status == 403
    pick(fold, 1)
    press(fold, "Delete")
    expect(fold).to_be_hidden()


def test_a_run_goes_on_while_its_page_is_loaded_anew(returning: Page, server: Server) -> None:
    server.engine.hold_after = 2
    panel = tab(returning, "RGB → NIR")
    upload(panel, tile())
    press(panel, "Translate to NIR")
    expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
    returning.reload()
    panel = returning.get_by_role("tabpanel").filter(visible=True)
    expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
    expect(panel.get_by_role("button", name="Translate to NIR", exact=True)).to_be_hidden()
    server.engine.hold_after = FREE
    done(panel)
    expect(panel.get_by_role("button", name="Translate to NIR", exact=True)).to_be_visible()
    expect(panel.get_by_test_id("imageslider-image")).to_have_count(2)
    history(returning, 1)
    assert (len(server.engine.requests), server.engine.stopped) == (1, 0)


def test_what_was_finished_without_a_page_is_there_when_one_comes_back(returning: Page, server: Server) -> None:
    server.engine.hold_after = 2
    panel = tab(returning, "Generate")
    press(panel, "Generate")
    expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
    leave(returning)
    server.engine.hold_after = FREE
    returning.goto(server.url)
    panel = tab(returning, "Generate")
    done(panel)
    expect(panel.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    history(returning, 1)


def test_stop_stops_after_coming_back(returning: Page, server: Server) -> None:
    server.engine.hold_after = 2
    panel = tab(returning, "Generate")
    press(panel, "Generate")
    expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
    returning.reload()
    expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
    press(panel, "Stop")
    expect(panel.get_by_text("Stopped.")).to_be_visible()
    expect(panel.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    assert server.engine.stopped == 1
    server.engine.hold_after = FREE
    generate(panel, server)
    history(returning, 1)


def test_only_one_run_goes_on_alone(returning: Page, server: Server) -> None:
    server.engine.hold_after = 2
    panel = tab(returning, "Generate")
    press(panel, "Generate")
    expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
    panel = tab(returning, "RGB → NIR")
    upload(panel, tile())
    press(panel, "Translate to NIR")
    expect(panel.get_by_text("Waiting for its turn: 1 before you")).to_be_visible()
    leave(returning)
    server.engine.hold_after = FREE
    returning.goto(server.url)
    done(tab(returning, "Generate"))
    history(returning, 1)
    assert [type(request) for request in server.engine.requests] == [TextRequest]


def test_what_was_stopped_goes_on_after_the_page_was_loaded_anew(
    returning: Page, server: Server, tmp_path: Path
) -> None:
    file = optical(tmp_path, 150, 300)
    for hold, words in ((5, "Window 16 of"), (1, "Window 16 of")):
        panel = tab(returning, "RGB → NIR")
        drop(panel, file)
        server.engine.hold_after = hold
        press(panel, "Translate to NIR")
        expect(panel.get_by_text(words)).to_be_visible()
        press(panel, "Stop")
        expect(panel.get_by_text("goes on where it was")).to_be_visible()
        returning.reload()


def test_a_picture_is_sent_to_the_tabs_that_take_it(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "Generate")
    expect(panel.get_by_role("button", name="Send to RGB → SAR")).to_be_hidden()
    generate(panel, server)
    made = download(page, panel, tmp_path)
    press(panel, "Send to RGB → SAR")
    panel = page.get_by_role("tabpanel").filter(visible=True)
    expect(panel.locator(".tile img")).to_have_js_property("naturalWidth", 64)
    press(panel, "Translate to SAR")
    done(panel)
    with Image.open(made) as picture:
        expected = server.engine.run(server.engine.requests[-1], picture.convert("RGB")).image
    sar = download(page, panel, tmp_path / "sar")
    with Image.open(sar) as picture:
        assert list(picture.getdata()) == list(expected.getdata())
    press(panel, "Send to SAR → RGB")
    panel = page.get_by_role("tabpanel").filter(visible=True)
    expect(panel.get_by_text("Translate to RGB")).to_be_visible()
    expect(panel.locator(".tile img")).to_have_js_property("naturalWidth", 64)


def test_a_geotiff_is_sent_as_it_is(page: Page, tmp_path: Path) -> None:
    file = optical(tmp_path)
    panel = tab(page, "RGB → NIR")
    drop(panel, file)
    press(panel, "Translate to NIR")
    done(panel)
    press(panel, "Send to NIR → RGB")
    panel = page.get_by_role("tabpanel").filter(visible=True)
    expect(panel.locator(".block.raster")).to_contain_text("96 × 64 px · 10 m per pixel · 1 band")
    expect(panel.locator(".tile img")).to_have_js_property("naturalWidth", 96)
    press(panel, "Translate to RGB")
    done(panel)
    made = download(page, panel, tmp_path / "down", "GeoTIFF")
    on_the_same_grid(made, file)
    with rasterio.open(made) as picture:
        assert picture.count == 3
    request = provenance.read(made).request
    assert isinstance(request, TranslationRequest)
    assert request.translation == "nir2rgb"


def test_the_settings_are_there_as_text(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "Generate")
    generate(panel, server)
    panel.get_by_role("button", name="Settings as text").click()
    with Image.open(download(page, panel, tmp_path)) as picture:
        expect(panel.locator(".written textarea")).to_have_value(picture.info["parameters"])


def lose_connections(page: Page) -> None:
    """Drop all connections, as a proxy does when it starts anew, or a phone that goes from one network to another."""
    for blocks in _VISITS:
        server = blocks.server
        for connection in list(server.server_state.connections):
            connection.loop.call_soon_threadsafe(connection.transport.abort)
    page.wait_for_timeout(100)


@pytest.mark.parametrize("offline", [False, True])
def test_a_lost_connection_is_found_again(returning: Page, server: Server, *, offline: bool) -> None:
    server.engine.hold_after = 2
    panel = tab(returning, "Generate")
    press(panel, "Generate")
    expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
    returning.context.set_offline(offline)
    lose_connections(returning)
    if offline:
        expect(returning.get_by_text("Connection to the server was lost")).to_be_visible()
        returning.context.set_offline(offline=False)
    server.engine.hold_after = 5
    expect(panel.get_by_text("Step 5 of 8")).to_be_visible()
    expect(panel.get_by_role("button", name="Generate", exact=True)).to_be_hidden()
    server.engine.hold_after = FREE
    done(panel)
    expect(panel.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    history(returning, 1)
    assert (len(server.engine.requests), server.engine.stopped) == (1, 0)
