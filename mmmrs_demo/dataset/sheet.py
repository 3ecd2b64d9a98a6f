"""A data set to look through: one HTML page that holds its counts and, for every kind of tile, a few at random."""

from __future__ import annotations

import base64
import io
import random
from collections import Counter, defaultdict
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from mmmrs_demo.dataset.manifest import Manifest
from mmmrs_demo.files import whole

SHOWN = 16
"""Tiles shown of every kind."""

_SIDE = 160  # px of a thumbnail
_KIND = ("source", "modality", "gsd_level", "weather")
_STYLE = """body{font:14px/1.4 system-ui,sans-serif;margin:2rem;background:#fff;color:#222}
table{border-collapse:collapse;display:inline-table;vertical-align:top;margin:0 2rem 1rem 0}
td,th{padding:.1rem .6rem;text-align:left}td+td{text-align:right;font-variant-numeric:tabular-nums}
section div{display:grid;grid-template-columns:repeat(auto-fill,160px);gap:12px}
figure{margin:0}figcaption{font-size:11px;color:#555;overflow-wrap:anywhere}img{display:block;width:160px}"""


def write_sheet(manifest: Manifest, file: Path, seed: int = 0) -> None:
    """Write the page; every kind of tile (source, modality, GSD level and weather) has its own row of pictures.

    Args:
        manifest: the data set; it is read once, and only the tiles that are shown stay in memory.
        file: the HTML page, which needs no other file.
        seed: which tiles are shown.
    """
    chance = random.Random(seed)  # noqa: S311 - for pictures, not for secrets
    seen: Counter[tuple[str, ...]] = Counter()
    shown: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in manifest.rows([*_KIND, "image", "prompt", "pair", "gsd", "split", "licence"]):
        kind = tuple(row[name] or "clear" for name in _KIND)
        seen[kind] += 1
        place = len(shown[kind]) if len(shown[kind]) < SHOWN else chance.randrange(seen[kind])
        if place < SHOWN:  # each tile of a kind is as likely as any other to stay
            shown[kind][place : place + 1] = [row | {"image": _thumbnail(row["image"]["bytes"])}]
    sections = "".join(_section(kind, seen[kind], shown[kind]) for kind in sorted(seen))
    tables = "".join(_table(name, counts) for name, counts in manifest.counts().items())
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Data set</title><style>{_STYLE}</style>'
        f"<h1>{sum(seen.values()):,} tiles</h1>{tables}{sections}</html>\n"
    )
    with whole(file) as stream:
        stream.write(page.encode())


def _thumbnail(png: bytes) -> str:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        small = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def _table(name: str, counts: Counter[str]) -> str:
    rows = "".join(f"<tr><td>{escape(value)}</td><td>{count:,}</td></tr>" for value, count in counts.most_common())
    return f"<table><tr><th>{escape(name)}</th></tr>{rows}</table>"


def _section(kind: tuple[str, ...], count: int, rows: list[dict[str, Any]]) -> str:
    figures = "".join(
        f'<figure><img alt="" src="data:image/jpeg;base64,{row["image"]}">'
        f'<figcaption title="{escape(row["pair"])}">{escape(row["prompt"])}<br>{row["gsd"]:g} m, '
        f"{escape(row['split'])}, {escape(row['licence'])}</figcaption></figure>"
        for row in rows
    )
    return f"<section><h2>{escape(', '.join(kind))} ({count:,})</h2><div>{figures}</div></section>"
