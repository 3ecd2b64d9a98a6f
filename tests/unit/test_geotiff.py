"""What is written lies exactly where its input lay, says what it is, and opens everywhere."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.rpc import RPC
from rasterio.transform import Affine, RPCTransformer
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from mmmrs_demo import provenance
from mmmrs_demo.errors import UserError
from mmmrs_demo.georaster import Raster, open_raster
from mmmrs_demo.geotiff import GeoTIFFWriter, grid
from mmmrs_demo.modality import Modality
from mmmrs_demo.radiometry import DISPLAY_DB, Stretch
from mmmrs_demo.settings import Settings
from tests.rasters import REAL, UTM, needs_real, pattern, rendering, write

SETTINGS = Settings(_env_file=None)
RGB, SAR, NIR = Modality.RGB, Modality.SAR, Modality.NIR
TRUTH = rendering()


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Reflectance of four bands, 600 by 500 px."""
    return write(tmp_path / "scene.tif", pattern(4, 500, 600, low=0.02, high=0.4).astype(np.float32))


def windows(width: int, height: int, side: int = 256) -> Iterator[Window]:
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Window(left, top, min(side, width - left), min(side, height - top))


def picture(modality: Modality, height: int, width: int) -> NDArray[np.uint8]:
    grey = (pattern(len(modality.mode), height, width) * 255).astype(np.uint8)
    return grey[0] if len(grey) == 1 else np.ascontiguousarray(grey.transpose(1, 2, 0))


def saved(
    file: Path, like: Raster, modality: Modality = SAR, valid: NDArray[np.bool_] | None = None, **options: Any
) -> NDArray[np.uint8]:
    """Write a picture window by window and return it."""
    with GeoTIFFWriter(file, like, modality, truth=TRUTH, **options) as writer:
        whole = picture(modality, writer.height, writer.width)
        for window in windows(writer.width, writer.height):
            part = window.toslices()
            writer.write(window, whole[part], None if valid is None else valid[part])
    return whole


