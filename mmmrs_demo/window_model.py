"""A bundle looks through the windows of a scene; knows no field, no file and no page."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmmrs_demo.errors import UserError
from mmmrs_demo.loaded import Loaded, check_finite, versions

if TYPE_CHECKING:
    import torch


class WindowModel:
    """A bundle that looks through windows of its native size for `scene.render`; each call takes its own turn.

    Sent to another process it leaves the weights behind, and still begins and advances.

    Attributes:
        side: Of a window in pixels.
        factor: Pixels of the scene along one side of a pixel of the latents.
        channels: Of the latents.
        steps: Denoising steps.
        model: Bundle key and title; name and hash of each set of weights that is used, as a rendering says.
        versions: Version of each library that shapes the pixels.
    """

    each = map  # one batch after another

    def __init__(
        self, loaded: Loaded, controlnet: Any, request: Any, in_turn: Callable[[Callable[[], Any]], Any]
    ) -> None:
        """Read the prompt and prepare the steps.

        Args:
            loaded: The bundle.
            controlnet: Of the translation, None for words alone.
            request: A complete one.
            in_turn: Does something while the bundle's modules are this request's, and returns what came of it.
        """
        import torch

        self._loaded, self._controlnet, self._request, self._in_turn = loaded, controlnet, request, in_turn
        self.side, self.steps = loaded.bundle.size, request.steps
        pipeline = loaded.pipeline
        self.factor, self.channels = pipeline.vae_scale_factor, pipeline.unet.config.in_channels
        self._guided = request.guidance > 1
        texts = [request.negative_prompt, request.prompt.text] if self._guided else [request.prompt.text]
        self._words = self._look(lambda: torch.cat([loaded.encoded(text, request.lora_scale) for text in texts]))
        self.model, self.versions = loaded.described(request), versions()
        self._scheduler = loaded.scheduler(request.scheduler)
        self._scheduler.set_timesteps(request.steps)

    def __getstate__(self) -> dict[str, Any]:
        """Return what needs no weights."""
        kept = ("side", "factor", "channels", "steps", "model", "versions", "_scheduler")
        return {name: getattr(self, name) for name in kept}

    def _look(self, look: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Use the bundle's modules, without keeping what only training needs."""
        import torch

        try:
            return self._in_turn(torch.inference_mode()(look))
        except torch.OutOfMemoryError as error:
            raise UserError(
                "There is not enough graphics memory for the windows of this scene; set MMMRS_DEVICE=cpu to do without."
            ) from error

    def begin(self, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what standard normal noise is at the first step."""
        return noise * np.float32(self._scheduler.init_noise_sigma)

    def predict(
        self, latents: NDArray[np.float32], step: int, pictures: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        """Return what the network says of windows of noisy latents, guidance included.

        Args:
            latents: Shape (windows, channels, side / factor, side / factor).
            step: From 0.
            pictures: The same windows of the input, uint8 of shape (windows, side, side, 3); None for words alone.
        """
        return self._look(partial(self._predicted, latents, step, pictures)).numpy()

    def _predicted(self, latents: NDArray[np.float32], step: int, pictures: NDArray[np.uint8] | None) -> torch.Tensor:
        import torch

        pipeline, request = self._loaded.pipeline, self._request
        scheduler, timestep = copy.copy(self._scheduler), self._scheduler.timesteps[step]
        noisy = scheduler.scale_model_input(torch.from_numpy(latents), timestep)
        twice = 2 if self._guided else 1
        noisy = noisy.to(pipeline.device).repeat(twice, 1, 1, 1)
        words = self._words.repeat_interleave(len(latents), 0)
        more = {}
        if self._controlnet is not None and pictures is not None:
            shown = torch.from_numpy(pictures).to(pipeline.device).permute(0, 3, 1, 2) / 255
            down, mid = self._controlnet(
                noisy,
                timestep,
                words,
                controlnet_cond=shown.repeat(twice, 1, 1, 1),
                conditioning_scale=request.controlnet_scale,
                return_dict=False,
            )
            more = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        said = pipeline.unet(noisy, timestep, words, **more).sample.cpu()
        check_finite(said)
        if not self._guided:
            return said
        against, told = said.chunk(2)
        return against + request.guidance * (told - against)

    def advance(
        self, latents: NDArray[np.float32], said: NDArray[np.float32], step: int, seed: int
    ) -> NDArray[np.float32]:
        """Return latents of shape (channels, height, width) one step further; `seed` decides on any noise added."""
        import torch

        scheduler, timestep = copy.copy(self._scheduler), self._scheduler.timesteps[step]
        generator = torch.Generator().manual_seed(seed)
        noisy, predicted = (torch.from_numpy(np.array(array))[None] for array in (latents, said))
        scheduler.scale_model_input(noisy, timestep)  # it wants to have been asked
        return scheduler.step(predicted, timestep, noisy, generator=generator, return_dict=False)[0][0].numpy()

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return pictures, float32 in 0..1 of shape (windows, side, side, 3)."""
        return self._look(partial(self._decoded, latents)).numpy()

    def _decoded(self, latents: NDArray[np.float32]) -> torch.Tensor:
        import torch

        vae = self._loaded.pipeline.vae
        decoded = vae.decode(torch.from_numpy(latents).to(vae.device) / vae.config.scaling_factor).sample.cpu()
        check_finite(decoded)
        return (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
