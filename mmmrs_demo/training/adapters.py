"""A LoRA or a ControlNet for a finished base, as in the paper (sections 4.2 and 4.3), on a data set on disk.

The base is any bundle of the catalog. The paper states steps, learning rates and the ControlNets' batch; LoRA rank and
layers, batch of the LoRA, caption dropout and weight decay are our choice, close to what diffusers' own training
scripts do.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, ControlNetModel, DDPMScheduler, StableDiffusionPipeline
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from mmmrs_demo.catalog import Bundle, Location
from mmmrs_demo.dataset.manifest import Manifest
from mmmrs_demo.engine import load_base
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.training.loop import Loss, Plan, Share, Stage
from mmmrs_demo.training.samples import Samples

LORA = Plan(200_000, 4, 1e-4, warmup=500, ema=0)
CONTROLNET = {key: Plan(80_000 if "sar" in key else 20_000, 4, 5e-5, warmup=500, ema=0) for key in TRANSLATIONS}
"""The paper's steps, rates and batch; it does not state the batch of the LoRA."""

RANK = 4
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
CAPTION_DROPOUT = 0.1
"""Share of captions left out, so that guidance has something to guide away from."""


class Noise:
    """The base's own diffusion: what is added to latents, and what the UNet must say."""

    def __init__(self, pipeline: StableDiffusionPipeline, samples: Samples, accelerator: Accelerator) -> None:
        """Freeze the base."""
        self.vae, self.unet, self.text_encoder = pipeline.vae, pipeline.unet, pipeline.text_encoder
        self.tokenizer, self.samples, self.accelerator = pipeline.tokenizer, samples, accelerator
        self.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.factor = pipeline.vae_scale_factor
        for module in (self.vae, self.unet, self.text_encoder):
            module.requires_grad_(requires_grad=False)

    def loss(
        self,
        numbers: np.ndarray,
        prompts: list[str],
        rng: np.random.Generator,
        share: Share,
        condition: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], dict[str, Any]] = lambda *_: {},
    ) -> torch.Tensor:
        """Return the mean squared error of what the UNet says of the noisy latents of a share of a batch.

        Args:
            numbers: rows of the whole batch.
            prompts: as many.
            rng: draws noise and noise levels for the whole batch, whoever learns from which part of it.
            share: the part to learn from.
            condition: given noisy latents, noise levels and the encoded prompts, returns more arguments of the UNet.
        """
        device = self.accelerator.device
        images = self.samples.images([int(n) for n in share.of(numbers)]).to(device, self.vae.dtype)
        latent = self.unet.config.in_channels, *(side // self.factor for side in images.shape[2:])
        drawn = torch.from_numpy(rng.standard_normal((2, len(numbers), *latent), np.float32))
        steps = torch.from_numpy(rng.integers(self.scheduler.config.num_train_timesteps, size=len(numbers)))
        noise, blur = (share.of(field).to(device) for field in drawn)
        steps = share.of(steps).to(device)
        with torch.no_grad(), self.accelerator.autocast():
            latents = self._encode(images, blur) * self.vae.config.scaling_factor
            tokens = self.tokenizer(share.of(prompts), padding="max_length", truncation=True, return_tensors="pt")
            words = self.text_encoder(tokens.input_ids.to(device))[0]
        noisy = self.scheduler.add_noise(latents, noise, steps)
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        target = self.scheduler.get_velocity(latents, noise, steps) if velocity else noise
        with self.accelerator.autocast():
            said = self.unet(noisy, steps, words, **condition(noisy, steps, words)).sample
        return (said.float() - target).square().mean()

    def _encode(self, images: torch.Tensor, blur: torch.Tensor) -> torch.Tensor:
        if isinstance(self.vae, AutoencoderKL):
            found = self.vae.encode(images).latent_dist
            return found.mean.float() + found.std.float() * blur
        return self.vae.encode(images).latents.float()


@dataclass(frozen=True)
class Job:
    """What to train, on what, and with which means.

    Attributes:
        what: ``lora``, or the key of a translation.
        bundle: whose base to train for.
        location: where that base lies.
        data: folder of a data set.
        out: folder of the result, of its checkpoint and of the losses for TensorBoard.
        plan: how long and how fast.
        rank: of a LoRA.
        precision: of the passes, ``no`` or ``bf16``; weights and optimiser stay in 32 bits.
        checkpointing: recompute activations instead of keeping them.
    """

    what: str
    bundle: Bundle
    location: Location
    data: Path
    out: Path
    plan: Plan
    rank: int = RANK
    precision: str = "no"
    checkpointing: bool = False


def train(job: Job) -> None:
    """Train a LoRA or a ControlNet, and write it with its model card.

    Raises:
        UserError: the data set has nothing to learn this from, or the batch cannot be shared equally.
    """
    started = time.monotonic()
    accelerator = Accelerator(mixed_precision=job.precision, log_with="tensorboard", project_dir=job.out)
    torch.manual_seed(0)  # what is new starts the same in every process
    samples = Samples(Manifest(job.data))
    pipeline = load_base(job.location, str(accelerator.device), half=False)
    job.out.mkdir(parents=True, exist_ok=True)
    accelerator.init_trackers("losses")
    if job.checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    last = (train_lora if job.what == "lora" else train_controlnet)(job, pipeline, samples, accelerator)
    accelerator.end_training()
    if accelerator.is_main_process:
        _write_card(job, samples, accelerator.num_processes, time.monotonic() - started, last)


def train_lora(job: Job, pipeline: StableDiffusionPipeline, samples: Samples, accelerator: Accelerator) -> float:
    """Train a LoRA on four-part prompts (paper, section 4.2) and return the mean loss of the last steps.

    The file has kohya's names, which diffusers, AUTOMATIC1111 and ComfyUI all read.
    """
    noise = Noise(pipeline, samples, accelerator)
    pipeline.unet.add_adapter(LoraConfig(r=job.rank, lora_alpha=job.rank, target_modules=list(LORA_TARGETS)))

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        numbers = rng.integers(len(samples.rows), size=job.plan.batch)
        return noise.loss(numbers, _prompts(samples, numbers, rng), rng, share)

    last = _learn(job, {"unet": pipeline.unet}, loss, accelerator)
    if accelerator.is_main_process:
        layers = {f"unet.{k}": v.half().contiguous() for k, v in get_peft_model_state_dict(pipeline.unet).items()}
        save_file(convert_state_dict_to_kohya(layers), job.out / "pytorch_lora_weights.safetensors", {"format": "pt"})
    return last


def train_controlnet(job: Job, pipeline: StableDiffusionPipeline, samples: Samples, accelerator: Accelerator) -> float:
    """Train the ControlNet of one translation on the frozen base (paper, section 4.3); return the last steps' loss."""
    pairs = np.array(samples.pairs(TRANSLATIONS[job.what]))
    noise = Noise(pipeline, samples, accelerator)
    controlnet = ControlNetModel.from_unet(pipeline.unet).float().to(accelerator.device)
    controlnet.requires_grad_(requires_grad=True)
    if job.checkpointing:
        controlnet.enable_gradient_checkpointing()

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        sources, targets = pairs[rng.integers(len(pairs), size=job.plan.batch)].T
        pictures = samples.images([int(n) for n in share.of(sources)]).to(accelerator.device) / 2 + 0.5

        def condition(noisy: torch.Tensor, steps: torch.Tensor, words: torch.Tensor) -> dict[str, Any]:
            down, mid = controlnet(noisy, steps, words, controlnet_cond=pictures, return_dict=False)
            return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}

        # The satellite that a prompt names is that of the input.
        return noise.loss(targets, _prompts(samples, sources, rng), rng, share, condition)

    last = _learn(job, {"controlnet": controlnet}, loss, accelerator)
    if accelerator.is_main_process:
        controlnet.half().save_pretrained(job.out)
    return last


