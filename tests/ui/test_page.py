"""The page in a real browser, before a fake engine. No test waits for a clock: the engine waits where a test says."""

from __future__ import annotations

import math
import re
import struct
import threading
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo import compare, provenance
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.request import MAX_SEED, TextRequest, TranslationRequest
from tests.ui.fake import FREE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui


def tab(page: Page, name: str) -> Locator:
    """Open a tab and return what is in it."""
    page.get_by_role("tab", name=name).click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    expect(panel.get_by_label("Caption")).to_be_visible()
    return panel


def press(panel: Locator, name: str) -> None:
    panel.get_by_role("button", name=name, exact=True).click()


def unfold(panel: Locator) -> None:
    panel.get_by_role("button", name="Advanced settings").click()
    expect(panel.get_by_label("Negative prompt")).to_be_visible()


def done(panel: Locator) -> None:
    expect(panel.locator(".block.facts")).to_contain_text("Synthetic image")


def download(page: Page, panel: Locator, folder: Path, kind: str = "PNG") -> Path:
    """Press the button and return the file, which has the name that was suggested."""
    with page.expect_download() as download:
        press(panel, f"Download {kind}")
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def upload(panel: Locator, content: bytes | Image.Image, name: str = "tile.png") -> None:
    if isinstance(content, Image.Image):
        data = BytesIO()
        content.save(data, "PNG")
        content = data.getvalue()
    panel.locator(".tile input[type=file]").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def tile(size: tuple[int, int] = (96, 64)) -> Image.Image:
    return Image.merge("RGB", [Image.linear_gradient("L").resize(size).rotate(turn) for turn in (0, 90, 180)])


def refused(page: Page, sentence: str) -> None:
    """Expect an error message, and put it away."""
    message = page.get_by_test_id("toast-body")
    expect(message).to_contain_text(re.compile(sentence))
    page.get_by_test_id("toast-close").click()
    expect(message).to_have_count(0)


def choose(panel: Locator | Page, label: str, option: str) -> None:
    panel.get_by_role("combobox", name=label).click()
    options = panel.get_by_role("option")
    options.filter(has_text=option).click()
    expect(options).to_have_count(0)


