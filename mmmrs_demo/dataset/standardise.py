"""Which squares are cut from a picture, and how each becomes one of the standard size (paper, Algorithm 1).

Works on sizes and arrays; knows no file and no prompt. The paper's size is 512 px; the embedded bundle uses 256.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

Upscaler = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Doubles both sides of uint8 RGB of shape (height, width, 3)."""

FACTOR = 2
"""How much super-resolution enlarges, once, before the bicubic resize takes the picture to its size."""

BLANK = 0.8
"""Share of pixels of one single value from which a square counts as empty: the collar around a scene, not ground."""


@dataclass(frozen=True)
class Cut:
    """A square window of a picture that becomes one standard tile.

    Attributes:
        x: left edge in pixels.
        y: upper edge in pixels.
        side: pixels.
        gsd: metres per pixel of the standard tile.
    """

    x: int
    y: int
    side: int
    gsd: float

    @property
    def name(self) -> str:
        """Short and unique within a picture."""
        return f"{self.side}_{self.y}_{self.x}"


def cuts(width: int, height: int, gsd: float, size: int) -> list[Cut]:
    """Return the squares of one picture (Algorithm 1), row by row.

    A picture of at least `size` on both sides gives all whole, non-overlapping squares of it at its own GSD. A smaller
    one gives its centre square of side L = min(width, height), to be enlarged; its GSD becomes L / size of what it was.

    Args:
        width: pixels.
        height: pixels.
        gsd: metres per pixel of the picture.
        size: side of a standard tile in pixels.
    """
    if min(width, height) >= size:
        return [
            Cut(x, y, size, gsd) for y in range(0, height - size + 1, size) for x in range(0, width - size + 1, size)
        ]
    side = min(width, height)
    return [Cut((width - side) // 2, (height - side) // 2, side, gsd * side / size)]


def pyramid(width: int, height: int, gsd: float, size: int, rng: np.random.Generator) -> list[Cut]:
    """Return nested squares of one scene, each of half the side of the one around it (paper, section 3.1).

    From the largest of `size` times a power of two that fits down to `size` itself, which the paper draws for 5000 px
    at 0.3 m as 4096, 2048, 1024 and 512 px at 2.4, 1.2, 0.6 and 0.3 m. Where the squares lie is drawn from `rng`.

    Returns:
        The largest first; empty where not even two levels fit.
    """
    x, y, room_x, room_y = 0, 0, width, height
    side = size
    while side * 2 <= min(width, height):
        side *= 2
    if side == size:
        return []
    nested = []
    while side >= size:
        x, y = x + int(rng.integers(room_x - side + 1)), y + int(rng.integers(room_y - side + 1))
        nested.append(Cut(x, y, side, gsd * side / size))
        room_x = room_y = side
        side //= 2
    return nested


def resize(square: NDArray[np.uint8], size: int, upscaler: Upscaler | None) -> NDArray[np.uint8]:
    """Return a square of `size` px.

    Args:
        square: uint8 of shape (side, side) or (side, side, 3).
        size: side of the result in pixels.
        upscaler: doubles what is too small before the bicubic resize; None leaves the whole way to the latter.
    """
    if len(square) < size and upscaler is not None:
        colours = square if square.ndim == 3 else np.repeat(square[..., None], 3, 2)
        doubled = upscaler(colours)
        square = doubled if square.ndim == 3 else doubled.mean(2).round().astype(np.uint8)
    if len(square) == size:
        return square
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC))


def empty(square: NDArray[np.uint8]) -> bool:
    """Whether a square shows mostly the one value that fills what lies outside a scene."""
    grey = square if square.ndim == 2 else square.max(2)
    return bool(max((grey == 0).mean(), (grey == 255).mean()) > BLANK)


def load_upscaler(file: Path) -> Upscaler:
    """Load a super-resolution network that doubles the sides, such as Real-ESRGAN x2.

    Raises:
        UserError: the file is not there, no safetensors file, no known network, or one of another factor.
    """
    if not file.is_file() or file.suffix != ".safetensors":
        raise UserError(
            f"{called(file)} is no safetensors file: give Real-ESRGAN x2 weights as one, or choose --upscale bicubic."
        )
    import spandrel  # torch only where a network is used
    import torch

    try:
        network = spandrel.ModelLoader().load_from_file(file)
    except Exception as error:  # spandrel raises what its parts raise
        raise UserError(f"{called(file)} holds no super-resolution network that spandrel knows.") from error
    if network.scale != FACTOR or network.input_channels != 3:
        raise UserError(f"{called(file)} enlarges {network.scale} times; the standardisation needs 2 times.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return _doubling(network.to(device).eval())


def _doubling(network: ImageModelDescriptor) -> Upscaler:
    import torch

    @torch.inference_mode()
    def double(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        doubled = network(batch.to(network.device)).clamp(0, 1).mul(255).round().byte()
        return doubled[0].permute(1, 2, 0).cpu().numpy()

    return double
