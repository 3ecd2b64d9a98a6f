"""How long a large scene takes, in how much memory, and whether windows can be seen: ``python -m benchmarks.scenes``.

With ``--instant`` a model that costs nothing takes the place of the real one. What is left is reading, blending and
writing, and the memory of a scene of any size can be measured in minutes. With ``--kill`` the same scene is made once
more by a process that is killed when half of the windows are done, and by another that goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine
from rasterio.windows import Window

from benchmarks.speed import machine
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.engine import Engine
from mmmrs_demo.make import translate_file
from mmmrs_demo.maker import Maker, SceneModel
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.request import TextRequest, TranslationRequest
from mmmrs_demo.scene import BATCH, Field, Progress
from mmmrs_demo.settings import Settings

SEED = 7
ROWS = 500  # of the input that are drawn at once
FIELD = 23  # pixels along one side of a field; no multiple of what latents or windows measure
REPEATS = 3


def main() -> None:
    """Measure, print, and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1536, help="width of the scene, in pixels")
    parser.add_argument("--height", type=int, help="in pixels (default: as the width)")
    parser.add_argument("--translation", choices=TRANSLATIONS, default="rgb2nir")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the bundle's)")
    parser.add_argument("--bundle", default=Settings().bundle)
    parser.add_argument("--instant", action="store_true", help="with a model that costs nothing")
    parser.add_argument("--kill", action="store_true", help="make it once more, killed midway")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scenes.json"))
    arguments = parser.parse_args()

    size = arguments.side, arguments.height or arguments.side
    engine, request, settings = made_for(arguments)
    _, model = engine.windows(request)
    field = Field.of(*size, model)
    begun = memory()
    spent = [] if arguments.instant else [window_seconds(model)]
    with tempfile.TemporaryDirectory() as folder:
        ground = Path(folder, "ground.tif")
        draw(ground, size)
        start = time.perf_counter()
        done = translate_file(engine, request, ground, Path(folder, "scene.tif"), settings, on_progress=say)
        seconds = time.perf_counter() - start
        most = memory()
        if spent:  # the machine may have been slower, or faster, at the end
            spent.append(window_seconds(model))
        seams = None if arguments.instant else seams_of(done.path, field, model.factor)
        megabytes = done.path.stat().st_size / 1e6
        killed = kill_and_go_on(arguments, ground, done.path) if arguments.kill else None
    step, decoding = np.mean(spent, axis=0).tolist() if spent else (0.0, 0.0)
    models = field.windows * (model.steps * step + decoding)
    report = {
        "bundle": arguments.bundle,
        "instant": arguments.instant,
        "translation": request.translation,
        "size": size,
        "steps": model.steps,
        "windows": field.windows,
        "batch": BATCH,
        "seconds": seconds,
        "seconds of one window in a batch": {"step": step, "decoding": decoding, "before and after": spent},
        "times what the models alone would take": seconds / models if models else None,
        "peak memory in MB": {"before": begun, "at the end": most},
        "size of the result in MB": megabytes,
        "gradient at borders of windows, beside other pixels": seams,
        "killed midway": killed,
        "machine": machine(),
    }
    for name, fact in report.items():
        print(f"{name}: {fact}")
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def made_for(arguments: argparse.Namespace) -> tuple[Maker, TranslationRequest, Settings]:
    """Return what makes the scene, what is asked of it, and its limits."""
    settings = Settings(bundle=arguments.bundle)
    engine: Maker = Engine(Catalog.load(settings.weights), settings)
    request = TranslationRequest(translation=arguments.translation, steps=arguments.steps, seed=SEED)
    return Instant(engine) if arguments.instant else engine, request, settings


def say(progress: Progress) -> None:
    """Show how far it is, on one line that is written over."""
    left = "" if progress.seconds_left is None else f", {progress.seconds_left / 60:.0f} min left "
    end = "\n" if progress.done == progress.total else ""
    print(f"\r{progress.done:,} of {progress.total:,} windows{left}", end=end, flush=True)


def kill_and_go_on(arguments: argparse.Namespace, ground: Path, whole: Path) -> dict[str, Any]:
    """Make the scene in a process that is killed midway, then in one that goes on, and compare it with the whole one.

    Returns:
        Of both processes the exit status, the seconds, and how much was done when they first said so; and whether
        pixels and place are those of the scene that was made without a break.
    """
    out = ground.with_name("killed.tif")
    fresh = multiprocessing.get_context("spawn")
    told = fresh.Queue()
    notes: list[dict[str, float]] = []
    for stop_at in (0.5, None):
        start = time.perf_counter()
        child = fresh.Process(target=_make, args=(arguments, ground, out, stop_at, told), daemon=True)
        child.start()
        child.join()
        notes.append({"exit": child.exitcode or 0, "seconds": time.perf_counter() - start, "first seen": told.get()})
    with rasterio.open(whole) as one, rasterio.open(out) as other:
        blocks = [window for _, window in one.block_windows(1)]
        same = all(np.array_equal(one.read(window=block), other.read(window=block)) for block in blocks)
        same = same and (one.transform, one.crs) == (other.transform, other.crs)
    return {"killed": notes[0], "went on": notes[1], "the same as without a break": same}


def _make(arguments: argparse.Namespace, ground: Path, out: Path, stop_at: float | None, told: Queue[float]) -> None:
    engine, request, settings = made_for(arguments)
    heard: list[float] = []

    def on_progress(progress: Progress) -> None:
        share = progress.done / progress.total
        if not heard:
            heard.append(share)
            told.put(share)
        say(progress)
        if stop_at is not None and share >= stop_at:
            told.close()
            told.join_thread()  # hands over what it was told
            os.kill(os.getpid(), signal.SIGKILL)

    translate_file(engine, request, ground, out, settings, on_progress=on_progress)


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


def draw(file: Path, size: tuple[int, int]) -> None:
    """Write a GeoTIFF of made-up fields, a strip of rows at a time."""
    rng = np.random.default_rng(SEED)
    width, height = size
    fields = rng.integers(40, 200, (-(-height // FIELD) + 2, -(-width // FIELD) + 2, 3), np.uint8)
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    with rasterio.open(
        file, "w", "GTiff", width, height, 3, "EPSG:32633", place, "uint8", tiled=True, compress="DEFLATE"
    ) as raster:
        for top in range(0, height, ROWS):
            rows = min(ROWS, height - top)
            first, last = top // FIELD, (top + rows) // FIELD + 2
            strip = Image.fromarray(fields[first:last])
            strip = strip.resize((strip.width * FIELD, strip.height * FIELD), Image.Resampling.BICUBIC)
            begin = top - first * FIELD
            part = np.asarray(strip)[begin : begin + rows, :width].astype(np.int16)
            part = np.clip(part + rng.integers(-8, 9, part.shape, np.int16), 1, 255).astype(np.uint8)
            raster.write(part.transpose(2, 0, 1), window=Window(0, top, width, rows))


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
        self.engine, self.catalog = engine, engine.catalog
        self.run, self.run_all = engine.run, engine.run_all

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
