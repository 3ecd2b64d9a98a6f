"""From source folders to a data set: read, cut, standardise, draw weather, compose prompts, write (paper, section 3).

Work is divided into shards of neighbouring source pictures. What a shard must hold follows from its pictures and the
options alone, so that a build that was killed goes on with the shards that are missing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmmrs_demo.dataset import captions
from mmmrs_demo.dataset.manifest import Record, Shard, Skipped, read_shard, write_shard
from mmmrs_demo.dataset.pictures import opened
from mmmrs_demo.dataset.scenes import SCENES, Scene, load_translator
from mmmrs_demo.dataset.sources import Original, read_source
from mmmrs_demo.dataset.standardise import Cut, Upscaler, cuts, empty, load_upscaler, pyramid, resize
from mmmrs_demo.dataset.tiles import drawn_for_test
from mmmrs_demo.errors import UserError
from mmmrs_demo.prompt import Prompt, level_of

BICUBIC = "bicubic"
SHARD_BYTES = 32 * 2**20  # of source pictures: what a kill can lose at most, for each worker
SHARD_PICTURES = 256


@dataclass(frozen=True)
class Options:
    """What a data set is built with; it is written beside the shards, and a folder holds one kind only.

    Attributes:
        size: side of a tile in pixels; the paper's is 512.
        upscale: ``bicubic``, or the file of the super-resolution weights for what is smaller.
        weather: share of the clear RGB tiles that also appear once in snow, in fog or at night.
        seed: of all chance.
        translators: weather and the file of a learned translator that draws it instead of `scenes`.
    """

    size: int = 512
    upscale: str = BICUBIC
    weather: float = 0.1
    seed: int = 0
    translators: tuple[tuple[str, str], ...] = ()


class Progress(NamedTuple):
    """How far a build is.

    Attributes:
        done: source pictures finished, those of earlier runs among them.
        total: source pictures in all.
        tiles: tiles written, those of earlier runs among them.
        rate: tiles per second of this run.
        seconds_left: estimate, None before the first shard of this run.
        skipped: source pictures that could not be used.
    """

    done: int
    total: int
    tiles: int
    rate: float
    seconds_left: float | None
    skipped: int


def build(
    sources: Mapping[str, Path],
    out: Path,
    options: Options,
    *,
    workers: int,
    report: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Build the data set of `sources` in `out`, or what is missing of it.

    Args:
        sources: key of a source (`sources.SOURCES`) to its folder.
        out: folder of the shards.
        options: how tiles are made.
        workers: processes side by side; each holds one source picture and its tiles in memory.
        report: called after every shard.

    Raises:
        UserError: a source cannot be read, or `out` holds a data set built with other options.
    """
    _check(options)
    _claim(out, options)
    tally = _Tally(sum(1 for key, folder in sources.items() for _ in read_source(key, folder)))
    kept: set[Path] = set()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for finished in _shards(pool, sources, out, options, workers):
                kept.add(finished.file)
                report(tally.add(finished))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for key in sources:
        for stale in set(out.glob(f"{key}-*.parquet")) - kept:  # of pictures that have changed or are gone
            stale.unlink()


class _Finished(NamedTuple):
    file: Path
    pictures: int
    shard: Shard
    new: bool


def _shards(
    pool: ProcessPoolExecutor, sources: Mapping[str, Path], out: Path, options: Options, workers: int
) -> Iterator[_Finished]:
    """Yield every shard as soon as it is there; the list of pictures is read no faster than it is worked on."""
    running: dict[Future[Shard], tuple[Path, int]] = {}

    def collect() -> Iterator[_Finished]:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield _Finished(*running.pop(future), future.result(), new=True)

    for file, chunk in _chunks(sources, out, options):
        if file.is_file():
            yield _Finished(file, len(chunk), read_shard(file), new=False)
            continue
        running[pool.submit(_write, file, chunk, options)] = file, len(chunk)
        if len(running) >= 2 * workers:
            yield from collect()
    while running:
        yield from collect()