def check(file: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        valid, errors, notes = cog_validate(file, strict=True)
    assert valid, (errors, notes)


@pytest.mark.parametrize("modality", Modality)
def test_the_grid_is_the_inputs(scene: Path, tmp_path: Path, modality: Modality) -> None:
    out = tmp_path / "out.tif"
    with open_raster(scene, SETTINGS) as raster:
        whole = saved(out, raster, modality)
    check(out)
    with rasterio.open(out) as file, rasterio.open(scene) as source:
        assert (file.transform, file.crs, file.bounds, file.shape) == (
            source.transform,
            source.crs,
            source.bounds,
            source.shape,
        )
        assert (file.read().transpose(1, 2, 0).squeeze() == whole).all()
        assert (file.dtypes[0], file.compression.name, file.profile["tiled"]) == ("uint8", "deflate", True)
        assert file.overviews(1) == [2]
        assert file.descriptions == {RGB: ("red", "green", "blue"), NIR: ("nir",), SAR: ("VV",)}[modality]
        assert file.mask_flag_enums[0] == [MaskFlags.all_valid]
        if modality is RGB:
            assert file.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["out.tif", "scene.tif"]
    with open_raster(out, SETTINGS) as again:
        assert "name" in again.choose(modality).grounds


@pytest.mark.parametrize(
    "transform", [UTM, UTM @ Affine.rotation(30), Affine(1e-4, 0, 9, 0, -1e-4, 50), UTM @ Affine.shear(5, 3)]
)
@pytest.mark.parametrize("crs", ["EPSG:32636", "EPSG:4326", None])
def test_every_place_is_kept(tmp_path: Path, transform: Affine, crs: str | None) -> None:
    source = write(tmp_path / "in.tif", np.ones((3, 60, 80), np.uint8), transform=transform, crs=crs)
    with open_raster(source, SETTINGS) as raster:
        saved(tmp_path / "out.tif", raster)
    with rasterio.open(tmp_path / "out.tif") as file, rasterio.open(source) as before:
        assert (file.transform, file.crs) == (before.transform, before.crs)


@pytest.mark.parametrize("convention", ["Area", "Point"])
def test_the_convention_for_pixels_is_kept(tmp_path: Path, convention: str) -> None:
    source = write(tmp_path / "in.tif", np.ones((3, 60, 80), np.uint8), tags={"AREA_OR_POINT": convention})
    with open_raster(source, SETTINGS) as raster:
        saved(tmp_path / "out.tif", raster)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.transform == UTM
        assert file.tags()["AREA_OR_POINT"] == convention


def test_windows_and_other_sizes_move_the_transform(scene: Path, tmp_path: Path) -> None:
    window, size = Window(100, 50, 300, 200), (600, 800)
    with open_raster(scene, SETTINGS) as raster:
        saved(tmp_path / "part.tif", raster, window=window)
        saved(tmp_path / "large.tif", raster, size=(1200, 1000))
        saved(tmp_path / "both.tif", raster, window=window, size=size)
        expected = raster.transform
    with rasterio.open(tmp_path / "part.tif") as file:
        assert file.transform == expected @ Affine.translation(100, 50)
        assert (file.width, file.height) == (300, 200)
    with rasterio.open(tmp_path / "large.tif") as file:
        assert file.transform == expected @ Affine.scale(0.5)
        assert file.bounds == (500_000, 3_995_000, 506_000, 4_000_000)
    with rasterio.open(tmp_path / "both.tif") as file:
        assert file.transform.almost_equals(grid(expected, window, size))
        assert file.bounds == (501_000, 3_997_500, 504_000, 3_999_500)


def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 9 + c * 1e-4, 50 - r * 1e-4) for r, c in ((0, 0), (0, 80), (60, 0), (60, 80))]
    samples = np.ones((3, 60, 80), np.uint8)
    source = write(tmp_path / "in.tif", samples, crs=None, transform=None, gcps=(points, "EPSG:4326"))
    with open_raster(source, SETTINGS) as raster:
        saved(tmp_path / "out.tif", raster)
        saved(tmp_path / "part.tif", raster, window=Window(20, 10, 40, 40), size=(80, 80))
    for name, row, column, factor in (("out.tif", 0, 0, 1), ("part.tif", 10, 20, 2)):
        expected = [((p.row - row) * factor, (p.col - column) * factor, p.x, p.y) for p in points]
        check(tmp_path / name)
        with rasterio.open(tmp_path / name) as file:
            kept, crs = file.gcps
            assert crs.to_epsg() == 4326
            assert [(p.row, p.col, p.x, p.y) for p in kept] == expected


def test_rational_polynomials_are_kept(tmp_path: Path) -> None:
    none = [0.0] * 17
    rpcs = RPC(
        height_off=100,
        height_scale=500,
        lat_off=50,
        lat_scale=0.01,
        long_off=9,
        long_scale=0.01,
        line_off=30,
        line_scale=30,
        samp_off=40,
        samp_scale=40,
        line_num_coeff=[0, 0, -1, *none],
        line_den_coeff=[1, 0, 0, *none],
        samp_num_coeff=[0, 1, 0, *none],
        samp_den_coeff=[1, 0, 0, *none],
        err_bias=None,
        err_rand=None,
    )
    source = write(tmp_path / "in.tif", np.ones((3, 60, 80), np.uint8), crs=None, transform=None, rpcs=rpcs)
    with open_raster(source, SETTINGS) as raster:
        saved(tmp_path / "out.tif", raster)
        saved(tmp_path / "part.tif", raster, window=Window(20, 10, 40, 40), size=(80, 80))
    places = {}
    for name, row, column in (("in.tif", 25, 35), ("out.tif", 25, 35), ("part.tif", 30, 30)):
        with (
            warnings.catch_warnings(action="ignore"),
            rasterio.open(tmp_path / name) as file,
            RPCTransformer(file.rpcs) as transformer,
        ):
            places[name] = transformer.xy(row, column, offset="ul")
    assert places["out.tif"] == places["in.tif"]
    assert places["part.tif"] == pytest.approx(places["in.tif"], abs=1e-7)


