"""The four-part prompt of MMM-RS: its vocabulary as data, composing and parsing back; knows no model and no page."""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from mmmrs_demo.errors import UserError, explain
from mmmrs_demo.settings import Settings

MAX_TOKENS = 77
"""Tokens a CLIP text encoder reads, the start and end marks among them."""

_SEPARATOR = ", "
_MARKS = 2  # start and end
_SHOWN = 80  # characters repeated of what is cut off


@dataclass(frozen=True)
class GSDLevel:
    """One of the paper's five levels of ground sample distance (GSD).

    Attributes:
        key: Short name, as used in a Prompt and on the command line.
        words: The exact words of the paper.
        lower_m: Smallest GSD in metres per pixel, inclusive.
        upper_m: Upper bound in metres per pixel, exclusive.
    """

    key: str
    words: str
    lower_m: float
    upper_m: float


# The paper publishes no bound between Low and Ultra-low. 10 m/px is our convention, and 10 m itself (Sentinel-1 and -2)
# is Low, as in the paper's prompts.
_ABOVE_LOW = math.nextafter(10.0, math.inf)

GSD_LEVELS = (
    GSDLevel("ultra-high", "Ultra-high precision resolution", 0.0, 0.5),
    GSDLevel("high", "High precision resolution", 0.5, 1.0),
    GSDLevel("ordinary", "Ordinary precision resolution", 1.0, 5.0),
    GSDLevel("low", "Low precision resolution", 5.0, _ABOVE_LOW),
    GSDLevel("ultra-low", "Ultra-low precision resolution", _ABOVE_LOW, math.inf),
)
WEATHERS = ("snow", "fog", "night")
SATELLITES = ("Google Earth", "GF1", "GF2", "TG2", "Sentinel-1", "Sentinel-2")

_LEVEL_BY_KEY = {level.key: level for level in GSD_LEVELS}
_KEY_BY_WORDS = {level.words: level.key for level in GSD_LEVELS}


def level_of(metres: float) -> GSDLevel:
    """Return the level of a ground sample distance in metres per pixel.

    Raises:
        UserError: `metres` is not a positive, finite number.
    """
    if not (math.isfinite(metres) and metres > 0):
        raise UserError(f"A ground sample distance is a positive number of metres per pixel, not {metres}.")
    return next(level for level in GSD_LEVELS if metres < level.upper_m)


def clean(text: str) -> str:
    """Tidy words a person typed: control characters and runs of whitespace become one space, stray commas go."""
    printable = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    return re.sub(r" *,(?: *,)*", ",", " ".join(printable.split())).strip(" ,")


def check_length(text: str, name: str) -> str:
    """Return `text`, or raise UserError where it is longer than the settings allow."""
    limit = Settings().max_caption
    if len(text) > limit:
        raise UserError(f"The {name} has {len(text)} characters; at most {limit} are read, so shorten it.")
    return text


