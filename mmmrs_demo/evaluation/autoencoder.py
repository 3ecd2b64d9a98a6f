"""Measures what an autoencoder leaves of held-out tiles: the best that any picture made through it can be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmmrs_demo import metrics
from mmmrs_demo.dataset.samples import Samples
from mmmrs_demo.evaluation.measuring import average, check_side
from mmmrs_demo.modality import Modality
from mmmrs_demo.training.latents import batch

FIGURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "psnr_db": metrics.psnr,
    "ssim": metrics.ssim,
    "colour_ratio": metrics.colour_ratio,
    "contrast_ratio": metrics.contrast_ratio,
}
"""By name; each takes a redrawn tile and the real one. Ratios are 1 where nothing is lost."""

SHOWN = 6
"""Tiles that are kept to be looked at, of all kinds in turn."""


@dataclass(frozen=True)
class Outcome:
    """What was measured.

    Attributes:
        figures: By modality, then by source ("all" for all of them together): tiles, and the mean of each figure.
        sheet: Rows of tile and redrawn tile, uint8.
    """

    figures: dict[str, dict[str, dict[str, Any]]]
    sheet: tuple[tuple[np.ndarray, ...], ...]


def measure(vae: Any, samples: Samples, side: int, on_tile: Callable[[str], None] = lambda _: None) -> Outcome:
    """Redraw every clear tile of a split.

    Args:
        vae: The autoencoder, on its device.
        samples: The tiles.
        side: Pixels that a tile must have.
        on_tile: Told the name of each that is done.

    Raises:
        UserError: The tiles have another size.
    """
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    shown: dict[tuple[str, str], tuple[np.ndarray, ...]] = {}
    for number, row in enumerate(samples.rows):
        if row["weather_by"] is not None:
            continue
        real = samples.picture(number)
        check_side(real, side)
        made = redraw(vae, real)
        kind = (row["modality"], row["source"])
        if row["modality"] != Modality.RGB:
            real, made = (picture.mean(axis=2, dtype=np.float32) for picture in (real, made))
        found[kind].append({name: figure(made, real) for name, figure in FIGURES.items()})
        shown.setdefault(kind, tuple(np.rint(picture).astype(np.uint8) for picture in (real, made)))
        on_tile(row["pair"])
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for modality in dict.fromkeys(modality for modality, _ in sorted(found)):
        of_source = {source: tiles for (of, source), tiles in sorted(found.items()) if of == modality}
        everything = [tile for tiles in of_source.values() for tile in tiles]
        figures[modality] = {source: _means(tiles) for source, tiles in {"all": everything, **of_source}.items()}
    return Outcome(figures, tuple(list(shown.values())[:SHOWN]))


@torch.no_grad()
def redraw(vae: Any, picture: np.ndarray) -> np.ndarray:
    """Return what an autoencoder makes of a picture, both uint8 of shape (side, side, 3)."""
    images = batch([picture], vae.device).to(vae.dtype)
    encoded = vae.encode(images)
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    decoded = vae.decode(latents).sample[0].float().cpu().permute(1, 2, 0).numpy()
    return np.rint((decoded + 1) * 127.5).clip(0, 255).astype(np.uint8)


def _means(tiles: list[dict[str, float]]) -> dict[str, Any]:
    return {"tiles": len(tiles), **{name: average(tile[name] for tile in tiles) for name in FIGURES}}
