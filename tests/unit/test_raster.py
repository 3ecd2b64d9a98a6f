"""Every kind of file that people choose, good and bad, through `read_tile`."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import Modality
from mmmrs_demo.raster import MAX_ASPECT, MIN_SIDE, read_tile
from mmmrs_demo.settings import Settings
from tests.rasters import REAL, needs_real, pattern, write

SETTINGS = Settings(_env_file=None)
RGB, SAR, NIR = Modality.RGB, Modality.SAR, Modality.NIR


def scene(width: int = 64, height: int = 48) -> Image.Image:
    """A smooth colour picture with a bright top left corner, so that turning it shows."""
    y, x = np.mgrid[0:height, 0:width]
    bands = np.stack([40 + 2 * x, 60 + 3 * y, 200 - x - y], axis=-1).clip(0, 255).astype(np.uint8)
    bands[: height // 4, : width // 4] = 255
    return Image.fromarray(bands)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png16(samples: NDArray[np.uint16], *chunks: bytes) -> bytes:
    height, width, bands = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png(width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[bands], rows, *chunks)


def refusal(file: bytes | str | Path, modality: Modality = RGB, name: str | None = "tile.bin") -> str:
    with pytest.raises(UserError) as caught:
        read_tile(file, modality, SETTINGS, name)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {}, 4),
        ("JPEG", {"quality": 95}, 4),
        ("JPEG", {"quality": 95, "progressive": True}, 4),
        ("GIF", {}, 12),
    ],
)
def test_common_formats_keep_their_pixels(kind: str, options: dict[str, Any], tolerance: float) -> None:
    tile = read_tile(encoded(scene(), kind, **options), RGB, SETTINGS)
    assert (tile.mode, tile.size) == ("RGB", (64, 48))
    assert difference(tile, scene()) <= tolerance


def test_a_path_is_read_and_its_name_told(tmp_path: Path) -> None:
    file = tmp_path / "Tübingen 2024.png"
    file.write_bytes(encoded(scene()))
    assert difference(read_tile(file, RGB, SETTINGS), scene()) == 0
    assert difference(read_tile(str(file), RGB, SETTINGS), scene()) == 0
    file.write_bytes(b"")
    assert refusal(file, name=None).startswith("“Tübingen 2024.png” is empty")
    assert "no file “gone.png”" in refusal(tmp_path / "gone.png", name=None)
    assert "is not a file" in refusal(tmp_path, name=None)


def test_names_in_sentences_are_short_and_printable() -> None:
    sentence = refusal(b"", name="a" * 500 + "\n\x1b[31m.png")
    assert len(sentence) < 200
    assert "\x1b" not in sentence
    assert refusal(b"", name=None).startswith("The picture is empty")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"just words", "not a picture"),
        (b"\0" * 4096, "not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<svg width='9'/>", "SVG"),
        (b"\n<!DOCTYPE html><html></html>", "web page"),
        (b"PK\3\4" + bytes(32), "archive"),
        (b"\x89HDF\r\n\x1a\n", "HDF"),
        (b"\x93NUMPY\x01\0", "NumPy"),
    ],
)
def test_other_files_are_called_by_their_name(data: bytes, says: str) -> None:
    sentence = refusal(data)
    assert says in sentence
    assert "“tile.bin”" in sentence
    assert "PNG" in sentence


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg", "quality": 95}])
def test_tiffs_of_eight_bits_keep_their_pixels(options: dict[str, Any]) -> None:
    tile = read_tile(encoded(scene(), "TIFF", **options), RGB, SETTINGS)
    assert (tile.mode, tile.size, tile.info) == ("RGB", (64, 48), {})
    assert difference(tile, scene()) <= (4 if "quality" in options else 0)
    grey = scene().convert("L")
    assert difference(read_tile(encoded(grey, "TIFF"), NIR, SETTINGS), grey) == 0


@pytest.mark.parametrize("start", [b"II*\0", b"MM\0+", b"\0\0\0\x0cjP  \r\n\x87\n"])
def test_broken_rasters_are_called_damaged(start: bytes) -> None:
    assert "“tile.bin” is damaged or cut short" in refusal(start + bytes(64))


def test_rasters_keep_to_the_limits_of_pictures(tmp_path: Path) -> None:
    assert f"at least {MIN_SIDE} px" in refusal(encoded(scene(20, 20), "TIFF"))
    assert "at most 4 times" in refusal(encoded(scene(300, 40), "TIFF"))
    data = encoded(scene(), "TIFF")
    for limits in ({"max_side": 63}, {"max_pixels": 64 * 48 - 1}, {"max_bytes": len(data) - 1}):
        with pytest.raises(UserError):
            read_tile(data, RGB, SETTINGS.model_copy(update=limits))
    file = tmp_path / "town.tif"
    file.write_bytes(b"II*\0" + bytes(64))
    assert refusal(file, name=None).startswith("“town.tif” is damaged")


def test_bands_of_a_raster_can_be_chosen(tmp_path: Path) -> None:
    samples = pattern(5, low=100, high=3000).astype(np.uint16)
    file = write(tmp_path / "scene.tif", samples)
    assert "nothing says which are red" in refusal(file, name=None)
    tile = read_tile(file, RGB, SETTINGS, bands=[5, 3, 1])
    for band, shown in zip((5, 3, 1), tile.split(), strict=True):
        assert np.corrcoef(np.asarray(shown).ravel(), samples[band - 1].ravel())[0, 1] > 0.99
    assert read_tile(file, NIR, SETTINGS, bands=[2]).mode == "L"
    with pytest.raises(UserError, match="has no band 6"):
        read_tile(file, NIR, SETTINGS, bands=[6])
    with pytest.raises(UserError, match="The picture is no GeoTIFF"):
        read_tile(encoded(scene()), RGB, SETTINGS, bands=[1, 2, 3])


@needs_real
def test_real_rasters_become_tiles() -> None:
    for name, modalities in (
        ("naip_chico_4band_0.6m_uint8_utm", (RGB, NIR)),
        ("sentinel2_l2a_12band_10m_int16_utm", (RGB, NIR)),
        ("sentinel1_rtc_vvvh_10m_float64_utm", (SAR,)),
        ("spacenet6_sar_quadpol_4.5m_float32_utm_nodata", (SAR,)),
    ):
        for modality in modalities:
            tile = read_tile(REAL / f"{name}.tif", modality, SETTINGS)
            assert tile.mode == modality.mode
            assert np.asarray(tile).std() > 10


def test_only_the_plugin_that_the_signature_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    real = Image.open

    def spy(*args: Any, **options: Any) -> Any:
        opened.append(options.get("formats"))
        return real(*args, **options)

    monkeypatch.setattr(Image, "open", spy)
    read_tile(encoded(scene(), "JPEG"), RGB, SETTINGS)
    refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert opened == [["JPEG"]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_cut_files_and_flipped_bytes_give_a_sentence_or_a_picture(kind: str) -> None:
    data = encoded(scene(), kind)
    dice = np.random.default_rng(7)
    broken = [data[:length] for length in range(1, len(data), max(1, len(data) // 150))]
    for _ in range(150):
        flipped = bytearray(data)
        for _ in range(dice.integers(1, 7)):
            flipped[dice.integers(len(flipped))] = dice.integers(256)
        broken.append(bytes(flipped))
    for file in broken:
        try:
            tile = read_tile(file, RGB, SETTINGS)
        except UserError as error:
            assert str(error).startswith("The picture")  # noqa: PT017 - either outcome is right
        else:
            assert tile.mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_half_a_file_is_called_damaged(kind: str) -> None:
    data = encoded(scene(), kind)
    assert "damaged or cut short" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize("size", [(1, 1), (MIN_SIDE - 1, 200), (200, MIN_SIDE - 1)])
def test_too_small(size: tuple[int, int]) -> None:
    sentence = refusal(encoded(Image.new("RGB", size)))
    assert f"{size[0]} by {size[1]} px" in sentence
    assert f"at least {MIN_SIDE} px" in sentence


def test_smallest_and_longest_that_are_read() -> None:
    for size in ((MIN_SIDE, MIN_SIDE), (MIN_SIDE * MAX_ASPECT, MIN_SIDE), (MIN_SIDE, MIN_SIDE * MAX_ASPECT)):
        assert read_tile(encoded(Image.new("RGB", size)), RGB, SETTINGS).size == size
    assert f"at most {MAX_ASPECT} times" in refusal(encoded(Image.new("RGB", (MIN_SIDE * MAX_ASPECT + 1, MIN_SIDE))))


@pytest.mark.parametrize("size", [(30_000, 30_000), (9_000, 9_000), (8_192, 8_192), (60_000, 40)])
def test_too_large_is_known_from_the_header(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("decoded"))
    sentence = refusal(png(*size, 8, 2, b""))
    assert "8,192 px a side and 16.8 million pixels" in sentence


def test_limits_come_from_the_settings() -> None:
    data = encoded(scene())
    for limits in ({"max_side": 63}, {"max_pixels": 64 * 48 - 1}, {"max_bytes": len(data) - 1}):
        with pytest.raises(UserError):
            read_tile(data, RGB, SETTINGS.model_copy(update=limits))
    exact = {"max_side": 64, "max_pixels": 64 * 48, "max_bytes": len(data)}
    assert read_tile(data, RGB, SETTINGS.model_copy(update=exact)).size == (64, 48)


def test_a_file_beyond_the_limit_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "endless.png"
    with file.open("wb") as sparse:
        sparse.truncate(10**12)
    assert "larger than 50 MB" in refusal(file, name=None)


def test_metadata_bombs() -> None:
    bomb = zlib.compress(bytes(200_000_000), 9)
    rows = b"".join(b"\0" + bytes(40 * 3) for _ in range(40))
    for name, body in (
        (b"zTXt", b"Comment\0\0" + bomb),
        (b"iTXt", b"Comment\0\1\0\0\0" + bomb),
        (b"iCCP", b"profile\0\0" + bomb),
    ):
        sentence = refusal(png(40, 40, 8, 2, rows, chunk(name, body)))
        assert "save it without metadata" in sentence


def test_metadata_of_a_usual_size_does_no_harm_and_is_dropped() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a park, 公园" * 1000, zip=True)
    for data in (
        encoded(scene(), "PNG", icc_profile=profile, pnginfo=text, dpi=(300, 300)),
        encoded(scene(), "JPEG", icc_profile=profile * 20, quality=95, comment=b"x" * 900),
    ):
        tile = read_tile(data, RGB, SETTINGS)
        assert tile.info == {}
        assert difference(tile, scene()) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_rotation_is_undone(kind: str, orientation: int) -> None:
    lying = {
        1: scene(),
        2: scene().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: scene().transpose(Image.Transpose.ROTATE_180),
        4: scene().transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: scene().transpose(Image.Transpose.TRANSPOSE),
        6: scene().transpose(Image.Transpose.ROTATE_90),
        7: scene().transpose(Image.Transpose.TRANSVERSE),
        8: scene().transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    tile = read_tile(encoded(lying, kind, exif=exif, quality=95), RGB, SETTINGS)
    assert tile.size == (64, 48)
    assert difference(tile, scene()) < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
def test_broken_exif_is_ignored(exif: bytes) -> None:
    tile = read_tile(encoded(scene(), "JPEG", exif=exif, quality=95), RGB, SETTINGS)
    assert difference(tile, scene()) < 4


def test_broken_exif_in_a_text_chunk_is_ignored() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n 8\nno hexadecimal digits")
    assert difference(read_tile(encoded(scene(), "PNG", pnginfo=text), RGB, SETTINGS), scene()) == 0


def test_cmyk_jpeg() -> None:
    tile = read_tile(encoded(scene().convert("CMYK"), "JPEG", quality=95), RGB, SETTINGS)
    assert tile.mode == "RGB"
    assert difference(tile, scene()) < 8


def test_ycck_jpeg() -> None:
    """Adobe's transform 2: luma 55, no chroma, no black, stored as ink; so the picture is 255 - 55 bright."""
    data = encoded(Image.new("CMYK", (64, 48), (200, 127, 127, 0)), "JPEG", quality=95)
    marker = data.index(b"Adobe") + 11
    assert data[marker] == 0
    tile = read_tile(data[:marker] + b"\2" + data[marker + 1 :], RGB, SETTINGS)
    assert difference(tile, Image.new("RGB", (64, 48), (200, 200, 200))) <= 2


