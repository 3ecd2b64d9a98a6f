"""``mmmrs-demo evaluate``: the command line of the room that measures."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mmmrs_demo.catalog import BASE, Bundle, Catalog
from mmmrs_demo.errors import UserError
from mmmrs_demo.evaluation.clock import Clock
from mmmrs_demo.evaluation.options import add_places, check_least, command, make_folder
from mmmrs_demo.evaluation.text_cli import DESCRIPTION, add_text_arguments, run_text
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.request import parse_request

if TYPE_CHECKING:
    from mmmrs_demo.evaluation.translation import Translator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be evaluated and its options."""
    kinds = parser.add_subparsers(dest="kind", required=True)
    translation = kinds.add_parser("translation", help="measure against real tiles", description=_TRANSLATION)
    add_places(translation)
    translation.add_argument(
        "--direction",
        nargs="+",
        default=list(TRANSLATIONS),
        metavar="KEY",
        help=f"those to measure (default: {' '.join(TRANSLATIONS)})",
    )
    translation.add_argument(
        "--tiles", type=int, default=24, metavar="N", help="held-out tiles of each (default: %(default)s)"
    )
    translation.add_argument(
        "--samples", type=int, default=4, metavar="K", help="pictures made of each tile (default: %(default)s)"
    )
    translation.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of the first picture (default: %(default)s)"
    )
    translation.add_argument("--guidance", type=float, metavar="X", help="in place of the bundle's own")
    translation.add_argument(
        "--unet-steps",
        type=int,
        default=_UNET_STEPS,
        metavar="N",
        help="steps of learning of the U-Net that is measured beside the models, 0 for none (default: %(default)s)",
    )
    translation.add_argument(
        "--unet-width",
        type=int,
        default=_UNET_WIDTH,
        metavar="N",
        help="channels of its first layer, a multiple of 8; pix2pix has 64 (default: %(default)s)",
    )
    translation.add_argument(
        "--lpips",
        type=Path,
        metavar="FILE",
        help="weights of AlexNet and LPIPS as safetensors, made as evaluation/perceptual.py tells (default: no LPIPS)",
    )
    text = kinds.add_parser("text", help="measure pictures made from words", description=DESCRIPTION)
    add_text_arguments(text)
    autoencoder = kinds.add_parser("autoencoder", help="measure what it leaves of tiles", description=_AUTOENCODER)
    add_places(autoencoder)


_AUTOENCODER = """Encodes and decodes held-out tiles and measures what is left of them: the best that any picture made
through this autoencoder can be. Writes its part of report.md and report.json, and a sheet of pictures."""

_TRANSLATION = """Translates tiles of places that training never saw and measures the results against the real pictures,
beside two simple guesses and a U-Net that learns the translation from the training tiles. Writes its part of report.md
and report.json, and a sheet of pictures for each direction; what is done is written after every direction. The U-Nets
are kept: run the same command again to go on with them, and to measure again."""

_UNET_STEPS = 1500
"""About three minutes a direction on two cores."""

_UNET_WIDTH = 16

_REPEATED = ("tiles", "samples", "seed", "guidance", "unet_steps", "unet_width", "lpips")
"""Options of a translation that its figures depend on, beside the directions."""


def run(args: argparse.Namespace, catalog: Catalog, bundle: Bundle, make_engine: Callable[[], Translator]) -> None:
    """Evaluate what `args` names.

    Args:
        args: As `add_arguments` fills them.
        catalog: Where the weights are.
        bundle: The models to measure.
        make_engine: Called when it is certain that there is something to measure.

    Raises:
        UserError: Something cannot be measured as it was asked for.
    """
    {"translation": _translation, "text": run_text, "autoencoder": _autoencoder}[args.kind](
        args, catalog, bundle, make_engine
    )


def _translation(
    args: argparse.Namespace, catalog: Catalog, bundle: Bundle, make_engine: Callable[[], Translator]
) -> None:
    from mmmrs_demo.dataset.manifest import Manifest
    from mmmrs_demo.dataset.samples import Samples
    from mmmrs_demo.evaluation import report, report_translation, unet
    from mmmrs_demo.evaluation.perceptual import Perceptual
    from mmmrs_demo.evaluation.translation import Sampling, measure, plan, simple_rivals

    _check(args)
    directions = list(dict.fromkeys(args.direction))
    for key in directions:
        if hint := catalog.locate(bundle, key).hint:
            raise UserError(hint)
    manifest = Manifest(args.data)
    train, test = Samples(manifest), Samples(manifest, "test")
    trials = [plan(train, test, TRANSLATIONS[key], args.tiles) for key in directions]
    perceptual = Perceptual(args.lpips) if args.lpips else None
    report.read(args.out)  # one that cannot be added to is known before anything is measured
    make_folder(args.out)
    sampling = Sampling(args.samples, args.seed, args.guidance)
    about = report.about(command(args, bundle, *_REPEATED, direction=directions), bundle)
    about |= {"lpips": perceptual.name if perceptual else None, **asdict(sampling)}
    rivals = [simple_rivals(trial, bundle.size) for trial in trials]
    if args.unet_steps:
        for trial, beside in zip(trials, rivals, strict=True):
            folder = args.out / "unet"
            beside["unet"] = unet.train(trial.training, bundle.size, args.unet_steps, args.unet_width, folder)
    engine, clock = make_engine(), Clock(sum(len(trial.measured) for trial in trials), "tiles")
    outcomes = []
    lpips = perceptual.distance if perceptual else None
    for trial, beside in zip(trials, rivals, strict=True):
        outcomes.append(measure(engine, trial, bundle, sampling, beside, clock.tick, lpips))
        report_translation.write(args.out, about, outcomes)
    print(args.out / "report.md")


def _autoencoder(args: argparse.Namespace, catalog: Catalog, bundle: Bundle, _: Callable[[], Translator]) -> None:
    from mmmrs_demo.dataset.manifest import Manifest
    from mmmrs_demo.dataset.samples import Samples
    from mmmrs_demo.engine import load_base
    from mmmrs_demo.evaluation import autoencoder, report, report_autoencoder

    location = catalog.locate(bundle, BASE)
    if location.hint:
        raise UserError(location.hint)
    samples = Samples(Manifest(args.data), "test")
    report.read(args.out)
    make_folder(args.out)
    clear = sum(row["weather_by"] is None for row in samples.rows)
    vae = load_base(location, "cpu", half=False).vae
    outcome = autoencoder.measure(vae, samples, bundle.size, Clock(clear, "tiles").tick)
    report.write_sheet(args.out / report_autoencoder.SHEET, outcome.sheet, "Real tiles, each beside itself redrawn.")
    about = report.about(command(args, bundle), bundle)
    report.update(args.out, args.kind, about, {"figures": report.plain(outcome.figures, 4)})
    print(args.out / "report.md")


def _check(args: argparse.Namespace) -> None:
    """Refuse what would otherwise be refused after minutes of learning."""
    from mmmrs_demo.evaluation.unet import GROUPS

    check_least(args, tiles=1, samples=2, seed=0, unet_steps=0, unet_width=GROUPS)
    if args.unet_width % GROUPS:
        raise UserError(f"--unet-width should be a multiple of {GROUPS}, not {args.unet_width}.")
    for key in args.direction:
        if key not in TRANSLATIONS:
            raise UserError(f"There is no translation “{key}”; choose from {', '.join(TRANSLATIONS)}.")
    parse_request(
        {"kind": "translation", "translation": args.direction[0], "guidance": args.guidance, "seed": args.seed}
    )
