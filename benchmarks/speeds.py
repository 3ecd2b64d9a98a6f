"""What each speed spares and what it costs in likeness to full quality: ``python -m benchmarks.speeds``."""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.speed import machine, medians, prompt_of, tile
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.engine import Engine
from mmmrs_demo.metrics import psnr, ssim
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import PAPER_PROMPTS
from mmmrs_demo.request import SPEEDS, TextRequest, TranslationRequest
from mmmrs_demo.settings import Settings

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def main() -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default=Settings().bundle)
    parser.add_argument("--pictures", type=int, default=8, help="for each kind of request")
    parser.add_argument("--steps", type=int, help="(default: the bundle's)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("speeds.json"))
    arguments = parser.parse_args()
    settings = Settings(bundle=arguments.bundle)
    engine = Engine(Catalog.load(settings.weights), settings)

    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in ("text", *TRANSLATIONS):
        wanted = [request_of(kind, seed, arguments.steps) for seed in range(arguments.pictures)]
        inputs = [input_of(kind, seed, engine.bundle().size) for seed in range(arguments.pictures)]
        engine.run(wanted[0], inputs[0])  # loads
        pictures: dict[str, list[np.ndarray]] = {speed: [] for speed in SPEEDS}
        seconds = []
        for request, image in zip(wanted, inputs, strict=True):
            jobs = [partial(engine.run, request.model_copy(update={"speed": speed}), image) for speed in SPEEDS]
            for speed, job in zip(SPEEDS, jobs, strict=True):
                pictures[speed].append(np.asarray(job().image))
            seconds.append(medians(jobs, 1))
        full, *_ = pictures.values()
        found[kind] = {
            speed: {
                "seconds": statistics.median(times),
                "PSNR": statistics.fmean(map(psnr, made, full)),
                "SSIM": statistics.fmean(map(ssim, made, full)),
            }
            for (speed, made), times in zip(pictures.items(), zip(*seconds, strict=True), strict=True)
        }
    print(table(found))
    report = {"bundle": arguments.bundle, "steps": arguments.steps, "machine": machine(), "found": found}
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nAll of it: {arguments.out}")


def request_of(kind: str, seed: int, steps: int | None) -> TextRequest | TranslationRequest:
    """Return a request of a kind: one of the paper's prompts, or a translation."""
    if kind == "text":
        return TextRequest(prompt=PAPER_PROMPTS[seed % len(PAPER_PROMPTS)], seed=seed, steps=steps)
    return TranslationRequest(translation=kind, prompt=prompt_of(TRANSLATIONS[kind]), seed=seed, steps=steps)


def input_of(kind: str, number: int, size: int) -> Image.Image | None:
    """Return one of the example tiles that a translation takes, or blotches where there are no more."""
    if kind == "text":
        return None
    source = TRANSLATIONS[kind].source
    files = sorted(EXAMPLES.glob(f"{source.value}_*.png"))
    return Image.open(files[number]).convert(source.mode) if number < len(files) else tile(size, source)


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return it as Markdown."""
    lines = ["| | speed | seconds | times as fast | PSNR, dB | SSIM |", "|---|---|---:|---:|---:|---:|"]
    for kind, speeds in found.items():
        full = speeds[next(iter(SPEEDS))]["seconds"]
        for speed, one in speeds.items():
            same = f"{one['PSNR']:.1f} | {one['SSIM']:.3f}" if speed != next(iter(SPEEDS)) else " | "
            lines.append(f"| {kind} | {speed} | {one['seconds']:.2f} | {full / one['seconds']:.2f} | {same} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
