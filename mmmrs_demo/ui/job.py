"""What a form asks for, and how it becomes a file: everything through `make`, and beside a reference by `compare`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast

from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called
from mmmrs_demo.make import Done, generate_file, generate_files, is_scene, translate_file
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.outputs import PNG
from mmmrs_demo.provenance import settings_kept
from mmmrs_demo.raster import read_tile
from mmmrs_demo.request import MAX_SEED, TextRequest, TranslationRequest
from mmmrs_demo.ui.cache import cached, discard, handed_out, kept
from mmmrs_demo.ui.language import Sentence, both
from mmmrs_demo.ui.run import Effort, EngineLike, News
from mmmrs_demo.ui.tile import glance, glance_at_spread, is_picture, look, reduced

if TYPE_CHECKING:
    from mmmrs_demo.catalog import Bundle, Catalog
    from mmmrs_demo.radiometry import Quantity
    from mmmrs_demo.settings import Settings

MAX_PICTURES = 8
"""Pictures from words that one click makes."""

AnyRequest = TypeVar("AnyRequest", TextRequest, TranslationRequest)


@dataclass(frozen=True)
class Spread:
    """How far the samples of a result lie apart.

    Attributes:
        picture: Path of what the page shows of it.
        white: What white stands for there, with its unit.
        file: Path of a PNG that Gradio may serve; None where it is a band of the result.
    """

    picture: str
    white: str
    file: str | None


@dataclass(frozen=True)
class Made:
    """What came of a job.

    Attributes:
        file: Path of a PNG or GeoTIFF that Gradio may serve.
        picture: Path of what the page shows of it.
        request: The complete request.
        size: Width and height in pixels.
        seconds: How long it took.
        windows: Windows of a scene; 0 for what was made in one piece.
        spread: That of its samples; None of a single one.
    """

    file: str
    picture: str
    request: TextRequest | TranslationRequest
    size: tuple[int, int]
    seconds: float
    windows: int = 0
    spread: Spread | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished run with all that is shown of it.

    Attributes:
        made: What came of it.
        before: Path of a picture of its input; None where there was none.
        title: Of the bundle.
        compared: How near it comes to a reference, a paragraph each.
    """

    made: Made
    before: str | None
    title: str
    compared: tuple[Sentence | str, ...] = ()


Comparing = Callable[[Callable[[News], None], threading.Event], list[Sentence | str]]
"""Returns how near a result comes to a reference, a paragraph each; raises Stopped soon after the event is set."""


class Job(Protocol):
    """One run to be."""

    @property
    def pictures(self) -> int:
        """How many it makes."""

    @property
    def name(self) -> Sentence | str:
        """What a sentence calls it, among others of its kind."""

    def effort(self, catalog: Catalog) -> Effort | None:
        """Return what has to be done; None of a scene, which is not counted in steps."""

    def before(self) -> str | None:
        """Return the path of a picture of the input, as large as the one made; None where there is no input."""

    def make(self, engine: EngineLike, room: Path, tell: Callable[[News], None], stop: threading.Event) -> list[Made]:
        """Make the file, or several pictures; raises UserError and, soon after `stop` is set, Stopped.

        In the folder `room` stays what is done of a scene when it is stopped, and the same job goes on there.
        """

    def comparing(self, made: Made) -> Comparing | None:
        """Return what compares the file made with a reference; None where there is none."""


