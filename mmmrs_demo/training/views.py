"""Views: squares cut from tiles at known ground sample distance, in all modalities alike, ready to learn from.

Follows the paper's standardisation with 256 px for 512: larger tiles are cropped, smaller ones enlarged, and the GSD
changes with them (Algorithm 1). Neighbouring levels of the GSD ladder come from enlarged crops and from mosaics of one
town.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from mmmrs_demo.dataset import captions
from mmmrs_demo.dataset.tiles import TOWN, Tile

SIDE = 256
VIEWS = {
    "naip_urban_trees": 2,
    "ombria_s1s2": 2,
    "sih1733_s1s2": 6,
    "ecomapper_s2": 7,
    "geolifeclef_s2": 5,
    "gsi_japan_aerial": 7,
}
"""Views cut from each tile of a source; from a source that is not named, about 150 in all and at most 20 of a tile."""


@dataclass(frozen=True)
class View:
    """A square of SIDE px.

    Attributes:
        images: modality to uint8 of shape (SIDE, SIDE, 3) or (SIDE, SIDE).
        gsd: metres per pixel of the view.
        patterns: caption patterns measured in it.
    """

    tile: Tile
    images: dict[str, np.ndarray]
    gsd: float
    satellite: str
    patterns: tuple[str, ...] = field(default=())


def satellite_at(tile: Tile, gsd: float) -> str:
    """The satellite word of a view: aerial pictures stand in for the satellite of the paper with the nearest GSD."""
    if tile.satellite.startswith("Sentinel") or tile.satellite == "TG2":
        return (
            "TG2" if gsd > 15 and tile.source in ("ecomapper_s2", "s2_l8_scenes", "landsat_samples") else tile.satellite
        )
    return next(word for limit, word in ((1.0, "Google Earth"), (4.5, "GF2"), (np.inf, "GF1")) if gsd < limit)


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def _turn(images: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One of the eight turns and mirrorings of a square, the same for all modalities."""
    quarter, mirror = int(rng.integers(4)), rng.random() < 0.5
    turned = {m: np.rot90(image, quarter) for m, image in images.items()}
    return {m: np.ascontiguousarray(image[:, ::-1] if mirror else image) for m, image in turned.items()}


def _crop(images: dict[str, np.ndarray], side: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    height, width = next(iter(images.values())).shape[:2]
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    return {m: _resize(image[y : y + side, x : x + side], SIDE) for m, image in images.items()}


def _side(tile: Tile, shortest: int, rng: np.random.Generator) -> int:
    """Side of the crop in pixels of the tile."""
    if shortest > SIDE:
        return int(rng.choice([SIDE, min(shortest, int(rng.integers(SIDE, 2 * SIDE + 1)))]))
    if tile.source == "naip_urban_trees" and rng.random() < 0.12:
        return SIDE // 2  # 0.3 m: the ladder's step up
    if tile.source == "naip_prairie_wetlands" and rng.random() < 0.5:
        return 160  # 3 m
    return shortest


def _load(tile: Tile) -> dict[str, np.ndarray]:
    return {m: tile.read(m) if m == "rgb" else tile.read(m)[..., 0] for m in tile.files}


def _mosaics(tiles: list[Tile]) -> Iterator[tuple[Tile, dict[str, np.ndarray]]]:
    """Join blocks that were cut from one scene (names ``p2_r3c5``) back into it, so that crops may cross them."""
    scenes: dict[str, dict[tuple[int, int], Tile]] = defaultdict(dict)
    for tile in tiles:
        if found := re.search(r"(p\d+)_r(\d+)c(\d+)$", tile.pair):
            scenes[found[1]][int(found[2]), int(found[3])] = tile
    for blocks in scenes.values():
        rows, columns = sorted({r for r, _ in blocks}), sorted({c for _, c in blocks})
        if len(blocks) == len(rows) * len(columns) and min(len(rows), len(columns)) > 1:
            loaded = {at: _load(tile) for at, tile in blocks.items()}
            names = next(iter(loaded.values()))
            yield (
                next(iter(blocks.values())),
                {
                    m: np.concatenate([np.concatenate([loaded[r, c][m] for c in columns], 1) for r in rows])
                    for m in names
                },
            )


def cut(tiles: list[Tile], seed: int = 0) -> Iterator[View]:
    """Yield views of `tiles`, the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    sources: dict[str, list[Tile]] = defaultdict(list)
    for tile in tiles:
        sources[tile.source].append(tile)
    for source, members in sources.items():
        each = VIEWS.get(source, int(np.clip(round(150 / len(members)), 1, 20)))
        large = list(_mosaics(members)) if source == "sih1733_s1s2" else []
        if large:
            for tile, images in large:
                for _ in range(each * len(members) // len(large)):
                    yield _view(tile, _crop(images, int(rng.integers(SIDE, 320)), rng), tile.gsd, rng)
            continue
        for tile in members:
            images = _load(tile)
            shortest = min(next(iter(images.values())).shape[:2])
            for _ in range(each):
                side = _side(tile, shortest, rng)
                yield _view(tile, _crop(images, side, rng), tile.gsd * side / SIDE, rng)
        if source == "naip_urban_trees":
            yield from _quarters(members, rng)


def _quarters(tiles: list[Tile], rng: np.random.Generator) -> Iterator[View]:
    """Four tiles of one town and year side by side at half size: the ladder's step down, 1.2 m."""
    towns: dict[str, list[Tile]] = defaultdict(list)
    for tile in tiles:
        towns[tile.pair.rsplit("_", 1)[0]].append(tile)
    for members in towns.values():
        for _ in range(len(members) // 5):
            chosen = [_turn(_load(members[i]), rng) for i in rng.choice(len(members), 4)]
            half = [{m: _resize(image, SIDE // 2) for m, image in images.items()} for images in chosen]
            rows = [{m: np.concatenate([a[m], b[m]], 1) for m in a} for a, b in (half[:2], half[2:])]
            images = {m: np.concatenate([row[m] for row in rows]) for m in rows[0]}
            yield _view(members[0], images, members[0].gsd * 2, rng)


def _view(tile: Tile, images: dict[str, np.ndarray], gsd: float, rng: np.random.Generator) -> View:
    images = _turn(images, rng)
    images = {m: image if m == "rgb" or image.ndim == 2 else image[..., 0] for m, image in images.items()}
    patterns: tuple[str, ...] = ()
    if "rgb" in images and tile.source.startswith("naip"):
        patterns = captions.measured(images["rgb"], images.get("nir"), town=tile.scenes[0] == TOWN[0])
    return View(tile, images, gsd, satellite_at(tile, gsd), patterns)
