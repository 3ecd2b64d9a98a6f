"""The embedded bundle's autoencoder: stock `AutoencoderTiny`, factor 8, with latents one can look at.

A small UNet that learns for an hour copes badly with the latents a learned encoder likes to make: they look like noise
at their finest scale, and what is the same place in RGB and in near infrared is unlike in them. So the encoder is not
learned here but written: each block of 8x8 pixels gives the lowest frequencies of its brightness (a discrete cosine
transform) and its mean colour. Only the decoder learns, to draw the sharpest likely picture from that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.nn import functional

from mmmrs_demo.dataset.samples import TURNS, Samples
from mmmrs_demo.training.latents import batch
from mmmrs_demo.training.loop import Plan, Share, Stage, autocast

CROP = 64
BLOCK = 8
LEVELS = 4
WIDTH = 48

BRIGHTNESS = {(0, 0): 2.7, (0, 1): 8.0, (1, 0): 8.0, (1, 1): 12.0}
"""Gain of each frequency (down, across) of a block's brightness in -1..1.

The mean has about unit variance; what varies less is decided later in diffusion, so the coarse comes first. Four more
frequencies were tried, together with a UNet of 48/128/192/224 channels: the autoencoder was sharper (28.8 dB), and
pictures had more grain and were farther from the truth, after more than twice as many samples.
"""

COLOURS = {(1, 0): 8.0, (1, 2): 8.0}
"""Gain of the mean difference between two of red, green and blue: what is left once green is taken from it."""

OFFSETS = (0.23, *(0.0,) * (len(BRIGHTNESS) - 1), 0.05, 0.3)
"""Added to a block's values after their gain, so that they are about 0 on average."""

LATENT_CHANNELS = len(BRIGHTNESS) + len(COLOURS)
NOISE = 0.08
"""Noise on the latents while the decoder learns, so that it forgives what a UNet gets slightly wrong."""


def build() -> AutoencoderTiny:
    """Return the autoencoder with its encoder written and its decoder untrained: RGB in -1..1, latents at 1/8."""
    vae = AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * LEVELS,
        decoder_block_out_channels=(WIDTH,) * LEVELS,
        latent_channels=LATENT_CHANNELS,
        num_encoder_blocks=(0,) * LEVELS,
        num_decoder_blocks=(3, 3, 2, 1),
    )
    _write(vae.encoder)
    return vae.to(memory_format=torch.channels_last)  # with bf16 several times faster on a CPU


@torch.no_grad()
def _write(encoder: Any) -> None:
    """Write the latents' definition into the encoder's convolutions, which have no nonlinearity between them."""
    opponents, halve, quarter, transform, gain = encoder.layers
    for layer in encoder.layers:
        for parameter in layer.parameters():
            parameter.zero_().requires_grad_(requires_grad=False)
    opponents.weight[0, :3, 1, 1] = 1 / 3
    for channel, (green, other) in enumerate(COLOURS, 1):
        opponents.weight[channel, other, 1, 1], opponents.weight[channel, green, 1, 1] = 1, -1
    _merge(halve, [torch.eye(4)[part, :, None] for part in range(4)])
    _merge(quarter, [torch.eye(16)[:, 4 * part : 4 * part + 4] for part in range(4)])
    waves = torch.stack([_wave(*frequency) for frequency in BRIGHTNESS])
    halves = waves.unflatten(1, (2, 2, 2)).unflatten(4, (2, 2, 2))  # of quarters of pairs of pixels, down and across
    inside = halves.permute(1, 4, 0, 2, 5, 3, 6).reshape(4, len(waves), 16)
    _merge(transform, list(inside))
    gains = 2 * torch.tensor([*BRIGHTNESS.values(), *COLOURS.values()])  # 2: the class maps to 0..1
    gain.weight[:, :LATENT_CHANNELS, 1, 1] = gains.diag()
    gain.bias[:] = torch.tensor(OFFSETS)
    gain.bias[0] -= gains[0] / 2


def _merge(layer: Any, brightness: list[torch.Tensor]) -> None:
    """Let a layer of stride 2 make of each 2x2 its brightness, by a matrix for each part, and its mean colour."""
    for part, matrix in enumerate(brightness):
        own, (made, seen) = _own(layer, part), matrix.shape
        own[:made, :seen] = matrix
        own[made : made + len(COLOURS), seen : seen + len(COLOURS)] = torch.eye(len(COLOURS)) / 4


def _own(layer: Any, part: int) -> torch.Tensor:
    """Return the weights for a part of a stride's own 2x2, which the kernel sees in its last two rows and columns."""
    return layer.weight[:, :, 1 + part // 2, 1 + part % 2]


def _wave(down: int, across: int) -> torch.Tensor:
    """Return one two-dimensional cosine over a block, as weights that give a value on the scale of the mean."""
    places = (torch.arange(BLOCK) + 0.5) * torch.pi / BLOCK
    y, x = ((frequency * places).cos() * (1.0 if frequency == 0 else 2**0.5) for frequency in (down, across))
    return y[:, None] * x / BLOCK**2


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
    """Mean absolute error in opponent colours, plus that of the luma's local differences and of its local contrast.

    The last asks for as much texture as there is, wherever it lies: without it speckle, which no latents hold in full,
    would be smoothed away.
    """
    a, b = opponent(output), opponent(target)
    edges = sum((a[:, :1].diff(dim=d) - b[:, :1].diff(dim=d)).abs().mean() for d in (2, 3))
    return (a - b).abs().mean() + 0.25 * edges + 0.25 * (contrast(a[:, :1]) - contrast(b[:, :1])).abs().mean()


def contrast(luma: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation within overlapping windows of half a block, shape (count, 1, down, across)."""
    mean, square = (functional.avg_pool2d(values, BLOCK // 2, BLOCK // 4) for values in (luma, luma.square()))
    return (square - mean.square()).clamp(min=1e-5).sqrt()


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