@dataclass(frozen=True)
class TextJob:
    """A picture from words, or several with one seed after the other.

    Attributes:
        request: The request; of several pictures the first, which has its seed.
        settings: Limits.
        metadata: Whether the files keep their request.
        pictures: How many.
    """

    request: TextRequest
    settings: Settings
    metadata: bool = True
    pictures: int = 1

    @property
    def name(self) -> Sentence:
        """What tells it from the others of one click."""
        first = self.request.seed
        if self.pictures == 1 or first is None:
            return both("seed {}", first)
        return both("seeds {} to {}", first, first + self.pictures - 1)

    def effort(self, catalog: Catalog) -> Effort | None:
        """Return what has to be done."""
        bundle = catalog.bundle(self.request.bundle or self.settings.bundle)
        complete = bundle.complete(self.request)
        scene = max(complete.width or 0, complete.height or 0) > bundle.piece
        kind = bundle.key, complete.kind, complete.speed
        return None if scene else Effort(kind, (complete.steps or 0) * self.pictures, self.pictures)

    def before(self) -> None:
        """Return nothing."""

    def make(self, engine: EngineLike, room: Path, tell: Callable[[News], None], stop: threading.Event) -> list[Made]:
        """Make the pictures, or go on with one."""
        folder = kept(room, self.request.model_dump())
        with settings_kept(kept=self.metadata):
            if self.pictures > 1:
                first = engine.catalog.bundle(self.request.bundle or self.settings.bundle).complete(self.request)
                done = generate_files(engine, _in_a_row(first, self.pictures), folder, on_step=tell, stop=stop)
            else:
                told: dict[str, Any] = {"on_progress": tell, "on_step": tell, "stop": stop}
                done = [generate_file(engine, self.request, folder, self.settings, **told)]
        made = [_made(one, Modality.RGB, self.settings) for one in done]
        discard(folder)
        return made

    def comparing(self, made: Made) -> None:
        """Return nothing."""


@dataclass(frozen=True)
class FileJob:
    """The translation of an upload.

    Attributes:
        request: The request.
        file: The upload.
        settings: Limits.
        reference: What the result is compared with.
        bands: Numbers of a raster's bands, where a person chose.
        quantity: What the samples of a SAR band are, where a person said so.
        units: Physical units instead of grey values.
        metadata: Whether the file keeps its request.
    """

    pictures: ClassVar[int] = 1

    request: TranslationRequest
    file: Path
    settings: Settings
    reference: Path | None = None
    bands: list[int] | None = None
    quantity: Quantity | None = None
    units: bool = False
    metadata: bool = True

    @property
    def name(self) -> str:
        """What the upload is called."""
        return called(self.file)

    def effort(self, catalog: Catalog) -> Effort | None:
        """Return what has to be done."""
        bundle = catalog.bundle(self.request.bundle or self.settings.bundle)
        complete = bundle.complete(self.request)
        if is_scene(self.file, bundle, self.settings):
            return None
        return Effort(
            (bundle.key, complete.kind, complete.speed), (complete.steps or 0) * complete.samples, complete.samples
        )

    def before(self) -> str:
        """Return a small PNG of the input."""
        source = TRANSLATIONS[self.request.translation].source
        if is_picture(self.file):
            return cached(reduced(read_tile(self.file, source, self.settings, slim=True)))
        return str(look(self.file, source, self.settings, self.bands, self.quantity).preview)

    def make(self, engine: EngineLike, room: Path, tell: Callable[[News], None], stop: threading.Event) -> list[Made]:
        """Translate the file, or go on with it."""
        reading: dict[str, Any] = {"bands": self.bands, "quantity": self.quantity, "units": self.units}
        folder = kept(room, self.request.model_dump(), self.file, reading)
        with settings_kept(kept=self.metadata):
            done = translate_file(
                engine,
                self.request,
                self.file,
                folder,
                self.settings,
                **reading,
                on_progress=tell,
                on_step=tell,
                stop=stop,
            )
        made = _made(done, TRANSLATIONS[self.request.translation].target, self.settings, self.request.samples)
        discard(folder)
        return [made]

    def comparing(self, made: Made) -> Comparing | None:
        """Return what gives the figures, or the reason why there are none, and says how the reference was read."""
        return partial(self._compared, made, self.reference) if self.reference else None

    def _compared(
        self, made: Made, reference: Path, _: Callable[[News], None], stop: threading.Event
    ) -> list[Sentence | str]:
        from mmmrs_demo.compare import compare

        try:
            found = compare(Path(made.file), reference, self.settings, self.file, stop)
        except UserError as error:  # the result is there all the same
            return [str(error)]
        figures = " · ".join(f"{name} {figure}" for name, figure in found.facts.items())
        return [both("Beside {}: {}", called(reference), figures), *filter(None, [" ".join(found.notes)])]


