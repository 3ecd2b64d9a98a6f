"""Draws the examples: a made-up landscape of fields, woods, a river, roads and houses, and what the models make of it.

Run from the repository's root: ``python examples/draw.py``.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.engine import Engine
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.provenance import save_png
from mmmrs_demo.request import TranslationRequest
from mmmrs_demo.settings import Settings

SIDE = 256
FIELDS = ((92, 112, 62), (124, 130, 78), (150, 138, 98), (72, 98, 56), (168, 158, 120), (104, 120, 70))
WOOD, WATER, ROAD, ROOFS = (
    (44, 66, 42),
    (38, 58, 64),
    (150, 148, 140),
    ((140, 82, 66), (120, 118, 116), (172, 168, 160)),
)


def landscape(seed: int, houses: int) -> Image.Image:
    """Return an RGB tile of made-up country; more `houses` make it a village."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    xs, ys = ([-40, *sorted(rng.integers(20, SIDE - 20, 4)), SIDE + 40] for _ in range(2))
    lean = int(rng.integers(-30, 30))
    for left, right in itertools.pairwise(xs):
        for top, bottom in itertools.pairwise(ys):
            corners = [(left + lean * top // SIDE, top), (right + lean * top // SIDE, top)]
            corners += [(right + lean * bottom // SIDE, bottom), (left + lean * bottom // SIDE, bottom)]
            draw.polygon([(int(x), int(y)) for x, y in corners], fill=FIELDS[rng.integers(len(FIELDS))])
    woods = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 14)
    image.paste(WOOD, mask=Image.fromarray(((woods > np.quantile(woods, 0.82)) * 255).astype(np.uint8)))
    along = np.linspace(-10, SIDE + 10, 40)
    bend = SIDE * rng.uniform(0.3, 0.7) + 30 * np.sin(along / rng.uniform(25, 45) + rng.uniform(0, 6))
    draw.line(list(zip(bend, along, strict=True)), fill=WATER, width=int(rng.integers(8, 16)), joint="curve")
    for y in (ys[2], ys[3]):
        draw.line([(0, int(y)), (SIDE, int(y) + lean)], fill=ROAD, width=4)
    for _ in range(houses):
        x, y, wide, high = rng.integers(0, SIDE - 16), ys[2] + rng.normal(0, 22), *rng.integers(6, 14, 2)
        draw.rectangle((int(x), int(y), int(x + wide), int(y + high)), fill=ROOFS[rng.integers(len(ROOFS))])
    grain = rng.normal(0, 7, (SIDE, SIDE, 1)) + 14 * gaussian_filter(rng.standard_normal((SIDE, SIDE, 1)), (2, 2, 0))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)), float) + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def main() -> None:
    """Write all examples beside this file."""
    folder, settings = Path(__file__).parent, Settings()
    engine = Engine(Catalog.load(settings.weights), settings)
    for name, seed, houses in (("fields", 4, 6), ("village", 11, 60), ("valley", 23, 0)):
        tile = landscape(seed, houses)
        tile.save(folder / f"rgb_{name}.png")
        for key in ("rgb2sar", "rgb2nir"):
            translation = TRANSLATIONS[key]
            prompt = Prompt(gsd="low", caption=translation.caption, satellite=translation.satellite)
            made = engine.run(TranslationRequest(translation=key, prompt=prompt, seed=seed), tile)
            save_png(made, folder / f"{translation.target}_{name}.png")


if __name__ == "__main__":
    main()
