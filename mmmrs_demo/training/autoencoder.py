"""The embedded bundle's autoencoder: stock `AutoencoderTiny`, factor 8, trained on small crops in opponent colours.

Two stages: reconstruction of both halves, then the decoder alone against a small patch discriminator, so that texture
and speckle come back while the latents (and all that was trained on them) stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import nn

from mmmrs_demo.dataset.tiles import Tile
from mmmrs_demo.training.loop import Plan, Stage

CROP = 64
LATENT_CHANNELS = 8


def build() -> AutoencoderTiny:
    """Return an untrained autoencoder: RGB in -1..1, 8 latent channels at 1/8 of the side."""
    vae = AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(48, 48, 48, 48),
        latent_channels=LATENT_CHANNELS,
        num_encoder_blocks=(1, 2, 2, 2),
        num_decoder_blocks=(2, 2, 2, 1),
    )
    return vae.to(memory_format=torch.channels_last)  # with bf16 several times faster on a CPU


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


def train_reconstruction(vae: AutoencoderTiny, crops: Crops, folder: Path, plan: Plan) -> None:
    """Train encoder and decoder; noise on the latents makes the decoder forgive what the UNet gets slightly wrong."""
    vae.train()

    def loss(_: int, rng: np.random.Generator) -> torch.Tensor:
        images = crops.draw(rng, plan.batch)
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encoder(images)
            decoded = vae.decoder(latents + 0.06 * torch.randn_like(latents))
        return reconstruction_loss(decoded.float(), images) + 1e-3 * latents.float().square().mean()

    Stage("autoencoder", folder, {"vae": vae}, plan).train(loss)
    vae.eval()


class Discriminator(nn.Module):
    """Says of each 16-pixel neighbourhood whether it is real, given the whole crop's own colours."""

    def __init__(self) -> None:
        """Build four small convolutions with spectral norm."""
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.layers = nn.Sequential(
            norm(nn.Conv2d(3, 32, 4, 2, 1)), nn.LeakyReLU(0.2),
            norm(nn.Conv2d(32, 64, 4, 2, 1)), nn.LeakyReLU(0.2),
            norm(nn.Conv2d(64, 96, 3, 1, 1)), nn.LeakyReLU(0.2),
            norm(nn.Conv2d(96, 1, 3, 1, 1)),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (batch, 1, height / 4, width / 4)."""
        return self.layers(images)


def train_texture(vae: AutoencoderTiny, crops: Crops, folder: Path, plan: Plan, *, weight: float = 0.05) -> None:
    """Train the decoder alone against a patch discriminator (hinge loss); the latents do not move."""
    vae.encoder.requires_grad_(requires_grad=False)
    judge = Discriminator()
    judge_stage_parameters = list(judge.parameters())
    judge_optimizer = torch.optim.AdamW(judge_stage_parameters, lr=plan.rate, betas=(0.5, 0.99))

    def loss(_: int, rng: np.random.Generator) -> torch.Tensor:
        images = crops.draw(rng, plan.batch)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = vae.encoder(images)
            decoded = vae.decoder(latents + 0.06 * torch.randn_like(latents))
            judge_loss = (F.relu(1 - judge(images)) + F.relu(1 + judge(decoded.detach()))).mean()
            judge_optimizer.zero_grad(set_to_none=True)
            judge_loss.backward()
            judge_optimizer.step()
            fooled = -judge(decoded).float().mean()
        return reconstruction_loss(decoded.float(), images) + weight * fooled

    Stage("texture", folder, {"decoder": vae.decoder}, plan).train(loss)
    vae.encoder.requires_grad_(requires_grad=True)
    vae.eval()


@torch.no_grad()
def psnr(vae: AutoencoderTiny, tiles: list[Tile], modality: str = "rgb") -> float:
    """Return the mean reconstruction PSNR in dB over `tiles`."""
    values = []
    for tile in tiles:
        image = torch.from_numpy(tile.read(modality)).permute(2, 0, 1)[None].float() / 127.5 - 1
        image = image[..., : image.shape[2] // 8 * 8, : image.shape[3] // 8 * 8]
        decoded = vae.decoder(vae.encoder(image)).clamp(-1, 1)
        values.append(10 * torch.log10(4 / (decoded - image).square().mean()).item())
    return float(np.mean(values))