def generate(panel: Locator, server: Server) -> None:
    """Run from the first step to the end; sure of having seen this run, not the one before."""
    server.engine.hold_after = 1
    press(panel, "Generate")
    expect(panel.get_by_text("Step 1 of")).to_be_visible()
    server.engine.hold_after = FREE
    expect(panel.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    done(panel)


def test_the_prompt_is_composed_while_one_chooses_and_types(page: Page) -> None:
    panel = tab(page, "Generate")
    prompt = panel.get_by_label("Prompt that the model reads")
    panel.get_by_label("Caption").fill("a satellite image shows a harbour, with ships")
    panel.get_by_label("Fog").check()
    choose(panel, "Ground sample distance", "Ultra-high")
    choose(panel, "Satellite", "GF2")
    expect(prompt).to_have_value(
        "Ultra-high precision resolution, fog, a satellite image shows a harbour, with ships, GF2"
    )
    panel.get_by_label("Clear").check()
    choose(panel, "Ground sample distance", "Not said")
    expect(prompt).to_have_value("a satellite image shows a harbour, with ships, GF2")


def test_what_the_model_would_not_read_is_said(page: Page) -> None:
    panel = tab(page, "Generate")
    panel.get_by_label("Caption").fill("many words " * 40)
    expect(panel.get_by_text("will be ignored")).to_be_visible()
    panel.get_by_label("Caption").fill("few words")
    expect(panel.get_by_text("will be ignored")).to_be_hidden()


def test_generate_shows_steps_and_preview_then_the_picture(page: Page, server: Server) -> None:
    server.engine.hold_after = 3
    panel = tab(page, "Generate")
    press(panel, "Generate")
    expect(panel.get_by_text(re.compile(r"Step 3 of 8 · [\d.]+ s, about [\d.]+ s left"))).to_be_visible()
    expect(panel.get_by_role("progressbar", name="Progress")).to_be_visible()
    preview = panel.get_by_alt_text("Synthetic satellite image")
    expect(preview).to_be_visible()
    first = preview.get_attribute("src")
    server.engine.hold_after = FREE
    done(panel)
    expect(preview).not_to_have_attribute("src", first or "")
    expect(panel.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    expect(panel.get_by_role("button", name="Stop")).to_be_hidden()


def test_stop_stops_and_the_next_run_works(page: Page, server: Server) -> None:
    server.engine.hold_after = 2
    panel = tab(page, "Generate")
    panel.get_by_label("Caption").fill("a pond")
    press(panel, "Generate")
    expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
    press(panel, "Stop")
    expect(panel.get_by_text("Stopped.")).to_be_visible()
    expect(panel.get_by_role("button", name="Stop")).to_be_hidden()
    server.engine.hold_after = FREE
    press(panel, "Generate")
    done(panel)
    assert server.engine.stopped == 1
    assert [request.prompt.caption for request in server.engine.requests] == ["a pond", "a pond"]


@pytest.mark.parametrize("name", ["Generate", "RGB → NIR"])
def test_stop_brings_the_earlier_picture_back(page: Page, server: Server, name: str) -> None:
    panel = tab(page, name)
    verb = "Generate" if name == "Generate" else "Translate to NIR"
    if name != "Generate":
        upload(panel, tile())
    pictures = panel.locator(".picture img")
    for earlier in (False, True):
        before = [picture.get_attribute("src") for picture in pictures.all()]
        server.engine.hold_after = 2
        press(panel, verb)
        expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
        expect(pictures).not_to_have_count(0)
        if earlier:
            expect(pictures.last).not_to_have_attribute("src", before[-1] or "")
        press(panel, "Stop")
        expect(panel.get_by_text("Stopped.")).to_be_visible()
        expect(panel.get_by_text("goes on")).to_be_hidden()
        expect(pictures).to_have_count(len(before))
        for picture, source in zip(pictures.all(), before, strict=True):
            expect(picture).to_have_attribute("src", source or "")
        server.engine.hold_after = FREE
        press(panel, verb)
        done(panel)
        expect(panel.get_by_role("button", name=verb, exact=True)).to_be_visible()


def test_a_large_picture_from_words_counts_its_windows_and_goes_on_after_stop(
    page: Page, server: Server, tmp_path: Path
) -> None:
    panel = tab(page, "Generate")
    unfold(panel)
    for side, pixels in (("Width", "256"), ("Height", "160")):
        panel.get_by_role("spinbutton", name=re.compile(side)).fill(pixels)
        panel.get_by_role("spinbutton", name=re.compile(side)).press("Tab")
    server.engine.hold_after = 5
    press(panel, "Generate")
    expect(panel.get_by_text(re.compile(r"Window \d+ of \d+, about .* left"))).to_be_visible()
    expect(panel.get_by_text("Window 14 of")).to_be_visible()
    press(panel, "Stop")
    expect(panel.get_by_text("“Generate” goes on where it was, as long as nothing is changed.")).to_be_visible()
    server.engine.hold_after = 1
    press(panel, "Generate")
    expect(panel.get_by_text("Window 14 of")).to_be_visible()
    server.engine.hold_after = FREE
    done(panel)
    expect(panel.locator(".block.facts")).to_contain_text(re.compile(r"\d+ windows · 256×160 px"))
    file = download(page, panel, tmp_path)
    request = provenance.read(file).request
    assert (request.seed, request.scheduler) == (server.engine.requests[0].seed, "euler-a")
    with Image.open(file) as picture:
        assert picture.size == (256, 160)


def test_two_pages_do_not_mix_and_stop_works_while_waiting(
    open_page: Callable[..., Page], server: Server, tmp_path: Path
) -> None:
    one, two = open_page(), open_page()
    ours, theirs = tab(one, "Generate"), tab(two, "Generate")
    ours.get_by_label("Caption").fill("our lake")
    theirs.get_by_label("Caption").fill("their lake")
    server.engine.hold_after = 1
    press(ours, "Generate")
    expect(ours.get_by_text("Step 1 of 8")).to_be_visible()
    press(theirs, "Generate")
    expect(theirs.get_by_text("Waiting for its turn")).to_be_visible()
    press(theirs, "Stop")
    expect(theirs.get_by_text("Stopped.")).to_be_visible()
    press(theirs, "Generate")
    server.engine.hold_after = FREE
    done(ours)
    done(theirs)
    assert [request.prompt.caption for request in server.engine.requests] == ["our lake", "their lake"]
    for page, panel, caption in ((one, ours, "our lake"), (two, theirs, "their lake")):
        file = download(page, panel, tmp_path)
        assert provenance.read(file).request.prompt.caption == caption


def test_a_run_whose_page_is_closed_keeps_its_turn(open_page: Callable[..., Page], server: Server, page: Page) -> None:
    server.engine.hold_after = 1
    left = open_page()
    panel = tab(left, "Generate")
    press(panel, "Generate")
    expect(panel.get_by_text("Step 1 of 8")).to_be_visible()
    left.close()
    mine = tab(page, "Generate")
    mine.get_by_label("Caption").fill("mine")
    press(mine, "Generate")
    expect(mine.get_by_text("Waiting for its turn: 1 before you")).to_be_visible()
    server.engine.hold_after = FREE
    done(mine)
    assert server.engine.stopped == 0
    assert [request.prompt.caption for request in server.engine.requests][1:] == ["mine"]


def test_the_download_carries_its_request(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "Generate")
    panel.get_by_label("Caption").fill("a satellite image shows a river, Füssen 🛰")
    unfold(panel)
    panel.get_by_label("Seed", exact=True).fill(f" {MAX_SEED} ")
    panel.get_by_label("Negative prompt").fill("clouds")
    press(panel, "Generate")
    done(panel)
    file = download(page, panel, tmp_path)
    assert file.suffix == ".png"
    assert str(MAX_SEED) in file.name
    read = provenance.read(file)
    assert read.synthetic
    assert read.request == server.engine.requests[0]
    assert read.request.seed == MAX_SEED
    assert read.request.negative_prompt == "clouds"
    with Image.open(file) as picture:
        assert picture.size == (64, 64)


def test_the_seed_that_was_used_can_be_used_again(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "Generate")
    generate(panel, server)
    used = server.engine.requests[0].seed
    expect(panel.locator(".block.facts")).to_contain_text(f"seed {used}")
    first = download(page, panel, tmp_path).read_bytes()
    press(panel, "Use this seed again")
    unfold(panel)
    expect(panel.get_by_label("Seed", exact=True)).to_have_value(str(used))
    generate(panel, server)
    assert [request.seed for request in server.engine.requests] == [used, used]
    assert download(page, panel, tmp_path).read_bytes() == first
    press(panel, "Random seed")
    expect(panel.get_by_label("Seed", exact=True)).to_have_value("")


def test_an_error_is_a_sentence_and_the_form_stays(page: Page, server: Server) -> None:
    panel = tab(page, "Generate")
    panel.get_by_label("Night").check()
    unfold(panel)
    for label, value, sentence in (
        ("Seed", "99999999999999999999", "Seed should be"),
        ("Seed", "<b>seven</b>", "Seed should be .*<b>seven</b>"),
        ("Caption", "x" * 5000, "5000 characters"),
        ("Negative prompt", "<b>no</b>" * 500, "negative prompt"),
    ):
        field = panel.get_by_label(label, exact=True)
        before = field.input_value()
        field.fill(value)
        press(panel, "Generate")
        refused(page, sentence)
        expect(panel.locator(".block.progress")).to_be_hidden()
        expect(field).to_have_value(value)
        field.fill(before)
    expect(panel.get_by_label("Night")).to_be_checked()
    assert server.engine.requests == []
    generate(panel, server)


def test_translate_shows_input_and_output_side_by_side(page: Page, server: Server, tmp_path: Path) -> None:
    for translation in TRANSLATIONS.values():
        server.engine.requests.clear()
        panel = tab(page, translation.title)
        upload(panel, tile().convert(translation.source.mode))
        server.engine.hold_after = 2
        press(panel, f"Translate to {translation.target.label}")
        expect(panel.get_by_text("Step 2 of 8")).to_be_visible()
        pictures = panel.get_by_test_id("imageslider-image")
        expect(pictures).to_have_count(2)  # the preview is in the slider already
        server.engine.hold_after = FREE
        done(panel)
        for picture in pictures.all():
            expect(picture).to_have_js_property("naturalWidth", 96)
            expect(picture).to_have_js_property("naturalHeight", 64)
        request = server.engine.requests[0]
        assert isinstance(request, TranslationRequest)
        assert (request.translation, request.prompt.satellite) == (translation.key, translation.satellite)
        file = download(page, panel, tmp_path)
        assert provenance.read(file).request == request
        with Image.open(file) as made:
            assert (made.size, made.mode) == ((96, 64), translation.target.mode)


def several(panel: Locator, samples: int, seed: int) -> None:
    """Ask for samples, in the advanced settings that are unfolded."""
    field = panel.get_by_role("spinbutton", name=re.compile("Samples"))
    field.fill(str(samples))
    field.press("Tab")
    panel.get_by_label("Seed", exact=True).fill(str(seed))


def test_samples_give_their_mean_and_spread(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "RGB → SAR")
    upload(panel, tile())
    unfold(panel)
    several(panel, 3, seed=9)
    server.engine.hold_after = 5
    press(panel, "Translate to SAR")
    expect(panel.get_by_text(re.compile(r"Step 5 of 24 · .* left"))).to_be_visible()
    server.engine.hold_after = FREE
    done(panel)
    expect(panel.locator(".block.facts")).to_contain_text("mean of 3 samples · seed 9")

    asked = server.engine.requests.copy()
    assert [request.seed for request in asked] == [9, 10, 11]
    made = np.stack([np.asarray(server.engine.run(request, tile()).image, np.float32) for request in asked])
    apart = np.floor(made.std(axis=0, ddof=1) + 0.5)
    white = float(f"{np.percentile(apart, 99):.2g}")
    assert white > 1
    spread = panel.get_by_alt_text(f"black where they agree, white where by {white:g} of 255 levels or more")
    expect(spread).to_have_js_property("naturalWidth", 96)
    expect(panel.get_by_text(f"Spread: white is {white:g} of 255 levels or more")).to_be_visible()
    for kind, levels in (("PNG", np.floor(made.mean(axis=0) + 0.5)), ("spread", apart)):
        file = download(page, panel, tmp_path, kind)
        request = provenance.read(file).request
        assert isinstance(request, TranslationRequest)
        assert (request.samples, request.seed) == (3, 9)
        with Image.open(file) as picture:
            assert np.array_equal(np.asarray(picture), levels)

    several(panel, 1, seed=9)
    press(panel, "Translate to SAR")
    expect(spread).to_be_hidden()
    expect(panel.locator(".block.facts")).not_to_contain_text("samples")
    expect(panel.get_by_role("button", name="Download spread")).to_be_hidden()


def bring(panel: Locator, file: Path) -> None:
    """Choose a picture to compare with, in its fold that is open."""
    panel.locator(".reference input[type=file]").set_input_files(file)
    expect(panel.locator(".reference .file-preview")).to_contain_text(file.stem)


def test_a_result_is_compared_with_a_real_picture(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "RGB → NIR")
    upload(panel, tile())
    unfold(panel)
    panel.get_by_label("Seed", exact=True).fill("7")
    panel.get_by_role("button", name="Compare with a real picture").click()

    tile((90, 64)).convert("L").save(tmp_path / "narrow.png")
    bring(panel, tmp_path / "narrow.png")
    press(panel, "Translate to NIR")
    refused(page, r"“narrow\.png” is 90 by 64 px and the result 96 by 64 px: choose a reference of the same size")
    assert server.engine.requests == []

    request = TranslationRequest(translation="rgb2nir", bundle="small", seed=7)
    real = server.engine.run(request, tile()).image.point(lambda level: level ^ 8)
    real.save(tmp_path / "real.png")
    panel.locator(".reference").get_by_role("button", name="Clear").click()
    bring(panel, tmp_path / "real.png")
    press(panel, "Translate to NIR")
    facts = panel.locator(".block.facts")
    figures = rf"PSNR {20 * math.log10(255 / 8):.3g}\sdB · SSIM\s0\.\d+ · NDVI error\s0\.\d+"
    expect(facts).to_contain_text(re.compile(rf"Beside “real\.png”: {figures}"))
    expect(panel.get_by_role("button", name="Translate to NIR", exact=True)).to_be_visible()
    panel.locator(".reference").get_by_role("button", name="Clear").click()
    press(panel, "Translate to NIR")
    expect(facts).not_to_contain_text("real.png")
    assert len(server.engine.requests) == 3


@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_a_result_stays_though_it_cannot_be_compared(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def no_figures(*_: object) -> None:
        if how == "failed":
            raise UserError("There is <b>nothing</b> in common.")
        stop = _[-1]
        assert isinstance(stop, threading.Event)
        assert stop.wait(60)
        raise Stopped

    monkeypatch.setattr(compare, "compare", no_figures)
    panel = tab(page, "RGB → NIR")
    upload(panel, tile())
    panel.get_by_role("button", name="Compare with a real picture").click()
    tile().convert("L").save(tmp_path / "real.png")
    bring(panel, tmp_path / "real.png")
    press(panel, "Translate to NIR")
    if how == "stopped":
        expect(panel.get_by_text("Comparing with the real picture")).to_be_visible()
        press(panel, "Stop")
        done(panel)
        expect(panel.get_by_text("Stopped.")).to_be_visible()
    else:
        expect(panel.locator(".block.facts")).to_contain_text("There is <b>nothing</b> in common.")
    expect(panel.get_by_test_id("imageslider-image")).to_have_count(2)
    with Image.open(download(page, panel, tmp_path)) as picture:
        assert picture.size == (96, 64)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


BROKEN = {
    "cut.png": (
        png((b"IHDR", struct.pack(">IIBBBBB", 256, 256, 8, 0, 0, 0, 0)), (b"IDAT", b"")),
        "damaged or cut short",
    ),
    "text.png": (b"only <b>text</b>", "not a picture"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "is an SVG drawing"),
    "bomb.png": (
        png(
            (b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(bytes(10_000))),
            (b"IEND", b""),
        ),
        "is too large|30,000×30,000",
    ),
}


def test_a_broken_upload_is_refused_at_once_and_the_form_stays(page: Page, server: Server) -> None:
    panel = tab(page, "RGB → SAR")
    panel.get_by_label("Caption").fill("a satellite image shows an airport")
    for name, (content, sentence) in BROKEN.items():
        upload(panel, content, name)
        refused(page, sentence)
        press(panel, "Translate to SAR")
        refused(page, sentence)
        panel.get_by_role("button", name="Remove Image").click()
    expect(panel.get_by_label("Caption")).to_have_value("a satellite image shows an airport")
    assert server.engine.requests == []
    upload(panel, tile())
    press(panel, "Translate to SAR")
    done(panel)


def test_a_missing_upload_is_said(page: Page) -> None:
    panel = tab(page, "SAR → RGB")
    press(panel, "Translate to RGB")
    refused(page, "Choose the SAR tile first")


def test_another_bundle_brings_its_defaults_and_says_what_is_missing(page: Page, server: Server) -> None:
    expect(page.get_by_text("Trained on nothing at all.")).to_be_visible()
    expect(page.get_by_text("Licence: CC0-1.0.")).to_be_visible()
    panel = tab(page, "Generate")
    expect(panel.get_by_text("There is no")).to_be_hidden()
    choose(page, "Model", "Large")
    expect(page.get_by_text("Somebody else's.")).to_be_visible()
    expect(panel.get_by_text("There is no base model for large yet")).to_be_visible()
    unfold(panel)
    expect(panel.get_by_role("spinbutton", name=re.compile("Steps"))).to_have_value("30")
    press(panel, "Generate")
    done(panel)
    request = server.engine.requests[0]
    assert isinstance(request, TextRequest)
    assert (request.bundle, request.steps, request.guidance, request.scheduler) == ("large", 30, 7.5, "ddim")
    panel = tab(page, "RGB → NIR")
    expect(panel.get_by_text("There is no RGB → NIR ControlNet for large yet")).to_be_visible()


def test_examples_fill_the_form(page: Page) -> None:
    panel = tab(page, "Generate")
    panel.get_by_role("button", name="A large mountain range · ultra-low · fog").click()
    expect(panel.get_by_label("Prompt that the model reads")).to_have_value(
        "Ultra-low precision resolution, fog, a satellite image shows a large mountain range, TG2"
    )
    expect(panel.get_by_label("Fog")).to_be_checked()


def test_an_example_tile_fills_the_form(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "RGB → NIR")
    panel.locator(".gallery-item").click()
    expect(panel.get_by_role("button", name="Remove Image")).to_be_visible()
    press(panel, "Translate to NIR")
    done(panel)
    with Image.open(download(page, panel, tmp_path)) as picture:
        assert (picture.size, picture.mode) == ((256, 256), "L")
    assert len(server.engine.requests) == 1


def test_enter_in_the_caption_starts_once(page: Page, server: Server) -> None:
    panel = tab(page, "Generate")
    server.engine.hold_after = 1
    for _ in range(3):
        panel.get_by_label("Caption").press("Enter")
    expect(panel.get_by_text("Step 1 of 8")).to_be_visible()
    server.engine.hold_after = FREE
    done(panel)
    expect(panel.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    assert len(server.engine.requests) == 1


def test_every_input_has_a_label(page: Page) -> None:
    for name in ("Generate", "NIR → RGB"):
        panel = tab(page, name)
        unfold(panel)
        nameless = panel.locator("input:not([type=hidden]), textarea").evaluate_all(
            "all => all.filter(i => getComputedStyle(i).display != 'none')"
            ".filter(i => !i.labels?.length && !i.ariaLabel && !i.getAttribute('aria-labelledby'))"
            ".map(i => i.outerHTML)"
        )
        assert nameless == []


@pytest.mark.parametrize("query", ["", "?__theme=dark"], ids=["light", "dark"])
def test_nothing_sticks_out_at_phone_width(open_page: Callable[..., Page], query: str) -> None:
    page = open_page(375, 800, query)
    for name in ("Generate", "RGB → SAR"):
        panel = tab(page, name)
        unfold(panel)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
