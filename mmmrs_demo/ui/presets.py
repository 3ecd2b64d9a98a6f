"""Prompts to begin with: the paper's and our own, with what their buttons say; data alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt


@dataclass(frozen=True)
class Preset:
    """A prompt, and the settings that belong to it.

    Attributes:
        label: What its button says.
        prompt: All four parts.
        settings: Values by field of a request; what it does not name stays as it is.
    """

    label: str
    prompt: Prompt
    settings: dict[str, Any] = field(default_factory=dict)


def _label(prompt: Prompt) -> str:
    told = (prompt.caption.removeprefix("a satellite image shows ").capitalize(), prompt.gsd, prompt.weather)
    return " · ".join(part for part in told if part)


PAPER = tuple(
    Preset(_label(prompt), prompt)
    for prompt in PAPER_PROMPTS[: -len(TRANSLATIONS)]  # its last prompts are those of its translations
)
"""The paper's prompts for pictures from words."""

_prompt = Prompt.model_construct  # unchecked, so that importing this file reads no settings
_FIELDS: dict[str, Any] = {
    "caption": "a satellite image shows farmland with a village",
    "gsd": "low",
    "satellite": "Sentinel-2",
}

OWN = (
    # With one seed, what differs between these is the weather.
    *(
        Preset(f"One place: {weather or 'clear'}", _prompt(weather=weather, **_FIELDS), {"seed": "7"})
        for weather in (None, "fog", "snow", "night")
    ),
    Preset(
        "Harbour · ultra-high",
        _prompt(gsd="ultra-high", caption="a satellite image shows a harbour with ships", satellite="Google Earth"),
    ),
    Preset(
        "River in a forest · ordinary",
        _prompt(gsd="ordinary", caption="a satellite image shows a river in a forest", satellite="GF1"),
    ),
    Preset(
        "Desert · ultra-low",
        _prompt(gsd="ultra-low", caption="a satellite image shows sand dunes in a desert", satellite="TG2"),
    ),
    Preset(
        "Coast by Sentinel-1 · low",
        _prompt(gsd="low", caption="a satellite image shows a city on the coast", satellite="Sentinel-1"),
    ),
)
"""Ours, which show what the other words do."""

IDEAS = tuple(dict.fromkeys(preset.prompt.caption for preset in (*PAPER, *OWN)))
"""Captions for who has none."""
