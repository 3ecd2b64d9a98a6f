"""``mmmrs-demo generate``: a picture from words."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from mmmrs_demo.cli.command import Command, EngineFactory, house
from mmmrs_demo.cli.options import metadata_argument, prompt_arguments, prompt_of, request_of, run_arguments
from mmmrs_demo.cli.telling import begin, progress
from mmmrs_demo.make import generate_file
from mmmrs_demo.provenance import settings_kept
from mmmrs_demo.request import TextRequest


def _generate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("caption", help="what the picture shows; a whole prompt of four parts is understood too")
    prompt_arguments(parser)
    add_setting = run_arguments(parser, "a .png or a folder (default: a name that says it)")
    add_setting("--width", type=int, metavar="PX", help="a multiple of 8, 64 to 2048 (default: native)")
    add_setting("--height", type=int, metavar="PX", help="the same")
    metadata_argument(add_setting)


def _generate(args: argparse.Namespace, engine_factory: EngineFactory) -> None:
    settings, catalog = house(args.bundle)
    prompt = prompt_of(args, args.caption, {})
    form = {"kind": "text", "prompt": prompt, "width": args.width, "height": args.height}
    request = cast("TextRequest", request_of(args, form, settings))
    engine = engine_factory(catalog, settings)
    with progress(quiet=args.quiet) as told, settings_kept(kept=args.metadata):
        begin(told, engine, catalog.bundle(settings.bundle), request)
        done = generate_file(
            engine,
            request,
            args.out or Path(),
            settings,
            overwrite=args.overwrite,
            on_progress=told.windows,
            on_step=told.on_step,
        )
    print(done.path)


GENERATE = Command(
    "make a satellite image from words",
    _generate,
    _generate_arguments,
    """Make a satellite image from words and save it as a PNG that carries its request.
Prints where it was saved. Ctrl-C stops within a step and leaves no file. An image much larger than the models' native
size is made window by window; after Ctrl-C or a kill the same command goes on with it.""",
    """examples:
  mmmrs-demo generate "a park in the city" --gsd high --weather snow --satellite "Google Earth" --seed 7 --out park.png
  mmmrs-demo generate "Ultra-low precision resolution, fog, a satellite image shows a large mountain range, TG2"
  mmmrs-demo generate "some roads in farmland" --gsd 0.6m""",
)