def test_palette_with_and_without_transparency() -> None:
    palette = scene().quantize(64)
    assert difference(read_tile(encoded(palette), RGB, SETTINGS), palette.convert("RGB")) == 0
    corner = palette.getpixel((0, 0))
    tile = read_tile(encoded(palette, transparency=corner), RGB, SETTINGS)
    assert tile.getpixel((0, 0)) == (0, 0, 0)
    assert tile.getpixel((63, 47)) == palette.convert("RGB").getpixel((63, 47))


def test_alpha_is_flattened_on_black() -> None:
    alpha = Image.new("L", (64, 48), 255)
    alpha.paste(0, (0, 0, 8, 8))
    alpha.paste(128, (8, 0, 16, 8))
    see_through = scene()
    see_through.putalpha(alpha)
    for kind in ("PNG", "WEBP"):
        tile = read_tile(encoded(see_through, kind, lossless=True), RGB, SETTINGS)
        assert tile.getpixel((0, 0)) == (0, 0, 0)
        assert tile.getpixel((12, 4)) == (128, 128, 128)
        assert tile.getpixel((40, 40)) == scene().getpixel((40, 40))
    grey = read_tile(encoded(see_through.convert("LA")), SAR, SETTINGS)
    assert (grey.mode, grey.getpixel((0, 0))) == ("L", 0)
    see_through.putalpha(0)
    assert "transparent all over" in refusal(encoded(see_through))


