"""The page in Chinese, where the browser or the person asks for it, and in English everywhere else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo.ui.language import CHINESE
from tests.ui.conftest import PATIENCE
from tests.ui.fake import FREE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui

HAN = re.compile(r"[\u4e00-\u9fff]")
TABS = ("Generate", "RGB → SAR", "RGB → NIR", "SAR → RGB", "NIR → RGB", "Compare", "About")
RAW = """() => [...document.body.querySelectorAll(":not(script)")].flatMap(
    one => [...[...one.attributes].map(of => of.value), ...[...one.childNodes].map(of => of.nodeValue)]
).filter(said => said?.includes("__i18n__") || said?.includes("translation_metadata"))"""


@pytest.fixture
def speaking(server: Server, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages in browsers of a language."""
    contexts = []

    def open_one(locale: str, width: int = 1280) -> Page:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": 900})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.goto(server.url)
        expect(page.get_by_role("tabpanel").filter(visible=True).get_by_role("textbox").first).to_be_visible()
        return page

    yield open_one
    for context in contexts:
        context.close()


def opened(page: Page, name: str) -> Locator:
    """Open a tab, which is in a menu where there is no room for it, and all folds of the page."""
    tab = page.get_by_role("tab", name=name, exact=True).filter(visible=True)
    if tab.count():
        tab.click()
    else:
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown").get_by_role("button", name=name).click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    expect(panel).to_have_count(1)
    closed = page.locator("button.label-wrap:not(.open)").filter(visible=True)
    while closed.count():
        closed.first.click()
    return panel


def lines(page: Page) -> set[str]:
    """Return what is to be seen, line by line."""
    return set(page.locator("body").inner_text().splitlines())


def run(page: Page, server: Server, verb: str, step: str) -> None:
    """Make a picture from words, and expect to be told how far it is."""
    server.engine.hold_after = 3
    panel = page.get_by_role("tabpanel").filter(visible=True)
    panel.get_by_role("button", name=verb, exact=True).click()
    expect(panel.get_by_text(re.compile(step))).to_be_visible()


def test_a_form_a_run_and_its_result_are_in_chinese(speaking: Callable[..., Page], server: Server) -> None:
    page = speaking("zh-CN")
    panel = page.get_by_role("tabpanel").filter(visible=True)
    for label in ("画面描述", "地面采样距离", "卫星", "模型读取的提示词: "):
        expect(panel.get_by_label(label)).to_be_visible()
    for weather in ("晴", "雪", "雾", "夜间"):
        expect(panel.get_by_role("radio", name=weather)).to_be_visible()
    expect(page.get_by_text("此处生成的所有影像均为合成影像")).to_be_visible()
    run(page, server, "生成", r"第 3 步，共 8 步 · [\d.]+ 秒，约剩 [\d.]+ 秒")  # noqa: RUF001 - Chinese
    expect(panel.get_by_text("Step 3 of 8")).to_be_hidden()
    expect(panel.get_by_role("progressbar", name="进度")).to_be_visible()
    panel.get_by_role("button", name="停止").click()
    expect(panel.get_by_text("已停止。")).to_be_visible()
    run(page, server, "生成", "第 3 步")
    server.engine.hold_after = FREE
    expect(panel.get_by_text(re.compile("^合成影像 · Small · 随机种子 .* · 8 步 · 64×64 像素"))).to_be_visible()
    expect(panel.get_by_role("button", name="下载 PNG")).to_be_visible()
    expect(page.get_by_role("button", name="历史记录 (1)")).to_be_visible()
    assert page.evaluate(RAW) == []
    assert not lines(page) & set(CHINESE)


@pytest.mark.parametrize("width", [1280, 390])
def test_all_tabs_are_in_chinese_and_fit(speaking: Callable[..., Page], width: int) -> None:
    page = speaking("zh-CN", width)
    for name in TABS:
        opened(page, CHINESE.get(name, name))
        assert page.evaluate(RAW) == []
        assert not lines(page) & set(CHINESE), name
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name


@pytest.mark.parametrize("locale", ["en-US", "fr-FR"])
def test_other_browsers_see_english(speaking: Callable[..., Page], server: Server, locale: str) -> None:
    page = speaking(locale)
    for name in TABS:
        opened(page, name)
        assert page.evaluate(RAW) == []
        assert not HAN.search(page.locator("body").inner_text()), name
    panel = opened(page, "Generate")
    run(page, server, "Generate", r"Step 3 of 8 · [\d.]+ s, about [\d.]+ s left")
    server.engine.hold_after = FREE
    expect(panel.get_by_text(re.compile("^Synthetic image · Small · seed .* · 8 steps · 64×64 px"))).to_be_visible()
    expect(panel.get_by_role("button", name="Download PNG")).to_be_visible()
    assert not HAN.search(page.locator("body").inner_text())


def test_a_person_can_choose_the_language(speaking: Callable[..., Page], server: Server) -> None:
    page = speaking("en-US")
    panel = page.get_by_role("tabpanel").filter(visible=True)
    run(page, server, "Generate", "Step 3 of 8")
    page.locator("footer").get_by_role("button", name="Settings").click()
    page.get_by_role("combobox", name="Language").click()
    page.get_by_role("option", name="简体中文").click()
    expect(panel.get_by_text("第 3 步")).to_be_visible()
    expect(panel.get_by_label("画面描述")).to_be_visible()
    server.engine.hold_after = FREE
