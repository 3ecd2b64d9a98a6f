"""The one report of all that is measured: JSON for programs, Markdown for people; knows no figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmmrs_demo import __version__
from mmmrs_demo.catalog import Bundle
from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called, opened, whole

KINDS = {"translation": "Translations", "text": "Text to image", "autoencoder": "Autoencoder"}
"""What can be in a report, by the name of its section, in the order in which it is shown.

The page of a section is what ``markdown(section)`` of the module ``report_KIND`` makes of it.
"""

UNDEFINED = "n/a"

_JSON, _PAGE = "report.json", "report.md"
_GAP = 4  # white pixels between the pictures of a sheet
_LIBRARIES = ("numpy", "pillow", "scipy", "torch")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the sections of the report in a folder by their kind; there are none where there is no report.

    Raises:
        UserError: What lies there under the report's name is no such report.
    """
    file = folder / _JSON
    if not file.exists():
        return {}
    try:
        with opened(file, called(file)) as stream:
            sections = json.load(stream)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        sections = None
    if (
        not isinstance(sections, dict)
        or set(sections) - set(KINDS)
        or not all(isinstance(section, dict) for section in sections.values())
    ):
        raise UserError(f"{file} is no report that can be added to: move it away, or choose another folder with --out.")
    return sections


def about(command: str, bundle: Bundle) -> dict[str, Any]:
    """Return what every section says of its run.

    Args:
        command: Measures the same again.
        bundle: The models that were measured.
    """
    return {
        "command": command,
        "bundle": bundle.key,
        "title": bundle.title,
        "trained_on": bundle.summary,
        "size": bundle.size,
    }


def update(folder: Path, kind: str, about: Mapping[str, Any], section: Mapping[str, Any]) -> None:
    """Put a section into the report of a folder in place of the one of its kind, and write its page anew.

    Args:
        folder: A folder that is there.
        kind: One of `KINDS`.
        about: What the run was: what `about` gives, and whatever else the page should tell.
        section: What was measured; what JSON cannot hold of it becomes None.

    Raises:
        UserError: What lies there under the report's name is no report, or cannot be replaced.
    """
    versions = {"mmmrs-demo": __version__} | {library: version(library) for library in _LIBRARIES}
    made = {"created": datetime.now(UTC).isoformat(timespec="seconds"), "versions": versions}
    sections = read(folder) | {kind: plain({**about, **made, **section})}
    sections = {kind: sections[kind] for kind in KINDS if kind in sections}
    page = _page(sections)
    with whole(folder / _JSON) as file:
        file.write((json.dumps(sections, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    with whole(folder / _PAGE) as file:
        file.write(page.encode())


def write_sheet(file: Path, rows: Sequence[Sequence[np.ndarray]], told: str) -> None:
    """Write a page of pictures as PNG.

    Args:
        file: Where it goes.
        rows: Of pictures of one size, uint8 of shape (side, side) or (side, side, 3).
        told: What is on it.

    Raises:
        UserError: It cannot be written.
    """
    side = rows[0][0].shape[0] + _GAP
    page = Image.new("RGB", (len(rows[0]) * side - _GAP, len(rows) * side - _GAP), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            page.paste(Image.fromarray(np.ascontiguousarray(picture)), (x * side, y * side))
    note = PngInfo()
    note.add_text("Description", told)
    with whole(file) as stream:
        page.save(stream, "PNG", pnginfo=note)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown with its last line ended."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def cell(value: float | None, digits: int = 3) -> str:
    """Return a number as a table shows it, and `UNDEFINED` for None."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def plain(value: Any, digits: int | None = None) -> Any:
    """Return `value` with all numbers in it as JSON can hold them: None for those that are not finite.

    Args:
        value: Numbers, texts and None, in mappings and sequences.
        digits: Round to that many after the point; None keeps all.
    """
    if isinstance(value, Mapping):
        return {key: plain(inner, digits) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner, digits) for inner in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return (number if digits is None else round(number, digits)) if math.isfinite(number) else None
    return value


def _page(sections: Mapping[str, Mapping[str, Any]]) -> str:
    runs = [
        f"""**{KINDS[kind]}**: bundle `{section["bundle"]}` ({section["title"]}) at {section["size"]} px,
{section["created"]}. {section["trained_on"]}

    {section["command"]}
"""
        for kind, section in sections.items()
    ]
    pages = [import_module(f"{__package__}.report_{kind}").markdown(section) for kind, section in sections.items()]
    return "\n".join(["# How near the pictures come to real tiles\n", *runs, *pages])
