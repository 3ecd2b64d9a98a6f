"""Request to text inside a PNG or TIFF and back, and the mark "synthetic"; knows no pixels, page or model."""

from __future__ import annotations

import json
import os
import re
import struct
import unicodedata
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

from PIL.PngImagePlugin import PngInfo
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mmmrs_demo import __version__, tiff
from mmmrs_demo.errors import UserError, explain
from mmmrs_demo.files import called, opened
from mmmrs_demo.modality import Modality
from mmmrs_demo.request import SCHEDULERS, Rendering, Request, TextRequest, TranslationRequest

KEYWORD = "mmmrs"
"""Name of the text chunk or TIFF tag that holds the JSON form of a `Provenance`; the others are for other programs."""
SOFTWARE = f"MMM-RS Demo {__version__}"

_MAX_BYTES = 2**20  # of that text, packed and unpacked; most have about 1 KiB
_MAX_TAGS = 2**22  # bytes of all tags of a TIFF together
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MARK = KEYWORD.encode() + b"\0"
_SAMPLERS = SCHEDULERS | {"euler-a": "Euler a"}  # as other programs call them
_SLUG = 40  # characters of a caption in a file name: below 255 bytes with the rest, in any script


class Provenance(BaseModel):
    """What a picture says of itself: a `Rendering` without its pixels and without what differs from run to run.

    Attributes:
        request: The complete request: run again, it gives the same pixels.
        modality: What the picture shows.
        model: Bundle key and title; name and hash of each set of weights that was used.
        versions: Version of each library that shapes the pixels.
        created: When it was made.
        details: What else shaped the pixels, where anything did: ``bands`` and ``stretch`` of a raster, the ``windows``
            of a scene; and ``spread`` says that it shows how far samples lie apart.
        synthetic: Always true.
    """

    model_config = ConfigDict(frozen=True)

    request: Request
    modality: Modality
    model: dict[str, Any]
    versions: dict[str, str]
    created: AwareDatetime
    details: dict[str, Any] = {}
    synthetic: Literal[True]


def embed(rendering: Rendering) -> dict[str, str]:
    """Return the text chunks of a rendering's PNG by keyword.

    Two renderings of one request differ in the time they were made, and in nothing else.

    Returns:
        `KEYWORD`: the JSON form of `Provenance`, in ASCII so that no program on the way can garble it; ``parameters``:
        the request in the form that AUTOMATIC1111's web UI began and other programs read; ``Software`` and
        ``Description`` (PNG specification, 11.3.3.2).
    """
    return {
        "Software": SOFTWARE,
        "Description": _description(rendering),
        "parameters": _parameters(rendering),
        KEYWORD: _json(rendering),
    }


def tiff_tags(truth: Rendering | Provenance) -> dict[str, str]:
    """Return the tags of a picture's TIFF by name: `KEYWORD`, as in a PNG, and what other programs look for."""
    made = truth.created if isinstance(truth, Provenance) else datetime.fromisoformat(truth.created)
    return {
        "TIFFTAG_SOFTWARE": SOFTWARE,
        "TIFFTAG_IMAGEDESCRIPTION": _description(truth),
        "TIFFTAG_DATETIME": made.astimezone(UTC).strftime("%Y:%m:%d %H:%M:%S"),
        "synthetic": "true",
        KEYWORD: _json(truth),
    }


def _description(truth: Rendering | Provenance) -> str:
    return f"Synthetic {truth.modality.label} image: made by a model, not observed by a satellite."


def _json(truth: Rendering | Provenance) -> str:
    facts = truth.model_dump(mode="json", include=set(Provenance.model_fields))
    return json.dumps({name: fact for name, fact in facts.items() if name != "details" or fact})


def save_png(rendering: Rendering, file: str | Path | BinaryIO) -> None:
    """Write a rendering as a PNG that carries its request."""
    info = PngInfo()
    for keyword, text in embed(rendering).items():
        info.add_text(keyword, text)
    rendering.image.save(file, "PNG", pnginfo=info)


def read(file: str | Path | bytes, name: str | None = None) -> Provenance:
    """Read what a PNG or TIFF says of itself.

    Nothing but its text is looked at, so the size of the picture does not matter, nor whether it is complete.

    Args:
        file: Path of a file, or its content.
        name: What to call the file in an error; by default the path's last part, or "The picture".

    Raises:
        UserError: It is neither, or says nothing, or what it says cannot be used.
    """
    who = called(file, name)
    with BytesIO(file) if isinstance(file, bytes) else opened(Path(file), who) as stream:
        text = _own_text(stream, who)
    if text is None:
        raise UserError(f"{who} carries no request: it was not made here, or a program on the way removed its text.")
    try:
        return Provenance.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"The request that {who} carries cannot be used: {explain(error)}") from error