def test_one_bit() -> None:
    stripes = Image.fromarray(np.arange(64 * 48).reshape(48, 64) % 2 == 0).convert("1")
    tile = read_tile(encoded(stripes), NIR, SETTINGS)
    assert tile.mode == "L"
    assert set(np.unique(np.asarray(tile))) == {0, 255}


def ramp(bands: int, low: int, high: int) -> NDArray[np.uint16]:
    values = np.linspace(low, high, 64 * 64 * bands).reshape(64, 64, bands)
    return values.astype(np.uint16)


@pytest.mark.parametrize(("low", "high"), [(200, 3_000), (0, 65_535), (64_000, 65_000), (5, 25)])
def test_sixteen_bit_grey_uses_the_whole_range(low: int, high: int) -> None:
    tile = np.asarray(read_tile(png16(ramp(1, low, high)), SAR, SETTINGS))
    assert (tile.min(), tile.max()) == (0, 255)
    assert abs(float(tile.mean()) - 127.5) < 4
    assert (np.diff(tile.ravel().astype(int)) >= 0).all()


@pytest.mark.parametrize("bands", [3, 4])
def test_sixteen_bit_colour_keeps_what_the_low_bytes_say(bands: int) -> None:
    reflectance = (np.asarray(scene(), np.uint16)[..., :3] * 4 + 300).astype(np.uint16)  # all below 1,400 of 65,535
    alpha = np.full((48, 64, 1), 0xFFFF, np.uint16)
    samples = reflectance if bands == 3 else np.concatenate([reflectance, alpha], axis=2)
    tile = np.asarray(read_tile(png16(samples), RGB, SETTINGS))
    wanted = np.asarray(scene(), float)
    low, high = np.percentile(wanted, (2, 98))
    assert np.abs(tile - ((wanted - low) / (high - low) * 255).clip(0, 255)).max() <= 2


