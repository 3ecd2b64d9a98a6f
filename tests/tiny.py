"""Builds small bundles with random weights, in the layouts in which the real ones come; takes seconds, draws noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import PAPER_PROMPTS

SIZE = 64
RANK = 4
UNET_LORA = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_LORA = ["q_proj", "k_proj", "v_proj", "out_proj"]


def write_bundles(weights: Path) -> Path:
    """Write a folder of weights with two bundles and return it.

    ``tiny`` is of the SD1.5 layout: KL autoencoder, four latent channels, PNDM, single files, a tokenizer of the old
    form. ``mini`` is like the embedded bundle: tiny autoencoder, eight latent channels, v-prediction, half precision in
    shards. Both have a LoRA and all ControlNets.
    """
    write_base(weights / "tiny", seed=1)
    write_base(weights / "mini", seed=2, embedded=True)
    for key in ("tiny", "mini"):
        write_lora(weights / key, weights / key / "lora")
        for seed, translation in enumerate(TRANSLATIONS):
            write_controlnet(weights / key, weights / key / "controlnet" / translation, seed=seed)
    (weights / "catalog.toml").write_text(table("mini") + table("tiny"), encoding="utf-8")
    return weights


def table(key: str, **paths: str) -> str:
    """Return the catalog's table of a bundle whose parts lie in their usual places, or in those of `paths`."""
    parts = {"base": key, "lora": f"{key}/lora"} | {name: f"{key}/controlnet/{name}" for name in TRANSLATIONS} | paths
    lines = [
        f"[{key}]",
        f'title = "Random weights ({key})"',
        'summary = "Random numbers."',
        'licence = "none"',
        f'card = "{key}/README.md"',
        f"size = {SIZE}",
        f'base = {{ path = "{parts.pop("base")}" }}',
        f'lora = {{ path = "{parts.pop("lora")}" }}',
        'defaults = { steps = 4, guidance = 3.0, scheduler = "dpm++2m-karras" }',
        f"[{key}.controlnets]",
        *(f'{name} = {{ path = "{path}" }}' for name, path in parts.items() if path),
    ]
    return "\n".join(lines) + "\n\n"


def write_base(folder: Path, *, seed: int, embedded: bool = False) -> None:
    """Write a pipeline folder."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    latent_channels = 8 if embedded else 4
    unet = UNet2DConditionModel(
        sample_size=SIZE // 8,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=32,
        attention_head_dim=2,
    )
    vae: Any
    if embedded:
        vae = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8), latent_channels=8
        )
    else:
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            norm_num_groups=4,
        )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    scheduler: Any = (
        DPMSolverMultistepScheduler(prediction_type="v_prediction", use_karras_sigmas=True, steps_offset=1)
        if embedded
        else PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        )
    )
    pipeline = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )
    if embedded:
        pipeline.to(dtype=torch.float16).save_pretrained(folder, max_shard_size="100KB")
        return
    pipeline.save_pretrained(folder)
    # SD1.5 was saved long ago: text encoder below "text_model", vocabulary and merges in files of their own.
    file = folder / "text_encoder" / "model.safetensors"
    save_file({f"text_model.{key}": value for key, value in load_file(file).items()}, file, {"format": "pt"})
    saved = json.loads((folder / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(saved["vocab"]), encoding="utf-8")
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in saved["merges"])])
    (folder / "tokenizer" / "merges.txt").write_text(merges, encoding="utf-8")


def build_tokenizer() -> Any:
    """Return a CLIP tokenizer that knows every byte, and the words of the paper's prompts as one token each."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    symbols = dict.fromkeys(letters + [f"{letter}</w>" for letter in letters])
    merges: dict[tuple[str, str], None] = {}
    for word in sorted({word for prompt in PAPER_PROMPTS for word in prompt.text.lower().replace(",", "").split()}):
        if not word.isalpha():
            continue
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = None
            pieces[:2] = ["".join(pieces[:2])]
            symbols[pieces[0]] = None
    vocab = {symbol: i for i, symbol in enumerate([*symbols, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=list(merges), model_max_length=77)


def write_lora(base: Path, folder: Path, *, text_encoder: bool = False) -> None:
    """Write a LoRA as diffusers' training scripts do, with random numbers strong enough to be seen."""
    layers = {"unet_lora_layers": _adapter(UNet2DConditionModel.from_pretrained(base / "unet"), UNET_LORA)}
    if text_encoder:
        layers["text_encoder_lora_layers"] = _text_adapter(base)
    StableDiffusionPipeline.save_lora_weights(folder, **layers)


def write_kohya_lora(base: Path, file: Path, *, text_encoder: bool = False, alpha: float = RANK) -> None:
    """Write the LoRA that `write_lora` writes, in kohya's layout."""
    parts = {"lora_unet_": _adapter(UNet2DConditionModel.from_pretrained(base / "unet"), UNET_LORA)}
    if text_encoder:
        parts["lora_te_"] = _text_adapter(base)
    tensors = {}
    for prefix, layers in parts.items():
        for name, tensor in layers.items():
            module, _, kind = name.removesuffix(".weight").rpartition(".lora")
            key = prefix + module.replace(".", "_")
            down = kind in ("_A", ".down", "_linear_layer.down")
            tensors[f"{key}.lora_{'down' if down else 'up'}.weight"] = tensor.contiguous()
            tensors[f"{key}.alpha"] = torch.tensor(float(alpha))
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)


def write_controlnet(base: Path, folder: Path, *, seed: int) -> None:
    """Write a ControlNet whose connections are random instead of zero, so that the condition shows."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 16))
    with torch.no_grad():
        for name, parameter in controlnet.named_parameters():
            if name.startswith(("controlnet_", "controlnet_cond_embedding.conv_out")):
                parameter.normal_(std=0.5)
    controlnet.save_pretrained(folder)


def _adapter(model: Any, modules: list[str]) -> dict[str, torch.Tensor]:
    """Return the state of a fresh adapter, as the training scripts hand it to be saved."""
    torch.manual_seed(0)
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=modules))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                parameter.normal_(std=0.5)
    return convert_state_dict_to_diffusers(get_peft_model_state_dict(model))


def _text_adapter(base: Path) -> dict[str, torch.Tensor]:
    """Return the same of the text encoder, whose layers lie below "text_model" in all files of SD1.5's time."""
    state = _adapter(CLIPTextModel.from_pretrained(base / "text_encoder"), TEXT_LORA)
    return {f"text_model.{key}": value for key, value in state.items()}
