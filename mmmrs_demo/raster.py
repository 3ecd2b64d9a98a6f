"""Picture files in: whatever a person chooses becomes a tile of 8-bit RGB or grey; knows no model and no page."""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called, opened
from mmmrs_demo.georaster import is_raster, open_raster
from mmmrs_demo.modality import Modality
from mmmrs_demo.settings import Settings

MIN_SIDE = 32
"""Shortest side of a tile, in pixels: an eighth of the smallest native size, below which only blur could come out."""
MAX_ASPECT = 4
"""Longest side over shortest side: what is longer would be squeezed until the models see no structure across it."""

_START = 1024  # bytes that tell what a file is
_GREY_SPREAD = 8
# Difference between the channels, of 255, that 95 % of a grey picture's pixels stay within. JPEG leaves 1 or 2; the
# greyest of 2,400 real colour tiles has 14.
_CUT = (2, 98)  # percentiles shown as black and white where 16 bits become 8; what GIS viewers use

_READABLE = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"(?s)RIFF.{4}WEBP",
    "BMP": rb"BM",
    "GIF": rb"GIF8[79]a",
}
"""How a file begins, by the name of the one Pillow plugin that then opens it; no other plugin is ever used."""

_AS_PNG = "save the picture as a PNG or JPEG and choose that"


class _Foreign(NamedTuple):
    start: bytes
    name: str
    remedy: str = _AS_PNG


_FOREIGN = (
    _Foreign(rb"(?s).{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", "a HEIC picture"),
    _Foreign(rb"(?s).{4}ftypavi[fs]", "an AVIF picture"),
    _Foreign(rb"(?s).{4}ftyp", "a video", "save one frame as a PNG and choose that"),
    _Foreign(rb"%PDF", "a PDF document", "export the picture in it as a PNG and choose that"),
    _Foreign(rb"(?s).{0,1024}<svg[\s>]", "an SVG drawing, which has no pixels", "export it as a PNG and choose that"),
    _Foreign(rb"(?is)\s*<(?:!doctype )?html", "a web page", "save the picture in it as a PNG or JPEG and choose that"),
    _Foreign(rb"PK\x03\x04|\x1f\x8b", "an archive", "unpack it and choose a PNG or JPEG from it"),
    _Foreign(
        rb"\x89HDF|CDF[\x01\x02]", "a NetCDF or HDF file", "export one picture of it as an 8-bit PNG and choose that"
    ),
    _Foreign(rb"\x93NUMPY", "a NumPy array"),
)
"""What else people choose, and what to do about it; a pattern for how the file begins."""

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_LOW_BYTES_KEPT = {"RGB;16B": ("RGB;16B", "RGB;16L"), "RGBA;16B": ("RGBA;16B", "RGBA;16L"), "LA;16B": ("RGBA",)}
# Pillow keeps only the high byte of 16-bit colour, which would leave a scene of reflectances times 10,000 almost
# black. The raw modes here decode the same file to all of its bytes: high and low ones in turn, or side by
# side as four bands.


