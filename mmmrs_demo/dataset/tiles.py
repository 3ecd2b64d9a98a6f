"""Tiles on disk: which modalities of one place belong together, what is known about them, and who may be trained on.

Reads a folder with an ``index.csv`` (columns file, modality, pair_id, source, gsd_m, caption, licence). Knows nothing
of models.
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmmrs_demo.errors import UserError

HELD_OUT_SHARE = 0.08
"""Share of places that no training step ever sees."""


@dataclass(frozen=True)
class Source:
    """What all tiles of one data set have in common.

    Attributes:
        place: regular expression whose match in the file stem names the place; tiles of one place share a split.
        satellite: the prompt's satellite word. Only the Sentinel ones are literally true, the others are stand-ins of
            like resolution.
        scenes: what a caption may say the tile shows.
        held_out: regular expression of places that are always held out.
    """

    place: str
    satellite: str
    scenes: tuple[str, ...]
    held_out: str = r"(?!)"


TOWN = ("a residential area", "a street in a residential area", "houses and streets", "a small town", "a city")
FARMLAND = ("farmland", "fields", "some roads in farmland", "a rural area with fields")
FOREST = ("a forest", "trees", "dense woodland", "a forest with tall trees")
SOURCES: dict[str, Source] = {
    "naip_urban_trees": Source(r"[a-z_]+?_\d{4}_\d+", "Google Earth", TOWN, held_out=r"^eureka"),
    "naip_prairie_wetlands": Source(
        r"r\dc\d", "GF1", ("farmland with ponds", "wetlands and fields", "a field with lakes"), held_out=r"r1c1"
    ),
    "naip_1m_misc": Source(r"^[a-z]+_\d+", "GF2", FOREST),
    "geolifeclef22_aerial": Source(r"^\d+", "GF2", ("the countryside", "a rural area with trees", "woods and fields")),
    "geolifeclef_s2": Source(r"^\d+", "Sentinel-2", ("the countryside", "hills and villages", "a rural area")),
    "s2_l8_scenes": Source(r"^[a-z]+\d*", "Sentinel-2", ("a landscape",)),
    "landsat_samples": Source(r"^l\d_[a-z]+", "TG2", ("a landscape",)),
    "sih1733_s1s2": Source(r"p\d_r\dc\d", "Sentinel-2", ("a city",), held_out=r"r\dc[78]"),
    "s1s2_triples": Source(
        r"^[a-z0-9]+_[^_]+", "Sentinel-2", ("the countryside",), held_out=r"^s12_2017|^ben_20171221"
    ),
    "ombria_s1s2": Source(r"^\d+", "Sentinel-1", ("a river plain", "farmland and a river", "a river in farmland")),
    "ecomapper_s2": Source(r"^\d+", "Sentinel-2", ("a landscape",), held_out=r"^4451"),
    "amazon_s2": Source(r"^\d+_\d+", "Sentinel-2", ("a forest with clearings", "a rainforest", "a jungle and pasture")),
    "gsi_japan_aerial": Source(r"^[a-z]+\d+", "Google Earth", ("buildings and a road", "houses and fields", "a town")),
    "flair_ign": Source(r"^[A-Za-z]+_?\d+", "Google Earth", ("buildings and a road", "a town", "trees")),
    "neon_forest": Source(r"^[A-Za-z0-9]+_", "Google Earth", FOREST),
}
"""The sources that may be trained on. A source that is not in this table is left out."""

SCENES_BY_CAPTION: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"Everest|glacier", ("a large mountain range", "mountains and glaciers", "a mountain")),
    (r"snow", ("a frozen landscape", "a forest in the mountains")),
    (r"desert bush|Barren|bare|desert\b(?! resort| small)|arid", ("a desert", "dry hills", "a dry landscape")),
    (r"Amazon", ("a rainforest", "a forest with clearings", "a jungle and pasture")),
    (r"[Ss]avanna", ("a savanna", "a dry grassland")),
    (r"[Cc]ropland|[Cc]roplands", FARMLAND),
    (r"[Ff]orest", FOREST),
    (r"airport", ("a city with a river", "a large city", "the area around a large city", "a dense city")),
    (r"large Indian city", ("a large city", "a city with a river", "the area around a large city")),
    (r"Aravalli", ("a mountain with a river running through it", "hills and a valley", "dry hills with lakes")),
    (r"delta", ("a river delta", "a river and the sea")),
    (r"lagoon", ("a lagoon and farmland", "a coast with fields")),
    (r"mangrove", ("mangroves and tidal channels", "a river and a forest")),
    (r"reservoir", ("a lake in a forest", "a reservoir")),
    (r"coast(?!al)", ("a coast", "a city at the sea")),
    (r"palm|desert resort", ("a residential area in the desert", "houses and streets in the desert")),
    (r"coastal", (*TOWN, "a city at the sea")),
    (r"field|pasture|farm", FARMLAND),
)
"""First match wins: what a source's own caption says about the scene, in words the embedded text encoder learns."""


