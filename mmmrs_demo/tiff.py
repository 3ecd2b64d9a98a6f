"""What a TIFF says of itself in words, read from its first directory by hand; decodes no pixels."""

from __future__ import annotations

import html
import re
import struct
from typing import Any, BinaryIO

GDAL_METADATA = 42112
"""The tag in which GDAL keeps the tags of a data set, as XML (GDAL, GTiff driver)."""

SIGNATURE = rb"II[*+]\0|MM\0[*+]"
"""How a TIFF begins: little or big endian, 32-bit or 64-bit (BigTIFF)."""

_ASCII = 2
_MAX_ENTRIES = 4096  # of a directory; GDAL writes about 20


def item(stream: BinaryIO, name: str, limit: int) -> str | None:
    """Return one of the tags that GDAL keeps, by its name; None where there is none.

    Args:
        stream: The file, at its beginning.
        name: Letters, digits and underscores.
        limit: Bytes of all these tags together.

    Raises:
        ValueError: The file is cut short or its directory broken.
        OverflowError: The tags are larger than `limit`.
    """
    xml = text(stream, GDAL_METADATA, limit)
    found = re.search(rf'<Item name="{name}">(.*?)</Item>', xml or "", re.DOTALL)
    return html.unescape(html.unescape(found[1])) if found else None  # GDAL escapes once itself, once as XML


def text(stream: BinaryIO, tag: int, limit: int) -> str | None:
    """Return the text of a tag of the first directory; None where there is none.

    Raises:
        ValueError: As `item`.
        OverflowError: As `item`.
    """
    start = stream.read(4)
    if not re.match(SIGNATURE, start):
        raise ValueError("no TIFF")
    order = "<" if start.startswith(b"II") else ">"
    big = start[2:].strip(b"\0") == b"+"
    if big:
        stream.seek(8)
    pointer, number, entry, inline = ("Q", "Q", "HHQ8s", 8) if big else ("I", "H", "HHI4s", 4)
    (directory,) = _unpacked(stream, order + pointer)
    stream.seek(directory)
    (entries,) = _unpacked(stream, order + number)
    for _ in range(min(entries, _MAX_ENTRIES)):
        found, kind, length, value = _unpacked(stream, order + entry)
        if found == tag and kind == _ASCII:
            if length > limit:
                raise OverflowError
            if length > inline:
                stream.seek(struct.unpack(order + pointer, value)[0])
                value = stream.read(length)
            if len(value) < length:
                raise ValueError("cut short")
            return value[:length].rstrip(b"\0").decode()
    return None


def _unpacked(stream: BinaryIO, form: str) -> tuple[Any, ...]:
    body = stream.read(struct.calcsize(form))
    try:
        return struct.unpack(form, body)
    except struct.error as error:
        raise ValueError("cut short") from error