def read_tile(
    file: str | Path | bytes,
    modality: Modality,
    settings: Settings,
    name: str | None = None,
    bands: Collection[int] | None = None,
    *,
    slim: bool = False,
) -> Image.Image:
    """Read a picture file as a tile of one modality.

    PNG, JPEG, WebP, BMP and GIF are read, and GeoTIFF and JPEG 2000 of the same sizes through `georaster`, with the
    bands and the display range that it chooses. The size is checked in the header, before anything is decoded. What
    becomes of the rest of a picture file:

    - An animation is refused, for nobody can know which frame was meant.
    - What is transparent becomes black, as pixels outside a scene are; partly transparent pixels are darkened.
    - 16 bits become 8 by a linear stretch from the 2nd to the 98th percentile of the visible pixels that are not 0,
      over all bands together so that colours keep their balance.
    - Palette and CMYK become RGB (without colour management), 1 bit becomes 0 and 255.
    - A picture that says in its EXIF data that it lies on its side is turned upright.
    - A grey picture given as RGB is taken as panchromatic: three equal bands.
    - A colour picture given as SAR or NIR is taken as grey where its bands are equal or nearly so (a grey JPEG), and
      refused otherwise: the brightness of a colour photograph is no backscatter and no infrared, and a composite of
      several polarisations does not say which of them is meant.

    Args:
        file: Path of a file, or its content.
        modality: What the picture shows.
        settings: Limits: `max_bytes`, `max_side` and `max_pixels`.
        name: What to call the file in an error; by default the path's last part, or "the picture".
        bands: Numbers of the bands of a GeoTIFF or JPEG 2000 to read, where a person chose.
        slim: One side may be more than `MAX_ASPECT` times the other, for whoever looks at it in windows.

    Returns:
        The picture in the modality's mode, RGB or L; sides from `MIN_SIDE` to `max_side` pixels, without metadata.

    Raises:
        UserError: One sentence that names the file, what is wrong with it, and what would work.
    """
    who = called(file, name)
    if isinstance(file, bytes):
        data = file
    else:
        with opened(Path(file), who) as stream:
            data = stream.read(settings.max_bytes + 1)
    if not data:
        raise UserError(f"{who} is empty (0 bytes): choose another file, or save it again.")
    if len(data) > settings.max_bytes:
        raise UserError(f"{who} is larger than {settings.max_bytes / 1e6:,.0f} MB: save it smaller, or cut out a tile.")
    if is_raster(data):
        with open_raster(data, settings, name or (None if isinstance(file, bytes) else Path(file).name)) as raster:
            _check_size(raster.size, who, settings, slim=slim)
            choice = raster.choose(modality, bands)
            tile, _ = raster.tile(choice, raster.stretch(choice))
            return tile
    if bands is not None:
        raise UserError(f"{who} is no GeoTIFF or JPEG 2000, whose bands could be chosen: leave the bands out.")
    picture = _decode(data, who, settings, slim=slim)
    return picture.convert("RGB") if modality.mode == "RGB" else _one_band(picture, modality, who)


def read_size(file: Path, settings: Settings) -> tuple[int, int]:
    """Return width and height of a picture or raster, in pixels, from its header.

    Raises:
        UserError: It cannot be read.
    """
    who = called(file)
    with opened(file, who) as stream:
        start = stream.read(_START)
    if is_raster(start):
        with open_raster(file, settings) as raster:
            return raster.size
    try:
        with Image.open(file, formats=[_kind(start, who)]) as picture:
            return picture.size
    except UserError:
        raise
    except Exception as error:  # a broken file can raise anything in a decoder
        raise UserError(f"{who} is damaged or cut short: download or save it again.") from error


def _decode(data: bytes, who: str, settings: Settings, *, slim: bool) -> Image.Image:
    """Return the picture upright in RGB or L, without metadata."""
    kind = _kind(data, who)
    metadata_read = False
    try:
        with Image.open(BytesIO(data), formats=[kind]) as picture:
            metadata_read = True
            _check_size(picture.size, who, settings, slim=slim)
            _check_still(picture, kind, who)
            raw_mode = str(picture.tile[0].args) if kind == "PNG" and picture.tile else ""
            eight_bit = _stretched(data, picture, raw_mode) if "16" in raw_mode else picture
            return _turned(_opaque(eight_bit, who), picture)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{who} is too large: {_limits(settings)}.") from error
    except Exception as error:  # a broken file can raise anything in a decoder
        if isinstance(error, ValueError) and not metadata_read:
            message = f"{who} carries a text or colour profile that is broken or too large: save it without metadata."
        else:
            message = f"{who} is damaged or cut short: download or save it again."
        raise UserError(message) from error


def _kind(data: bytes, who: str) -> str:
    """Return the Pillow name of a readable format."""
    for kind, start in _READABLE.items():
        if re.match(start, data):
            return kind
    for foreign in _FOREIGN:
        if re.match(foreign.start, data):
            raise UserError(f"{who} is {foreign.name}: {foreign.remedy}.")
    raise UserError(f"{who} is not a picture that can be read here: choose a PNG, JPEG, WebP, BMP, GIF or GeoTIFF.")


def _limits(settings: Settings) -> str:
    return (
        f"at most {settings.max_side:,} px a side and {settings.max_pixels / 1e6:,.1f} million pixels are read, "
        "so scale it down or cut out a tile"
    )


