"""The two diffusion stages, base with ControlNets and LoRA, which differ in what learns and what the prompt says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.training.loop import Loss, Plan, Share, Stage
from mmmrs_demo.training.material import Material, Row, full_prompt, plain_caption
from mmmrs_demo.training.text import HIDDEN

CHANNELS = (64, 112, 176)
SIDE = 32
CAPTION_DROPOUT = 0.1
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


def train_eyes(controlnets: dict[str, ControlNetModel], material: Material, folder: Path, plan: Plan) -> None:
    """Give all ControlNets one conditioning embedding that has learned to tell a picture's latents.

    So they need not find out what a picture is while they learn what to do with it.
    """
    first, *others = (controlnet.controlnet_cond_embedding for controlnet in controlnets.values())
    shown = np.array([i for i, row in enumerate(material.rows) if row.pixels >= 0])
    chance = material.weights([int(i) for i in shown])
    head = torch.nn.Conv2d(first.conv_out.out_channels, material.latents.shape[1], 1)

    def loss(_: int, rng: np.random.Generator, __: Share) -> torch.Tensor:
        index = rng.choice(shown, plan.batch, p=chance)
        with torch.autocast("cpu", torch.bfloat16):
            told = head(first(material.pictures(index)))
        return functional.mse_loss(told.float(), material.latents[index].float())

    Stage("eyes", folder, {"embedding": first, "head": head}, plan).train(loss)
    for embedding in others:
        embedding.load_state_dict(first.state_dict())


class Learner:
    """The parts together, and the loss that both stages share; the text encoder is finished."""

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
        controlnet: ControlNetModel | None = None,
        conditions: np.ndarray | None = None,
    ) -> torch.Tensor:
        """Return the mean squared error of the predicted velocity, all noise levels alike.

        Alike, because what sets a picture's brightness and layout (night, snow) is decided where nearly all is noise;
        the usual weights by signal-to-noise ratio leave that nearly unlearned. With a condition, high noise is drawn
        more often still: that is where its picture tells most, while at low noise the latents tell it themselves.
        """
        clean = (self.material.latents[index].float() * self.scale).contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(clean)
        draws = 1 if controlnet is None else 2
        steps = torch.from_numpy(rng.integers(len(self.schedule), size=(draws, len(index))).max(0))
        signal = self.schedule[steps][:, None, None, None]
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        target = signal.sqrt() * noise - (1 - signal).sqrt() * clean
        tokens = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.autocast("cpu", torch.bfloat16):
            words = self.text_encoder(tokens)[0]
            residuals = {}
            if controlnet is not None and conditions is not None:
                picture = self.material.pictures(conditions)
                down, mid = controlnet(noisy, steps, words, controlnet_cond=picture, return_dict=False)
                residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
            predicted = self.unet(noisy, steps, words, **residuals).sample
        return (predicted.float() - target).square().mean()


def _caption_loss(
    learner: Learner, rows: list[int], prompt: Callable[[Row, np.random.Generator], str], plan: Plan
) -> Loss:
    chance = learner.material.weights(rows)

    def loss(_: int, rng: np.random.Generator, __: Share) -> torch.Tensor:
        index = rng.choice(rows, plan.batch, p=chance)
        return learner.loss(index, _prompts(learner, index, prompt, rng), rng)

    return loss


def _prompts(
    learner: Learner, index: np.ndarray, prompt: Callable[[Row, np.random.Generator], str], rng: np.random.Generator
) -> list[str]:
    return ["" if rng.random() < CAPTION_DROPOUT else prompt(learner.material.rows[i], rng) for i in index]


def train_base(
    learner: Learner,
    controlnets: dict[str, ControlNetModel],
    folder: Path,
    plan: Plan,
    sample: Callable[[int], None] | None = None,
) -> None:
    """Train the UNet, and with it the ControlNets of all directions.

    Every third step is on plain captions in all modalities, the others on one direction each. The paper
    trains each ControlNet on a frozen SD1.5 (section 4.3); a base this small and this briefly trained hardly reacts to
    what a ControlNet adds to it later, so here it learns to listen from the start.
    """
    rows, keys = learner.material.rows, list(controlnets)
    pairs = {key: np.array(learner.material.pairs(TRANSLATIONS[key])) for key in keys}
    chance = {key: learner.material.weights([int(i) for i in pairs[key][:, 1]]) for key in keys}
    captions_alone = _caption_loss(learner, list(range(len(rows))), plain_caption, plan)

    def loss(step: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        if step % 3 == 0:
            return captions_alone(step, rng, share)
        key = keys[(step - step // 3 - 1) % len(keys)]
        chosen = pairs[key][rng.choice(len(pairs[key]), plan.batch, p=chance[key])]
        prompts = _prompts(learner, chosen[:, 0], full_prompt, rng)
        return learner.loss(chosen[:, 1], prompts, rng, controlnets[key], chosen[:, 0])

    Stage("base", folder, {"unet": learner.unet, **controlnets}, plan).train(loss, sample)


def train_lora(learner: Learner, folder: Path, plan: Plan, sample: Callable[[int], None] | None = None) -> None:
    """Train a LoRA on four-part prompts: RGB in every weather, SAR under its satellite's word (paper section 4.2)."""
    learner.unet.requires_grad_(requires_grad=False)
    learner.unet.add_adapter(LoraConfig(r=LORA_RANK, lora_alpha=LORA_RANK, target_modules=LORA_TARGETS))
    rows = [i for i, row in enumerate(learner.material.rows) if row.modality != "nir"]
    Stage("lora", folder, {"unet": learner.unet}, plan).train(_caption_loss(learner, rows, full_prompt, plan), sample)
