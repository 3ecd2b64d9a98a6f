"""World files: six lines beside a PNG or JPEG that say where on the ground its pixels lie; knows no raster library."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from affine import Affine

from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called, whole

_MAX_BYTES = 4096
_NUMBERS = 6


def suffix_of(picture: Path) -> str:
    """Return what a picture's world file ends with: first and last letter of its own suffix and a w, as in ``.pgw``."""
    kind = picture.suffix.lower().removeprefix(".")
    return f".{kind[0]}{kind[-1]}w" if kind else ".wld"


def find(picture: Path) -> Path | None:
    """Return the world file beside a picture (``.pgw``, ``.pngw`` or ``.wld``, in small or large letters), or None."""
    return next((file for file in _candidates(picture) if file.is_file()), None)


def suffixes(picture: Path) -> tuple[str, ...]:
    """Return all that a picture's world file may end with, in small letters."""
    return suffix_of(picture), f"{picture.suffix.lower()}w", ".wld"


def _candidates(picture: Path) -> Iterator[Path]:
    for suffix in suffixes(picture):
        for spelt in (suffix, suffix.upper()):
            yield picture.with_suffix(spelt)


def read(picture: Path) -> Affine | None:
    """Return the transform from (column, row) to coordinates that a picture's world file says; None without one.

    Raises:
        UserError: There is one that holds no six numbers that place a picture.
    """
    file = find(picture)
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            numbers = [float(word.replace(",", ".")) for word in stream.read(_MAX_BYTES).decode().split()]
    except (OSError, ValueError) as error:
        raise _broken(file) from error
    if len(numbers) != _NUMBERS or not all(map(math.isfinite, numbers)):
        raise _broken(file)
    a, d, b, e, c, f = numbers  # as the file has them: the last two place the centre of the first pixel
    transform = Affine(a, b, c, d, e, f) @ Affine.translation(-0.5, -0.5)
    if transform.is_degenerate:
        raise _broken(file)
    return transform


def write(picture: Path, transform: Affine) -> Path:
    """Write the world file of a picture and return its path.

    Args:
        picture: The picture that it lies beside.
        transform: From (column, row) to coordinates, (0, 0) being the outer corner of the first pixel.

    Raises:
        UserError: It cannot be written there.
    """
    centre = transform @ Affine.translation(0.5, 0.5)
    numbers = (centre.a, centre.d, centre.b, centre.e, centre.c, centre.f)
    file = picture.with_suffix(suffix_of(picture))
    with whole(file) as stream:
        stream.write("".join(f"{number!r}\n" for number in numbers).encode())
    return file


def _broken(file: Path) -> UserError:
    return UserError(f"{called(file)} is no world file, which holds six numbers: correct it, or take it away.")