@dataclass(frozen=True)
class Tile:
    """One place at one time in the modalities that exist of it.

    Attributes:
        files: modality name (``rgb``, ``nir``, ``sar``) to file.
        gsd: ground sample distance in metres per pixel.
        scenes: possible endings of "a satellite image shows ...".
        snowy: real snow covers most of it.
    """

    pair: str
    source: str
    place: str
    gsd: float
    satellite: str
    scenes: tuple[str, ...]
    files: dict[str, Path]
    held_out: bool
    snowy: bool
    licence: str

    def read(self, modality: str) -> np.ndarray:
        """Return uint8 of shape (height, width, 3), grey modalities with three equal channels."""
        with Image.open(self.files[modality]) as image:
            return np.asarray(image.convert("RGB"))


def drawn_for_test(place: str) -> bool:
    """Whether a place, named with its source, is one of the `HELD_OUT_SHARE` that chance keeps from training."""
    return int.from_bytes(hashlib.sha256(place.encode()).digest()[:4], "big") / 2**32 < HELD_OUT_SHARE


def share_alike(row: dict[str, str]) -> bool:
    """Whether a row comes under a ShareAlike licence, which a model under Apache-2.0 must not be trained on."""
    stem = Path(row["file"]).name
    return "-SA" in row["licence"] or stem.startswith(("tm_", "sn6_"))


def read_index(folder: Path) -> list[Tile]:
    """Read a folder with an ``index.csv``.

    Args:
        folder: holds ``index.csv``; the files it names are relative to it.

    Returns:
        Every tile of a source in `SOURCES` that is not ShareAlike, training and held-out ones, in a fixed order.

    Raises:
        UserError: when there is no index.
    """
    index = folder / "index.csv"
    if not index.is_file():
        message = f"{folder} has no index.csv: give the folder that holds the tiles and their index."
        raise UserError(message)
    pairs: dict[str, list[dict[str, str]]] = {}
    with index.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["source"] in SOURCES and row["modality"] in ("rgb", "nir", "sar") and not share_alike(row):
                pairs.setdefault(row["pair_id"], []).append(row)
    return [_tile(folder, pair, rows) for pair, rows in sorted(pairs.items())]


def _tile(folder: Path, pair: str, rows: list[dict[str, str]]) -> Tile:
    row, source = rows[0], SOURCES[rows[0]["source"]]
    stem = pair.split("/", 1)[1]
    found = re.search(source.place, stem)
    place = found.group() if found else stem
    if row["source"] == "naip_urban_trees":  # the same number of another year is the same ground
        place = re.sub(r"_\d{4}_", "_", place)
    scenes = next((words for pattern, words in SCENES_BY_CAPTION if re.search(pattern, row["caption"])), source.scenes)
    if len(source.scenes) > 1 and row["source"] not in ("s1s2_triples", "naip_urban_trees"):
        scenes = source.scenes
    by_block = row["source"] in ("sih1733_s1s2", "ecomapper_s2")
    return Tile(
        pair=pair,
        source=row["source"],
        place=f"{row['source']}/{place}",
        gsd=float(row["gsd_m"]),
        satellite=source.satellite,
        scenes=scenes,
        files={r["modality"]: folder / r["file"] for r in rows},
        held_out=bool(re.search(source.held_out, stem))
        or (not by_block and drawn_for_test(f"{row['source']}/{place}")),
        snowy="snow-covered" in row["caption"] or "snowy" in row["caption"] or "Everest" in row["caption"],
        licence=row["licence"],
    )
