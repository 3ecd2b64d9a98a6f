"""``mmmrs-demo dataset``: the command line of the rooms that build MMM-RS."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mmmrs_demo.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with a data set and its options."""
    actions = parser.add_subparsers(dest="action", required=True)
    build = actions.add_parser("build", help="build a data set, or go on with one", description=_BUILD)
    build.add_argument(
        "--source",
        metavar="NAME=FOLDER",
        action="append",
        required=True,
        help="a source and where it lies; may be given several times",
    )
    build.add_argument("--out", type=Path, required=True, help="folder of the data set")
    build.add_argument("--size", type=int, default=512, help="side of a tile in pixels (default: %(default)s)")
    build.add_argument(
        "--upscale",
        metavar="FILE|bicubic",
        required=True,
        help="Real-ESRGAN x2 weights (safetensors) for pictures that are smaller than a tile, or bicubic",
    )
    build.add_argument(
        "--weather",
        metavar="SHARE",
        type=float,
        default=0.1,
        help="share of clear RGB tiles that also appear in snow, in fog or at night (default: %(default)s)",
    )
    build.add_argument(
        "--translator",
        metavar="WEATHER=FILE",
        action="append",
        default=[],
        help="a learned translator (ONNX) that draws snow, fog or night instead of this project's own synthesis",
    )
    build.add_argument("--seed", type=int, default=0, help="of all chance (default: %(default)s)")
    build.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes side by side (default: %(default)s)"
    )
    caption = actions.add_parser("caption", help="have BLIP-2 describe the tiles of a data set", description=_CAPTION)
    caption.add_argument("folder", type=Path)
    caption.add_argument("--model", type=Path, required=True, help="folder of BLIP-2, as transformers saves it")
    show = actions.add_parser("show", help="count what a data set holds")
    show.add_argument("folder", type=Path)
    sheet = actions.add_parser("sheet", help="write a page to look through a data set")
    sheet.add_argument("folder", type=Path)
    sheet.add_argument("--out", type=Path, help="HTML file (default: contact-sheet.html in the data set's folder)")


_BUILD = """Cuts the pictures of all sources into tiles of one size, draws weather onto some, and writes them with their
prompts as parquet shards. Run the same command again after a stop: what is there is not made again. A picture that
cannot be used is listed at the end and by `dataset show`."""


_CAPTION = """Replaces the captions that came from the annotations, except where the new one mentions nothing of what an
annotation says is there. Run the same command again after a stop: shards that are done are not done again."""


def run(args: argparse.Namespace) -> None:
    """Do what `args` says."""
    {"build": _build, "caption": _caption, "show": _show, "sheet": _sheet}[args.action](args)


def _build(args: argparse.Namespace) -> None:
    from mmmrs_demo.dataset.build import Options, Progress, build

    sources = {name: Path(folder) for name, folder in _named(args.source, "inria=AerialImageDataset")}
    translators = _named(args.translator, "snow=cyclegan.onnx")
    if args.workers < 1:
        raise UserError(f"At least one process must work, not {args.workers}.")

    def report(progress: Progress) -> None:
        left = "" if progress.seconds_left is None else f", {progress.seconds_left / 60:.0f} min left"
        skipped = f", {progress.skipped} skipped" if progress.skipped else ""
        told = f"{progress.done:,} of {progress.total:,} pictures, {progress.tiles:,} tiles"
        print(f"{told}, {progress.rate:.0f} tiles/s{left}{skipped}", file=sys.stderr, flush=True)

    options = Options(args.size, args.upscale, args.weather, args.seed, translators)
    build(sources, args.out, options, workers=args.workers, report=report)
    args.folder = args.out
    _show(args)


def _named(texts: list[str], example: str) -> tuple[tuple[str, str], ...]:
    """Read NAME=FILE of every text, in the order of the names."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise UserError(f"“{text}” does not say what and where: write it like {example}.")
        if name in found:
            raise UserError(f"“{name}” was given twice: {found[name]} and {file}.")
        found[name] = file
    return tuple(sorted(found.items()))


def _caption(args: argparse.Namespace) -> None:
    from mmmrs_demo.dataset.captioner import load_blip2, recaption

    def report(done: int, total: int) -> None:
        print(f"{done:,} of {total:,} shards", file=sys.stderr, flush=True)

    recaption(args.folder, load_blip2(args.model), args.model.name, report)
    _show(args)


def _show(args: argparse.Namespace) -> None:
    from mmmrs_demo.dataset.manifest import Manifest

    manifest = Manifest(args.folder)
    for name, counts in manifest.counts().items():
        print(f"{name}: " + ", ".join(f"{value} {count:,}" for value, count in counts.most_common()))
    for entry in manifest.skipped():
        print(f"skipped {entry.source} {entry.key}: {entry.reason}")


def _sheet(args: argparse.Namespace) -> None:
    from mmmrs_demo.dataset.manifest import Manifest
    from mmmrs_demo.dataset.sheet import write_sheet

    file = args.out or args.folder / "contact-sheet.html"
    write_sheet(Manifest(args.folder), file)
    print(file)
