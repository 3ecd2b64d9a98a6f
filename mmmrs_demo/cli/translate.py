"""``mmmrs-demo translate``: rasters and pictures of one sensor as another's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from mmmrs_demo.bands import band_numbers
from mmmrs_demo.batch import MANIFEST, Each, Item, collect, reference_of, translate_all
from mmmrs_demo.cli.command import Command, EngineFactory, house, print_table
from mmmrs_demo.cli.options import (
    folder_of,
    metadata_argument,
    prompt_arguments,
    prompt_of,
    request_of,
    run_arguments,
)
from mmmrs_demo.cli.telling import Told, begin, progress
from mmmrs_demo.cluster import connect
from mmmrs_demo.errors import UserError
from mmmrs_demo.files import printable
from mmmrs_demo.make import Done, translate_file
from mmmrs_demo.maker import Maker
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.provenance import settings_kept
from mmmrs_demo.radiometry import Quantity
from mmmrs_demo.request import TranslationRequest
from mmmrs_demo.settings import Settings

_FAILED = 1
_QUANTITIES = {quantity.value.lower(): quantity for quantity in Quantity}
_LISTED = " or ".join([", ".join([*_QUANTITIES][:-1]), [*_QUANTITIES][-1]])


def _translate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("translation", choices=TRANSLATIONS, metavar="translation", help=", ".join(TRANSLATIONS))
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="input",
        help="a PNG, JPEG, WebP, BMP, GIF, GeoTIFF or JPEG 2000, or a folder of them; or several",
    )
    parser.add_argument("--caption", metavar="TEXT", help="what the input shows (default: one of the paper's)")
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="what was really measured there, or a folder; see above"
    )
    prompt_arguments(parser)
    add_setting = run_arguments(
        parser, "the result, or a folder; several results need one (default: a name that says it)"
    )
    add_setting("--controlnet-scale", type=float, metavar="X", help="how firmly the input holds, 0 to 2")
    add_setting(
        "--samples", type=int, metavar="N", help="make N, 1 to 16, with the next seeds; keep their mean and spread"
    )
    add_setting("--engine", choices=("local", "ray"), default="local", help="where models run (default: local)")
    metadata_argument(add_setting)
    group = parser.add_argument_group("GeoTIFF and JPEG 2000")
    group.add_argument("--bands", metavar="N,N,N", help="bands to read, such as 4,3,2 (default: what the file says)")
    group.add_argument(
        "--sar-as", choices=_QUANTITIES, metavar="WORD", help=f"SAR samples are {_LISTED} (default: as it seems)"
    )
    group.add_argument("--units", action="store_true", help="write dB or reflectance as float32, not grey values")


def _translate(args: argparse.Namespace, engine_factory: EngineFactory) -> int:
    settings, catalog = house(args.bundle)
    translation = TRANSLATIONS[args.translation]
    usual = {"gsd": translation.gsd, "satellite": translation.satellite}
    prompt = prompt_of(args, args.caption or translation.caption, usual)
    form = {"kind": "translation", "translation": translation.key, "prompt": prompt}
    form |= {name: given for name in ("controlnet_scale", "samples") if (given := getattr(args, name)) is not None}
    request, reading = cast("TranslationRequest", request_of(args, form, settings)), _reading(args)
    several = len(args.inputs) > 1 or args.inputs[0].is_dir()
    items, passed_over = collect(args.inputs, folder_of(args.out)) if several else ([], [])
    if args.reference:
        _check_reference(args, settings, several=several)
    engine = engine_factory(catalog, settings)
    with progress(quiet=args.quiet) as told, ExitStack() as stack:

        def make(file: Path, out: Path, *, overwrite: bool) -> Done:
            with settings_kept(kept=args.metadata):
                return translate_file(
                    maker,
                    request,
                    file,
                    out,
                    settings,
                    **reading,
                    overwrite=overwrite,
                    on_progress=told.windows,
                    on_step=told.on_step,
                )

        begin(told, engine, catalog.bundle(settings.bundle), request)
        maker: Maker = engine
        each: Each = map
        if args.engine == "ray":
            maker = cluster = stack.enter_context(connect(engine_factory, catalog, settings))
            each = cluster.files
        if several:
            asked = {"request": request.model_dump(mode="json"), **reading}
            asked |= {} if args.metadata else {"metadata": False}  # unsaid, so that what was made before is known
            for note in passed_over:
                told.note(note)
            return _each(args, settings, items, asked, make, told, each)
        done = make(args.inputs[0], args.out or Path(), overwrite=args.overwrite)
    _say_done(args, settings, done)
    return 0


def _reading(args: argparse.Namespace) -> dict[str, Any]:
    """Return what a person says of how rasters are read and written."""
    bands = None if args.bands is None else band_numbers(args.bands)
    return {"bands": bands, "quantity": _QUANTITIES.get(args.sar_as), "units": args.units}


def _check_reference(args: argparse.Namespace, settings: Settings, *, several: bool) -> None:
    """Refuse a reference that cannot be compared with what will be made, before a model is loaded."""
    from mmmrs_demo.compare import check

    if not args.metadata:
        raise UserError("A result without metadata cannot be compared: leave out --reference, or --no-metadata.")
    if not several:
        check(args.reference, args.inputs[0], TRANSLATIONS[args.translation].target, settings)
    elif not args.reference.is_dir():
        raise UserError("Several files need a folder of references under the same names: name one with --reference.")


def _say_done(args: argparse.Namespace, settings: Settings, done: Done) -> None:
    """Say where the result of one file is, what was assumed, and how near it comes to its reference."""
    for note in () if args.quiet else done.notes:
        print(note, file=sys.stderr)
    for path in filter(None, (done.path, done.spread)):
        print(path)
    if args.reference:
        from mmmrs_demo.compare import compare

        found = compare(done.path, args.reference, settings, args.inputs[0])
        for note in () if args.quiet else found.notes:
            print(note, file=sys.stderr)
        print_table(list(found.facts.items()))


def _each(
    args: argparse.Namespace,
    settings: Settings,
    items: Sequence[Item],
    asked: dict[str, Any],
    make: Callable[..., Done],
    told: Told,
    each: Each,
) -> int:
    """Translate several files, telling what becomes of each, and return the exit status."""
    from mmmrs_demo.compare import Comparison, compare

    numbers = {item.name: number for number, item in enumerate(items, 1)}
    counts = {"made": 0, "skipped": 0, "failed": 0}

    def one(item: Item, path: Path, overwrite: bool) -> Done:  # noqa: FBT001 - as it is called
        told.about = f"{numbers[item.name]}/{len(items)} {printable(item.file.name)}: "
        return make(item.file, path, overwrite=overwrite)

    def compared(item: Item, path: Path) -> dict[str, Any] | None:
        reference = reference_of(item, args.reference) if args.reference else None
        return asdict(compare(path, reference, settings, item.file)) if reference else None

    unfit = 0
    for outcome in translate_all(items, args.out, asked, one, overwrite=args.overwrite, each=each, compare=compared):
        entry, found = outcome.entry, outcome.entry.comparison if args.reference else None
        counts[outcome.state] += 1
        if outcome.state == "failed":
            told.note(entry.error, even_if_quiet=True)
        elif outcome.state == "made" or found:
            told.clear()
            for name in filter(None, (entry.output, entry.spread)):
                print(args.out / name, flush=True)
        if found and "problem" in found:
            unfit += 1
            told.note(found["problem"], even_if_quiet=True)
        elif found:
            print_table(list(Comparison(**found).facts.items()))
    counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    told.note(f"{counted}: {args.out / MANIFEST}.csv says more.")
    return _FAILED if counts["failed"] or unfit else 0


TRANSLATE = Command(
    "render rasters and pictures of one sensor as another's",
    _translate,
    _translate_arguments,
    """Render a picture or raster in another modality: a PNG from a picture, and from a GeoTIFF or JPEG 2000 a
