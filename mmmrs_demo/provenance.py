"""Request to text inside a PNG or TIFF and back, and the mark "synthetic"; knows no pixels, page or model.

Two forms of text: JSON, which says all and is read by `read` and `find`; and the one that AUTOMATIC1111's web UI began
and many programs know, written by `parameters` and read by `parse_parameters`.
"""

from __future__ import annotations

import json
import os
import re
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
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
from mmmrs_demo.request import (
    FULL_SPEED,
    SCHEDULERS,
    Rendering,
    Request,
    TextRequest,
    TranslationRequest,
    restore_request,
)

KEYWORD = "mmmrs"
"""Name of the text chunk or TIFF tag that holds the JSON form of a `Provenance`; the others are for other programs."""
SOFTWARE = f"MMM-RS Demo {__version__}"

_PARAMETERS = "parameters"
_MAX_BYTES = 2**20  # of a text, packed and unpacked; most have about 1 KiB
_MAX_TAGS = 2**22  # bytes of all tags of a TIFF together
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLERS = SCHEDULERS | {"euler-a": "Euler a"}  # as other programs call them
_NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'([^,:"]++):\s*+("(?:\\.|[^\\"])*+"|[^,]*+)\s*+(?:,|$)')  # of the settings; never looks back
_FIELDS = {
    "Steps": "steps",
    "CFG scale": "guidance",
    "Seed": "seed",
    "Model": "bundle",
    "LoRA scale": "lora_scale",
    "Speed": "speed",
}
_TRANSLATION_FIELDS = {"ControlNet scale": "controlnet_scale", "Samples": "samples"}
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


_kept = ContextVar("kept", default=True)


@contextmanager
def settings_kept(*, kept: bool) -> Iterator[None]:
    """Decide whether files written inside carry their settings; that they are synthetic all of them say.

    It holds for the thread in which it was entered.
    """
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)


def embed(rendering: Rendering) -> dict[str, str]:
    """Return the text chunks of a rendering's PNG by keyword, as far as `settings_kept` lets them be.

    Two renderings of one request differ in the time they were made, and in nothing else.

    Returns:
        `KEYWORD`: the JSON form of `Provenance`, in ASCII so that no program on the way can garble it; ``parameters``:
        `parameters`; ``Software`` and ``Description`` (PNG specification, 11.3.3.2).
    """
    if not _kept.get():
        return {"Description": _description(rendering), "synthetic": "true"}
    return {
        "Software": SOFTWARE,
        "Description": _description(rendering),
        _PARAMETERS: parameters(rendering.request, rendering.image.size),
        KEYWORD: _json(rendering),
    }


def tiff_tags(truth: Rendering | Provenance) -> dict[str, str]:
    """Return the tags of a picture's TIFF by name: `KEYWORD`, as in a PNG, and what other programs look for.

    Without settings, as `settings_kept` may have it, no more than that it is synthetic.
    """
    if not _kept.get():
        return {"TIFFTAG_IMAGEDESCRIPTION": _description(truth), "synthetic": "true"}
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
    with _stream(file, who) as stream:
        text = _text(stream, who, KEYWORD)
    if text is None:
        raise UserError(f"{who} carries no request: it was not made here, or a program on the way removed its text.")
    try:
        return Provenance.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"The request that {who} carries cannot be used: {explain(error)}") from error


@dataclass(frozen=True)
class Found:
    """The settings inside a picture or text, which may come from another program.

    Attributes:
        request: What of them can be used here; None in it stands for what they do not say.
        problems: What cannot, a sentence each.
        details: Those of a `Provenance`; of text none.
    """

    request: TextRequest | TranslationRequest
    problems: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def find(file: str | Path | bytes, name: str | None = None) -> Found:
    """Find the settings in a PNG or TIFF that was made here, or in a PNG that carries them as `parameters` only.

    It looks at as little of the file as `read` does.

    Args:
        file: Path of a file, or its content.
        name: As for `read`.

    Raises:
        UserError: It is neither, or says nothing, or too little of it can be used.
    """
    who = called(file, name)
    with _stream(file, who) as stream:
        own, others = (_text(stream, who, keyword) for keyword in (KEYWORD, _PARAMETERS))
    if own is None and others is None:
        raise UserError(f"{who} carries no settings: choose a picture as it was saved, or paste its text.")
    try:
        if own is None:
            return parse_parameters(others or "")
        facts = json.loads(own)
        request, problem = restore_request(facts["request"])
    except (UserError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f" {error}" if isinstance(error, UserError) else ""
        raise UserError(f"The settings that {who} carries cannot be used.{reason}") from error
    details = facts.get("details")
    return Found(request, (problem,) if problem else (), details if isinstance(details, dict) else {})


def parameters(request: TextRequest | TranslationRequest, size: tuple[int, int] | None = None) -> str:
    """Return a complete request in the form that AUTOMATIC1111's web UI began and many programs read.

    Prompt, negative prompt and settings have a line each; `parse_parameters` reads them again.

    Args:
        request: The request.
        size: Width and height of the picture in pixels; by default those that the request names.
    """
    if size is None and isinstance(request, TextRequest) and request.width and request.height:
        size = request.width, request.height
    settings: dict[str, object] = {
        "Steps": request.steps,
        "Sampler": request.scheduler and _SAMPLERS[request.scheduler],
        "CFG scale": request.guidance,
        "Seed": request.seed,
        "Size": size and f"{size[0]}x{size[1]}",
        "Model": request.bundle,
        "LoRA scale": request.lora_scale,
    }
    if isinstance(request, TranslationRequest):
        settings |= {"Translation": request.translation, "ControlNet scale": request.controlnet_scale}
        settings |= {"Samples": request.samples} if request.samples > 1 else {}
    settings |= {"Speed": request.speed} if request.speed != FULL_SPEED else {}
    settings["Version"] = SOFTWARE
    lines = [
        request.prompt.text,
        f"{_NEGATIVE} {request.negative_prompt}" if request.negative_prompt else "",
        ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items() if value is not None),
    ]
    return "\n".join(line for line in lines if line)


