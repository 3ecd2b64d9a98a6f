"""The tiles of one split of a data set on disk: any of them by number, read when it is asked for."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from mmmrs_demo.dataset.manifest import SCHEMA, Manifest
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import Translation

_TOLD = tuple(name for name in SCHEMA.names if name != "image")
_PURPOSE = {"train": "for training", "test": "of a place that is kept from training"}


MEMORY = 2**30
"""Bytes of decoded pictures that are kept: those of a small data set are decoded once."""

TURNS = 8
"""Ways to lay a square on itself: four quarter turns, each of them mirrored or not."""


def turned(picture: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Return a square turned by quarters, and mirrored from the fifth of the `TURNS` on."""
    quarters = np.rot90(picture, turn % 4)
    return quarters[:, ::-1] if turn >= TURNS // 2 else quarters


class _Place(NamedTuple):
    shard: Path
    group: int
    row: int


class Samples:
    """The rows of one split; pictures are read when they are asked for, and the last ones kept.

    Attributes:
        rows: what is known of every tile (the columns of a `manifest.Record`), without its picture.
    """

    def __init__(self, manifest: Manifest, split: str = "train") -> None:
        """Read everything but the pictures.

        Raises:
            UserError: none of the tiles is in that split.
        """
        self._places: list[_Place] = []
        self.rows: list[dict[str, Any]] = []
        for shard, group, rows in manifest.groups(_TOLD):
            for row, told in enumerate(rows):
                if told["split"] == split:
                    self._places.append(_Place(shard, group, row))
                    self.rows.append(told)
        if not self.rows:
            raise UserError(f"{manifest.shards[0].parent} holds no tile {_PURPOSE[split]}.")
        self._group = lru_cache(maxsize=64)(self._read_group)
        self._decoded = lru_cache(maxsize=max(1, MEMORY // self._decode(0).nbytes))(self._decode)

    def pairs(self, translation: Translation) -> list[tuple[int, int]]:
        """Return the rows (input, output) of every clear piece of ground that has both modalities.

        Raises:
            UserError: there is none.
        """
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for number, row in enumerate(self.rows):
            if row["weather_by"] is None:  # real snow lies in all modalities, drawn weather in one
                found[row["pair"]][row["modality"]] = number
        wanted = (translation.source.value, translation.target.value)
        both = [(m[wanted[0]], m[wanted[1]]) for m in found.values() if {*wanted} <= {*m}]
        if not both:
            raise UserError(
                f"The data set holds no pair for {translation.title}: build one from a source that has both."
            )
        return both

    def chances(self, numbers: Iterable[int]) -> NDArray[np.float64]:
        """Return how likely each of some rows should be drawn; together 1.

        A source and modality counts by the square root of its size, so that no town dominates.
        """
        kinds = [(self.rows[number]["source"], self.rows[number]["modality"]) for number in numbers]
        counts = Counter(kinds)
        weights = np.array([counts[kind] ** -0.5 for kind in kinds])
        return weights / weights.sum()

    def picture(self, number: int, turn: int = 0) -> NDArray[np.uint8]:
        """Return one tile as uint8 of shape (size, size, 3); NIR and SAR have three equal channels.

        Args:
            number: of the row.
            turn: which of the eight `TURNS`, the same one for what shall stay on the same pixels.
        """
        return np.ascontiguousarray(turned(self._decoded(number), turn))

    def _decode(self, number: int) -> NDArray[np.uint8]:
        shard, group, row = self._places[number]
        with Image.open(io.BytesIO(self._group(shard, group)[row]), formats=("PNG",)) as image:
            return np.asarray(image.convert("RGB"))

    def _read_group(self, shard: Path, group: int) -> list[bytes]:
        with pq.ParquetFile(shard) as file:
            column = file.read_row_group(group, ["image"]).column("image")
            return [entry["bytes"] for entry in column.to_pylist()]
