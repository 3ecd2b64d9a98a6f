"""Rasters of every type and size are read window by window, and what is wrong with one is told in a sentence."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.env import get_gdal_config
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.windows import Window

from mmmrs_demo.errors import UserError
from mmmrs_demo.georaster import GLANCE, is_raster, open_raster
from mmmrs_demo.modality import Modality
from mmmrs_demo.radiometry import DISPLAY_DB, Quantity
from mmmrs_demo.settings import Settings
from tests.rasters import REAL, UTM, needs_real, pattern, write

SETTINGS = Settings(_env_file=None)
RGB, SAR, NIR = Modality.RGB, Modality.SAR, Modality.NIR


def read_through(
    file: Path | bytes, modality: Modality, settings: Settings = SETTINGS, name: str | None = None
) -> None:
    with open_raster(file, settings, name) as raster:
        choice = raster.choose(modality)
        raster.tile(choice, raster.stretch(choice))


def refusal(
    file: Path | bytes, modality: Modality = RGB, settings: Settings = SETTINGS, name: str | None = None
) -> str:
    """The sentence that opening, choosing or reading ends with."""
    with pytest.raises(UserError) as caught:
        read_through(file, modality, settings, name)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_what_was_decoded_is_kept_for_the_next_window(tmp_path: Path) -> None:
    with open_raster(write(tmp_path / "scene.tif", pattern(3).astype("uint8")), SETTINGS):
        assert get_gdal_config("GDAL_CACHEMAX") == 256 * 2**20  # a bare 256 would be bytes, and keep nothing


TYPES = [("uint8", 0, 255), ("uint16", 200, 3000), ("int16", 100, 4000), ("float32", 0, 0.4), ("float64", 0, 0.4)]


@pytest.mark.parametrize(("dtype", "low", "high"), TYPES)
@pytest.mark.parametrize(
    "form", [{"tiled": True, "blockxsize": 32, "blockysize": 32}, {"blockysize": 1}, {"BIGTIFF": "YES"}]
)
def test_every_type_is_read(tmp_path: Path, dtype: str, low: float, high: float, form: dict[str, Any]) -> None:
    samples = pattern(3, low=low, high=high).astype(dtype)
    with open_raster(write(tmp_path / "scene.tif", samples, **form), SETTINGS) as raster:
        assert (raster.size, len(raster.bands), raster.bands[0].dtype) == ((128, 96), 3, dtype)
        assert (raster.transform, raster.crs) == (UTM, CRS.from_epsg(32636))
        assert (raster.gsd, raster.level and raster.level.key) == (10.0, "low")
        assert (raster.masked, raster.notes) == (False, ())
        read, valid = raster.read([3, 1], Window(10, 20, 50, 40))
        assert (read == samples[[2, 0], 20:60, 10:60]).all()
        assert read.dtype == dtype
        assert valid.all()
        choice = raster.choose(RGB)
        tile, _ = raster.tile(choice, raster.stretch(choice))
        assert (tile.mode, tile.size) == ("RGB", (128, 96))
        shown = np.asarray(tile, float)
        assert np.corrcoef(shown[..., 1].ravel(), samples[1].ravel().astype(float))[0, 1] > 0.99
        assert shown.max() - shown.min() > 200


def test_content_is_read_like_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "scene.tif", pattern(3, high=255).astype(np.uint8))
    for source in (file, str(file), file.read_bytes()):
        with open_raster(source, SETTINGS, "upload.tif") as raster:
            assert raster.who == "“upload.tif”"
            assert raster.read([1]).samples.shape == (1, 96, 128)


@pytest.mark.parametrize("modality", [RGB, NIR])
def test_jpeg_2000(tmp_path: Path, modality: Modality) -> None:
    samples = pattern(4, low=100, high=3000).astype(np.uint16)
    file = write(tmp_path / "scene.jp2", samples, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    with open_raster(file, SETTINGS) as raster:
        choice = raster.choose(modality, None if modality is RGB else [4])
        assert (raster.read(choice.numbers).samples == samples[[number - 1 for number in choice.numbers]]).all()
        assert raster.gsd == 10.0
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "damaged or cut short" in refusal(file)


@pytest.mark.parametrize(
    ("dtype", "nodata", "hidden"),
    [
        ("uint8", 0, 0),
        ("uint16", 65535, 65535),
        ("int16", -32768, -32768),
        ("float32", -9999, -9999),
        ("float32", None, np.nan),
    ],
)
def test_nodata_is_seen_and_no_part_of_the_range(
    tmp_path: Path, dtype: str, nodata: float | None, hidden: float
) -> None:
    low, high = (20, 250) if dtype == "uint8" else (100, 3000)
    samples = pattern(3, low=low, high=high).astype(dtype)
    samples[:, :40, :50] = hidden
    with open_raster(write(tmp_path / "scene.tif", samples, nodata=nodata), SETTINGS) as raster:
        assert raster.masked is (nodata is not None)
        choice = raster.choose(RGB)
        stretch = raster.stretch(choice)
        assert stretch.low >= 0
        assert stretch.high <= 3000
        tile, valid = raster.tile(choice, stretch)
        expected = np.ones((96, 128), bool)
        expected[:40, :50] = False
        assert (valid == expected).all()
        assert (np.asarray(tile)[~valid] == 0).all()


def test_a_dark_pixel_is_no_nodata_unless_all_bands_are(tmp_path: Path) -> None:
    samples = np.full((3, 96, 128), 90, np.uint8)
    samples[0, 5, 5] = 0
    samples[:, 6, 6] = 0
    with open_raster(write(tmp_path / "scene.tif", samples, nodata=0), SETTINGS) as raster:
        valid = raster.read([1, 2, 3]).valid
        assert (valid[5, 5], valid[6, 6]) == (True, False)
        assert not raster.read([1]).valid[5, 5]
    floats = samples.astype(np.float32)
    floats[0, 5, 5] = -9999
    with open_raster(write(tmp_path / "floats.tif", floats, nodata=-9999), SETTINGS) as raster:
        assert not raster.read([1, 2, 3]).valid[5, 5]
        assert raster.read([2, 3]).valid[5, 5]


@pytest.mark.parametrize("way", ["mask", "alpha"])
def test_masks_and_transparency_hide(tmp_path: Path, way: str) -> None:
    samples = pattern(3, low=1000, high=3000).astype(np.uint16)
    samples[:, 30:60, 30:60] = 60_000
    shown = np.full((96, 128), 65535, np.uint16)
    shown[30:60, 30:60] = 0
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if way == "mask":
        file = write(tmp_path / "scene.tif", samples, mask=shown > 0)
    else:
        four = np.concatenate([samples, shown[np.newaxis]])
        file = write(tmp_path / "scene.tif", four, colours=(*colours, ColorInterp.alpha))
    with open_raster(file, SETTINGS) as raster:
        choice = raster.choose(RGB)
        assert choice.numbers == (1, 2, 3)
        assert raster.stretch(choice).high <= 3000
        assert (raster.read(choice.numbers).valid == (shown > 0)).all()


def test_nothing_but_nodata(tmp_path: Path) -> None:
    for name, fill, nodata in (("a.tif", np.nan, None), ("b.tif", -9999, -9999)):
        file = write(tmp_path / name, np.full((3, 40, 40), fill, np.float32), nodata=nodata)
        assert f"“{name}” has no valid pixel in band 1, 2, 3: all is nodata" in refusal(file)
    samples = pattern(3, high=1).astype(np.float32)
    samples[1] = np.nan
    assert "has no valid pixel" in refusal(write(tmp_path / "c.tif", samples))


@pytest.mark.parametrize(
    ("crs", "transform", "gsd"),
    [
        ("EPSG:32636", UTM, 10.0),
        ("EPSG:32636", UTM @ Affine.rotation(30), 10.0),
        ("EPSG:32636", UTM @ Affine.scale(0.06), 0.6),
        ("EPSG:4326", Affine(0.0001, 0, 9.0, 0, -0.0001, 0.0), 11.1),
        ("EPSG:4326", Affine(0.0001, 0, 9.0, 0, -0.0001, 60.0), 7.88),
        ("EPSG:3857", Affine(10, 0, 1e6, 0, -10, 8_399_737.9), 5.02),
        ("EPSG:2263", Affine(1, 0, 980_000, 0, -1, 200_000), 0.305),
        (None, UTM, None),
        ('LOCAL_CS["plan",UNIT["metre",1]]', UTM, None),
        ("EPSG:32636", UTM @ Affine.translation(1e30, 0), None),
        ("EPSG:32636", Affine.identity(), None),
    ],
)
def test_ground_sample_distance(tmp_path: Path, crs: str | None, transform: Affine, gsd: float | None) -> None:
    file = write(tmp_path / "scene.tif", np.ones((1, 96, 128), np.uint8), crs=crs, transform=transform)
    with open_raster(file, SETTINGS) as raster:
        assert raster.transform.almost_equals(transform)
        assert raster.gsd == (gsd if gsd is None else pytest.approx(gsd, rel=2e-3))


def test_places_without_a_transform(tmp_path: Path) -> None:
    samples = np.ones((1, 96, 128), np.float32)
    points = [GroundControlPoint(r, c, 9 + c * 1e-4, 50 - r * 1e-4) for r, c in ((0, 0), (0, 128), (96, 0), (96, 128))]
    file = write(tmp_path / "gcps.tif", samples, crs=None, transform=None, gcps=(points, "EPSG:4326"))
    with open_raster(file, SETTINGS) as raster:
        assert len(raster.gcps) == 4
        assert raster.crs == CRS.from_epsg(4326)
        assert raster.gsd == pytest.approx(8.9, rel=0.01)
        assert "ground control points" in raster.notes[0]
    file = write(tmp_path / "rpcs.tif", samples, crs=None, transform=None, rpcs=polynomials())
    with open_raster(file, SETTINGS) as raster:
        assert raster.rpcs is not None
        assert raster.rpcs.line_off == 48
        assert raster.gsd is None
        assert raster.level is None
    with open_raster(write(tmp_path / "none.tif", samples, crs=None, transform=None), SETTINGS) as raster:
        assert raster.notes == ("“none.tif” has no coordinate reference system, so the result will have none.",)


def polynomials() -> RPC:
    linear = [0.0] * 20
    return RPC(
        height_off=0,
        height_scale=500,
        lat_off=50,
        lat_scale=0.01,
        long_off=9,
        long_scale=0.01,
        line_off=48,
        line_scale=48,
        samp_off=64,
        samp_scale=64,
        line_num_coeff=[0, 0, -1, *linear[3:]],
        line_den_coeff=[1, *linear[1:]],
        samp_num_coeff=[0, 1, 0, *linear[3:]],
        samp_den_coeff=[1, *linear[1:]],
        err_bias=None,
        err_rand=None,
    )


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_samples_are_read_as_their_length(tmp_path: Path, dtype: str) -> None:
    samples = np.full((1, 96, 128), 0.3 + 0.4j if dtype != "complex_int16" else 30 + 40j, np.complex64)
    with open_raster(write(tmp_path / "slc.tif", samples, dtype=dtype), SETTINGS) as raster:
        read = raster.read([1]).samples
        assert read.dtype == np.float32
        assert read == pytest.approx(0.5 if dtype != "complex_int16" else 50)
        assert "complex values" in raster.notes[-1]
        assert "amplitude" in raster.stretch(raster.choose(SAR)).grounds


@pytest.mark.parametrize("options", [{"photometric": "ycbcr"}, {}])
def test_jpeg_within_a_tiff(tmp_path: Path, options: dict[str, Any]) -> None:
    samples = pattern(3, high=255).astype(np.uint8)
    file = write(tmp_path / "scene.tif", samples, compress="jpeg", tiled=True, blockxsize=64, blockysize=64, **options)
    with open_raster(file, SETTINGS) as raster:
        assert raster.choose(RGB).numbers == (1, 2, 3)
        assert np.abs(raster.read([1, 2, 3]).samples.astype(float) - samples).mean() < 6


def test_one_row(tmp_path: Path) -> None:
    with open_raster(write(tmp_path / "row.tif", pattern(3, 1, 5000, high=255).astype(np.uint8)), SETTINGS) as raster:
        assert raster.size == (5000, 1)
        assert raster.glance([1]).samples.shape == (1, 1, GLANCE)
        assert raster.preview(RGB, side=100).size == (100, 1)


def test_previews(tmp_path: Path) -> None:
    samples = pattern(4, 1500, 3000, low=100, high=4000).astype(np.uint16)
    with open_raster(write(tmp_path / "scene.tif", samples, tiled=True), SETTINGS) as raster:
        assert raster.preview(RGB).size == (512, 256)
        assert (raster.preview(NIR, side=64).size, raster.preview(NIR).mode) == ((64, 32), "L")
        red, green, blue = raster.preview(RGB, [4]).split()
        assert red.tobytes() == green.tobytes() == blue.tobytes()
        with pytest.raises(UserError, match="no band 5"):
            raster.preview(NIR, [5])


def test_a_large_raster_is_looked_at_in_constant_memory(tmp_path: Path) -> None:
    file = tmp_path / "large.tif"
    options: dict[str, Any] = {
        "crs": "EPSG:32636",
        "transform": UTM,
        "driver": "GTiff",
        "width": 30_000,
        "height": 30_000,
        "count": 3,
        "dtype": "uint16",
    }
    with rasterio.open(file, "w", tiled=True, SPARSE_OK=True, **options) as dataset:
        dataset.write(np.full((3, 256, 30_000), 700, np.uint16), window=Window(0, 15_000, 30_000, 256))
    tracemalloc.start()
    with open_raster(file, SETTINGS) as raster:
        assert raster.preview(RGB).size == (512, 512)
        assert raster.stretch(raster.choose(RGB)).low == pytest.approx(700)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6  # the raster has 5.4 GB


def test_limits_are_checked_before_anything_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "scene.tif", pattern(3, high=255).astype(np.uint8))
    monkeypatch.setattr("mmmrs_demo.georaster.Raster.read", lambda *_, **__: pytest.fail("decoded"))
    for limits, says in (
        ({"max_scene_pixels": 128 * 96 - 1}, "128 by 96 px"),
        ({"max_scene_bands": 2}, "has 3 bands: at most 2"),
        ({"max_scene_bytes": file.stat().st_size - 1}, "larger than"),
    ):
        assert says in refusal(file, settings=SETTINGS.model_copy(update=limits))
    exact = {"max_scene_pixels": 128 * 96, "max_scene_bands": 3, "max_scene_bytes": file.stat().st_size}
    with open_raster(file, SETTINGS.model_copy(update=exact)) as raster:
        assert raster.size == (128, 96)


def test_one_piece_too_large_to_decode_is_refused(tmp_path: Path) -> None:
    """A few KB can unpack to GB, all of which one pixel costs."""
    file = tmp_path / "strip.tif"
    options: dict[str, Any] = {
        "crs": "EPSG:32636",
        "transform": UTM,
        "driver": "GTiff",
        "width": 20_000,
        "height": 20_000,
        "count": 1,
        "dtype": "uint8",
    }
    with rasterio.open(
        file,
        "w",
        tiled=True,
        blockxsize=20_000 // 16 * 16,
        blockysize=20_000 // 16 * 16,
        compress="deflate",
        SPARSE_OK=True,
        **options,
    ):
        pass
    assert "stored in pieces of 400 MB" in refusal(file)
    assert "gdal_translate" in refusal(file)


@pytest.mark.parametrize("compress", ["deflate", "lzw", "jpeg"])
def test_a_damaged_tile_is_told_with_its_place(tmp_path: Path, compress: str) -> None:
    noise = np.random.default_rng(7).integers(1, 255, (1, 512, 512)).astype(np.uint8)
    file = write(tmp_path / "scene.tif", noise, tiled=True, blockxsize=128, blockysize=128, compress=compress)
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = b"\xff" * 3000
    file.write_bytes(data)
    with open_raster(file, SETTINGS) as raster:
        assert (raster.read([1], Window(0, 0, 128, 128)).samples.shape) == (1, 128, 128)
        with pytest.raises(
            UserError, match=r"“scene.tif” is damaged or cut short in rows 256 to 383, columns 0 to 511"
        ):
            raster.read([1], Window(0, 256, 512, 128))


def test_a_truncated_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(7).integers(1, 255, (3, 128, 128)).astype(np.uint8)
    file = write(tmp_path / "scene.tif", noise)
    data = file.read_bytes()
    for length in (9, 100, len(data) // 2):
        file.write_bytes(data[:length])
        assert "“scene.tif” is damaged or cut short" in refusal(file)


def test_flipped_bytes_give_a_sentence_or_a_picture(tmp_path: Path) -> None:
    data = write(tmp_path / "scene.tif", pattern(3, 40, 40, high=255).astype(np.uint8), compress="deflate").read_bytes()
    dice = np.random.default_rng(7)
    for _ in range(200):
        flipped = bytearray(data)
        for _ in range(dice.integers(1, 7)):
            flipped[dice.integers(len(flipped))] = dice.integers(256)
        try:
            read_through(bytes(flipped), RGB)
        except UserError as error:
            assert str(error).startswith("The picture")  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"<VRTDataset rasterXSize='9' rasterYSize='9'/>", "neither a TIFF nor a JPEG 2000"),
        (b"\x89PNG\r\n\x1a\n", "neither a TIFF nor a JPEG 2000"),
        (b"II*\0" + bytes(64), "damaged or cut short"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64), "damaged or cut short"),
    ],
)
def test_what_only_calls_itself_a_raster(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "scene.tif"
    file.write_bytes(data)
    assert says in refusal(file)
    assert says in refusal(data)


@pytest.mark.parametrize(
    "path", ["/vsicurl/http://localhost/a.tif", "/vsizip/a.zip/a.tif", "GTIFF_DIR:1:a.tif", "http://localhost/a.tif"]
)
def test_only_files_are_opened(path: str) -> None:
    assert "There is no file" in refusal(Path(path))
    with pytest.raises(UserError, match="There is no file"), open_raster(path, SETTINGS):
        pass


def test_what_lies_beside_a_file_is_not_read_and_nothing_is_left_there(tmp_path: Path) -> None:
    samples = pattern(1, high=255).astype(np.uint8)
    file = write(tmp_path / "scene.tif", samples, crs=None, transform=None)
    metadata = "<PAMDataset><SRS>EPSG:4326</SRS><Metadata><MDI key='PLATFORM'>Sentinel-2</MDI></Metadata></PAMDataset>"
    (tmp_path / "scene.tif.aux.xml").write_text(metadata)
    (tmp_path / "scene.tfw").write_text("5\n0\n0\n-5\n100\n200\n")
    before = sorted(tmp_path.iterdir())
    with open_raster(file, SETTINGS) as raster:
        assert raster.crs is None
        assert raster.transform.is_identity
        assert "PLATFORM" not in raster.tags
        assert raster.read([1]).valid.all()
        raster.preview(NIR)
    assert sorted(tmp_path.iterdir()) == before


def test_overviews_beside_a_file_are_not_shown(tmp_path: Path) -> None:
    file = write(tmp_path / "scene.tif", np.full((1, 2048, 2048), 50, np.uint8), tiled=True)
    write(tmp_path / "scene.tif.ovr", np.full((1, 1024, 1024), 200, np.uint8), tiled=True)
    with open_raster(file, SETTINGS) as raster:
        assert raster.preview(NIR).getextrema() == (50, 50)


def test_bands_named_in_tags(tmp_path: Path) -> None:
    names = {"Band_1": "near infrared", "Band_2": "red", "Band_3": "green", "Band_4": "blue"}
    with open_raster(write(tmp_path / "scene.tif", pattern(4).astype(np.float32), tags=names), SETTINGS) as raster:
        assert raster.choose(RGB).numbers == (2, 3, 4)
        assert raster.choose(NIR).numbers == (1,)


def test_several_pictures_in_one_file(tmp_path: Path) -> None:
    file = write(tmp_path / "scene.tif", pattern(3, high=255).astype(np.uint8))
    write(file, pattern(1, 40, 40, high=255).astype(np.uint8), APPEND_SUBDATASET=True)
    with open_raster(file, SETTINGS) as raster:
        assert raster.size == (128, 96)
        assert "holds 2 pictures" in raster.notes[0]


@pytest.mark.parametrize("baseline", [None, "03.01", "05.09"])
def test_sentinel2_scene(tmp_path: Path, baseline: str | None) -> None:
    reflectance = pattern(13, low=0.02, high=0.4)
    offset = 1000 if baseline == "05.09" else 0
    tags = {"PROCESSING_BASELINE": baseline} if baseline else {}
    file = write(tmp_path / "s2.tif", (reflectance * 10_000 + offset).round().astype(np.uint16), tags=tags)
    with open_raster(file, SETTINGS) as raster:
        choice = raster.choose(RGB)
        stretch = raster.stretch(choice)
        assert choice.numbers == (4, 3, 2)
        assert stretch.values(raster.read(choice.numbers).samples) == pytest.approx(reflectance[[3, 2, 1]], abs=1e-4)
        assert 0 < stretch.low < 0.1
        assert 0.3 < stretch.high < 0.4


@pytest.mark.parametrize(("quantity", "decade"), [(Quantity.DB, 0), (Quantity.POWER, 10), (Quantity.AMPLITUDE, 20)])
def test_sar_scene(tmp_path: Path, quantity: Quantity, decade: float) -> None:
    backscatter = pattern(2, low=-20, high=-2)
    samples = 10 ** (backscatter / decade) if decade else backscatter
    file = write(tmp_path / "sar.tif", samples.astype(np.float32), names=("VV", "VH"), tags={"CONTENT": quantity})
    with open_raster(file, SETTINGS) as raster:
        choice = raster.choose(SAR)
        stretch = raster.stretch(choice)
        assert stretch.values(raster.read(choice.numbers).samples) == pytest.approx(backscatter[:1], abs=1e-3)
        assert (stretch.low, stretch.high) == DISPLAY_DB["VV"]
        assert raster.stretch(raster.choose(SAR, [2])).per == "the display range of VH"
    assert "RGB needs red, green and blue" in refusal(file) if decade else "mostly negative" in refusal(file)


def test_signatures() -> None:
    for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"):
        assert is_raster(start + bytes(20))
    for start in (b"", b"II", b"\x89PNG\r\n\x1a\n", b"II+*"):
        assert not is_raster(start)


@needs_real
@pytest.mark.parametrize(
    ("name", "gsd", "bands"),
    [
        ("landsat7_olinda_6band_28m_uint8_utm", 28.5, {RGB: (3, 2, 1), NIR: (4,)}),
        ("naip_chico_4band_0.6m_uint8_utm", 0.6, {RGB: (1, 2, 3), NIR: (4,)}),
        ("naip_northdakota_4band_5m_uint8_utm", 5.0, {RGB: (1, 2, 3), NIR: (4,)}),
        ("sentinel1_rtc_vvvh_10m_float64_utm", 10.0, {SAR: (1,)}),
        ("sentinel2_l2a_12band_10m_int16_utm", 10.0, {RGB: (4, 3, 2), NIR: (8,)}),
        ("spacenet6_sar_quadpol_4.5m_float32_utm_nodata", 4.5, {SAR: (4,)}),
    ],
)
def test_real_rasters(name: str, gsd: float, bands: dict[Modality, tuple[int, ...]]) -> None:
    with open_raster(REAL / f"{name}.tif", SETTINGS) as raster:
        assert raster.gsd == gsd
        for modality in Modality:
            if modality not in bands:
                with pytest.raises(UserError):
                    raster.choose(modality)
                continue
            choice = raster.choose(modality)
            assert choice.numbers == bands[modality]
            tile, valid = raster.tile(choice, raster.stretch(choice))
            grey = np.asarray(tile)[valid]
            assert 40 < grey.mean() < 215
            assert grey.std() > 10
            assert valid.all() == ("nodata" not in name)


@needs_real
def test_real_vegetation_is_brighter_in_near_infrared() -> None:
    """Were red and near infrared mixed up, towns in California would have no trees."""
    with open_raster(REAL / "naip_chico_4band_0.6m_uint8_utm.tif", SETTINGS) as raster:
        means: NDArray[Any] = raster.read([*raster.choose(RGB).numbers, *raster.choose(NIR).numbers]).samples.mean(
            (1, 2)
        )
        assert means[3] > means[:3].max()
