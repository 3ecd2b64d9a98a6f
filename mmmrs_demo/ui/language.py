"""English and Chinese: every text of the page in both, and how a browser comes to show the one that fits.

The code is written in English, and ``chinese.toml`` says it in Chinese. Browsers of other languages show English.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from gradio.i18n import I18nData

if TYPE_CHECKING:
    from gradio.blocks import Block

CHINESE: dict[str, str] = tomllib.loads(Path(__file__).with_name("chinese.toml").read_text(encoding="utf-8"))
"""Chinese by English; in a sentence that is composed while the program runs, ``{}`` are the places of its values."""

_TEXTS = ("label", "info", "placeholder")
_SPOKEN = (gr.Button, gr.Markdown, gr.HTML)
"""Components whose value is a text of the page, and nothing that a person typed."""


@dataclass(frozen=True)
class Sentence:
    """The same in both languages.

    Attributes:
        english: HTML.
        chinese: The same.
    """

    english: str
    chinese: str

    @property
    def html(self) -> str:
        """Both, of which the style sheet shows one; where they are the same, that."""
        if self.english == self.chinese:
            return self.english
        return f'<span lang="en">{self.english}</span><span lang="zh">{self.chinese}</span>'


def both(template: str, *values: Sentence | object) -> Sentence:
    """Return a sentence in both languages.

    Args:
        template: Its English, with places for the values; what has no Chinese, such as a name, stays as it is.
        values: Plain text, or what `both` returned.
    """
    return Sentence(
        template.format(*(_within(value, "english") for value in values)),
        CHINESE.get(template, template).format(*(_within(value, "chinese") for value in values)),
    )


def joined(separator: str, *parts: Sentence | object) -> Sentence:
    """Return sentences as one, with the same between them in both languages."""
    return both(separator.join(["{}"] * len(parts)), *parts)


def _within(value: Sentence | object, language: str) -> str:
    return getattr(value, language) if isinstance(value, Sentence) else escape(str(value))


def marked(text: str) -> str:
    """Return a label as the browser takes it to show it in its language; of a string it translates only one."""
    return str(I18nData(text)) if text in CHINESE else text


def localize(blocks: gr.Blocks) -> None:
    """Mark all texts of a page, once all of it is laid out."""
    for block in blocks.blocks.values():
        for name, text in texts(block).items():
            setattr(block, name, marked(text))
        if choices := getattr(block, "choices", None):
            vars(block)["choices"] = [(marked(name), value) for name, value in choices]


def texts(block: Block) -> dict[str, str]:
    """Return what people read of a component, by attribute; its choices apart."""
    names = (*_TEXTS, "value") if isinstance(block, _SPOKEN) else _TEXTS
    said = {name: getattr(block, name, None) for name in names}
    return {name: text for name, text in said.items() if isinstance(text, str) and text}


def translations() -> gr.I18n:
    """Return what `gr.Blocks.launch` needs to show what is marked."""
    return gr.I18n(en={text: text for text in CHINESE}, zh=CHINESE)
