"""What a frozen autoencoder makes of training tiles: encoded when they are asked for, and kept where there is room."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from numpy.typing import NDArray

from mmmrs_demo.dataset.samples import TURNS, Samples


def batch(pictures: list[NDArray[np.uint8]], device: torch.device) -> torch.Tensor:
    """Return pictures of one size, uint8 of shape (size, size, 3), as float32 (count, 3, size, size) in -1..1."""
    stacked = torch.from_numpy(np.stack(pictures)).to(device)
    return (stacked.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


class Latents:
    """The latents of a data set's training tiles, without the autoencoder's scaling factor.

    Kept ones lie in one file of half floats per autoencoder and data set, of all turns alike, so that a LoRA and four
    ControlNets for the same base encode each tile once. A kill loses nothing of it.

    Attributes:
        shape: of one tile's latents: channels, height, width.
    """

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny, samples: Samples, folder: Path | None = None) -> None:
        """Open what `folder` keeps of these tiles, or begin it.

        Args:
            vae: on its device already.
            samples: the tiles.
            folder: where encoded tiles are kept; None encodes them anew each time.
        """
        self.vae, self.samples = vae, samples
        self._kept = self._done = None
        one = self._encode([samples.picture(0)])[0]
        self.shape = (len(one) // 2 if isinstance(vae, AutoencoderKL) else len(one), *one.shape[1:])
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{len(samples.rows)}-{_digest(vae, samples)}"
            self._kept = _array(folder / f"{name}.npy", (len(samples.rows), TURNS, *one.shape), np.float16)
            self._done = _array(folder / f"{name}.done.npy", (len(samples.rows), TURNS), np.uint8)

    def draw(self, numbers: NDArray[np.int64], turns: NDArray[np.int64], noise: torch.Tensor) -> torch.Tensor:
        """Return float32 of shape (count, channels, height, width) on the autoencoder's device.

        Args:
            numbers: rows of the data set.
            turns: of each, as `Samples.picture` takes them.
            noise: standard normal, of the result's shape; decides within what a variational autoencoder leaves open.
        """
        found = self._moments(numbers, turns).float()
        if not isinstance(self.vae, AutoencoderKL):
            return found
        mean, deviation = found.chunk(2, 1)
        return mean + deviation * noise

    def _moments(self, numbers: NDArray[np.int64], turns: NDArray[np.int64]) -> torch.Tensor:
        if self._kept is None or self._done is None:
            return self._encode([self.samples.picture(int(n), int(t)) for n, t in zip(numbers, turns, strict=True)])
        missing = [(int(n), int(t)) for n, t in zip(numbers, turns, strict=True) if not self._done[n, t]]
        if missing:
            encoded = self._encode([self.samples.picture(*which) for which in missing]).half().cpu().numpy()
            for which, moments in zip(missing, encoded, strict=True):
                self._kept[which] = moments
                self._done[which] = 1  # after what it vouches for
        return torch.from_numpy(self._kept[numbers, turns]).to(self.vae.device)

    @torch.no_grad()
    def _encode(self, pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
        """Return latents, or mean and deviation one after the other where the autoencoder is variational."""
        encoded = self.vae.encode(batch(pictures, self.vae.device).to(self.vae.dtype))
        if not isinstance(self.vae, AutoencoderKL):
            return encoded.latents
        return torch.cat([encoded.latent_dist.mean, encoded.latent_dist.std], 1)


def _array(file: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    """Open an array on disk, or begin it full of zeros."""
    if not file.is_file():
        part = file.with_suffix(".part")
        np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape).flush()
        part.replace(file)
    return np.lib.format.open_memmap(file, mode="r+")


def _digest(vae: AutoencoderKL | AutoencoderTiny, samples: Samples) -> str:
    """Say which autoencoder and which pictures these are."""
    told = hashlib.sha256()
    for row in samples.rows:
        told.update(row["sha256"].encode())
    for name, tensor in vae.state_dict().items():
        told.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return told.hexdigest()[:16]
