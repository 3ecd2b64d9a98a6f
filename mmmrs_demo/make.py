"""A request becomes a finished file: what is small in one piece, what is large as a scene that a kill does not undo.

Which reader and which writer a file needs, what the result says of itself, and what lies beside it while it is made:
every door that takes or gives files comes through here. Knows no page, and models only as `Maker` shows them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window

from mmmrs_demo import scene, worldfile
from mmmrs_demo.bands import BandChoice
from mmmrs_demo.catalog import Bundle, Catalog
from mmmrs_demo.errors import UserError, heed
from mmmrs_demo.files import called, free_place, opened, whole
from mmmrs_demo.georaster import Raster, is_raster, open_raster
from mmmrs_demo.geotiff import SPREAD, GeoTIFFWriter
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.provenance import Provenance, file_name, save_png
from mmmrs_demo.radiometry import Quantity, Stretch, output_stretch
from mmmrs_demo.raster import MAX_ASPECT, check_smallest, read_size, read_tile
from mmmrs_demo.request import REQUEST, Rendering, Step, TextRequest, TranslationRequest
from mmmrs_demo.scene import Field, Progress, Windows
from mmmrs_demo.settings import Settings

PNG, GEOTIFF = ".png", (".tif", ".tiff")

_AnyRequest = TextRequest | TranslationRequest
_MAX_SIDE = 100_000  # pixels of a scene: a row of windows is in memory
_ROWS = 256  # of a raster that are read at once
_WORK = ".mmmrs-"  # begins the name of a hidden folder with what is done of a scene


class SceneModel(Windows, Protocol):
    """A model that looks through windows, and says what a rendering says of it."""

    model: dict[str, Any]
    versions: dict[str, str]


class Maker(Protocol):
    """What is needed of an engine; `engine.Engine` is one."""

    catalog: Catalog

    def run(
        self,
        request: TextRequest | TranslationRequest,
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Rendering:
        """Make a picture in one piece."""

    def windows(
        self, request: TextRequest | TranslationRequest, stop: threading.Event | None = None
    ) -> tuple[TextRequest | TranslationRequest, SceneModel]:
        """Return the complete request, and what looks through the windows of a scene for it."""


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
    own beside a PNG: see `spread_file`.

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
    with _source(file, translation.source, settings, bands, quantity) as source:
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
            job = _Scene(source.size, source, translation.target, source.details, out, place, writer)
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
                output.truth = made.model_copy(update={"details": source.details})
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
    made: list[Rendering] = []

    def tell(step: Step) -> None:
        done, total = len(made) * step.total, request.samples * step.total
        before = sum(one.seconds for one in made)
        if on_step:
            on_step(Step(done + step.index, total, step.preview, before + step.seconds, request.samples))

    for index in range(request.samples):
        first = made[0].request if made else request
        seed = None if first.seed is None else first.seed + index
        made.append(engine.run(first.model_copy(update={"seed": seed, "samples": 1}), image, on_step and tell, stop))
    if len(made) == 1:
        return Sampled(made[0], np.asarray(made[0].image, np.float32), None)
    mean, spread = _together(np.stack([np.asarray(one.image, np.float32) for one in made]))
    whole = made[0].model_copy(
        update={
            "image": Image.fromarray((mean + 0.5).astype(np.uint8)),
            "request": made[0].request.model_copy(update={"samples": request.samples}),
            "seconds": sum(one.seconds for one in made),
        }
    )
    return Sampled(whole, mean, spread)


def _together(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return mean and spread of samples of shape (samples, height, width) or (samples, height, width, 3)."""
    if len(samples) == 1:
        return samples[0], None
    spread = samples.std(axis=0, ddof=1)
    return samples.mean(axis=0), spread if spread.ndim == 2 else spread.mean(axis=2)


def spread_file(path: Path) -> Path:
    """Return where the spread of samples lies beside their mean, a PNG."""
    return path.with_name(f"{path.stem}_{SPREAD}{path.suffix}")