def check_smallest(size: tuple[int, int], who: str) -> None:
    """Refuse a size, in pixels, that is too small.

    Raises:
        UserError: A side is shorter than `MIN_SIDE`.
    """
    if min(size) < MIN_SIDE:
        raise UserError(
            f"{who} is only {size[0]:,} by {size[1]:,} px: each side needs at least {MIN_SIDE} px, better 256."
        )


def _check_size(size: tuple[int, int], who: str, settings: Settings, *, slim: bool) -> None:
    """Refuse a size, in pixels, that is too small, too large or too long."""
    check_smallest(size, who)
    short, long = sorted(size)
    shown = f"{size[0]:,} by {size[1]:,} px"
    if long > settings.max_side or short * long > settings.max_pixels:
        raise UserError(f"{who} is {shown}: {_limits(settings)}.")
    if long > MAX_ASPECT * short and not slim:
        raise UserError(f"{who} is {shown}: one side may be at most {MAX_ASPECT} times the other, so cut it in pieces.")


def _check_still(picture: Image.Image, kind: str, who: str) -> None:
    """Refuse an animation; the further pictures in a JPEG are thumbnails and the like."""
    if kind != "JPEG" and getattr(picture, "is_animated", False):
        raise UserError(f"{who} is an animation: save the frame you mean as a PNG and choose that.")


def _stretched(data: bytes, picture: Image.Image, raw_mode: str) -> Image.Image:
    """Return a 16-bit PNG as 8 bits in mode L, LA, RGB or RGBA."""
    samples = _samples(data, picture, raw_mode)
    bands = 1 if samples.shape[2] <= len("LA") else len("RGB")
    colours, alpha = samples[..., :bands], samples[..., bands:]
    if "transparency" in picture.info:  # one value, or one colour, that stands for nodata
        nodata = (colours == np.array(picture.info["transparency"])).all(axis=2, keepdims=True)
        alpha = np.where(nodata, 0, 0xFFFF).astype(np.uint16)
    counted = colours[(alpha > 0).all(axis=2)]
    counted = counted[counted > 0]
    low, high = np.percentile(counted, _CUT) if counted.size else (0, 1)
    shades = np.clip((np.arange(0x10000) - low) / max(high - low, 1) * 255 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(np.concatenate([shades[colours], (alpha >> 8).astype(np.uint8)], axis=2).squeeze())


def _samples(data: bytes, picture: Image.Image, raw_mode: str) -> NDArray[np.uint16]:
    """Return the samples of a 16-bit PNG, in the shape height, width, bands (1 to 4, alpha last)."""
    if raw_mode not in _LOW_BYTES_KEPT:
        return np.asarray(picture)[..., np.newaxis]
    parts = []
    for part in _LOW_BYTES_KEPT[raw_mode]:
        with Image.open(BytesIO(data), formats=["PNG"]) as again:
            again.tile = [tile._replace(args=part) for tile in again.tile]
            parts.append(np.asarray(again))
    pairs = parts[0] if len(parts) == 1 else np.stack(parts, axis=-1).reshape(*parts[0].shape[:2], -1)
    return np.ascontiguousarray(pairs).view(">u2").astype(np.uint16)


def _opaque(picture: Image.Image, who: str) -> Image.Image:
    """Return the picture in mode RGB or L, on black where it is transparent."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getextrema()[-1] == (0, 0):
            raise UserError(f"{who} is transparent all over: save it without transparency.")
        black = Image.new("RGBA", picture.size, "black")
        black.alpha_composite(picture)
        picture = black
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _turned(picture: Image.Image, source: Image.Image) -> Image.Image:
    """Return a copy without metadata, upright by what the metadata of `source` say."""
    turn = None
    with suppress(Exception):  # broken EXIF data say nothing
        turn = _UPRIGHT.get(source.getexif().get(_ORIENTATION, 1))
    picture = picture.copy() if turn is None else picture.transpose(turn)
    picture.info = {}
    return picture


def _one_band(picture: Image.Image, modality: Modality, who: str) -> Image.Image:
    if picture.mode == "RGB" and np.percentile(np.ptp(np.asarray(picture), axis=2), 95) > _GREY_SPREAD:
        raise UserError(
            f"{who} is a colour picture, but {modality.label} has one band: choose a grey {modality.label} tile, "
            "or save the band you mean as a grey PNG."
        )
    return picture.convert("L")
