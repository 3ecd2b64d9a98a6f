"""The embedded bundle from nothing: autoencoder, text encoder, base with ControlNets, these alone, LoRA; the folder.

Every stage leaves its checkpoint and sample sheets in a work folder; running again goes on where it stopped.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
)
from peft.utils import get_peft_model_state_dict

from mmmrs_demo.dataset.manifest import Manifest
from mmmrs_demo.dataset.samples import Samples
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import PAPER_PROMPTS
from mmmrs_demo.training import autoencoder, diffusion, sheets, text
from mmmrs_demo.training.latents import Latents
from mmmrs_demo.training.loop import Plan
from mmmrs_demo.training.noise import Noise

PRECISION = "bf16"
TEXT_LOOK = sheets.Look(side=256, steps=20, guidance=4.0, precision=PRECISION)
TRANSLATION_LOOK = sheets.Look(side=256, steps=20, guidance=1.5, precision=PRECISION)
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
    """The plans of all stages."""

    autoencoder: Plan = Plan(5000, 16, 1.5e-3)
    text: Plan = Plan(600, 32, 2e-3, ema=0.99)
    eyes: Plan = Plan(1000, 16, 2e-3, ema=0.99)
    base: Plan = Plan(12000, 16, 6e-4, ema=0.999)
    controlnets: Plan = Plan(3200, 16, 5e-4, ema=0.999)
    lora: Plan = Plan(1500, 32, 1e-3, warmup=50, ema=0.99)

    def shortened(self, factor: float) -> Recipe:
        """Return the same recipe with all steps multiplied by `factor`, at least 2 each: to try a change quickly."""
        stages = {name: replace(plan, steps=max(2, round(plan.steps * factor))) for name, plan in vars(self).items()}
        return Recipe(**stages)


def train(data: Path, work: Path, out: Path, recipe: Recipe, *, only: str | None = None) -> None:
    """Train every stage that is not yet done and write the bundle.

    Args:
        data: folder of a data set with tiles of 256 px.
        work: folder for checkpoints, encoded tiles and sample sheets.
        out: folder of the bundle; it is written after each stage, so that what is there can be used at once.
        recipe: how long each stage learns.
        only: name of the last stage to run (autoencoder or base); None for all.

    Raises:
        UserError: `data` holds no data set, or one without pairs for a translation.
    """
    torch.manual_seed(0)
    work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    samples = Samples(Manifest(data))
    vae = autoencoder.build().to(device)
    _train_autoencoder(vae, samples, work, recipe)
    if only == "autoencoder":
        return
    latents = Latents(vae, samples, work / "latents")
    vae.register_to_config(scaling_factor=1 / _deviation(latents))

    tokenizer = text.build_tokenizer()
    text_encoder = text.build_text_encoder(tokenizer).to(device)
    unet = diffusion.build_unet(autoencoder.LATENT_CHANNELS).to(device)
    text.train(text_encoder, tokenizer, work, recipe.text)
    noise = Noise(tokenizer, text_encoder, unet, diffusion.build_scheduler(), latents, PRECISION)
    pipe = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler(), None, None, requires_safety_checker=False
    )
    controlnets = {key: diffusion.build_controlnet(unet).to(device) for key in TRANSLATIONS}
    diffusion.train_eyes(controlnets, latents, work, recipe.eyes, PRECISION)
    shown = {key: sheets.examples(data, translation) for key, translation in TRANSLATIONS.items()}

    def translation_sheets(step: int, stage: str = "controlnets") -> None:
        for key, controlnet in controlnets.items():
            page = sheets.draw_translations(pipe, controlnet, shown[key], TRANSLATION_LOOK)
            page.save(work / f"{stage}-{key}-{step}.png")

    def base_sheets(step: int) -> None:
        sheets.draw(pipe, CAPTIONS, TEXT_LOOK).save(work / f"base-{step}.png")
        translation_sheets(step, "base")

    diffusion.train_base(noise, controlnets, work, recipe.base, base_sheets)
    _save_base(pipe, out)
    _save_controlnets(controlnets, out)
    if only == "base":
        return
    diffusion.train_controlnets(noise, controlnets, work, recipe.controlnets, translation_sheets)
    _save_controlnets(controlnets, out)
    prompts = [prompt.text for prompt in PAPER_PROMPTS[:8]]

    def lora_sheet(step: int) -> None:
        sheets.draw(pipe, prompts, TEXT_LOOK).save(work / f"lora-{step}.png")

    diffusion.train_lora(noise, work, recipe.lora, lora_sheet)
    _save_lora(pipe, out)


def scheduler() -> DPMSolverMultistepScheduler:
    """Return the sampler that ships: DPM++ 2M Karras, the paper's, on this bundle's noise schedule."""
    return DPMSolverMultistepScheduler.from_config(diffusion.build_scheduler().config, use_karras_sigmas=True)


def _train_autoencoder(vae: AutoencoderTiny, samples: Samples, work: Path, recipe: Recipe) -> None:
    done = work / "vae"
    if done.is_dir():
        vae.load_state_dict(AutoencoderTiny.from_pretrained(done).state_dict())
        return
    autoencoder.train(vae, samples, work, recipe.autoencoder, PRECISION)
    vae.save_pretrained(done)


def _deviation(latents: Latents) -> float:
    """Return the standard deviation over the latents of tiles spread over the whole data set."""
    numbers = np.unique(np.linspace(0, len(latents.samples.rows) - 1, 1000).astype(int))
    return float(latents.draw(numbers, np.zeros_like(numbers), torch.zeros(())).std())


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


def _save_controlnets(controlnets: dict[str, ControlNetModel], out: Path) -> None:
    for key, controlnet in controlnets.items():
        _half(controlnet).save_pretrained(out / "controlnet" / key, max_shard_size=SHARD)


def _save_lora(pipe: StableDiffusionPipeline, out: Path) -> None:
    layers = get_peft_model_state_dict(pipe.unet)
    halves = {name: tensor.half() for name, tensor in layers.items()}
    StableDiffusionPipeline.save_lora_weights(out / "lora", unet_lora_layers=halves)
