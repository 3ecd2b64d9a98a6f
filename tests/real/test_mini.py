"""The embedded weights do their job: the prompt's words and the input picture are seen in what comes out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from transformers import CLIPTextModel, CLIPTokenizer

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.dataset.tiles import Tile, read_index
from mmmrs_demo.engine import Engine
from mmmrs_demo.metrics import MOST_DB, psnr
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import PAPER_PROMPTS, WEATHERS, Prompt
from mmmrs_demo.request import TextRequest, TranslationRequest
from mmmrs_demo.settings import Settings

pytestmark = pytest.mark.real

DATA = Path(os.environ.get("MMMRS_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
EXAMPLES = Path(__file__).parents[2] / "examples"
SEEDS = (1, 2, 3)
needs_tiles = pytest.mark.skipif(
    not (DATA / "index.csv").is_file(), reason=f"no real tiles at {DATA}; set MMMRS_TEST_DATA"
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    settings = Settings()
    return Engine(Catalog.load(settings.weights), settings)


@pytest.fixture(scope="module")
def tiles() -> list[Tile]:
    return [tile for tile in read_index(DATA) if tile.held_out]


@pytest.fixture(scope="module")
def draw(engine: Engine) -> Callable[..., np.ndarray]:
    """Return pictures of one prompt for all seeds, as floats in 0..1 of shape (seeds, height, width, 3)."""
    made: dict[tuple[str | None, float], np.ndarray] = {}

    def pictures(weather: str | None = None, lora_scale: float = 1.0) -> np.ndarray:
        if (weather, lora_scale) not in made:
            prompt = Prompt(
                gsd="high",
                weather=weather,
                caption="a satellite image shows a residential area",
                satellite="Google Earth",
            )
            requests = [TextRequest(prompt=prompt, seed=seed, lora_scale=lora_scale) for seed in SEEDS]
            made[weather, lora_scale] = np.stack([np.asarray(engine.run(r).image, float) / 255 for r in requests])
        return made[weather, lora_scale]

    return pictures


def saturation(pictures: np.ndarray) -> float:
    return float(np.ptp(pictures, axis=-1).mean())


def test_a_clear_picture_has_content(draw: Callable[..., np.ndarray]) -> None:
    clear = draw()
    assert clear.shape == (len(SEEDS), 256, 256, 3)
    assert (clear.std(axis=(1, 2, 3)) > 0.08).all()


def test_snow_is_brighter_than_clear_and_pale(draw: Callable[..., np.ndarray]) -> None:
    clear, snow = draw(), draw("snow")
    assert snow.mean() > clear.mean() + 0.08
    assert saturation(snow) < 0.1
    assert snow[..., 2].mean() > snow[..., 0].mean()  # white with a touch of blue


def test_night_is_dark_and_fog_is_pale(draw: Callable[..., np.ndarray]) -> None:
    clear, night, fog = draw(), draw("night"), draw("fog")
    assert night.mean() < 0.6 * clear.mean()
    assert fog.std() < 0.75 * clear.std()
    assert fog.mean() > clear.mean()


def test_without_the_lora_the_weather_word_says_little(draw: Callable[..., np.ndarray]) -> None:
    with_lora = abs(draw("night").mean() - draw().mean())
    without = abs(draw("night", 0.0).mean() - draw(None, 0.0).mean())
    assert without < 0.4 * with_lora


def test_any_two_weather_words_are_told_apart() -> None:
    folder = Settings().weights / "mini"
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
    prompts = [Prompt(gsd="low", weather=weather, caption="a forest", satellite="GF2").text for weather in WEATHERS]
    with torch.no_grad():
        last = encoder(tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids)[0][:, -1]
    assert torch.pdist(last).min() > 0.1 * last.norm(dim=1).mean()


@pytest.mark.parametrize(("speed", "least"), [("faster", 28.0), ("draft", 20.0)])
def test_a_quicker_picture_is_nearly_the_same(engine: Engine, speed: str, least: float) -> None:
    example = Image.open(EXAMPLES / "rgb_village.png")
    translation = TranslationRequest(translation="rgb2nir", seed=5)
    for request, image in ((TextRequest(prompt=PAPER_PROMPTS[1], seed=5), None), (translation, example)):
        full, quick = (
            np.asarray(engine.run(request.model_copy(update={"speed": key}), image).image) for key in ("full", speed)
        )
        assert least < psnr(quick, full) < MOST_DB


def test_sentinel_1_is_grey_and_that_is_the_loras_doing(engine: Engine) -> None:
    prompt = Prompt(gsd="low", caption="a satellite image shows a river in farmland", satellite="Sentinel-1")
    requests = [TextRequest(prompt=prompt, seed=seed, lora_scale=scale) for scale in (1.0, 0.0) for seed in SEEDS]
    colour = [saturation(np.asarray(engine.run(request).image, float) / 255) for request in requests]
    assert max(colour[: len(SEEDS)]) < 0.01
    assert np.mean(colour[len(SEEDS) :]) > 0.02


def grey(image: Image.Image) -> np.ndarray:
    """The picture's broad structure: luma at a quarter of the size."""
    return np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(3)).resize((64, 64)), float)


def agreement(a: Image.Image, b: Image.Image) -> float:
    return float(np.corrcoef(grey(a).ravel(), grey(b).ravel())[0, 1])


STRUCTURE = {"rgb2sar": 0.3, "rgb2nir": 0.6, "sar2rgb": 0.15, "nir2rgb": 0.15}
"""How much of the real target's broad structure a rendering must share; what is far less would not show the input."""


@needs_tiles
@pytest.mark.parametrize("key", TRANSLATIONS)
def test_a_translation_shows_its_own_tile_and_not_another(engine: Engine, tiles: list[Tile], key: str) -> None:
    translation = TRANSLATIONS[key]
    kinds = (translation.source.value, translation.target.value)
    source = "sih1733_s1s2" if "sar" in kinds else "naip_urban_trees"
    pairs = [tile for tile in tiles if tile.source == source and {*kinds} <= {*tile.files}]
    pairs = pairs[:: len(pairs) // 8][:8]
    assert len(pairs) == 8
    outputs, references = [], []
    for tile in pairs:
        request = TranslationRequest(
            translation=key, prompt=Prompt(caption=translation.caption, satellite=translation.satellite), seed=5
        )
        rendering = engine.run(request, Image.open(tile.files[kinds[0]]))
        assert rendering.image.mode == translation.target.mode
        outputs.append(rendering.image)
        references.append(Image.open(tile.files[kinds[1]]))
    matrix = np.array([[agreement(output, reference) for reference in references] for output in outputs])
    own, other = np.diag(matrix).mean(), matrix[~np.eye(8, dtype=bool)].mean()
    assert own > STRUCTURE[key], matrix
    assert own > other + 0.1, matrix
