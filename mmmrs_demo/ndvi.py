"""The vegetation index of a scene of which only the near infrared was made here; knows no model and no page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called, whole
from mmmrs_demo.georaster import ENVIRONMENT, GDAL_ERRORS, GLANCE, open_raster
from mmmrs_demo.metrics import ndvi
from mmmrs_demo.modality import Modality
from mmmrs_demo.outputs import GEOTIFF, PNG
from mmmrs_demo.provenance import Provenance, read, save_png, tiff_tags
from mmmrs_demo.radiometry import Stretch
from mmmrs_demo.raster import read_tile
from mmmrs_demo.request import Rendering
from mmmrs_demo.settings import Settings

GROUNDS = "From the red of the scene, as it is displayed, and a synthetic near infrared: a guess, no measurement."

_COLOURS = ("#543005", "#bf812d", "#f5f5f5", "#35978f", "#003c30")  # of -1 to 1, evenly; told apart by all eyes
_NOTHING = (128, 128, 128)
_BAR, _WORDS, _MARGIN = 12, 14, 6  # pixels


def write_ndvi(scene: Path, nir: Path, settings: Settings) -> tuple[Path, Path]:
    """Write the vegetation index of a scene beside its near infrared.

    Args:
        scene: A picture or raster of RGB.
        nir: What was made of it here: a PNG, or a GeoTIFF on the same grid.
        settings: Limits.

    Returns:
        The file: a PNG in colours, or a GeoTIFF of float32 from -1 to 1 on the same grid, NaN where there is no data.
        And a PNG in colours, at most `GLANCE` pixels a side beside a GeoTIFF, or else the same file.

    Raises:
        UserError: One sentence on what cannot be read or written.
    """
    truth = read(nir)
    truth = truth.model_copy(update={"details": {**truth.details, "ndvi": GROUNDS}})
    picture = nir.with_name(f"{nir.stem}_ndvi{PNG}")
    if nir.suffix == PNG:
        red = np.asarray(read_tile(scene, Modality.RGB, settings, slim=True))[..., 0]
        with Image.open(nir, formats=["PNG"]) as opened:
            values = ndvi(np.asarray(opened), red.astype(np.float32))
        _save(drawn(values), truth, picture)
        return picture, picture
    file = nir.with_name(f"{nir.stem}_ndvi{GEOTIFF[0]}")
    with _writing(file), rasterio.Env(**ENVIRONMENT):
        _write_raster(scene, nir, file, truth, settings)
        with rasterio.open(file, driver="GTiff") as index:
            reduction = max(1.0, max(index.shape) / GLANCE)
            values = index.read(1, out_shape=tuple(max(1, round(side / reduction)) for side in index.shape))
    _save(drawn(values), truth, picture)
    return file, picture


def drawn(values: NDArray[np.floating]) -> Image.Image:
    """Draw an index of shape (height, width) in colours, with a bar beneath that says which stands for what.

    Args:
        values: From -1 (brown) to 1 (green); NaN is grey.
    """
    height, width = values.shape
    sheet = Image.new("RGB", (width, height + _MARGIN + _BAR + _WORDS), "#ffffff")
    sheet.paste(Image.fromarray(_coloured(values)), (0, 0))
    bar = _coloured(np.tile(np.linspace(-1, 1, width, dtype=np.float32), (_BAR, 1)))
    sheet.paste(Image.fromarray(bar), (0, height + _MARGIN))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_WORDS - 3)
    for text, place, anchor in (("-1", 1, "lm"), ("0", width / 2, "mm"), ("1", width - 1, "rm")):
        draw.text((place, sheet.height - _WORDS / 2), text, "#334155", font, anchor)
    return sheet


def _coloured(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    stops = np.linspace(-1, 1, len(_COLOURS))
    colours = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _COLOURS])
    bands = [np.interp(np.nan_to_num(values), stops, colours[:, band]) for band in range(3)]
    picture = (np.stack(bands, axis=-1) + 0.5).astype(np.uint8)
    picture[np.isnan(values)] = _NOTHING
    return picture


def _save(picture: Image.Image, truth: Provenance, path: Path) -> None:
    facts = {name: getattr(truth, name) for name in Provenance.model_fields}
    facts |= {"created": truth.created.isoformat(timespec="seconds")}
    with whole(path) as file:
        save_png(Rendering(image=picture, seconds=0, **facts), file)


def _write_raster(scene: Path, nir: Path, file: Path, truth: Provenance, settings: Settings) -> None:
    with open_raster(scene, settings) as raster, rasterio.open(nir, driver="GTiff") as near:
        choice = raster.choose(Modality.RGB, truth.details["bands"])
        stretch = Stretch.from_json(json.dumps(truth.details["stretch"]))
        profile = near.profile | {"driver": "GTiff", "count": 1, "dtype": "float32", "nodata": np.nan, "predictor": 3}
        with rasterio.open(file, "w", **profile) as index:
            if near.gcps[0]:
                index.gcps = near.gcps
            index.descriptions = ("NDVI",)
            index.update_tags(**tiff_tags(truth))
            for _, window in near.block_windows(1):
                shown, valid = raster.tile(choice, stretch, window)
                levels = near.read(1, window=window)
                values = ndvi(levels, np.asarray(shown)[..., 0].astype(np.float32))
                values[~valid | (near.read_masks(1, window=window) == 0)] = np.nan
                index.write(values.astype(np.float32), 1, window=window)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except GDAL_ERRORS as error:
        raise UserError(f"{called(file)} cannot be written ({error}): make room, or choose another place.") from error
