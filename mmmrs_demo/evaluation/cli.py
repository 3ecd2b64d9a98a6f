"""``mmmrs-demo evaluate``: the command line of the rooms that measure."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mmmrs_demo.catalog import Bundle, Catalog
from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called
from mmmrs_demo.modality import TRANSLATIONS

if TYPE_CHECKING:
    from mmmrs_demo.evaluation.translation import Translator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be evaluated and its options."""
    kinds = parser.add_subparsers(dest="kind", required=True)
    translation = kinds.add_parser("translation", help="measure against real tiles", description=_TRANSLATION)
    translation.add_argument("--data", type=Path, required=True, help="folder of tiles with an index.csv")
    translation.add_argument("--out", type=Path, required=True, help="folder of the report, made where it is not there")
    translation.add_argument(
        "--bundle", metavar="KEY", help="models to measure, as `mmmrs-demo weights` names them (default: as elsewhere)"
    )
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


_TRANSLATION = """Translates tiles of places that training never saw and measures the results against the real pictures,
beside two simple guesses. Writes report.md, report.json and a sheet of pictures for each direction; what is done
is written after every direction. Run the same command again to measure again."""


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
    {"translation": _translation}[args.kind](args, catalog, bundle, make_engine)


def _translation(
    args: argparse.Namespace, catalog: Catalog, bundle: Bundle, make_engine: Callable[[], Translator]
) -> None:
    from mmmrs_demo.dataset.tiles import read_index
    from mmmrs_demo.evaluation.report import write
    from mmmrs_demo.evaluation.translation import Sampling, measure, plan

    for name, least in (("tiles", 1), ("samples", 2), ("seed", 0)):
        if (given := getattr(args, name)) < least:
            raise UserError(f"--{name} should be at least {least}, not {given}.")
    directions = list(dict.fromkeys(args.direction))
    for key in directions:
        if key not in TRANSLATIONS:
            raise UserError(f"There is no translation “{key}”; choose from {', '.join(TRANSLATIONS)}.")
        if hint := catalog.locate(bundle, key).hint:
            raise UserError(hint)
    tiles = read_index(args.data)
    trials = [plan(tiles, TRANSLATIONS[key], args.tiles) for key in directions]
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{called(args.out)} cannot be the report's folder: choose another with --out.") from error

    sampling = Sampling(args.samples, args.seed, args.guidance)
    about = {
        "command": _command(args, bundle, directions),
        "bundle": bundle.key,
        "title": bundle.title,
        "trained_on": bundle.summary,
        "size": bundle.size,
        **asdict(sampling),
    }
    engine, clock = make_engine(), _Clock(sum(len(trial.measured) for trial in trials))
    outcomes = []
    for trial in trials:
        outcomes.append(measure(engine, trial, bundle, sampling, clock.tick))
        write(args.out, about, outcomes)
    print(args.out / "report.md")


def _command(args: argparse.Namespace, bundle: Bundle, directions: list[str]) -> str:
    """Return the command that measures the same again, whatever the defaults will be then."""
    words = ["mmmrs-demo", "evaluate", args.kind, "--data", str(args.data), "--out", str(args.out)]
    words += ["--bundle", bundle.key, "--direction", *directions]
    for name in ("tiles", "samples", "seed", "guidance"):
        if (value := getattr(args, name)) is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


class _Clock:
    """Tells how far a run has come and how long the rest will take.

    Args:
        total: Tiles of the whole run.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began = time.monotonic()

    def tick(self, name: str) -> None:
        """Say that the tile of that name is done."""
        self._done += 1
        left = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        told = f"{self._done} of {self._total} tiles, {left / 60:.1f} min left: {name}"
        print(told, file=sys.stderr, flush=True)
