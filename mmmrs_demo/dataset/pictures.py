"""Windows of source pictures as 8-bit arrays: TIFFs of any size and depth through rasterio, all else through Pillow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from mmmrs_demo.dataset.standardise import Cut
from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called

SHOWN = (2, 98)
"""Percentiles of what is deeper than 8 bits that become black and white."""

_GLANCE = 1024  # longest side of the reduced reading that those percentiles are measured on


class Reading(Protocol):
    """An open picture.

    Attributes:
        width: pixels.
        height: pixels.
    """

    width: int
    height: int

    def read(self, cut: Cut) -> NDArray[np.uint8]:
        """Return a window as uint8 of shape (side, side) or (side, side, 3)."""


@contextmanager
def opened(file: Path, bands: Sequence[int] = ()) -> Iterator[Reading]:
    """Open a picture for reading windows of it.

    Args:
        file: a TIFF, PNG, JPEG, WebP or BMP.
        bands: numbers of the bands to read, from 1, one or three; none for the file's own colours.

    Raises:
        UserError: it is no picture, or has no such bands.
    """
    try:
        if file.suffix.lower() in (".tif", ".tiff"):
            with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):
                source = rasterio.open(file)
            with source:
                yield _Raster(source, bands)
        else:
            with Image.open(file, formats=("PNG", "JPEG", "WEBP", "BMP")) as image:
                yield _Whole(image, bands)
    except (OSError, SyntaxError, Image.DecompressionBombError, RasterioError) as error:
        raise UserError(f"{called(file)} cannot be read as a picture: {error}") from error


class _Whole:
    """A picture that is decoded at once."""

    def __init__(self, image: Image.Image, bands: Sequence[int]) -> None:
        self.width, self.height = image.size
        if image.mode.startswith(("I", "F")):
            deep = np.asarray(image)
            self._pixels = _shallow(deep, *_range(deep))
        elif bands:
            self._pixels = np.asarray(image)[..., [band - 1 for band in bands]].squeeze()
        else:
            self._pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))

    def read(self, cut: Cut) -> NDArray[np.uint8]:
        return self._pixels[cut.y : cut.y + cut.side, cut.x : cut.x + cut.side]


class _Raster:
    """A TIFF, of which only windows are read."""

    def __init__(self, source: rasterio.DatasetReader, bands: Sequence[int]) -> None:
        self.width, self.height, self._source = source.width, source.height, source
        self._bands = list(bands) or _colours(source)
        if max(self._bands) > source.count:
            raise UserError(f"{called(source.name)} has {source.count} bands; band {max(self._bands)} was wanted.")
        self._range = None
        if source.dtypes[0] != "uint8":
            step = max(1, max(self.width, self.height) // _GLANCE)
            shape = (len(self._bands), self.height // step, self.width // step)
            self._range = _range(source.read(self._bands, out_shape=shape, masked=True).compressed())

    def read(self, cut: Cut) -> NDArray[np.uint8]:
        pixels = self._source.read(self._bands, window=Window(cut.x, cut.y, cut.side, cut.side))
        shallow = pixels if self._range is None else _shallow(pixels, *self._range)
        return shallow[0] if len(self._bands) == 1 else np.ascontiguousarray(shallow.transpose(1, 2, 0))


def _colours(source: rasterio.DatasetReader) -> list[int]:
    """The bands that say they are red, green and blue, or else the first three, or the only one."""
    wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if set(wanted) <= set(source.colorinterp):
        return [source.colorinterp.index(colour) + 1 for colour in wanted]
    return [1, 2, 3] if source.count >= 3 else [1]


def _range(values: NDArray[np.generic]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, SHOWN) if finite.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-9))


def _shallow(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    share = np.nan_to_num((values.astype(np.float64) - low) / (high - low))
    return (share.clip(0, 1) * 255).round().astype(np.uint8)
