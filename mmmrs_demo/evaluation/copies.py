"""Whether pictures are copies of training tiles: each one's nearest tile, turned and mirrored in every way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import ks_2samp

from mmmrs_demo.dataset.samples import TURNS, turned

COARSE = 16
"""Side of the pictures in which pixels are compared."""

NEAREST_PERCENT = 1
"""The nearest held-out tiles, in percent of them: what lies nearer than those is suspicious."""


class Nearest(NamedTuple):
    """Of each picture the nearest training tile.

    Attributes:
        distance: Shape (pictures,).
        tile: Shape (pictures,): number of the training tile.
        turn: Shape (pictures,): which of the picture's `TURNS` lies that near.
    """

    distance: np.ndarray
    tile: np.ndarray
    turn: np.ndarray


def coarse(pictures: Iterable[np.ndarray], turns: int = TURNS) -> np.ndarray:
    """Return pictures as someone sees them from very far away.

    Args:
        pictures: uint8 of shape (side, side, 3); the sides are multiples of `COARSE`.
        turns: How many of its `TURNS` each is seen in.

    Returns:
        Shape (pictures, turns, 768), float32; the distance of two is their root mean square difference in levels.
    """
    found = []
    for picture in pictures:
        cell = picture.shape[0] // COARSE
        small = picture.reshape(COARSE, cell, COARSE, cell, 3).mean((1, 3), dtype=np.float32)
        found.append([turned(small, turn).ravel() for turn in range(turns)])
    return np.array(found, np.float32) / COARSE / 3**0.5


def nearest(pictures: np.ndarray, tiles: np.ndarray) -> Nearest:
    """Find the nearest of `tiles` to each picture.

    Args:
        pictures: Shape (pictures, turns, values).
        tiles: Shape (tiles, values).
    """
    distances, numbers, turns = [], [], []
    for views in torch.from_numpy(pictures):
        every = torch.cdist(views[None], torch.from_numpy(tiles)[None], compute_mode="donot_use_mm_for_euclid_dist")[0]
        turn, tile = divmod(int(every.argmin()), every.shape[1])
        distances.append(float(every[turn, tile]))
        numbers.append(tile)
        turns.append(turn)
    return Nearest(np.array(distances), np.array(numbers), np.array(turns))


def compare(made: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """Compare distances to the nearest training tile: of generated pictures, and of real tiles that are held out.

    Args:
        made: Shape (pictures,).
        held_out: Shape (tiles,).

    Returns:
        "made" and "held_out", the medians; "ks" and "p", the two-sample Kolmogorov-Smirnov statistic and how likely
        one as large is by chance; "threshold", below which `NEAREST_PERCENT` of the held-out tiles lie; "nearer", the
        share of generated pictures below it, 0 to 1.
    """
    test = ks_2samp(made, held_out)
    threshold = float(np.percentile(held_out, NEAREST_PERCENT))
    return {
        "made": float(np.median(made)),
        "held_out": float(np.median(held_out)),
        "ks": float(test.statistic),
        "p": float(test.pvalue),
        "threshold": threshold,
        "nearer": float((made < threshold).mean()),
    }
