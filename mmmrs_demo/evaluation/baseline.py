"""The simplest guesses of a translation, which know nothing but the pixel: what a model has to beat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np


@dataclass(frozen=True)
class Baseline:
    """Two guesses, both fitted by least squares: one colour for all pixels, and a quadratic function of each pixel.

    Attributes:
        colour: Shape (bands,): the mean of all target pixels, in levels.
        weights: Shape (terms, bands): of the constant, each input band, and each product of two.
    """

    colour: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(cls, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Baseline:
        """Fit to pairs of pictures, of which only one at a time is in memory: the normal equations are summed up.

        Args:
            pairs: Input and target, at least one pair: shape (height, width) or (height, width, bands), in levels.
        """
        gram = moments = np.zeros(())
        for source, target in pairs:
            terms = _terms(source)
            gram = gram + terms.T @ terms
            moments = moments + terms.T @ _pixels(target)
        # A grey input in three equal bands leaves the equations without a single solution: take the smallest.
        weights = np.linalg.lstsq(gram, moments)[0]
        return cls(moments[0] / gram[0, 0], weights)  # the first term is 1: it sums the targets and counts the pixels

    def plain(self, source: np.ndarray) -> np.ndarray:
        """Return the one colour as `predict` returns its guess."""
        return self._picture(np.broadcast_to(self.colour, (*source.shape[:2], len(self.colour))))

    def predict(self, source: np.ndarray) -> np.ndarray:
        """Return the target that the quadratic function makes of an input.

        Args:
            source: Shape (height, width) or (height, width, bands), with the bands it was fitted to.

        Returns:
            Shape (height, width), or (height, width, bands) where targets have several; levels from 0 to 255.
        """
        levels = np.clip(_terms(source) @ self.weights, 0, 255)
        return self._picture(levels.reshape(*source.shape[:2], -1))

    def _picture(self, levels: np.ndarray) -> np.ndarray:
        return levels[..., 0] if len(self.colour) == 1 else levels


def _pixels(picture: np.ndarray) -> np.ndarray:
    """Return shape (pixels, bands)."""
    bands = np.atleast_3d(picture)
    return bands.reshape(-1, bands.shape[2]).astype(np.float64)


def _terms(source: np.ndarray) -> np.ndarray:
    """Return shape (pixels, terms) of the constant, the bands in 0..1, and their squares and products."""
    bands = (_pixels(source) / 255).T
    products = [a * b for a, b in combinations_with_replacement(bands, 2)]
    return np.stack([np.ones_like(bands[0]), *bands, *products], axis=1)
