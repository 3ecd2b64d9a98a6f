"""The tab About: what the chosen bundle is and lacks, what its card says, and figures of others, each for itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.ui import about
from mmmrs_demo.ui.about import SECTIONS, card_sections

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmmrs_demo.settings import Settings

pytestmark = pytest.mark.ui

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = Path(about.__file__).with_name("published.toml")
CARD = """# A card

## What it was trained on

Twelve **tiles** of nothing.

| source | tiles | licence of the pictures as their makers state it |
|---|---|---|
| a source with rather a long name | 12 | CC0-1.0, with a credit that is long enough not to fit on a phone |

## Make it again

By no means.
"""


@pytest.fixture
def card(settings: Settings) -> str:
    (settings.weights / "small.md").write_text(CARD, encoding="utf-8")
    return CARD


def opened(page: Page) -> Locator:
    page.get_by_role("tab", name="About").click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    expect(panel.get_by_role("table", name="Parts of")).to_be_visible()
    return panel


def unfold(panel: Locator, name: str) -> None:
    panel.get_by_role("button", name=name).click()


@pytest.mark.usefixtures("card")
def test_it_says_what_the_chosen_bundle_is_and_lacks(page: Page) -> None:
    panel = opened(page)
    expect(panel.get_by_role("table", name="Parts of Small")).to_be_visible()
    expect(panel.get_by_text("Licence of these weights: CC0-1.0;")).to_be_visible()
    expect(panel.get_by_role("row", name="LoRA")).to_contain_text("here, 0.0 MB")
    expect(panel.get_by_text("not for decisions about real places")).to_be_visible()
    unfold(panel, "What it was trained on")
    expect(panel.get_by_text("Twelve tiles of nothing.")).to_be_visible()
    expect(panel.get_by_text("By no means.")).to_have_count(0)
    unfold(panel, "What it can and cannot do")
    expect(panel.get_by_text("small.md has no section of this name")).to_be_visible()

    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="Large").click()
    expect(panel.get_by_role("table", name="Parts of Large")).to_be_visible()
    expect(panel.get_by_role("row", name="LoRA")).to_contain_text("There is no LoRA for large yet")
    expect(panel.get_by_text("Large has no model card")).to_have_count(len(SECTIONS))


def test_figures_of_others_are_apart_and_the_paper_can_be_cited(page: Page) -> None:
    panel = opened(page)
    unfold(panel, "What others have measured")
    expect(panel.get_by_text("Figures of different data sets cannot be compared")).to_be_visible()
    for table in tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["tables"]:
        shown = panel.get_by_role("table", name=table["title"])
        expect(shown.get_by_role("columnheader")).to_have_text(table["columns"])
        expect(shown.get_by_role("rowheader")).to_have_text([row[0] for row in table["rows"]])
    unfold(panel, "The paper, and how to cite it")
    expect(panel.get_by_role("link", name=re.compile("^MMM-RS"))).to_have_attribute(
        "href", "https://arxiv.org/abs/2410.22362"
    )
    expect(panel.get_by_text("@inproceedings{luo2024mmmrs")).to_be_visible()


@pytest.mark.usefixtures("card")
def test_on_a_phone_only_its_tables_go_sideways(open_page: Callable[..., Page]) -> None:
    page = open_page(width=390, height=844)
    page.locator(".overflow-menu > button").click()
    page.locator(".overflow-dropdown").get_by_role("button", name="About").click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    expect(panel.get_by_role("table", name="Parts of")).to_be_visible()
    for fold in (*SECTIONS, "What others have measured", "The paper, and how to cite it"):
        unfold(panel, fold)
    expect(panel.get_by_text("@inproceedings{luo2024mmmrs")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_published_tables_are_whole() -> None:
    for table in tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["tables"]:
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}, table["title"]


def test_the_card_of_the_embedded_bundle_has_both_sections() -> None:
    catalog = Catalog.load(ROOT / "weights")
    card = (catalog.weights / catalog.bundle("mini").card).read_text(encoding="utf-8")
    shown = card_sections(catalog, catalog.bundle("mini"))
    for heading, said in zip(SECTIONS, shown, strict=True):
        assert f"## {heading}\n\n{said}\n" in card
        assert "\n## " not in said


def test_what_the_catalog_says_is_no_markup(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text(
        '[bad]\ntitle = "<img src=x>"\nsummary = "<script>"\nlicence = "<b>"\ncard = "card.md"\nsize = 64\n'
        'base = { path = "<i>" }\ndefaults = { steps = 1, guidance = 1.0, scheduler = "ddim" }\n'
    )
    catalog = Catalog.load(tmp_path)
    shown = about._parts(catalog, catalog.bundle("bad"))
    assert not {"<img", "<script", "<b>", "<i>"} & set(re.findall(r"<\w+>?", shown))
    assert "&lt;img src=x&gt;" in shown


def test_readme_cites_the_paper_as_the_page_does() -> None:
    (cited,) = re.findall(r"```bibtex\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert cited == PUBLISHED.with_name("paper.bib").read_text(encoding="utf-8")
