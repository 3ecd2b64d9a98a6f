"""How far sets of pictures lie apart, and how varied one is, from what a network makes of them; knows no network.

The formulas are torchmetrics', so that figures compare with those of others; its metrics are handed features in place
of pictures, since one look at a picture serves them all.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torchmetrics.image import FrechetInceptionDistance, InceptionScore, KernelInceptionDistance

SUBSETS = 100
"""Random parts of the sets over which the kernel distance is averaged."""

_LARGEST = 1_000  # pictures of a part, as KID's authors chose
_SPLITS = 10  # as IS's authors chose


class Distance(NamedTuple):
    """How far two sets lie apart.

    Attributes:
        frechet: Of Gaussians fitted to the features (Heusel et al. 2017); the fewer the pictures, the larger.
        kernel: Squared maximum mean discrepancy with a cubic kernel (Bińkowski et al. 2018); around 0 for sets of one
            kind, however few the pictures.
        kernel_deviation: Standard deviation of the latter over random parts of the sets.
    """

    frechet: float
    kernel: float
    kernel_deviation: float


class _Features(nn.Module):
    """Stands where torchmetrics has its network, and hands on what it gets."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def distance(real: torch.Tensor, made: torch.Tensor) -> Distance:
    """Return the distance of two sets, each of shape (2 or more pictures, features).

    A part for the kernel distance has half of the smaller set's pictures, at most 1,000.
    """
    part = max(2, min(_LARGEST, len(real) // 2, len(made) // 2))
    with _steady():
        frechet = FrechetInceptionDistance(_Features(real.shape[1]))
        kernel = KernelInceptionDistance(_Features(real.shape[1]), subsets=SUBSETS, subset_size=part)
        for metric in (frechet, kernel):
            metric.update(real, real=True)
            metric.update(made, real=False)
        mean, deviation = kernel.compute()
        return Distance(float(frechet.compute()), float(mean), float(deviation))


def inception_score(logits: torch.Tensor) -> tuple[float, float]:
    """Return the inception score (Salimans et al. 2016) and its standard deviation over ten parts of a set.

    Args:
        logits: Shape (10 or more pictures, classes).
    """
    with _steady():
        score = InceptionScore(_Features(logits.shape[1]), splits=_SPLITS)
        score.update(logits)
        mean, deviation = score.compute()
    return float(mean), float(deviation)


@contextmanager
def _steady() -> Iterator[None]:
    """Have the same parts drawn every time, and no warnings that features are kept, which is what is wanted here."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        yield
