"""``mmmrs-demo evaluate text``: its options, and the way from them to a report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmmrs_demo.catalog import BASE, Bundle, Catalog
from mmmrs_demo.errors import UserError
from mmmrs_demo.evaluation.clock import Clock
from mmmrs_demo.evaluation.options import add_places, check_least, command, make_folder

if TYPE_CHECKING:
    from mmmrs_demo.evaluation.text import Painter

IMAGES = 500
"""Pictures of the paper's benchmark."""

DESCRIPTION = """Makes pictures from the prompts of held-out tiles, once with the bundle's LoRA and once without, and
measures them against the real tiles: whether a classifier that learnt from real tiles sees what the prompt says, how
far the sets of pictures lie apart, and whether pictures are copies of training tiles. Writes its part of report.md and
report.json, and sheets of pictures. Pictures and classifier are kept: run the same command again to go on."""


def add_text_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate text``."""
    add_places(parser)
    parser.add_argument(
        "--images", type=int, default=IMAGES, metavar="N", help="pictures, as in the paper (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first picture (default: %(default)s)")
    parser.add_argument(
        "--inception",
        type=Path,
        metavar="FILE",
        help="weights of Inception as safetensors, made as evaluation/inception.py tells (default: no FID, KID and IS)",
    )
    parser.add_argument(
        "--work", type=Path, metavar="FOLDER", help="keeps pictures and classifier (default: work in the report's)"
    )


def run_text(args: argparse.Namespace, catalog: Catalog, bundle: Bundle, make_engine: Callable[[], Painter]) -> None:
    """Measure text to image.

    Args:
        args: As `add_text_arguments` fills them.
        catalog: Where the weights are.
        bundle: The models to measure.
        make_engine: Called when there are pictures to make.

    Raises:
        UserError: Something cannot be measured as it was asked for.
    """
    from mmmrs_demo.dataset.manifest import Manifest
    from mmmrs_demo.dataset.samples import Samples
    from mmmrs_demo.evaluation import adherence, report, text
    from mmmrs_demo.evaluation.inception import Inception

    check_least(args, images=text.FEWEST, seed=0)
    if hint := catalog.locate(bundle, BASE).hint:
        raise UserError(hint)
    manifest = Manifest(args.data)
    trial = text.plan(Samples(manifest), Samples(manifest, "test"), args.images, args.seed, bundle.size)
    report.read(args.out)  # one that cannot be added to is known before anything is made
    inception = Inception(args.inception) if args.inception else None
    work = args.work or args.out / "work"
    make_folder(args.out)
    make_folder(work / "pictures", "--work")

    judge = adherence.train(trial.train.rows, trial.train.read, trial.classes, work, adherence.PLAN)
    scales = text.scales(catalog, bundle)
    wanted = {
        name: text.places(trial.requests(bundle, scale), catalog, bundle, work / "pictures")
        for name, scale in scales.items()
    }
    if lacking := text.missing({file: request for files in wanted.values() for file, request in files.items()}):
        text.generate(make_engine(), lacking, Clock(len(lacking), "pictures").tick)
    made = {name: text.album(list(files), trial, text.TITLES[name]) for name, files in wanted.items()}
    looks = text.looks(trial, made, inception=inception is not None)
    first = next(iter(wanted.values()))
    outcome = text.measure(trial, made, judge, inception, Clock(looks, "looks").tick)
    about = report.about(command(args, bundle, "images", "seed", "inception", "work"), bundle)
    for name, rows in outcome.sheets.items():
        report.write_sheet(
            args.out / name, rows, "Real tiles beside synthetic pictures; report.md says which is which."
        )
    report.update(
        args.out, "text", about, {"scales": scales, "made_with": text.made_with(next(iter(first))), **outcome.section}
    )
    print(args.out / "report.md")
