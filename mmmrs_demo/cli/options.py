"""Options that several commands have, and how their words become a request."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmmrs_demo.cli.command import BUNDLE
from mmmrs_demo.errors import UserError
from mmmrs_demo.prompt import GSD_LEVELS, SATELLITES, WEATHERS, level_of, parse
from mmmrs_demo.request import FULL_SPEED, SCHEDULERS, SPEEDS, TextRequest, TranslationRequest, parse_request
from mmmrs_demo.settings import Settings

NONE = "none"  # leaves a part out of the prompt

_SHARED = ("negative_prompt", "steps", "guidance", "scheduler", "lora_scale", "speed", "seed", "bundle")
"""Options that are fields of every request."""


def prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the parts of a prompt beside its caption."""
    group = parser.add_argument_group("the other parts of the prompt", f"“{NONE}” leaves a part out")
    levels = ", ".join(level.key for level in GSD_LEVELS)
    group.add_argument("--gsd", metavar="LEVEL", help=f"{levels}, or metres per pixel such as 0.6m")
    group.add_argument("--weather", metavar="WORD", help=f"{', '.join(WEATHERS)}, or clear")
    group.add_argument("--satellite", metavar="WORD", help=", ".join(SATELLITES))


def run_arguments(parser: argparse.ArgumentParser, out: str) -> Callable[..., argparse.Action]:
    """Add what both kinds of run take, `out` being what may be written, and return what adds one more setting."""
    group = parser.add_argument_group("the file")
    group.add_argument("--out", type=Path, metavar="FILE", help=out)
    group.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group = parser.add_argument_group("settings", "those left out are the bundle's defaults")
    group.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same picture (default: random)")
    group.add_argument("--steps", type=int, metavar="N", help="denoising steps")
    group.add_argument("--guidance", type=float, metavar="X", help="how closely the words hold, 0 to 30; 1 is off")
    group.add_argument("--scheduler", metavar="KEY", help=", ".join(SCHEDULERS))
    group.add_argument(
        "--speed", default=FULL_SPEED, metavar="KEY", help=f"{', '.join(SPEEDS)}; scenes are made in full"
    )
    group.add_argument("--lora-scale", type=float, metavar="X", help="strength of the LoRA, 0 (off) to 2")
    group.add_argument("--negative", dest="negative_prompt", default="", metavar="TEXT", help="what should not be seen")
    group.add_argument("--bundle", metavar="KEY", help=BUNDLE)
    return group.add_argument


def metadata_argument(add: Callable[..., argparse.Action]) -> None:
    """Add what leaves the settings out of a file."""
    add("--no-metadata", dest="metadata", action="store_false", help="keep out of the file all but “synthetic”")


def prompt_of(args: argparse.Namespace, words: str, usual: dict[str, str]) -> dict[str, str | None]:
    """Return the four parts of a prompt: options win over what the words say, and those over what is usual."""
    said = {part: word for part, word in parse(words).model_dump().items() if word}
    options = {
        "gsd": level_named(args.gsd),
        "weather": word_named(args.weather, WEATHERS),
        "satellite": word_named(args.satellite, SATELLITES),
    }
    chosen = {part: None if word == NONE else word for part, word in options.items() if word is not None}
    return usual | said | chosen


def level_named(text: str | None) -> str | None:
    """Return the key of a GSD level, which may be given in metres or centimetres per pixel."""
    keys = [level.key for level in GSD_LEVELS]
    if text is None or (key := text.strip().lower()) in (*keys, NONE):
        return text and key
    measure = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(c?)m?(?:/px)?", key)
    if not measure:
        raise UserError(f"There is no GSD “{text}”; choose one of {', '.join(keys)}, or give metres such as 0.6m.")
    return level_of(float(measure[1]) / (100 if measure[2] else 1)).key


def word_named(text: str | None, words: Sequence[str]) -> str | None:
    """Return the word of the vocabulary that differs from `text` in capitals only, or `text` for others to refuse."""
    known = {word.lower(): word for word in words} | {"clear": NONE}
    return known.get(text.strip().lower(), text) if text else text


def request_of(args: argparse.Namespace, form: dict[str, Any], settings: Settings) -> TextRequest | TranslationRequest:
    """Return the request that `form` and the shared options describe, for the bundle in use."""
    shared = {name: getattr(args, name) for name in _SHARED} | {"bundle": settings.bundle}
    return parse_request(form | shared)


def folder_of(out: Path | None) -> Path:
    """Return the folder for the results of several files."""
    if out is None or (out.exists() and not out.is_dir()):
        raise UserError("Several files need a folder to go to: name one with --out.")
    return out
