"""Fewer operations for nearly the same picture: what lies deep in a network serves several steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def deep(unet: Any) -> list[torch.nn.Module]:
    """Return the blocks of a UNet between its first and its last level, which change little from step to step."""
    return [*unet.down_blocks[1:], unet.mid_block, *unet.up_blocks[:-1]]


@contextmanager
def repeating(blocks: Sequence[torch.nn.Module], every: int) -> Iterator[None]:
    """Let blocks work in the first of `every` calls, and give the same again in the others.

    So does DeepCache (Ma, Fang, Wang: "DeepCache: Accelerating Diffusion Models for Free", 2024), which cuts inside the
    first level; here whole blocks are spared, of any UNet, and a ControlNet may be one of them.
    """
    for block in blocks:
        block.forward = _Repeated(block.forward, every)  # taken off again below
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


class _Repeated:
    """A function that is called in earnest every so many times."""

    def __init__(self, function: Any, every: int) -> None:
        self.function, self.every = function, every
        self.calls, self.given = 0, None

    def __call__(self, *args: Any, **named: Any) -> Any:
        if self.calls % self.every == 0:
            self.given = self.function(*args, **named)
        self.calls += 1
        return self.given
