"""The two networks that an evaluation brings along: a U-Net that learns what it can see, and LPIPS by the book."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional
from torchvision.models import alexnet

from mmmrs_demo.dataset.manifest import Manifest, Record, write_shard
from mmmrs_demo.dataset.samples import Samples
from mmmrs_demo.errors import UserError
from mmmrs_demo.evaluation import unet
from mmmrs_demo.evaluation.perceptual import Perceptual
from mmmrs_demo.evaluation.translation import Pair
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.training import loop

pytestmark = pytest.mark.unit

SIDE = 64


# --- U-Net ------------------------------------------------------------------------------------------------------------


def beside(rgb: np.ndarray) -> np.ndarray:
    """What no function of a single pixel can say: whether the surroundings are bright."""
    mean = rgb.reshape(SIDE // 8, 8, SIDE // 8, 8, 3).mean(axis=(1, 3, 4))
    return np.kron(np.where(mean > 127.5, 200, 50), np.ones((8, 8))).astype(np.uint8)


def blocks(seed: int) -> np.ndarray:
    """Noise in blocks of 8 × 8 that are dark or bright as a whole, but not pixel by pixel."""
    rng = np.random.default_rng(seed)
    levels = np.kron(rng.choice([98, 157], (SIDE // 8, SIDE // 8)), np.ones((8, 8)))
    return (levels[..., None] + rng.normal(0, 60, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    groups = []
    for seed in range(6):
        rgb = blocks(seed)
        whence = ("made", None, f"made/{seed}", "CC0", "train", "none")
        pictures = {"rgb": rgb, "nir": beside(rgb)}
        groups.append([Record(each, Prompt(), kind, str(seed), 10.0, *whence) for kind, each in pictures.items()])
    write_shard(tmp_path / "made.parquet", groups)
    samples = Samples(Manifest(tmp_path))
    translation = TRANSLATIONS["rgb2nir"]
    return [Pair(samples, translation, *numbers) for numbers in samples.pairs(translation)]


def backwards(pairs: list[Pair]) -> list[Pair]:
    return [Pair(pair.samples, TRANSLATIONS["nir2rgb"], pair.target, pair.source) for pair in pairs]


def test_it_has_the_form_of_pix2pix() -> None:
    net = unet.UNet(3, 3, 256, 64)
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(54.4e6, rel=0.01)
    assert [len(net.down), len(net.up)] == [8, 8]
    with torch.no_grad():
        for side in (64, 192, 512):
            made = unet.UNet(3, 1, side, 8)(torch.zeros(1, 3, side, side))
            assert made.shape == (1, 1, side, side)
            assert made.abs().max() <= 1


def test_it_learns_what_is_beside_a_pixel(pairs: list[Pair], tmp_path: Path) -> None:
    rival = unet.train(pairs, SIDE, 150, 8, tmp_path)
    unseen = blocks(99)
    made = rival.guess(unseen)
    assert made.shape == (SIDE, SIDE)
    assert (made.min() >= 0) & (made.max() <= 255)
    assert np.abs(made - beside(unseen)).mean() < 15
    assert rival.told["tiles"] == 6
    assert rival.told["parameters"] > 100_000


def test_it_makes_colours_of_a_grey_input(pairs: list[Pair], tmp_path: Path) -> None:
    grey, _ = backwards(pairs)[0].pictures(SIDE)
    made = unet.train(backwards(pairs), SIDE, 1, 8, tmp_path).guess(grey)
    assert made.shape == (SIDE, SIDE, 3)


class KilledError(Exception):
    """Stands for whatever ends a program in the middle of a training."""


def test_a_killed_training_ends_with_the_same_guess(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = loop.Stage._learn
    whole = unet.train(pairs, SIDE, 4, 8, tmp_path / "whole").guess(blocks(99))

    def dies(stage: loop.Stage, loss: loop.Loss) -> float:
        if stage.step == 2:
            raise KilledError
        return learn(stage, loss)

    with monkeypatch.context() as patch:
        patch.setattr("mmmrs_demo.training.loop.CHECKPOINT_SECONDS", -1)  # after every step
        patch.setattr(loop.Stage, "_learn", dies)
        with pytest.raises(KilledError):
            unet.train(pairs, SIDE, 4, 8, tmp_path / "cut")
    steps: list[int] = []

    def noted(stage: loop.Stage, loss: loop.Loss) -> float:
        steps.append(stage.step)
        return learn(stage, loss)

    monkeypatch.setattr(loop.Stage, "_learn", noted)
    resumed = unet.train(pairs, SIDE, 4, 8, tmp_path / "cut").guess(blocks(99))
    assert steps == [2, 3]
    assert np.array_equal(resumed, whole)


def test_a_checkpoint_is_of_its_direction_tiles_and_settings(pairs: list[Pair], tmp_path: Path) -> None:
    unet.train(pairs, SIDE, 1, 8, tmp_path)
    unet.train([*reversed(pairs)], SIDE, 1, 8, tmp_path)
    assert len([*tmp_path.glob("unet-rgb2nir-*.safetensors")]) == 1, "the order of tiles makes no difference"
    unet.train(pairs, SIDE, 2, 8, tmp_path)
    unet.train(pairs, SIDE, 1, 16, tmp_path)
    unet.train(pairs[:5], SIDE, 1, 8, tmp_path)
    assert len([*tmp_path.glob("unet-rgb2nir-*.safetensors")]) == 4
    unet.train(backwards(pairs), SIDE, 1, 8, tmp_path)
    assert len([*tmp_path.glob("unet-nir2rgb-*.safetensors")]) == 1


# --- LPIPS ------------------------------------------------------------------------------------------------------------

LAYERS = {1: 64, 4: 192, 7: 384, 9: 256, 11: 256}
"""Number of the activations that are compared, in torchvision's AlexNet, to their channels."""


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Random weights with the names and shapes of the published ones."""
    torch.manual_seed(0)
    features = {f"features.{name}": tensor for name, tensor in alexnet(weights=None).features.state_dict().items()}
    heads = {f"lin{i}.model.1.weight": torch.rand(1, count, 1, 1) for i, count in enumerate(LAYERS.values())}
    return features | heads


@pytest.fixture
def file(weights: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    save_file(weights, tmp_path / "lpips.safetensors")
    return tmp_path / "lpips.safetensors"


def by_hand(weights: dict[str, torch.Tensor], made: np.ndarray, real: np.ndarray) -> float:
    features = alexnet(weights=None).features
    features.load_state_dict({n.removeprefix("features."): t for n, t in weights.items() if n.startswith("features.")})
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    seen = [((torch.from_numpy(p / 255).float() - mean) / deviation).permute(2, 0, 1)[None] for p in (made, real)]
    total, heads = 0.0, iter(range(len(LAYERS)))
    with torch.no_grad():
        for number, layer in enumerate(features):
            seen = [layer(each).clone() for each in seen]
            if number in LAYERS:
                a, b = (functional.normalize(each, dim=1) for each in seen)
                head = weights[f"lin{next(heads)}.model.1.weight"]
                total += float(((a - b).square() * head.reshape(1, -1, 1, 1)).sum(dim=1).mean())
    return total


def test_lpips_is_what_its_paper_says(file: Path, weights: dict[str, torch.Tensor]) -> None:
    rng = np.random.default_rng(0)
    made, real = rng.uniform(0, 255, (SIDE, SIDE, 3)), rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    lpips = Perceptual(file)
    assert lpips.distance(made, real) == pytest.approx(by_hand(weights, made, real), rel=0.01)
    assert lpips.distance(real, real) == 0
    grey = np.stack([real[..., 0]] * 3, axis=-1)
    assert lpips.distance(made[..., 0], real[..., 0]) == pytest.approx(
        lpips.distance(np.stack([made[..., 0]] * 3, axis=-1), grey)
    )
    assert lpips.name.startswith("lpips.safetensors sha256:")


def test_a_file_without_these_weights_is_refused(file: Path, weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    sentence = r" holds no LPIPS weights as safetensors: convert alexnet-owt-7be5be79\.pth and alex\.pth, as "
    torch.save(weights, tmp_path / "pickle.pth")
    save_file({n: t for n, t in weights.items() if n.startswith("lin")}, tmp_path / "heads.safetensors")
    save_file(weights | {"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}, tmp_path / "shapes.safetensors")
    for name in ("pickle.pth", "heads.safetensors", "shapes.safetensors"):
        with pytest.raises(UserError, match=f"“{name}”{sentence}"):
            Perceptual(tmp_path / name)
    with pytest.raises(UserError, match=r"There is no file “none\.safetensors”"):
        Perceptual(tmp_path / "none.safetensors")
    save_file(weights | {"classifier.1.weight": torch.zeros(1)}, file)
    Perceptual(file)
