"""The tab that says what the models are, what they were made from and how good they are; holds no figures of ours."""

from __future__ import annotations

import re
import tomllib
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from mmmrs_demo.errors import UserError
from mmmrs_demo.ui.language import Sentence, both
from mmmrs_demo.ui.page import QUIET

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mmmrs_demo.catalog import Bundle, Catalog, Status
    from mmmrs_demo.ui.page import Page

SECTIONS = ("What it can and cannot do", "What it was trained on")
"""Headings of the second level in a model card; each is a fold of the tab."""

_Cell = Sentence | str

_HERE = Path(__file__).parent
_LIMITS = (
    "**Every picture made here is synthetic: not for decisions about real places.** A SAR or NIR picture made from an "
    "RGB tile is a guess at what such a sensor might show, not a measurement. Each PNG and GeoTIFF says so in its "
    "metadata, which converting or editing the file may remove."
)
_PAPER = (
    "The prompts, the weather and the four translations follow [MMM-RS: A Multi-modal, Multi-GSD, Multi-scene Remote "
    "Sensing Dataset and Benchmark for Text-to-Image Generation](https://arxiv.org/abs/2410.22362), whose authors have "
    "published no weights. Please cite it:"
)
_LICENCES = (
    "Licence of these weights: {}; of this program: Apache-2.0. Those of the pictures that the weights were made from "
    "stand with them, below."
)
_APART = (
    "Figures of different data sets cannot be compared: each table stands for itself, and so do those of the model "
    "card, which were measured on other tiles."
)


def about_tab(page: Page, tab: gr.Tab) -> None:
    """Lay out the tab inside the current context; it follows the choice of a bundle, and looks anew when it is opened.

    Args:
        page: Where it belongs.
        tab: The tab.
    """
    gr.Markdown(_LIMITS)
    bundle = gr.HTML(elem_classes="parts", padding=False)
    sections = []
    for heading in SECTIONS:
        with gr.Accordion(heading, open=False):
            sections.append(gr.Markdown(elem_classes="card"))
    with gr.Accordion("What others have measured", open=False):
        gr.HTML(f"<p>{both(_APART).html}</p>{published(_HERE / 'published.toml')}", elem_classes="parts", padding=False)
    with gr.Accordion("The paper, and how to cite it", open=False):
        gr.Markdown(_PAPER)
        gr.Markdown(f"```bibtex\n{(_HERE / 'paper.bib').read_text(encoding='utf-8')}```")

    def look(key: str) -> list[str]:
        chosen = page.catalog.bundle(key)
        return [_parts(page.catalog, chosen), *card_sections(page.catalog, chosen)]

    gr.on([tab.select, page.bundle.change], look, page.bundle, [bundle, *sections], **QUIET)


def card_sections(catalog: Catalog, bundle: Bundle) -> list[str]:
    """Return what the model card of a bundle says under each of `SECTIONS`, or a sentence where it says nothing."""
    place = f"{catalog.weights.name}/{bundle.card}"
    try:
        card = (catalog.weights / bundle.card).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return [both("{} has no model card: there is none at `{}`.", bundle.title, place).html] * len(SECTIONS)
    missing = both("The model card `{}` has no section of this name.", place).html
    return [_section(card, heading) or missing for heading in SECTIONS]


def published(file: Path) -> str:
    """Return the tables of figures in a TOML file as HTML."""
    tables = tomllib.loads(file.read_text(encoding="utf-8"))["tables"]
    return "".join(_table(table["title"], table["columns"], table["rows"]) for table in tables)


def _section(card: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def _parts(catalog: Catalog, bundle: Bundle) -> str:
    licences = f"<p>{both(_LICENCES, bundle.licence).html}</p>"
    try:
        rows = [(both(row.part), row.where, _state(row)) for row in catalog.status(bundle)]
    except UserError as error:
        return f"<p>{escape(str(error))}</p>{licences}"
    columns = (both("Part"), both("Below {}/ or on the Hub", catalog.weights.name), both("State"))
    return _table(both("Parts of {}", bundle.title), columns, rows) + licences


def _state(row: Status) -> Sentence | str:
    if row.present:
        return both("here, {} MB", f"{row.bytes / 1e6:,.1f}")
    return row.hint or both("not here yet: it is fetched at the first run")


def _table(title: _Cell, columns: Sequence[_Cell], rows: Iterable[Sequence[_Cell]]) -> str:
    head = "".join(f"<th scope=col>{_html(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th scope=row>{_html(first)}</th>{''.join(f'<td>{_html(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<table><caption>{_html(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _html(text: _Cell) -> str:
    return re.sub(r"`(.+?)`", r"<code>\1</code>", both("{}", text).html)
