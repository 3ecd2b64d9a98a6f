"""What a form asks for, and how it becomes a file: small pictures in the engine's hands, all else through `make`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mmmrs_demo.make import translate_file
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.raster import read_tile
from mmmrs_demo.request import TextRequest, TranslationRequest
from mmmrs_demo.ui.cache import cached, fresh_folder
from mmmrs_demo.ui.tile import glance, is_picture, look, reduced

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from mmmrs_demo.catalog import Catalog
    from mmmrs_demo.radiometry import Quantity
    from mmmrs_demo.settings import Settings
    from mmmrs_demo.ui.run import EngineLike, News


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
    """

    file: str
    picture: str
    request: TextRequest | TranslationRequest
    size: tuple[int, int]
    seconds: float
    windows: int = 0


class Job(Protocol):
    """One run to be."""

    def before(self) -> str | None:
        """Return the path of a picture of the input, as large as the one made; None where there is no input."""

    def make(self, engine: EngineLike, tell: Callable[[News], None], stop: threading.Event) -> Made:
        """Make the file; raises UserError and, soon after `stop` is set, Stopped."""


@dataclass(frozen=True)
class PictureJob:
    """A picture in one piece.

    Attributes:
        request: The request.
        image: Input of a translation.
    """

    request: TextRequest | TranslationRequest
    image: Image.Image | None = None

    def before(self) -> str | None:
        """Return a PNG of the input."""
        return cached(self.image) if self.image else None

    def make(self, engine: EngineLike, tell: Callable[[News], None], stop: threading.Event) -> Made:
        """Run the engine."""
        rendering = engine.run(self.request, self.image, tell, stop)
        file = cached(rendering)
        return Made(file, file, rendering.request, rendering.image.size, rendering.seconds)


@dataclass(frozen=True)
class FileJob:
    """A raster, or a picture that is larger than what is made in one piece.

    Attributes:
        request: The request.
        file: The upload.
        settings: Limits.
        bands: Numbers of a raster's bands, where a person chose.
        quantity: What the samples of a SAR band are, where a person said so.
        units: Physical units instead of grey values.
    """

    request: TranslationRequest
    file: Path
    settings: Settings
    bands: list[int] | None = None
    quantity: Quantity | None = None
    units: bool = False

    def before(self) -> str:
        """Return a small PNG of the input."""
        source = TRANSLATIONS[self.request.translation].source
        if is_picture(self.file):
            return cached(reduced(read_tile(self.file, source, self.settings)))
        return str(look(self.file, source, self.settings, self.bands, self.quantity).preview)

    def make(self, engine: EngineLike, tell: Callable[[News], None], stop: threading.Event) -> Made:
        """Translate the file into a folder of its own, which goes where nothing came of it."""
        folder = fresh_folder()
        try:
            done = translate_file(
                engine,
                self.request,
                self.file,
                folder,
                self.settings,
                bands=self.bands,
                quantity=self.quantity,
                units=self.units,
                on_progress=tell,
                on_step=tell,
                stop=stop,
            )
            small, size = glance(done.path, TRANSLATIONS[self.request.translation].target, self.settings)
            return Made(str(done.path), cached(small), done.request, size, done.seconds, done.windows)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def translation_job(
    request: TranslationRequest, file: Path, catalog: Catalog, settings: Settings, **reading: Any
) -> Job:
    """Return the job that translates an upload.

    Args:
        request: The request.
        file: The upload.
        catalog: The bundles, each with its size.
        settings: Limits.
        reading: What a `FileJob` may be told about a raster; of a picture it is left out.

    Raises:
        UserError: It is no picture that can be read.
    """
    bundle = catalog.bundle(request.bundle or settings.bundle)
    if is_picture(file):
        image = read_tile(file, TRANSLATIONS[request.translation].source, settings)
        if max(image.size) <= bundle.piece:
            return PictureJob(request, image)
        reading = {}
    if request.scheduler == bundle.defaults.scheduler:  # not a choice, and a scene's default is another
        request = request.model_copy(update={"scheduler": None})
    return FileJob(request, file, settings, **reading)
