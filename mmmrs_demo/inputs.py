"""What is translated: a picture or a raster with one face, and the writer that its result needs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window

from mmmrs_demo import worldfile
from mmmrs_demo.bands import BandChoice
from mmmrs_demo.errors import UserError, heed
from mmmrs_demo.files import called
from mmmrs_demo.georaster import Raster, open_raster
from mmmrs_demo.geotiff import GeoTIFFWriter
from mmmrs_demo.modality import Modality
from mmmrs_demo.outputs import GEOTIFF, PNG, PNGWriter, Writer, suffix_of
from mmmrs_demo.radiometry import Quantity, Stretch, output_stretch
from mmmrs_demo.raster import check_smallest, read_tile
from mmmrs_demo.settings import Settings

_MAX_SIDE = 100_000  # pixels of a scene: a row of windows is in memory
_ROWS = 256  # of a raster that are read at once


class Source(Protocol):
    """An input of either kind; also a source of windows as `scene.render` wants it.

    Attributes:
        size: Width and height in pixels.
        suffixes: What its result may end with, the usual one first.
        transform: From (column, row) to coordinates, where a world file can say it; None where there is none.
        details: What a result says of how it was read.
    """

    size: tuple[int, int]
    suffixes: tuple[str, ...]
    transform: Affine | None
    details: dict[str, Any]

    def tile(self) -> tuple[Image.Image, NDArray[np.bool_] | None]:
        """Return all of it as models see it, and where it is valid."""

    def read(self, x: int, y: int, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return a window."""

    def digest(self, stop: threading.Event | None) -> str:
        """Return the SHA-256 of mode, size and pixels as models see them, as ``Engine.run`` does."""

    def writer(self, suffix: str, target: Modality, *, units: bool, spread: bool) -> Writer:
        """Return what writes a result of that kind; raises UserError where there can be none."""

    def notes(self, suffix: str, target: Modality, *, units: bool) -> tuple[str, ...]:
        """Return what was assumed, a sentence each."""


@contextmanager
def open_source(
    file: Path, modality: Modality, settings: Settings, bands: Collection[int] | None, quantity: Quantity | None
) -> Iterator[Source]:
    """Open what is to be translated.

    Args:
        file: A picture or raster.
        modality: What models are to see of it.
        settings: Limits.
        bands: Numbers of the bands to read, where a person chose.
        quantity: What the samples of a SAR band are, where a person knows better.

    Raises:
        UserError: One sentence on what cannot be read.
    """
    if suffix_of(file) in GEOTIFF:
        with open_raster(file, settings) as raster:
            check_smallest(raster.size, raster.who)
            if max(raster.size) > _MAX_SIDE:
                raise UserError(f"{raster.who} has a side of more than {_MAX_SIDE:,} px: cut it in pieces.")
            choice = raster.choose(modality, bands)
            yield _RasterSource(raster, choice, raster.stretch(choice, quantity), settings)
        return
    who = called(file)
    image = read_tile(file, modality, settings, bands=bands, slim=True)
    if quantity is not None:
        raise UserError(f"{who} is no GeoTIFF or JPEG 2000, whose samples could be {quantity}: leave that out.")
    yield _PictureSource(image, who, worldfile.read(file))


class _PictureSource:
    """A decoded picture."""

    suffixes: tuple[str, ...] = (PNG,)

    def __init__(self, image: Image.Image, who: str, transform: Affine | None) -> None:
        self.image, self.who, self.transform = image, who, transform
        self.size = image.size
        self.details: dict[str, Any] = {}

    def tile(self) -> tuple[Image.Image, None]:
        return self.image, None

    def read(self, x: int, y: int, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        part = self.image.crop((x, y, x + width, y + height)).convert("RGB")
        return np.asarray(part), np.ones((height, width), bool)

    def digest(self, _: threading.Event | None) -> str:
        return _Digest(self.image.mode, self.size).add(self.image).hex

    def writer(self, suffix: str, target: Modality, *, units: bool, spread: bool) -> Writer:
        if suffix in GEOTIFF:
            raise UserError(
                f"{self.who} is a picture without the coordinate reference system that a GeoTIFF needs: give its "
                "result a name that ends in .png."
            )
        if units:
            raise UserError(f"{self.who} is a picture, whose result is a PNG of grey values: leave the units out.")
        return lambda path: PNGWriter(path, self.size, target, spread=spread)

    def notes(self, _suffix: str, _target: Modality, *, units: bool) -> tuple[str, ...]:  # noqa: ARG002 - as its face
        return () if self.transform is None else ("The world file beside the picture was taken over.",)


class _RasterSource:
    """An open raster, read in parts."""

    suffixes: tuple[str, ...] = (*GEOTIFF, PNG)

    def __init__(self, raster: Raster, choice: BandChoice, stretch: Stretch, settings: Settings) -> None:
        self.raster, self.choice, self.stretch, self.settings = raster, choice, stretch, settings
        self.size = raster.size
        self.transform = None if raster.transform.is_identity or raster.gcps else raster.transform
        self.details = {"bands": list(choice.numbers), "stretch": stretch.to_dict()}

    def tile(self) -> tuple[Image.Image, NDArray[np.bool_]]:
        return self.raster.tile(self.choice, self.stretch)

    def read(self, x: int, y: int, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        picture, valid = self.raster.tile(self.choice, self.stretch, Window(x, y, width, height))
        return np.asarray(picture.convert("RGB")), valid

    def digest(self, stop: threading.Event | None) -> str:
        width, height = self.size
        digest = _Digest(self.choice.modality.mode, self.size)
        for top in range(0, height, _ROWS):
            heed(stop)
            rows = min(_ROWS, height - top)
            digest.add(self.raster.tile(self.choice, self.stretch, Window(0, top, width, rows))[0])
        return digest.hex

    def writer(self, suffix: str, target: Modality, *, units: bool, spread: bool) -> Writer:
        if suffix != PNG:

            def write_to(path: Path) -> GeoTIFFWriter:
                return GeoTIFFWriter(path, self.raster, target, source=self.stretch, units=units, spread=spread)

            write_to(Path())  # refuses units that there are not, before anything is made
            return write_to
        if units:
            raise UserError("A PNG holds grey values and no units: give the result a name that ends in .tif.")
        width, height = self.size
        if max(self.size) > self.settings.max_side or width * height > self.settings.max_pixels:
            raise UserError(
                f"{self.raster.who} is {width:,} by {height:,} px, too large for a PNG: give the result a name that "
                "ends in .tif."
            )
        return lambda path: PNGWriter(path, self.size, target, spread=spread)

    def notes(self, suffix: str, target: Modality, *, units: bool) -> tuple[str, ...]:
        output = output_stretch(self.stretch, target) if units else None
        return (
            self.choice.grounds,
            self.stretch.sentence,
            *self.raster.notes,
            *((output.sentence,) if output else ()),
            *(("A PNG keeps neither nodata nor the coordinate reference system.",) if suffix == PNG else ()),
        )


class _Digest:
    """The hash that the engine gives a picture, of a picture that comes in parts."""

    def __init__(self, mode: str, size: tuple[int, int]) -> None:
        self._hash = hashlib.sha256(f"{mode} {size[0]} {size[1]} ".encode())

    def add(self, rows: Image.Image) -> Self:
        self._hash.update(rows.tobytes())
        return self

    @property
    def hex(self) -> str:
        return self._hash.hexdigest()
