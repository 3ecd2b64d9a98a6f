"""Rasters out: a picture becomes a cloud-optimised GeoTIFF on its input's grid, window by window; knows no model."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.windows import Window

from mmmrs_demo.bands import COLOURS
from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called
from mmmrs_demo.georaster import ENVIRONMENT, GDAL_ERRORS, Raster
from mmmrs_demo.modality import Modality
from mmmrs_demo.provenance import KEYWORD, Provenance, tiff_tags
from mmmrs_demo.radiometry import Stretch, output_stretch
from mmmrs_demo.request import Rendering

BLOCK = 512
"""Side of a tile of the file, in pixels."""

SPREAD = "spread"
"""Name of the band that says how far samples lie apart."""

_ROOM = 3  # times the raw picture: itself, its finished file, and overviews and masks
_BANDS = {Modality.RGB: COLOURS, Modality.NIR: ("nir",), Modality.SAR: ("VV",)}
# Names of the bands written: the polarisation is that of the pictures that the embedded bundle learned from.


def grid(transform: Affine, window: Window, size: tuple[int, int]) -> Affine:
    """Return the transform of a window of a raster that was brought to another size.

    Args:
        transform: Of the whole raster.
        window: The part.
        size: Width and height that it was brought to, in pixels.
    """
    if (window.col_off, window.row_off, window.width, window.height) == (0, 0, *size):
        return transform
    moved = transform @ Affine.translation(window.col_off, window.row_off)
    return moved @ Affine.scale(window.width / size[0], window.height / size[1])


class GeoTIFFWriter:
    """Writes a picture made from a raster, on the raster's grid; a context manager.

    Windows are written in any order and may overlap; the last one counts. When the context is left without an error,
    the file gets overviews and its name; otherwise nothing is left. It carries `truth`, the mark "synthetic" and both
    stretches (tags ``mmmrs_input`` and ``mmmrs_output``).

    Nodata is a mask in a file of 8 bits, where every grey value has its use, and a value in a file of physical units:
    the input's own where that is a floating-point one, otherwise NaN.

    Attributes:
        truth: What the picture says of itself; it may be set until the context is left.
        width: Pixels.
        height: Pixels.
        transform: Of the file.
    """

    def __init__(  # noqa: PLR0913 - what the output shares with the input, and what it does not
        self,
        path: str | Path,
        like: Raster,
        modality: Modality,
        *,
        source: Stretch | None = None,
        truth: Rendering | Provenance | None = None,
        window: Window | None = None,
        size: tuple[int, int] | None = None,
        units: bool = False,
        spread: bool = False,
    ) -> None:
        """Prepare to write; nothing is created before the context is entered.

        Args:
            path: Name of the file; one that is there is replaced at the end.
            like: The input, open.
            modality: What the picture shows.
            source: How the input was shown.
            truth: What the picture says of itself, if known already.
            window: Part of the input that it shows; all of it by default.
            size: Width and height of the picture in pixels; those of the part by default.
            units: Write float32 in physical units instead of grey values from 0 to 255.
            spread: Add a band `SPREAD` at the end, in the same units.

        Raises:
            UserError: `units`, and the grey values stand for nothing.
        """
        self.truth = truth
        self._path, self._like, self._modality = Path(path), like, modality
        self._window = window or Window(0, 0, like.width, like.height)
        self.width, self.height = size or (int(self._window.width), int(self._window.height))
        self.transform = grid(like.transform, self._window, (self.width, self.height))
        self._source, self._output = source, output_stretch(source, modality)
        self._units = units
        if units and self._output is None:
            raise UserError(
                f"{like.who} was not read as reflectance, so a {modality.label} picture of it has no physical unit: "
                "save it with grey values from 0 to 255."
            )
        own = like.nodata if like.nodata is not None and "float" in like.bands[0].dtype else np.nan
        self._nodata = float(own) if units else None
        self._names = (*_BANDS[modality], SPREAD) if spread else _BANDS[modality]
        self._masked = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Create a temporary file beside the final one.

        Raises:
            UserError: It cannot be written there, or there is no room for it.
        """
        with ExitStack() as stack:
            try:
                self._check_room()
                stack.enter_context(rasterio.Env(**ENVIRONMENT))
                folder = tempfile.TemporaryDirectory(
                    prefix=".mmmrs-", dir=self._path.parent, ignore_cleanup_errors=True
                )
                self._folder = Path(stack.enter_context(folder))
                self._file = stack.enter_context(self._created())
            except GDAL_ERRORS as error:
                raise self._unwritable(error) from error
            self._stack = stack.pop_all()
        return self

    def write(
        self,
        window: Window,
        picture: NDArray[Any],
        valid: NDArray[np.bool_] | None = None,
        spread: NDArray[np.float32] | None = None,
    ) -> None:
        """Write a part.

        Args:
            window: Where it belongs in the output.
            picture: uint8 from 0 to 255, or floating-point from 0 (black) to 1 (white); shape (height, width, 3) for
                RGB and (height, width) for SAR and NIR.
            valid: Where there is something to see, shape (height, width); everywhere by default.
            spread: Standard deviation over samples in grey levels, shape (height, width), for a file with such a band.

        Raises:
            UserError: The disk is full, or gone.
        """
        shares = picture / np.float32(255) if picture.dtype == np.uint8 else picture
        shares = np.atleast_3d(shares).transpose(2, 0, 1)
        hidden = None if valid is None or valid.all() else ~valid
        if self._units and self._output is not None:
            values: NDArray[Any] = self._output.invert(shares)
            fill: float | int | None = self._nodata
        else:
            values, fill = (np.clip(shares, 0, 1) * 255 + 0.5).astype(np.uint8), 0
        if spread is not None:
            values = np.concatenate([values, self._apart(spread)[None]])
        if hidden is not None:
            values[:, hidden] = fill
        try:
            self._file.write(values, window=window)
            if not self._units:
                self._mask(window, hidden)
        except GDAL_ERRORS as error:
            raise self._unwritable(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, or leave nothing where there was an error.

        Raises:
            UserError: It cannot be finished.
        """
        with self._stack:
            if error is not None:
                return
            if self.truth is None:
                raise ValueError("a picture must say what it is: set `truth`")
            try:
                tags = tiff_tags(self.truth)
                self._file.update_tags(**tags, **(self._stretches() if KEYWORD in tags else {}))
                self._file.close()
                self._finish()
            except GDAL_ERRORS as failure:
                raise self._unwritable(failure) from failure

    def _check_room(self) -> None:
        """Refuse at once what would fail at the end, when the raw picture and the finished file lie side by side."""
        raw = self.width * self.height * len(self._names) * (4 if self._units else 1)
        free = shutil.disk_usage(self._path.parent).free
        if free < (needed := raw * _ROOM):
            raise UserError(
                f"{called(self._path)} needs up to {needed / 1e6:,.0f} MB of room while it is written, and "
                f"{free / 1e6:,.0f} MB are free there: choose another place for it."
            )

    def _created(self) -> rasterio.io.DatasetWriter:
        like = self._like
        options: dict[str, Any] = {"nodata": self._nodata} if self._units else {}
        if not like.gcps:
            options |= {"crs": like.crs, "transform": self.transform}
        with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):
            file = rasterio.open(
                self._folder / "parts.tif",
                "w",
                driver="GTiff",
                width=self.width,
                height=self.height,
                count=len(self._names),
                dtype="float32" if self._units else "uint8",
                photometric="RGB" if self._modality is Modality.RGB else "MINISBLACK",
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                BIGTIFF="IF_SAFER",
                **options,
            )
        if like.gcps:
            file.gcps = ([self._point(point) for point in like.gcps], like.crs)
        if like.rpcs:
            file.rpcs = self._polynomials(like.rpcs)
        file.descriptions = self._names
        if self._units and self._output is not None:
            file.units = (self._output.unit,) * len(self._names)
        if "AREA_OR_POINT" in like.tags:
            file.update_tags(AREA_OR_POINT=like.tags["AREA_OR_POINT"])
        return file

    def _apart(self, levels: NDArray[np.float32]) -> NDArray[Any]:
        """Return a spread in grey levels as the file has it."""
        if self._units and self._output is not None:
            return levels * np.float32((self._output.high - self._output.low) / 255)
        return (levels + 0.5).astype(np.uint8)

    def _point(self, point: GroundControlPoint) -> GroundControlPoint:
        """Move a ground control point to the output's grid."""
        down, across = self._reduction
        row, column = (point.row - self._window.row_off) / down, (point.col - self._window.col_off) / across
        return GroundControlPoint(row, column, point.x, point.y, point.z, point.id, point.info)

    def _polynomials(self, rpcs: RPC) -> RPC:
        """Move rational polynomials to the output's grid; they count from the centre of the first pixel."""
        down, across = self._reduction
        moved = RPC.from_gdal(rpcs.to_gdal())
        moved.line_off = (rpcs.line_off + 0.5 - self._window.row_off) / down - 0.5
        moved.samp_off = (rpcs.samp_off + 0.5 - self._window.col_off) / across - 0.5
        moved.line_scale, moved.samp_scale = rpcs.line_scale / down, rpcs.samp_scale / across
        return moved

    @property
    def _reduction(self) -> tuple[float, float]:
        return self._window.height / self.height, self._window.width / self.width

    def _mask(self, window: Window, hidden: NDArray[np.bool_] | None) -> None:
        """Write the mask of a window; the first hole brings one into being that shows all the rest."""
        if hidden is not None and not self._masked:
            self._masked = True
            for top in range(0, self.height, BLOCK):
                rows = min(BLOCK, self.height - top)
                self._file.write_mask(
                    np.full((rows, self.width), 255, np.uint8), window=Window(0, top, self.width, rows)
                )
        if self._masked:
            shown = np.full((int(window.height), int(window.width)), 255, np.uint8)
            if hidden is not None:
                shown[hidden] = 0
            self._file.write_mask(shown, window=window)

    def _stretches(self) -> dict[str, str]:
        both = {"input": self._source, "output": self._output}
        return {f"{KEYWORD}_{which}": json.dumps(stretch.to_dict()) for which, stretch in both.items() if stretch}

    def _finish(self) -> None:
        whole = self._folder / "whole.tif"
        rasterio.shutil.copy(
            self._folder / "parts.tif",
            whole,
            driver="COG",
            compress="DEFLATE",
            predictor="YES",
            blocksize=BLOCK,
            overview_resampling="AVERAGE",
            BIGTIFF="IF_SAFER",
        )
        with rasterio.open(whole, driver="GTiff") as file:  # GDAL does not tell when a disk is full at the very end
            for _, window in file.block_windows(1):
                file.read(window=window, masked=True)
        whole.replace(self._path)

    def _unwritable(self, error: Exception) -> UserError:
        reason = getattr(error, "strerror", None) or str(error.__cause__ or error).rstrip(".")
        return UserError(
            f"{called(self._path)} cannot be written ({reason}): make room, or choose another place for it."
        )
