"""Says in the terminal how far a long measurement has come."""

from __future__ import annotations

import sys
import time

_SECONDS = 10  # between two lines


class Clock:
    """Tells now and then how far a run has come and how long the rest will take.

    Args:
        total: How often it will tick.
        what: What a tick is, in the plural.
    """

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._done = 0
        self._began = self._told = time.monotonic()

    def tick(self, name: str) -> None:
        """Say that one more is done, which has that name."""
        self._done += 1
        now = time.monotonic()
        if now - self._told >= _SECONDS or self._done == self._total:
            self._told = now
            left = (now - self._began) / self._done * (self._total - self._done) / 60
            told = f"{self._done:,} of {self._total:,} {self._what}, {left:.1f} min left: {name}"
            print(told, file=sys.stderr, flush=True)