class Prompt(BaseModel):
    """``{GSD level}, {weather}, {caption}, {satellite}`` (paper, section 3); any part may be left out.

    A Prompt and its text say the same thing: where a caption begins or ends with a word of the vocabulary and that part
    was left out, the word is taken as that part, which leaves the text as it was. So ``parse(p.text) == p`` holds.

    Attributes:
        gsd: Key of a `GSDLevel`, or None.
        weather: One of `WEATHERS`, or None for clear weather.
        caption: Free text, "" for none.
        satellite: One of `SATELLITES`, or None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gsd: str | None = None
    weather: str | None = None
    caption: str = ""
    satellite: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, data: Any) -> Any:
        """Read the parts as the text they compose would be read."""
        if not isinstance(data, dict):
            return data
        data = {key: value for key, value in data.items() if value not in (None, "")}
        known = set(data) <= set(cls.model_fields) and all(isinstance(value, str) for value in data.values())
        if not known:
            return data  # the fields' own checks say what is wrong
        for part, words in (("gsd", tuple(_LEVEL_BY_KEY)), ("weather", WEATHERS), ("satellite", SATELLITES)):
            if part in data and data[part] not in words:
                raise UserError(
                    f"There is no {part} “{data[part]}”; choose one of {', '.join(words)}, or leave it out."
                )
        return _split(_join(data))

    @field_validator("caption")
    @classmethod
    def _short_enough(cls, caption: str) -> str:
        return check_length(caption, "caption")

    @property
    def level(self) -> GSDLevel | None:
        """The level that `gsd` names."""
        return _LEVEL_BY_KEY[self.gsd] if self.gsd else None

    @property
    def text(self) -> str:
        """The words the model reads."""
        return _join(self.model_dump())


def _join(parts: dict[str, str | None]) -> str:
    gsd = parts.get("gsd")
    words = _LEVEL_BY_KEY[gsd].words if gsd else None
    told = (words, parts.get("weather"), clean(parts.get("caption") or ""), parts.get("satellite"))
    return _SEPARATOR.join(part for part in told if part)


def _split(text: str) -> dict[str, Any]:
    words = text.split(_SEPARATOR)
    gsd = _KEY_BY_WORDS[words.pop(0)] if words[0] in _KEY_BY_WORDS else None
    weather = words.pop(0) if words and words[0] in WEATHERS else None
    satellite = words.pop() if words and words[-1] in SATELLITES else None
    return {"gsd": gsd, "weather": weather, "caption": _SEPARATOR.join(words), "satellite": satellite}


def parse(text: str) -> Prompt:
    """Read a composed prompt back into its parts; whatever is no word of the vocabulary in its place is the caption.

    Raises:
        UserError: The caption is too long.
    """
    try:
        return Prompt(caption=text)
    except ValidationError as error:
        raise UserError(explain(error)) from error


def count(text: str, tokenize: Callable[[str], Sized]) -> int:
    """Return the tokens of a text as the text encoder reads it, of which there may be `MAX_TOKENS`.

    Args:
        text: A composed prompt.
        tokenize: Gives the tokens of a text, without start and end marks.
    """
    return len(tokenize(text)) + _MARKS


def overflow(text: str, tokenize: Callable[[str], Sized]) -> str | None:
    """Return a sentence that names what the text encoder would not read of `text`, or None where all of it fits.

    Args:
        text: A composed prompt.
        tokenize: Gives the tokens of a text, without start and end marks.
    """
    tokens = count(text, tokenize)
    if tokens <= MAX_TOKENS:
        return None
    words = text.split(" ")
    fits = bisect_right(range(1, len(words) + 1), MAX_TOKENS, key=lambda n: count(" ".join(words[:n]), tokenize))
    lost = " ".join(words[fits:])
    lost = lost if len(lost) <= _SHOWN else "… " + lost[-_SHOWN:]
    return f"The prompt has {tokens} tokens and the model reads {MAX_TOKENS}; its end will be ignored: “{lost}”."


PAPER_PROMPTS = tuple(
    Prompt.model_construct(**_split(text))  # unchecked, so that importing this file reads no settings
    for text in (
        "High precision resolution, a satellite image shows a small town in the middle of a field, GF2",
        "High precision resolution, snow, a satellite image shows a park in the city, Google Earth",
        "Ultra-low precision resolution, fog, a satellite image shows a large mountain range, TG2",
        "High precision resolution, night, a satellite image shows a street in a residential area, Google Earth",
        "Ultra-high precision resolution, a satellite image shows the area around a large city, Google Earth",
        "High precision resolution, a satellite image shows the area around a large city, Google Earth",
        "Ordinary precision resolution, a satellite image shows the area around a large city, Google Earth",
        "Low precision resolution, a satellite image shows the area around a large city, Google Earth",
        "Low precision resolution, a satellite image shows some roads in farmland, Sentinel-2",
        "Low precision resolution, a satellite image shows a city, Sentinel-1",
        "Low precision resolution, a satellite image of a mountain with a river running through it, GF1",
        "Low precision resolution, a satellite image of a city with a river, GF1",
    )
)
"""The prompts printed in the paper; the last four are those of its translations."""
