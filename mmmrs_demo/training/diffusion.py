"""Base, LoRA and ControlNet: the three diffusion stages, which differ in what is trained and what the prompt says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig
from transformers import CLIPTextModel, CLIPTokenizer

from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.training.loop import Loss, Plan, Stage
from mmmrs_demo.training.material import Material, Row, full_prompt, plain_caption
from mmmrs_demo.training.text import HIDDEN

CHANNELS = (64, 112, 176)
SIDE = 32
CAPTION_DROPOUT = 0.1
SMALL_SHARE = 0.65
"""Share of a stage that learns on quarter-size latents, twice as many at once: texture first, layout afterwards."""
LORA_TARGETS = r".*(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out|conv1|conv2|time_emb_proj)"
LORA_RANK = 12


def build_scheduler() -> DDPMScheduler:
    """Return the noise schedule: v-prediction; as SD1.5's but ending in more noise, where dark scenes can start."""
    return DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.02,
        prediction_type="v_prediction",
        clip_sample=False,
        steps_offset=1,
    )


def build_unet(latent_channels: int) -> UNet2DConditionModel:
    """Return an untrained UNet of SD1.5's layout with three levels and text attention on the two deeper ones."""
    unet = UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=latent_channels,
        out_channels=latent_channels,
        layers_per_block=1,
        block_out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=HIDDEN,
        attention_head_dim=4,  # diffusers means the number of heads
        norm_num_groups=16,
    )
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


@torch.no_grad()
def _open(controlnet: ControlNetModel) -> None:
    """Let the picture through from the first step.

    Usually all gates start at zero to spare a finished base, and the embedding's convolutions as PyTorch does, which
    leaves a hundredth of the picture's contrast: the way in then opens only very slowly. Here the base learns
    too, so the gates start open, and the embedding gives features of about unit contrast.
    """
    embedding = controlnet.controlnet_cond_embedding
    for gate in (controlnet.controlnet_mid_block, *controlnet.controlnet_down_blocks):
        gate.reset_parameters()
    for layer in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        torch.nn.init.zeros_(layer.bias)
    squares = torch.nn.functional.interpolate(torch.rand(16, 3, 8, 8), size=64, mode="bicubic")
    seen = embedding(squares)
    embedding.conv_out.weight /= seen.std((0, 2, 3))[:, None, None, None]
    embedding.conv_out.bias -= seen.mean((0, 2, 3)) / seen.std((0, 2, 3))


class Learner:
    """The frozen and the learning parts together, and the loss that all three stages share."""

    def __init__(
        self, material: Material, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, unet: UNet2DConditionModel
    ) -> None:
        """Keep the parts; latents are brought to unit variance."""
        self.material, self.tokenizer, self.text_encoder, self.unet = material, tokenizer, text_encoder, unet
        self.scale = 1 / material.deviation
        self.schedule = build_scheduler().alphas_cumprod

    def loss(
        self,
        index: np.ndarray,
        prompts: list[str],
        rng: np.random.Generator,
        side: int,
        controlnet: ControlNetModel | None = None,
        conditions: np.ndarray | None = None,
    ) -> torch.Tensor:
        """Return the error of the predicted velocity on squares of `side` latents; min-SNR (5) without ControlNet."""
        y, x = (int(v) for v in rng.integers(SIDE - side + 1, size=2))
        clean = self.material.latents[index][..., y : y + side, x : x + side].float() * self.scale
        clean = clean.contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(clean)
        steps = torch.from_numpy(rng.integers(len(self.schedule), size=len(index)))
        signal = self.schedule[steps][:, None, None, None]
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        target = signal.sqrt() * noise - (1 - signal).sqrt() * clean
        tokens = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.autocast("cpu", torch.bfloat16):
            words = self.text_encoder(tokens)[0]
            residuals = {}
            if controlnet is not None:
                pixels = self.material.pixels[conditions][:, 8 * y : 8 * (y + side), 8 * x : 8 * (x + side)]
                picture = (pixels.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)
                down, mid = controlnet(noisy, steps, words, controlnet_cond=picture, return_dict=False)
                residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
            predicted = self.unet(noisy, steps, words, **residuals).sample
        if controlnet is not None:  # what the picture says is worth most where all else is noise
            return (predicted.float() - target).square().mean()
        ratio = signal / (1 - signal)
        weight = ratio.clamp(max=5) / (ratio + 1)
        return (weight * (predicted.float() - target).square()).mean() / weight.mean()


