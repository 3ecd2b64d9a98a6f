"""How it goes: a line of the terminal that changes, and sentences that stay."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmmrs_demo.catalog import Bundle
from mmmrs_demo.prompt import overflow
from mmmrs_demo.request import Step, TextRequest, TranslationRequest
from mmmrs_demo.scene import Progress

if TYPE_CHECKING:
    from mmmrs_demo.cli.command import AnyEngine


class Told:
    """One line of the terminal that says what goes on, and sentences that stay.

    Attributes:
        shown: Whether there is a line: stderr is a terminal, and nobody asked for quiet.
        about: What each line begins with.
    """

    def __init__(self, *, shown: bool, quiet: bool) -> None:
        self.shown, self.about = shown, ""
        self._quiet = quiet

    @property
    def on_step(self) -> Callable[[Step], None] | None:
        """What a run tells its steps; None where nobody would see it."""
        return self._step if self.shown else None

    def windows(self, progress: Progress) -> None:
        """Say how far a scene is."""
        left = "" if progress.seconds_left is None else f", {_time(progress.seconds_left)} left"
        self.say(f"Window {progress.done:,}/{progress.total:,}{left}")

    def say(self, words: str) -> None:
        """Put words in the line."""
        if self.shown:
            print(f"\r\x1b[K{self.about if words else ''}{words}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Empty the line."""
        self.say("")

    def note(self, sentence: str, *, even_if_quiet: bool = False) -> None:
        """Say what stays on the screen."""
        if even_if_quiet or not self._quiet:
            self.clear()
            print(sentence, file=sys.stderr, flush=True)

    def _step(self, step: Step) -> None:
        left = step.seconds / step.index * (step.total - step.index)
        self.say(f"Step {step.index}/{step.total}, {_time(left)} left")


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress(*, quiet: bool) -> Iterator[Told]:
    """Give what tells a person how it goes, and clear its line at the end."""
    told = Told(shown=not quiet and sys.stderr.isatty(), quiet=quiet)
    try:
        yield told
    finally:
        told.clear()


def begin(told: Told, engine: AnyEngine, bundle: Bundle, request: TextRequest | TranslationRequest) -> None:
    """Say that models are being loaded, and which words are more than they read."""
    told.say(f"Loading {bundle.title} …")
    if told.shown and (cut := overflow(request.prompt.text, lambda text: engine.tokenize(bundle.key, text))):
        told.note(cut)
