"""GeoTIFFs on the page and through the API: seen, read as a person says, translated, and given back on their grid."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo import provenance
from mmmrs_demo.request import TranslationRequest
from mmmrs_demo.ui import translate
from mmmrs_demo.ui.tile import Look, look
from tests.rasters import UTM, pattern, write
from tests.ui.fake import FREE
from tests.ui.test_page import bring, done, download, press, refused, several, tab, tile, unfold, upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui

NAMES = ("blue", "green", "red", "nir")


def optical(folder: Path, height: int = 64, width: int = 96, name: str = "fields.tif") -> Path:
    samples = pattern(4, height, width, low=200, high=4000).astype(np.uint16)
    samples[:, :8, :8] = 0
    return write(folder / name, samples, names=NAMES, nodata=0)


def radar(folder: Path, height: int = 64, width: int = 96) -> Path:
    samples = pattern(1, height, width, low=0.01, high=0.4).astype(np.float32)
    return write(folder / "radar.tif", samples, names=("VV",))


def drop(panel: Locator, file: Path) -> None:
    """Choose a raster, and wait for what is said of it."""
    panel.locator(".tile input[type=file]").set_input_files(file)
    expect(panel.locator(".block.raster")).to_contain_text("px")


def preview(panel: Locator) -> Locator:
    return panel.locator(".tile img")


def on_the_same_grid(made: Path, source: Path) -> None:
    with rasterio.open(made) as ours, rasterio.open(source) as theirs:
        assert (ours.crs, ours.transform, ours.shape) == (theirs.crs, UTM, theirs.shape)
        assert (ours.read_masks(1)[:8, :8] == 0).all()


def test_a_geotiff_is_seen_read_as_said_and_given_back(page: Page, server: Server, tmp_path: Path) -> None:
    file = optical(tmp_path)
    panel = tab(page, "RGB → SAR")
    drop(panel, file)
    expect(preview(panel)).to_have_js_property("naturalWidth", 96)
    expect(preview(panel)).to_have_attribute("src", re.compile(r"rgb-3-2-1\.png$"))
    note = panel.locator(".block.raster")
    expect(note).to_contain_text("96 × 64 px · 10 m per pixel · 4 bands")
    expect(note).to_contain_text("Bands 3, 2 and 1 are read as red, green and blue: by their names.")
    expect(note).to_contain_text("2nd to 98th percentile")
    bands = panel.get_by_label("Bands", exact=True)
    expect(bands).to_have_value("3, 2, 1")
    expect(panel.get_by_role("combobox", name="Ground sample distance")).to_have_value(re.compile("^Low"))

    bands.fill("4 3,2")
    bands.press("Enter")
    expect(note).to_contain_text("Bands 4, 3 and 2 are read as red, green and blue: as chosen.")
    expect(preview(panel)).to_have_attribute("src", re.compile(r"rgb-4-3-2\.png$"))

    server.engine.hold_after = 2
    press(panel, "Translate to SAR")
    expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
    server.engine.hold_after = FREE
    done(panel)
    for picture in panel.get_by_test_id("imageslider-image").all():
        expect(picture).to_have_js_property("naturalWidth", 96)
        expect(picture).to_have_js_property("naturalHeight", 64)
    made = download(page, panel, tmp_path / "down", "GeoTIFF")
    on_the_same_grid(made, file)
    read = provenance.read(made)
    request = server.engine.requests[0]
    assert isinstance(request, TranslationRequest)
    assert read.request == request
    assert request.prompt.gsd == "low"
    assert read.details["bands"] == [4, 3, 2]

    upload(panel, tile())  # a picture again: nothing is left of the raster
    expect(bands).to_be_hidden()
    expect(note).to_be_hidden()
    press(panel, "Translate to SAR")
    expect(panel.get_by_role("button", name="Download PNG", exact=True)).to_be_visible()


def test_a_jpeg_2000_has_a_button(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "fields.jp2"
    samples = pattern(3, 64, 96, high=255).astype(np.uint8)
    write(file, samples, driver="JP2OpenJPEG")
    panel = tab(page, "RGB → SAR")
    with page.expect_file_chooser() as chooser:
        press(panel, "Choose a GeoTIFF or JPEG 2000")
    chooser.value.set_files({"name": file.name, "mimeType": "", "buffer": file.read_bytes()})
    expect(panel.locator(".block.raster")).to_contain_text("3 bands")
    expect(preview(panel)).to_have_js_property("naturalWidth", 96)
    press(panel, "Translate to SAR")
    done(panel)
    with rasterio.open(download(page, panel, tmp_path / "down", "GeoTIFF")) as made:
        assert (made.driver, made.crs, made.transform) == ("GTiff", "EPSG:32636", UTM)


def left_by_scenes() -> set[Path]:
    """Return the folders of scenes that are not finished; those of people who may come back stay."""
    folders = Path(os.environ["GRADIO_TEMP_DIR"]).rglob(".mmmrs-*")
    return {folder for folder in folders if not folder.parent.name.startswith(".mmmrs-")}


def test_a_scene_counts_its_windows_and_goes_on_after_stop(page: Page, server: Server, tmp_path: Path) -> None:
    others = left_by_scenes()
    file = optical(tmp_path, 150, 300)
    panel = tab(page, "RGB → NIR")
    drop(panel, file)
    server.engine.hold_after = 5
    press(panel, "Translate to NIR")
    expect(panel.get_by_text(re.compile(r"Window 16 of \d+, about .* left"))).to_be_visible()
    press(panel, "Stop")
    expect(panel.get_by_text("“Translate to NIR” goes on where it was, as long as nothing is changed")).to_be_visible()
    server.engine.hold_after = 1
    press(panel, "Translate to NIR")
    expect(panel.get_by_text("Window 16 of")).to_be_visible()  # of two rows that were done, and a batch of four
    server.engine.hold_after = FREE
    done(panel)
    assert server.engine.stopped == 1
    assert left_by_scenes() == others
    expect(panel.locator(".block.facts")).to_contain_text(re.compile(r"\d+ windows · 300×150 px"))
    made = download(page, panel, tmp_path / "down", "GeoTIFF")
    on_the_same_grid(made, file)
    request = provenance.read(made).request
    assert request.scheduler == "euler-a"
    assert request.seed == server.engine.requests[0].seed != server.engine.requests[1].seed


def test_other_settings_begin_anew(page: Page, server: Server, tmp_path: Path) -> None:
    others = left_by_scenes()
    panel = tab(page, "RGB → NIR")
    drop(panel, optical(tmp_path, 150, 300))
    server.engine.hold_after = 5
    press(panel, "Translate to NIR")
    expect(panel.get_by_text("Window 16 of")).to_be_visible()
    press(panel, "Stop")
    expect(panel.get_by_text("goes on where it was")).to_be_visible()
    panel.get_by_label("Night").check()
    server.engine.hold_after = 1
    press(panel, "Translate to NIR")
    expect(panel.get_by_text("Window 4 of")).to_be_visible()
    assert len(left_by_scenes() - others) == 1
    server.engine.hold_after = FREE
    done(panel)


@pytest.mark.parametrize("size", [(300, 150), (32, 160)], ids=["large", "slim"])
def test_a_picture_too_large_or_too_long_is_a_scene_too(
    page: Page, server: Server, tmp_path: Path, size: tuple[int, int]
) -> None:
    panel = tab(page, "RGB → NIR")
    upload(panel, tile(size))
    press(panel, "Translate to NIR")
    done(panel)
    expect(panel.locator(".block.facts")).to_contain_text("windows")
    made = download(page, panel, tmp_path)
    assert provenance.read(made).request == server.engine.requests[0]
    with Image.open(made) as picture:
        assert picture.size == size


@pytest.mark.parametrize("later", ["raster", "picture"])
def test_the_later_of_two_uploads_wins(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str) -> None:
    begun, free = threading.Event(), threading.Event()

    def slow(file: Path, *said: Any) -> Look:
        begun.set()
        assert free.wait(60)
        return look(file, *said)

    monkeypatch.setattr(translate, "look", slow)
    panel = tab(page, "RGB → SAR")
    panel.locator(".tile input[type=file]").set_input_files(optical(tmp_path, name="first.tif"))
    assert begun.wait(60)
    panel.get_by_role("button", name="Remove Image").click()
    if later == "picture":
        upload(panel, tile())
        source = re.compile(r"tile\.png$")
    else:
        panel.locator(".tile input[type=file]").set_input_files(optical(tmp_path, 64, 128, "second.tif"))
        source = re.compile(r"second\.tif.preview-rgb-3-2-1\.png$")
        expect(preview(panel)).to_have_attribute("src", re.compile(r"second\.tif$"))
    free.set()
    expect(preview(panel)).to_have_attribute("src", source)
    note = panel.locator(".block.raster")
    if later == "picture":
        expect(note).to_be_hidden()
    else:
        expect(note).to_contain_text("128 × 64 px")
    expect(preview(panel)).to_have_attribute("src", source)


def test_samples_of_sar_can_be_said(page: Page, tmp_path: Path) -> None:
    panel = tab(page, "SAR → RGB")
    drop(panel, radar(tmp_path))
    note = panel.locator(".block.raster")
    expect(note).to_contain_text("Taken as power")
    expect(panel.get_by_label("Bands", exact=True)).to_be_hidden()
    panel.get_by_role("combobox", name="Samples are").click()
    panel.get_by_role("option", name="Amplitude").click()
    expect(note).to_contain_text("Taken as amplitude, as chosen.")
    press(panel, "Translate to RGB")
    done(panel)
    made = download(page, panel, tmp_path / "down", "GeoTIFF")
    assert provenance.read(made).details["stretch"]["decade"] == 20


def test_bands_that_nothing_tells_are_asked_for(page: Page, tmp_path: Path) -> None:
    file = write(tmp_path / "five.tif", pattern(5, 64, 96, high=255).astype(np.uint8))
    panel = tab(page, "RGB → SAR")
    drop(panel, file)
    note = panel.locator(".block.raster")
    expect(note).to_contain_text("nothing says which are red, green and blue")
    expect(preview(panel)).to_have_js_property("naturalWidth", 96)
    press(panel, "Translate to SAR")
    refused(page, "nothing says which are red, green and blue")
    bands = panel.get_by_label("Bands", exact=True)
    for said, sentence in (("red", "Bands should be numbers"), ("7", "has no band 7"), ("1, 2", "needs three bands")):
        bands.fill(said)
        bands.press("Enter")
        refused(page, sentence)
        expect(bands).to_have_value(said)
    bands.fill("3, 2, 1")
    bands.press("Enter")
    expect(note).to_contain_text("as chosen")
    press(panel, "Translate to SAR")
    done(panel)


def test_physical_units(page: Page, tmp_path: Path) -> None:
    panel = tab(page, "RGB → SAR")
    drop(panel, optical(tmp_path))
    panel.get_by_label("Physical units").check()
    press(panel, "Translate to SAR")
    done(panel)
    with rasterio.open(download(page, panel, tmp_path / "down", "GeoTIFF")) as made:
        assert (made.dtypes, made.units) == (("float32",), ("dB",))


@pytest.mark.parametrize(("size", "units"), [((64, 96), False), ((150, 300), True)], ids=["piece", "scene"])
def test_samples_of_a_raster_have_their_spread_in_its_last_band(
    page: Page, tmp_path: Path, size: tuple[int, int], units: bool
) -> None:
    file = optical(tmp_path, *size)
    panel = tab(page, "RGB → SAR")
    drop(panel, file)
    unfold(panel)
    several(panel, 2, seed=9)
    panel.get_by_label("Physical units").set_checked(units)
    panel.get_by_role("button", name="Compare with a real picture").click()
    bring(panel, radar(tmp_path, *size))
    press(panel, "Translate to SAR")
    done(panel)
    facts = panel.locator(".block.facts")
    expect(facts).to_contain_text("mean of 2 samples · seed 9")
    expect(facts).to_contain_text(re.compile(r"Beside “radar\.tif”: PSNR .* · SSIM .* · backscatter error .*dB"))
    expect(facts).to_contain_text("Reference: Band 1 is read as VV: by its name.")
    expect(panel.locator(".spread img")).to_have_js_property("naturalHeight", size[0])
    made = download(page, panel, tmp_path / "down", "GeoTIFF")
    on_the_same_grid(made, file)
    with rasterio.open(made) as opened:
        assert opened.descriptions == ("VV", "spread")
        apart = np.where(opened.read_masks(2) > 0, opened.read(2), 0)
    white = f"{float(f'{np.percentile(apart, 99):.2g}') or 1:g} {'dB' if units else 'of 255 levels'}"
    expect(panel.get_by_text(f"Spread: white is {white} or more")).to_be_visible()
    expect(panel.get_by_role("button", name="Download spread")).to_be_hidden()


def test_a_reference_elsewhere_is_refused_before_anything_is_made(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "RGB → NIR")
    drop(panel, optical(tmp_path))
    panel.get_by_role("button", name="Compare with a real picture").click()
    samples = pattern(1, 64, 96, low=200, high=4000).astype(np.uint16)
    moved = write(tmp_path / "a.tif", samples, names=("nir",), transform=UTM @ UTM.translation(3, 0))
    here = write(tmp_path / "b.tif", samples, names=("nir",))
    for name, content, sentence in (
        ("moved.tif", moved.read_bytes(), "up to 3.00 px away"),
        ("cut.tif", here.read_bytes()[:99], "damaged or cut short"),
        ("notes.txt", b"no picture", "not a picture"),
    ):
        (tmp_path / name).write_bytes(content)
        bring(panel, tmp_path / name)
        press(panel, "Translate to NIR")
        refused(page, f"“{re.escape(name)}” .*{sentence}")
        panel.locator(".reference").get_by_role("button", name="Clear").click()
    assert server.engine.requests == []


def test_a_broken_raster_is_refused_in_a_sentence(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "RGB → SAR")
    panel.get_by_label("Caption").fill("a satellite image shows an airport")
    whole = optical(tmp_path).read_bytes()
    for name, content in (("cut <b>.tif", whole[: len(whole) // 2]), ("false.tif", b"II*\0 and nothing else")):
        upload(panel, content, name)
        refused(page, "damaged or cut short")
        press(panel, "Translate to SAR")
        refused(page, "damaged or cut short")
        panel.get_by_role("button", name="Remove Image").click()
    expect(panel.get_by_label("Caption")).to_have_value("a satellite image shows an airport")
    expect(panel.locator(".block.raster")).to_be_hidden()
    assert server.engine.requests == []


def test_nothing_of_a_raster_sticks_out_at_phone_width(open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page(375, 800)
    panel = tab(page, "RGB → SAR")
    drop(panel, optical(tmp_path))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def client(server: Server, tmp_path: Path) -> Client:
    return Client(server.url, verbose=False, download_files=str(tmp_path / "down"))


@pytest.mark.parametrize("size", [(64, 96), (150, 300)], ids=["piece", "scene"])
def test_a_program_gets_a_geotiff_for_a_geotiff(client: Client, tmp_path: Path, size: tuple[int, int]) -> None:
    file = optical(tmp_path, *size)
    said = {"translation": "rgb2sar", "image": handle_file(file), "api_name": "/translate"}
    made = client.predict(**said)
    on_the_same_grid(made, file)
    assert provenance.read(made).details["bands"] == [3, 2, 1]
    made = client.predict(**said, bands=[4, 3, 2], units=True)
    assert provenance.read(made).details["bands"] == [4, 3, 2]
    with rasterio.open(made) as opened:
        assert opened.units == ("dB",)
    with rasterio.open(client.predict(**said, samples=2)) as opened:
        assert opened.descriptions == ("VV", "spread")
    for wrong, sentence in (({"bands": [9, 3, 2]}, "no band 9"), ({"sar_as": "dB"}, "a measure of SAR")):
        with pytest.raises(AppError, match=sentence):
            client.predict(**said, **wrong)
    with pytest.raises(AppError, match="Samples of SAR are dB, power, amplitude"):
        client.predict(**said, sar_as="sigma")
