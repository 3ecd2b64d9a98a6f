"""Writes small rasters with what real ones have: types, bands, nodata, masks, tags, places."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from mmmrs_demo.modality import Modality
from mmmrs_demo.prompt import PAPER_PROMPTS
from mmmrs_demo.request import Rendering, TranslationRequest

REAL = Path(os.environ.get("MMMRS_TEST_DATA", Path(__file__).parents[2] / "shared/data")) / "geotiff"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real GeoTIFFs at {REAL}; set MMMRS_TEST_DATA")

UTM = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_000_000.0)


def pattern(bands: int, height: int = 96, width: int = 128, *, low: float = 0, high: float = 1) -> NDArray[np.float64]:
    """Return smooth bands from `low` to `high`, each different, of shape (bands, height, width)."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (5 + band) + band) * np.cos(y / (7 + band)) for band in range(bands)]
    return low + (np.stack(waves) + 1) / 2 * (high - low)


def write(
    file: Path,
    samples: NDArray[Any],
    *,
    names: Sequence[str] = (),
    colours: Sequence[ColorInterp] = (),
    tags: Mapping[str, str] | None = None,
    mask: NDArray[Any] | None = None,
    **options: Any,
) -> Path:
    """Write samples of shape (bands, height, width) as a GeoTIFF at 10 m in UTM and return its path."""
    count, height, width = samples.shape
    profile: dict[str, Any] = {"driver": "GTiff", "crs": "EPSG:32636", "transform": UTM, "dtype": samples.dtype}
    scale, units = options.pop("scale", None), options.pop("units", None)
    gcps, rpcs = options.pop("gcps", None), options.pop("rpcs", None)
    profile |= options
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(file, "w", count=count, height=height, width=width, **profile) as dataset,
    ):
        if colours:
            dataset.colorinterp = colours
        if gcps:
            dataset.gcps = gcps
        if rpcs:
            dataset.rpcs = rpcs
        dataset.write(samples)
        if mask is not None:
            dataset.write_mask(mask)
        if names:
            dataset.descriptions = names
        if scale:
            dataset.scales, dataset.offsets = (scale[0],) * count, (scale[1],) * count
        if units:
            dataset.units = (units,) * count
        dataset.update_tags(**(tags or {}))
    return file


def rendering(modality: Modality = Modality.SAR, translation: str = "rgb2sar") -> Rendering:
    """Return what an engine would say of a picture; its pixels do not matter."""
    request = TranslationRequest(
        bundle="mini",
        translation=translation,
        prompt=PAPER_PROMPTS[5],
        steps=30,
        guidance=5.0,
        scheduler="ddim",
        seed=7,
        lora_scale=0.0,
        controlnet_scale=1.0,
        source_sha256="0" * 64,
    )
    return Rendering(
        image=Image.new(modality.mode, (64, 64)),
        request=request,
        modality=modality,
        seconds=1.5,
        model={"bundle": "mini", "title": "Mini"},
        versions={"torch": "2.15.0"},
        created=datetime(2026, 11, 21, 4, 5, 6, tzinfo=UTC).isoformat(),
    )
