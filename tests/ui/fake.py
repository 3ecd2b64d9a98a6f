"""An engine with the face of the real one and no model: colours from the request, steps that wait where a test says."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from mmmrs_demo.errors import Stopped, heed
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.request import Rendering, Step, TextRequest, TranslationRequest
from tests.instant import InstantModel
from tests.one_by_one import OneByOne

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmmrs_demo.catalog import Bundle, Catalog
    from mmmrs_demo.settings import Settings

FREE = sys.maxsize


class FakeEngine(OneByOne):
    """Runs one request at a time and honours Stop.

    Attributes:
        pause: Seconds of each step.
        hold_after: A run that has done so many steps, or batches of windows, waits until this is raised, or it is
            stopped.
        requests: Those that were begun, complete.
        stopped: How many runs were stopped.
        loaded: Bundles that were loaded ahead.
    """

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog = catalog
        self.settings = settings
        self.pause = 0.0
        self.hold_after = FREE
        self.requests: list[TextRequest | TranslationRequest] = []
        self.stopped = 0
        self.loaded: list[str] = []
        self.batch = 1
        self._line: list[object] = []

    def load(self, bundle: str) -> None:
        self.loaded.append(bundle)

    def together(self, _: TextRequest) -> int:
        return self.batch

    def tokenize(self, bundle: str, text: str) -> list[str]:
        self.catalog.bundle(bundle)
        return text.split()

    def run(
        self,
        request: TextRequest | TranslationRequest,
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Rendering:
        bundle = self.catalog.bundle(request.bundle or self.settings.bundle)
        request = bundle.complete(request)
        self._line.append(turn := object())
        try:
            while self._line[0] is not turn:
                heed(stop)
                time.sleep(0.01)
            self.requests.append(request)
            begun = time.monotonic()
            picture = _picture(request, image)
            total = request.steps or 0
            for index in range(1, total + 1):
                while stop and (stop.wait(self.pause) or index > self.hold_after):
                    if stop.wait(0.01):
                        self.stopped += 1
                        raise Stopped
                if on_step:
                    on_step(Step(index, total, picture.resize((32, 32)), time.monotonic() - begun))
        finally:
            self._line.remove(turn)
        return _rendering(bundle, request, picture, time.monotonic() - begun)

    def windows(
        self, request: TextRequest | TranslationRequest, stop: threading.Event | None = None
    ) -> tuple[TextRequest | TranslationRequest, InstantModel]:
        bundle = self.catalog.bundle(request.bundle or self.settings.bundle)
        request = bundle.complete(request.model_copy(update={"scheduler": request.scheduler or "euler-a"}))
        self.requests.append(request)
        batches = 0

        def at_window() -> None:
            nonlocal batches
            while stop and batches >= self.hold_after:
                if stop.wait(0.01):
                    self.stopped += 1
                    raise Stopped
            batches += 1

        return request, InstantModel(bundle.size, at_window)


def _picture(request: TextRequest | TranslationRequest, image: Image.Image | None) -> Image.Image:
    if isinstance(request, TranslationRequest):
        if image is None:
            message = "a translation without its tile"
            raise AssertionError(message)
        shade = Image.radial_gradient("L").resize(image.size).convert(image.mode)
        picture = Image.blend(ImageOps.invert(image), shade, (request.seed or 0) % 8 / 16)
        return picture.convert(TRANSLATIONS[request.translation].target.mode)
    red, green, blue = hashlib.sha256(request.model_dump_json().encode()).digest()[:3]
    plain = Image.new("RGB", (request.width or 0, request.height or 0), (red, green, blue))
    return Image.blend(plain, Image.radial_gradient("L").resize(plain.size).convert("RGB"), 0.4)


def _rendering(
    bundle: Bundle, request: TextRequest | TranslationRequest, picture: Image.Image, seconds: float
) -> Rendering:
    translation = TRANSLATIONS[request.translation] if isinstance(request, TranslationRequest) else None
    return Rendering(
        image=picture,
        request=request,
        modality=translation.target if translation else Modality.RGB,
        seconds=seconds,
        model={"bundle": bundle.key, "title": bundle.title},
        versions={"fake": "1"},
        created="2026-11-20T12:00:00+00:00",
    )
