"""The two diffusion stages, base with ControlNets and LoRA, which differ in what learns and what the prompt says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig
from torch.nn import functional

from mmmrs_demo.dataset import captions
from mmmrs_demo.dataset.samples import TURNS
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.training.latents import Latents, batch
from mmmrs_demo.training.loop import Loss, Plan, Share, Stage, autocast
from mmmrs_demo.training.noise import Drawn, Noise, guided, prompts
from mmmrs_demo.training.text import HIDDEN

CHANNELS = (64, 112, 176)
ATTENTIVE = 2  # of the levels, the deepest
GROUPS = 16
SIDE = 32
PART_KEPT = 0.9
"""How often a prompt names the GSD level, and how often the satellite."""

LORA_TARGETS = r".*(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out)"
LORA_RANK = 16


def build_scheduler() -> DDPMScheduler:
    """Return the noise schedule: v-prediction; as SD1.5's but ending in more noise, where dark scenes can start."""
    return DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.02,
        prediction_type="v_prediction",
        clip_sample=False,
        steps_offset=1,
        timestep_spacing="trailing",  # a sampler begins where all is noise, for there brightness and colour are decided
    )


def build_unet(latent_channels: int) -> UNet2DConditionModel:
    """Return an untrained UNet of SD1.5's layout with three levels and text attention on the two deeper ones."""
    shallow = len(CHANNELS) - ATTENTIVE
    unet = UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=latent_channels,
        out_channels=latent_channels,
        layers_per_block=1,
        block_out_channels=CHANNELS,
        down_block_types=("DownBlock2D",) * shallow + ("CrossAttnDownBlock2D",) * ATTENTIVE,
        up_block_types=("CrossAttnUpBlock2D",) * ATTENTIVE + ("UpBlock2D",) * shallow,
        cross_attention_dim=HIDDEN,
        attention_head_dim=4,  # diffusers means the number of heads
        norm_num_groups=GROUPS,
    )
    unet.set_attn_processor(AttnProcessor())  # on a CPU the fused attention learns several times slower
    return unet.to(memory_format=torch.channels_last)


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """Return a ControlNet whose encoder starts as the UNet's; it has no text attention, which keeps it small."""
    controlnet = ControlNetModel(
        in_channels=unet.config.in_channels,
        layers_per_block=unet.config.layers_per_block,
        block_out_channels=unet.config.block_out_channels,
        down_block_types=("DownBlock2D",) * len(CHANNELS),
        mid_block_type="UNetMidBlock2D",
        cross_attention_dim=unet.config.cross_attention_dim,
        attention_head_dim=unet.config.attention_head_dim,
        norm_num_groups=unet.config.norm_num_groups,
        conditioning_embedding_out_channels=(16, 32, 64, 96),
    )
    controlnet.load_state_dict(unet.state_dict(), strict=False)
    _open(controlnet)
    return controlnet.to(memory_format=torch.channels_last)


def _open(controlnet: ControlNetModel) -> None:
    """Let the picture through from the first step.

    Usually all gates start at zero to spare a finished base, and the embedding's convolutions as PyTorch does, which
    leaves a hundredth of the picture's contrast: the way in then opens only very slowly. Here the base learns
    too, so the gates start open, and the embedding starts so that no layer weakens the picture.
    """
    embedding = controlnet.controlnet_cond_embedding
    for gate in (controlnet.controlnet_mid_block, *controlnet.controlnet_down_blocks):
        gate.reset_parameters()
    for layer in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        torch.nn.init.zeros_(layer.bias)


def train_eyes(
    controlnets: dict[str, ControlNetModel], latents: Latents, folder: Path, plan: Plan, precision: str
) -> None:
    """Give all ControlNets one conditioning embedding that has learned to tell a picture's latents, and freeze it.

    So they need not find out what a picture is while they learn what to do with it. To go on learning at the picture's
    full resolution would cost more than all the rest of a step.
    """
    first, *others = (controlnet.controlnet_cond_embedding for controlnet in controlnets.values())
    samples, device = latents.samples, latents.vae.device
    shown = np.unique([number for key in controlnets for pair in samples.pairs(TRANSLATIONS[key]) for number in pair])
    chances = samples.chances(shown)
    head = torch.nn.Conv2d(first.conv_out.out_channels, latents.shape[0], 1).to(device)

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        numbers = share.of(rng.choice(shown, plan.batch, p=chances))
        turns = share.of(rng.integers(TURNS, size=plan.batch))
        pictures = [samples.picture(int(n), int(t)) for n, t in zip(numbers, turns, strict=True)]
        with autocast(device, precision):
            told = head(first(batch(pictures, device) / 2 + 0.5))
        return functional.mse_loss(told.float(), latents.draw(numbers, turns, torch.zeros(())))

    Stage("eyes", folder, {"embedding": first, "head": head}, plan, precision=precision).train(loss)
    for embedding in (first, *others):
        embedding.load_state_dict(first.state_dict())
        embedding.requires_grad_(requires_grad=False)


