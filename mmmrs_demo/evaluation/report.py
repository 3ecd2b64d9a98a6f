"""Turns figures into a report that lies in a folder: JSON for programs, Markdown and sheets of pictures for people."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmmrs_demo import __version__
from mmmrs_demo.evaluation.translation import FIGURES, METHODS, Outcome
from mmmrs_demo.files import whole
from mmmrs_demo.modality import TRANSLATIONS

_LIBRARIES = ("numpy", "pillow", "scipy")
_DIGITS = 3
_GAP = 4  # white pixels between the pictures of a sheet
_UNDEFINED = "n/a"
_COLUMNS = "input, real target, one sample, mean of samples, regression"


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

_READING = f"""## How to read it

- All pictures are cut to the centre square and brought to the native size of the bundle. Held-out tiles show places
  that this project never trains on; what bundles of others were trained on is not known here.
- The mean of samples comes nearer in PSNR and SSIM because it is blurred. A single sample should look more like a real
  picture: smaller distances of histograms (1-Wasserstein, 8-bit levels) and of radially averaged power spectra.
- The mean colour is that of training targets; the regression is a quadratic function of each pixel, fitted on the same
  training tiles. Neither knows what is beside a pixel, and a model that does should beat them.
- Likeness is the correlation of blurred grey pictures: a model that heeds its input is more like its own tile than like
  the others.
- NDVI is computed from displayed levels with the real red band on both sides.
- Ratios are made to real, 1 is best, and over tiles their median is given. They take the displayed level for the
  intensity, so they compare with the real tile and are no radiometry. Equivalent looks are mean² / variance in windows
  of 8 × 8 pixels, in the quarter of them where the *optical* picture varies least.
- Where a figure is not defined it says {_UNDEFINED}: a plain colour has no speckle.
"""

_ORIENTATION = """## Published figures, for orientation

These are other data sets, other sensors, sizes and stretches: they must not be ranked against the figures above, nor
against each other from one data set to the next. MMM-RS itself published no figure for any translation.
"""


def write(folder: Path, about: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write ``report.json``, ``report.md`` and a sheet for every direction.

    Args:
        folder: A folder that is there; a report in it is replaced.
        about: What the run was: command, bundle, title, trained_on, size, samples, seed, guidance.
        outcomes: One for each direction.

    Raises:
        UserError: The folder cannot be written to.
    """
    report = as_json(about, outcomes)
    for outcome in outcomes:
        told = PngInfo()
        told.add_text("Description", f"Columns: {_COLUMNS}. All but the first two are synthetic.")
        with whole(folder / f"{outcome.translation}.png") as file:
            sheet(outcome).save(file, "PNG", pnginfo=told)
    with whole(folder / "report.json") as file:
        file.write((json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    with whole(folder / "report.md") as file:
        file.write(as_markdown(report).encode())


def as_json(about: Mapping[str, Any], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the whole report in plain values, rounded to three digits; None where a figure is not defined."""
    directions = {}
    for outcome in outcomes:
        plain = asdict(replace(outcome, sheet=()))
        del plain["translation"], plain["sheet"]
        directions[outcome.translation] = plain
    versions = {"mmmrs-demo": __version__} | {library: version(library) for library in _LIBRARIES}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return _plain({**about, "created": created, "versions": versions, "directions": directions})


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the page for people that a report of `as_json` makes: tables, sheets, and how to read them."""
    head = f"""# How near the translations come to real tiles

Bundle `{report["bundle"]}` ({report["title"]}) at {report["size"]} px, {report["created"]}. {report["trained_on"]}

    {report["command"]}
"""
    sections = [_section(key, outcome, report["samples"]) for key, outcome in report["directions"].items()]
    rows = [(TRANSLATIONS[row.direction].title, row.data, row.system, row.figures) for row in PUBLISHED]
    published = _ORIENTATION + "\n" + _table(("direction", "data", "system", "figures"), rows)
    return "\n".join([head, *sections, _READING, published])


def sheet(outcome: Outcome) -> Image.Image:
    """Return the pictures of a direction's first tiles, a row each: input, target, sample, mean, regression."""
    side = outcome.sheet[0][0].shape[0] + _GAP
    page = Image.new("RGB", (len(outcome.sheet[0]) * side - _GAP, len(outcome.sheet) * side - _GAP), "white")
    for y, row in enumerate(outcome.sheet):
        for x, cell in enumerate(row):
            page.paste(Image.fromarray(cell), (x * side, y * side))
    return page


def _section(key: str, outcome: Mapping[str, Any], samples: int) -> str:
    sources = Counter(tile["source"] for tile in outcome["tiles"])
    tiles = ", ".join(f"{count} of {source}" for source, count in sources.items())
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in outcome["settings"].items())
    names = {**METHODS, "mean_of_samples": f"mean of {samples}"}
    rows = [
        (figure.label, figure.best, *(_cell(outcome["figures"][method][name]) for method in METHODS))
        for name, figure in FIGURES.items()
        if name in outcome["figures"]["sample"]
    ]
    return f"""## {TRANSLATIONS[key].title}

{len(outcome["tiles"])} held-out tiles ({tiles}), {samples} samples of each: {settings}.
A sample takes {outcome["seconds"]} s. The samples of a tile differ by {outcome["spread"]} levels
(standard deviation, mean over pixels). The baselines are fitted on {outcome["fitted"]} training tiles.

{_table(("figure", "best", *names.values()), rows)}
![{TRANSLATIONS[key].title}, from left to right: {_COLUMNS}]({key}.png)
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def _cell(value: float | None) -> str:
    return _UNDEFINED if value is None else f"{value:.{_DIGITS}f}"


def _plain(value: Any) -> Any:
    """Return `value` with all numbers in it as JSON can hold them."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (float, np.floating)):
        return round(float(value), _DIGITS) if math.isfinite(value) else None
    return value
