"""Pictures on the way: what a model in training makes of a few prompts or tiles, with the same seeds each time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from PIL import Image

from mmmrs_demo.dataset.manifest import Manifest
from mmmrs_demo.dataset.samples import Samples
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import Translation
from mmmrs_demo.training.loop import autocast

PICTURES = 4


class Example(NamedTuple):
    """A pair of tiles to try a translation on, and its prompt."""

    prompt: str
    source: Image.Image
    target: Image.Image


class Look(NamedTuple):
    """How pictures are drawn.

    Attributes:
        side: of each in pixels.
        steps: of the pipeline's own scheduler.
        guidance: scale.
        precision: of the passes, a key of `loop.PRECISIONS`.
    """

    side: int
    steps: int
    guidance: float
    precision: str


def examples(data: Path, translation: Translation) -> list[Example]:
    """Return a few pairs spread over a data set, of places kept from training where there are any."""
    try:
        samples = Samples(Manifest(data), "test")
        pairs = samples.pairs(translation)
    except UserError:
        samples = Samples(Manifest(data))
        pairs = samples.pairs(translation)
    return [
        Example(samples.rows[source]["prompt"], *(Image.fromarray(samples.picture(n)) for n in (source, target)))
        for source, target in pairs[:: max(1, len(pairs) // PICTURES)][:PICTURES]
    ]


def draw(pipeline: StableDiffusionPipeline, prompts: Sequence[str], look: Look) -> Image.Image:
    """Return a row of pictures, one of each prompt."""
    return _grid([[_picture(pipeline, prompt, seed, look) for seed, prompt in enumerate(prompts)]], look.side)


def draw_translations(
    pipeline: StableDiffusionPipeline, controlnet: ControlNetModel, shown: Sequence[Example], look: Look
) -> Image.Image:
    """Return three rows: inputs, real targets, and what is made of the inputs."""
    parts = {**pipeline.components, "controlnet": controlnet, "requires_safety_checker": False}
    translating = StableDiffusionControlNetPipeline(**parts)
    sources = [example.source.resize((look.side, look.side)) for example in shown]
    made = [
        _picture(translating, example.prompt, seed, look, image=source)
        for seed, (example, source) in enumerate(zip(shown, sources, strict=True))
    ]
    return _grid([sources, [example.target for example in shown], made], look.side)


@torch.no_grad()
def _picture(pipeline: Any, prompt: str, seed: int, look: Look, **more: Any) -> Image.Image:
    pipeline.set_progress_bar_config(disable=True)
    with autocast(pipeline.device, look.precision):
        made = pipeline(
            prompt,
            num_inference_steps=look.steps,
            guidance_scale=look.guidance,
            height=look.side,
            width=look.side,
            generator=torch.Generator().manual_seed(seed),
            **more,
        )
    return made.images[0]


def _grid(rows: Sequence[Sequence[Image.Image]], side: int) -> Image.Image:
    page = Image.new("RGB", (side * len(rows[0]), side * len(rows)))
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            page.paste(image.resize((side, side)), (x * side, y * side))
    return page
