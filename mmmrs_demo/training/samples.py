"""Training samples from a data set on disk: any row by number, read when it is asked for."""

from __future__ import annotations

import io
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from mmmrs_demo.dataset.manifest import Manifest
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import Translation

_TOLD = ("prompt", "modality", "pair", "split", "source", "weather", "licence")


class _Place(NamedTuple):
    shard: Path
    group: int
    row: int


class Samples:
    """The training rows of a data set; pictures stay on the disk, a few row groups apart.

    Attributes:
        rows: what is known of every training tile, without its picture.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Read everything but the pictures.

        Raises:
            UserError: none of the tiles is for training.
        """
        self._places: list[_Place] = []
        self.rows: list[dict[str, Any]] = []
        for shard, group, rows in manifest.groups(_TOLD):
            for row, told in enumerate(rows):
                if told["split"] == "train":
                    self._places.append(_Place(shard, group, row))
                    self.rows.append(told)
        if not self.rows:
            raise UserError(f"{manifest.shards[0].parent} holds no tile for training.")
        self._group = lru_cache(maxsize=64)(self._read_group)

    def pairs(self, translation: Translation) -> list[tuple[int, int]]:
        """Return the rows (input, output) of every clear piece of ground that has both modalities.

        Raises:
            UserError: there is none.
        """
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for number, row in enumerate(self.rows):
            if row["weather"] is None:
                found[row["pair"]][row["modality"]] = number
        wanted = (translation.source.value, translation.target.value)
        both = [(m[wanted[0]], m[wanted[1]]) for m in found.values() if {*wanted} <= {*m}]
        if not both:
            raise UserError(
                f"The data set holds no pair for {translation.title}: build one from a source that has both."
            )
        return both

    def images(self, numbers: list[int]) -> torch.Tensor:
        """Return pictures as float32 of shape (count, 3, size, size) in -1..1, grey ones with three equal channels."""
        pictures = []
        for number in numbers:
            shard, group, row = self._places[number]
            with Image.open(io.BytesIO(self._group(shard, group)[row]), formats=("PNG",)) as image:
                pictures.append(np.asarray(image.convert("RGB")))
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1

    def _read_group(self, shard: Path, group: int) -> list[bytes]:
        with pq.ParquetFile(shard) as file:
            column = file.read_row_group(group, ["image"]).column("image")
            return [entry["bytes"] for entry in column.to_pylist()]
