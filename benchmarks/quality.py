"""How near the embedded translations come to real pictures: ``python -m benchmarks.quality --data FOLDER``.

FOLDER holds tiles with an ``index.csv``; only places that training never saw are used. Beside each figure stands that
of the simplest guess there is: the mean colour of the held-out targets.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.dataset.tiles import Tile, read_index
from mmmrs_demo.engine import Engine
from mmmrs_demo.modality import TRANSLATIONS, Translation
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.request import TranslationRequest
from mmmrs_demo.settings import Settings

SIDE = 256


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB of two pictures in 0..255."""
    return float(10 * np.log10(255**2 / max(np.square(a - b).mean(), 1e-9)))


def pixels(image: Image.Image, mode: str) -> np.ndarray:
    """Return a picture as floats of shape (SIDE, SIDE) or (SIDE, SIDE, 3)."""
    return np.asarray(image.convert(mode).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)


def chosen(tiles: list[Tile], translation: Translation, count: int) -> list[Tile]:
    """Return up to `count` held-out tiles of a direction, as many from every source as there are."""
    kinds = {translation.source.value, translation.target.value}
    sources: dict[str, list[Tile]] = {}
    for tile in tiles:
        if tile.held_out and kinds <= {*tile.files}:
            sources.setdefault(tile.source, []).append(tile)
    spread = [members[:: max(1, len(members) * len(sources) // count)] for members in sources.values()]
    return [tile for members in spread for tile in members][:count]


def measure(
    engine: Engine, tiles: list[Tile], translation: Translation, samples: int, guidance: float | None
) -> dict[str, float]:
    """Return mean figures over `tiles`: of one sample, of the mean of all samples, and of the mean colour."""
    mode = translation.target.mode
    targets = [pixels(Image.open(tile.files[translation.target.value]), mode) for tile in tiles]
    guess = np.mean([target.mean((0, 1)) for target in targets], axis=0)
    rows = []
    for tile, target in zip(tiles, targets, strict=True):
        prompt = Prompt(caption=f"a satellite image shows {tile.scenes[0]}", satellite=translation.satellite)
        made = []
        for seed in range(samples):
            request = TranslationRequest(translation=translation.key, prompt=prompt, seed=seed, guidance=guidance)
            made.append(pixels(engine.run(request, Image.open(tile.files[translation.source.value])).image, mode))
        alike = np.corrcoef(made[0].ravel(), target.ravel())[0, 1]
        rows.append((psnr(made[0], target), psnr(np.mean(made, 0), target), psnr(guess, target), alike))
    names = ("psnr_single_db", "psnr_mean_of_samples_db", "psnr_mean_colour_db", "correlation_single")
    return {name: round(float(value), 3) for name, value in zip(names, np.mean(rows, 0), strict=True)}


def main() -> None:
    """Measure all directions; print a table and write ``benchmarks/quality.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of tiles with an index.csv")
    parser.add_argument("--tiles", type=int, default=24, help="held-out tiles per direction (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=4, help="samples averaged (default: %(default)s)")
    parser.add_argument("--guidance", type=float, help="guidance in place of the bundle's own")
    args = parser.parse_args()
    settings = Settings()
    engine, tiles, report = Engine(Catalog.load(settings.weights), settings), read_index(args.data), {}
    for key, translation in TRANSLATIONS.items():
        used = chosen(tiles, translation, args.tiles)
        report[key] = {"tiles": len(used), **measure(engine, used, translation, args.samples, args.guidance)}
        print(key, report[key], flush=True)
    Path(__file__).with_name("quality.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
