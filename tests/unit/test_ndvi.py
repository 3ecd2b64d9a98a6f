"""The vegetation index: its numbers, its colours, and the grid that it comes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from PIL import Image

from mmmrs_demo.make import translate_file
from mmmrs_demo.metrics import ndvi
from mmmrs_demo.modality import Modality
from mmmrs_demo.ndvi import drawn, write_ndvi
from mmmrs_demo.provenance import read
from mmmrs_demo.raster import read_tile
from mmmrs_demo.request import TranslationRequest
from mmmrs_demo.settings import Settings
from tests.instant import InstantEngine
from tests.rasters import UTM, pattern, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

REQUEST = TranslationRequest(translation="rgb2nir", seed=3)


@pytest.fixture
def settings() -> Settings:
    return Settings(bundle="mini")


def near_infrared(folder: Path, scene: Path, settings: Settings) -> Path:
    (folder / "made").mkdir()
    return translate_file(InstantEngine(folder), REQUEST, scene, folder / "made", settings).path


def test_the_index_of_a_picture(tmp_path: Path, settings: Settings) -> None:
    scene = tmp_path / "scene.png"
    Image.fromarray(pattern(3, 64, 96, high=255).astype(np.uint8).transpose(1, 2, 0)).save(scene)
    nir = near_infrared(tmp_path, scene, settings)
    file, picture = write_ndvi(scene, nir, settings)
    assert file == picture
    red = np.asarray(read_tile(scene, Modality.RGB, settings))[..., 0]
    with Image.open(nir) as opened, Image.open(file) as index:
        expected = drawn(ndvi(np.asarray(opened), red.astype(np.float32)))
        assert np.array_equal(np.asarray(index), np.asarray(expected))
    truth = read(file)
    assert (truth.synthetic, truth.request) == (True, read(nir).request)
    assert "no measurement" in truth.details["ndvi"]


@pytest.mark.parametrize("size", [(64, 96), (150, 1100)], ids=["piece", "scene"])
def test_the_index_of_a_raster(tmp_path: Path, settings: Settings, size: tuple[int, int]) -> None:
    samples = pattern(3, *size, high=255).astype(np.uint8)
    samples[:, :8, :8] = 0
    scene = write(tmp_path / "scene.tif", samples, names=("red", "green", "blue"), nodata=0)
    nir = near_infrared(tmp_path, scene, settings)
    file, picture = write_ndvi(scene, nir, settings)
    with rasterio.open(file) as index, rasterio.open(nir) as near:
        assert (index.crs, index.transform, index.shape, index.dtypes) == (near.crs, UTM, size, ("float32",))
        assert (index.descriptions, np.isnan(index.nodata)) == (("NDVI",), True)
        values, levels = index.read(1), near.read(1)
    hidden = (samples == 0).all(axis=0)
    assert np.isnan(values[hidden]).all()
    expected = ndvi(levels, samples[0].astype(np.float32))
    assert np.allclose(values[~hidden], expected[~hidden], atol=1e-6)
    assert read(file).details["ndvi"] == read(picture).details["ndvi"]
    with Image.open(picture) as small:
        assert small.width == min(size[1], 1024)


def test_colours_go_from_brown_through_white_to_green() -> None:
    values = np.linspace(-1, 1, 201, dtype=np.float32)[None].repeat(3, axis=0)
    values[2] = np.nan
    picture = np.asarray(drawn(values)).astype(int)
    red, green, _ = picture[0].T
    assert (red[0] > green[0], tuple(picture[0, 100]), red[200] < green[200]) == (True, (245, 245, 245), True)
    assert (picture[2, :201] == 128).all()
    assert np.array_equal(picture[3 + 6], picture[0])  # the bar says the same
