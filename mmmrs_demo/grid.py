"""One request over two axes: a labelled grid of pictures, which goes on where it was, and its sheet; knows no page."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel, ConfigDict, ValidationError

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.errors import UserError, heed
from mmmrs_demo.files import called, free_place, whole
from mmmrs_demo.make import generate_file
from mmmrs_demo.maker import Maker
from mmmrs_demo.outputs import PNG
from mmmrs_demo.prompt import GSD_LEVELS, SATELLITES, WEATHERS, Prompt
from mmmrs_demo.provenance import file_name, read, save_png
from mmmrs_demo.request import FULL_SPEED, SCHEDULERS, SPEEDS, Rendering, Step, TextRequest, parse_request
from mmmrs_demo.scene import Progress
from mmmrs_demo.settings import Settings

MAX_CELLS = 64
DESCRIPTION = "grid.json"
"""Name of the file, beside the pictures, that says what grid they are of."""
SHEET = "sheet.png"

_LEFT_OUT = ("none", "clear", "")  # words for a part that is not in the prompt
_SHEET_PIXELS = 2**25  # of all pictures on a sheet together, which are made smaller where they have more
_INK, _PAPER, _EMPTY = "#1e293b", "#ffffff", "#e2e8f0"
_MARGIN, _GAP = 16, 8  # pixels
_NARROWEST = 320  # pixels, so that what is written above a single small picture can be read


@dataclass(frozen=True)
class Axis:
    """What may differ between the pictures of a grid.

    Attributes:
        key: Field of a prompt or of a request.
        label: Name for people.
        choices: Label of each value, by the word for it; of numbers, some to begin with.
        numbers: Any number will do that a request takes.
    """

    key: str
    label: str
    choices: Mapping[str, str]
    numbers: bool = False

    @property
    def usual(self) -> tuple[str, ...]:
        """The words of the values where a person chose none."""
        return tuple(word for word in self.choices if word != _LEFT_OUT[0])

    def word(self, said: object) -> str:
        """Return the word for a value that may be said otherwise: as a number, or as None for what is left out."""
        word = "" if said is None else str(said).strip()
        left_out = next((choice for choice in self.choices if choice in _LEFT_OUT), word)
        return left_out if word in _LEFT_OUT else word

    def name(self, word: str) -> str:
        """Return the label of a value."""
        return f"{self.label} {word}" if self.numbers else self.choices.get(word, word)

    def set(self, request: TextRequest, word: str) -> TextRequest:
        """Return `request` with a value of this axis; raises UserError where there is no such value."""
        data = request.model_dump()
        part = data["prompt"] if self.key in Prompt.model_fields else data
        part[self.key] = None if word in self.choices and word in _LEFT_OUT else word
        return cast("TextRequest", parse_request(data))


def _numbers(*words: str) -> dict[str, str]:
    return dict(zip(words, words, strict=True))


_AXES = (
    Axis(
        "gsd",
        "Ground sample distance",
        {"none": "GSD not said"} | {level.key: level.words.removesuffix(" resolution") for level in GSD_LEVELS},
    ),
    Axis("weather", "Weather", {"clear": "Clear"} | {weather: weather.capitalize() for weather in WEATHERS}),
    Axis("satellite", "Satellite", {"none": "Satellite not said"} | {name: name for name in SATELLITES}),
    Axis("lora_scale", "LoRA scale", _numbers("0", "0.5", "1", "1.5"), numbers=True),
    Axis("guidance", "Guidance", _numbers("1", "2", "4", "7.5"), numbers=True),
    Axis("steps", "Steps", _numbers("5", "10", "20", "40"), numbers=True),
    Axis("seed", "Seed", _numbers("1", "2", "3", "4"), numbers=True),
    Axis("scheduler", "Scheduler", SCHEDULERS),
    Axis("speed", "Speed", {key: speed.label for key, speed in SPEEDS.items()}),
)

_FACTS: dict[str, Callable[[Any], str]] = {
    "seed": "seed {}".format,
    "steps": "{} steps".format,
    "guidance": "guidance {:g}".format,
    "scheduler": SCHEDULERS.__getitem__,
    "lora_scale": "LoRA scale {:g}".format,
    "speed": lambda key: "" if key == FULL_SPEED else SPEEDS[key].label.lower(),
}
"""What is said of the settings that all pictures of a grid share, by field of a request."""


def axes(catalog: Catalog) -> dict[str, Axis]:
    """Return all axes by key; the models are one where there are several."""
    titles = {bundle.key: bundle.title for bundle in catalog.bundles.values()}
    models = (Axis("bundle", "Model", titles),) if len(titles) > 1 else ()
    return {axis.key: axis for axis in (*_AXES, *models)}


def check_count(count: int) -> None:
    """Raise UserError where a grid would have too many pictures, or none."""
    if not count:
        raise UserError("An axis has no values: choose at least one, or leave the axis out.")
    if count > MAX_CELLS:
        raise UserError(f"These are {count:,} pictures, and a grid has at most {MAX_CELLS}: choose fewer values.")


@dataclass(frozen=True)
class Cell:
    """One picture of a grid.

    Attributes:
        request: What to make; of it, the seed and the bundle are said.
        label: What tells it from the others, such as ``Fog, High precision``.
        name: Of its file.
    """

    request: TextRequest
    label: str
    name: str


@dataclass(frozen=True)
class Finished:
    """A cell whose file is there.

    Attributes:
        cell: The cell.
        path: Its file.
        seconds: Time that it took; None for one that was there already.
    """

    cell: Cell
    path: Path
    seconds: float | None


class Line(BaseModel):
    """An axis and its values.

    Attributes:
        axis: Key of an `Axis`.
        values: Words for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    axis: str
    values: tuple[str, ...]

    @classmethod
    def of(cls, key: str | None, values: Sequence[object] | None, catalog: Catalog) -> Line | None:
        """Return a line, or None for no axis; see `Grid.of`."""
        if key in (None, *_LEFT_OUT):
            return None
        known = axes(catalog)
        axis = known.get(key)
        if axis is None:
            raise UserError(f"There is no axis “{key}”; choose one of {', '.join(known)}, or none.")
        said = axis.usual if values is None else [axis.word(value) for value in values]
        return cls(axis=axis.key, values=tuple(dict.fromkeys(said)))


