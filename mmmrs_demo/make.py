"""A request becomes a finished file: what is small in one piece, what is large as a scene that a kill does not undo.

Every door that takes or gives files comes through here. Knows no page, and models only as `Maker` shows them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window

from mmmrs_demo import worldfile
from mmmrs_demo.catalog import Bundle, drawn_seed
from mmmrs_demo.errors import UserError
from mmmrs_demo.files import free_place, whole
from mmmrs_demo.inputs import open_source
from mmmrs_demo.maker import Maker
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.outputs import PNG, PNGWriter, mean_and_spread, spread_file
from mmmrs_demo.provenance import file_name, save_png
from mmmrs_demo.radiometry import Quantity
from mmmrs_demo.raster import MAX_ASPECT, read_size
from mmmrs_demo.request import Rendering, Step, TextRequest, TranslationRequest
from mmmrs_demo.scene import Progress
from mmmrs_demo.scene_file import SceneFile
from mmmrs_demo.settings import Settings


@dataclass(frozen=True)
class Done:
    """A finished file.

    Attributes:
        path: Where it is.
        request: The complete request that it carries.
        seconds: Time of this run, with loading; of a scene that was taken up again, only since then.
        windows: Windows of the scene; 0 for what was made in one piece.
        notes: What was assumed on the way, a sentence each: bands, display range, coordinate reference system.
        spread: Where the spread of samples is, if it has a file of its own.
    """

    path: Path
    request: TextRequest | TranslationRequest
    seconds: float
    windows: int
    notes: tuple[str, ...] = ()
    spread: Path | None = None


class Sampled(NamedTuple):
    """What became of the samples of a request.

    Attributes:
        rendering: Their mean in whole levels, and the request for all of them.
        mean: The same before rounding, in levels of shape (height, width, 3) for RGB and (height, width) for SAR and
            NIR.
        spread: How far they lie apart: their standard deviation in levels, as a mean over bands, of shape (height,
            width); None of a single one.
    """

    rendering: Rendering
    mean: NDArray[np.float32]
    spread: NDArray[np.float32] | None


def translate_file(  # noqa: PLR0913 - what a person may say of a file, and whoever waits for it
    engine: Maker,
    request: TranslationRequest,
    file: Path,
    out: Path,
    settings: Settings,
    *,
    bands: Collection[int] | None = None,
    quantity: Quantity | None = None,
    units: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_step: Callable[[Step], None] | None = None,
    stop: threading.Event | None = None,
) -> Done:
    """Translate a file of any size.

    A GeoTIFF or JPEG 2000 becomes a cloud-optimised GeoTIFF of the same size, grid and nodata, or a PNG where `out`
    says so; a picture becomes a PNG. Both carry their request, and a PNG gets a world file where the place is known.

    Of several samples the result is the mean. How far they lie apart is the last band of a GeoTIFF, and a PNG of its
    own beside a PNG: see `outputs.spread_file`.

    What is larger than the bundle's `piece` is a scene: done window by window in constant memory. Until it is finished
    a hidden folder beside the output keeps what is done; after a stop or a kill the same call goes on there, with the
    same seed where one was drawn, and gives the same pixels. Everything else is made by ``engine.run``.

    The hash of the input in the request is that of mode, size and pixels as models see them, so that it holds for
    bands and display range too; a scene has the one that it would have in one piece.

    Args:
        engine: Makes the picture.
        request: What to make; what it leaves out is filled in.
        file: The input.
        out: Where the result goes, or a folder in which it is named after the request.
        settings: Limits, and the bundle where the request names none.
        bands: Numbers of the bands to read, where a person chose.
        quantity: What the samples of a SAR band are, where a person knows better.
        units: Write physical units instead of grey values.
        overwrite: A file that is there may be replaced.
        on_progress: Told how far a scene is.
        on_step: Told how far anything else is.
        stop: Once set, ends the run within a step or a batch of windows.

    Raises:
        Stopped: `stop` was set.
        UserError: One sentence on what cannot be read, made or written.
    """
    began = time.perf_counter()
    translation = TRANSLATIONS[request.translation]
    bundle = engine.catalog.bundle(request.bundle or settings.bundle)
    with open_source(file, translation.source, settings, bands, quantity) as source:
        suffix = source.suffixes[0] if out.is_dir() else out.suffix.lower()
        several = request.samples > 1
        writer = source.writer(suffix, translation.target, units=units, spread=several)

        def place(name: str) -> Path:
            path = free_place(out, name + suffix, source.suffixes, overwrite=overwrite)
            if several and suffix == PNG:
                free_place(spread_file(path), "", (PNG,), overwrite=overwrite)
            return path

        if not out.is_dir():
            place("")  # before anything is loaded
        if in_windows(source.size, bundle):
            job = SceneFile(source.size, source, translation.target, source.details, out, place, writer)
            request = request.model_copy(update={"source_sha256": source.digest(stop)})
            path, complete, windows = job.make(engine, request, on_progress, stop)
        else:
            complete = bundle.complete(request)
            path, windows = place(file_name(complete, "")), 0
            tile, valid = source.tile()
            with writer(path) as output:
                made, mean, spread = sampled(engine, complete, tile, on_step, stop)
                shown = mean / np.float32(255) if units else np.asarray(made.image)
                output.write(Window(0, 0, *source.size), shown, valid, spread)
                output.truth = made.model_copy(update={"details": {**source.details, **made.details}})
            complete = made.request
        apart = spread_file(path) if several and suffix == PNG else None
        if suffix == PNG and source.transform is not None:
            for picture in (path, apart) if apart else (path,):
                worldfile.write(picture, source.transform)
        notes = source.notes(suffix, translation.target, units=units)
    return Done(path, complete, time.perf_counter() - began, windows, notes, apart)


def sampled(
    engine: Maker,
    request: TranslationRequest,
    image: Image.Image,
    on_step: Callable[[Step], None] | None = None,
    stop: threading.Event | None = None,
) -> Sampled:
    """Translate a picture in one piece, as often as the request has samples, each with the next seed.

    Args:
        engine: Makes each of them.
        request: What to make; what it leaves out is the same for all, and a seed that it leaves out is drawn once.
        image: The input.
        on_step: Told how far all of them together are.
        stop: Once set, ends the run within a step.

    Raises:
        Stopped: `stop` was set.
        UserError: As ``engine.run``.
    """
    first = drawn_seed() if request.seed is None else request.seed
    seeds = range(first, first + request.samples)
    one_each = [request.model_copy(update={"seed": seed, "samples": 1}) for seed in seeds]
    made = engine.run_all(one_each, image, on_step, stop)
    if len(made) == 1:
        return Sampled(made[0], np.asarray(made[0].image, np.float32), None)
    mean, spread = mean_and_spread(np.stack([np.asarray(one.image, np.float32) for one in made]))
    whole = made[0].model_copy(
        update={
            "image": Image.fromarray((mean + 0.5).astype(np.uint8)),
            "request": made[0].request.model_copy(update={"samples": request.samples}),
            "seconds": sum(one.seconds for one in made),
        }
    )
    return Sampled(whole, mean, spread)


def generate_file(  # noqa: PLR0913 - as above
    engine: Maker,
    request: TextRequest,
    out: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_step: Callable[[Step], None] | None = None,
    stop: threading.Event | None = None,
) -> Done:
    """Make a picture from words and save it as a PNG; one larger than the bundle's `piece` as a scene.

    Args, and what it raises: as `translate_file`.
    """
    began = time.perf_counter()
    bundle = engine.catalog.bundle(request.bundle or settings.bundle)
    complete = bundle.complete(request)
    size = complete.width or 0, complete.height or 0
    if max(size) <= bundle.piece:
        return generate_files(engine, [complete], out, overwrite=overwrite, on_step=on_step, stop=stop)[0]

    def place(name: str) -> Path:
        return _picture_place(out, name, overwrite=overwrite)

    if not out.is_dir():
        place("")
    sized = request.model_copy(update={"width": size[0], "height": size[1]})
    job = SceneFile(size, None, Modality.RGB, {}, out, place, lambda path: PNGWriter(path, size, Modality.RGB))
    path, made, windows = job.make(engine, sized, on_progress, stop)
    return Done(path, made, time.perf_counter() - began, windows)


def generate_files(
    engine: Maker,
    requests: Sequence[TextRequest],
    out: Path,
    *,
    overwrite: bool = False,
    on_step: Callable[[Step], None] | None = None,
    stop: threading.Event | None = None,
) -> list[Done]:
    """Make pictures from words, each in one piece, and save each as a PNG.

    Args:
        engine: Makes them, in one batch where that is faster.
        requests: Complete ones.
        out: Where the only one goes, or a folder in which each is named after its request.
        overwrite: Files that are there may be replaced.
        on_step: Told how far all of them together are.
        stop: Once set, ends the run within a step.

    Raises:
        Stopped: `stop` was set.
        UserError: One sentence on what cannot be made or written.
    """
    paths = [_picture_place(out, file_name(request, ""), overwrite=overwrite) for request in requests]
    done = []
    for path, rendering in zip(paths, engine.run_all(requests, None, on_step, stop), strict=True):
        with whole(path) as file:
            save_png(rendering, file)
        done.append(Done(path, rendering.request, rendering.seconds, 0))
    return done


def _picture_place(out: Path, name: str, *, overwrite: bool) -> Path:
    return free_place(out, name + PNG, (PNG,), overwrite=overwrite)


def in_windows(size: tuple[int, int], bundle: Bundle) -> bool:
    """Whether a picture to be translated is too large, or too long, to be made in one piece."""
    return max(size) > bundle.piece or max(size) > MAX_ASPECT * min(size)


def is_scene(file: Path, bundle: Bundle, settings: Settings) -> bool:
    """Whether a file is too large, or too long, to be translated in one piece; what cannot be read is not."""
    try:
        return in_windows(read_size(file, settings), bundle)
    except UserError:
        return False
