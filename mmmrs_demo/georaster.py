"""Rasters in: GeoTIFF and JPEG 2000 of any size, type and number of bands, read window by window; knows no model."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio._err import CPLE_BaseError
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.rpc import RPC
from rasterio.transform import Affine, from_gcps
from rasterio.warp import transform as reproject
from rasterio.windows import Window

from mmmrs_demo.bands import Band, BandChoice, choose
from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called, opened
from mmmrs_demo.modality import Modality
from mmmrs_demo.prompt import GSDLevel, level_of
from mmmrs_demo.radiometry import Quantity, Stretch, stretch_of
from mmmrs_demo.settings import Settings

ENVIRONMENT = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no .ovr, .msk, .tfw beside a file: only what is in it speaks
    "GDAL_PAM_ENABLED": False,  # nor .aux.xml, neither read nor written
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_CACHEMAX": 256 * 2**20,  # bytes of blocks kept, whatever the size of the raster
    "GDAL_TIFF_INTERNAL_MASK": True,
}
"""How GDAL is run here: on one file at a time, in constant memory."""

GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError)
"""What reading, writing and reprojecting can raise; rasterio lets some errors of GDAL through as they are."""

GLANCE = 1024
"""Longest side, in pixels, of the reduced reading that previews and statistics are made from."""

_DRIVERS = {"GTiff": rb"II[*+]\0|MM\0[*+]", "JP2OpenJPEG": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"}
# How a file begins, by the one GDAL driver that then opens it; no other driver is ever used.
_MAX_BLOCK = 2**28  # bytes that have to be decoded to see one pixel
_NAME_TAGS = ("name", "band_name", "bandname", "common_name", "polarization", "polarisation", "long_name")
_EQUATOR, _FLATTENING = 6_378_137.0, 1 / 298.257223563  # of WGS 84, metres


class Samples(NamedTuple):
    """What was read.

    Attributes:
        samples: As stored, shape (bands, height, width); complex values as their length, float32.
        valid: Where there is something to see, shape (height, width): neither nodata nor masked, finite in all bands.
    """

    samples: NDArray[Any]
    valid: NDArray[np.bool_]


def is_raster(data: bytes) -> bool:
    """Whether a file that begins so is for `open_raster`: a TIFF or a JPEG 2000."""
    return _driver(data) is not None


def _driver(start: bytes) -> str | None:
    return next((driver for driver, pattern in _DRIVERS.items() if re.match(pattern, start)), None)


@contextmanager
def open_raster(file: str | Path | bytes, settings: Settings, name: str | None = None) -> Iterator[Raster]:
    """Open a GeoTIFF or JPEG 2000; it can be read until the context is left, in the thread that entered it.

    Only the file itself speaks, nothing that lies beside it, and nothing is fetched. Limits are checked before
    anything is decoded.

    Args:
        file: Path of a file, or its content.
        settings: Limits: `max_scene_bytes`, `max_scene_pixels` and `max_scene_bands`.
        name: What to call the file in an error; by default the path's last part, or "The picture".

    Raises:
        UserError: One sentence that names the file, what is wrong with it, and what would work.
    """
    who = called(file, name)
    if isinstance(file, bytes):
        start, size = file[:16], len(file)
    else:
        with opened(Path(file), who) as stream:
            start, size = stream.read(16), stream.seek(0, 2)
    if not size:
        raise UserError(f"{who} is empty (0 bytes): choose another file, or save it again.")
    if size > settings.max_scene_bytes:
        limit = settings.max_scene_bytes
        raise UserError(f"{who} is larger than {limit / 1e6:,.0f} MB: compress it, or cut out a part.")
    driver = _driver(start)
    if driver is None:
        raise UserError(f"{who} is neither a TIFF nor a JPEG 2000: choose one, or convert it with `gdal_translate`.")
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(**ENVIRONMENT))
        try:
            path = stack.enter_context(MemoryFile(file)).name if isinstance(file, bytes) else Path(file).resolve()
            with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):
                dataset = stack.enter_context(rasterio.open(path, driver=driver))
            raster = Raster(dataset, who, settings)
        except UserError:
            raise
        except Exception as error:  # a broken file can raise anything in a decoder
            raise UserError(f"{who} is damaged or cut short: download or save it again.") from error
        yield raster


class Raster:
    """An open raster.

    Attributes:
        who: What an error calls it.
        width: Pixels.
        height: Pixels.
        bands: What is known of each band.
        tags: What the file says as a whole.
        crs: Coordinate reference system, of the transform or of the ground control points; None where there is none.
        transform: From (column, row) to coordinates; the identity where there is none.
        gcps: Ground control points, where there is no transform.
        rpcs: Rational polynomial coefficients; None where there are none.
        nodata: Value that stands for no data; None where there is none.
        masked: Nodata, a mask or transparency can hide pixels.
    """

    def __init__(self, dataset: rasterio.DatasetReader, who: str, settings: Settings) -> None:
        self.who, self._dataset = who, dataset
        self.width: int = dataset.width
        self.height: int = dataset.height
        _check_limits(dataset, who, settings)
        self.tags: dict[str, str] = dataset.tags()
        self.bands = tuple(_band(dataset, number, self.tags) for number in dataset.indexes)
        self.transform: Affine = dataset.transform
        gcps, gcp_crs = dataset.gcps
        self.gcps: list[GroundControlPoint] = gcps
        self.crs: CRS | None = dataset.crs or (gcp_crs if gcps else None)
        self.rpcs: RPC | None = dataset.rpcs
        self.nodata: float | None = dataset.nodata
        self.masked = any(MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums)
        self._glances: dict[tuple[int, ...], Samples] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        return self.width, self.height

    def read(
        self, numbers: Sequence[int], window: Window | None = None, shape: tuple[int, int] | None = None
    ) -> Samples:
        """Read bands by number, from 1.

        A pixel is nodata where any of the bands says so; but where 0 is nodata, and could be a dark pixel's sample as
        well, only if all of them do.

        Args:
            numbers: The bands, in the order wanted.
            window: Part of the raster, within it; all of it by default.
            shape: Height and width to read it reduced to, by the nearest pixel.

        Raises:
            UserError: The file is damaged there.
        """
        numbers = list(numbers)
        options = {"window": window, "out_shape": None if shape is None else (len(numbers), *shape)}
        try:
            samples = self._dataset.read(numbers, **options)
            masks = self._dataset.read_masks(numbers, **options) if self.masked else None
        except GDAL_ERRORS as error:
            raise UserError(f"{self.who} is damaged or cut short{_place(window)}: download it again.") from error
        if np.iscomplexobj(samples):
            samples = np.abs(samples).astype(np.float32)
        valid = np.isfinite(samples).all(axis=0)
        if masks is not None:
            valid &= (masks > 0).any(axis=0) if self.nodata == 0 else (masks > 0).all(axis=0)
        return Samples(samples, valid)

    def glance(self, numbers: Sequence[int]) -> Samples:
        """Read bands of the whole raster, reduced to at most `GLANCE` pixels a side; kept for the next time."""
        key = tuple(numbers)
        if key not in self._glances:
            reduction = max(1.0, max(self.size) / GLANCE)
            shape = (max(1, round(self.height / reduction)), max(1, round(self.width / reduction)))
            self._glances[key] = self.read(key, shape=shape)
        return self._glances[key]

    def choose(self, modality: Modality, numbers: Collection[int] | None = None) -> BandChoice:
        """Choose the bands to read as a modality, or check those that a person chose.

        Raises:
            UserError: See `bands.choose`.
        """
        return choose(modality, self.bands, self.tags, numbers, decibels=self._decibels, who=self.who)

    @cached_property
    def _decibels(self) -> bool:
        """Whether most of the first band's values are negative."""
        band = self.bands[0]
        if not band.floating:
            return False
        samples, valid = self.glance([1])
        return bool(valid.any() and np.median(samples[0, valid]) * band.scale + band.offset < 0)

    def stretch(self, choice: BandChoice, quantity: Quantity | None = None) -> Stretch:
        """Find out what the samples of the chosen bands mean and how to show them, measured on a `glance`.

        Args:
            choice: Which bands.
            quantity: What the samples of a SAR band are, where a person knows better.

        Raises:
            UserError: See `radiometry.stretch_of`.
        """
        samples, valid = self.glance(choice.numbers)
        return stretch_of(choice, self.bands, self.tags, samples[:, valid], quantity, who=self.who)

    def tile(
        self,
        choice: BandChoice,
        stretch: Stretch,
        window: Window | None = None,
        shape: tuple[int, int] | None = None,
    ) -> tuple[Image.Image, NDArray[np.bool_]]:
        """Read a part as models see it.

        Args:
            choice: Which bands.
            stretch: How to show them; one for all parts of a raster, so that they fit together.
            window: Part of the raster; all of it by default.
            shape: Height and width to read it reduced to.

        Returns:
            The picture in the modality's mode, RGB or L, black where nothing is valid; and where it is, of shape
            (height, width).
        """
        samples, valid = self.read(choice.numbers, window, shape)
        return _picture(choice, stretch, samples, valid), valid

    def preview(self, modality: Modality, numbers: Collection[int] | None = None, side: int = 512) -> Image.Image:
        """Return the whole raster as a small picture in the modality's mode, in constant memory.

        Args:
            modality: What it shows.
            numbers: Bands that a person chose.
            side: Longer side of the picture in pixels, at most `GLANCE`; a smaller raster keeps its size.
        """
        choice = self.choose(modality, numbers)
        picture = _picture(choice, self.stretch(choice), *self.glance(choice.numbers))
        picture.thumbnail((side, side), Image.Resampling.BOX)
        return picture

    @cached_property
    def gsd(self) -> float | None:
        """Ground sample distance at the centre in metres per pixel, to three digits; None where the place is unknown.

        Three digits, because a grid of 10 m in UTM lies 9.996 m to 10.01 m on the ground and is called 10 m.
        """
        try:
            transform = from_gcps(self.gcps) if self.gcps else self.transform
            if self.crs is None or transform.is_identity:
                return None
            column, row = self.width / 2, self.height / 2
            corners = [transform @ corner for corner in ((column, row), (column + 1, row), (column, row + 1))]
            east, north = reproject(self.crs, CRS.from_epsg(4326), *zip(*corners, strict=True))
        except (*GDAL_ERRORS, ValueError):  # a system of its own, or a place outside of its system
            return None
        right, down = ((east[i] - east[0], north[i] - north[0]) for i in (1, 2))
        per_east, per_north = _metres_per_degree(north[0])
        area = abs(right[0] * down[1] - right[1] * down[0]) * per_east * per_north
        return float(f"{math.sqrt(area):.3g}") if math.isfinite(area) and area > 0 else None

    @property
    def level(self) -> GSDLevel | None:
        """The prompt's level of `gsd`."""
        return None if self.gsd is None else level_of(self.gsd)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before using it, a sentence each."""
        notes = []
        if self.crs is None and self.rpcs is None:
            notes.append(f"{self.who} has no coordinate reference system, so the result will have none.")
        elif self.transform.is_identity:
            by = "ground control points" if self.gcps else "rational polynomials"
            notes.append(f"{self.who} is placed by {by} instead of a transform; the result keeps them.")
        if (pictures := len(self._dataset.subdatasets)) > 1:
            notes.append(f"{self.who} holds {pictures} pictures, of which the first is read.")
        if any(band.dtype.startswith("complex") for band in self.bands):
            notes.append(f"{self.who} holds complex values; their amplitude is read.")
        return tuple(notes)


def _check_limits(dataset: rasterio.DatasetReader, who: str, settings: Settings) -> None:
    shown = f"{dataset.width:,} by {dataset.height:,} px"
    if dataset.width * dataset.height > settings.max_scene_pixels:
        limit = settings.max_scene_pixels / 1e6
        raise UserError(f"{who} is {shown}: at most {limit:,.0f} million pixels are read, so cut out a part.")
    if dataset.count > settings.max_scene_bands:
        limit = settings.max_scene_bands
        raise UserError(f"{who} has {dataset.count} bands: at most {limit} are read, so save those that are needed.")
    together = dataset.count if dataset.profile.get("interleave") == "pixel" else 1
    for (height, width), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True):
        size = height * width * together * _bytes(dtype)
        if size > _MAX_BLOCK and dataset.driver == "GTiff":
            raise UserError(
                f"{who} is stored in pieces of {size / 1e6:,.0f} MB, too large to be read in parts: rewrite it in "
                "tiles, for example with `gdal_translate -of COG`."
            )


def _bytes(dtype: str) -> int:
    return 4 if dtype == "complex_int16" else np.dtype(dtype).itemsize


def _band(dataset: rasterio.DatasetReader, number: int, tags: dict[str, str]) -> Band:
    own = {key.lower(): text for key, text in dataset.tags(number).items()}
    index = number - 1
    names = (dataset.descriptions[index], *(own.get(key) for key in _NAME_TAGS), tags.get(f"Band_{number}"))
    return Band(
        number,
        dataset.dtypes[index],
        next((name for name in names if name), ""),
        dataset.colorinterp[index].name,
        dataset.units[index] or "",
        dataset.scales[index],
        dataset.offsets[index],
    )


def _picture(choice: BandChoice, stretch: Stretch, samples: NDArray[Any], valid: NDArray[np.bool_]) -> Image.Image:
    grey = (stretch.apply(np.where(valid, samples, 0)) * 255 + 0.5).astype(np.uint8) * valid
    picture = Image.fromarray(grey[0] if len(grey) == 1 else np.ascontiguousarray(grey.transpose(1, 2, 0)))
    return picture.convert(choice.modality.mode)


def _place(window: Window | None) -> str:
    if window is None:
        return ""
    left, top, width, height = (int(part) for part in window.flatten())
    return f" in rows {top:,} to {top + height - 1:,}, columns {left:,} to {left + width - 1:,}"


def _metres_per_degree(latitude: float) -> tuple[float, float]:
    """Return metres to the east and to the north on the ellipsoid WGS 84."""
    squared = _FLATTENING * (2 - _FLATTENING)
    phi = math.radians(latitude)
    bend = 1 - squared * math.sin(phi) ** 2
    degree = math.radians(1) * _EQUATOR
    return degree * math.cos(phi) / math.sqrt(bend), degree * (1 - squared) / bend**1.5