def spread_picture(mean: Rendering, spread: NDArray[np.float32]) -> Rendering:
    """Return the spread of samples as a grey picture in levels, which says the same of itself as their mean.

    Args:
        mean: The mean.
        spread: In levels, shape (height, width).
    """
    details = {**mean.details, SPREAD: "standard deviation of the samples, in grey levels"}
    return mean.model_copy(update={"image": Image.fromarray((spread + 0.5).astype(np.uint8)), "details": details})


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

    def place(name: str) -> Path:
        return free_place(out, name + PNG, (PNG,), overwrite=overwrite)

    if not out.is_dir():
        place("")
    if max(size) > bundle.piece:
        sized = request.model_copy(update={"width": size[0], "height": size[1]})
        job = _Scene(size, None, Modality.RGB, {}, out, place, lambda path: _PNGWriter(path, size, Modality.RGB))
        path, made, windows = job.make(engine, sized, on_progress, stop)
        return Done(path, made, time.perf_counter() - began, windows)
    path = place(file_name(complete, ""))
    rendering = engine.run(complete, None, on_step, stop)
    with whole(path) as file:
        save_png(rendering, file)
    return Done(path, rendering.request, time.perf_counter() - began, 0)


def suffix_of(file: Path) -> str:
    """Return what the result of a file's translation ends with, by what is in the file.

    Raises:
        UserError: It cannot be opened.
    """
    with opened(file, called(file)) as stream:
        return GEOTIFF[0] if is_raster(stream.read(16)) else PNG


def in_windows(size: tuple[int, int], bundle: Bundle) -> bool:
    """Whether a picture to be translated is too large, or too long, to be made in one piece."""
    return max(size) > bundle.piece or max(size) > MAX_ASPECT * min(size)


def is_scene(file: Path, bundle: Bundle, settings: Settings) -> bool:
    """Whether a file is too large, or too long, to be translated in one piece; what cannot be read is not."""
    try:
        return in_windows(read_size(file, settings), bundle)
    except UserError:
        return False


def unfinished(folder: Path) -> bool:
    """Whether a scene was begun in a folder, or in one inside it, and can be gone on with."""
    return any(map(_begun, folder.rglob(f"{_WORK}*")))


# --- inputs -----------------------------------------------------------------------------------------------------------


class _Output(Protocol):
    """What is written to; a context manager that finishes the file, or leaves nothing after an error."""

    truth: Rendering | Provenance | None

    def write(
        self,
        window: Window,
        picture: NDArray[Any],
        valid: NDArray[np.bool_] | None = None,
        spread: NDArray[np.float32] | None = None,
    ) -> None: ...


_Writer = Callable[[Path], AbstractContextManager[_Output]]


