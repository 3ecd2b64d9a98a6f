"""The tab that makes one request over two axes, and shows the pictures in a table that fills in."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gradio as gr
from gradio.route_utils import API_PREFIX
from PIL import Image

from mmmrs_demo import grid
from mmmrs_demo.archive import pack
from mmmrs_demo.catalog import BASE, LORA
from mmmrs_demo.errors import UserError, heed
from mmmrs_demo.grid import Grid
from mmmrs_demo.outputs import PNG
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt
from mmmrs_demo.ui import controls
from mmmrs_demo.ui.cache import discard, fresh_folder, kept, thumbnail
from mmmrs_demo.ui.job import without_choice
from mmmrs_demo.ui.language import both, marked
from mmmrs_demo.ui.page import QUIET
from mmmrs_demo.ui.progress import counted, duration
from mmmrs_demo.ui.run import PICTURE, OfSeveral, Several, running
from mmmrs_demo.ui.stage import Actions
from mmmrs_demo.ui.visits import Kept, Place, Visits, keep, tab_here

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncGenerator, Callable

    from gradio.components import Component

    from mmmrs_demo.catalog import Catalog
    from mmmrs_demo.grid import Axis, Cell
    from mmmrs_demo.settings import Settings
    from mmmrs_demo.ui.page import Page
    from mmmrs_demo.ui.run import EngineLike, News
    from mmmrs_demo.ui.visits import Updates

_USUAL = {"rows": "weather", "columns": "gsd"}
_LONGEST = "Longest prompt that the model reads"
_NONE = ""  # Gradio keeps None for itself
_ZIP = "mmmrs_grid.zip"
_RAW: dict[str, Any] = QUIET | {"preprocess": False}  # numbers may be typed that are none of the choices
_STYLE = """
figure { margin: 0; }
figcaption { padding: var(--spacing-md); font-size: var(--text-sm); color: var(--body-text-color-subdued); }
div { overflow-x: auto; }
table { width: 100%; margin: 0; border: 0; border-collapse: separate; border-spacing: var(--spacing-md); }
tr, th, td { border: 0; padding: 0; }
th { font-size: var(--text-sm); font-weight: 600; text-align: left; vertical-align: bottom; }
th[scope="row"] { width: 1%; padding-right: var(--spacing-md); vertical-align: middle; }
td img { display: block; width: 100%; min-width: 6rem; height: auto; border-radius: var(--radius-sm); }
td a { display: block; padding: 0; }
td.missing { min-width: 6rem; background: var(--background-fill-secondary); border-radius: var(--radius-sm); }
a:focus-visible img { outline: 2px solid var(--color-accent); }
"""


def compare_tab(page: Page) -> None:
    """Lay out the tab inside the current context and make it work."""
    axes = grid.axes(page.catalog)
    with gr.Row():
        with gr.Column(min_width=340):
            parts = controls.prompt_parts(PAPER_PROMPTS[0])
        with gr.Column(min_width=340):
            sides = [_Side.lay_out(name, axes) for name in _USUAL]
            planned = gr.Markdown(elem_classes="about")
    said = {name: field for side in sides for name, field in side.fields.items()}
    controls.composed_prompt(
        page, parts | said, PAPER_PROMPTS[0], partial(_longest, page.catalog, page.settings), _LONGEST, "multiple"
    )
    page.absences(BASE, LORA)
    actions = Actions.lay_out("Compare")
    settings = controls.advanced_settings(page)
    settings["metadata"].visible = False  # a grid is gone on with by what its pictures say of themselves
    table = gr.HTML(visible=False, elem_classes="grid", css_template=_STYLE)
    with gr.Row():
        sheet = gr.DownloadButton("Download sheet", visible=False, size="md")
        archive = gr.DownloadButton("Download zip", visible=False, size="md")
    last, pace = gr.State(None), gr.State(None)

    def prepare(**form: Any) -> GridJob:
        lines = {name: form.pop(name) for name in said}
        return grid_job(form, lines, page.catalog, page.settings)

    async def work(room: Path, **values: Any) -> AsyncGenerator[Updates]:
        job = await asyncio.to_thread(prepare, **values)
        folder, begun = await asyncio.to_thread(job.begin, room)
        show = partial(_table, begun, page.catalog, folder)
        yield {table: show(), sheet: gr.update(visible=False), archive: gr.update(visible=False)}
        async with running(partial(job.make, page.engine, room)) as run:
            number = 1
            async for news in run.news():
                updates: Updates = {actions.progress: counted(news)}
                if isinstance(news, OfSeveral) and news.number != number:
                    number = news.number
                    updates[table] = show()
                yield updates
            made = await run.result()
        small = await asyncio.to_thread(_small, made.sheet)
        keep(Kept(actions.place, made, (made.sheet, made.archive), small, made.grid.request))
        yield {**again(made), pace: made.seconds}

    def again(made: Compared) -> Updates:
        return {**shown(made), last: made}

    def shown(made: Compared) -> Updates:
        return {
            table: _table(made.grid, page.catalog, made.folder),
            sheet: gr.update(value=str(made.sheet), visible=True),
            archive: gr.update(value=str(made.archive), visible=True),
        }

    def put_back(room: Path, last: Compared | None) -> Updates:
        if left := _left(room, page.catalog):
            return {actions.progress: actions.goes_on(), **shown(left)}
        return shown(last) if last and last.sheet.is_file() else {table: gr.update(visible=False)}

    page.forms[tab_here().id] = {**parts, **settings, **said}
    page.restores |= {side.values: partial(side.restored, axes) for side in sides}
    form = {"bundle": page.bundle, **page.forms[tab_here().id]}
    outputs = [table, sheet, archive, last, pace]
    Visits.here().places[actions.place] = Place(tab_here(), str(tab_here().label), outputs, again)
    actions.connect(work, form, outputs, put_back, [last])
    for side in sides:
        side.axis.input(partial(_values, axes), side.axis, side.values, **_RAW)
    gr.on(None, _planned, [*said.values(), pace], planned, **_RAW)  # on load, and when any of them changes
    gr.on(None, partial(_asked, list(parts)), [side.axis for side in sides], list(parts.values()), **_RAW)


@dataclass(frozen=True)
class _Side:
    """What differs between the rows, or the columns.

    Attributes:
        name: "rows" or "columns".
        axis: Key of an axis; `_NONE` for none.
        values: Words for its values.
    """

    name: str
    axis: gr.Dropdown
    values: gr.Dropdown

    @property
    def fields(self) -> dict[str, Component]:
        """What a person can say, by parameter of `Grid.of`."""
        return {self.name: self.axis, self.values_name: self.values}

    @property
    def values_name(self) -> str:
        """What the values are called."""
        return f"{self.name.removesuffix('s')}_values"

    def restored(self, axes: dict[str, Axis], said: dict[str, Any]) -> dict[str, Any]:
        """Return the update of the values for what a form said, with the choices of their axis."""
        key, values = said.get(self.name), said.get(self.values_name)
        axis = axes.get(str(key))
        if axis is None:
            return _values(axes, _NONE) if key == _NONE else gr.skip()
        fit = isinstance(values, list) and all(axis.numbers or value in axis.choices for value in values)
        return _values(axes, axis.key) | ({"value": values} if fit else {})

    @classmethod
    def lay_out(cls, name: str, axes: dict[str, Axis]) -> _Side:
        """Lay out both fields, filled in."""
        axis = axes[_USUAL[name]]
        return cls(
            name,
            gr.Dropdown(
                [("One for all", _NONE), *((other.label, other.key) for other in axes.values())],
                value=axis.key,
                label=name.capitalize(),
                filterable=False,
            ),
            gr.Dropdown(
                _choices(axis),
                value=list(axis.usual),
                multiselect=True,
                label=f"{name.removesuffix('s')} values".capitalize(),
            ),
        )


@dataclass(frozen=True)
class Compared:
    """What there is of a grid.

    Attributes:
        grid: The grid, with its seed.
        folder: Where its pictures are.
        sheet: All of them on one PNG.
        archive: A zip of the folder.
        seconds: How long the last picture took; None where that is unknown.
    """

    grid: Grid
    folder: Path
    sheet: Path
    archive: Path
    seconds: float | None = None

    @classmethod
    def of(cls, begun: Grid, catalog: Catalog, folder: Path, seconds: float | None = None) -> Compared:
        """Draw the sheet of what is there, and pack it with the pictures."""
        sheet = grid.write_sheet(begun, catalog, folder)
        archive = fresh_folder() / _ZIP
        pack(folder, archive)
        return cls(begun, folder, sheet, archive, seconds)


@dataclass(frozen=True)
class GridJob:
    """A grid to be made.

    Attributes:
        grid: The grid as it was asked for.
        catalog: The bundles.
        settings: Limits.
    """

    grid: Grid
    catalog: Catalog
    settings: Settings

    def effort(self, _: Catalog) -> None:
        """Return nothing: its runs are of many kinds."""

    def begin(self, room: Path) -> tuple[Path, Grid]:
        """Return the folder of the pictures, which is there still when the same is asked again, and the grid."""
        folder = kept(room, self.grid.model_dump(mode="json"))
        if grid.described(folder) is None:
            discard(folder)  # what is left in it has been handed out
        return folder, self.grid.begun(folder, self.catalog)

    def make(self, engine: EngineLike, room: Path, tell: Callable[[News], None], stop: threading.Event) -> Compared:
        """Make it, or go on with it; raises UserError and, soon after `stop` is set, Stopped."""
        folder, begun = self.begin(room)
        total = sum(map(len, begun.cells(self.catalog)))
        several, seconds = Several(total, tell, PICTURE), None
        made = grid.make(
            begun,
            engine,
            folder,
            self.settings,
            on_cell=lambda number, cell: several.next_is(number, cell.label),
            on_progress=several.told,
            on_step=several.told,
            stop=stop,
        )
        for finished in made:
            if finished.seconds is not None:
                seconds = finished.seconds
                several.made += 1
        heed(stop)  # for who stops it now gets what is there
        # The page may be loading the pictures from where they are, so they get a second name.
        place = Path(shutil.copytree(folder, fresh_folder(), copy_function=os.link, dirs_exist_ok=True))
        compared = Compared.of(begun, self.catalog, place, seconds)
        (folder / grid.DESCRIPTION).unlink()
        return compared


def grid_job(form: dict[str, Any], lines: dict[str, Any], catalog: Catalog, settings: Settings) -> GridJob:
    """Return the job that makes a grid.

    Args:
        form: Values by field of a request or a prompt.
        lines: Both axes and their values, by parameter of `Grid.of`.
        catalog: The bundles.
        settings: Limits.

    Raises:
        UserError: One sentence that names what is wrong.
    """
    request = controls.to_text(form)
    request = without_choice(request, catalog.bundle(request.bundle or settings.bundle))
    return GridJob(Grid.of(request, **lines, catalog=catalog, settings=settings), catalog, settings)


def _small(sheet: Path) -> Path:
    with Image.open(sheet, formats=["PNG"]) as picture:
        return thumbnail(picture, sheet)


def _left(room: Path, catalog: Catalog) -> Compared | None:
    """Return what is there of the grid that was stopped; None where that is nothing."""
    for folder in room.iterdir():
        begun = grid.described(folder)
        if begun and any(folder.glob(f"*{PNG}")):
            return Compared.of(begun, catalog, folder)
    return None


def _choices(axis: Axis) -> list[tuple[str, str]]:
    return [(marked(label), word) for word, label in axis.choices.items()]


def _values(axes: dict[str, Axis], key: str) -> dict[str, Any]:
    """Return the update of the field for values, when another axis is chosen."""
    if key == _NONE:
        return gr.update(visible=False, value=[])
    axis = axes[key]
    return gr.update(
        choices=_choices(axis),
        value=list(axis.usual),
        allow_custom_value=axis.numbers,
        info=marked("or type others") if axis.numbers else None,
        visible=True,
    )


def _longest(catalog: Catalog, settings: Settings, **form: Any) -> str:
    """Return the longest prompt of a grid, or what is wrong with it."""
    parts = {part: form.pop(part) for part in Prompt.model_fields}
    try:
        asked = Grid.of(controls.to_text(parts), **form, catalog=catalog, settings=settings)
    except UserError as error:
        return str(error)
    return max((cell.request.prompt.text for row in asked.cells(catalog) for cell in row), key=len)


def _asked(parts: list[str], *differing: str) -> list[dict[str, Any]]:
    """Return the updates that hide those parts of the prompt that differ anyway."""
    return [gr.update(visible=part not in differing) for part in parts]


def _planned(rows: str, row_values: list[str], columns: str, column_values: list[str], pace: float | None) -> str:
    """Return how many pictures there will be, and how long they will take where that is known."""
    lines = ((rows, row_values), (columns, column_values))
    count = math.prod(len(values) for axis, values in lines if axis != _NONE)
    try:
        grid.check_count(count)
    except UserError as error:
        return str(error)
    pictures = both("1 picture") if count == 1 else both("{} pictures", count)
    if pace is None:
        return both("{}.", pictures).html
    return both("{}, about {}.", pictures, duration(pace * count)).html


def _table(begun: Grid, catalog: Catalog, folder: Path) -> dict[str, Any]:
    """Return the update of the table: pictures that are there, and places for those that are not."""
    rows, columns = begun.heads(catalog)
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in columns)
    corner = "<td></td>" if any(rows) else ""
    lines = [f"<tr>{corner}{head}</tr>"] if any(columns) else []
    for label, cells in zip(rows, begun.cells(catalog), strict=True):
        side = f'<th scope="row">{escape(label)}</th>' if label else ""
        lines.append(f"<tr>{side}{''.join(_cell(cell, catalog, folder) for cell in cells)}</tr>")
    said = f"<figcaption>{escape(begun.title(catalog))}</figcaption><div><table>{''.join(lines)}</table></div>"
    return gr.update(value=f"<figure>{said}</figure>", visible=True)


def _cell(cell: Cell, catalog: Catalog, folder: Path) -> str:
    request = catalog.bundle(cell.request.bundle or "").complete(cell.request)
    path = folder / cell.name
    if not path.is_file():
        return f'<td class="missing" style="aspect-ratio: {request.width} / {request.height}"></td>'
    address = escape(f"{API_PREFIX.lstrip('/')}/file={quote(str(path))}")  # relative, for a page in a folder of a site
    size = f'width="{request.width}" height="{request.height}"'
    picture = f'<img src="{address}" alt="Synthetic picture: {escape(cell.label)}" {size} loading="lazy">'
    return f'<td><a href="{address}" target="_blank">{picture}</a></td>'
