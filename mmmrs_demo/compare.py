"""How near a finished translation comes to a reference of the same ground; in constant memory, and knows no model."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window
from scipy.ndimage import minimum_filter

from mmmrs_demo import metrics, worldfile
from mmmrs_demo.bands import BandChoice
from mmmrs_demo.errors import UserError, heed
from mmmrs_demo.files import called
from mmmrs_demo.georaster import Raster, open_raster
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.outputs import GEOTIFF, suffix_of
from mmmrs_demo.provenance import KEYWORD, Provenance, read
from mmmrs_demo.radiometry import AS_IT_IS, DECIBELS, DISPLAY_DB, Stretch
from mmmrs_demo.raster import read_tile
from mmmrs_demo.request import TranslationRequest
from mmmrs_demo.settings import Settings

_PIXELS = 2**19  # that are looked at together
_FEWEST_ROWS = 16
_SAME_PLACE = 0.01  # pixels by which corners on one grid may differ, for numbers are rounded when they are written
_ERRORS = {Modality.NIR: ("NDVI error", ""), Modality.SAR: ("backscatter error", DECIBELS)}
_LOW, _HIGH = DISPLAY_DB["VV"]  # what black and white of a result stand for


@dataclass(frozen=True)
class Comparison:
    """How near a result comes to its reference, by the pixels that are valid in both.

    Attributes:
        psnr: Peak signal-to-noise ratio in dB, at most `metrics.MOST_DB`; higher is nearer.
        ssim: Structural similarity, -1 to 1; None where no window of it is valid throughout.
        error: Mean absolute error of NDVI or backscatter; None where the result shows neither.
        error_name: What that is called; "" for none.
        error_unit: Its unit; "" for none.
        notes: How the reference was read, a sentence each.
    """

    psnr: float
    ssim: float | None
    error: float | None = None
    error_name: str = ""
    error_unit: str = ""
    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, str]:
        """The figures as people read them, by name."""
        figures = (("PSNR", self.psnr, "dB"), ("SSIM", self.ssim, ""), (self.error_name, self.error, self.error_unit))
        return {name: f"{figure:.3g} {unit}".strip() for name, figure, unit in figures if figure is not None}


def check(reference: Path, source: Path, target: Modality, settings: Settings) -> None:
    """Make sure, before a long run, that its result can be compared with a reference.

    Args:
        reference: A file of the modality, size and, where both have one, grid of the result.
        source: The input, whose size and grid are those of the result.
        target: What the result will show.
        settings: Limits.

    Raises:
        UserError: It cannot be read as that, or does not fit.
    """
    with _open(reference, target, settings, _by_itself(target)) as real:
        _check_fit(real.ground, _ground(source, settings))


def compare(
    result: Path, reference: Path, settings: Settings, source: Path | None = None, stop: threading.Event | None = None
) -> Comparison:
    """Compare a finished translation with a reference.

    PSNR and SSIM are those of what is displayed, in 8-bit levels: the reference is shown as an input of its modality
    would be. NDVI takes its red from the input on both sides, displayed too. Backscatter is compared in dB where both
    files hold dB; otherwise levels are read as dB through the display range of VV.

    Args:
        result: A PNG or GeoTIFF that was translated here.
        reference: See `check`.
        settings: Limits.
        source: The input; without it there is no NDVI, and a PNG has no nodata.
        stop: Once set, ends the comparison.

    Raises:
        Stopped: `stop` was set.
        UserError: One sentence on what cannot be read, or does not fit.
    """
    truth = read(result)
    if not isinstance(truth.request, TranslationRequest):
        raise UserError(f"{called(result)} was made from words: choose a translation to be compared.")
    target, shown = truth.modality, TRANSLATIONS[truth.request.translation].source
    before = _open(source, shown, settings, _as_before(shown, truth)) if source else nullcontext()
    with (
        _open(result, target, settings, _as_written(target)) as made,
        _open(reference, target, settings, _by_itself(target)) as real,
        before as seen,
    ):
        for side in (real, seen):
            if side:
                _check_fit(side.ground, made.ground)
        return _measured(target, made, real, seen, stop)


# --- files as arrays --------------------------------------------------------------------------------------------------


class _Ground(NamedTuple):
    """What two files that are compared have in common.

    Attributes:
        who: What an error calls the file.
        size: Width and height in pixels.
        crs: Coordinate reference system of the transform, where it is known.
        transform: From (column, row) to coordinates; None where there is none.
    """

    who: str
    size: tuple[int, int]
    crs: CRS | None
    transform: Affine | None


@dataclass(frozen=True)
class _Side:
    """An open file.

    Attributes:
        ground: Where it lies.
        levels: Reads a window: uint8 in the modality's mode, and where it is valid, of shape (height, width).
        decibels: Reads a window in dB, float32 of shape (height, width); None where the file holds no dB.
        notes: How it is read, a sentence each.
    """

    ground: _Ground
    levels: Callable[[Window], tuple[NDArray[np.uint8], NDArray[np.bool_]]]
    decibels: Callable[[Window], NDArray[np.float32]] | None = None
    notes: tuple[str, ...] = ()


_Reading = Callable[[Raster], tuple[BandChoice, Stretch]]


def _by_itself(modality: Modality) -> _Reading:
    def reading(raster: Raster) -> tuple[BandChoice, Stretch]:
        choice = raster.choose(modality)
        return choice, raster.stretch(choice)

    return reading


def _as_written(modality: Modality) -> _Reading:
    """Read what `geotiff` wrote: bands in its order, and physical units through their own range."""

    def reading(raster: Raster) -> tuple[BandChoice, Stretch]:
        choice = raster.choose(modality, (1, 2, 3) if modality is Modality.RGB else (1,))
        if raster.bands[0].dtype == "uint8":
            return choice, AS_IT_IS
        return choice, Stretch.from_json(raster.tags.get(f"{KEYWORD}_output", ""))

    return reading


def _as_before(modality: Modality, truth: Provenance) -> _Reading:
    """Read an input as it was read for the result, which says how."""

    def reading(raster: Raster) -> tuple[BandChoice, Stretch]:
        choice = raster.choose(modality, truth.details.get("bands"))
        stretch = truth.details.get("stretch")
        return choice, Stretch.from_json(json.dumps(stretch)) if stretch else raster.stretch(choice)

    return reading


@contextmanager
def _open(file: Path, modality: Modality, settings: Settings, reading: _Reading) -> Iterator[_Side]:
    if suffix_of(file) in GEOTIFF:
        with open_raster(file, settings) as raster:
            choice, stretch = reading(raster)

            def read_levels(window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
                picture, valid = raster.tile(choice, stretch, window)
                return np.asarray(picture), valid

            def read_decibels(window: Window) -> NDArray[np.float32]:
                return stretch.values(raster.read(choice.numbers, window).samples)[0]

            decibels = read_decibels if stretch.unit == DECIBELS else None
            yield _Side(_ground_of(raster), read_levels, decibels, (choice.grounds, stretch.sentence))
        return
    pixels = np.asarray(read_tile(file, modality, settings, slim=True))

    def cut(window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        part = pixels[window.toslices()]
        return part, np.ones(part.shape[:2], bool)

    yield _Side(_Ground(called(file), (pixels.shape[1], pixels.shape[0]), None, worldfile.read(file)), cut)


def _ground(file: Path, settings: Settings) -> _Ground:
    if suffix_of(file) in GEOTIFF:
        with open_raster(file, settings) as raster:
            return _ground_of(raster)
    size = read_tile(file, Modality.RGB, settings, slim=True).size
    return _Ground(called(file), size, None, worldfile.read(file))


def _ground_of(raster: Raster) -> _Ground:
    placed = not (raster.transform.is_identity or raster.gcps)
    return _Ground(raster.who, raster.size, *((raster.crs, raster.transform) if placed else (None, None)))


def _check_fit(own: _Ground, made: _Ground) -> None:
    """Refuse a file that does not lie where the result does."""
    if own.size != made.size:
        sizes = [f"{width:,} by {height:,} px" for width, height in (own.size, made.size)]
        raise UserError(f"{own.who} is {sizes[0]} and the result {sizes[1]}: choose a reference of the same size.")
    if own.transform is None or made.transform is None:
        return
    if own.crs and made.crs and own.crs != made.crs:
        reason = f"{own.crs.to_string()} instead of {made.crs.to_string()}"
    elif (shift := _shift(own.transform, made.transform, own.size)) > _SAME_PLACE:
        reason = f"up to {shift:,.2f} px away"
    else:
        return
    raise UserError(
        f"{own.who} lies on another grid than the result ({reason}): bring it onto that one, as `gdalwarp` does."
    )


def _shift(a: Affine, b: Affine, size: tuple[int, int]) -> float:
    """Return how far corners lie apart, in pixels."""
    back = ~b
    corners = [(x, y) for x in (0, size[0]) for y in (0, size[1])]
    return max(float(np.hypot(*np.subtract(back @ (a @ corner), corner))) for corner in corners)


# --- arrays as figures ------------------------------------------------------------------------------------------------


class _Mean:
    """The mean of values that come in parts; None while there are none."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, values: NDArray[Any]) -> None:
        self._sum, self._count = self._sum + float(values.sum(dtype=np.float64)), self._count + values.size

    @property
    def value(self) -> float | None:
        return self._sum / self._count if self._count else None


