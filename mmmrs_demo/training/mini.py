"""The embedded bundle from nothing: autoencoder, text encoder, base with ControlNets, LoRA; and the folder.

Every stage leaves its checkpoint and sample sheets in a work folder; running again goes on where it stopped.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderTiny,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
)
from peft.utils import get_peft_model_state_dict
from PIL import Image

from mmmrs_demo.dataset.tiles import Tile, read_index
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import PAPER_PROMPTS
from mmmrs_demo.training import autoencoder, diffusion, text
from mmmrs_demo.training.loop import Plan
from mmmrs_demo.training.material import Material, encode

SHARD = "9MB"
"""Largest file, so that a repository takes the weights without large-file storage."""

CAPTIONS = (
    "a satellite image shows a residential area",
    "a satellite image shows farmland",
    "a satellite image shows a forest",
    "a satellite image shows a desert",
    "a satellite image shows a large mountain range",
    "a satellite image shows a city with a river",
    "a radar image of a river plain",
    "a near infrared image of houses and streets",
)


@dataclass(frozen=True)
class Recipe:
    """The plans of all stages; the defaults made the bundle in ``weights/mini``."""

    autoencoder: Plan = Plan(5000, 16, 1.5e-3)
    text: Plan = Plan(600, 32, 2e-3, ema=0.99)
    eyes: Plan = Plan(300, 16, 2e-3, ema=0.99)
    base: Plan = Plan(6600, 16, 6e-4, ema=0.998)
    lora: Plan = Plan(1000, 16, 2e-3, warmup=50, ema=0.99)

    def shortened(self, factor: float) -> Recipe:
        """Return the same recipe with all steps multiplied by `factor`, at least 2 each: to try a change quickly."""
        stages = {name: replace(plan, steps=max(2, round(plan.steps * factor))) for name, plan in vars(self).items()}
        return Recipe(**stages)


def train(data: Path, work: Path, out: Path, recipe: Recipe, *, only: str | None = None) -> None:
    """Train every stage that is not yet done and write the bundle.

    Args:
        data: folder of tiles with an ``index.csv``.
        work: folder for checkpoints, encoded material and sample sheets.
        out: folder of the bundle; it is written after each stage, so that what is there can be used at once.
        recipe: how long each stage learns.
        only: name of the last stage to run (autoencoder or base); None for all.

    Raises:
        UserError: when `data` holds no index.
    """
    torch.manual_seed(0)
    work.mkdir(parents=True, exist_ok=True)
    tiles = [tile for tile in read_index(data) if not tile.held_out]
    vae = autoencoder.build()
    _train_autoencoder(vae, tiles, work, recipe)
    if only == "autoencoder":
        return
    material = _material(tiles, vae, work)
    vae.register_to_config(scaling_factor=1 / material.deviation)

    tokenizer = text.build_tokenizer()
    text_encoder, unet = text.build_text_encoder(tokenizer), diffusion.build_unet(autoencoder.LATENT_CHANNELS)
    text.train(text_encoder, tokenizer, work, recipe.text)
    learner = diffusion.Learner(material, tokenizer, text_encoder, unet)
    pipe = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler(), None, None, requires_safety_checker=False
    )
    controlnets = {key: diffusion.build_controlnet(unet) for key in TRANSLATIONS}
    diffusion.train_eyes(controlnets, material, work, recipe.eyes)
    sheets = _translation_sheets(pipe, controlnets, material, work)

    def base_sheets(step: int) -> None:
        _sheet(pipe, CAPTIONS, work / f"base-{step}.png")
        sheets(step)

    diffusion.train_base(learner, controlnets, work, recipe.base, base_sheets)
    _save_base(pipe, out)
    for key, controlnet in controlnets.items():
        _half(controlnet).save_pretrained(out / "controlnet" / key, max_shard_size=SHARD)
    if only == "base":
        return
    prompts = tuple(prompt.text for prompt in PAPER_PROMPTS[:8])
    diffusion.train_lora(learner, work, recipe.lora, lambda step: _sheet(pipe, prompts, work / f"lora-{step}.png"))
    _save_lora(pipe, out)


def scheduler() -> DPMSolverMultistepScheduler:
    """Return the sampler that ships: DPM++ 2M Karras, the paper's, on this bundle's noise schedule."""
    return DPMSolverMultistepScheduler.from_config(diffusion.build_scheduler().config, use_karras_sigmas=True)


def _train_autoencoder(vae: AutoencoderTiny, tiles: list[Tile], work: Path, recipe: Recipe) -> None:
    done = work / "vae"
    if done.is_dir():
        vae.load_state_dict(AutoencoderTiny.from_pretrained(done).state_dict())
        return
    autoencoder.train(vae, autoencoder.Crops(tiles), work, recipe.autoencoder)
    vae.save_pretrained(done)


def _material(tiles: list[Tile], vae: AutoencoderTiny, work: Path) -> Material:
    file = work / "material.safetensors"
    if not file.is_file():
        encode(tiles, vae).save(file)
    return Material.load(file)


def _translation_sheets(
    pipe: StableDiffusionPipeline, controlnets: dict[str, ControlNetModel], material: Material, work: Path
) -> Callable[[int], None]:
    """Return what draws one sheet per direction: four inputs, and below each its translation."""

    def draw(step: int) -> None:
        for key, controlnet in controlnets.items():
            pairs = material.pairs(TRANSLATIONS[key])
            inputs = [material.rows[i].pixels for i, _ in pairs[:: max(1, len(pairs) // 4)][:4]]
            images = [Image.fromarray(material.pixels[place].numpy()) for place in inputs]
            parts = {**pipe.components, "controlnet": controlnet, "requires_safety_checker": False}
            prompts = (TRANSLATIONS[key].caption,) * len(images)
            _sheet(StableDiffusionControlNetPipeline(**parts), prompts, work / f"{key}-{step}.png", images)

    return draw


@torch.no_grad()
def _sheet(pipe: Any, prompts: tuple[str, ...], file: Path, inputs: list[Image.Image] | None = None) -> None:
    """Draw one picture per prompt with seed 0 (below its input where there is one) and save them side by side."""
    pipe.set_progress_bar_config(disable=True)
    side = autoencoder.CROP * 4
    sheet = Image.new("RGB", (side * len(prompts), side * (2 if inputs else 1)))
    for i, prompt in enumerate(prompts):
        extra = {"image": inputs[i]} if inputs else {}
        generator = torch.Generator().manual_seed(i)
        with torch.autocast("cpu", torch.bfloat16):
            picture = pipe(
                prompt,
                num_inference_steps=20,
                guidance_scale=4.0 if not inputs else 1.5,
                height=side,
                width=side,
                generator=generator,
                **extra,
            )
        for row, image in enumerate(([inputs[i]] if inputs else []) + picture.images):
            sheet.paste(image, (i * side, row * side))
    sheet.save(file)


def _half(module: Any) -> Any:
    """A copy in float16; the one that goes on learning stays as it is."""
    return copy.deepcopy(module).half()


def _save_base(pipe: StableDiffusionPipeline, out: Path) -> None:
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.rmtree(out / part, ignore_errors=True)
    halves = {name: _half(getattr(pipe, name)) for name in ("unet", "vae", "text_encoder")}
    whole = StableDiffusionPipeline(
        tokenizer=pipe.tokenizer,
        scheduler=pipe.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **halves,
    )
    whole.save_pretrained(out, max_shard_size=SHARD)


def _save_lora(pipe: StableDiffusionPipeline, out: Path) -> None:
    layers = get_peft_model_state_dict(pipe.unet)
    halves = {name: tensor.half() for name, tensor in layers.items()}
    StableDiffusionPipeline.save_lora_weights(out / "lora", unet_lora_layers=halves)
