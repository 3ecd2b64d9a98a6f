"""The part of a report that is on the autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmmrs_demo.evaluation.report import cell, table

SHEET = "autoencoder.png"

_READING = """\
- Every clear held-out tile is encoded and decoded at once. No picture that is made through this autoencoder can
  be nearer to a real one.
- Colour is the ratio of the mean differences between the bands, redrawn to real: below 1 colours are greyer.
- Contrast is the ratio of the standard deviations within windows of 8 × 8 pixels, redrawn to real: below 1 texture
  and speckle are smoothed away.
"""


def markdown(section: Mapping[str, Any]) -> str:
    """Return the part of the page that a section makes."""
    rows = [
        (
            f"{modality.upper()}, {source}",
            str(told["tiles"]),
            cell(told["psnr_db"], 1),
            cell(told["ssim"], 2),
            cell(told["colour_ratio"], 2) if modality == "rgb" else "",
            cell(told["contrast_ratio"], 2),
        )
        for modality, sources in section["figures"].items()
        for source, told in sources.items()
    ]
    head = ("tiles", "number", "PSNR, dB", "SSIM", "colour", "contrast")
    return "\n".join(["## Autoencoder\n", table(head, rows), f"![real, redrawn]({SHEET})\n", _READING])
