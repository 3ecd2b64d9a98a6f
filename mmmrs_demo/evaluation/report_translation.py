"""The part of a report that is on translations: a page of Markdown, and a sheet of pictures for each direction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from mmmrs_demo.evaluation import report
from mmmrs_demo.evaluation.report import UNDEFINED, cell, table
from mmmrs_demo.evaluation.translation import FIGURES, LPIPS, METHODS, WHITE_SPREAD, Outcome
from mmmrs_demo.modality import TRANSLATIONS

_DIGITS = 3


class Published(NamedTuple):
    """A figure that somebody else published."""

    direction: str
    data: str
    system: str
    figures: str


PUBLISHED = (
    Published("sar2rgb", "QXS-SAROPT", "pix2pix", "PSNR 12.33, SSIM .203, FID 174.6, LPIPS .665"),
    Published("sar2rgb", "QXS-SAROPT", "CycleGAN", "PSNR 13.25, SSIM .278, FID 115.5, LPIPS .647"),
    Published("sar2rgb", "QXS-SAROPT", "SD2.1 ControlNet", "PSNR 13.42, SSIM .297, FID 50.4, LPIPS .604"),
    Published("sar2rgb", "QXS-SAROPT", "cBBDM", "PSNR 16.02, SSIM .372, FID 50.6, LPIPS .539"),
    Published("sar2rgb", "QXS-SAROPT", "C-DiffSET", "PSNR 16.92, SSIM .380, FID 19.9, LPIPS .526"),
    Published("sar2rgb", "QXS-SAROPT", "GeoSET", "PSNR 15.07, SSIM .332, FID 16.9, LPIPS .553"),
    Published("sar2rgb", "RST-1M", "Any2Any", "PSNR 25.20"),
    Published("rgb2sar", "RST-1M", "Any2Any", "PSNR 17.84"),
    Published("rgb2sar", "OpenEarthMap-SAR", "CUT", "PSNR 9.18"),
    Published("nir2rgb", "RST-1M", "Any2Any", "PSNR 27.03"),
    Published("rgb2nir", "RST-1M", "Any2Any", "PSNR 23.87"),
    Published("rgb2nir", "Sentinel-2", "DLR cGAN", "SSIM .900, MAE .0238"),
)
"""What was published for the four directions; within QXS-SAROPT one benchmark retrained all six systems."""

_READING = f"""### How to read it

- All tiles are brought to the native size of the bundle. Held-out tiles are those of the data set's own split: places
  that no training on it sees. What a bundle was trained on besides is not known here.
- The mean of samples comes nearer in PSNR and SSIM because it is blurred. A single sample should look more like a real
  picture: smaller distances of histograms (1-Wasserstein, 8-bit levels) and of radially averaged power spectra.
- The mean colour is that of training targets; the regression is a quadratic function of each pixel. Neither knows what
  is beside a pixel. The U-Net has the form of the generator of pix2pix, made smaller, and learns the target itself by
  an L1 loss: one blurred guess, as the mean of samples is.
- Likeness is the correlation of blurred grey pictures: a model that heeds its input is more like its own tile than like
  the others.
- NDVI is computed from displayed levels with the real red band on both sides.
- Ratios are made to real, 1 is best, and over tiles their median is given. They take the displayed level for the
  intensity, so they compare with the real tile and are no radiometry. Equivalent looks are mean² / variance in windows
  of 8 × 8 pixels, in the quarter of them where the *optical* picture varies least.
- Where a figure is not defined it says {UNDEFINED}: a plain colour has no speckle.
- On the sheets the spread of samples is their standard deviation at each pixel, white from {WHITE_SPREAD} levels on.
"""

_ORIENTATION = """### Published figures, for orientation

These are other data sets, other sensors, sizes and stretches: they must not be ranked against the figures above, nor
against each other from one data set to the next. MMM-RS itself published no figure for any translation.
"""


def write(folder: Path, about: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write a sheet for every direction, and put them all into the report.

    Args:
        folder: A folder that is there.
        about: As `report.update` takes it, with samples, seed, guidance, and what measures LPIPS or None.
        outcomes: One for each direction.

    Raises:
        UserError: The folder cannot be written to, or what lies there as its report is none.
    """
    for outcome in outcomes:
        rows = [list(row.values()) for row in outcome.sheet]
        told = f"Columns: {', '.join(outcome.sheet[0])}. All but the first two are synthetic."
        report.write_sheet(folder / f"{outcome.translation}.png", rows, told)
    report.update(folder, "translation", about, as_section(outcomes))


def as_section(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what was measured in plain values, rounded to three digits; None where a figure is not defined."""
    directions = {}
    for outcome in outcomes:
        told = asdict(replace(outcome, sheet=()))
        del told["translation"], told["sheet"]
        directions[outcome.translation] = told | {"columns": list(outcome.sheet[0])}
    return {"directions": report.plain(directions, _DIGITS)}


def markdown(section: Mapping[str, Any]) -> str:
    """Return the part of the page that a section makes: tables, sheets, and how to read them."""
    parts = [_direction(key, outcome, section["samples"]) for key, outcome in section["directions"].items()]
    rows = [(TRANSLATIONS[row.direction].title, row.data, row.system, row.figures) for row in PUBLISHED]
    published = _ORIENTATION + "\n" + table(("direction", "data", "system", "figures"), rows)
    return "\n".join(["## Translations\n", *parts, _READING + _about_lpips(section[LPIPS]), published])


def _direction(key: str, outcome: Mapping[str, Any], samples: int) -> str:
    sources = Counter(tile["source"] for tile in outcome["tiles"])
    tiles = ", ".join(f"{count} of {source}" for source, count in sources.items())
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in outcome["settings"].items())
    titles = {**METHODS, "mean_of_samples": f"mean of {samples}"}
    shown = [method for method in METHODS if method in outcome["figures"]]
    rows = [
        (figure.label, figure.best, *(cell(outcome["figures"][method][name], _DIGITS) for method in shown))
        for name, figure in FIGURES.items()
        if name in outcome["figures"]["sample"]
    ]
    rivals = "; ".join(
        f"{METHODS[method]}: " + ", ".join(f"{name} {value:,}" for name, value in told.items())
        for method, told in outcome["rivals"].items()
    )
    return f"""### {TRANSLATIONS[key].title}

{len(outcome["tiles"])} held-out tiles ({tiles}), {samples} samples of each: {settings}.
A sample takes {outcome["seconds"]} s. The samples of a tile differ by {outcome["spread"]} levels
(standard deviation, mean over pixels). Beside them is what was fitted on training tiles alone ({rivals}).

{table(("figure", "best", *(titles[method] for method in shown)), rows)}
![{TRANSLATIONS[key].title}, from left to right: {", ".join(outcome["columns"])}]({key}.png)
"""


def _about_lpips(weights: str | None) -> str:
    if weights is None:
        return "- LPIPS was not measured: it needs weights (`--lpips FILE`).\n"
    return f"- LPIPS is version 0.1 on AlexNet ({weights}), which is shown a picture of one band in three equal ones.\n"