cloud-optimised GeoTIFF on the same grid. Each carries its request. What is larger than the models' native size is done
window by window, in constant memory and without seams; after Ctrl-C or a kill the same command goes on where it was.

GSD, caption and satellite are the paper's for this direction where you give none; the satellite is that of the input.
Prints where it was saved, and on stderr what was assumed about bands and values.

The results of a folder, or of several files, go to the folder --out under the same names. Its manifest.csv and
manifest.json say what was made of what. Files that are done, with these settings and unchanged since, are skipped the
next time, unless you say --overwrite. A file that cannot be translated is noted, and the next one begun.

With --samples N the result is the mean of N samples. Their spread, the standard deviation, is the last band of a
GeoTIFF, and a PNG of its own, NAME_spread.png, beside a PNG.

With --reference FILE the result is compared with what was really measured there: PSNR and SSIM, and the mean error of
NDVI or of backscatter. The file has the size of the result and, where both have one, its grid. For folders it is a
folder: files in it are found by the names of the inputs.

With --engine ray the models run on the workers of a Ray cluster: that of RAY_ADDRESS, one on this machine, or else a
new one here. Files go to them several at a time, and so do the windows of a scene; the pixels stay the same. All of
its machines need the same file system, with mmmrs-demo and the folder of weights where they are here.

Exit status: 0 if all went well, 1 if some of several files failed, 2 if something was refused, 130 after Ctrl-C.""",
    """examples:
  mmmrs-demo translate rgb2sar tile.png --out tile_sar.png
  mmmrs-demo translate sar2rgb radar.png --caption "a satellite image shows a city" --controlnet-scale 1.2 --seed 7
  mmmrs-demo translate rgb2nir scene.tif --bands 4,3,2 --units --out scene_nir.tif
  mmmrs-demo translate rgb2nir tile.tif --samples 8 --reference measured.tif --out tile_nir.tif
  mmmrs-demo translate rgb2sar tiles --seed 7 --out tiles_sar""",
)