def _measured(
    target: Modality, made: _Side, real: _Side, seen: _Side | None, stop: threading.Event | None
) -> Comparison:
    squares, similar, errors = _Mean(), _Mean(), _Mean()
    for window, own in _strips(made.ground.size):
        heed(stop)
        (a, valid), (b, there) = made.levels(window), real.levels(window)
        before, known = seen.levels(window) if seen else (None, there)
        valid = valid & there & known
        whole = minimum_filter(valid, metrics.SSIM_WINDOW, mode="constant")
        similar.add(metrics.ssim_map(a, b)[own][whole[own]])
        squares.add(np.square(_difference(a, b)[own][valid[own]]))
        error = _error(target, made, real, window, a, b, before)
        if error is not None:
            errors.add(error[own][valid[own] & np.isfinite(error[own])])
    if squares.value is None:
        raise UserError(f"{real.ground.who} and the result have no valid pixel in common: choose another reference.")
    notes = [f"Reference: {note}" for note in real.notes]
    if target is Modality.SAR and not (made.decibels and real.decibels):
        notes.append(f"Black to white are taken for {_LOW:g} to {_HIGH:g} dB in the result and in the reference.")
    name, unit = _ERRORS[target] if errors.value is not None else ("", "")
    return Comparison(metrics.peak_ratio(squares.value), similar.value, errors.value, name, unit, tuple(notes))


