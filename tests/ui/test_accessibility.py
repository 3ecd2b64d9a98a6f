"""Anybody can use the page: with a screen reader, by keys alone, on a phone, in either colour scheme."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.request import TextRequest
from tests.ui.fake import FREE
from tests.ui.test_page import done, press, refused, tab, tile, upload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui

VERBS = {
    "Generate": "Generate",
    **{one.title: f"Translate to {one.target.label}" for one in TRANSLATIONS.values()},
    "Compare": "Compare",
}
"""What the button says, by tab."""

MODES = {one.title: one.source.mode for one in TRANSLATIONS.values()}
"""What a tile is, by tab."""

PHONE = {"width": 390, "height": 844}
SCHEMES = pytest.mark.parametrize("query", ["", "?__theme=dark"], ids=["light", "dark"])
WIDTHS = pytest.mark.parametrize("width", [1280, PHONE["width"]])
MOST_TABS = 80  # presses of the key, from anywhere on a tab to anywhere else


class Theirs(NamedTuple):
    """A finding in a part of Gradio's that no argument and no style reaches."""

    rule: str
    selector: str
    reason: str


THEIRS = (
    Theirs("aria-prohibited-attr", ".empty", "a picture that is not there yet has a label on a plain div"),
    Theirs("nested-interactive", ".toast-header", "the head of a message folds it and holds the button that closes it"),
)

_STILL = "document.getAnimations().every(one => one.playState != 'running' || one.effect.getTiming().duration > 1000)"
_LIT = """() => {
    const one = document.activeElement, look = getComputedStyle(one);
    return one.matches("input, textarea") || look.outlineStyle != "none" && parseFloat(look.outlineWidth) > 0;
}"""


def findings(page: Page) -> list[str]:
    """Everything serious or worse that axe finds, but what is theirs."""
    page.wait_for_function(_STILL)  # what fades in is pale for a moment
    return [
        f"{found['id']}: {node['html']}"
        for found in Axe().run(page).response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
        if not any(one.rule == found["id"] and fits(page, node["target"], one.selector) for one in THEIRS)
    ]


def fits(page: Page, target: list[str], selector: str) -> bool:
    return bool(page.evaluate("([path, one]) => document.querySelector(path)?.matches(one)", [target[-1], selector]))


def unfold_all(page: Page) -> None:
    folds = page.locator("button.label-wrap:not(.open)").filter(visible=True)
    while folds.count():
        fold = folds.first.element_handle()
        fold.click()
        page.wait_for_function("one => one.classList.contains('open')", arg=fold)


def opened(page: Page, name: str, width: int) -> Locator:
    """Open a tab with all of its folds; on a phone it may be in a menu, so that the page is wide until then."""
    page.set_viewport_size({"width": 1280, "height": 900})
    panel = tab(page, name)
    page.set_viewport_size({"width": width, "height": 900})
    unfold_all(page)
    return panel


@WIDTHS
@SCHEMES
def test_axe_finds_nothing_serious(open_page: Callable[..., Page], width: int, query: str) -> None:
    page = open_page(query=query)
    found = {}
    for name, verb in VERBS.items():
        panel = opened(page, name, width)
        found[name, "new"] = findings(page)
        if mode := MODES.get(name):
            upload(panel, tile().convert(mode))
            expect(panel.get_by_role("button", name="Remove Image")).to_be_visible()
        panel.get_by_label("Seed", exact=True).fill("seven")
        press(panel, verb)
        expect(page.get_by_test_id("toast-body")).to_be_visible()
        found[name, "refused"] = findings(page)
        refused(page, "Seed should be")
        panel.get_by_label("Seed", exact=True).fill("7")
        press(panel, verb)
        expect(panel.get_by_role("button", name=re.compile("^Download")).first).to_be_visible()
        expect(panel.get_by_role("button", name=verb, exact=True)).to_be_visible()
        unfold_all(page)
        found[name, "made"] = findings(page)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_role("tab", name="About").click()
    page.set_viewport_size({"width": width, "height": 900})
    unfold_all(page)
    found["About", "new"] = findings(page)
    assert {where: what for where, what in found.items() if what} == {}


def test_nothing_sticks_out_of_any_tab_on_a_phone(open_page: Callable[..., Page]) -> None:
    page = open_page()
    for name in VERBS:
        opened(page, name, PHONE["width"])
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), name


def reach(page: Page, target: Locator, key: str = "Tab") -> None:
    """Press a key until something has the focus, which is to be seen all the way."""
    expect(target).to_be_visible()
    for _ in range(MOST_TABS):
        page.keyboard.press(key)
        if page.evaluate("document.activeElement == document.body"):
            continue  # the end of the page, from where the browser begins anew
        assert page.evaluate(_LIT), page.evaluate("document.activeElement.outerHTML")
        if target.evaluate("one => one == document.activeElement"):
            return
    pytest.fail(f"{target} is not to be reached with {key}.")


