"""Tiles of a data set as training draws them: any turn, both modalities alike, and each one encoded once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from mmmrs_demo.dataset.build import Options, build
from mmmrs_demo.dataset.manifest import Manifest
from mmmrs_demo.dataset.samples import TURNS, Samples
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.training import autoencoder
from mmmrs_demo.training.latents import Latents
from tests.unit.test_dataset import towns, write_index

pytestmark = pytest.mark.unit

SIDE = 64
OTHERS = {"eureka_2018": "naip_urban_trees", "a": "neon_forest"}
"""A tile that is always held out, and a source of one tile."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs whose NIR is the grey of their RGB, so that one tells whether they lie on the same pixels."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "tiles").mkdir()
    others = [(f"{name}_1", source, "1", "", "CC0") for name, source in OTHERS.items()]
    write_index(folder / "tiles", [*towns(24), *others], side=SIDE)
    for file in sorted((folder / "tiles").rglob("*_rgb.png")):
        with Image.open(file) as image:
            image.convert("L").save(str(file).replace("_rgb", "_nir"))
    build({"index": folder / "tiles"}, folder / "set", Options(size=SIDE, weather=1.0), workers=1)
    return folder / "set"


@pytest.fixture
def samples(data: Path) -> Samples:
    return Samples(Manifest(data))


def test_the_splits_share_no_place(data: Path, samples: Samples) -> None:
    held_out = Samples(Manifest(data), "test")
    assert not {row["place"] for row in samples.rows} & {row["place"] for row in held_out.rows}
    assert len(samples.rows) + len(held_out.rows) == sum(1 for _ in Manifest(data).rows(["split"]))


def test_a_data_set_without_one_split_says_so(tmp_path: Path) -> None:
    (tmp_path / "tiles").mkdir()
    write_index(tmp_path / "tiles", [("eureka_2018_1", "naip_urban_trees", "0.6", "a town", "CC0")], side=SIDE)
    build({"index": tmp_path / "tiles"}, tmp_path / "set", Options(size=SIDE), workers=1)
    with pytest.raises(UserError, match="holds no tile for training"):
        Samples(Manifest(tmp_path / "set"))


@pytest.mark.parametrize("turn", range(TURNS))
def test_a_turn_keeps_modalities_on_the_same_pixels(samples: Samples, turn: int) -> None:
    source, target = samples.pairs(TRANSLATIONS["rgb2nir"])[3]
    rgb, nir = samples.picture(source, turn), samples.picture(target, turn)
    assert np.array_equal(np.asarray(Image.fromarray(rgb).convert("L")), nir[..., 0])


def test_the_eight_turns_differ(samples: Samples) -> None:
    assert len({samples.picture(0, turn).tobytes() for turn in range(TURNS)}) == TURNS


def test_pairs_are_clear_and_of_one_ground(samples: Samples) -> None:
    pairs = samples.pairs(TRANSLATIONS["nir2rgb"])
    assert pairs
    for source, target in pairs:
        near, rgb = samples.rows[source], samples.rows[target]
        assert (near["modality"], rgb["modality"], rgb["weather"]) == ("nir", "rgb", None)
        assert near["pair"] == rgb["pair"]


def test_a_large_source_does_not_drown_a_small_one(samples: Samples) -> None:
    chances = samples.chances(range(len(samples.rows)))
    assert chances.sum() == pytest.approx(1)
    share: Counter[str] = Counter()
    for row, chance in zip(samples.rows, chances, strict=True):
        share[row["source"]] += chance
    tiles = Counter(row["source"] for row in samples.rows)
    assert share["neon_forest"] > 2 * tiles["neon_forest"] / tiles.total()
    assert share["neon_forest"] < share["naip_urban_trees"]


def variational() -> AutoencoderKL:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(**blocks, block_out_channels=(8, 8), norm_num_groups=4).eval()


@pytest.mark.parametrize("build_vae", [variational, autoencoder.build])
def test_a_tile_is_encoded_once_and_comes_back_the_same(
    build_vae: object, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = build_vae()  # type: ignore[operator]
    numbers, turns = np.array([0, 3, 3]), np.array([0, 1, 7])
    fresh, kept = Latents(vae, samples), Latents(vae, samples, tmp_path)
    noise = torch.randn(3, *fresh.shape, generator=torch.Generator().manual_seed(1))
    expected = fresh.draw(numbers, turns, noise)
    assert torch.allclose(kept.draw(numbers, turns, noise), expected, atol=2e-3, rtol=2e-3)

    again = Latents(vae, samples, tmp_path)
    monkeypatch.setattr(again, "_encode", lambda _: pytest.fail("encoded a second time"))
    assert torch.allclose(again.draw(numbers, turns, noise), expected, atol=2e-3, rtol=2e-3)


def test_other_weights_find_nothing_of_the_first(samples: Samples, tmp_path: Path) -> None:
    vae = variational()
    first = Latents(vae, samples, tmp_path).draw(np.array([0]), np.array([0]), torch.zeros(()))
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.mul_(1.5)
    second = Latents(vae, samples, tmp_path).draw(np.array([0]), np.array([0]), torch.zeros(()))
    assert not torch.allclose(first, second, atol=1e-2)
