"""What all measurements have in common: tiles of the right size, and the average of what is defined."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable

import numpy as np

from mmmrs_demo.errors import UserError


def check_side(tile: np.ndarray, side: int) -> None:
    """Refuse a data set whose tiles have another size than a bundle's pictures.

    Args:
        tile: One of them, of shape (side, side, ...).
        side: Pixels that it must have.

    Raises:
        UserError: It has not.
    """
    if len(tile) != side:
        raise UserError(
            f"The data set's tiles have {len(tile)} px and the bundle's pictures {side}: "
            f"build one with `mmmrs-demo dataset build --size {side}`."
        )


def average(values: Iterable[float], by: Callable[[list[float]], float] = statistics.fmean) -> float:
    """Return the average of the values that are defined; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return by(known) if known else math.nan
