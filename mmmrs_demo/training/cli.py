"""``mmmrs-demo train``: the command line of the training rooms."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be trained and its options."""
    kinds = parser.add_subparsers(dest="kind", required=True)
    mini = kinds.add_parser("mini", help="train the embedded bundle from nothing", description=_MINI)
    mini.add_argument(
        "--data", type=Path, required=True, help="folder that `mmmrs-demo dataset build --size 256` wrote"
    )
    mini.add_argument(
        "--work",
        type=Path,
        default=Path("checkpoints/mini"),
        help="checkpoints and sample sheets (default: %(default)s)",
    )
    mini.add_argument(
        "--out", type=Path, default=Path("weights/mini"), help="folder of the bundle (default: %(default)s)"
    )
    mini.add_argument("--until", choices=("autoencoder", "base"), help="last stage to run")
    mini.add_argument("--shorten", type=float, default=1.0, help="multiply all steps by this, to try a change quickly")
    lora = kinds.add_parser("lora", help="train a LoRA on four-part prompts", description=_ADAPTER)
    _add_adapter_arguments(lora)
    lora.add_argument("--rank", type=int, help="of the LoRA (default: 4)")
    controlnet = kinds.add_parser("controlnet", help="train the ControlNet of one translation", description=_ADAPTER)
    controlnet.add_argument("direction", choices=TRANSLATIONS)
    _add_adapter_arguments(controlnet)


def _add_adapter_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder that `mmmrs-demo dataset build` wrote")
    parser.add_argument("--bundle", default="sd15", help="whose base to train for (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result and its checkpoint")
    parser.add_argument("--steps", type=int, help="optimiser steps (default: the paper's)")
    parser.add_argument("--batch", type=int, help="samples per step, over all processes (default: 4)")
    parser.add_argument("--rate", type=float, help="peak learning rate (default: the paper's)")
    parser.add_argument("--parts", type=int, default=1, help="passes per step, where memory is short (default: 1)")
    parser.add_argument("--ema", type=float, default=0.0, help="decay of averaged weights, 0 for none (default: 0)")
    parser.add_argument("--precision", choices=("no", "bf16", "fp16"), default="no", help="of the passes (default: no)")
    parser.add_argument(
        "--checkpointing", action="store_true", help="recompute instead of keep, which takes less memory and more time"
    )
    parser.add_argument(
        "--latents", type=Path, help="folder that keeps encoded tiles, so that each is encoded once for all adapters"
    )
    parser.add_argument("--sheets", type=int, default=4, help="sample sheets drawn on the way (default: %(default)s)")


_MINI = """Resumable: run the same command again after a stop. Progress goes to the terminal, sample sheets to the work
folder. The data set must have pairs for all four translations."""
_ADAPTER = """Resumable: run the same command again after a stop. The losses and sample sheets are also
written for TensorBoard."""


def run(args: argparse.Namespace) -> None:
    """Train what `args` names.

    Raises:
        UserError: something is missing, or cannot be trained.
    """
    if args.kind == "mini":
        from mmmrs_demo.training.mini import Recipe, train  # torch only when training

        train(args.data, args.work, args.out, Recipe().shortened(args.shorten), only=args.until)
        return
    _train_adapter(args)


def _train_adapter(args: argparse.Namespace) -> None:
    from mmmrs_demo.catalog import BASE, Catalog
    from mmmrs_demo.training import adapters

    key = "lora" if args.kind == "lora" else args.direction
    said = {name: value for name in ("steps", "batch", "rate") if (value := getattr(args, name)) is not None}
    for name in ("steps", "batch", "rate", "parts", "rank"):
        if (value := getattr(args, name, None)) is not None and value <= 0:
            raise UserError(f"--{name} should be above 0, not {value}.")
    if args.sheets < 0:
        raise UserError(f"--sheets should be at least 0, not {args.sheets}.")
    if not 0 <= args.ema < 1:
        raise UserError(f"--ema should be at least 0 and below 1, not {args.ema}.")
    plan = replace(adapters.LORA if key == "lora" else adapters.CONTROLNET[key], **said, parts=args.parts, ema=args.ema)
    catalog = Catalog.load(Settings().weights)
    bundle = catalog.bundle(args.bundle)
    location = catalog.locate(bundle, BASE)
    if location.kind == "missing":
        raise UserError(location.hint)
    adapters.train(
        adapters.Job(
            key,
            bundle,
            location,
            args.data,
            args.out,
            replace(plan, warmup=min(plan.warmup, plan.steps // 10)),
            rank=getattr(args, "rank", None) or adapters.RANK,
            precision=args.precision,
            checkpointing=args.checkpointing,
            latents=args.latents,
            sheets=args.sheets,
        )
    )
