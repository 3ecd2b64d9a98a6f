"""An uploaded tile: the preview that stands for a raster on the page, and what there is to say about it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mmmrs_demo.errors import UserError
from mmmrs_demo.georaster import GLANCE, Raster, open_raster
from mmmrs_demo.modality import Modality
from mmmrs_demo.outputs import PNG, suffix_of
from mmmrs_demo.radiometry import Quantity, Stretch
from mmmrs_demo.raster import check_smallest
from mmmrs_demo.ui.cache import beside
from mmmrs_demo.ui.language import both, joined

if TYPE_CHECKING:
    from mmmrs_demo.bands import BandChoice
    from mmmrs_demo.settings import Settings

PREVIEW = ".preview-"
"""In the name of a preview, after that of its raster: so the picture in the field tells which file it stands for."""


@dataclass(frozen=True)
class Look:
    """What can be seen of a raster.

    Attributes:
        preview: Path of a PNG with a longer side of at most `GLANCE` pixels.
        bands: Those that are read, such as "4, 3, 2"; "" where nothing tells and a person has to.
        choice: There are bands to choose from.
        level: Key of the prompt's GSD level; "" where the place is unknown.
        facts: HTML: size, GSD, and what was assumed.
    """

    preview: Path
    bands: str
    choice: bool
    level: str
    facts: str


def is_picture(file: Path) -> bool:
    """Whether a file is no raster; what it is instead is for `raster.read_tile` to say."""
    return suffix_of(file) == PNG


def raster_of(file: Path) -> Path | None:
    """Return the raster whose preview a file is; None where it is none."""
    name, mark, _ = file.name.rpartition(PREVIEW)
    return raster if name and mark and (raster := file.with_name(name)).is_file() else None


def look(
    file: Path, modality: Modality, settings: Settings, bands: list[int] | None = None, quantity: Quantity | None = None
) -> Look:
    """Look at a raster, and draw its preview beside it.

    Args:
        file: An uploaded GeoTIFF or JPEG 2000.
        modality: What it shows.
        settings: Limits.
        bands: Numbers that a person chose. Where none were and nothing in the file tells, the preview shows the first.
        quantity: What the samples of a SAR band are, where a person said so.

    Raises:
        UserError: It cannot be read.
    """
    with open_raster(file, settings) as raster:
        check_smallest(raster.size, raster.who)
        unknown = ""
        try:
            choice = raster.choose(modality, bands)
        except UserError as error:
            if bands is not None:
                raise
            unknown, choice = str(error), raster.choose(modality, [1])
        stretch = raster.stretch(choice, quantity)
        said = (unknown,) if unknown else (choice.grounds, stretch.sentence)
        about = (
            both("{} × {} px", f"{raster.width:,}", f"{raster.height:,}"),
            *((both("{} m per pixel", f"{raster.gsd:g}"),) if raster.gsd else ()),
            both("{} bands", len(raster.bands)) if len(raster.bands) > 1 else both("1 band"),
        )
        numbers = "-".join(map(str, choice.numbers))
        name = f"{file.name}{PREVIEW}{modality}-{numbers}{f'-{quantity}' if quantity else ''}{PNG}"
        return Look(
            preview=beside(file, name, _drawn(raster, choice, stretch if quantity else None)),
            bands="" if unknown else ", ".join(map(str, choice.numbers)),
            choice=bool(unknown) or len(raster.bands) > len(choice.numbers),
            level=raster.level.key if raster.level else "",
            facts=f"<p>{joined(' · ', *about).html}</p><p>{escape(' '.join((*said, *raster.notes)))}</p>",
        )


def glance(file: Path, modality: Modality, settings: Settings) -> tuple[Image.Image, tuple[int, int]]:
    """Return a finished file small, its longer side at most `GLANCE` pixels, and its size."""
    if not is_picture(file):
        with open_raster(file, settings) as raster:
            return raster.preview(modality, side=GLANCE), raster.size
    with Image.open(file, formats=["PNG"]) as picture:
        return reduced(picture), picture.size


def glance_at_spread(file: Path, settings: Settings) -> tuple[Image.Image, str]:
    """Return the spread of samples as a small picture, its longer side at most `GLANCE` pixels, and what white means.

    Args:
        file: A PNG of a spread, or a GeoTIFF whose last band is one.
        settings: Limits.
    """
    if is_picture(file):
        with Image.open(file, formats=["PNG"]) as picture:
            spread, unit = np.asarray(reduced(picture), np.float32), ""
    else:
        with open_raster(file, settings) as raster:
            samples, valid = raster.glance([len(raster.bands)])
            spread, unit = np.where(valid, samples[0], np.float32(0)), raster.bands[-1].unit
    white = float(f"{np.percentile(spread, 99):.2g}") or 1.0  # a few far outliers would leave all others black
    drawn = Image.fromarray((np.clip(spread / white, 0, 1) * 255 + 0.5).astype(np.uint8))
    return drawn, f"{white:g} {unit}" if unit else f"{white:g} of 255 levels"


def reduced(picture: Image.Image) -> Image.Image:
    """Return a picture with a longer side of at most `GLANCE` pixels."""
    picture = picture.copy()
    picture.thumbnail((GLANCE, GLANCE), Image.Resampling.BOX)
    return picture


def _drawn(raster: Raster, choice: BandChoice, stretch: Stretch | None) -> Image.Image:
    """Draw all of a raster; without a stretch of its own, from what has been read of it already."""
    if stretch is None:
        return raster.preview(choice.modality, choice.numbers, GLANCE)
    reduction = max(1.0, max(raster.size) / GLANCE)
    shape = (max(1, round(raster.height / reduction)), max(1, round(raster.width / reduction)))
    return raster.tile(choice, stretch, shape=shape)[0]
