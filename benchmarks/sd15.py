"""Writes a bundle with the sizes of Stable Diffusion 1.5 and random weights, to measure what costs the same.

``python -m benchmarks.sd15 FOLDER`` takes about 3 GB of disk; then ``MMMRS_WEIGHTS=FOLDER python -m benchmarks.speed
--bundle sd15-random --steps 4 --repeats 1``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from mmmrs_demo.training.text import build_tokenizer

CATALOG = """
[sd15-random]
title = "Sizes of Stable Diffusion 1.5, random weights"
summary = "Makes noise, in the time of the real one."
licence = "none"
card = "sd15-random/README.md"
size = 512
base = { path = "sd15-random" }
defaults = { steps = 20, guidance = 7.5, scheduler = "dpm++2m-karras", text_lora_scale = 0.0 }
[sd15-random.controlnets]
rgb2sar = { path = "sd15-random/controlnet" }
"""


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    bundle = folder / "sd15-random"
    torch.manual_seed(0)
    pipeline = build()
    pipeline.save_pretrained(bundle)
    ControlNetModel.from_unet(pipeline.unet).half().save_pretrained(bundle / "controlnet")
    (folder / "catalog.toml").write_text(CATALOG, encoding="utf-8")
    print(bundle)


def build() -> StableDiffusionPipeline:
    """Return the pipeline in half precision."""
    channels = (320, 640, 1280, 1280)
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=channels, layers_per_block=2, cross_attention_dim=768, attention_head_dim=8
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )
    tokenizer = build_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, use_karras_sigmas=True
    )
    return StableDiffusionPipeline(
        vae.half(), text_encoder.half(), tokenizer, unet.half(), scheduler, None, None, requires_safety_checker=False
    )


if __name__ == "__main__":
    main()
