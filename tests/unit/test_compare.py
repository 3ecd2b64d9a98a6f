"""Figures of a result beside its reference: known answers, whole or in strips, and what does not fit said at once."""

from __future__ import annotations

import math
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

from mmmrs_demo import compare as compare_module
from mmmrs_demo import metrics, worldfile
from mmmrs_demo.compare import Comparison, check, compare
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.georaster import open_raster
from mmmrs_demo.geotiff import GeoTIFFWriter
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.provenance import save_png
from mmmrs_demo.request import Rendering, TextRequest
from mmmrs_demo.settings import Settings
from tests.rasters import UTM, pattern, rendering, write

pytestmark = pytest.mark.unit

SETTINGS = Settings()
WIDE, HIGH = 120, 90
RGBN = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)


def levels(bands: int = 1, *, low: float = 40, high: float = 200, seed: int = 0) -> NDArray[np.uint8]:
    """Return a picture with some noise, of shape (height, width) or (height, width, bands)."""
    smooth = pattern(bands, HIGH, WIDE, low=low, high=high).transpose(1, 2, 0)
    noisy = smooth + np.random.default_rng(seed).normal(0, 12, smooth.shape)
    return noisy.clip(0, 255).astype(np.uint8).squeeze()


def truth(translation: str, **details: Any) -> Rendering:
    return rendering(TRANSLATIONS[translation].target, translation).model_copy(update={"details": details})


def png(file: Path, pixels: NDArray[np.uint8], translation: str = "") -> Path:
    """Write a picture, or a result where it is one of a translation."""
    image = Image.fromarray(pixels)
    if translation:
        save_png(truth(translation).model_copy(update={"image": image}), file)
    else:
        image.save(file)
    return file


def tif(
    file: Path,
    like: Path,
    pixels: NDArray[Any],
    translation: str = "rgb2sar",
    *,
    valid: NDArray[np.bool_] | None = None,
    units: bool = False,
    bands: tuple[int, ...] | None = None,
) -> Path:
    """Write a result on the grid of a raster."""
    with open_raster(like, SETTINGS) as raster:
        choice = raster.choose(TRANSLATIONS[translation].source, bands)
        stretch = raster.stretch(choice)
        told = truth(translation, bands=list(choice.numbers), stretch=stretch.to_dict())
        target = TRANSLATIONS[translation].target
        with GeoTIFFWriter(file, raster, target, source=stretch, truth=told, units=units) as output:
            output.write(Window(0, 0, WIDE, HIGH), pixels, valid)
    return file


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """An optical raster of 8 bits."""
    return write(tmp_path / "scene.tif", levels(4).transpose(2, 0, 1), colours=RGBN)


def test_an_offset_has_the_figures_that_it_must_have(tmp_path: Path) -> None:
    real = levels()
    result, reference = png(tmp_path / "made.png", real + 10, "rgb2sar"), png(tmp_path / "real.png", real)
    found = compare(result, reference, SETTINGS)
    assert found.psnr == pytest.approx(20 * math.log10(255 / 10))
    assert found.ssim == pytest.approx(metrics.ssim(real + 10, real))
    assert (found.error_name, found.error_unit) == ("backscatter error", "dB")
    assert found.error == pytest.approx(10 / 255 * 25)
    assert found.facts == {"PSNR": "28.1 dB", "SSIM": f"{found.ssim:.3g}", "backscatter error": "0.98 dB"}
    assert "-25 to 0 dB" in found.notes[-1]
    same = compare(result, result, SETTINGS)
    assert (same.psnr, same.error) == (metrics.MOST_DB, 0)
    assert same.ssim == pytest.approx(1)


