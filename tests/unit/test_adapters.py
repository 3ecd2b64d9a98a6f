"""A LoRA and a ControlNet are trained on a data set for a finished base, and load where any others would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.cli import main
from mmmrs_demo.dataset.build import Options, build
from mmmrs_demo.dataset.manifest import Manifest
from mmmrs_demo.dataset.samples import Samples
from mmmrs_demo.engine import Engine
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.request import TextRequest, TranslationRequest
from mmmrs_demo.settings import Settings
from mmmrs_demo.training.loop import Plan, Stage
from tests.tiny import table, write_base
from tests.unit.test_dataset import towns, write_index

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "tiles").mkdir()
    write_index(folder / "tiles", towns(6), side=64)
    build({"index": folder / "tiles"}, folder / "set", Options(size=64, weather=0.5), workers=1)
    return folder / "set"


@pytest.fixture(params=["tiny", "mini"])
def weights(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base of the SD1.5 layout, or of the embedded bundle's, without LoRA and ControlNets."""
    write_base(tmp_path / "weights/base", seed=1, embedded=request.param == "mini")
    (tmp_path / "weights/catalog.toml").write_text(
        table("base", lora="lora", **{key: f"controlnet/{key}" for key in TRANSLATIONS}),
        encoding="utf-8",
    )
    monkeypatch.setenv("MMMRS_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def words(data: Path, out: Path, *more: str) -> list[str]:
    few = ("--steps", "3", "--batch", "4", "--rate", "1e-3")
    return ["--bundle", "base", "--data", str(data), "--out", str(out), *few, *more]


def engine(weights: Path) -> Engine:
    return Engine(Catalog.load(weights), Settings(weights=weights, bundle="base"))


def test_a_lora_is_trained_and_loads_through_the_catalog(data: Path, weights: Path) -> None:
    kept = weights / "latents"
    assert main(["train", "lora", *words(data, weights / "lora", "--rank", "2", "--latents", str(kept))]) == 0
    assert len(list(kept.glob("*.npy"))) == 2
    layers = load_file(weights / "lora/pytorch_lora_weights.safetensors")
    assert all(name.startswith("lora_unet_") for name in layers)
    assert any(bool(layer.any()) for name, layer in layers.items() if "lora_up" in name)
    pictures = [
        engine(weights).run(TextRequest(prompt=Prompt(caption="a city"), steps=2, seed=1, lora_scale=scale)).image
        for scale in (0.0, 1.0)
    ]
    assert np.asarray(pictures[0]).tobytes() != np.asarray(pictures[1]).tobytes()
    card = (weights / "lora/README.md").read_text(encoding="utf-8")
    assert "| rank | 2 |" in card
    assert "| licence | CC-BY-4.0 " in card
    assert re.search(r"at a loss of \d\.\d{4}", card)
    assert list((weights / "lora/losses").glob("events.*"))
    with Image.open(weights / "lora/lora-3.png") as sheet:
        assert sheet.size == (4 * 64, 64)


def test_a_controlnet_is_trained_and_loads_through_the_catalog(data: Path, weights: Path) -> None:
    out = weights / "controlnet/rgb2nir"
    assert main(["train", "controlnet", "rgb2nir", *words(data, out, "--checkpointing", "--parts", "2")]) == 0
    made = engine(weights).run(
        TranslationRequest(translation="rgb2nir", prompt=Prompt(caption="a city"), steps=2, seed=1),
        Image.new("RGB", (64, 64), "green"),
    )
    assert made.image.mode == "L"
    with Image.open(out / "rgb2nir-3.png") as sheet:
        assert sheet.height == 3 * 64
    gate = load_file(out / "diffusion_pytorch_model.safetensors")["controlnet_mid_block.weight"]
    assert gate.any()
    with pytest.raises(UserError, match="no pair for RGB → SAR"):
        Samples(Manifest(data)).pairs(TRANSLATIONS["rgb2sar"])


class KilledError(Exception):
    """Stands for whatever ends a program in the middle of a training."""


@pytest.mark.parametrize("what", [("lora",), ("controlnet", "nir2rgb")])
def test_a_killed_training_ends_with_the_same_weights(
    what: tuple[str, ...], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_base(tmp_path / "weights/base", seed=1)
    (tmp_path / "weights/catalog.toml").write_text(table("base"), encoding="utf-8")
    monkeypatch.setenv("MMMRS_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("mmmrs_demo.training.loop.CHECKPOINT_SECONDS", -1)  # after every step
    learn = Stage._learn
    losses: dict[str, list[float]] = {"whole": [], "cut": []}

    def train(name: str, kill_at: int | None = None) -> dict[str, torch.Tensor]:
        def learned(stage: Stage, loss: object) -> float:
            if stage.step == kill_at:
                raise KilledError
            losses[name].append(learn(stage, loss))  # type: ignore[arg-type]
            return losses[name][-1]

        monkeypatch.setattr(Stage, "_learn", learned)
        main(["train", *what, *words(data, tmp_path / name, "--steps", "4")])
        return {k: v for file in (tmp_path / name).glob("*.safetensors") for k, v in load_file(file).items()}

    whole = train("whole")
    with pytest.raises(KilledError):
        train("cut", kill_at=2)
    resumed = train("cut")
    assert losses["cut"] == losses["whole"]
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("weights", ["tiny"], indirect=True)
def test_two_processes_learn_what_one_learns_from_the_whole_batch(data: Path, weights: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    for name, start in (("one", []), ("two", launch)):
        command = [*start, "-m", "mmmrs_demo", "train", "lora", *words(data, weights / name)]
        subprocess.run([sys.executable, *command], check=True, env=environment, timeout=240)
    one, two = (load_file(weights / name / "pytorch_lora_weights.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(one[name].float(), two[name].float(), atol=2e-4) for name in one)
    cards = [(weights / name / "README.md").read_text(encoding="utf-8") for name in ("one", "two")]
    assert "| processes | 2 |" in cards[1]
    ends = [re.findall(r"loss of (\d\.\d{3})", card) for card in cards]
    assert ends[0] == ends[1] != []


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--steps", "0"), "--steps should be above 0"),
        (("--parts", "0"), "--parts should be above 0"),
        (("--rank", "-1"), "--rank should be above 0"),
        (("--sheets", "-1"), "--sheets should be at least 0"),
        (("--ema", "1"), "--ema should be at least 0 and below 1"),
    ],
)
def test_what_cannot_be_trained_is_said(
    option: tuple[str, str], sentence: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "lora", *words(data, tmp_path / "out", *option)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A batch of 4 cannot be shared equally by 1 processes in 3 parts"):
        Stage("line", tmp_path, {"line": torch.nn.Linear(1, 1)}, Plan(1, 4, 1e-3, parts=3))
