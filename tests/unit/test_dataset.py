"""Tiles, their split and their weather: what training may see, and how it is drawn."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmmrs_demo.dataset import captions
from mmmrs_demo.dataset.scenes import SCENES
from mmmrs_demo.dataset.tiles import read_index
from mmmrs_demo.errors import UserError

pytestmark = pytest.mark.unit

COLUMNS = ("file", "modality", "pair_id", "source", "sensor", "gsd_m", "caption", "licence", "width", "height")
TOWN = "aerial photo of Chico, California"


def write_index(folder: Path, rows: list[tuple[str, str, str, str, str]], side: int = 256) -> Path:
    """Write tiles of noise (pair, source, GSD, caption, licence), each as RGB and NIR, and their index."""
    rng = np.random.default_rng(0)
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for pair, source, gsd, caption, licence in rows:
            (folder / source).mkdir(exist_ok=True)
            for modality in ("rgb", "nir"):
                name = f"{source}/{pair}_{modality}.png"
                Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(folder / name)
                told = {"modality": modality, "pair_id": f"{source}/{pair}", "source": source, "gsd_m": gsd}
                writer.writerow({"file": name, **told, "caption": caption, "licence": licence})
    return folder


def towns(count: int) -> list[tuple[str, str, str, str, str]]:
    return [(f"chico_{2018 + i % 2}_{i // 2}", "naip_urban_trees", "0.6", TOWN, "CC-BY-4.0") for i in range(count)]


def test_years_of_one_place_are_never_split(tmp_path: Path) -> None:
    tiles = read_index(write_index(tmp_path, towns(80), side=16))
    split: dict[str, bool] = {}
    for tile in tiles:
        assert split.setdefault(tile.place, tile.held_out) == tile.held_out
    assert len(split) == 40
    assert 0 < sum(split.values()) < 10


def test_share_alike_tiles_are_left_out(tmp_path: Path) -> None:
    rows = [
        *towns(2),
        ("chico_2018_9", "naip_urban_trees", "0.6", TOWN, "CC-BY-SA-4.0"),
        ("tm_1", "s1s2_triples", "10", "", "Apache-2.0"),
    ]
    assert {tile.pair for tile in read_index(write_index(tmp_path, rows, side=16))} == {
        "naip_urban_trees/chico_2018_0",
        "naip_urban_trees/chico_2019_0",
    }


def test_a_folder_without_an_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no index\.csv"):
        read_index(tmp_path)


def scene(seed: int = 0) -> np.ndarray:
    """A small town: green gardens, grey streets, bright roofs, a dark pond."""
    rng = np.random.default_rng(seed)
    image = np.full((128, 128, 3), (0.25, 0.4, 0.2), np.float32) + rng.normal(0, 0.02, (128, 128, 1)).astype(np.float32)
    image[:, 60:68] = 0.42
    for y in range(8, 120, 16):
        image[y : y + 8, 8:16] = image[y : y + 8, 76:84] = (0.85, 0.75, 0.7)
    image[96:124, 96:124] = (0.06, 0.1, 0.12)
    return np.clip(image, 0, 1)


@pytest.mark.parametrize("weather", SCENES)
def test_weather_keeps_form_and_range_and_repeats(weather: str) -> None:
    clear = scene()
    drawn = SCENES[weather](clear, np.random.default_rng(3))
    assert drawn.shape == clear.shape
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert np.array_equal(drawn, SCENES[weather](clear, np.random.default_rng(3)))
    assert not np.array_equal(drawn, SCENES[weather](clear, np.random.default_rng(4)))


def test_fog_hides_contrast_and_brightens() -> None:
    clear, foggy = scene(), SCENES["fog"](scene(), np.random.default_rng(0))
    assert foggy.std() < 0.6 * clear.std()
    assert foggy.mean() > clear.mean()


def test_night_is_dark_with_lamps_in_town() -> None:
    dark = SCENES["night"](scene(), np.random.default_rng(0))
    assert np.median(dark) < 0.12
    assert dark.max() > 0.5
    lamps = dark.max(-1) > 0.4
    assert dark[lamps][:, 0].mean() > dark[lamps][:, 2].mean()


def test_snow_whitens_gardens_but_not_the_pond() -> None:
    snowy = SCENES["snow"](scene(), np.random.default_rng(0))
    assert snowy[30:60, 20:55].mean() > 0.6
    assert np.ptp(snowy[30:60, 20:55].mean((0, 1))) < 0.1
    assert snowy[104:116, 104:116].mean() < 0.25


def test_snow_leaves_a_road_dark_and_covers_a_grey_roof() -> None:
    clear = np.full((128, 128, 3), (0.25, 0.4, 0.2), np.float32)
    clear[60:68] = clear[20:40, 20:40] = 0.6
    snowy = SCENES["snow"](clear, np.random.default_rng(0))
    assert snowy[62:66, 10:118].mean() < 0.7 * snowy[25:35, 25:35].mean()
    assert snowy[25:35, 25:35].mean() > 0.75


def test_lamps_stand_in_town_and_not_in_a_wood() -> None:
    wood = np.full((128, 128, 3), (0.3, 0.5, 0.3), np.float32)
    wood += np.random.default_rng(0).normal(0, 0.1, (128, 128, 1)).astype(np.float32)
    town = wood[..., :1].repeat(3, 2)
    dark, lit = (SCENES["night"](clear.clip(0, 1), np.random.default_rng(0)) for clear in (wood, town))
    assert (dark.max(-1) > 0.4).mean() < 0.1 * (lit.max(-1) > 0.4).mean()


def test_measured_words_follow_the_picture() -> None:
    rgb = np.full((16, 16, 3), 80, np.uint8)
    assert captions.measured(rgb, np.full((16, 16), 200, np.uint8), town=True) == captions.LEAFY
    assert captions.measured(rgb, np.full((16, 16), 80, np.uint8), town=True) == captions.BUILT
    assert captions.measured(rgb, np.full((16, 16), 10, np.uint8), town=True) == captions.WATERY
    assert captions.measured(rgb, None, town=True) == ()


@pytest.mark.parametrize(
    ("modality", "weather", "told"),
    [
        ("nir", None, {"a near infrared image of a park"}),
        ("sar", None, {"a radar image of a park"}),
        ("rgb", None, {"a satellite image shows a park", "a satellite image of a park", "a park"}),
        ("sar", "fog", {"a radar image of a park in mist"}),
    ],
)
def test_plain_words_say_modality_and_weather(modality: str, weather: str | None, told: set[str]) -> None:
    rng = np.random.default_rng(0)
    assert {captions.plain("a satellite image shows a park", modality, weather, None, rng) for _ in range(30)} == told


def test_plain_words_say_the_scale_every_other_time() -> None:
    rng = np.random.default_rng(0)
    told = [captions.plain("a park", "nir", "snow", "low", rng) for _ in range(200)]
    assert set(told) == {
        "a near infrared image of a park in winter",
        "a near infrared image of a park seen from afar in winter",
    }
    assert 70 < sum("afar" in one for one in told) < 130


def test_a_caption_that_begins_in_its_own_way_is_kept_whole() -> None:
    retold = captions.plain("an aerial view of a park", "nir", None, None, np.random.default_rng(0))
    assert retold == "a near infrared image of an aerial view of a park"
