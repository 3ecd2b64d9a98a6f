"""The embedded bundle's autoencoder: stock `AutoencoderTiny`, factor 8, with latents one can look at.

A small UNet that learns for an hour copes badly with the latents a learned encoder likes to make: they look like noise
at their finest scale, and what is the same place in RGB and in near infrared is unlike in them. So the encoder is not
learned here but written: the six channels are the mean colour of each block of 8x8 pixels and how its brightness
changes across it. Only the decoder learns, to draw the sharpest likely picture from that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny

from mmmrs_demo.dataset.samples import TURNS, Samples
from mmmrs_demo.training.latents import batch
from mmmrs_demo.training.loop import Plan, Share, Stage, autocast

CROP = 64
COLOURS = (
    (2.7, 1 / 3, 1 / 3, 1 / 3, 0.04),
    (8.0, 1.0, -1.0, 0.0, 0.0),
    (8.0, 0.0, -1.0, 1.0, 0.06),
)
"""Gain, weights of red, green and blue in -1..1, and what is added before the gain: together about unit variance."""

SLOPES = ((8.0, 1, -1, 1, -1), (8.0, 1, 1, -1, -1), (12.0, 1, -1, -1, 1))
"""Gain, and the signs of a block's quarters (upper left, upper right, lower left, lower right) in its brightness.

They are let vary less than the colours: what varies less is decided later in diffusion, so the coarse comes first.
"""

LATENT_CHANNELS = len(COLOURS) + len(SLOPES)
NOISE = 0.08
"""Noise on the latents while the decoder learns, so that it forgives what a UNet gets slightly wrong."""


def build() -> AutoencoderTiny:
    """Return the autoencoder with its encoder written and its decoder untrained: RGB in -1..1, latents at 1/8."""
    vae = AutoencoderTiny(
        encoder_block_out_channels=(12, 12, 12, 12),
        decoder_block_out_channels=(48, 48, 48, 48),
        latent_channels=LATENT_CHANNELS,
        num_encoder_blocks=(0, 0, 0, 0),
        num_decoder_blocks=(2, 2, 2, 1),
    )
    _write(vae.encoder)
    return vae.to(memory_format=torch.channels_last)  # with bf16 several times faster on a CPU


@torch.no_grad()
def _write(encoder: Any) -> None:
    """Write the latents' definition into the encoder's five convolutions, which have no nonlinearity between them."""
    same, halve, quarter, split, mix = encoder.layers
    for layer in encoder.layers:
        for parameter in layer.parameters():
            parameter.zero_().requires_grad_(requires_grad=False)
    colours = torch.eye(3)
    same.weight[:3, :, 1, 1] = colours
    for layer in (halve, quarter):
        layer.weight[:3, :3, 1:, 1:] = colours[:, :, None, None] / 4  # the mean of 2x2
    for part in range(4):
        split.weight[3 * part : 3 * part + 3, :3, 1 + part // 2, 1 + part % 2] = colours
    for channel, (gain, *weights, offset) in enumerate(COLOURS):
        mix.weight[channel, :, 1, 1] = 2 * gain * torch.tensor(weights).repeat(4) / 4  # 2: the class maps to 0..1
        mix.bias[channel] = gain * (offset - sum(weights))
    for channel, (gain, *signs) in enumerate(SLOPES, len(COLOURS)):
        mix.weight[channel, :, 1, 1] = 2 * gain * torch.tensor(signs).repeat_interleave(3) / 3 / 4


def crops(samples: Samples, rng: np.random.Generator, count: int, chances: np.ndarray) -> list[np.ndarray]:
    """Return random squares of `CROP` px, uint8 of shape (CROP, CROP, 3), each turned and mirrored at random."""
    found = []
    for number, turn in zip(rng.choice(len(chances), count, p=chances), rng.integers(TURNS, size=count), strict=True):
        image = samples.picture(int(number), int(turn))
        y, x = rng.integers(len(image) - CROP + 1, size=2)
        found.append(image[y : y + CROP, x : x + CROP])
    return found


def opponent(image: torch.Tensor) -> torch.Tensor:
    """Return luma and twice the two chroma differences: with plain RGB the chroma of muted tiles is hardly learned."""
    red, green, blue = image.unbind(1)
    luma = (red + green + blue) / 3
    return torch.stack([luma, 2 * (red - green), 2 * (blue - green)], 1)


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute error in opponent colours plus that of the luma's local differences."""
    a, b = opponent(output), opponent(target)
    edges = sum((a[:, :1].diff(dim=d) - b[:, :1].diff(dim=d)).abs().mean() for d in (2, 3))
    return (a - b).abs().mean() + 0.25 * edges


def train(vae: AutoencoderTiny, samples: Samples, folder: Path, plan: Plan, precision: str) -> None:
    """Train the decoder to redraw crops from their latents and a little noise; `vae` is on its device already."""
    vae.train()
    chances = samples.chances(range(len(samples.rows)))

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        images = batch(share.of(crops(samples, rng, plan.batch, chances)), vae.device)
        with torch.no_grad():
            latents = vae.encoder(images)
        with autocast(vae.device, precision):
            decoded = vae.decoder(latents + NOISE * torch.randn_like(latents))
        return reconstruction_loss(decoded.float(), images)

    Stage("autoencoder", folder, {"vae": vae}, plan, precision=precision).train(loss)
    vae.eval()
