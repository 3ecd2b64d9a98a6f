"""Captions that a model reads off the tiles themselves, as the paper's come from BLIP-2 (paper, section 3.2).

A second pass over a data set that exists, so that it can run where a GPU is. A shard is replaced when all its captions
are there, and says then which model they are by: a pass that was stopped goes on with the shards that do not say so.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from mmmrs_demo.dataset.manifest import Manifest, captioned_by, replace_rows
from mmmrs_demo.errors import UserError
from mmmrs_demo.prompt import clean, parse

Captioner = Callable[[list[Image.Image]], list[str]]
"""One sentence for each RGB picture."""

BATCH = 16
_LONGEST = 40  # tokens of a caption, so that all four parts of the prompt fit into 77


def recaption(folder: Path, captioner: Captioner, name: str, report: Callable[[int, int], None]) -> None:
    """Give all tiles of a data set captions by a model.

    Each piece of ground gets one caption, from its clear RGB tile, for all modalities and weathers of it. A caption
    that mentions no word of the annotation's category is not believed, and the annotation's own stays, where the paper
    had people read over them.

    Args:
        folder: of the data set.
        captioner: the model.
        name: what the shards say the captions are by.
        report: called with the shards that are done and those that there are.

    Raises:
        UserError: there is no data set.
    """
    shards = Manifest(folder).shards
    for done, shard in enumerate(shards):
        report(done, len(shards))
        if captioned_by(shard) != name:
            replace_rows(shard, lambda rows: _captioned(rows, captioner), name)
    report(len(shards), len(shards))


def _captioned(rows: list[dict[str, Any]], captioner: Captioner) -> list[dict[str, Any]]:
    clear = [row for row in rows if row["modality"] == "rgb" and row["weather_by"] is None]
    said: dict[str, str] = {}
    for start in range(0, len(clear), BATCH):
        batch = clear[start : start + BATCH]
        captions = captioner([Image.open(io.BytesIO(row["image"]["bytes"]), formats=("PNG",)) for row in batch])
        said |= {
            row["pair"]: clean(caption)
            for row, caption in zip(batch, captions, strict=True)
            if believable(caption, row["category"])
        }
    return [row | _prompt(row, said[row["pair"]]) if row["pair"] in said else row for row in rows]


def _prompt(row: dict[str, Any], caption: str) -> dict[str, str]:
    prompt = parse(row["prompt"]).model_copy(update={"caption": caption})
    return {"caption": prompt.caption, "prompt": prompt.text}


def believable(caption: str, category: str | None) -> bool:
    """Whether a caption says anything, and mentions the category where there is one, in singular or plural."""
    words = {_stem(word) for word in re.findall(r"[a-z]+", caption.lower())}
    wanted = {_stem(word) for word in re.findall(r"[a-z]{3,}", (category or "").lower())}
    return bool(words) and (not wanted or bool(words & wanted))


def _stem(word: str) -> str:
    return re.sub(r"(?<=...)(?:ies|y|es|s)$", "", word)


def load_blip2(folder: Path) -> Captioner:
    """Load BLIP-2 as transformers saves it.

    Raises:
        UserError: the folder holds no BLIP-2 with safetensors weights.
    """
    import torch
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        processor = Blip2Processor.from_pretrained(folder, local_files_only=True)
        model = Blip2ForConditionalGeneration.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float16 if device.type == "cuda" else torch.float32,
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} holds no BLIP-2 with safetensors weights, as transformers saves it.") from error
    model = model.to(device).eval()

    @torch.inference_mode()
    def caption(images: list[Image.Image]) -> list[str]:
        inputs = processor(images=images, return_tensors="pt").to(device, model.dtype)
        return processor.batch_decode(model.generate(**inputs, max_new_tokens=_LONGEST), skip_special_tokens=True)

    return caption
