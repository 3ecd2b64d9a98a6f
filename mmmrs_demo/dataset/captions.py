"""Captions for tiles: what the annotations say, checked against what can be measured (paper section 3.2).

The embedded text encoder learns only these words.
"""

from __future__ import annotations

import numpy as np

OPENINGS = ("a satellite image shows {}", "a satellite image of {}")
"""How the paper's captions begin."""

PLAIN = {
    "rgb": (*OPENINGS, OPENINGS[0], "{}"),  # most of the paper's prompts begin with the first
    "nir": ("a near infrared image of {}",),
    "sar": ("a radar image of {}",),
}
"""How a caption in plain words begins, which says the modality: what the paper's prompts never do."""

WEATHERS = {"snow": "{} in winter", "fog": "{} in mist", "night": "{} after dark"}
"""How a caption in plain words says the weather: not with the prompt's own word, whose meaning is the LoRA's."""

DISTANCES = {
    "ultra-high": "{} seen from very near",
    "high": "{} seen from near",
    "ordinary": "{} seen from above",
    "low": "{} seen from afar",
    "ultra-low": "{} seen from very far",
}
"""How a caption in plain words says the GSD level, every other time."""

LEAFY = ("{} with many trees", "{} with trees and gardens", "a park in the city", "{} with green lawns")
BUILT = (
    "an industrial area with large roofs",
    "{} with parking lots",
    "large buildings and parking lots",
    "a commercial area",
)
WATERY = ("{} with water", "{} with a lake", "{} by the water")
BARE = ("{} with bare ground", "{} in dry land")


def measured(rgb: np.ndarray, nir: np.ndarray | None, *, town: bool) -> tuple[str, ...]:
    """Return caption patterns that what is measured supports.

    Args:
        rgb: uint8 of shape (height, width, 3).
        nir: uint8 of shape (height, width), or None where there is none.
        town: whether the tile shows a town, where few plants mean much building.

    Returns:
        Patterns with one place for the scene, possibly none.
    """
    if nir is None:
        return ()
    red, infrared = rgb[..., 0].astype(float), nir.astype(float)
    ndvi = (infrared - red) / np.maximum(infrared + red, 1)
    plants, water = float((ndvi > 0.15).mean()), float(((infrared < 45) & (ndvi < -0.05)).mean())
    if water > 0.2:
        return WATERY
    if plants > 0.45 and town:
        return LEAFY
    if plants < 0.08:
        return BUILT if town else BARE
    return ()


def draw(scenes: tuple[str, ...], patterns: tuple[str, ...], rng: np.random.Generator) -> str:
    """Return one caption: an opening, a scene, and, more often than not where there are any, a measured pattern."""
    scene = str(rng.choice(scenes))
    if patterns and rng.random() < 0.6:
        scene = str(rng.choice(patterns)).format(scene)
    return str(rng.choice(OPENINGS)).format(scene)


def plain(caption: str, modality: str, weather: str | None, gsd_level: str | None, rng: np.random.Generator) -> str:
    """Return a caption retold in plain words that say modality, weather and scale, as a base learns it before any LoRA.

    Args:
        caption: of a prompt; where it begins like the paper's, it gets another beginning.
        modality: rgb, nir or sar.
        weather: one of `WEATHERS`, or None.
        gsd_level: one of `DISTANCES`, or None.
        rng: draws the beginning, and whether the scale is said.
    """
    begun = (opening.removesuffix("{}") for opening in OPENINGS)
    scene = next((caption.removeprefix(words) for words in begun if caption.startswith(words)), caption)
    if gsd_level and rng.random() < 0.5:
        scene = DISTANCES[gsd_level].format(scene)
    retold = str(rng.choice(PLAIN[modality])).format(scene)
    return WEATHERS[weather].format(retold) if weather else retold
