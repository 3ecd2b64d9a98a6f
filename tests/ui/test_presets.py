"""Where a prompt begins: presets, ideas for a caption, and how much of it the model reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from mmmrs_demo.prompt import GSD_LEVELS, SATELLITES, WEATHERS
from mmmrs_demo.request import TextRequest, parse_request
from mmmrs_demo.ui.presets import IDEAS, OWN, PAPER
from tests.ui.test_page import choose, generate, tab, unfold

if TYPE_CHECKING:
    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui


def test_presets_can_be_asked_for_and_say_every_word() -> None:
    presets = (*PAPER, *OWN)
    assert len({preset.label for preset in presets}) == len(presets)
    for preset in presets:
        request = parse_request({"kind": "text", "prompt": preset.prompt, **preset.settings})
        assert isinstance(request, TextRequest)
    assert {preset.prompt.gsd for preset in presets} == {level.key for level in GSD_LEVELS}
    assert {preset.prompt.weather for preset in presets} == {None, *WEATHERS}
    assert {preset.prompt.satellite for preset in presets} == set(SATELLITES)


def test_a_preset_fills_the_parts_and_the_settings_that_it_names(page: Page, server: Server) -> None:
    panel = tab(page, "Generate")
    unfold(panel)
    steps = panel.get_by_role("spinbutton", name=re.compile("Steps"))
    steps.fill("5")
    steps.press("Tab")
    button = panel.get_by_role("button", name="One place: snow")
    button.focus()
    page.keyboard.press("Enter")
    expect(panel.get_by_label("Prompt that the model reads")).to_have_value(
        "Low precision resolution, snow, a satellite image shows farmland with a village, Sentinel-2"
    )
    expect(panel.get_by_label("Seed", exact=True)).to_have_value("7")
    expect(steps).to_have_value("5")
    generate(panel, server)
    assert (server.engine.requests[0].seed, server.engine.requests[0].prompt.weather) == (7, "snow")


@pytest.mark.parametrize("name", ["Generate", "SAR → RGB"])
def test_an_empty_caption_has_ideas(page: Page, name: str) -> None:
    panel = tab(page, name)
    caption, idea = panel.get_by_label("Caption"), panel.get_by_role("button", name="Idea for a caption")
    expect(idea).to_be_hidden()
    caption.fill("  ")
    expect(idea).to_be_visible()
    idea.focus()
    page.keyboard.press("Enter")
    expect(caption).to_have_value(re.compile("|".join(map(re.escape, IDEAS))))
    expect(idea).to_be_hidden()


def test_tokens_are_counted_while_one_types(page: Page) -> None:
    panel = tab(page, "Generate")
    expect(panel.get_by_text(re.compile(r"reads: \d+/77"))).to_be_visible()
    panel.get_by_label("Clear").check()
    choose(panel, "Ground sample distance", "Not said")
    choose(panel, "Satellite", "Not said")
    for words in (3, 75, 76):
        panel.get_by_label("Caption").fill("word " * words)
        expect(panel.get_by_text(f"reads: {words + 2}/77")).to_be_visible()
        expect(panel.get_by_text("will be ignored")).to_be_visible(visible=words > 75)
