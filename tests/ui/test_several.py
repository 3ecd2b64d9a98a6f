"""Many files in, one zip out: loose ones and zips, honest and hostile, stopped and gone on with."""

from __future__ import annotations

import csv
import json
import os
import re
import zipfile
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rasterio
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo.provenance import read
from mmmrs_demo.request import TranslationRequest
from tests.ui.fake import FREE
from tests.ui.test_page import press, refused, several, tab, tile, unfold
from tests.ui.test_rasters import optical

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui

ALL = "Translate all to SAR"


@pytest.fixture
def panel(page: Page) -> Locator:
    return fold(page)


def fold(page: Page) -> Locator:
    panel = tab(page, "RGB → SAR")
    expect(panel.get_by_role("button", name=ALL)).to_be_hidden()
    panel.get_by_role("button", name="Several files").click()
    expect(panel.get_by_role("button", name=ALL)).to_be_visible()
    return panel


def choose(panel: Locator, *files: Path) -> None:
    """Choose files for the fold, and wait until they are uploaded."""
    panel.locator(".several input[type=file]").set_input_files(files)
    expect(panel.locator(".several .file-preview tr")).to_have_count(len(files))


def png(size: tuple[int, int] = (96, 64)) -> bytes:
    data = BytesIO()
    tile(size).save(data, "PNG")
    return data.getvalue()


def zipped(folder: Path, contents: dict[str, bytes]) -> Path:
    file = folder / "tiles.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file


def unpacked(page: Page, panel: Locator, folder: Path) -> dict[str, Path]:
    """Take the result and return its files by name."""
    with page.expect_download() as download:
        press(panel, "Download zip")
    assert download.value.suggested_filename == "mmmrs_rgb2sar.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(folder)
    return {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}


def nothing_is_left() -> bool:
    inside = Path(os.environ["GRADIO_TEMP_DIR"]).glob("mmmrs-*/*/*/*")
    return not [file for file in inside if file.name in ("in", "out")]


def test_a_zip_comes_back_as_a_zip(page: Page, panel: Locator, server: Server, tmp_path: Path) -> None:
    file = zipped(
        tmp_path,
        {
            "a.png": png(),
            "a.pgw": b"10\n0\n0\n-10\n500005\n3999995\n",
            "north/fields.tif": optical(tmp_path, 150, 300).read_bytes(),
            "north/cut.png": png()[:100],
            "notes <b>.txt": b"no picture",
            "__MACOSX/._a.png": b"x",
        },
    )
    unfold(panel)
    several(panel, 2, seed=7)
    choose(panel, file)
    server.engine.hold_after = 9
    press(panel, ALL)
    progress = r"File 3 of 3: “fields\.tif”, window \d+ of \d+, about [\d.]+ s left"
    expect(panel.get_by_text(re.compile(progress))).to_be_visible()
    server.engine.hold_after = FREE
    outcome = panel.locator(".block.outcome")
    expect(outcome).to_contain_text("2 translated, 1 failed.")
    expect(outcome).to_contain_text("north: “cut.png” is damaged or cut short: download or save it again.")
    expect(outcome).to_contain_text("Passed over, as hidden or no picture: “notes <b>.txt”, “._a.png”.")
    made = unpacked(page, panel, tmp_path / "out")
    spread = {"a_spread.png", "a_spread.pgw"}
    assert set(made) == {"a.png", "a.pgw", *spread, "north/fields.tif", "manifest.csv", "manifest.json"}
    for name, shape in (("a.png", (1, 64, 96)), ("a_spread.png", (1, 64, 96)), ("north/fields.tif", (2, 150, 300))):
        request = read(made[name]).request
        assert isinstance(request, TranslationRequest)
        assert (request.seed, request.samples) == (7, 2)
        with rasterio.open(made[name]) as picture:
            assert (picture.count, *picture.shape) == shape
    rows = {row["input"]: row for row in csv.DictReader(StringIO(made["manifest.csv"].read_text()))}
    assert set(rows) == {"a.png", "north/fields.tif", "north/cut.png"}
    assert "damaged" in rows["north/cut.png"]["error"]
    assert os.environ["GRADIO_TEMP_DIR"] not in made["manifest.json"].read_text()
    assert nothing_is_left()


def test_stop_gives_what_is_done_and_the_same_again_goes_on(
    page: Page, panel: Locator, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    files = [tmp_path / "in" / name for name in ("a.png", "b (1).png", "d.png", "notes.txt")]
    for file in files:
        file.write_bytes(png() if file.suffix == ".png" else b"no picture")
    choose(panel, *files, optical(tmp_path / "in", 150, 300, "c.tif"))
    server.engine.hold_after = 8
    press(panel, ALL)
    expect(panel.get_by_text("File 3 of 4: “c.tif”, window 24 of")).to_be_visible()
    press(panel, "Stop")
    expect(panel.get_by_text(f"“{ALL}” goes on where it was, as long as nothing is changed.")).to_be_visible()
    outcome = panel.locator(".block.outcome")
    expect(outcome).to_contain_text("2 translated.")
    first = unpacked(page, panel, tmp_path / "first")
    assert set(first) == {"a.png", "b (1).png", "manifest.csv", "manifest.json"}

    server.engine.hold_after = 1
    press(panel, ALL)
    expect(panel.get_by_text("File 3 of 4: “c.tif”, window 28 of")).to_be_visible()
    server.engine.hold_after = FREE
    expect(outcome).to_contain_text("4 translated.")
    expect(outcome).to_contain_text("Passed over, as hidden or no picture: “notes.txt”.")
    second = unpacked(page, panel, tmp_path / "second")
    assert set(second) == {*first, "c.tif", "d.png"}
    assert all(second[name].read_bytes() == first[name].read_bytes() for name in ("a.png", "b (1).png"))
    scene = json.loads(second["manifest.json"].read_text())[2]
    assert (scene["input"], scene["windows"] > 0) == ("c.tif", True)
    assert [request.seed for request in server.engine.requests][2] == scene["request"]["seed"]
    assert server.engine.stopped == 1
    assert nothing_is_left()


def test_bad_choices_are_refused_in_a_sentence(page: Page, panel: Locator, server: Server, tmp_path: Path) -> None:
    press(panel, ALL)
    refused(page, "Choose the RGB files first")
    for contents, sentence in (
        ({"../evil.png": png()}, "a name that leads out of it"),
        ({"a.png": png()[:0], "notes.txt": b""}, ""),
        ({"notes.txt": b"x"}, "There is no picture and no raster among the files"),
        ({"a.jpg": png(), "a.png": png()}, "would both become"),
    ):
        choose(panel, zipped(tmp_path, contents))
        press(panel, ALL)
        if sentence:
            refused(page, sentence)
        else:
            expect(panel.locator(".block.outcome")).to_contain_text("1 failed.")
        panel.locator(".several").get_by_role("button", name="Clear").click()
    assert server.engine.requests == []
    assert not list(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("evil.png"))


@pytest.mark.parametrize("query", ["", "?__theme=dark"], ids=["light", "dark"])
def test_nothing_of_the_fold_sticks_out_at_phone_width(
    open_page: Callable[..., Page], tmp_path: Path, query: str
) -> None:
    page = open_page(375, 800, query)
    panel = fold(page)
    choose(panel, zipped(tmp_path, {f"{'long' * 20}.png": png()[:90]}))
    press(panel, ALL)
    expect(panel.locator(".block.outcome")).to_contain_text("1 failed.")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
