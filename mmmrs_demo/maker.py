"""What is needed of an engine to make pictures, in one piece or through windows; knows no model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from PIL import Image

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.request import Rendering, Step, TextRequest, TranslationRequest
from mmmrs_demo.scene import Windows


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

    def run_all(
        self,
        requests: Sequence[TextRequest | TranslationRequest],
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[Rendering]:
        """Make several pictures, each in one piece; a step is one of all of them."""

    def windows(
        self, request: TextRequest | TranslationRequest, stop: threading.Event | None = None
    ) -> tuple[TextRequest | TranslationRequest, SceneModel]:
        """Return the complete request, and what looks through the windows of a scene for it."""