class _Tally:
    """Adds up what is finished."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.fresh, self.tiles, self.fresh_tiles, self.skipped = total, 0, 0, 0, 0, 0
        self.started = time.monotonic()

    def add(self, finished: _Finished) -> Progress:
        self.done += finished.pictures
        self.tiles += finished.shard.tiles
        self.skipped += len(finished.shard.skipped)
        if finished.new:
            self.fresh += finished.pictures
            self.fresh_tiles += finished.shard.tiles
        seconds = max(time.monotonic() - self.started, 1e-9)
        left = seconds / self.fresh * (self.total - self.done) if self.fresh else None
        return Progress(self.done, self.total, self.tiles, self.fresh_tiles / seconds, left, self.skipped)


def _check(options: Options) -> None:
    if options.size < 64 or options.size % 8:
        raise UserError(f"A tile's side is a multiple of 8 px from 64 on, not {options.size}.")
    if not 0 <= options.weather <= 1:
        raise UserError(f"The share of tiles with weather lies between 0 and 1, not at {options.weather}.")
    for weather, file in options.translators:
        if weather not in SCENES:
            raise UserError(f"There is no weather “{weather}” to draw; choose one of {', '.join(SCENES)}.")
        load_translator(Path(file))
    if options.upscale != BICUBIC:
        load_upscaler(Path(options.upscale))


def _claim(out: Path, options: Options) -> None:
    """Write the options beside the shards, or see that those that lie there are the same."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "options.json"
    told = _told(options)
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before != told:
            other = ", ".join(f"{k} {before.get(k)}" for k, v in told.items() if before.get(k) != v)
            raise UserError(f"{out} holds a data set built with {other}: build into another folder, or delete that.")
    else:
        file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _told(options: Options) -> dict[str, Any]:
    """Return the options as they are written down; where files of weights lie makes no difference."""
    translators = {weather: Path(translator).name for weather, translator in options.translators}
    return asdict(options) | {"upscale": _resampling(options), "translators": translators}


def _resampling(options: Options) -> str:
    return options.upscale if options.upscale == BICUBIC else Path(options.upscale).name


def _chunks(sources: Mapping[str, Path], out: Path, options: Options) -> Iterator[tuple[Path, list[Original]]]:
    """Yield the file of each shard and the source pictures that it holds."""
    for key, folder in sources.items():
        chunk: list[Original] = []
        weight = 0
        for original in read_source(key, folder):
            size = sum(_stamp(picture.file)[0] for picture in original.pictures.values())
            if chunk and (weight + size > SHARD_BYTES or len(chunk) == SHARD_PICTURES):
                yield out / f"{key}-{_digest(chunk, options)}.parquet", chunk
                chunk, weight = [], 0
            chunk.append(original)
            weight += size
        if chunk:
            yield out / f"{key}-{_digest(chunk, options)}.parquet", chunk


