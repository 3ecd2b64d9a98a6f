"""How long a large scene takes, in how much memory, and whether windows can be seen: ``python -m benchmarks.scenes``.

With ``--instant`` a model that costs nothing takes the place of the real one. What is left is reading, blending and
writing, and the memory of a scene of any size can be measured in minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine
from rasterio.windows import Window

from benchmarks.speed import machine
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.engine import Engine
from mmmrs_demo.make import Maker, SceneModel, translate_file
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.request import TextRequest, TranslationRequest
from mmmrs_demo.scene import BATCH, Field
from mmmrs_demo.settings import Settings

SEED = 7
ROWS = 500  # of the input that are drawn at once
FIELD = 23  # pixels along one side of a field; no multiple of what latents or windows measure
REPEATS = 3


def main() -> None:
    """Measure, print, and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1536, help="of the scene, in pixels")
    parser.add_argument("--translation", choices=TRANSLATIONS, default="rgb2nir")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the bundle's)")
    parser.add_argument("--bundle", default=Settings().bundle)
    parser.add_argument("--instant", action="store_true", help="with a model that costs nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scenes.json"))
    arguments = parser.parse_args()

    settings = Settings(bundle=arguments.bundle)
    engine: Maker = Engine(Catalog.load(settings.weights), settings)
    engine = Instant(engine) if arguments.instant else engine
    request = TranslationRequest(translation=arguments.translation, steps=arguments.steps, seed=SEED)
    _, model = engine.windows(request)
    field = Field.of(arguments.side, arguments.side, model)
    begun = memory()
    one, decoding = (0.0, 0.0) if arguments.instant else window_seconds(model)
    with tempfile.TemporaryDirectory() as folder:
        ground = Path(folder, "ground.tif")
        draw(ground, arguments.side)
        start = time.perf_counter()
        done = translate_file(engine, request, ground, Path(folder, "scene.tif"), settings)
        seconds = time.perf_counter() - start
        seams = None if arguments.instant else seams_of(done.path, field, model.factor)
        megabytes = done.path.stat().st_size / 1e6
    models = field.windows * (model.steps * one + decoding)
    report = {
        "bundle": arguments.bundle,
        "instant": arguments.instant,
        "translation": request.translation,
        "side": arguments.side,
        "steps": model.steps,
        "windows": field.windows,
        "batch": BATCH,
        "seconds": seconds,
        "seconds of one window in a batch": {"step": one, "decoding": decoding},
        "times what the models alone would take": seconds / models if models else None,
        "peak memory in MB": {"before": begun, "at the end": memory()},
        "size of the result in MB": megabytes,
        "gradient at borders of windows, beside other pixels": seams,
        "machine": machine(),
    }
    for name, fact in report.items():
        print(f"{name}: {fact}")
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def window_seconds(model: SceneModel) -> tuple[float, float]:
    """Return the seconds that a window in a full batch takes for a step, and to be decoded."""
    rng = np.random.default_rng(SEED)
    side = model.side // model.factor
    latents = rng.standard_normal((BATCH, model.channels, side, side), np.float32)
    pictures = rng.integers(0, 256, (BATCH, model.side, model.side, 3), np.uint8)
    spent: list[tuple[float, float]] = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        model.predict(latents, 0, pictures)
        middle = time.perf_counter()
        model.decode(latents)
        spent.append((middle - start, time.perf_counter() - middle))
    step, decoding = np.median(spent, axis=0) / BATCH
    return float(step), float(decoding)


def draw(file: Path, side: int) -> None:
    """Write a GeoTIFF of made-up fields, a strip of rows at a time."""
    rng = np.random.default_rng(SEED)
    fields = rng.integers(40, 200, (-(-side // FIELD) + 2, -(-side // FIELD) + 2, 3), np.uint8)
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    with rasterio.open(
        file, "w", "GTiff", side, side, 3, "EPSG:32633", place, "uint8", tiled=True, compress="DEFLATE"
    ) as raster:
        for top in range(0, side, ROWS):
            rows = min(ROWS, side - top)
            first, last = top // FIELD, (top + rows) // FIELD + 2
            strip = Image.fromarray(fields[first:last])
            strip = strip.resize((strip.width * FIELD, strip.height * FIELD), Image.Resampling.BICUBIC)
            begin = top - first * FIELD
            part = np.asarray(strip)[begin : begin + rows, :side].astype(np.int16)
            part = np.clip(part + rng.integers(-8, 9, part.shape, np.int16), 1, 255).astype(np.uint8)
            raster.write(part.transpose(2, 0, 1), window=Window(0, top, side, rows))


def seams_of(file: Path, field: Field, factor: int) -> dict[str, float]:
    """Return the mean gradient across the borders of windows, over that elsewhere.

    The decoder of latent diffusion leaves a grid of its own, a line every `factor` pixels; so the second figure divides
    by the gradient at the other lines of that grid, and says what is left of the windows alone.
    """
    with rasterio.open(file) as raster:
        picture = raster.read().astype(np.float32).mean(0)
    at_borders, at_lines, elsewhere = [], [], []
    for starts, turned in ((field.lefts, picture.T), (field.tops, picture)):
        gradient = np.abs(np.diff(turned, axis=0)).mean(1)
        places = np.arange(1, len(turned))
        borders = np.isin(places, [edge * factor for start in starts for edge in (start, start + field.side)])
        lines = (places % factor == 0) & ~borders
        at_borders.append(gradient[borders])
        at_lines.append(gradient[lines])
        elsewhere.append(gradient[~borders])
    border, line, other = (_mean(parts) for parts in (at_borders, at_lines, elsewhere))
    return {"over all others": border / other, "over other lines of the decoder's grid": border / line}


def _mean(parts: list[NDArray[np.float32]]) -> float:
    return float(np.concatenate(parts).mean())


def memory() -> int:
    """Return the most memory that this process has had so far, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (1e6 if sys.platform == "darwin" else 1e3))


class Instant:
    """An engine whose models cost nothing: the picture is the input, each pixel of the latents as one."""

    def __init__(self, engine: Maker) -> None:
        self.engine, self.catalog, self.run = engine, engine.catalog, engine.run

    def windows(
        self, request: TextRequest | TranslationRequest, stop: threading.Event | None = None
    ) -> tuple[TextRequest | TranslationRequest, SceneModel]:
        """Return the real request, and a model of the same measures."""
        complete, model = self.engine.windows(request, stop)
        return complete, InstantModel(model)


class InstantModel:
    """Has the measures of a real one."""

    each = map

    def __init__(self, real: SceneModel) -> None:
        self.side, self.factor, self.channels, self.steps = real.side, real.factor, real.channels, real.steps
        self.model, self.versions = real.model, real.versions

    def begin(self, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """As a real one."""
        return noise

    def predict(
        self, latents: NDArray[np.float32], _step: int, pictures: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        """Return the colours of the input as latents."""
        if pictures is None:
            return latents
        shown = pictures[:, :: self.factor, :: self.factor].transpose(0, 3, 1, 2).astype(np.float32) / 255
        return np.resize(shown, latents.shape) if self.channels < 3 else np.concatenate([shown, latents[:, 3:]], 1)

    def advance(
        self, _latents: NDArray[np.float32], said: NDArray[np.float32], _step: int, _seed: int
    ) -> NDArray[np.float32]:
        """Return what was said."""
        return said

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the colours."""
        return latents[:, :3].transpose(0, 2, 3, 1).repeat(self.factor, 1).repeat(self.factor, 2)


if __name__ == "__main__":
    main()
