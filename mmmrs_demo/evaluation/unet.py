"""A U-Net that learns a translation as plain regression: what a model of its kind has to beat.

It has the form of the generator of pix2pix (Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial
Networks") and its L1 loss, without the adversary, and so without the dropout that stands for noise there. Groups of
channels are normalised instead of batches: that needs nothing to be remembered, and is the same for one picture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmmrs_demo.dataset.samples import TURNS
from mmmrs_demo.evaluation.translation import Pair, Rival
from mmmrs_demo.modality import Modality
from mmmrs_demo.training.loop import Plan, Share, Stage

GROUPS = 8
"""Groups of channels in a layer; widths are multiples of it."""

_BATCH = 8
_RATE = 2e-3
_MOST_HALVINGS = 8
_MOST_WIDTHS = 8


class UNet(nn.Module):
    """Convolutions that halve the picture until one pixel is left, their mirror image, and a bridge at every level."""

    def __init__(self, source: int, target: int, side: int, width: int) -> None:
        """Make an untrained one.

        Args:
            source: Bands of the input.
            target: Bands of the output.
            side: Pixels of both, a multiple of 4; of 512 and more than 8 halvings leave several.
            width: Channels of the first layer, a multiple of `GROUPS`; every further one has twice as many, up to 8 ×.
        """
        super().__init__()
        halvings = min(_MOST_HALVINGS, (side & -side).bit_length() - 1)
        widths = [width * min(2**level, _MOST_WIDTHS) for level in range(halvings)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(widths):
            outer, innermost = level == 0, level == halvings - 1
            above = source if outer else widths[level - 1]
            down: list[nn.Module] = [] if outer else [nn.LeakyReLU(0.2)]
            down.append(nn.Conv2d(above, channels, 4, 2, 1))
            if not outer and not innermost:
                down.append(nn.GroupNorm(GROUPS, channels))
            made = target if outer else above
            up = [nn.ReLU(), nn.ConvTranspose2d(channels if innermost else 2 * channels, made, 4, 2, 1)]
            up.append(nn.Tanh() if outer else nn.GroupNorm(GROUPS, made))
            self.down.append(nn.Sequential(*down))
            self.up.append(nn.Sequential(*up))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return (count, target, side, side) from -1 to 1, of pictures of the same kind."""
        bridges = [pictures]
        for down in self.down:
            bridges.append(down(bridges[-1]))
        made = bridges.pop()
        for level, up in reversed([*enumerate(self.up)]):
            made = up(made)
            if level:
                made = torch.cat([made, bridges.pop()], dim=1)
        return made


def train(pairs: Sequence[Pair], side: int, steps: int, width: int, folder: Path) -> Rival:
    """Train a U-Net for one direction, or go on where an earlier run with the same tiles and settings stopped.

    Args:
        pairs: Training tiles, drawn so that no source dominates, in all eight turns.
        side: Pixels they are brought to.
        steps: Of learning.
        width: As of `UNet`.
        folder: Of the checkpoints, named by direction and a hash of the tiles' pixels and the settings.
    """
    translation, samples = pairs[0].translation, pairs[0].samples
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    net = UNet(_bands(translation.source), _bands(translation.target), side, width).to(device)
    plan = Plan(steps, _BATCH, _RATE, warmup=min(100, steps // 10), ema=0.99)
    chances = samples.chances(pair.source for pair in pairs)

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        chosen = share.of(rng.choice(len(pairs), plan.batch, p=chances))
        turns = share.of(rng.integers(TURNS, size=plan.batch))
        pictures = [pairs[number].pictures(side, int(turn)) for number, turn in zip(chosen, turns, strict=True)]
        sources, targets = (_tensor(column, device) for column in zip(*pictures, strict=True))
        with torch.autocast(device.type, torch.bfloat16):
            made = net(sources)
        return (made.float() - targets).abs().mean()

    name = f"unet-{translation.key}-{_digest(pairs, side, net, plan)}"
    Stage(name, folder, {"unet": net}, plan).train(loss)
    net.requires_grad_(requires_grad=False)

    def guess(source: np.ndarray) -> np.ndarray:
        made = (net(_tensor([source], device))[0].permute(1, 2, 0).cpu().numpy() + 1) * 127.5
        return made if translation.target is Modality.RGB else made[..., 0]

    size = sum(parameter.numel() for parameter in net.parameters())
    told = {"tiles": len(pairs), "parameters": size, "width": width, "steps": steps, "batch": plan.batch}
    return Rival(guess, told)


def _bands(modality: Modality) -> int:
    return len(modality.mode)


def _tensor(pictures: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    """Return float32 (count, bands, side, side) from -1 to 1 of uint8 (side, side) or (side, side, bands).

    Channels lie last in memory, as a CPU is fast with; the convolutions pass that on.
    """
    levels = torch.from_numpy(np.stack([np.atleast_3d(picture) for picture in pictures])).to(device)
    return (levels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _digest(pairs: Sequence[Pair], side: int, net: UNet, plan: Plan) -> str:
    """Name what a checkpoint was trained on and how."""
    tiles = sorted([pair.samples.rows[number]["sha256"] for number in (pair.source, pair.target)] for pair in pairs)
    form = [(name, *parameter.shape) for name, parameter in net.named_parameters()]
    return hashlib.sha256(json.dumps([tiles, side, form, asdict(plan)]).encode()).hexdigest()[:16]