def test_pixels_without_data_are_masked_in_eight_bits(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    valid = np.ones((500, 600), bool)
    valid[300:420, 270:500] = False
    with open_raster(scene, SETTINGS) as raster:
        whole = saved(out, raster, RGB, valid)
    check(out)
    with rasterio.open(out) as file:
        assert file.nodata is None
        assert file.mask_flag_enums[0] == [MaskFlags.per_dataset]
        assert ((file.dataset_mask() > 0) == valid).all()
        read = file.read().transpose(1, 2, 0)
        assert (read[valid] == whole[valid]).all()
        assert (read[~valid] == 0).all()
    with open_raster(out, SETTINGS) as again:
        assert (again.read([1, 2, 3]).valid == valid).all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "expected"), [("float32", None, np.nan), ("float32", -9999.0, -9999.0), ("uint16", 0, np.nan)]
)
def test_pixels_without_data_have_a_value_in_physical_units(
    tmp_path: Path, dtype: str, nodata: float | None, expected: float
) -> None:
    samples = pattern(13, 80, 100, low=0.02, high=0.4) * (10_000 if dtype == "uint16" else 1)
    samples = samples.astype(dtype)
    samples[:, :30, :40] = np.nan if nodata is None else nodata
    out = tmp_path / "out.tif"
    with open_raster(write(tmp_path / "in.tif", samples, nodata=nodata), SETTINGS) as raster:
        choice = raster.choose(RGB)
        stretch = raster.stretch(choice)
        valid = raster.read(choice.numbers).valid
        with GeoTIFFWriter(out, raster, NIR, source=stretch, truth=TRUTH, units=True) as writer:
            writer.write(Window(0, 0, 100, 80), np.full((80, 100), 0.5, np.float32), valid)
    check(out)
    with rasterio.open(out) as file:
        assert np.array_equal(file.nodata, expected, equal_nan=True)
        read = file.read(1)
        assert read[valid] == pytest.approx((stretch.low + stretch.high) / 2)
        assert np.array_equal(read[~valid], np.full((~valid).sum(), expected), equal_nan=True)
        assert ((file.dataset_mask() > 0) == valid).all()
        assert file.units == ("reflectance",)


