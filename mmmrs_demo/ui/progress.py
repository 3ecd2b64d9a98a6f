"""The line that says how far a run is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.request import Step
from mmmrs_demo.scene import Progress
from mmmrs_demo.ui.language import both, joined, marked
from mmmrs_demo.ui.run import News, Waiting, seconds_left, share_of

if TYPE_CHECKING:
    from mmmrs_demo.ui.language import Sentence

_BAR = f"<progress aria-label='{marked('Progress')}'></progress>"
_MINUTE = 60  # seconds

SPOKEN = "element.setAttribute('role', 'status')"
"""What makes a screen reader say what an HTML component comes to show, as its `js_on_load`."""


def said(words: Sentence, bar: str = _BAR, live: str = "polite") -> dict[str, Any]:
    """Return the update that says something, beneath a bar of HTML; with "off", a screen reader is silent about it."""
    return gr.update(value=f"{bar}<p aria-live='{live}'>{words.html}</p>", visible=True)


def counted(news: News | None) -> dict[str, Any]:
    """Return the update of a progress that says how far a run is; of no news, one that changes nothing."""
    if news is None:
        return gr.skip()
    words, left = _words(news), seconds_left(news)
    if isinstance(news, Step):
        words = joined(" · ", words, duration(news.seconds))
    if left is not None:
        words = both("{}, about {} left", words, duration(left))
    if isinstance(news, Waiting):
        return said(words)
    return said(words, _BAR.replace("></", f" value='{share_of(news):.4f}'></"), "off")  # it is new every moment


def _words(news: News) -> Sentence:
    if isinstance(news, Step):
        return both("Step {} of {}", news.index, news.total)
    if isinstance(news, Waiting):
        return both("Waiting for its turn: {} before you", news.before) if news.before else both("Starting …")
    if isinstance(news, Progress):
        return both("Window {} of {}", f"{news.done:,}", f"{news.total:,}")
    words = both(news.what, f"{news.number:,}", f"{news.total:,}", news.name)
    if news.news is None:
        return words
    within = _words(news.news)
    return joined(", ", words, replace(within, english=within.english.lower()))


def duration(seconds: float) -> Sentence:
    """Return a time as people read it."""
    if seconds < _MINUTE:
        return both("{} s", f"{seconds:.1f}")
    return both("{} min {} s", f"{seconds // _MINUTE:.0f}", f"{seconds % _MINUTE:.0f}")