def text_job(request: TextRequest, catalog: Catalog, settings: Settings, *, metadata: bool = True) -> Job:
    """Return the job that makes a picture from words, whose file keeps its request or, without `metadata`, does not."""
    return TextJob(without_choice(request, catalog.bundle(request.bundle or settings.bundle)), settings, metadata)


def text_jobs(
    request: TextRequest, pictures: Any, engine: EngineLike, settings: Settings, *, metadata: bool = True
) -> list[Job]:
    """Return the jobs that make pictures from words with one seed after the other; more than one draw it beforehand.

    As many are one job as the engine makes in one batch.

    Raises:
        UserError: There is no such number of pictures, or of seeds.
    """
    if pictures not in range(1, MAX_PICTURES + 1):
        raise UserError(f"One click makes 1 to {MAX_PICTURES} pictures, not {str(pictures)[:40]}.")
    if pictures == 1:
        return [text_job(request, engine.catalog, settings, metadata=metadata)]
    request = without_choice(request, bundle := engine.catalog.bundle(request.bundle or settings.bundle))
    first = cast("int", bundle.complete(request).seed)
    if first > (last := MAX_SEED + 1 - pictures):
        raise UserError(f"The seed of {pictures} pictures should be at most {last}, not {first}.")
    row = _in_a_row(request.model_copy(update={"seed": first}), int(pictures))
    most = engine.together(bundle.complete(request))
    return [TextJob(row[at], settings, metadata, len(row[at : at + most])) for at in range(0, len(row), most)]


def _in_a_row(request: TextRequest, pictures: int) -> list[TextRequest]:
    first = request.seed or 0
    return [request.model_copy(update={"seed": first + number}) for number in range(pictures)]


def translation_job(
    request: TranslationRequest,
    file: Path,
    catalog: Catalog,
    settings: Settings,
    reference: Path | None = None,
    *,
    metadata: bool = True,
    **reading: Any,
) -> Job:
    """Return the job that translates an upload.

    Args:
        request: The request.
        file: The upload.
        catalog: The bundles, each with its defaults.
        settings: Limits.
        reference: What the result is to be compared with.
        metadata: Whether its file keeps the request.
        reading: What a `FileJob` may be told about a raster; of a picture it is left out.

    Raises:
        UserError: It cannot be opened, or the reference does not fit.
    """
    if is_picture(file):
        reading = {}
    if reference:
        from mmmrs_demo.compare import check

        check(reference, file, TRANSLATIONS[request.translation].target, settings)
    bundle = catalog.bundle(request.bundle or settings.bundle)
    return FileJob(without_choice(request, bundle), file, settings, reference, metadata=metadata, **reading)


def without_choice(request: AnyRequest, bundle: Bundle) -> AnyRequest:
    """Return a request without a scheduler that is the bundle's default: nobody chose it, and a scene has another."""
    left_out = request.model_copy(update={"scheduler": None})
    return left_out if bundle.complete(left_out).scheduler == request.scheduler else request


def _made(done: Done, shows: Modality, settings: Settings, samples: int = 1) -> Made:
    """Hand a finished file out."""
    small, size = glance(done.path, shows, settings)
    spread = _spread(done, settings) if samples > 1 else None
    file = str(handed_out(done.path))
    picture = file if file.endswith(PNG) and small.size == size else cached(small)
    return Made(file, picture, done.request, size, done.seconds, done.windows, spread)


def _spread(done: Done, settings: Settings) -> Spread:
    drawn, white = glance_at_spread(done.spread or done.path, settings)
    return Spread(cached(drawn), white, str(handed_out(done.spread)) if done.spread else None)
