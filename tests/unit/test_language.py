"""Whoever adds a text to the page is told here to say it in Chinese too, and why some texts stay as they are."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, cast

import gradio as gr
import pytest
from gradio.components.api_component import Api

from mmmrs_demo import grid
from mmmrs_demo.catalog import BASE, LORA, Catalog, part_title
from mmmrs_demo.modality import Modality
from mmmrs_demo.prompt import SATELLITES
from mmmrs_demo.request import SCHEDULERS
from mmmrs_demo.settings import Settings
from mmmrs_demo.ui.app import create_app, launch_options
from mmmrs_demo.ui.language import CHINESE, both, joined, marked, texts

if TYPE_CHECKING:
    from mmmrs_demo.ui.run import EngineLike

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = Catalog.load(ROOT / "weights")
UI = [ast.parse(file.read_text(encoding="utf-8")) for file in (ROOT / "mmmrs_demo" / "ui").glob("*.py")]

STAYS = {
    *SATELLITES,
    *SCHEDULERS.values(),
    *(modality.label for modality in Modality),
    *(bundle.title for bundle in WEIGHTS.bundles.values()),
    "LoRA",
    "NDVI",
    "dB",
    "Run",  # a button that nobody sees
    "a satellite image shows …",  # the model reads English
    "a park in the city\nSteps: 20, Sampler: Euler a, CFG scale: 4, Seed: 7",  # as other programs write it
}
"""Names, and examples of what is typed."""

COMPOSED = re.compile(r'<span lang="zh">|^```bibtex|^(RGB|SAR|NIR) → (RGB|SAR|NIR)$')
"""What holds its Chinese already, and what is the same in all languages."""

HIDDEN = (gr.State, gr.BrowserState, Api)
"""Components that nobody sees."""


@pytest.fixture(scope="module")
def app() -> gr.Blocks:
    engine = cast("EngineLike", type("Engine", (), {"catalog": WEIGHTS}))
    return create_app(engine, WEIGHTS, Settings(weights=WEIGHTS.weights))


@pytest.fixture(scope="module")
def read(app: gr.Blocks) -> set[str]:
    """All texts of the page, those that its choices and its tables may become among them."""
    said = {label for axis in grid.axes(WEIGHTS).values() if not axis.numbers for label in axis.choices.values()}
    said |= {part_title(part) for part in (BASE, LORA)}
    for block in app.blocks.values():
        if not isinstance(block, HIDDEN):
            said |= {*texts(block).values(), *(name for name, _ in getattr(block, "choices", None) or [])}
    return {key for text in said for key in keys(text)}


def keys(text: str) -> list[str]:
    """Return what is marked in a text, or else the text."""
    return [json.loads(mark)["key"] for mark in re.findall(r"__i18n__(\{.*?\})", text)] or [text]


def said_by(*names: str) -> Iterator[str]:
    """Yield the texts that the page's code gives to functions of these names."""
    for node in (node for tree in UI for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names and node.args:
            said = (one.value for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant))
            yield from (text for text in said if isinstance(text, str))


def constants() -> set[Any]:
    return {node.value for tree in UI for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def places(template: str) -> list[int]:
    """Return the numbers of a template's places, sorted."""
    names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    return sorted(int(name) if name else number for number, name in enumerate(names))


def test_every_text_of_the_page_has_its_chinese(read: set[str]) -> None:
    assert {text for text in read if text not in CHINESE and not COMPOSED.search(text)} - STAYS == set()


def test_every_sentence_that_is_composed_has_its_chinese() -> None:
    words = {text for text in said_by("both", "marked") if re.search("[a-z]", re.sub("<.*?>", "", text))}
    assert words - set(CHINESE) == set()


def test_nothing_is_said_in_chinese_that_is_said_nowhere(read: set[str]) -> None:
    separators = {"{}, {}"}  # of `joined`
    assert set(CHINESE) - read - constants() - separators == set()


def test_both_have_the_same_places_and_marks() -> None:
    def form(text: str) -> tuple[list[int], list[str]]:
        return places(text), re.findall(r"`.*?`|\]\(.*?\)|\*\*", text)

    assert {english for english, chinese in CHINESE.items() if form(english) != form(chinese)} == set()


def test_chinese_is_written_with_its_own_punctuation() -> None:
    foreign = re.compile(r"[\u4e00-\u9fff][,;:?!]|[\u4e00-\u9fff]\.(?!\w)")
    assert {chinese for chinese in CHINESE.values() if foreign.search(chinese)} == set()


def test_all_that_has_its_chinese_is_marked_and_served_with_the_page(app: gr.Blocks) -> None:
    said = {text for block in app.blocks.values() if not isinstance(block, HIDDEN) for text in texts(block).values()}
    table = launch_options(Settings(weights=WEIGHTS.weights))["i18n"].translations_dict
    assert table["zh"] == CHINESE
    assert table["en"] == dict(zip(CHINESE, CHINESE, strict=True))
    assert not said & set(CHINESE)
    assert any("__i18n__" in text for text in said)


def test_what_has_no_chinese_is_not_marked() -> None:
    assert marked("GF1") == "GF1"
    assert marked("Seed").startswith("__i18n__")


def test_a_sentence_has_its_values_in_its_language_and_none_of_them_is_markup() -> None:
    said = both("mean of {} samples", both("seed {}", "<b>"))
    assert said.english == f"mean of seed {escape('<b>')} samples"
    assert said.chinese == f"随机种子 {escape('<b>')} 个样本的均值"
    assert said.html == f'<span lang="en">{said.english}</span><span lang="zh">{said.chinese}</span>'
    assert joined(" · ", "GF1", both("LoRA")).html == "GF1 · LoRA"
