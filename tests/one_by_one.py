"""What fake engines have in common: several pictures are made one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from PIL import Image

from mmmrs_demo.request import Rendering, Step, TextRequest, TranslationRequest


class _Runs(Protocol):
    def run(
        self,
        request: TextRequest | TranslationRequest,
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Rendering: ...


class OneByOne:
    """Adds to a fake engine that makes one picture what makes several."""

    def together(self, _: TextRequest) -> int:
        return 1

    def run_all(
        self: _Runs,
        requests: Sequence[Any],
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[Rendering]:
        made: list[Rendering] = []

        def tell(step: Step) -> None:
            done, total = len(made) * step.total + step.index, len(requests) * step.total
            if on_step:
                on_step(Step(done, total, step.preview, step.seconds))

        for request in requests:
            one = self.run(request, image, on_step and tell, stop)
            made.append(one)
        return made