def _stamp(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0  # the reader says what is wrong with it
    return found.st_size, found.st_mtime_ns


def _digest(chunk: list[Original], options: Options) -> str:
    told = [(original.key, *(_stamp(p.file) for p in original.pictures.values())) for original in chunk]
    return hashlib.sha256(json.dumps([_told(options), told]).encode()).hexdigest()[:16]


def _write(file: Path, chunk: list[Original], options: Options) -> Shard:
    """Make one shard; runs in a worker."""
    return write_shard(file, (_tiles_or_reason(original, options) for original in chunk))


def _tiles_or_reason(original: Original, options: Options) -> list[Record] | Skipped:
    try:
        return tiles(original, options, _upscaler(options.upscale))
    except UserError as error:
        return Skipped(original.source, original.key, str(error))


@cache
def _translator(file: str) -> Scene:
    return load_translator(Path(file))


@cache
def _upscaler(upscale: str) -> Upscaler | None:
    return None if upscale == BICUBIC else load_upscaler(Path(upscale))


def tiles(original: Original, options: Options, upscaler: Upscaler | None) -> list[Record]:
    """Return all tiles of one source picture: every cut in every modality, some again under weather.

    Raises:
        UserError: a picture cannot be read, or its modalities do not lie on the same pixels.
    """
    rng = np.random.default_rng(_number(options.seed, original.source, original.key))
    records: list[Record] = []
    with ExitStack() as stack:
        readings = {m: stack.enter_context(opened(p.file, p.bands)) for m, p in original.pictures.items()}
        sizes = {(reading.width, reading.height) for reading in readings.values()}
        if len(sizes) > 1:
            shown = " and ".join(f"{width} × {height}" for width, height in sorted(sizes))
            raise UserError(f"The modalities of {original.key} have {shown} px; they must lie on the same pixels.")
        ((width, height),) = sizes
        chosen = cuts(width, height, original.gsd, options.size)
        chosen += pyramid(width, height, original.gsd, options.size, rng)
        for cut in dict.fromkeys(chosen):
            squares = {m: reading.read(cut) for m, reading in readings.items()}
            if not any(empty(square) for square in squares.values()):
                records += _records(original, cut, squares, options, upscaler, rng)
    return records


def _records(
    original: Original,
    cut: Cut,
    squares: Mapping[str, NDArray[np.uint8]],
    options: Options,
    upscaler: Upscaler | None,
    rng: np.random.Generator,
) -> Iterator[Record]:
    caption = _caption(original, squares, rng)
    held_out = drawn_for_test(original.place) if original.held_out is None else original.held_out
    used = _resampling(options) if cut.side < options.size else BICUBIC if cut.side > options.size else "none"

    def record(modality: str, image: NDArray[np.uint8], weather: str | None, by: str | None = None) -> Record:
        satellite = original.pictures[modality].satellite
        prompt = Prompt(gsd=level_of(cut.gsd).key, weather=weather, caption=caption, satellite=satellite)
        pair = f"{original.source}-{original.key}-{cut.name}"
        whence = (original.source, original.category, original.place, original.licence)
        return Record(
            image, prompt, modality, pair, cut.gsd, *whence, "test" if held_out else "train", used, weather_by=by
        )

    for modality, square in squares.items():
        image = resize(_bands(square, modality), options.size, upscaler)
        yield record(modality, image, original.weather if modality == "rgb" else None)
        if modality == "rgb" and original.weather is None and rng.random() < options.weather:
            weather = str(rng.choice(list(SCENES)))
            translator = dict(options.translators).get(weather)
            scene = SCENES[weather] if translator is None else _translator(translator)
            drawn = (scene(image.astype(np.float32) / 255, rng) * 255).round().astype(np.uint8)
            yield record(modality, drawn, weather, "synthesis" if translator is None else Path(translator).name)


def _bands(square: NDArray[np.uint8], modality: str) -> NDArray[np.uint8]:
    """Three bands for RGB, one for everything else."""
    if modality == "rgb":
        return square if square.ndim == 3 else np.repeat(square[..., None], 3, 2)
    return square if square.ndim == 2 else np.ascontiguousarray(square[..., 0])


def _caption(original: Original, squares: Mapping[str, NDArray[np.uint8]], rng: np.random.Generator) -> str:
    """What the annotation says and what can be measured, in the form of the paper's captions."""
    if not original.scenes:
        return "a satellite image"
    patterns: tuple[str, ...] = ()
    if original.town is not None and {"rgb", "nir"} <= squares.keys():
        patterns = captions.measured(squares["rgb"], _bands(squares["nir"], "nir"), town=original.town)
    return captions.draw(original.scenes, patterns, rng)


def _number(*words: object) -> int:
    """A number below 2**64 that follows from `words` alone."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, words)).encode()).digest()[:8], "big")
