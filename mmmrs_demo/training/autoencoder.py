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

from mmmrs_demo.dataset.tiles import Tile
from mmmrs_demo.training.loop import Plan, Share, Stage

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


class Crops:
    """Random crops of all tiles; a source is drawn in proportion to the square root of its size."""

    def __init__(self, tiles: list[Tile]) -> None:
        """Read every modality of `tiles` into memory."""
        self.images = [tile.read(modality) for tile in tiles for modality in tile.files]
        sources = [f"{tile.source}/{modality}" for tile in tiles for modality in tile.files]
        _, index, counts = np.unique(sources, return_inverse=True, return_counts=True)
        weights = 1 / np.sqrt(counts[index])
        self.weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator, count: int, side: int = CROP) -> torch.Tensor:
        """Return float32 of shape (count, 3, side, side) in -1..1, each turned and mirrored at random."""
        crops = []
        for i in rng.choice(len(self.images), count, p=self.weights):
            image = self.images[i]
            y, x = (int(rng.integers(size - side + 1)) for size in image.shape[:2])
            crop = np.rot90(image[y : y + side, x : x + side], int(rng.integers(4)))
            crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return images.contiguous(memory_format=torch.channels_last)


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


def train(vae: AutoencoderTiny, crops: Crops, folder: Path, plan: Plan) -> None:
    """Train the decoder to redraw crops from their latents and a little noise."""
    vae.train()

    def loss(_: int, rng: np.random.Generator, __: Share) -> torch.Tensor:
        images = crops.draw(rng, plan.batch)
        with torch.no_grad():
            latents = vae.encoder(images)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = vae.decoder(latents + NOISE * torch.randn_like(latents))
        return reconstruction_loss(decoded.float(), images)

    Stage("autoencoder", folder, {"vae": vae}, plan).train(loss)
    vae.eval()
