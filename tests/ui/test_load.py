"""Settings come back: from a file, from text, and from the browser; and a file can be without them."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
import pytest
import rasterio
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo import provenance
from mmmrs_demo.errors import UserError
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.request import MAX_SEED, TextRequest, TranslationRequest
from mmmrs_demo.ui.controls import to_text
from mmmrs_demo.ui.load import _fits
from tests.ui.test_page import choose, done, download, generate, press, refused, tab, tile, unfold, upload
from tests.ui.test_rasters import drop, optical

if TYPE_CHECKING:
    from pathlib import Path

    from gradio.components import Component

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui


def number(panel: Locator, label: str) -> Locator:
    return panel.get_by_role("spinbutton", name=re.compile(label))


def put(panel: Locator, label: str, value: str) -> None:
    number(panel, label).fill(value)
    number(panel, label).press("Tab")


def open_loader(page: Page) -> None:
    page.get_by_role("button", name="Load settings").click()
    expect(page.get_by_label("Or its settings as text")).to_be_visible()


def load(page: Page, file: Path | bytes) -> None:
    """Choose a file in the fold, which is open."""
    field = page.locator(".loader input[type=file]")
    if page.locator(".loader").get_by_role("button", name="Clear").count():
        page.locator(".loader").get_by_role("button", name="Clear").click()
        expect(field).to_be_attached()
    if isinstance(file, bytes):
        field.set_input_files({"name": "picture.png", "mimeType": "image/png", "buffer": file})
    else:
        field.set_input_files(file)


def paste(page: Page, text: str) -> None:
    page.get_by_label("Or its settings as text").fill(text)
    page.get_by_role("button", name="Fill in the form").click()


def said(page: Page) -> Locator:
    return page.locator(".block.note").filter(has_text="are in the form")


def opened(page: Page) -> Locator:
    """The tab that is open."""
    return page.get_by_role("tabpanel").filter(visible=True)


def with_text(text: str) -> bytes:
    data, info = BytesIO(), PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(data, "PNG", pnginfo=info)
    return data.getvalue()


def test_a_saved_picture_fills_the_form_and_is_made_again(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "Generate")
    panel.get_by_label("Caption").fill("ships: 3, “big” 公园")
    panel.get_by_label("Fog").check()
    choose(panel, "Ground sample distance", "Ultra-low")
    choose(panel, "Satellite", "TG2")
    unfold(panel)
    panel.get_by_label("Negative prompt").fill("clouds, haze")
    panel.get_by_label("Seed", exact=True).fill(str(MAX_SEED))
    for label, value in (("Steps", "11"), ("Guidance", "6.5"), ("LoRA scale", "0.35"), ("Width", "72")):
        put(panel, label, value)
    choose(panel, "Scheduler", "UniPC")
    generate(panel, server)
    first = download(page, panel, tmp_path / "one")

    page.reload()
    panel = tab(page, "Generate")
    unfold(panel)
    press(panel, "Reset settings")
    expect(number(panel, "Steps")).to_have_value("8")
    panel.get_by_label("Caption").fill("something else")
    panel.get_by_label("Clear").check()
    tab(page, "SAR → RGB")
    open_loader(page)
    load(page, first)
    expect(said(page)).to_contain_text(f"The settings of “{first.name}"[:35])
    panel = opened(page)
    expect(panel.get_by_label("Caption")).to_have_value("ships: 3, “big” 公园")
    expect(panel.get_by_label("Prompt that the model reads")).to_have_value(
        "Ultra-low precision resolution, fog, ships: 3, “big” 公园, TG2"
    )
    expect(panel.get_by_label("Fog")).to_be_checked()
    expect(panel.get_by_label("Seed", exact=True)).to_have_value(str(MAX_SEED))
    expect(number(panel, "Guidance")).to_have_value("6.5")
    server.engine.requests.clear()
    generate(panel, server)
    assert provenance.read(first).request == server.engine.requests[0]
    assert download(page, panel, tmp_path / "two").read_bytes() == first.read_bytes()


def test_a_geotiff_names_the_tile_that_it_was_made_from(page: Page, tmp_path: Path) -> None:
    source = optical(tmp_path)
    panel = tab(page, "RGB → NIR")
    drop(panel, source)
    panel.get_by_label("Bands", exact=True).fill("4, 3, 2")
    panel.get_by_label("Bands", exact=True).press("Enter")
    panel.get_by_label("Caption").fill("fields")
    unfold(panel)
    put(panel, "ControlNet scale", "1.35")
    panel.get_by_label("Seed", exact=True).fill("3")
    press(panel, "Translate to NIR")
    done(panel)
    first = download(page, panel, tmp_path / "one", "GeoTIFF")
    request = provenance.read(first).request
    assert isinstance(request, TranslationRequest)

    page.evaluate("localStorage.clear()")
    page.reload()
    open_loader(page)
    load(page, first)
    expect(said(page)).to_contain_text("Choose the same RGB tile again")
    expect(said(page)).to_contain_text("read its bands 4, 3, 2")
    panel = opened(page)
    expect(panel.get_by_label("Caption")).to_have_value("fields")
    drop(panel, source)
    panel.get_by_label("Bands", exact=True).fill("4, 3, 2")
    panel.get_by_label("Bands", exact=True).press("Enter")
    press(panel, "Translate to NIR")
    done(panel)
    again = download(page, panel, tmp_path / "two", "GeoTIFF")
    assert provenance.read(again).request == request
    assert request.controlnet_scale == 1.35
    with rasterio.open(first) as one, rasterio.open(again) as two:
        assert np.array_equal(one.read(), two.read())


def test_text_fills_the_form_and_what_it_cannot_do_is_said(page: Page, server: Server) -> None:
    open_loader(page)
    text = "a <b>harbour</b>, Sentinel-1\nNegative prompt: haze\nSteps: 12, Sampler: LMS, CFG scale: 3, Seed: 5, "
    paste(page, f"{text}Size: 96x100, Model: <i>other</i>")
    note = said(page)
    expect(note).to_contain_text("There is no model “<i>other</i>” here: it is Small now")
    expect(note).to_contain_text("There is no scheduler “LMS” here")
    expect(note).to_contain_text("Height should be a multiple of 8")
    panel = opened(page)
    expect(panel.get_by_label("Caption")).to_have_value("a <b>harbour</b>")
    expect(panel.get_by_role("combobox", name="Satellite")).to_have_value("Sentinel-1")
    generate(panel, server)
    request = server.engine.requests[0]
    assert isinstance(request, TextRequest)
    assert (request.steps, request.guidance, request.seed, request.width) == (12, 3.0, 5, 96)
    assert (request.negative_prompt, request.scheduler, request.bundle) == ("haze", "dpm++2m-karras", "small")

    paste(page, provenance.parameters(TranslationRequest(translation="sar2rgb", steps=3, bundle="large"), (64, 64)))
    expect(note).to_contain_text("Choose the same SAR tile again.")
    expect(opened(page).get_by_role("button", name="Translate to RGB")).to_be_visible()
    expect(page.get_by_text("Somebody else's.")).to_be_visible()
    unfold(opened(page))
    expect(number(opened(page), "Steps")).to_have_value("3")
    expect(number(opened(page), "Guidance")).to_have_value("7.5")


def test_a_picture_of_another_program_fills_the_form(page: Page) -> None:
    panel = tab(page, "Generate")
    open_loader(page)
    load(page, with_text("a quiet bay\nSteps: 4, Sampler: Euler a, Seed: 9"))
    expect(panel.get_by_label("Caption")).to_have_value("a quiet bay")
    unfold(panel)
    expect(panel.get_by_role("combobox", name="Scheduler")).to_have_value("Euler ancestral")


def test_what_has_no_settings_is_said_in_a_sentence_and_the_form_stays(page: Page) -> None:
    panel = tab(page, "Generate")
    panel.get_by_label("Caption").fill("mine")
    open_loader(page)
    plain = BytesIO()
    tile().save(plain, "PNG")
    for content, sentence in (
        (plain.getvalue(), "“picture.png” carries no settings"),
        (b"<svg onload=alert(1)>", "“picture.png” is not a PNG or TIFF"),
        (with_text("a park\nSteps: 4, Translation: x"), "cannot be used. There is no translation “x”"),
    ):
        load(page, content)
        refused(page, re.escape(sentence))
    paste(page, "  ")
    refused(page, "There is no text")
    expect(panel.get_by_label("Caption")).to_have_value("mine")


def test_settings_are_loaded_with_the_keyboard_alone(page: Page) -> None:
    fold = page.get_by_role("button", name="Load settings")
    fold.focus()
    page.keyboard.press("Enter")
    text = page.get_by_label("Or its settings as text")
    expect(text).to_be_visible()
    text.focus()
    page.keyboard.insert_text("by keyboard\nSteps: 6")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Fill in the form")).to_be_focused()
    page.keyboard.press("Enter")
    expect(opened(page).get_by_label("Caption")).to_have_value("by keyboard")


def test_a_file_can_be_without_its_settings(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "Generate")
    panel.get_by_label("Caption").fill("a secret harbour")
    unfold(panel)
    panel.get_by_label("Seed", exact=True).fill("5")
    panel.get_by_label("Keep settings in the file").uncheck()
    generate(panel, server)
    with Image.open(download(page, panel, tmp_path / "bare")) as bare:
        assert bare.info.keys() == {"Description", "synthetic"}
        pixels = bare.tobytes()
        assert server.engine.requests[0].seed == 5
    panel.get_by_label("Keep settings in the file").check()
    generate(panel, server)
    with Image.open(download(page, panel, tmp_path / "whole")) as whole:
        assert provenance.KEYWORD in whole.info
        assert whole.tobytes() == pixels

    panel = tab(page, "RGB → SAR")
    drop(panel, optical(tmp_path))
    unfold(panel)
    panel.get_by_label("Keep settings in the file").uncheck()
    press(panel, "Translate to SAR")
    done(panel)
    with rasterio.open(download(page, panel, tmp_path / "sar", "GeoTIFF")) as made:
        assert made.tags()["synthetic"] == "true"
        assert not [name for name in made.tags() if name.startswith(provenance.KEYWORD)]


def test_files_that_cannot_be_without_their_settings_are_refused() -> None:
    assert to_text({"caption": "a park", "metadata": True}) == TextRequest(prompt=Prompt(caption="a park"))
    with pytest.raises(UserError, match="tick “Keep settings in the file” first"):
        to_text({"caption": "a park", "metadata": False})


def test_the_form_comes_back_after_a_reload(page: Page, server: Server) -> None:
    panel = tab(page, "Generate")
    panel.get_by_label("Caption").fill("a pier")
    panel.get_by_label("Night").check()
    choose(page, "Model", "Large")
    unfold(panel)
    expect(number(panel, "Steps")).to_have_value("30")
    put(panel, "Guidance", "9.5")
    panel.get_by_label("Seed", exact=True).fill("12345678901234567890")
    panel = tab(page, "NIR → RGB")
    panel.get_by_label("Caption").fill("a dam")
    choose(panel, "Satellite", "GF2")
    upload(panel, tile().convert("L"))

    for _ in range(2):
        page.reload()
        expect(page.get_by_role("combobox", name="Model")).to_have_value("Large")
        expect(page.get_by_text("Somebody else's.")).to_be_visible()
        panel = tab(page, "Generate")
        expect(panel.get_by_label("Caption")).to_have_value("a pier")
        expect(panel.get_by_label("Night")).to_be_checked()
        unfold(panel)
        expect(number(panel, "Steps")).to_have_value("30")
        expect(number(panel, "Guidance")).to_have_value("9.5")
        expect(panel.get_by_label("Seed", exact=True)).to_have_value("12345678901234567890")
        panel = tab(page, "NIR → RGB")
        expect(panel.get_by_label("Caption")).to_have_value("a dam")
        expect(panel.get_by_role("combobox", name="Satellite")).to_have_value("GF2")
        expect(panel.get_by_role("button", name="Remove Image")).to_have_count(0)
    stored = page.evaluate("JSON.stringify(localStorage)")
    assert "a pier" not in stored
    assert server.engine.requests == []


@pytest.mark.parametrize(
    ("component", "fitting", "other"),
    [
        (gr.Slider(1, 150), [1, 2.5, 150], [0, 151, "7", None]),
        (gr.Dropdown([("Fog", "fog")]), ["fog"], ["Fog", "rain", None, 3]),
        (gr.Radio([("Clear", "")]), [""], ["clear", None]),
        (gr.Checkbox(), [True, False], ["yes", None, 1]),
        (gr.Textbox(), ["", "a park"], [None, 7, True]),
    ],
)
def test_a_memory_of_other_times_does_no_harm(component: Component, fitting: list[Any], other: list[Any]) -> None:
    assert all(_fits(component, value) for value in fitting)
    assert not any(_fits(component, value) for value in other)


def test_another_model_keeps_what_was_set_and_reset_brings_its_defaults(page: Page, server: Server) -> None:
    panel = tab(page, "Generate")
    unfold(panel)
    put(panel, "Guidance", "2.5")
    panel.get_by_label("Negative prompt").fill("haze")
    choose(page, "Model", "Large")
    expect(number(panel, "Steps")).to_have_value("30")
    expect(number(panel, "Width")).to_have_value("128")
    expect(number(panel, "Guidance")).to_have_value("2.5")
    press(panel, "Reset settings")
    expect(number(panel, "Guidance")).to_have_value("7.5")
    expect(panel.get_by_label("Negative prompt")).to_have_value("")
    expect(panel.get_by_label("Keep settings in the file")).to_be_checked()
    page.reload()
    expect(page.get_by_role("combobox", name="Model")).to_have_value("Large")
    panel = tab(page, "Generate")
    unfold(panel)
    expect(number(panel, "Guidance")).to_have_value("7.5")
    generate(panel, server)
    request = server.engine.requests[0]
    assert (request.bundle, request.steps, request.guidance) == ("large", 30, 7.5)


def test_a_request_that_names_no_bundle_takes_the_one_in_use(page: Page) -> None:
    choose(page, "Model", "Large")
    open_loader(page)
    paste(page, provenance.parameters(TextRequest(prompt=Prompt(caption="x"), steps=2), (64, 64)))
    expect(said(page)).to_have_text("The settings of the text are in the form.", use_inner_text=True)
    expect(page.get_by_role("combobox", name="Model")).to_have_value("Large")
