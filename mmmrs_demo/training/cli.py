"""``mmmrs-demo train``: the command line of the training rooms."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be trained and its options."""
    kinds = parser.add_subparsers(dest="kind", required=True)
    mini = kinds.add_parser("mini", help="train the embedded bundle from nothing", description=_MINI)
    mini.add_argument("--data", type=Path, required=True, help="folder of tiles with an index.csv")
    mini.add_argument(
        "--work",
        type=Path,
        default=Path("checkpoints/mini"),
        help="checkpoints and sample sheets (default: %(default)s)",
    )
    mini.add_argument(
        "--out", type=Path, default=Path("weights/mini"), help="folder of the bundle (default: %(default)s)"
    )
    mini.add_argument("--until", help="last stage to run, autoencoder or base")
    mini.add_argument("--shorten", type=float, default=1.0, help="multiply all steps by this, to try a change quickly")


_MINI = """Resumable: run the same command again after a stop. Progress goes to the terminal, sample sheets to the work
folder."""


def run(args: argparse.Namespace) -> None:
    """Train what `args` names."""
    from mmmrs_demo.training.mini import Recipe, train  # torch only when training

    train(args.data, args.work, args.out, Recipe().shortened(args.shorten), only=args.until)
