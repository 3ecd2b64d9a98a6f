"""What the diffusion stages learn from: views encoded once by the autoencoder, each with what its prompt may say."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors import safe_open
from safetensors.torch import save_file

from mmmrs_demo.dataset import captions
from mmmrs_demo.dataset.scenes import SCENES
from mmmrs_demo.dataset.tiles import Tile
from mmmrs_demo.modality import Translation
from mmmrs_demo.prompt import Prompt, level_of
from mmmrs_demo.training.views import View, cut

WEATHER_SHARE = 0.5
"""Share of clear RGB views that also appear once under fog, in snow or at night."""


PART_KEPT = 0.9
"""How often a prompt names the GSD level, and how often the satellite."""


@dataclass(frozen=True)
class Row:
    """One encoded picture.

    Attributes:
        view: number of the view; rows of one view lie on the same pixels.
        pixels: place in `Material.pixels`, or -1 where the picture is in no pair.
    """

    view: int
    modality: str
    weather: str | None
    gsd: str
    satellite: str
    scenes: tuple[str, ...]
    patterns: tuple[str, ...]
    source: str
    pixels: int = -1


class Material:
    """Latents of shape (rows, channels, 32, 32) in float16, and the pictures (uint8 RGB) that have a partner."""

    def __init__(self, rows: list[Row], latents: torch.Tensor, pixels: torch.Tensor) -> None:
        """Keep what belongs together."""
        self.rows, self.latents, self.pixels = rows, latents, pixels

    @property
    def deviation(self) -> float:
        """Standard deviation of all latents; its inverse is the autoencoder's scaling factor."""
        return float(self.latents[::7].float().std())

    def weights(self, chosen: list[int]) -> np.ndarray:
        """Chance of each of `chosen`: sources count by the square root of their size, so that no town dominates."""
        names = [f"{self.rows[i].source}/{self.rows[i].modality}" for i in chosen]
        _, index, counts = np.unique(names, return_inverse=True, return_counts=True)
        weights = 1 / np.sqrt(counts[index])
        return weights / weights.sum()

    def pictures(self, index: np.ndarray) -> torch.Tensor:
        """Return the pictures of paired rows as float32 of shape (count, 3, side, side) in 0..1."""
        places = [self.rows[i].pixels for i in index]
        pictures = self.pixels[places].permute(0, 3, 1, 2).float() / 255
        return pictures.contiguous(memory_format=torch.channels_last)

    def pairs(self, translation: Translation) -> list[tuple[int, int]]:
        """Rows (input, output) of every clear view that has both modalities of a translation."""
        found: dict[int, dict[str, int]] = {}
        for i, row in enumerate(self.rows):
            if row.pixels >= 0:
                found.setdefault(row.view, {})[row.modality] = i
        both = [
            (m[translation.source], m[translation.target])
            for m in found.values()
            if {*m} >= {translation.source, translation.target}
        ]
        return sorted(both)

    def save(self, file: Path) -> None:
        """Write all of it as one safetensors file."""
        metadata = {"rows": json.dumps([asdict(row) for row in self.rows])}
        save_file({"latents": self.latents, "pixels": self.pixels}, file, metadata=metadata)

    @classmethod
    def load(cls, file: Path) -> Material:
        """Read what `save` wrote."""
        with safe_open(file, "pt") as tensors:
            rows = [
                Row(**row | {k: tuple(row[k]) for k in ("scenes", "patterns")})
                for row in json.loads(tensors.metadata()["rows"])
            ]
            return cls(rows, tensors.get_tensor("latents"), tensors.get_tensor("pixels"))


def _rows(number: int, view: View, rng: np.random.Generator) -> list[tuple[Row, np.ndarray]]:
    """The pictures of one view as uint8 RGB, among them perhaps one under weather."""
    common: dict[str, Any] = {
        "view": number,
        "gsd": level_of(view.gsd).key,
        "scenes": view.tile.scenes,
        "patterns": view.patterns,
        "source": view.tile.source,
    }
    found = []
    for modality, image in view.images.items():
        satellite = "Sentinel-1" if modality == "sar" else view.satellite
        weather = "snow" if view.tile.snowy and modality == "rgb" else None
        rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
        found.append((Row(modality=modality, weather=weather, satellite=satellite, **common), rgb))
    if "rgb" in view.images and not view.tile.snowy and rng.random() < WEATHER_SHARE:
        weather = str(rng.choice(list(SCENES)))
        drawn = SCENES[weather](view.images["rgb"].astype(np.float32) / 255, rng)
        found.append(
            (Row(modality="rgb", weather=weather, satellite=view.satellite, **common), (drawn * 255).astype(np.uint8))
        )
    return found


@torch.no_grad()
def encode(tiles: list[Tile], vae: AutoencoderTiny, *, seed: int = 0) -> Material:
    """Cut all views of `tiles` and encode them; shows progress every 500 views."""
    rows: list[Row] = []
    latents, pixels, count = [], [], 0
    rng = np.random.default_rng(seed)
    for number, view in enumerate(cut(tiles, seed)):
        found = _rows(number, view, rng)
        stack = torch.from_numpy(np.stack([image for _, image in found]))
        batch = (stack.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        latents.append(vae.encoder(batch).half())
        for (row, _), image in zip(found, stack, strict=True):
            paired = len(view.images) > 1 and (row.weather is None or view.tile.snowy)
            rows.append(Row(**asdict(row) | {"pixels": count if paired else -1}))
            if paired:
                pixels.append(image)
                count += 1
        if number % 500 == 0:
            print(f"encoding: view {number}", flush=True)
    return Material(rows, torch.cat(latents).contiguous(), torch.stack(pixels))


def plain_caption(row: Row, rng: np.random.Generator) -> str:
    """What the base learns from: a caption in plain words, without the parts for GSD, weather and satellite."""
    openings = {"rgb": captions.OPENINGS, "nir": captions.NIR_OPENINGS, "sar": captions.SAR_OPENINGS}[row.modality]
    caption = captions.draw(row.scenes, row.patterns, openings, rng)
    return captions.WEATHERS[row.weather].format(caption) if row.weather else caption


def full_prompt(row: Row, rng: np.random.Generator) -> str:
    """The four-part prompt of a row; GSD and satellite are left out now and then, so that either may be missing."""
    caption = captions.draw(row.scenes, row.patterns, captions.OPENINGS[:2], rng)
    gsd = row.gsd if rng.random() < PART_KEPT else None
    satellite = row.satellite if rng.random() < PART_KEPT else None
    return Prompt(gsd=gsd, weather=row.weather, caption=caption, satellite=satellite).text
