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
from diffusers import ControlNetModel, DDPMScheduler, StableDiffusionPipeline
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file

from mmmrs_demo.catalog import Bundle, Location
from mmmrs_demo.dataset.manifest import Manifest
from mmmrs_demo.dataset.samples import Samples
from mmmrs_demo.engine import load_base
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import PAPER_PROMPTS
from mmmrs_demo.request import TextRequest, TranslationRequest
from mmmrs_demo.training import sheets
from mmmrs_demo.training.latents import Latents
from mmmrs_demo.training.loop import SHEETS, Loss, Plan, Share, Stage
from mmmrs_demo.training.noise import Drawn, Noise, guided, prompts
from mmmrs_demo.training.sheets import Look

LORA = Plan(200_000, 4, 1e-4, warmup=500, ema=0)
CONTROLNET = {key: Plan(80_000 if "sar" in key else 20_000, 4, 5e-5, warmup=500, ema=0) for key in TRANSLATIONS}
"""The paper's steps, rates and batch; it does not state the batch of the LoRA."""

RANK = 4
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


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
        precision: of the passes, a key of `loop.PRECISIONS`; weights and optimiser stay in 32 bits.
        checkpointing: recompute activations instead of keeping them.
        latents: folder that keeps the encoded tiles, None to encode them whenever they are drawn.
        sheets: pictures drawn on the way, so often.
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
    latents: Path | None = None
    sheets: int = SHEETS


def train(job: Job) -> None:
    """Train a LoRA or a ControlNet, and write it with its model card.

    Raises:
        UserError: the data set has nothing to learn this from, or the batch cannot be shared equally.
    """
    started = time.monotonic()
    accelerator = Accelerator(log_with="tensorboard", project_dir=job.out)
    torch.manual_seed(0)  # what is new starts the same in every process
    pipeline = load_base(job.location, str(accelerator.device), half=False)
    for module in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        module.requires_grad_(requires_grad=False)
    samples = Samples(Manifest(job.data))
    noise = Noise(
        pipeline.tokenizer,
        pipeline.text_encoder,
        pipeline.unet,
        DDPMScheduler.from_config(pipeline.scheduler.config),
        Latents(pipeline.vae, samples, job.latents),
        job.precision,
    )
    job.out.mkdir(parents=True, exist_ok=True)
    accelerator.init_trackers("losses")
    if job.checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    last = (train_lora if job.what == "lora" else train_controlnet)(job, pipeline, noise, accelerator)
    accelerator.end_training()
    if accelerator.is_main_process:
        _write_card(job, samples, accelerator.num_processes, time.monotonic() - started, last)


def train_lora(job: Job, pipeline: StableDiffusionPipeline, noise: Noise, accelerator: Accelerator) -> float:
    """Train a LoRA on four-part prompts (paper, section 4.2) and return the mean loss of the last steps.

    The file has kohya's names, which diffusers, AUTOMATIC1111 and ComfyUI all read.
    """
    pipeline.unet.add_adapter(LoraConfig(r=job.rank, lora_alpha=job.rank, target_modules=list(LORA_TARGETS)))
    samples = noise.latents.samples

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        numbers = rng.integers(len(samples.rows), size=job.plan.batch)
        return noise.loss(Drawn(numbers, prompts(samples, numbers, rng), np.zeros_like(numbers)), rng, share)

    def sheet() -> Image.Image:
        told = [prompt.text for prompt in PAPER_PROMPTS[: sheets.PICTURES]]
        return sheets.draw(pipeline, told, _look(job, TextRequest(prompt=PAPER_PROMPTS[0])))

    last = _learn(job, {"unet": pipeline.unet}, loss, sheet, accelerator)
    if accelerator.is_main_process:
        layers = {f"unet.{k}": v.half().contiguous() for k, v in get_peft_model_state_dict(pipeline.unet).items()}
        save_file(convert_state_dict_to_kohya(layers), job.out / "pytorch_lora_weights.safetensors", {"format": "pt"})
    return last


def train_controlnet(job: Job, pipeline: StableDiffusionPipeline, noise: Noise, accelerator: Accelerator) -> float:
    """Train the ControlNet of one translation on the frozen base (paper, section 4.3); return the last steps' loss."""
    samples = noise.latents.samples
    pairs = np.array(samples.pairs(TRANSLATIONS[job.what]))
    controlnet = ControlNetModel.from_unet(pipeline.unet).float().to(accelerator.device)
    controlnet.requires_grad_(requires_grad=True)
    if job.checkpointing:
        controlnet.enable_gradient_checkpointing()

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        sources, targets = pairs[rng.integers(len(pairs), size=job.plan.batch)].T
        # The satellite that a prompt names is that of the input.
        drawn = Drawn(targets, prompts(samples, sources, rng), np.zeros_like(targets))
        return noise.loss(drawn, rng, share, guided(controlnet, samples, share.of(sources), share.of(drawn.turns)))

    shown = sheets.examples(job.data, TRANSLATIONS[job.what])
    look = _look(job, TranslationRequest(translation=job.what, prompt=PAPER_PROMPTS[0]))

    def sheet() -> Image.Image:
        return sheets.draw_translations(pipeline, controlnet, shown, look)

    last = _learn(job, {"controlnet": controlnet}, loss, sheet, accelerator)
    if accelerator.is_main_process:
        controlnet.half().save_pretrained(job.out)
    return last


def _look(job: Job, request: TextRequest | TranslationRequest) -> Look:
    """Return how the bundle would answer a request that asks for nothing particular."""
    meant = job.bundle.complete(request)
    return Look(job.bundle.size, meant.steps or 1, meant.guidance or 1.0, job.precision)


def _learn(
    job: Job, modules: dict[str, Any], loss: Loss, sheet: Callable[[], Image.Image], accelerator: Accelerator
) -> float:
    last = float("nan")

    def told(step: int, value: float) -> None:
        nonlocal last
        last = value
        accelerator.log({"loss": value}, step=step)

    def sample(step: int) -> None:
        picture = sheet()
        picture.save(job.out / f"{job.what}-{step}.png")
        accelerator.get_tracker("tensorboard").log_images(
            {"sheet": np.asarray(picture)[None]}, step, dataformats="NHWC"
        )

    stage = Stage(job.what, job.out / "checkpoint", modules, job.plan, precision=job.precision, accelerator=accelerator)
    stage.train(loss, sample, told, job.sheets)
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
