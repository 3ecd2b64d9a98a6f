"""The training loop resumes exactly, and every stage of the embedded bundle runs and leaves what the engine loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.fft import dctn
from torch.nn import functional

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.dataset.build import Options, build
from mmmrs_demo.engine import Engine
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt
from mmmrs_demo.request import TextRequest
from mmmrs_demo.settings import Settings
from mmmrs_demo.training import autoencoder, mini
from mmmrs_demo.training.loop import PRECISIONS, Plan, Share, Stage
from mmmrs_demo.training.text import build_text_encoder, build_tokenizer
from tests.tiny import table
from tests.unit.test_dataset import towns, write_index

pytestmark = pytest.mark.unit


class KilledError(Exception):
    """Stands for whatever ends a program in the middle of a stage."""


def learn(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, kill_at: int | None = None, precision: str = "no"
) -> tuple[list[float], torch.Tensor]:
    """Fit a filter to noise in 12 steps; return the losses of the steps that ran and the weights at the end.

    The filter lies channels last, as those of the networks do.
    """
    monkeypatch.setattr("mmmrs_demo.training.loop.CHECKPOINT_SECONDS", -1)  # after every step
    torch.manual_seed(0)
    line = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    losses = []

    def loss(step: int, rng: np.random.Generator, _: Share) -> torch.Tensor:
        if step == kill_at:
            raise KilledError
        points = torch.from_numpy(rng.normal(size=(8, 3, 5, 5))).float()
        value = (line(points + 0.1 * torch.randn_like(points)) - points[:, :1, 1:4, 1:4]).square().mean()
        losses.append(float(value.detach()))
        return value

    Stage("line", folder, {"line": line}, Plan(12, 8, 1e-2, warmup=2, ema=0.9), precision=precision).train(loss)
    return losses, line.weight.detach().clone()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_killed_stage_goes_on_as_if_it_had_not_been(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, weights = learn(tmp_path / "whole", monkeypatch, precision=precision)
    with pytest.raises(KilledError):
        learn(tmp_path / "cut", monkeypatch, kill_at=7, precision=precision)
    rest, resumed = learn(tmp_path / "cut", monkeypatch, precision=precision)
    assert rest == whole[7:]
    assert torch.equal(resumed, weights)


def test_a_finished_stage_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, weights = learn(tmp_path, monkeypatch)
    losses, again = learn(tmp_path, monkeypatch)
    assert losses == []
    assert torch.equal(again, weights)


def test_gradients_of_half_floats_are_scaled_and_brought_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, plain = learn(tmp_path / "plain", monkeypatch)
    _, scaled = learn(tmp_path / "scaled", monkeypatch, precision="fp16")
    assert torch.allclose(plain, scaled, atol=1e-4)
    with safe_open(tmp_path / "scaled/line.safetensors", "pt") as file:
        assert json.loads(file.metadata()["scaler"])["scale"] > 1


def test_a_gradient_that_overflows_changes_nothing_but_the_scale(tmp_path: Path) -> None:
    line = torch.nn.Linear(1, 1)
    before = line.weight.detach().clone()
    stage = Stage("line", tmp_path, {"line": line}, Plan(1, 1, 1e-2, warmup=1, ema=0), precision="fp16")
    scale = stage.scaler.get_scale()
    stage.train(lambda *_: line.weight.sum() * float("inf"))
    assert torch.equal(line.weight, before)
    assert stage.scaler.get_scale() < scale


@pytest.mark.parametrize(("sheets", "at"), [(0, []), (1, [12]), (4, [3, 6, 9, 12])])
def test_sheets_are_drawn_as_often_as_was_asked(sheets: int, at: list[int], tmp_path: Path) -> None:
    line, drawn = torch.nn.Linear(1, 1), list[int]()
    Stage("line", tmp_path, {"line": line}, Plan(12, 1, 1e-2)).train(
        lambda *_: line.weight.sum(), drawn.append, sheets=sheets
    )
    assert drawn == at


def test_the_tokenizer_knows_the_papers_words_and_spells_any_other() -> None:
    tokenizer = build_tokenizer()
    assert "snow</w>" in tokenizer.tokenize("snow")
    for prompt in PAPER_PROMPTS:
        assert len(tokenizer(prompt.text).input_ids) < 45
    assert tokenizer.decode(tokenizer("żółw 🐢").input_ids, skip_special_tokens=True).strip() == "żółw 🐢"
    assert build_tokenizer().get_vocab() == tokenizer.get_vocab()
    assert build_text_encoder(tokenizer)(**tokenizer("a city", return_tensors="pt"))[0].isfinite().all()


def test_latents_are_a_blocks_waves_and_colours() -> None:
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    latents = autoencoder.build().encode(images).latents
    size = autoencoder.BLOCK
    luma = images.mean(1).unfold(1, size, size).unfold(2, size, size).numpy()
    waves = dctn(luma, axes=(3, 4), norm="ortho") / size  # a plain block's first value is its mean
    values = [waves[..., down, across] * gain for (down, across), gain in autoencoder.BRIGHTNESS.items()]
    for (green, other), gain in autoencoder.COLOURS.items():
        values.append(functional.avg_pool2d(images[:, other] - images[:, green], size).numpy() * gain)
    told = np.stack(values, 1) + np.array(autoencoder.OFFSETS)[None, :, None, None]
    assert np.allclose(latents.numpy(), told, atol=1e-4)


def test_the_bundle_is_trained_from_nothing_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of every stage on a handful of tiles; SAR stands in as NIR, for the made tiles have none."""
    rows = towns(16)
    data = write_index(tmp_path, rows)
    index = (data / "index.csv").read_text(encoding="utf-8")
    extra = [line.replace("_nir.png,nir", "_nir.png,sar") for line in index.splitlines() if ",nir," in line]
    (data / "index.csv").write_text(index + "\n".join(extra) + "\n", encoding="utf-8")
    build({"index": data}, tmp_path / "set", Options(size=256, weather=0.5), workers=1)
    monkeypatch.setattr("mmmrs_demo.training.mini.CAPTIONS", mini.CAPTIONS[:1])
    monkeypatch.setattr("mmmrs_demo.training.mini.TEXT_LOOK", mini.TEXT_LOOK._replace(side=64, steps=2))
    monkeypatch.setattr("mmmrs_demo.training.mini.TRANSLATION_LOOK", mini.TRANSLATION_LOOK._replace(side=64, steps=2))
    monkeypatch.setattr("mmmrs_demo.training.loop.SHEETS", 1)
    plan = Plan(2, 2, 1e-3, warmup=1)

    weights, work = tmp_path / "weights", tmp_path / "work"
    mini.train(tmp_path / "set", work, weights / "mini", mini.Recipe(plan, plan, plan, plan, plan, plan))
    shown = {"base": 1, "lora": 1}
    shown |= dict.fromkeys((f"{stage}-{key}" for stage in ("base", "controlnets") for key in TRANSLATIONS), 3)
    for name, count in shown.items():
        with Image.open(work / f"{name}-2.png") as sheet:
            assert sheet.height == 64 * count

    (weights / "catalog.toml").write_text(table("mini"), encoding="utf-8")
    assert all(file.stat().st_size < 10_000_000 for file in weights.rglob("*"))
    for translation in TRANSLATIONS:
        assert (weights / "mini/controlnet" / translation / "config.json").is_file()
    for file in weights.rglob("*.safetensors"):
        assert all(tensor.dtype == torch.float16 for tensor in load_file(file).values() if tensor.is_floating_point())
    engine = Engine(Catalog.load(weights), Settings(weights=weights, bundle="mini"))
    request = TextRequest(prompt=Prompt(caption="a city"), steps=2, seed=1, width=64, height=64)
    assert engine.run(request).image.size == (64, 64)
    trained = load_file(weights / "mini/lora/pytorch_lora_weights.safetensors")
    pipeline = engine._loaded["mini"].pipeline
    loaded = [name for name, _ in pipeline.unet.named_parameters() if ".lora_" in name]
    assert len(loaded) == len(trained) > 150
