"""``mmmrs-demo compare``: a grid of pictures from words."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import cast

from mmmrs_demo.cli.command import Command, EngineFactory, house
from mmmrs_demo.cli.options import (
    NONE,
    folder_of,
    level_named,
    prompt_arguments,
    prompt_of,
    request_of,
    run_arguments,
    word_named,
)
from mmmrs_demo.cli.telling import begin, progress
from mmmrs_demo.files import printable
from mmmrs_demo.grid import Cell, Grid, write_sheet
from mmmrs_demo.grid import make as make_grid
from mmmrs_demo.prompt import SATELLITES, WEATHERS
from mmmrs_demo.request import TextRequest

_READERS: dict[str, Callable[[str], str | None]] = {
    "gsd": level_named,
    "weather": partial(word_named, words=WEATHERS),
    "satellite": partial(word_named, words=SATELLITES),
}
"""What reads a value of an axis, where it may be said in several ways."""


def _axis(text: str) -> str:
    """Return the key of an axis, whose words an option joins with hyphens."""
    return text.strip().replace("-", "_")


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("caption", help="what the pictures show; a whole prompt of four parts is understood too")
    for side, usual in (("row", "weather"), ("column", "gsd")):
        what = f"what differs from {side} to {side}, or {NONE} (default: {usual}); see above"
        parser.add_argument(f"--{side}s", default=usual, type=_axis, metavar="AXIS", help=what)
        parser.add_argument(f"--{side}-values", metavar="A,B,C", help="its values (default: the usual ones)")
    prompt_arguments(parser)
    add_setting = run_arguments(parser, "the folder for the pictures and sheet.png; needed")
    add_setting("--width", type=int, metavar="PX", help="of each, a multiple of 8, 64 to 2048 (default: native)")
    add_setting("--height", type=int, metavar="PX", help="the same")


def _compare(args: argparse.Namespace, engine_factory: EngineFactory) -> None:
    settings, catalog = house(args.bundle)
    prompt = prompt_of(args, args.caption, {})
    form = {"kind": "text", "prompt": prompt, "width": args.width, "height": args.height}
    request = cast("TextRequest", request_of(args, form, settings))
    lines = [
        (axis, values and [_READERS.get(axis, str.strip)(word) for word in values.split(",")])
        for axis, values in ((args.rows, args.row_values), (args.columns, args.column_values))
    ]
    asked = Grid.of(request, *lines[0], *lines[1], catalog=catalog, settings=settings)
    folder = folder_of(args.out)
    begun = asked.begun(folder, catalog, overwrite=args.overwrite)
    total = math.prod(map(len, begun.heads(catalog)))
    engine = engine_factory(catalog, settings)
    with progress(quiet=args.quiet) as told:

        def next_is(number: int, cell: Cell) -> None:
            told.about = f"{number}/{total} {printable(cell.label)}: "

        begin(told, engine, catalog.bundle(settings.bundle), request)
        made = make_grid(
            begun,
            engine,
            folder,
            settings,
            overwrite=args.overwrite,
            on_cell=next_is,
            on_progress=told.windows,
            on_step=told.on_step,
        )
        for finished in made:
            if finished.seconds is not None:
                told.clear()
                print(finished.path, flush=True)
        sheet = write_sheet(begun, catalog, folder)
    print(sheet)


COMPARE = Command(
    "make a grid of images: one request, of which two things differ",
    _compare,
    _compare_arguments,
    """Make one image for each pair of values, with one seed for all, and a labelled sheet of them: sheet.png in the
folder --out. Prints where each image was saved, and the sheet at the end.

What may differ: weather, gsd, satellite, lora-scale, guidance, steps, seed, scheduler, speed, and bundle where there
are several. A value is written as its own option takes it. There are at most 64 images.

After Ctrl-C or a kill the same command goes on with what is missing, with the seed that was drawn.""",
    """examples:
  mmmrs-demo compare "a small town in the middle of a field" --satellite GF2 --out town
  mmmrs-demo compare "a park in the city" --row-values clear,fog --columns steps --column-values 5,20 --out park
  mmmrs-demo compare "some roads in farmland" --rows none --columns seed --column-values 1,2,3,4 --out roads""",
)