def test_a_keyboard_is_enough_to_make_a_picture(page: Page, server: Server, tmp_path: Path) -> None:
    panel = page.get_by_role("tabpanel").filter(visible=True)
    keys = page.keyboard
    caption = panel.get_by_label("Caption")
    reach(page, caption)
    keys.press("Control+A")
    keys.type("a pond")
    reach(page, panel.get_by_role("combobox", name="Ground sample distance"))
    keys.press("ArrowDown")
    keys.press("ArrowDown")
    keys.press("Enter")
    expect(panel.get_by_role("option").filter(visible=True)).to_have_count(0)
    reach(page, panel.get_by_role("radio", name="Fog"))
    expect(panel.get_by_role("option").filter(visible=True)).to_have_count(0)
    keys.press("Space")
    expect(panel.get_by_role("radio", name="Fog")).to_be_checked()

    server.engine.hold_after = 1
    start, stop = (panel.get_by_role("button", name=name, exact=True) for name in ("Generate", "Stop"))
    for key in ("Enter", "Space"):
        if key == "Enter":
            reach(page, start)
        keys.press(key)
        expect(panel.get_by_text("Step 1 of 8")).to_be_visible()
        expect(stop).to_be_focused()
        keys.press(key)
        expect(panel.get_by_text("Stopped.")).to_be_visible()
        expect(start).to_be_focused()
    server.engine.hold_after = FREE
    keys.press("Enter")
    done(panel)
    expect(start).to_be_focused()
    request = server.engine.requests[-1]
    assert isinstance(request, TextRequest)
    assert (request.prompt.caption, request.prompt.weather) == ("a pond", "fog")
    assert request.prompt.gsd not in (None, "high")

    reach(page, panel.get_by_role("button", name="Advanced settings"))
    keys.press("Enter")
    expect(panel.get_by_label("Negative prompt")).to_be_visible()
    reach(page, panel.get_by_role("button", name="Download PNG"))
    with page.expect_download() as download:
        keys.press("Enter")
    download.value.save_as(tmp_path / "pond.png")
    reach(page, page.get_by_role("button", name=re.compile("^History")))
    keys.press("Enter")
    reach(page, page.get_by_role("button", name="Thumbnail 1 of 1"))
    keys.press("Enter")
    expect(page.get_by_role("button", name="Open", exact=True)).to_be_enabled()


def test_a_keyboard_is_enough_to_translate(page: Page, tmp_path: Path) -> None:
    page.on("filechooser", lambda _: None)  # so that it is caught from now on; to begin only at the key may be too late
    tile().save(tmp_path / "tile.png")
    reach(page, page.get_by_role("tab", name="RGB → NIR"))
    page.keyboard.press("Enter")
    panel = page.get_by_role("tabpanel").filter(visible=True)
    reach(page, panel.get_by_role("button", name="Drop an image file here to upload"))
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(tmp_path / "tile.png")
    expect(panel.get_by_role("button", name="Remove Image")).to_be_visible()
    reach(page, panel.get_by_role("button", name="Translate to NIR", exact=True))
    page.keyboard.press("Space")
    done(panel)
    expect(panel.get_by_role("button", name="Translate to NIR", exact=True)).to_be_focused()
    reach(page, panel.get_by_role("button", name="Download PNG"))
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith(".png")


def test_a_screen_reader_hears_what_begins_and_ends_and_not_each_step(page: Page, server: Server) -> None:
    server.engine.hold_after = 1
    panel = tab(page, "Generate")
    press(panel, "Generate")
    said = panel.get_by_role("status").filter(has_text="Step 1 of 8")
    expect(said.locator("[aria-live=off]")).to_have_text(re.compile("Step 1 of 8"))
    press(panel, "Stop")
    stopped = panel.get_by_role("status").filter(has_text="Stopped.")
    expect(stopped.locator("[aria-live=polite]")).to_contain_text("Stopped.")
    server.engine.hold_after = FREE
    press(panel, "Generate")
    expect(panel.get_by_role("status").filter(has_text="Synthetic image")).to_be_visible()


def test_only_stop_says_that_it_stopped(page: Page) -> None:
    panel = tab(page, "RGB → SAR")
    press(panel, "Translate to SAR")
    refused(page, "Choose the RGB tile first")
    expect(panel.get_by_role("button", name="Translate to SAR", exact=True)).to_be_visible()
    expect(panel.locator(".progress")).to_be_hidden()