def _prompts(samples: Samples, numbers: np.ndarray, rng: np.random.Generator) -> list[str]:
    return ["" if rng.random() < CAPTION_DROPOUT else samples.rows[n]["prompt"] for n in numbers]


def _learn(job: Job, modules: dict[str, Any], loss: Loss, accelerator: Accelerator) -> float:
    last = float("nan")

    def told(step: int, value: float) -> None:
        nonlocal last
        last = value
        accelerator.log({"loss": value}, step=step)

    Stage(job.what, job.out / "checkpoint", modules, job.plan, accelerator=accelerator).train(loss, told=told)
    accelerator.wait_for_everyone()
    return last


def _write_card(job: Job, samples: Samples, processes: int, seconds: float, loss: float) -> None:
    """Write the model card of a run: what was learned from, how, and how far it came."""
    title = "LoRA for four-part prompts" if job.what == "lora" else f"ControlNet {TRANSLATIONS[job.what].title}"
    counts = "\n".join(
        f"| {name} | "
        + ", ".join(
            f"{value} {count:,}" for value, count in Counter(str(r[name] or "clear") for r in samples.rows).items()
        )
        + " |"
        for name in ("source", "modality", "weather", "licence")
    )
    how = asdict(job.plan) | {"precision": job.precision, "processes": processes}
    if job.what == "lora":
        how["rank"] = job.rank
    table = "\n".join(f"| {name} | {value} |" for name, value in how.items())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "peft", "accelerate"))
    (job.out / "README.md").write_text(
        f"# {title}\n\n"
        f"Trained with `mmmrs-demo train` on the base of the bundle `{job.bundle.key}`. Pictures made with it are "
        "synthetic: not for decisions about real places. Its licence is bound by that of the base and of the tiles.\n\n"
        f"## Learned from\n\n{len(samples.rows):,} tiles.\n\n| | tiles |\n|---|---|\n{counts}\n\n"
        f"## How\n\n| | |\n|---|---|\n{table}\n\n"
        f"The last call took {seconds:.0f} s and ended at a loss of {loss:.4f}, the mean of its last steps. "
        f"Versions: {versions}.\n",
        encoding="utf-8",
    )