@pytest.mark.parametrize("pixels", [1, 40 * WIDE, 10**6])
@pytest.mark.parametrize("key", ["rgb2nir", "sar2rgb"])
def test_strips_give_what_the_whole_gives(
    key: str, pixels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bands = 3 if key == "sar2rgb" else 1
    made, real, source = levels(bands, seed=1), levels(bands, seed=2), levels(4 - bands, seed=3)
    monkeypatch.setattr(compare_module, "_PIXELS", pixels)
    found = compare(
        png(tmp_path / "made.png", made, key),
        png(tmp_path / "real.png", real),
        SETTINGS,
        png(tmp_path / "source.png", source),
    )
    assert found.psnr == pytest.approx(metrics.psnr(made, real))
    assert found.ssim == pytest.approx(metrics.ssim(made, real), abs=1e-12)
    if key == "rgb2nir":
        assert (found.error_name, found.error_unit) == ("NDVI error", "")
        assert found.error == pytest.approx(metrics.ndvi_error(made, real, source))
    else:
        assert found == Comparison(found.psnr, found.ssim)
        assert list(found.facts) == ["PSNR", "SSIM"]


def test_ndvi_takes_its_red_from_the_bands_that_were_read(tmp_path: Path) -> None:
    counts = pattern(4, HIGH, WIDE, low=500, high=3000).astype("uint16")
    source = write(tmp_path / "counts.tif", counts, names=("blue", "green", "red", "nir"))
    made, real = levels(seed=1), levels(seed=2)
    result = tif(tmp_path / "nir.tif", source, made, "rgb2nir", bands=(2, 3, 1))
    reference = write(tmp_path / "real.tif", real[None], names=("nir",))
    found = compare(result, reference, SETTINGS, source)
    with open_raster(source, SETTINGS) as raster:
        choice = raster.choose(Modality.RGB, (2, 3, 1))
        shown = np.asarray(raster.tile(choice, raster.stretch(choice))[0])
    assert found.error == pytest.approx(metrics.ndvi_error(made, real, shown))
    assert found.notes[0] == "Reference: Band 1 is read as NIR: by its name."
    alone = compare(result, reference, SETTINGS)
    assert (alone.error, alone.psnr, alone.ssim) == (None, found.psnr, found.ssim)


@pytest.mark.parametrize("hidden_in", ["result", "reference", "source"])
def test_only_what_is_valid_counts(hidden_in: str, scene: Path, tmp_path: Path) -> None:
    made, real = levels(seed=1), levels(seed=2)
    shown = np.zeros((HIGH, WIDE), bool)
    shown[20:70, 15:100] = True
    spoilt = np.where(shown, real, 255 - real).astype(np.uint8)
    mask = (shown * 255).astype(np.uint8)
    result = tif(tmp_path / "made.tif", scene, made, valid=shown if hidden_in == "result" else None)
    masks = {hidden_in: mask}
    reference = write(tmp_path / "real.tif", spoilt[None], names=("VV",), mask=masks.get("reference"))
    source = write(tmp_path / "source.tif", levels(3).transpose(2, 0, 1), mask=masks.get("source"))
    found = compare(result, reference, SETTINGS, source)
    inside = np.s_[20:70, 15:100]
    assert found.psnr == pytest.approx(metrics.psnr(made[inside], real[inside]))
    assert found.ssim == pytest.approx(metrics.ssim(made[inside], real[inside]))
    assert found.error == pytest.approx(np.abs(made[inside].astype(float) - real[inside]).mean() / 255 * 25)


def test_where_no_window_is_valid_there_is_no_ssim(scene: Path, tmp_path: Path) -> None:
    slit = np.zeros((HIGH, WIDE), bool)
    slit[40:50] = True
    result = tif(tmp_path / "made.tif", scene, levels(), valid=slit)
    reference = write(tmp_path / "real.tif", levels()[None], names=("VV",))
    found = compare(result, reference, SETTINGS)
    assert (found.psnr, found.ssim) == (metrics.MOST_DB, None)
    assert list(found.facts) == ["PSNR", "backscatter error"]
    rest = write(tmp_path / "rest.tif", levels()[None], names=("VV",), mask=(~slit * 255).astype(np.uint8))
    with pytest.raises(UserError, match="no valid pixel in common: choose another reference"):
        compare(result, rest, SETTINGS)


def test_decibels_on_both_sides_are_compared_as_they_are(scene: Path, tmp_path: Path) -> None:
    shares = pattern(1, HIGH, WIDE)[0].astype(np.float32)
    decibels = (shares * 25 - 25).astype(np.float32)
    grey = tif(tmp_path / "grey.tif", scene, shares)
    measured = tif(tmp_path / "db.tif", scene, shares, units=True)
    reference = write(tmp_path / "vv.tif", decibels[None] + np.float32(3), names=("VV",))  # beyond white in places
    found, shown = compare(measured, reference, SETTINGS), compare(grey, reference, SETTINGS)
    assert found.error == pytest.approx(3, abs=1e-4)
    expected = np.clip(decibels + 3, -25, 0) - decibels
    assert shown.error == pytest.approx(expected.mean(), abs=0.05)
    assert (found.psnr, found.ssim) == (shown.psnr, shown.ssim)
    assert found.facts["backscatter error"] == "3 dB"
    assert len(shown.notes) == len(found.notes) + 1
    power = 10 ** ((decibels + 3) / 10)
    power[:9, :] = 0
    linear = write(tmp_path / "power.tif", power[None].astype(np.float32), names=("VV power",))
    assert compare(measured, linear, SETTINGS).error == pytest.approx(3, abs=1e-4)


def test_the_spread_beside_a_mean_is_not_compared(scene: Path, tmp_path: Path) -> None:
    with open_raster(scene, SETTINGS) as raster:
        told = truth("rgb2sar")
        with GeoTIFFWriter(tmp_path / "made.tif", raster, Modality.SAR, truth=told, spread=True) as output:
            output.write(Window(0, 0, WIDE, HIGH), levels(), None, np.full((HIGH, WIDE), 90, np.float32))
    assert compare(tmp_path / "made.tif", png(tmp_path / "real.png", levels()), SETTINGS).psnr == metrics.MOST_DB


SMALLER = levels()[:, :-4]
MOVED = UTM @ Affine.translation(0.5, 0)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (lambda folder: png(folder / "r.png", SMALLER), "“r.png” is 116 by 90 px and the result 120 by 90 px: choose"),
        (lambda folder: write(folder / "r.tif", SMALLER[None]), "is 116 by 90 px"),
        (
            lambda folder: write(folder / "r.tif", levels()[None], transform=MOVED),
            "another grid than the result (up to",
        ),
        (lambda folder: write(folder / "r.tif", levels()[None], crs="EPSG:32637"), "EPSG:32637 instead of EPSG:32636"),
        (lambda folder: png(folder / "r.png", levels(3, low=0, high=255)), "is a colour picture, but SAR has one band"),
        (lambda folder: write(folder / "r.tif", levels(3).transpose(2, 0, 1)), "nothing says that one is a SAR"),
        (lambda folder: folder / "r.png", "There is no file “r.png”"),
        (lambda folder: folder, "is not a file"),
    ],
    ids=["size", "size of a raster", "moved", "another system", "colour", "bands", "nothing", "folder"],
)
def test_what_does_not_fit_is_said_before_and_after(reference: Any, says: str, scene: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = reference(tmp_path / "real")
    result = tif(tmp_path / "made.tif", scene, levels())
    for refused in (lambda: check(real, scene, Modality.SAR, SETTINGS), lambda: compare(result, real, SETTINGS, scene)):
        with pytest.raises(UserError) as caught:
            refused()
        assert says in str(caught.value)
        assert str(caught.value).endswith(".")


def test_a_place_is_compared_where_both_have_one(scene: Path, tmp_path: Path) -> None:
    real = png(tmp_path / "real.png", levels())
    check(real, scene, Modality.SAR, SETTINGS)
    worldfile.write(real, UTM)
    check(real, scene, Modality.SAR, SETTINGS)
    worldfile.write(real, MOVED)
    with pytest.raises(UserError, match=r"up to 0\.50 px away"):
        check(real, scene, Modality.SAR, SETTINGS)
    tile = png(tmp_path / "tile.png", levels(3))
    check(real, tile, Modality.SAR, SETTINGS)
    check(write(tmp_path / "real.tif", levels()[None], names=("VV",)), tile, Modality.SAR, SETTINGS)


def test_only_a_translation_has_a_reference(tmp_path: Path) -> None:
    words = truth("sar2rgb").model_copy(update={"request": TextRequest(seed=1, scheduler="ddim")})
    save_png(words, tmp_path / "words.png")
    real = png(tmp_path / "real.png", levels(3))
    with pytest.raises(UserError, match="made from words"):
        compare(tmp_path / "words.png", real, SETTINGS)
    with pytest.raises(UserError, match="carries no request"):
        compare(real, real, SETTINGS)


def test_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    result = png(tmp_path / "made.png", levels(), "rgb2sar")
    with pytest.raises(Stopped):
        compare(result, result, SETTINGS, stop=stop)


def test_memory_does_not_grow_with_the_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_module, "_PIXELS", 20_000)
    peaks = []
    for height in (300, 1500):
        rows = pattern(1, height, 200, low=0, high=255).astype("uint8")
        real = write(tmp_path / f"{height}.tif", rows, names=("VV",), tiled=True, blockxsize=64, blockysize=64)
        result = tmp_path / "made.tif"
        with open_raster(real, SETTINGS) as raster, GeoTIFFWriter(result, raster, Modality.SAR) as output:
            output.truth = truth("rgb2sar")
            output.write(Window(0, 0, 200, height), rows[0])
        del rows
        tracemalloc.start()
        compare(result, real, SETTINGS)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.25
