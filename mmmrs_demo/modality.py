"""RGB, SAR and NIR, and the four translations between them as one table; knows no page and no model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Modality(StrEnum):
    """What a sensor measures; each has a PIL mode to show it in and a label."""

    RGB = "rgb"
    SAR = "sar"
    NIR = "nir"

    @property
    def mode(self) -> str:
        """PIL mode: three bands for RGB, one for SAR and NIR."""
        return "RGB" if self is Modality.RGB else "L"

    @property
    def label(self) -> str:
        """The name people write: RGB, SAR or NIR."""
        return self.value.upper()


@dataclass(frozen=True)
class Translation:
    """One direction that a ControlNet was trained for (paper, section 4.3).

    No prompt says SAR or NIR: the ControlNet sets the modality, and the satellite named is that of the *input*.

    Attributes:
        source: Modality of the input.
        target: Modality of the output.
        satellite: Satellite word of the prompt where the person chose none.
        caption: Example caption, one of the paper's.
        gsd: Key of the GSD level of the paper's prompts.
    """

    source: Modality
    target: Modality
    satellite: str
    caption: str
    gsd: str = "low"

    @property
    def key(self) -> str:
        """Name in requests, on the command line and of the folder of weights, such as ``rgb2sar``."""
        return f"{self.source}2{self.target}"

    @property
    def title(self) -> str:
        """Name for people, such as ``RGB → SAR``."""
        return f"{self.source.label} → {self.target.label}"


TRANSLATIONS = {
    translation.key: translation
    for translation in (
        Translation(Modality.RGB, Modality.SAR, "Sentinel-2", "a satellite image shows some roads in farmland"),
        Translation(
            Modality.RGB, Modality.NIR, "GF1", "a satellite image of a mountain with a river running through it"
        ),
        Translation(Modality.SAR, Modality.RGB, "Sentinel-1", "a satellite image shows a city"),
        Translation(Modality.NIR, Modality.RGB, "GF1", "a satellite image of a city with a river"),
    )
}
"""The four translations by key, in the order in which they are shown."""