def test_backscatter_in_decibels(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    with open_raster(scene, SETTINGS) as raster:
        whole = saved(out, raster, SAR, units=True, source=raster.stretch(raster.choose(RGB)))
    low, high = DISPLAY_DB["VV"]
    with open_raster(out, SETTINGS) as again:
        assert again.bands[0].unit == "dB"
        choice = again.choose(SAR)
        assert again.read([1]).samples[0] == pytest.approx(low + whole / 255 * (high - low), abs=1e-4)
        tile, _ = again.tile(choice, again.stretch(choice))
        assert np.abs(np.asarray(tile).astype(int) - whole).max() <= 1
        tags = again.tags
    output = Stretch.from_json(tags["mmmrs_output"])
    assert (output.low, output.high, output.unit) == (low, high, "dB")
    assert "not measured" in output.grounds
    assert Stretch.from_json(tags["mmmrs_input"]).unit == "reflectance"


def test_units_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    with open_raster(write(tmp_path / "in.tif", np.ones((3, 40, 40), np.uint8)), SETTINGS) as raster:
        source = raster.stretch(raster.choose(RGB))
        with pytest.raises(UserError, match=r"“in.tif” was not read as reflectance, so a NIR picture"):
            GeoTIFFWriter(tmp_path / "out.tif", raster, NIR, source=source, units=True)
        saved(tmp_path / "out.tif", raster, NIR, source=source)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert "mmmrs_output" not in file.tags()


def test_grey_values_may_be_shares(scene: Path, tmp_path: Path) -> None:
    with (
        open_raster(scene, SETTINGS) as raster,
        GeoTIFFWriter(tmp_path / "out.tif", raster, RGB, truth=TRUTH) as writer,
    ):
        shares = np.linspace(-0.1, 1.1, 500 * 600 * 3, dtype=np.float32).reshape(500, 600, 3)
        writer.write(Window(0, 0, 600, 500), shares)
    with rasterio.open(tmp_path / "out.tif") as file:
        expected = np.clip(shares, 0, 1).transpose(2, 0, 1) * 255
        assert np.abs(file.read() - expected).max() <= 0.501


def test_overlapping_windows_the_last_one_counts(scene: Path, tmp_path: Path) -> None:
    with (
        open_raster(scene, SETTINGS) as raster,
        GeoTIFFWriter(tmp_path / "out.tif", raster, SAR, truth=TRUTH) as writer,
    ):
        for value, left in ((50, 0), (90, 200)):
            part = np.full((500, 400), value, np.uint8)
            hidden = np.zeros((500, 400), bool) if value == 50 else np.ones((500, 400), bool)
            writer.write(Window(left, 0, 400, 500), part, hidden)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert [file.read(1)[9, column] for column in (100, 300, 500)] == [0, 90, 90]
        assert [file.dataset_mask()[9, column] for column in (100, 300, 500)] == [0, 255, 255]


def test_it_says_what_it_is(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    with open_raster(scene, SETTINGS) as raster:
        saved(out, raster)
    found = provenance.read(out)
    assert (found.request, found.modality, found.synthetic) == (TRUTH.request, SAR, True)
    with rasterio.open(out) as file:
        tags = file.tags()
    assert tags["synthetic"] == "true"
    assert tags["TIFFTAG_IMAGEDESCRIPTION"].startswith("Synthetic SAR image")
    assert tags["TIFFTAG_SOFTWARE"] == provenance.SOFTWARE
    assert tags[provenance.KEYWORD] == provenance.embed(TRUTH)[provenance.KEYWORD]
    assert json.loads(tags["mmmrs_output"])["unit"] == "dB"


def test_truth_may_come_at_the_end_but_must_come(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    with open_raster(scene, SETTINGS) as raster:
        with GeoTIFFWriter(out, raster, SAR) as writer:
            writer.truth = provenance.read(saved_png(tmp_path))
        assert provenance.read(out).request == TRUTH.request
        out.unlink()
        with pytest.raises(ValueError, match="must say what it is"), GeoTIFFWriter(out, raster, SAR):
            pass
    assert sorted(f.suffix for f in tmp_path.iterdir()) == [".png", ".tif"]


def saved_png(folder: Path) -> Path:
    provenance.save_png(TRUTH, folder / "other.png")
    return folder / "other.png"


def write_and_interrupt(writer: GeoTIFFWriter, out: Path) -> None:
    writer.write(Window(0, 0, 100, 100), np.zeros((100, 100), np.uint8))
    assert out.read_bytes() == b"an older file"
    raise KeyboardInterrupt


def test_nothing_half_written_is_left(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    out.write_bytes(b"an older file")
    with open_raster(scene, SETTINGS) as raster:
        interrupted = GeoTIFFWriter(out, raster, SAR, truth=TRUTH)
        with pytest.raises(KeyboardInterrupt), interrupted as writer:
            write_and_interrupt(writer, out)
    assert out.read_bytes() == b"an older file"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["out.tif", "scene.tif"]
    with open_raster(scene, SETTINGS) as raster:
        saved(out, raster)
    check(out)


def test_places_that_cannot_be_written(scene: Path, tmp_path: Path) -> None:
    with open_raster(scene, SETTINGS) as raster:
        for place in (tmp_path / "missing" / "out.tif", tmp_path / "scene.tif" / "out.tif"):
            with pytest.raises(UserError, match=r"“out.tif” cannot be written"):
                saved(place, raster)
        (tmp_path / "folder.tif").mkdir()
        with pytest.raises(UserError, match=r"“folder.tif” cannot be written"):
            saved(tmp_path / "folder.tif", raster)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["folder.tif", "scene.tif"]


def test_too_little_room_is_told_before_the_work(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=600 * 500 * 3 - 1))
    with open_raster(scene, SETTINGS) as raster, pytest.raises(UserError, match="needs up to 1 MB of room"):
        saved(tmp_path / "out.tif", raster)
    assert [f.name for f in tmp_path.iterdir()] == ["scene.tif"]


@pytest.mark.parametrize("size", [300_000, 2_300_000, 2_359_500, 2_370_000, 2_373_000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, size: int) -> None:
    """A limit on the size of files stands for the disk; it holds for a process, so another one meets it.

    The raw picture ends at 2.36 MB, the finished file at 2.37 MB.
    """
    scene = write(tmp_path / "scene.tif", np.ones((1, 1300, 1400), np.uint8))
    script = f"""
import numpy, resource, signal
from mmmrs_demo import errors, georaster, geotiff, modality, provenance, settings
from rasterio.windows import Window
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
truth = provenance.read({str(saved_png(tmp_path))!r})
with georaster.open_raster({str(scene)!r}, settings.Settings()) as raster:
    try:
        with geotiff.GeoTIFFWriter({str(tmp_path / "out.tif")!r}, raster, modality.Modality.SAR, truth=truth) as writer:
            noise = numpy.random.default_rng(7).integers(0, 255, (1300, 1400)).astype(numpy.uint8)
            writer.write(Window(0, 0, 1400, 1300), noise)
    except errors.UserError as error:
        print(error)
"""
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "“out.tif” cannot be written" in told
    assert sorted(f.name for f in tmp_path.iterdir()) == ["other.png", "scene.tif"]


def test_a_large_raster_is_written_in_constant_memory(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    options = {"driver": "GTiff", "width": 6000, "height": 6000, "count": 3, "dtype": "uint16", "tiled": True}
    with rasterio.open(source, "w", crs="EPSG:32636", transform=UTM, SPARSE_OK=True, **options):
        pass
    out = tmp_path / "out.tif"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    noise = np.random.default_rng(7).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    with open_raster(source, SETTINGS) as raster, GeoTIFFWriter(out, raster, RGB, truth=TRUTH) as writer:
        for window in windows(6000, 6000):
            shape = int(window.height), int(window.width)
            writer.write(window, noise[: shape[0], : shape[1]], np.ones(shape, bool))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6  # of Python's own; the picture has 108 MB
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 700e6  # GDAL's cache of blocks
    check(out)
    with rasterio.open(out) as file:
        assert file.overviews(1) == [2, 4, 8, 16]
        assert (file.read(window=Window(5888, 5888, 112, 112)) == noise[:112, :112].transpose(2, 0, 1)).all()


@needs_real
@pytest.mark.parametrize(
    ("name", "source", "target", "units"),
    [
        ("naip_northdakota_4band_5m_uint8_utm", RGB, NIR, False),
        ("sentinel2_l2a_12band_10m_int16_utm", RGB, NIR, True),
        ("sentinel2_l2a_12band_10m_int16_utm", RGB, SAR, True),
        ("spacenet6_sar_quadpol_4.5m_float32_utm_nodata", SAR, RGB, False),
        ("sentinel1_rtc_vvvh_10m_float64_utm", SAR, RGB, False),
    ],
)
def test_real_rasters_in_and_out(tmp_path: Path, name: str, source: Modality, target: Modality, units: bool) -> None:
    out = tmp_path / "out.tif"
    with open_raster(REAL / f"{name}.tif", SETTINGS) as raster:
        choice = raster.choose(source)
        stretch = raster.stretch(choice)
        valid = raster.read(choice.numbers).valid
        saved(out, raster, target, valid, source=stretch, units=units)
        check(out)
        with rasterio.open(out) as file:
            assert (file.transform, file.crs, file.shape) == (
                raster.transform,
                raster.crs,
                (raster.height, raster.width),
            )
            assert ((file.dataset_mask() > 0) == valid).all()
    assert provenance.read(out).request == TRUTH.request
