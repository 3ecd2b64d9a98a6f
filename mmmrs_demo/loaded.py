"""A bundle in memory, and what is said and checked of every picture that it makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mmmrs_demo import __version__
from mmmrs_demo.catalog import BASE, LORA, Bundle
from mmmrs_demo.errors import UserError

if TYPE_CHECKING:
    import torch

_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpm++2m-karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {"use_karras_sigmas": False}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {"use_karras_sigmas": False}),
}
"""Class in diffusers of every scheduler a request can name, and its options beside the bundle's own noise schedule."""

_MOST_WORDS = 64  # texts of which the encoding is kept
_LIBRARIES = ("diffusers", "peft", "torch", "transformers")


@dataclass
class Loaded:
    """A bundle in memory.

    Attributes:
        bundle: Its entry in the catalog.
        pipeline: The pipeline as it was loaded; every run borrows its modules.
        to_rgb: Shape (latent channels + 1, 3): times a latent and a one, it gives colours in 0..1.
        controlnets: By key of the translation.
        names: Fingerprint of each part that is in memory.
        words: What the text encoder made of the last texts, by text and scale of the LoRA.
    """

    bundle: Bundle
    pipeline: Any
    to_rgb: torch.Tensor
    controlnets: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str | None] = field(default_factory=dict)
    words: dict[tuple[str, float], torch.Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """How much memory the weights take."""
        models = (self.pipeline.unet, self.pipeline.vae, self.pipeline.text_encoder, *self.controlnets.values())
        return sum(weight.nbytes for model in models for weight in model.parameters())

    def scheduler(self, key: str) -> Any:
        """Return a fresh scheduler of that key, with the bundle's own noise schedule."""
        import diffusers

        name, options = _SCHEDULERS[key]
        return getattr(diffusers, name).from_config(self.pipeline.scheduler.config, **options)

    def encoded(self, text: str, lora_scale: float) -> torch.Tensor:
        """Return what the text encoder makes of a text, shape (1, tokens, width).

        Args:
            text: A prompt.
            lora_scale: The LoRA's, which is set already: it may change the text encoder too.
        """
        import torch

        key = text, lora_scale
        words = self.words.pop(key, None)
        if words is None:
            with torch.no_grad():
                words, _ = self.pipeline.encode_prompt(text, self.pipeline.device, 1, False)  # noqa: FBT003 - theirs
        self.words[key] = words
        if len(self.words) > _MOST_WORDS:
            del self.words[next(iter(self.words))]
        return words

    def described(self, request: Any) -> dict[str, Any]:
        """Return what a rendering says of the models that made it.

        Args:
            request: A complete one.
        """
        return {
            "bundle": self.bundle.key,
            "title": self.bundle.title,
            "base": self.names[BASE],
            "lora": self.names[LORA] if request.lora_scale else None,
            "controlnet": self.names[request.translation] if request.kind == "translation" else None,
            "device": str(self.pipeline.device),
            "dtype": str(self.pipeline.unet.dtype).removeprefix("torch."),
        }


def versions() -> dict[str, str]:
    """Return the version of each library that shapes the pixels."""
    return {"mmmrs-demo": __version__} | {library: version(library) for library in _LIBRARIES}


def check_finite(numbers: torch.Tensor) -> None:
    """Refuse what would be a black picture.

    Raises:
        UserError: Not all numbers are finite.
    """
    if not numbers.isfinite().all():
        raise UserError(
            "The model computed no valid picture with these settings; "
            "lower the guidance or the LoRA scale, or choose another scheduler."
        )
