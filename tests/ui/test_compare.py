"""The tab for one request over two axes: it fills in, stops, goes on, and is downloaded."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo.grid import DESCRIPTION, SHEET
from mmmrs_demo.provenance import read
from mmmrs_demo.request import TextRequest
from tests.ui.fake import FREE
from tests.ui.test_page import choose, press, refused, tab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui

GOES_ON = "“Compare” goes on where it was, as long as nothing is changed."


@pytest.fixture
def panel(page: Page) -> Locator:
    return tab(page, "Compare")


def over_steps(panel: Locator) -> None:
    """Ask for a row of pictures with 5, 10, 20 and 40 steps, of which a test can hold some."""
    choose(panel, "Rows", "One for all")
    choose(panel, "Columns", "Steps")
    expect(panel.get_by_text("4 pictures")).to_be_visible()


def pictures(panel: Locator) -> Locator:
    return panel.get_by_role("cell").get_by_role("img")


def type_in(panel: Locator, label: str, *numbers: str) -> None:
    """Add numbers to those of an axis that takes any."""
    expect(panel.get_by_text("or type others")).to_be_visible()
    for number in numbers:
        panel.get_by_label(label).fill(number)
        panel.get_by_label(label).press("Enter")
    panel.get_by_label(label).blur()  # or its list would lie over the fields beneath


def finished(panel: Locator, count: int) -> None:
    expect(pictures(panel)).to_have_count(count)
    expect(panel.get_by_role("button", name="Download sheet")).to_be_visible()
    expect(panel.get_by_role("button", name="Compare", exact=True)).to_be_visible()


def taken(page: Page, panel: Locator, button: str, folder: Path) -> Path:
    """Download a file under the name that is suggested."""
    with page.expect_download() as download:
        press(panel, button)
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def test_the_usual_grid_is_weather_by_gsd_with_one_seed(
    page: Page, panel: Locator, server: Server, tmp_path: Path
) -> None:
    expect(panel.get_by_text("20 pictures.")).to_be_visible()
    expect(panel.get_by_role("radio", name="Fog")).to_be_hidden()
    expect(panel.get_by_role("combobox", name="Ground sample distance")).to_be_hidden()
    panel.get_by_label("Caption").fill("a <b>pond</b>, {{value}} ${value}")
    press(panel, "Compare")
    finished(panel, 20)
    headers = panel.get_by_role("columnheader")
    expect(headers).to_have_text(
        [f"{level} precision" for level in ("Ultra-high", "High", "Ordinary", "Low", "Ultra-low")]
    )
    expect(panel.get_by_role("rowheader")).to_have_text(["Clear", "Snow", "Fog", "Night"])
    expect(panel.get_by_role("figure")).to_contain_text("a <b>pond</b>, {{value}} ${value}, GF2 · seed")
    fog = panel.get_by_role("img", name="Synthetic picture: Fog, Low precision")
    expect(fog).to_be_visible()
    assert fog.evaluate("picture => picture.naturalWidth") == 64
    expect(panel.get_by_text(re.compile(r"20 pictures, about \d+\.\d s\."))).to_be_visible()

    asked = [request for request in server.engine.requests if isinstance(request, TextRequest)]
    assert len({request.seed for request in asked}) == 1
    assert [(request.prompt.weather, request.prompt.gsd) for request in asked[:6]] == [
        *((None, gsd) for gsd in ("ultra-high", "high", "ordinary", "low", "ultra-low")),
        ("snow", "ultra-high"),
    ]
    sheet = taken(page, panel, "Download sheet", tmp_path)
    assert sheet.name == SHEET
    assert set(read(sheet).details["grid"]) == {"rows", "columns"}
    with zipfile.ZipFile(taken(page, panel, "Download zip", tmp_path)) as archive:
        names = archive.namelist()
        assert {SHEET, DESCRIPTION} < set(names)
        single = [read(archive.read(name)).request for name in names if re.match(r"\d\d-\d\d_", name)]
    assert single == asked


def test_stop_keeps_what_is_finished_and_the_same_button_goes_on(
    page: Page, panel: Locator, server: Server, tmp_path: Path
) -> None:
    over_steps(panel)
    server.engine.hold_after = 12
    press(panel, "Compare")
    expect(panel.get_by_text("Picture 3 of 4: Steps 20, step 12 of 20")).to_be_visible()
    expect(pictures(panel)).to_have_count(2)
    press(panel, "Stop")
    expect(panel.get_by_text(GOES_ON)).to_be_visible()
    finished(panel, 2)
    with Image.open(taken(page, panel, "Download sheet", tmp_path)) as sheet:
        assert sheet.width > 4 * 64
    server.engine.hold_after = FREE
    press(panel, "Compare")
    finished(panel, 4)
    expect(panel.get_by_text(GOES_ON)).to_be_hidden()
    assert [request.steps for request in server.engine.requests] == [5, 10, 20, 20, 40]
    seeds = {request.seed for request in server.engine.requests}
    assert len(seeds) == 1

    server.engine.hold_after = 2  # what is begun anew has a new seed, and stopped at once brings the finished one back
    press(panel, "Compare")
    expect(panel.get_by_text("Picture 1 of 4: Steps 5, step 2 of 5")).to_be_visible()
    expect(pictures(panel)).to_have_count(0)
    press(panel, "Stop")
    finished(panel, 4)
    assert server.engine.requests[-1].seed not in seeds


def test_numbers_may_be_typed_and_wrong_ones_are_said(page: Page, panel: Locator, server: Server) -> None:
    choose(panel, "Rows", "Guidance")
    choose(panel, "Columns", "One for all")
    expect(panel.get_by_label("Column values")).to_be_hidden()
    expect(panel.get_by_role("radio", name="Fog")).to_be_visible()
    type_in(panel, "Row values", "3.5", "31")
    expect(panel.get_by_text("6 pictures")).to_be_visible()
    press(panel, "Compare")
    refused(page, "Guidance should be at most 30")
    assert server.engine.requests == []
    panel.get_by_label("Row values").press("Backspace")
    expect(panel.get_by_text("5 pictures")).to_be_visible()
    press(panel, "Compare")
    finished(panel, 5)
    assert [request.guidance for request in server.engine.requests] == [1, 2, 4, 7.5, 3.5]


def test_too_many_and_too_few_are_said_at_once(page: Page, panel: Locator) -> None:
    choose(panel, "Rows", "Scheduler")
    choose(panel, "Columns", "Seed")
    expect(panel.get_by_text("20 pictures")).to_be_visible()
    type_in(panel, "Column values", *map(str, range(5, 14)))
    expect(panel.get_by_text("These are 65 pictures, and a grid has at most 64: choose fewer values.")).to_be_visible()
    choose(panel, "Columns", "Scheduler")
    press(panel, "Compare")
    refused(page, "Rows and columns are both “scheduler”")


@pytest.mark.parametrize("query", ["", "?__theme=dark"], ids=["light", "dark"])
def test_nothing_sticks_out_at_phone_width(open_page: Callable[..., Page], query: str) -> None:
    page = open_page(query=query)
    panel = tab(page, "Compare")
    page.set_viewport_size({"width": 375, "height": 800})  # where the tab itself is in a menu
    press(panel, "Compare")
    finished(panel, 20)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_longest_prompt_is_counted_and_the_form_comes_back(returning: Page) -> None:
    panel = tab(returning, "Compare")
    panel.get_by_label("Caption").fill("a pond")
    expect(panel.get_by_label("Longest prompt that the model reads: 9/77")).to_have_value(
        "Ultra-high precision resolution, night, a pond, GF2"
    )
    choose(panel, "Columns", "Steps")
    type_in(panel, "Column values", "7")
    expect(panel.get_by_text("20 pictures")).to_be_visible()
    panel.get_by_label("Row values").press("Backspace")
    expect(panel.get_by_text("15 pictures")).to_be_visible()
    returning.reload()
    panel = tab(returning, "Compare")
    expect(panel.get_by_text("15 pictures")).to_be_visible()
    expect(panel.get_by_label("Caption")).to_have_value("a pond")
    expect(panel.get_by_text("or type others")).to_be_visible()
    press(panel, "Compare")
    finished(panel, 15)
    expect(panel.get_by_role("columnheader")).to_have_text([f"Steps {steps}" for steps in (5, 10, 20, 40, 7)])
    expect(panel.get_by_role("rowheader")).to_have_text(["Clear", "Snow", "Fog"])
