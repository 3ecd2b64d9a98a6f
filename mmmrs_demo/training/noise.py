"""The one loss that every diffusion model here learns from: what a UNet says of latents that noise was added to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, DDPMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextModel, CLIPTokenizer

from mmmrs_demo.dataset.samples import Samples
from mmmrs_demo.training.latents import Latents, batch
from mmmrs_demo.training.loop import Share, autocast

Condition = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], dict[str, Any]]
"""Given noisy latents, noise levels and the encoded prompts, returns more arguments of the UNet."""


CAPTION_DROPOUT = 0.1
"""Share of captions left out, so that guidance has something to guide away from."""


@dataclass(frozen=True)
class Drawn:
    """The samples of one step's whole batch.

    Attributes:
        numbers: rows of the data set.
        prompts: as many.
        turns: as many, as `Samples.picture` takes them.
    """

    numbers: NDArray[np.int64]
    prompts: list[str]
    turns: NDArray[np.int64]


@dataclass(frozen=True)
class Noise:
    """A base with its own noise schedule.

    Attributes:
        tokenizer: of the text encoder.
        text_encoder: frozen.
        unet: what it says is judged.
        scheduler: how noise is added, and what must be said of it: the noise, or the velocity.
        latents: of the data set.
        precision: of the passes, a key of `loop.PRECISIONS`.
    """

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    scheduler: DDPMScheduler
    latents: Latents
    precision: str

    def loss(
        self,
        drawn: Drawn,
        rng: np.random.Generator,
        share: Share,
        condition: Condition = lambda *_: {},
        *,
        attempts: int = 1,
    ) -> torch.Tensor:
        """Return the mean squared error of what the UNet says of a share of a batch, all noise levels alike.

        Args:
            drawn: the whole batch.
            rng: draws noise and noise levels for the whole batch, whoever learns from which part of it.
            share: the part to learn from.
            condition: of a ControlNet.
            attempts: noise levels drawn for each sample, of which the highest is taken.
        """
        device = self.unet.device
        fields = rng.standard_normal((2, len(drawn.numbers), *self.latents.shape), np.float32)
        noise, blur = (torch.from_numpy(share.of(whole)).to(device) for whole in fields)
        levels = rng.integers(self.scheduler.config.num_train_timesteps, size=(attempts, len(drawn.numbers))).max(0)
        steps = torch.from_numpy(share.of(levels)).to(device)
        with torch.no_grad(), autocast(device, self.precision):
            latents = self.latents.draw(share.of(drawn.numbers), share.of(drawn.turns), blur)
            tokens = self.tokenizer(share.of(drawn.prompts), padding="max_length", truncation=True, return_tensors="pt")
            words = self.text_encoder(tokens.input_ids.to(device))[0]
        latents = latents * self.latents.vae.config.scaling_factor
        noisy = self.scheduler.add_noise(latents, noise, steps)
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        target = self.scheduler.get_velocity(latents, noise, steps) if velocity else noise
        with autocast(device, self.precision):
            said = self.unet(noisy, steps, words, **condition(noisy, steps, words)).sample
        return (said.float() - target).square().mean()


def prompts(
    samples: Samples,
    numbers: NDArray[np.int64],
    rng: np.random.Generator,
    telling: Callable[[dict[str, Any], np.random.Generator], str] = lambda row, _: row["prompt"],
) -> list[str]:
    """Return what is said of some rows: what `telling` makes of each, and nothing now and then."""
    return ["" if rng.random() < CAPTION_DROPOUT else telling(samples.rows[number], rng) for number in numbers]


def guided(
    controlnet: ControlNetModel, samples: Samples, numbers: NDArray[np.int64], turns: NDArray[np.int64]
) -> Condition:
    """Return the condition by which a ControlNet adds to the UNet what it sees in some rows' pictures."""
    device = controlnet.device
    pictures = batch([samples.picture(int(n), int(t)) for n, t in zip(numbers, turns, strict=True)], device) / 2 + 0.5

    def condition(noisy: torch.Tensor, steps: torch.Tensor, words: torch.Tensor) -> dict[str, Any]:
        down, mid = controlnet(noisy, steps, words, controlnet_cond=pictures, return_dict=False)
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}

    return condition