def test_sixteen_bit_grey_with_alpha_or_nodata() -> None:
    values = ramp(1, 1_000, 3_000)
    values[:32] = 60_000  # nodata, far brighter than anything seen
    alpha = np.full_like(values, 0xFFFF)
    alpha[:32] = 0
    for data in (
        png16(np.concatenate([values, alpha], axis=2)),
        png16(values, chunk(b"tRNS", struct.pack(">H", 60_000))),
    ):
        tile = np.asarray(read_tile(data, SAR, SETTINGS))
        assert (tile[:32] == 0).all()
        assert tile[33:].min() < 20
        assert tile[33:].max() == 255


def test_sixteen_bit_zeros_are_no_part_of_the_stretch() -> None:
    values = ramp(1, 1_000, 3_000)
    values[:32] = 0
    tile = np.asarray(read_tile(png16(values), SAR, SETTINGS))
    assert (tile[:32] == 0).all()
    assert tile[32:].min() == 0
    assert abs(float(tile[32:].mean()) - 127.5) < 4


def test_sixteen_bit_extremes() -> None:
    nothing = read_tile(png16(np.zeros((40, 40, 1), np.uint16)), SAR, SETTINGS)
    assert nothing.getextrema() == (0, 0)
    even = read_tile(png16(np.full((40, 40, 3), 500, np.uint16)), RGB, SETTINGS)
    assert even.mode == "RGB"
    data = png16(ramp(3, 0, 900))
    assert "damaged" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_are_refused(kind: str) -> None:
    frames = [scene(), scene().transpose(Image.Transpose.ROTATE_180)]
    sentence = refusal(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert "animation" in sentence


def test_extra_pictures_in_a_jpeg_are_ignored() -> None:
    """Cameras and drones keep previews beside the picture (MPO)."""
    data = encoded(scene(), "MPO", save_all=True, append_images=[scene(32, 32)], quality=95)
    assert difference(read_tile(data, RGB, SETTINGS), scene()) < 4


@pytest.mark.parametrize("modality", [SAR, NIR])
def test_one_band_from_grey_pictures_in_colour_modes(modality: Modality) -> None:
    grey = scene().convert("L")
    for data, tolerance in (
        (encoded(grey), 0),
        (encoded(grey.convert("RGB")), 0),
        (encoded(grey.convert("RGB"), "JPEG", quality=95), 3),
        (encoded(grey.convert("RGB"), "WEBP", lossless=True), 0),
        (encoded(grey.convert("CMYK"), "JPEG", quality=95), 3),
    ):
        tile = read_tile(data, modality, SETTINGS)
        assert tile.mode == "L"
        assert difference(tile, grey) <= tolerance


def test_nearly_equal_bands_are_grey() -> None:
    noise = np.random.default_rng(7).integers(-2, 3, (48, 64, 3))
    bands = np.asarray(scene().convert("L"), int)[..., np.newaxis] + noise
    tile = read_tile(encoded(Image.fromarray(bands.clip(0, 255).astype(np.uint8))), NIR, SETTINGS)
    assert tile.mode == "L"
    assert difference(tile, scene().convert("L")) < 2


def test_a_colour_picture_is_no_sar() -> None:
    sentence = refusal(encoded(scene()), SAR)
    assert "colour" in sentence
    assert "SAR" in sentence


def test_a_grey_picture_given_as_rgb_is_panchromatic() -> None:
    grey = scene().convert("L")
    assert difference(read_tile(encoded(grey), RGB, SETTINGS), grey.convert("RGB")) == 0
