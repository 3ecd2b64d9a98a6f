"""Several pictures with one click: one seed after the other, each seen as soon as it is there, chosen and kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo import provenance
from tests.ui.fake import FREE
from tests.ui.test_history import history
from tests.ui.test_page import done, download, generate, press, refused, tab, unfold

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui


def ask(page: Page, pictures: int, seed: str) -> Locator:
    """Fill the form in and return its tab."""
    panel = tab(page, "Generate")
    unfold(panel)
    panel.get_by_label("number input for Pictures").fill(str(pictures))
    panel.get_by_label("Seed", exact=True).fill(seed)
    return panel


def strip(panel: Locator, count: int) -> Locator:
    """Return the thumbnails, once there are so many."""
    thumbnails = panel.locator(".thumbnails").get_by_role("button", name=re.compile("Thumbnail"))
    expect(thumbnails).to_have_count(count)
    return thumbnails


def test_a_click_makes_several_pictures_of_which_each_can_be_chosen(page: Page, server: Server, tmp_path: Path) -> None:
    panel = ask(page, 3, "7")
    server.engine.hold_after = 2
    press(panel, "Generate")
    expect(panel.get_by_text("Picture 1 of 3: seed 7, step 2 of 8")).to_be_visible()
    server.engine.hold_after = FREE
    expect(panel.locator(".block.facts")).to_contain_text("seed 9")
    expect(panel.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    assert [request.seed for request in server.engine.requests] == [7, 8, 9]

    strip(panel, 3).nth(1).click()
    expect(panel.locator(".block.facts")).to_contain_text("seed 8")
    assert provenance.read(download(page, panel, tmp_path)).request == server.engine.requests[1]
    history(page, 3)

    panel.get_by_label("number input for Pictures").fill("1")
    press(panel, "Generate")
    expect(panel.locator(".thumbnails")).to_be_hidden()


def test_what_is_faster_together_is_made_in_parts(page: Page, server: Server) -> None:
    server.engine.batch = 2
    panel = ask(page, 3, "7")
    server.engine.hold_after = 2
    press(panel, "Generate")
    expect(panel.get_by_text("Part 1 of 2: seeds 7 to 8, step 2 of 16")).to_be_visible()
    server.engine.hold_after = FREE
    done(panel)
    strip(panel, 3)
    expect(panel.locator(".block.facts")).to_contain_text("seed 9")
    assert [request.seed for request in server.engine.requests] == [7, 8, 9]
    history(page, 3)


def test_pictures_without_a_seed_have_seeds_in_a_row(page: Page, server: Server) -> None:
    panel = ask(page, 2, "")
    press(panel, "Generate")
    done(panel)
    strip(panel, 2)
    first, second = (request.seed or 0 for request in server.engine.requests)
    assert second == first + 1 > 1


def test_stop_leaves_the_pictures_that_are_done(page: Page, server: Server) -> None:
    panel = ask(page, 3, "7")
    server.engine.hold_after = 2
    press(panel, "Generate")
    expect(panel.get_by_text("Picture 1 of 3: seed 7, step 2 of 8")).to_be_visible()
    server.engine.pause = 0.3
    server.engine.hold_after = FREE
    while len(server.engine.requests) < 3:
        page.wait_for_timeout(10)
    server.engine.hold_after = 4
    server.engine.pause = 0.0
    expect(panel.get_by_text("Picture 3 of 3: seed 9, step 4 of 8")).to_be_visible()
    press(panel, "Stop")
    expect(panel.get_by_text("Stopped.")).to_be_visible()
    expect(panel.locator(".block.facts")).to_contain_text("seed 8")
    strip(panel, 2).first.click()
    expect(panel.locator(".block.facts")).to_contain_text("seed 7")
    done(panel)
    history(page, 2)


def test_the_button_says_what_it_will_cost(page: Page, server: Server) -> None:
    panel = ask(page, 1, "7")
    server.engine.pause = 0.1
    generate(panel, server)
    cost = panel.locator(".block.cost")
    expect(cost).to_have_text(re.compile(r"About \d+\.\d s"))
    one = float(cost.inner_text().split()[1])
    panel.get_by_label("number input for Pictures").fill("8")
    panel.get_by_label("number input for Pictures").press("Enter")
    expect(cost).not_to_have_text(f"About {one:.1f} s")
    assert float(cost.inner_text().split()[1]) == pytest.approx(8 * one, rel=0.1)
    server.engine.pause = 0.0


def test_seeds_that_are_no_more_are_refused(page: Page, server: Server) -> None:
    panel = ask(page, 2, str(2**63 - 1))
    press(panel, "Generate")
    refused(page, "The seed of 2 pictures should be at most 9223372036854775806")
    expect(panel.locator(".block.progress")).to_be_hidden()
    assert server.engine.requests == []