def file_name(request: TextRequest | TranslationRequest, suffix: str = ".png") -> str:
    """Return a name for the file of a request: what it shows and its seed, safe on every system and at most 255 bytes.

    The paper's example becomes ``mmmrs_a-park-in-the-city_high_snow_google-earth_seed-7.png``. More than one sample is
    said.
    """
    prompt = request.prompt
    caption = re.sub(r"^a satellite image (?:shows|of) ", "", prompt.caption)
    translation = request.translation if isinstance(request, TranslationRequest) else None
    seed = None if request.seed is None else f"seed {request.seed}"
    samples = f"{request.samples} samples" if request.samples > 1 else None
    parts = ("mmmrs", translation, _slug(caption), prompt.gsd, prompt.weather, prompt.satellite, seed, samples)
    return "_".join(_slug(part) for part in parts if part) + suffix


def _slug(text: str) -> str:
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", text).lower())
    return words.strip("-")[:_SLUG].strip("-")


def _parameters(rendering: Rendering) -> str:
    request = rendering.request
    width, height = rendering.image.size
    settings: dict[str, object] = {
        "Steps": request.steps,
        "Sampler": _SAMPLERS[request.scheduler or next(iter(_SAMPLERS))],
        "CFG scale": request.guidance,
        "Seed": request.seed,
        "Size": f"{width}x{height}",
        "Model": request.bundle,
        "LoRA scale": request.lora_scale,
    }
    if isinstance(request, TranslationRequest):
        settings |= {"Translation": request.translation, "ControlNet scale": request.controlnet_scale}
        settings |= {"Samples": request.samples} if request.samples > 1 else {}
    settings["Version"] = SOFTWARE
    lines = [
        request.prompt.text,
        f"Negative prompt: {request.negative_prompt}" if request.negative_prompt else "",
        ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items()),
    ]
    return "\n".join(line for line in lines if line)


def _quoted(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n]", text) else text


def _own_text(stream: BinaryIO, who: str) -> str | None:
    """Return the text called `KEYWORD`, wherever in the file it stands; None where there is none."""
    start = stream.read(len(_SIGNATURE))
    stream.seek(0)
    if re.match(tiff.SIGNATURE, start):
        return _tag(stream, who)
    if start == _SIGNATURE:
        return _chunk(stream, who)
    raise UserError(f"{who} is not a PNG or TIFF: only one that was saved here carries its request.")


def _tag(stream: BinaryIO, who: str) -> str | None:
    try:
        text = tiff.item(stream, KEYWORD, _MAX_TAGS)
    except OverflowError as error:
        raise UserError(_too_large(who)) from error
    except ValueError as error:
        raise UserError(f"{who} is damaged or cut short: use the original file.") from error
    if text is not None and len(text) > _MAX_BYTES:
        raise UserError(_too_large(who))
    return text


def _chunk(stream: BinaryIO, who: str) -> str | None:
    stream.seek(len(_SIGNATURE))
    while len(head := stream.read(8)) == 8:  # four bytes of length, four of type
        length, kind = struct.unpack(">I4s", head)
        start = stream.read(min(length, len(_MARK)))
        if start == _MARK and kind in _DECODED:
            if length > _MAX_BYTES:
                raise UserError(_too_large(who))
            try:
                return _DECODED[kind](stream.read(length - len(_MARK)))
            except OverflowError as error:
                raise UserError(_too_large(who)) from error
            except (EOFError, IndexError, ValueError, zlib.error) as error:
                raise UserError(f"The request that {who} carries is damaged: use the original file.") from error
        stream.seek(length - len(start) + 4, os.SEEK_CUR)
    return None


def _too_large(who: str) -> str:
    return f"The request that {who} carries is over the limit of {_MAX_BYTES // 1024:,} KiB: use the original file."


def _inflated(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(packed, _MAX_BYTES)
    if unpacking.unconsumed_tail:
        raise OverflowError
    if not unpacking.eof:
        raise EOFError
    return text


def _international(body: bytes) -> str:
    packed = body[0] == 1
    _, _, text = body[2:].split(b"\0", 2)  # language, translated keyword
    return (_inflated(text) if packed else text).decode()


_DECODED: dict[bytes, Callable[[bytes], str]] = {
    b"tEXt": lambda body: body.decode("latin-1"),
    b"zTXt": lambda body: _inflated(body[1:]).decode("latin-1"),
    b"iTXt": _international,
}
"""Text of a chunk by its type, from what follows the keyword (PNG specification, 11.3.3)."""
