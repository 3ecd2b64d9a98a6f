"""``mmmrs-demo show``: what a picture says of itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmmrs_demo.cli.command import Command, EngineFactory, print_table
from mmmrs_demo.files import printable
from mmmrs_demo.geotiff import SPREAD
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.provenance import Provenance, read
from mmmrs_demo.request import SCHEDULERS, SPEEDS, TranslationRequest


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a PNG or GeoTIFF that was saved here")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for programs")


def _show(args: argparse.Namespace, _: EngineFactory) -> None:
    provenance = read(args.file)
    if args.json:
        print(provenance.model_dump_json(indent=2))
    else:
        print_table([(name, printable(str(fact))) for name, fact in _facts(provenance).items()])


def _facts(provenance: Provenance) -> dict[str, object]:
    """Return what a picture says of itself in the order of interest, by name."""
    request = provenance.request
    facts: dict[str, object] = {"Prompt": request.prompt.text, "Negative prompt": request.negative_prompt or None}
    if isinstance(request, TranslationRequest):
        facts |= {
            "Translation": TRANSLATIONS[request.translation].title,
            "ControlNet scale": request.controlnet_scale,
            "Samples": request.samples if request.samples > 1 else None,
            "Input SHA-256": request.source_sha256,
        }
    else:
        facts["Size"] = f"{request.width} by {request.height} px"
    facts |= {
        "Seed": request.seed,
        "Steps": request.steps,
        "Guidance": request.guidance,
        "Scheduler": request.scheduler and SCHEDULERS[request.scheduler],
        "Speed": SPEEDS[request.speed].label,
        "LoRA scale": request.lora_scale,
        "Bundle": ", ".join(str(name) for name in (request.bundle, provenance.model.get("title")) if name),
        "Shows": f"{provenance.modality.label}, synthetic",
        "Created": f"{provenance.created:%Y-%m-%d %H:%M:%S %Z}",
        **_details(provenance.details),
        **{f"Model: {name}": fact for name, fact in provenance.model.items() if name not in ("bundle", "title")},
        **{f"Version: {name}": fact for name, fact in provenance.versions.items()},
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _details(details: dict[str, Any]) -> dict[str, object]:
    """Return what a picture says of bands, the range shown of them, and windows; it may come from anywhere."""
    facts: dict[str, object] = {}
    if SPREAD in details:
        facts["Spread"] = details[SPREAD]
    if isinstance(grid := details.get("grid"), dict):
        facts |= {name.capitalize(): _line(line) for name, line in grid.items() if line}
    if isinstance(bands := details.get("bands"), list):
        facts["Bands"] = ", ".join(map(str, bands))
    if isinstance(stretch := details.get("stretch"), dict):
        facts["Input range"] = " ".join(str(stretch.get(part)) for part in ("low", "high", "unit"))
    if isinstance(windows := details.get("windows"), dict):
        facts["Windows"] = "{} of {} px, {} px in common".format(*map(windows.get, ("count", "side", "overlap")))
    return facts


def _line(line: Any) -> str:
    """Return what differs between the rows or columns of a sheet; it may come from anywhere."""
    if isinstance(line, dict) and isinstance(values := line.get("values"), list):
        return f"{line.get('axis')}: {', '.join(map(str, values))}"
    return str(line)


SHOW = Command(
    "print the request inside a picture",
    _show,
    _show_arguments,
    "Print what a picture that was saved here says of itself: its request, seed, models and versions.",
    """examples:
  mmmrs-demo show park.png
  mmmrs-demo show park.png --json""",
)
