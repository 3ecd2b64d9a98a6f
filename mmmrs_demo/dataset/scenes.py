"""Weather that was not there: fog, night and snow drawn onto clear tiles by physical argument (paper section 3.3).

Fog follows the paper's atmospheric scattering model. The paper's night and snow came from translators whose weights are
not to be had; here night dims and cools the ambient light and lights bright small structures with lamps, and snow
settles on vegetation, soil and roofs but leaves water, shadow and roads dark. Every function takes and returns
float32 RGB in 0..1 of shape (height, width, 3) and draws all chance from the generator it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_opening, gaussian_filter

from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called

Scene = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Draws weather onto a clear tile."""

ROAD = 31
"""Pixels from which something grey counts as long."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _clouds(shape: tuple[int, int], rng: np.random.Generator, cells: int = 3) -> np.ndarray:
    """Smooth fractal noise in 0..1: three octaves of bicubically enlarged random grids."""
    total = np.zeros(shape, np.float32)
    for octave in range(3):
        grid = rng.random((cells * 2**octave + 1,) * 2).astype(np.float32)
        image = Image.fromarray(grid).resize(shape[::-1], Image.Resampling.BICUBIC)
        total += np.asarray(image) / 2**octave
    return (total - total.min()) / max(float(np.ptp(total)), 1e-6)


def _step(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high` (either may be the larger)."""
    t = np.clip((plane - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _greenness(rgb: np.ndarray) -> np.ndarray:
    """How much green exceeds the mean of red and blue."""
    return rgb[..., 1] - rgb[..., [0, 2]].mean(-1)


def _paved(rgb: np.ndarray) -> np.ndarray:
    """Roads, runways and car parks in 0..1: grey, and as long as `ROAD` in some direction, which roofs seldom are."""
    luma, spread = rgb @ LUMA, rgb.max(-1) - rgb.min(-1)
    grey = (spread < 0.12) & (luma > 0.2) & (luma < 0.85) & (_greenness(rgb) < 0.02)
    long = np.zeros(luma.shape, bool)
    for angle in np.arange(0, np.pi, np.pi / 8):
        at = np.rint(np.outer((np.sin(angle), np.cos(angle)), np.arange(ROAD) - ROAD // 2)).astype(int) + ROAD // 2
        line = np.zeros((ROAD, ROAD), bool)
        line[tuple(at)] = True
        long |= binary_opening(grey, line)
    return gaussian_filter(long.astype(np.float32), 0.7)


def fog(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Atmospheric scattering, I = J t + A (1 - t), with a transmission map that varies like drifting banks."""
    depth = 0.5 + 0.5 * _clouds(rgb.shape[:2], rng)
    transmission = np.exp(-rng.uniform(1.0, 2.0) * depth)[..., None]
    airlight = rng.uniform(0.78, 0.92) * np.array([0.98, 1.0, 1.02], np.float32)
    return np.clip(rgb * transmission + airlight * (1 - transmission), 0, 1).astype(np.float32)


def night(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ambient light falls to a tenth and turns blue; lamps stand where small bright things crowd, not in the green."""
    luma = rgb @ LUMA
    ambient = rng.uniform(0.13, 0.22) * rgb ** rng.uniform(1.0, 1.3) * np.array([0.55, 0.7, 1.15], np.float32)
    ambient += 0.012 * np.array([0.6, 0.8, 1.4], np.float32)
    detail = np.abs(luma - gaussian_filter(luma, 2))
    settled = _step(gaussian_filter(detail, 10), 0.025, 0.07)
    chance = 0.012 * settled * _step(luma, 0.3, 0.7) * _step(_greenness(rgb), 0.05, 0.0)
    lamps = (rng.random(luma.shape) < chance) * rng.uniform(0.5, 1.5, luma.shape)
    glow = 9 * gaussian_filter(lamps, 1.2) + 30 * gaussian_filter(lamps, 5) * (0.25 + luma)
    warm = np.array([1.0, 0.78, 0.45], np.float32)
    return np.clip(ambient + rng.uniform(0.6, 1.0) * glow[..., None] * warm, 0, 1).astype(np.float32)


def snow(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Snow lies on vegetation, soil and roofs; water, shadow and roads stay dark; relief still shades it."""
    luma = rgb @ LUMA
    texture = gaussian_filter(np.abs(luma - gaussian_filter(luma, 2)), 3)
    water = _step(luma, 0.35, 0.15) * _step(texture, 0.02, 0.008)
    scale = max(float(np.quantile(luma, 0.9)), 0.15)
    lit = _step(luma / scale, 0.15, 0.55)
    cover = lit * (1 - water) * (1 - rng.uniform(0.6, 0.9) * _paved(rgb)) * rng.uniform(0.8, 0.95)
    cover *= 0.75 + 0.25 * _step(_clouds(luma.shape, rng, 5), 0.1, 0.5)
    relief = np.clip(0.88 + 0.55 * (luma - gaussian_filter(luma, 8)) / scale, 0.55, 1.0)
    white = relief[..., None] * np.array([0.94, 0.96, 1.0], np.float32)
    bare = 0.7 * rgb * np.array([0.92, 0.97, 1.06], np.float32)
    return np.clip(bare * (1 - cover[..., None]) + white * cover[..., None], 0, 1).astype(np.float32)


SCENES: dict[str, Scene] = {"snow": snow, "fog": fog, "night": night}
"""The prompt's weather words and how each is drawn."""


def load_translator(file: Path) -> Scene:
    """Load a learned translator to one weather, such as the paper's CycleGAN for snow or TPSeNCE for night.

    Args:
        file: an ONNX network from float32 of shape (1, 3, height, width) in -1..1 to the same.

    Raises:
        UserError: it is not there, or not such a network.
    """
    import onnxruntime  # only where a translator is used

    try:
        network = onnxruntime.InferenceSession(file, providers=onnxruntime.get_available_providers())
    except Exception as error:  # each of the runtime's errors is a class of its own
        raise UserError(f"{called(file)} is no ONNX network that can be run: export the translator as ONNX.") from error
    (given, *more), shape = network.get_inputs(), network.get_inputs()[0].shape
    if more or len(shape) != 4 or shape[1] != 3:
        raise UserError(f"{called(file)} takes {shape}; a translator takes one RGB picture, (1, 3, height, width).")

    def draw(rgb: np.ndarray, _: np.random.Generator) -> np.ndarray:
        batch = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None] * 2 - 1, np.float32)
        drawn = np.asarray(network.run(None, {given.name: batch})[0])
        return np.clip((drawn[0].transpose(1, 2, 0) + 1) / 2, 0, 1).astype(np.float32)

    return draw