def _size(step: int, plan: Plan) -> tuple[int, int]:
    """Batch and latent side of a step."""
    return (plan.batch * 2, SIDE // 2) if step < SMALL_SHARE * plan.steps else (plan.batch, SIDE)


def _text_stage(
    learner: Learner, rows: list[int], prompt: Callable[[Row, np.random.Generator], str], plan: Plan
) -> Loss:
    chance = learner.material.weights(rows)

    def loss(step: int, rng: np.random.Generator) -> torch.Tensor:
        batch, side = _size(step, plan)
        index = rng.choice(rows, batch, p=chance)
        prompts = ["" if rng.random() < CAPTION_DROPOUT else prompt(learner.material.rows[i], rng) for i in index]
        return learner.loss(index, prompts, rng, side)

    return loss


def train_base(learner: Learner, folder: Path, plan: Plan, sample: Callable[[int], None] | None = None) -> None:
    """Train UNet and text encoder on plain captions of clear tiles in all modalities."""
    modules = {"unet": learner.unet, "text_encoder": learner.text_encoder}
    Stage("base", folder, modules, plan).train(_text_stage(learner, _base_rows(learner), plain_caption, plan), sample)


def _base_rows(learner: Learner) -> list[int]:
    """All rows but those under synthesised weather."""
    return [i for i, row in enumerate(learner.material.rows) if row.weather is None or row.pixels >= 0]


def train_lora(learner: Learner, folder: Path, plan: Plan, sample: Callable[[int], None] | None = None) -> None:
    """Train a LoRA on four-part prompts: RGB in every weather, SAR under its satellite's word (paper section 4.2)."""
    for module in (learner.unet, learner.text_encoder):
        module.requires_grad_(requires_grad=False)
    learner.unet.add_adapter(LoraConfig(r=LORA_RANK, lora_alpha=LORA_RANK, target_modules=LORA_TARGETS))
    rows = [i for i, row in enumerate(learner.material.rows) if row.modality != "nir"]
    Stage("lora", folder, {"unet": learner.unet}, plan).train(_text_stage(learner, rows, full_prompt, plan), sample)


def train_translations(
    learner: Learner,
    controlnets: dict[str, ControlNetModel],
    folder: Path,
    plan: Plan,
    sample: Callable[[int], None] | None = None,
) -> None:
    """Train the ControlNets of all directions together with the base, which learns to listen to them.

    The paper trains each ControlNet on a frozen SD1.5 (section 4.3). A base this small and this briefly trained hardly
    reacts to what a ControlNet adds to it, so here it goes on learning: every fifth step on captions alone, the others
    on one direction each.
    """
    keys = list(controlnets)
    pairs = {key: np.array(learner.material.pairs(TRANSLATIONS[key])) for key in keys}
    chance = {key: learner.material.weights([int(i) for i in pairs[key][:, 1]]) for key in keys}
    rows, captions_alone = learner.material.rows, _text_stage(learner, _base_rows(learner), plain_caption, plan)

    def loss(step: int, rng: np.random.Generator) -> torch.Tensor:
        turn = step % (len(keys) + 1)
        if turn == len(keys):
            return captions_alone(step, rng)
        key, (batch, side) = keys[turn], _size(step, plan)
        chosen = pairs[key][rng.choice(len(pairs[key]), batch, p=chance[key])]
        prompts = ["" if rng.random() < CAPTION_DROPOUT else full_prompt(rows[i], rng) for i in chosen[:, 0]]
        conditions = np.array([rows[i].pixels for i in chosen[:, 0]])
        return learner.loss(chosen[:, 1], prompts, rng, side, controlnets[key], conditions)

    modules = {"unet": learner.unet, "text_encoder": learner.text_encoder, **controlnets}
    Stage("translations", folder, modules, plan).train(loss, sample)