def parse_parameters(text: str) -> Found:
    """Read what `parameters` writes, and what other programs write in that form.

    Settings that have no meaning here are passed over. Without any, all of the text is the prompt. A prompt of which
    nothing comes before the words "Negative prompt:" is taken for a negative one, as all programs do.

    Raises:
        UserError: There is no text, too much of it, or it is of a translation that there is not.
    """
    if len(text) > _MAX_BYTES:
        raise UserError(f"The text has {len(text):,} characters: paste that of one picture.")
    lines = [line.strip() for line in text.strip().split("\n")]
    if not any(lines):
        raise UserError("There is no text: paste what a picture says of its prompt and settings.")
    end = next((index for index in reversed(range(len(lines))) if _settings_line(lines[index])), len(lines))
    said = _pairs(lines[end]) if end < len(lines) else {}
    start = next((index for index in range(end) if lines[index].startswith(_NEGATIVE)), end)
    data: dict[str, Any] = {
        "kind": "translation" if "Translation" in said else "text",
        "prompt": {"caption": " ".join(lines[:start])},
        "negative_prompt": " ".join(lines[start:end]).removeprefix(_NEGATIVE),
    }
    fields = dict(_FIELDS)
    if "Translation" in said:
        data["translation"] = said["Translation"]
        fields |= _TRANSLATION_FIELDS
    elif size := re.fullmatch(r"(\d{1,9})x(\d{1,9})", said.get("Size", "")):
        data |= {"width": size[1], "height": size[2]}
    data |= {name: said[key] for key, name in fields.items() if said.get(key)}
    problems = []
    if sampler := said.get("Sampler"):
        data["scheduler"] = _scheduler(sampler, said.get("Schedule type", ""))
        if data["scheduler"] is None:
            problems.append(f"There is no scheduler {called(sampler, sampler)} here, so the model's own is used.")
    request, problem = restore_request(data)
    return Found(request, tuple(filter(None, (problem, *problems))))


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


def _quoted(value: object) -> str:
    text = str(value)
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        text = short
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:"\n]|^\s|\s$|^$', text) else text


def _settings_line(line: str) -> bool:
    return re.match(r"Steps:\s*\d", line) is not None


def _pairs(line: str) -> dict[str, str]:
    """Return the settings of a line by name; of those that come twice the last."""
    pairs, at = {}, 0
    while at < len(line):
        if pair := _PAIR.match(line, at):
            key, value = pair[1].strip(), pair[2].strip()
            try:
                pairs[key] = str(json.loads(value)) if value.startswith('"') else value
            except ValueError:  # quoted by others in their own way
                pairs[key] = value
            at = pair.end()
        else:
            at = next_one + 1 if (next_one := line.find(",", at)) >= 0 else len(line)
    return pairs


def _scheduler(sampler: str, kind: str) -> str | None:
    """Return the key of a scheduler as another program calls it; None where there is no such here.

    Args:
        sampler: Its name.
        kind: How its noise levels are spaced, which some programs say apart.
    """
    plain = kind.casefold() in ("", "automatic", "normal")
    names = {_bare(name): key for key in SCHEDULERS for name in (key, SCHEDULERS[key], _SAMPLERS[key])}
    return names.get(_bare(sampler if plain else sampler + kind))


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", name.casefold())


def _stream(file: str | Path | bytes, who: str) -> BinaryIO:
    return BytesIO(file) if isinstance(file, bytes) else opened(Path(file), who)


def _text(stream: BinaryIO, who: str, keyword: str) -> str | None:
    """Return the text of a name, wherever in the file it stands; None where there is none."""
    stream.seek(0)
    start = stream.read(len(_SIGNATURE))
    stream.seek(0)
    if re.match(tiff.SIGNATURE, start):
        return _tag(stream, who, keyword)
    if start == _SIGNATURE:
        return _chunk(stream, who, keyword.encode() + b"\0")
    raise UserError(f"{who} is not a PNG or TIFF: only one that was saved here carries its request.")


def _tag(stream: BinaryIO, who: str, keyword: str) -> str | None:
    try:
        text = tiff.item(stream, keyword, _MAX_TAGS)
    except OverflowError as error:
        raise UserError(_too_large(who)) from error
    except ValueError as error:
        raise UserError(f"{who} is damaged or cut short: use the original file.") from error
    if text is not None and len(text) > _MAX_BYTES:
        raise UserError(_too_large(who))
    return text


def _chunk(stream: BinaryIO, who: str, mark: bytes) -> str | None:
    stream.seek(len(_SIGNATURE))
    while len(head := stream.read(8)) == 8:  # four bytes of length, four of type
        length, kind = struct.unpack(">I4s", head)
        start = stream.read(min(length, len(mark)))
        if start == mark and kind in _DECODED:
            if length > _MAX_BYTES:
                raise UserError(_too_large(who))
            try:
                return _DECODED[kind](stream.read(length - len(mark)))
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
