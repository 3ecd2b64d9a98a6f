"""The data set on disk: parquet shards that hold pictures, their prompts and where they come from.

A shard is whole or not there, so that a build can be killed at any time. The Hugging Face `datasets` library reads the
folder as it is: ``load_dataset("parquet", data_files="FOLDER/*.parquet")``.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from mmmrs_demo.errors import UserError
from mmmrs_demo.prompt import Prompt

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TEXTS = (
    "prompt",
    "gsd_level",
    "weather",
    "caption",
    "satellite",
    "modality",
    "pair",
    "source",
    "category",
    "place",
    "licence",
    "split",
    "resampling",
    "weather_by",
    "sha256",
)
SCHEMA = pa.schema([("image", _IMAGE), *((name, pa.string()) for name in _TEXTS), ("gsd", pa.float64())])
"""Columns of a shard; what each one says stands at `Record`."""

COUNTED = ("source", "modality", "gsd_level", "weather", "satellite", "split", "resampling")
"""Columns with few different values, of which a summary tells how often each occurs."""

_SKIPPED = b"mmmrs_demo.skipped"
_CAPTIONS = b"mmmrs_demo.captions_by"
_FEATURES = {
    "image": {"_type": "Image"},
    **{name: {"dtype": "string", "_type": "Value"} for name in _TEXTS},
    "gsd": {"dtype": "float64", "_type": "Value"},
}


class Skipped(NamedTuple):
    """A source picture that could not be used, and why."""

    source: str
    key: str
    reason: str


@dataclass(frozen=True)
class Record:
    """One picture of the data set with all that is known about it.

    Attributes:
        image: uint8 of shape (size, size) for NIR and SAR, (size, size, 3) for RGB.
        prompt: the four parts (paper, section 3.2).
        modality: rgb, nir or sar.
        pair: the same for all modalities and weathers of one piece of ground.
        gsd: metres per pixel.
        source: key of the source.
        category: the annotation's class, or None.
        place: what decides the split: pictures of one place are all in one.
        licence: of the source picture.
        split: train or test.
        resampling: none, bicubic, or the name of the super-resolution weights.
        weather_by: what drew the weather; None where it was real or clear.
    """

    image: NDArray[np.uint8]
    prompt: Prompt
    modality: str
    pair: str
    gsd: float
    source: str
    category: str | None
    place: str
    licence: str
    split: str
    resampling: str
    weather_by: str | None = None

    def row(self) -> dict[str, Any]:
        """Return the record as a row of a shard."""
        buffer = io.BytesIO()
        Image.fromarray(self.image).save(buffer, "PNG", compress_level=4)
        told = {k: v for k, v in vars(self).items() if k not in ("image", "prompt")}
        return told | {
            "image": {"bytes": buffer.getvalue(), "path": f"{self.pair}-{self.prompt.weather or self.modality}.png"},
            "prompt": self.prompt.text,
            "gsd_level": self.prompt.gsd,
            "weather": self.prompt.weather,
            "caption": self.prompt.caption,
            "satellite": self.prompt.satellite,
            "sha256": hashlib.sha256(self.image.tobytes()).hexdigest(),
        }


class Shard(NamedTuple):
    """What one finished shard holds."""

    tiles: int
    skipped: list[Skipped]


def write_shard(file: Path, groups: Iterable[list[Record] | Skipped]) -> Shard:
    """Write the records of one source picture after another, so that no more than those are in memory.

    The file appears under its name only when it is whole.
    """
    part = file.with_suffix(".part")
    tiles, skipped = 0, []
    info = {b"huggingface": json.dumps({"info": {"features": _FEATURES}}).encode()}
    with pq.ParquetWriter(part, SCHEMA.with_metadata(info), compression="none") as writer:  # PNG is compressed
        for group in groups:
            if isinstance(group, Skipped):
                skipped.append(group)
            elif group:
                writer.write_table(pa.Table.from_pylist([record.row() for record in group], SCHEMA.with_metadata(info)))
                tiles += len(group)
        writer.add_key_value_metadata({_SKIPPED: json.dumps(skipped).encode()})
    part.replace(file)
    return Shard(tiles, skipped)


def read_shard(file: Path) -> Shard:
    """Return what a finished shard holds without reading its pictures."""
    metadata = pq.read_metadata(file)
    told = (metadata.metadata or {}).get(_SKIPPED, b"[]")
    return Shard(metadata.num_rows, [Skipped(*entry) for entry in json.loads(told)])


def captioned_by(file: Path) -> str | None:
    """Return the name of the model that a shard's captions are by; None where they come from the annotations."""
    name = (pq.read_metadata(file).metadata or {}).get(_CAPTIONS)
    return name.decode() if name else None


def replace_rows(file: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], captions_by: str) -> None:
    """Write a shard anew with changed rows, one source picture in memory at a time; it is replaced when it is whole.

    Args:
        file: the shard.
        change: gets the rows of one source picture and returns as many.
        captions_by: what the shard says from then on of its captions.
    """
    part = file.with_suffix(".part")
    with pq.ParquetFile(file) as old, pq.ParquetWriter(part, old.schema_arrow, compression="none") as writer:
        for group in range(old.num_row_groups):
            rows = change(old.read_row_group(group).to_pylist())
            writer.write_table(pa.Table.from_pylist(rows, old.schema_arrow))
        kept = {key: value for key, value in (old.metadata.metadata or {}).items() if key == _SKIPPED}
        writer.add_key_value_metadata(kept | {_CAPTIONS: captions_by.encode()})
    part.replace(file)


class Manifest:
    """A finished or growing data set."""

    def __init__(self, folder: Path) -> None:
        """Find the shards.

        Raises:
            UserError: there is none.
        """
        self.shards = sorted(folder.glob("*.parquet"))
        if not self.shards:
            raise UserError(f"{folder} holds no data set: make one with `mmmrs-demo dataset build`.")

    def groups(self, columns: Iterable[str]) -> Iterator[tuple[Path, int, list[dict[str, Any]]]]:
        """Yield shard, number and rows of every row group: the tiles of one source picture, in the given columns."""
        for shard in self.shards:
            with pq.ParquetFile(shard) as file:
                for group in range(file.num_row_groups):
                    yield shard, group, file.read_row_group(group, list(columns)).to_pylist()

    def rows(self, columns: Iterable[str] = SCHEMA.names) -> Iterator[dict[str, Any]]:
        """Yield the given columns of all rows, one row group in memory at a time."""
        for *_, rows in self.groups(columns):
            yield from rows

    def counts(self) -> dict[str, Counter[str]]:
        """Return how often each value of the columns in `COUNTED` occurs; a part left out counts as "none"."""
        found: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
        for row in self.rows(COUNTED):
            for name, value in row.items():
                found[name][value or "none"] += 1
        return found

    def skipped(self) -> list[Skipped]:
        """Return the source pictures that could not be used."""
        return [entry for shard in self.shards for entry in read_shard(shard).skipped]