class Grid(BaseModel):
    """A request whose pictures differ from row to row, and from column to column.

    Attributes:
        request: What they have in common; of it, the bundle is said.
        rows: What differs between the rows; None for a single one.
        columns: What differs between the columns; None for a single one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: TextRequest
    rows: Line | None
    columns: Line | None

    @classmethod
    def of(
        cls,
        request: TextRequest,
        rows: str | None,
        row_values: Sequence[object] | None,
        columns: str | None,
        column_values: Sequence[object] | None,
        catalog: Catalog,
        settings: Settings,
    ) -> Grid:
        """Return the grid that a person asks for.

        Args:
            request: What all pictures have in common; what it says of the axes does not count.
            rows: Key of an axis; None, "" or "none" for a single row.
            row_values: Words or numbers; None for the usual ones.
            columns: As `rows`.
            column_values: As `row_values`.
            catalog: The bundles.
            settings: The bundle where the request names none.

        Raises:
            UserError: There is no such axis or value, both axes are the same, or there are too many pictures.
        """
        request = request.model_copy(update={"bundle": request.bundle or settings.bundle})
        lines = [Line.of(rows, row_values, catalog), Line.of(columns, column_values, catalog)]
        if lines[0] and lines[1] and lines[0].axis == lines[1].axis:
            raise UserError(f"Rows and columns are both “{lines[0].axis}”: choose another axis for one of them.")
        check_count(math.prod(len(line.values) for line in lines if line))
        grid = cls(request=request, rows=lines[0], columns=lines[1])
        for cell in chain(*grid.cells(catalog)):
            catalog.bundle(cell.request.bundle or "")
        return grid

    @property
    def differs(self) -> set[str]:
        """Keys of the axes."""
        return {line.axis for line in (self.rows, self.columns) if line}

    def heads(self, catalog: Catalog) -> tuple[list[str], list[str]]:
        """Return the labels of the rows and of the columns; "" for one that has no axis."""
        known = axes(catalog)
        rows, columns = (
            [known[line.axis].name(word) for word in line.values] if line else [""]
            for line in (self.rows, self.columns)
        )
        return rows, columns

    def cells(self, catalog: Catalog) -> list[list[Cell]]:
        """Return the pictures, row by row."""
        rows, columns = self.heads(catalog)
        return [
            [
                Cell(
                    request,
                    ", ".join(filter(None, (rows[row], columns[column]))) or request.prompt.text,
                    f"{row + 1:02}-{column + 1:02}_{file_name(request, PNG)}",
                )
                for column, request in enumerate(_varied(across, self.columns, catalog))
            ]
            for row, across in enumerate(_varied(self.request, self.rows, catalog))
        ]

    def title(self, catalog: Catalog) -> str:
        """Return what all pictures have in common, such as ``a pond, GF2 · seed 7 · 20 steps · … · synthetic``."""
        differs = self.differs
        bundle = catalog.bundle(self.request.bundle or "")
        shared = self.request if "bundle" in differs else bundle.complete(self.request)
        prompt = Prompt(**{part: word for part, word in shared.prompt.model_dump().items() if part not in differs})
        facts = [
            say(value)
            for field, say in _FACTS.items()
            if field not in differs and (value := getattr(shared, field)) is not None
        ]
        models = [] if "bundle" in differs else [bundle.title]
        return " · ".join([*filter(None, [prompt.text, *facts]), *models, "synthetic"])

    def begun(self, folder: Path, catalog: Catalog, *, overwrite: bool = False) -> Grid:
        """Return this grid with its seed, after making sure that it can be made in a folder, which is made too.

        Where the same grid was begun there, the seed is the one that was drawn then.

        Args:
            folder: Where the pictures go.
            catalog: The bundles.
            overwrite: Another grid that is there may be replaced.

        Raises:
            UserError: One sentence that says why it cannot go there.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder {called(folder)} cannot be made ({error.strerror}): choose another."
            ) from error
        known = None if overwrite else described(folder)
        free_place(folder / SHEET, "", (PNG,), overwrite=overwrite or known is not None)
        if known:
            if known not in (self, self._seeded(known.request.seed)):
                raise UserError(
                    f"The folder {called(folder)} holds another grid: choose another with --out, or add --overwrite."
                )
            return known
        bundle = catalog.bundle(self.request.bundle or "")
        grid = self._seeded(bundle.complete(self.request).seed)
        with whole(folder / DESCRIPTION) as file:
            file.write(grid.model_dump_json(indent=1).encode())
        return grid

    def _seeded(self, seed: int | None) -> Grid:
        """Return this grid with a seed where it has none."""
        if self.request.seed is not None:
            return self
        return self.model_copy(update={"request": self.request.model_copy(update={"seed": seed})})


