"""An engine without weights whose pictures are their inputs made coarse, at once: for what lies around the models."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.request import Rendering, Step, TextRequest, TranslationRequest
from tests.one_by_one import OneByOne

MODEL = {"bundle": "mini", "title": "Instant", "base": "instant sha256:0"}
VERSIONS = {"instant": "1"}
FACTOR = 8


class InstantModel:
    """Says what it is shown, each `FACTOR` pixels as one; without an input, the noise.

    Attributes:
        grain: How much of the noise each step leaves.
    """

    factor, channels, steps = FACTOR, 3, 2
    each = map

    def __init__(self, side: int, at_window: Callable[[], None] = lambda: None) -> None:
        self.side, self.at_window = side, at_window
        self.grain = 0.0
        self.model, self.versions = dict(MODEL), dict(VERSIONS)

    def begin(self, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        return noise

    def predict(
        self, latents: NDArray[np.float32], step: int, pictures: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        assert 0 <= step < self.steps
        self.at_window()
        if pictures is None:
            return latents
        cells = self.side // FACTOR
        blocks = pictures.reshape(len(pictures), cells, FACTOR, cells, FACTOR, 3)
        coarse = blocks.mean((2, 4), np.float32).transpose(0, 3, 1, 2) / np.float32(255)
        return coarse + np.float32(self.grain) * (latents - coarse)

    def advance(
        self, latents: NDArray[np.float32], said: NDArray[np.float32], step: int, seed: int
    ) -> NDArray[np.float32]:
        assert latents.shape == said.shape
        assert seed >= 0
        assert 0 <= step < self.steps
        return said

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        return latents.clip(0, 1).transpose(0, 2, 3, 1).repeat(FACTOR, 1).repeat(FACTOR, 2)


class InstantEngine(OneByOne):
    """Has a bundle of 64 px called mini, in a catalog that lies in an empty folder."""

    def __init__(self, folder: Path) -> None:
        from tests import tiny  # torch comes with it

        (folder / "catalog.toml").write_text(tiny.table("mini"), encoding="utf-8")
        self.catalog = Catalog.load(folder)
        self.at_window: Callable[[], None] = lambda: None

    def run(
        self,
        request: TextRequest | TranslationRequest,
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Rendering:
        assert stop is None
        if on_step:
            on_step(Step(1, 1, None, 0.0))
        text = isinstance(request, TextRequest)
        modality = Modality.RGB if isinstance(request, TextRequest) else TRANSLATIONS[request.translation].target
        picture = Image.new("RGB", (request.width or 0, request.height or 0)) if text else image  # type: ignore[union-attr]
        assert picture is not None
        return Rendering(
            image=picture.convert(modality.mode),
            request=request,
            modality=modality,
            seconds=0.0,
            model=MODEL,
            versions=VERSIONS,
            created="2026-11-21T04:05:06+00:00",
        )

    def windows(
        self, request: TextRequest | TranslationRequest, stop: threading.Event | None = None
    ) -> tuple[TextRequest | TranslationRequest, InstantModel]:
        del stop
        request = request.model_copy(update={"scheduler": request.scheduler or "euler-a"})
        bundle = self.catalog.bundle("mini")
        return bundle.complete(request), InstantModel(bundle.size, self.at_window)