class _Source(Protocol):
    """An input of either kind; also a source of windows as `scene.render` wants it.

    Attributes:
        size: Width and height in pixels.
        suffixes: What its result may end with, the usual one first.
        transform: From (column, row) to coordinates, where a world file can say it; None where there is none.
        details: What a result says of how it was read.
    """

    size: tuple[int, int]
    suffixes: tuple[str, ...]
    transform: Affine | None
    details: dict[str, Any]

    def tile(self) -> tuple[Image.Image, NDArray[np.bool_] | None]:
        """Return all of it as models see it, and where it is valid."""

    def read(self, x: int, y: int, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return a window."""

    def digest(self, stop: threading.Event | None) -> str:
        """Return the SHA-256 of mode, size and pixels as models see them, as ``Engine.run`` does."""

    def writer(self, suffix: str, target: Modality, *, units: bool, spread: bool) -> _Writer:
        """Return what writes a result of that kind; raises UserError where there can be none."""

    def notes(self, suffix: str, target: Modality, *, units: bool) -> tuple[str, ...]:
        """Return what was assumed, a sentence each."""


@contextmanager
def _source(
    file: Path, modality: Modality, settings: Settings, bands: Collection[int] | None, quantity: Quantity | None
) -> Iterator[_Source]:
    if suffix_of(file) in GEOTIFF:
        with open_raster(file, settings) as raster:
            check_smallest(raster.size, raster.who)
            if max(raster.size) > _MAX_SIDE:
                raise UserError(f"{raster.who} has a side of more than {_MAX_SIDE:,} px: cut it in pieces.")
            choice = raster.choose(modality, bands)
            yield _RasterSource(raster, choice, raster.stretch(choice, quantity), settings)
        return
    who = called(file)
    image = read_tile(file, modality, settings, bands=bands, slim=True)
    if quantity is not None:
        raise UserError(f"{who} is no GeoTIFF or JPEG 2000, whose samples could be {quantity}: leave that out.")
    yield _PictureSource(image, who, worldfile.read(file))


class _PictureSource:
    """A decoded picture."""

    suffixes: tuple[str, ...] = (PNG,)

    def __init__(self, image: Image.Image, who: str, transform: Affine | None) -> None:
        self.image, self.who, self.transform = image, who, transform
        self.size = image.size
        self.details: dict[str, Any] = {}

    def tile(self) -> tuple[Image.Image, None]:
        return self.image, None

    def read(self, x: int, y: int, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        part = self.image.crop((x, y, x + width, y + height)).convert("RGB")
        return np.asarray(part), np.ones((height, width), bool)

    def digest(self, _: threading.Event | None) -> str:
        return _Digest(self.image.mode, self.size).add(self.image).hex

    def writer(self, suffix: str, target: Modality, *, units: bool, spread: bool) -> _Writer:
        if suffix in GEOTIFF:
            raise UserError(
                f"{self.who} is a picture without the coordinate reference system that a GeoTIFF needs: give its "
                "result a name that ends in .png."
            )
        if units:
            raise UserError(f"{self.who} is a picture, whose result is a PNG of grey values: leave the units out.")
        return lambda path: _PNGWriter(path, self.size, target, spread=spread)

    def notes(self, _suffix: str, _target: Modality, *, units: bool) -> tuple[str, ...]:  # noqa: ARG002 - as its face
        return () if self.transform is None else ("The world file beside the picture was taken over.",)


class _RasterSource:
    """An open raster, read in parts."""

    suffixes: tuple[str, ...] = (*GEOTIFF, PNG)

    def __init__(self, raster: Raster, choice: BandChoice, stretch: Stretch, settings: Settings) -> None:
        self.raster, self.choice, self.stretch, self.settings = raster, choice, stretch, settings
        self.size = raster.size
        self.transform = None if raster.transform.is_identity or raster.gcps else raster.transform
        self.details = {"bands": list(choice.numbers), "stretch": stretch.to_dict()}

    def tile(self) -> tuple[Image.Image, NDArray[np.bool_]]:
        return self.raster.tile(self.choice, self.stretch)

    def read(self, x: int, y: int, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        picture, valid = self.raster.tile(self.choice, self.stretch, Window(x, y, width, height))
        return np.asarray(picture.convert("RGB")), valid

    def digest(self, stop: threading.Event | None) -> str:
        width, height = self.size
        digest = _Digest(self.choice.modality.mode, self.size)
        for top in range(0, height, _ROWS):
            heed(stop)
            rows = min(_ROWS, height - top)
            digest.add(self.raster.tile(self.choice, self.stretch, Window(0, top, width, rows))[0])
        return digest.hex

    def writer(self, suffix: str, target: Modality, *, units: bool, spread: bool) -> _Writer:
        if suffix != PNG:

            def write_to(path: Path) -> GeoTIFFWriter:
                return GeoTIFFWriter(path, self.raster, target, source=self.stretch, units=units, spread=spread)

            write_to(Path())  # refuses units that there are not, before anything is made
            return write_to
        if units:
            raise UserError("A PNG holds grey values and no units: give the result a name that ends in .tif.")
        width, height = self.size
        if max(self.size) > self.settings.max_side or width * height > self.settings.max_pixels:
            raise UserError(
                f"{self.raster.who} is {width:,} by {height:,} px, too large for a PNG: give the result a name that "
                "ends in .tif."
            )
        return lambda path: _PNGWriter(path, self.size, target, spread=spread)

    def notes(self, suffix: str, target: Modality, *, units: bool) -> tuple[str, ...]:
        output = output_stretch(self.stretch, target) if units else None
        return (
            self.choice.grounds,
            self.stretch.sentence,
            *self.raster.notes,
            *((output.sentence,) if output else ()),
            *(("A PNG keeps neither nodata nor the coordinate reference system.",) if suffix == PNG else ()),
        )


class _Digest:
    """The hash that the engine gives a picture, of a picture that comes in parts."""

    def __init__(self, mode: str, size: tuple[int, int]) -> None:
        self._hash = hashlib.sha256(f"{mode} {size[0]} {size[1]} ".encode())

    def add(self, rows: Image.Image) -> Self:
        self._hash.update(rows.tobytes())
        return self

    @property
    def hex(self) -> str:
        return self._hash.hexdigest()


# --- outputs ----------------------------------------------------------------------------------------------------------


class _PNGWriter:
    """Writes a PNG, and one of a spread, with the face of a `GeoTIFFWriter`; in memory. What is not valid is black."""

    def __init__(self, path: Path, size: tuple[int, int], modality: Modality, *, spread: bool = False) -> None:
        self.truth: Rendering | Provenance | None = None
        self._path = path
        shape = size[1], size[0]
        self._pixels = np.zeros((*shape, 3) if modality is Modality.RGB else shape, np.uint8)
        self._spread = np.zeros(shape, np.float32) if spread else None

    def __enter__(self) -> Self:
        return self

    def write(
        self,
        window: Window,
        picture: NDArray[Any],
        valid: NDArray[np.bool_] | None = None,
        spread: NDArray[np.float32] | None = None,
    ) -> None:
        if picture.dtype != np.uint8:
            picture = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
        for pixels, written in ((self._pixels, picture), (self._spread, spread)):
            if pixels is not None and written is not None:
                part = pixels[window.toslices()]
                part[...] = written
                if valid is not None:
                    part[~valid] = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self.truth is not None:
            facts = {name: getattr(self.truth, name) for name in Provenance.model_fields}
            created = self.truth.created
            facts |= {"created": created if isinstance(created, str) else created.isoformat(timespec="seconds")}
            rendering = Rendering(image=Image.fromarray(self._pixels), seconds=0, **facts)
            if self._spread is not None:
                with whole(spread_file(self._path)) as file:
                    save_png(spread_picture(rendering, self._spread), file)
            with whole(self._path) as file:
                save_png(rendering, file)


# --- scenes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scene:
    """A scene to be made.

    Attributes:
        size: Width and height in pixels.
        source: The input, None for words.
        modality: What it shows.
        details: What the result says of how its input was read.
        out: Its file, or a folder.
        place: Gives the path for a name without its suffix.
        writer: Opens the output at a path.
    """

    size: tuple[int, int]
    source: _Source | None
    modality: Modality
    details: Mapping[str, Any]
    out: Path
    place: Callable[[str], Path]
    writer: _Writer

    def make(
        self,
        engine: Maker,
        request: _AnyRequest,
        on_progress: Callable[[Progress], None],
        stop: threading.Event | None,
    ) -> tuple[Path, _AnyRequest, int]:
        """Make it, or go on with it, and return path, complete request and number of windows."""
        complete, model = engine.windows(request, stop)
        field = Field.of(*self.size, model, words=self.source is None)
        windows = {"count": field.windows, "side": model.side, "overlap": field.overlap * model.factor}
        meant = complete.model_dump(mode="json") | {"seed": request.seed}  # a drawn one does not tell two scenes apart
        key = {"request": meant, "size": self.size, "windows": windows, "model": model.model, "by": model.versions}
        folder, name = (self.out, "") if self.out.is_dir() else (self.out.parent, self.out.name)
        with _kept(folder, name, key) as work:
            complete = _remembered(work, complete)
            path = self.place(file_name(complete, ""))
            with self.writer(work / path.name) as output:
                for top, picture, spread, valid in self._rows(model, complete, work, on_progress, stop):
                    output.write(Window(0, top, self.size[0], len(picture)), picture, valid, spread)
                output.truth = Provenance(
                    request=complete,
                    modality=self.modality,
                    model=model.model,
                    versions=model.versions,
                    created=datetime.now(UTC).replace(microsecond=0),
                    details={**self.details, "windows": windows},
                    synthetic=True,
                )
            for made in (spread_file(path), path):
                if (work / made.name).exists():
                    (work / made.name).replace(made)
        return path, complete, field.windows

    def _rows(
        self,
        model: SceneModel,
        request: _AnyRequest,
        work: Path,
        on_progress: Callable[[Progress], None],
        stop: threading.Event | None,
    ) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.bool_]]]:
        """Yield first row, mean in 0..1, spread in levels, and where they are valid, from the top to the bottom.

        Samples are denoised one after another, and then decoded side by side.
        """
        count = request.samples if isinstance(request, TranslationRequest) else 1
        counted = _Counted(count, on_progress)

        def sample(index: int) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
            folder, tell = (work, on_progress) if count == 1 else (work / f"sample-{index}", counted.by(index))
            return scene.render(model, self.source, self.size, (request.seed or 0) + index, folder, tell, stop)

        for parts in zip(*map(sample, range(count)), strict=True):
            rgb = self.modality is Modality.RGB
            mean, spread = _together(np.stack([part if rgb else part.mean(2) for _, part, _ in parts]))
            top, _, valid = parts[0]
            yield top, mean, None if spread is None else spread * np.float32(255), valid


class _Counted:
    """Tells of the samples of a scene, of which each tells of itself, as of one."""

    def __init__(self, samples: int, on_progress: Callable[[Progress], None]) -> None:
        self._samples, self._on_progress = samples, on_progress
        self._found: dict[int, int] = {}  # windows of a sample when it was first heard of, by its number
        self._done: dict[int, int] = {}
        self._began = time.monotonic()

    def by(self, index: int) -> Callable[[Progress], None]:
        """Return what the sample of that number is to call."""
        return partial(self._tell, index)

    def _tell(self, index: int, progress: Progress) -> None:
        self._found.setdefault(index, progress.done)
        self._done[index] = progress.done
        done, total = sum(self._done.values()), self._samples * progress.total
        worked = done - sum(self._found.values())
        left = (time.monotonic() - self._began) / worked * (total - done) if worked else None
        self._on_progress(Progress(done, total, left))


@contextmanager
def _kept(folder: Path, name: str, key: Mapping[str, Any]) -> Iterator[Path]:
    """Give the hidden folder of a scene, which stays until the scene is finished.

    Args:
        folder: Where the output goes.
        name: Of the output; "" where it is named after its request.
        key: All that the pixels depend on, but for a seed that is drawn.

    Raises:
        UserError: It cannot be made, or another run is at this scene.
    """
    own = f"{_WORK}{_short({'name': name})}-"
    work = folder / f"{own}{_short(key)}"
    try:
        work.mkdir(exist_ok=True)
        lock = (work / "lock").open("w")
    except OSError as error:
        raise UserError(
            f"The folder {called(folder)} cannot be written to ({error.strerror}): choose another."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError("Another run is making this very file: wait for it, or choose another name.") from error
        except OSError:  # a file system without locks
            pass
        for left in (*work.glob(".mmmrs-*"), *work.rglob(".*.part")):  # by a kill while the file was being written
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield work
        except BaseException:
            if not _begun(work):
                shutil.rmtree(work, ignore_errors=True)
            raise
        for old in folder.glob(f"{own}*") if name else [work]:  # of other settings, given up
            shutil.rmtree(old, ignore_errors=True)


def _begun(work: Path) -> bool:
    """Whether anything of a scene, or of one of its samples, has been done."""
    return any(work.rglob("state.json"))


def _short(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _remembered(work: Path, request: _AnyRequest) -> _AnyRequest:
    """Return the request with which a scene was begun, which has the seed that was drawn then."""
    file = work / "request.json"
    if file.is_file():
        return REQUEST.validate_json(file.read_bytes())
    with whole(file) as stream:
        stream.write(request.model_dump_json().encode())
    return request