def train_base(
    noise: Noise,
    controlnets: dict[str, ControlNetModel],
    folder: Path,
    plan: Plan,
    sample: Callable[[int], None] | None = None,
) -> None:
    """Train the UNet, and with it the ControlNets of all directions.

    Every third step is on plain captions in all modalities, the rest on one direction each, those with few pairs less
    often, lest these be learned by heart. The paper trains each ControlNet on a frozen SD1.5 (section 4.3); a base this
    small and this briefly trained hardly reacts to what a ControlNet adds to it later, so here it learns to listen from
    the start. What sets a picture's brightness and layout (night, snow) is decided where nearly all is noise, so all
    noise levels count alike: the usual weights by signal-to-noise ratio leave that nearly unlearned. Translations draw
    high noise more often still: that is where the input tells most, while at low noise the latents tell it themselves.
    """
    translations = _translation_loss(noise, controlnets, plan)
    captions_alone = _caption_loss(noise, list(range(len(noise.latents.samples.rows))), _plain_caption, plan)

    def loss(step: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        return (captions_alone if step % 3 == 0 else translations)(step, rng, share)

    Stage("base", folder, {"unet": noise.unet, **controlnets}, plan, precision=noise.precision).train(loss, sample)


def train_controlnets(
    noise: Noise,
    controlnets: dict[str, ControlNetModel],
    folder: Path,
    plan: Plan,
    sample: Callable[[int], None] | None = None,
) -> None:
    """Train the ControlNets of all directions on a finished UNet: each step costs less, and none is on captions."""
    noise.unet.requires_grad_(requires_grad=False)
    loss = _translation_loss(noise, controlnets, plan)
    Stage("controlnets", folder, {**controlnets}, plan, precision=noise.precision).train(loss, sample)


def train_lora(noise: Noise, folder: Path, plan: Plan, sample: Callable[[int], None] | None = None) -> None:
    """Train a LoRA on four-part prompts: RGB in every weather, SAR under its satellite's word (paper section 4.2)."""
    noise.unet.requires_grad_(requires_grad=False)
    noise.unet.add_adapter(LoraConfig(r=LORA_RANK, lora_alpha=LORA_RANK, target_modules=LORA_TARGETS))
    numbers = [number for number, row in enumerate(noise.latents.samples.rows) if row["modality"] != "nir"]
    loss = _caption_loss(noise, numbers, _full_prompt, plan)
    Stage("lora", folder, {"unet": noise.unet}, plan, precision=noise.precision).train(loss, sample)


_Telling = Callable[[dict[str, Any], np.random.Generator], str]


def _caption_loss(noise: Noise, numbers: list[int], telling: _Telling, plan: Plan) -> Loss:
    samples = noise.latents.samples
    chances = samples.chances(numbers)

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        chosen = rng.choice(numbers, plan.batch, p=chances)
        drawn = Drawn(chosen, prompts(samples, chosen, rng, telling), rng.integers(TURNS, size=plan.batch))
        return noise.loss(drawn, rng, share)

    return loss


def _translation_loss(noise: Noise, controlnets: dict[str, ControlNetModel], plan: Plan) -> Loss:
    samples, keys = noise.latents.samples, list(controlnets)
    pairs = {key: np.array(samples.pairs(TRANSLATIONS[key])) for key in keys}
    chances = {key: samples.chances(pairs[key][:, 1]) for key in keys}
    shares = np.array([len(pairs[key]) ** 0.25 for key in keys])
    shares /= shares.sum()

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        key = str(rng.choice(keys, p=shares))
        sources, targets = pairs[key][rng.choice(len(pairs[key]), plan.batch, p=chances[key])].T
        drawn = Drawn(targets, prompts(samples, sources, rng, _full_prompt), rng.integers(TURNS, size=plan.batch))
        condition = guided(controlnets[key], samples, share.of(sources), share.of(drawn.turns))
        return noise.loss(drawn, rng, share, condition, attempts=2)

    return loss


def _plain_caption(row: dict[str, Any], rng: np.random.Generator) -> str:
    """What the base learns from: a caption in plain words, without the parts for GSD, weather and satellite."""
    return captions.plain(row["caption"], row["modality"], row["weather"], row["gsd_level"], rng)


def _full_prompt(row: dict[str, Any], rng: np.random.Generator) -> str:
    """The four-part prompt of a row; GSD and satellite are left out now and then, so that either may be missing."""
    kept = {part: row[part] if rng.random() < PART_KEPT else None for part in ("gsd_level", "satellite")}
    parts = {"gsd": kept["gsd_level"], "satellite": kept["satellite"]}
    return Prompt(weather=row["weather"], caption=row["caption"], **parts).text