def _strips(size: tuple[int, int]) -> Iterator[tuple[Window, slice]]:
    """Yield strips of rows with a margin as wide as SSIM looks, and which of a strip's rows are not margin."""
    width, height = size
    rows, margin = max(_FEWEST_ROWS, _PIXELS // width), metrics.SSIM_WINDOW // 2
    for top in range(0, height, rows):
        first, end = max(0, top - margin), min(height, top + rows + margin)
        yield Window(0, first, width, end - first), slice(top - first, min(height, top + rows) - first)


def _error(
    target: Modality,
    made: _Side,
    real: _Side,
    window: Window,
    a: NDArray[np.uint8],
    b: NDArray[np.uint8],
    before: NDArray[np.uint8] | None,
) -> NDArray[np.floating[Any]] | None:
    """Return the absolute error of backscatter or NDVI in a window, shape (height, width); None where there is none."""
    if made.decibels and real.decibels:
        with np.errstate(invalid="ignore"):  # a power of 0
            return np.abs(made.decibels(window) - real.decibels(window))
    if target is Modality.SAR:
        return np.abs(_difference(a, b)) * (_HIGH - _LOW) / metrics.PEAK
    if target is Modality.NIR and before is not None:
        return metrics.ndvi_difference(a, b, before)
    return None


def _difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.subtract(a, b, dtype=np.float64)