def described(folder: Path) -> Grid | None:
    """Return the grid that was begun in a folder; None where there is none.

    Raises:
        UserError: What says so is damaged.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        return None
    try:
        return Grid.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{called(file)} in the folder {called(folder)} is none of ours: move it away.") from error


def make(  # noqa: PLR0913 - as `generate_file`
    grid: Grid,
    engine: Maker,
    folder: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    on_cell: Callable[[int, Cell], None] = lambda *_: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_step: Callable[[Step], None] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Finished]:
    """Make the pictures of a grid row by row, and yield each once its file is there.

    One that is there already, with the request that it would have now, is not made again.

    Args:
        grid: The grid, as `Grid.begun` gave it for this folder.
        engine: Makes each picture.
        folder: Where they go.
        settings: Limits.
        overwrite: Make all of them again.
        on_cell: Told the number of a cell, from 1, and the cell, before it is made.
        on_progress: Told how far a large picture is.
        on_step: Told how far any other is.
        stop: Once set, ends the run within a step or a batch of windows.

    Raises:
        Stopped: `stop` was set.
        UserError: One sentence on what cannot be made or written.
    """
    for number, cell in enumerate(chain(*grid.cells(engine.catalog)), 1):
        heed(stop)
        path = folder / cell.name
        if not overwrite and _is_made(cell, path, engine.catalog):
            yield Finished(cell, path, None)
            continue
        on_cell(number, cell)
        done = generate_file(
            engine, cell.request, path, settings, overwrite=True, on_progress=on_progress, on_step=on_step, stop=stop
        )
        yield Finished(cell, path, done.seconds)


def write_sheet(grid: Grid, catalog: Catalog, folder: Path) -> Path:
    """Draw all pictures of a grid that are there beneath and beside their labels, and return the path of the PNG.

    It says of itself what the pictures have in common and, in its details, how they differ.

    Args:
        grid: The grid.
        catalog: The bundles.
        folder: Where its pictures are, at least one.

    Raises:
        UserError: There is no picture, or the sheet cannot be written.
    """
    files = [[folder / cell.name for cell in row] for row in grid.cells(catalog)]
    first = next((file for file in chain(*files) if file.is_file()), None)
    if first is None:
        raise UserError(f"There is no picture of the grid in the folder {called(folder)} yet: make one first.")
    truth = read(first)
    rendering = Rendering(
        image=_drawn(files, *grid.heads(catalog), grid.title(catalog)),
        request=catalog.bundle(grid.request.bundle or "").complete(grid.request),
        modality=truth.modality,
        seconds=0,
        model={} if "bundle" in grid.differs else truth.model,
        versions=truth.versions,
        created=truth.created.isoformat(),
        details={"grid": grid.model_dump(mode="json", include={"rows", "columns"})},
    )
    with whole(folder / SHEET) as file:
        save_png(rendering, file)
    return folder / SHEET


def _varied(request: TextRequest, line: Line | None, catalog: Catalog) -> list[TextRequest]:
    """Return `request` with each value of a line."""
    return [axes(catalog)[line.axis].set(request, word) for word in line.values] if line else [request]


def _is_made(cell: Cell, path: Path, catalog: Catalog) -> bool:
    """Whether the file of a cell is there and carries the request that it would have now."""
    if not path.is_file():
        return False
    try:
        found = read(path).request
    except UserError:
        return False
    bundle = catalog.bundle(cell.request.bundle or "")
    wanted = bundle.complete(cell.request)
    if max(wanted.width or 0, wanted.height or 0) > bundle.piece:
        wanted = wanted.model_copy(update={"speed": FULL_SPEED})
    if cell.request.scheduler is None:  # a large picture has another than the bundle's own
        found = found.model_copy(update={"scheduler": wanted.scheduler})
    return found == wanted


def _drawn(files: list[list[Path]], rows: list[str], columns: list[str], title: str) -> Image.Image:
    """Return the sheet of the pictures that are there, with the labels of rows and columns; "" for none."""
    count = len(rows) * len(columns)
    width, height = _largest([file for file in chain(*files) if file.is_file()])
    scale = min(1.0, math.sqrt(_SHEET_PIXELS / (width * height * count)))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    font = ImageFont.load_default(min(max(width // 16, 12), 32))
    line = round(font.size * 1.5) if isinstance(font, ImageFont.FreeTypeFont) else 18
    cell = math.ceil(max(width, *(font.getlength(label) for label in columns)))
    left = _MARGIN + (math.ceil(max(map(font.getlength, rows))) + _GAP if any(rows) else 0)
    across = max(left + len(columns) * (cell + _GAP) - _GAP + _MARGIN, _NARROWEST)
    said = _wrapped(title, font, across - 2 * _MARGIN)
    head = _MARGIN + len(said) * line
    top = head + (line if any(columns) else 0) + _GAP
    sheet = Image.new("RGB", (across, top + len(rows) * (height + _GAP) - _GAP + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, words in enumerate(said):
        draw.text((_MARGIN, _MARGIN + number * line), words, _INK, font)
    for column, label in enumerate(columns):
        draw.text((left + column * (cell + _GAP), head + _GAP // 2), label, _INK, font)
    for row, label in enumerate(rows):
        y = top + row * (height + _GAP)
        draw.text((_MARGIN, y + height / 2), label, _INK, font, anchor="lm")
        for column, file in enumerate(files[row]):
            x = left + column * (cell + _GAP)
            if file.is_file():
                with Image.open(file, formats=["PNG"]) as picture:
                    picture.thumbnail((width, height), Image.Resampling.LANCZOS)
                    sheet.paste(picture, (x, y))
            else:
                draw.rectangle((x, y, x + width - 1, y + height - 1), _EMPTY)
    return sheet


def _largest(files: Sequence[Path]) -> tuple[int, int]:
    """Return the largest width and the largest height of pictures; only their beginnings are read."""
    sizes = []
    for file in files:
        with Image.open(file, formats=["PNG"]) as picture:
            sizes.append(picture.size)
    widths, heights = zip(*sizes, strict=True)
    return max(widths), max(heights)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Return a text in lines that are no wider than so many pixels, but for a single word that is."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
