"""Figures with known values, baselines that must find what they can, and a report that repeats what was measured."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from mmmrs_demo import metrics
from mmmrs_demo.catalog import Bundle, Catalog
from mmmrs_demo.cli import main
from mmmrs_demo.dataset.manifest import Manifest, Record, write_shard
from mmmrs_demo.dataset.samples import Samples
from mmmrs_demo.errors import UserError
from mmmrs_demo.evaluation import autoencoder, cli, report, report_autoencoder, report_translation
from mmmrs_demo.evaluation.baseline import Baseline
from mmmrs_demo.evaluation.report_translation import as_section, markdown
from mmmrs_demo.evaluation.translation import (
    FIGURES,
    METHODS,
    Outcome,
    Pair,
    Rival,
    Sampling,
    Trial,
    measure,
    plan,
    simple_rivals,
    spread_over_sources,
)
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.request import Rendering, TextRequest, TranslationRequest
from mmmrs_demo.training import loop
from tests.tiny import write_base

pytestmark = pytest.mark.unit

SIDE = 64
CATALOG = """
[tiny]
title = "Tiny"
summary = "Trained on nothing."
licence = "Apache-2.0"
card = "tiny.md"
size = 64
base = { path = "tiny" }
defaults = { steps = 2, guidance = 1.5, scheduler = "ddim" }

[tiny.controlnets]
"""
SIMPLE = ("sample", "mean_of_samples", "mean_colour", "regression")
"""What is measured where no U-Net is asked for."""


# --- metrics ----------------------------------------------------------------------------------------------------------


def noise(seed: int = 0, *, shape: tuple[int, ...] = (SIDE, SIDE), deviation: float = 20) -> np.ndarray:
    return np.random.default_rng(seed).normal(128, deviation, shape)


def speckle(seed: int, looks: float, side: int = 128) -> np.ndarray:
    return np.random.default_rng(seed).gamma(looks, 60 / looks, (side, side))


def test_psnr_of_a_constant_offset() -> None:
    real = noise().clip(0, 200).astype(np.uint8)
    assert metrics.psnr(real + 10, real) == pytest.approx(20 * math.log10(255 / 10))
    assert metrics.psnr(real, real + 10) == pytest.approx(28.131, abs=1e-3)
    assert metrics.psnr(real, real) == metrics.MOST_DB


def test_ssim_of_equal_pictures_of_noise_and_of_a_brighter_one() -> None:
    real = noise(shape=(SIDE, SIDE, 3), deviation=60)
    assert metrics.ssim(real, real) == pytest.approx(1)
    assert abs(metrics.ssim(noise(1, shape=real.shape, deviation=60), real)) < 0.05
    dark, bright = np.full((16, 16), 100), np.full((16, 16), 150)
    c1 = (0.01 * 255) ** 2
    assert metrics.ssim(dark, bright) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1))


def test_ssim_of_a_single_window_by_hand() -> None:
    a, b = noise(1, shape=(11, 11)), noise(2, shape=(11, 11)) / 2
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    variances = (weights * (a - mean_a) ** 2).sum() + (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    assert metrics.ssim(a, b) == pytest.approx(expected)


def test_correlation_is_pearsons_and_none_with_a_plain_colour() -> None:
    a, b = noise(1), noise(1) + noise(2)
    assert metrics.correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert metrics.correlation(a, -2 * a + 7) == pytest.approx(-1)
    assert metrics.correlation(a, np.full_like(a, 3)) == 0


def test_spread_is_the_deviation_over_samples() -> None:
    samples = np.zeros((3, 2, 2), np.uint8)
    samples[:, 0, 0] = 10, 20, 30
    assert metrics.spread(samples) == pytest.approx(10 / 4)


def test_histogram_distance_does_not_ask_where_a_level_is() -> None:
    real = noise(shape=(SIDE, SIDE, 3))
    shuffled = np.random.default_rng(1).permuted(real.reshape(-1, 3), axis=0).reshape(real.shape)
    assert metrics.histogram_distance(shuffled, real) == pytest.approx(0)
    assert metrics.histogram_distance(shuffled + 7, real) == pytest.approx(7)
    swapped = real[..., ::-1] + [0, 0, 50]
    assert metrics.histogram_distance(swapped, real) > 15


def test_power_spectrum_of_white_noise_and_of_a_wave() -> None:
    white = metrics.power_spectrum(noise(shape=(128, 128), deviation=5))
    assert white.shape == (64,)
    assert white[4:].mean() == pytest.approx(25, rel=0.1)
    assert white[40:].mean() == pytest.approx(white[8:20].mean(), rel=0.3)
    wave = 100 + np.tile(50 * np.sin(2 * np.pi * 9 * np.arange(SIDE) / SIDE), (SIDE, 1))
    assert metrics.power_spectrum(wave).argmax() == 9 - 1
    slope = np.tile(np.linspace(0, 255, SIDE), (SIDE, 1))
    assert metrics.power_spectrum(slope)[16:].max() < 0.1, "its borders do not leak"


def test_spectrum_distance_tells_white_noise_from_blurred() -> None:
    real, other, blurred = noise(1), noise(2), gaussian_filter(noise(2), 2)
    assert metrics.spectrum_distance(real, real) == 0
    assert metrics.spectrum_distance(other, real) < 1.5
    assert metrics.spectrum_distance(blurred, real) > 10
    assert metrics.spectrum_distance(real / 2, real) == pytest.approx(20 * math.log10(2), rel=0.01)
    assert math.isfinite(metrics.spectrum_distance(np.full((SIDE, SIDE), 128), real))


def test_ndvi_by_hand() -> None:
    nir, red = np.array([[150, 50, 0]], np.uint8), np.array([[50, 150, 0]], np.uint8)
    assert metrics.ndvi(nir, red).tolist() == [[0.5, -0.5, 0]]
    rgb = np.stack([red, 0 * red, 0 * red], axis=-1)
    assert metrics.ndvi_error(red, nir, rgb) == pytest.approx((0.5 + 0.5 + 0) / 3)


@pytest.mark.parametrize("known", [1, 4, 16])
def test_looks_of_speckle(known: float) -> None:
    flat = metrics.homogeneous_windows(noise(shape=(128, 128, 3)))
    assert len(flat) == 16**2 // 4
    assert metrics.looks(speckle(3, known), flat) == pytest.approx(known, rel=0.15)
    assert metrics.looks_ratio(speckle(3, known), speckle(4, 4), noise(shape=(128, 128))) == pytest.approx(
        known / 4, rel=0.25
    )


def test_looks_of_pictures_without_speckle() -> None:
    flat = metrics.homogeneous_windows(noise())
    assert metrics.looks(np.full((SIDE, SIDE), 87.654321), flat) == math.inf
    assert math.isnan(metrics.looks(np.zeros((SIDE, SIDE)), flat))
    assert math.isnan(metrics.looks_ratio(noise(), np.zeros((SIDE, SIDE)), noise()))


def test_homogeneous_windows_are_where_the_other_picture_is_flat() -> None:
    guide = noise()
    guide[16:48, 32:] *= 0.01  # rows 2 to 5, columns 4 to 7 of the windows: a quarter of all
    assert set(metrics.homogeneous_windows(guide)) == {8 * y + x for y in range(2, 6) for x in range(4, 8)}


def test_log_intensity_ratios() -> None:
    real = speckle(1, 4)
    assert metrics.log_mean_ratio(3 * (real + 1) - 1, real) == pytest.approx(3)
    assert metrics.log_deviation_ratio(3 * (real + 1) - 1, real) == pytest.approx(1)
    assert metrics.log_deviation_ratio((real + 1) ** 2 - 1, real) == pytest.approx(2)
    assert math.isnan(metrics.log_deviation_ratio(real, np.full_like(real, 5)))


def test_an_outline_forgets_what_is_fine() -> None:
    broad = 100 + 80 * np.sin(np.arange(SIDE) / 10)[:, None] * np.ones(SIDE)
    assert metrics.outline(broad).shape == (1024,)
    speckled = broad + noise() - 128
    assert metrics.correlation(speckled, broad) < 0.95
    assert metrics.correlation(metrics.outline(speckled), metrics.outline(broad)) > 0.99


# --- baselines --------------------------------------------------------------------------------------------------------


def quadratic(rgb: np.ndarray) -> np.ndarray:
    r, g, b = np.moveaxis(rgb / 255, -1, 0)
    return 20 + 60 * r + 30 * g * g + 40 * r * b - 10 * b


def test_regression_finds_a_quadratic_function_from_a_stream() -> None:
    sources = [np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype(np.uint8) for seed in range(5)]
    baseline = Baseline.fit((source, quadratic(source)) for source in sources[:4])
    assert np.allclose(baseline.predict(sources[4]), quadratic(sources[4]))
    plain = baseline.plain(sources[4][:8, :9])
    assert plain.shape == (8, 9)
    assert np.allclose(plain, np.mean([quadratic(source) for source in sources[:4]]))


def test_regression_to_colours_stays_within_levels() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = np.stack([grey * 2.0, 255 - grey, np.full((16, 16), 9)], axis=-1)
    baseline = Baseline.fit([(grey, colours)])
    assert np.allclose(baseline.predict(grey), colours.clip(0, 255))
    assert baseline.plain(grey).shape == (16, 16, 3)
    assert np.allclose(baseline.plain(grey), [255, 127.5, 9])


def test_regression_takes_equal_bands() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    source = np.stack([grey] * 3, axis=-1)
    assert np.allclose(Baseline.fit([(source, grey)]).predict(source), grey)


# --- tiles ------------------------------------------------------------------------------------------------------------


def scene(seed: int, side: int = SIDE) -> dict[str, np.ndarray]:
    """One piece of ground: RGB, NIR (quadratic in it) and SAR (speckled)."""
    rng = np.random.default_rng(seed)
    ground = gaussian_filter(rng.normal(0, 1, (side, side, 3)), (6, 6, 0))
    rgb = np.clip(128 + 45 * ground / ground.std() + rng.normal(0, 3, ground.shape), 0, 255).astype(np.uint8)
    sar = rgb.mean(axis=2) * rng.gamma(4, 1 / 4, rgb.shape[:2])
    pictures = {"rgb": rgb, "nir": quadratic(rgb).round(), "sar": sar.clip(0, 255)}
    return {kind: picture.astype(np.uint8) for kind, picture in pictures.items()}


def write_set(
    folder: Path,
    places: dict[str, str],
    *,
    kinds: tuple[str, ...] = ("rgb", "nir", "sar"),
    side: int = SIDE,
    cuts: int = 1,
) -> Path:
    """Write a data set: places (SOURCE/NAME) with their split, each with so many cuts in all modalities."""
    groups = []
    for number, (place, split) in enumerate(places.items()):
        for cut in range(cuts):
            pictures = scene(1000 * cut + number, side)
            pair = f"{place.replace('/', '-')}-{cut}"
            whence = (place.split("/")[0], None, place, "CC0", split, "none")
            prompt = Prompt(caption=f"a satellite image shows {place}", satellite="Sentinel-2", gsd="low")
            groups.append([Record(pictures[kind], prompt, kind, pair, 10.0, *whence) for kind in kinds])
    folder.mkdir(parents=True, exist_ok=True)
    write_shard(folder / "made.parquet", groups)
    return folder


def places(*, held_out: int, trained_on: int, source: str = "made") -> dict[str, str]:
    return {f"{source}/{i}": "test" for i in range(held_out)} | {
        f"{source}/{held_out + i}": "train" for i in range(trained_on)
    }


def trial_of(folder: Path, key: str, count: int = 9) -> Trial:
    manifest = Manifest(folder)
    return plan(Samples(manifest), Samples(manifest, "test"), TRANSLATIONS[key], count)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", places(held_out=4, trained_on=6))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    weights = tmp_path / "weights"
    weights.mkdir()
    parts = "".join(f'{key} = {{ path = "tiny/{key}" }}\n' for key in TRANSLATIONS)
    (weights / "catalog.toml").write_text(CATALOG + parts, encoding="utf-8")
    for key in TRANSLATIONS:
        (weights / "tiny" / key).mkdir(parents=True)
        (weights / "tiny" / key / "config.json").touch()
    return Catalog.load(weights)


@pytest.fixture
def bundle(catalog: Catalog) -> Bundle:
    return catalog.bundle("tiny")


class Oracle:
    """Knows the target of every held-out tile, and answers with what `answer` makes of all, a number and a seed."""

    def __init__(self, bundle: Bundle, data: Path, answer: Callable[[list[np.ndarray], int, int], Any]) -> None:
        self.bundle = bundle
        self.test = Samples(Manifest(data), "test")
        self.answer = answer
        self.requests: list[TranslationRequest] = []

    def run(self, request: TextRequest | TranslationRequest, image: Image.Image | None = None) -> Rendering:
        assert isinstance(request, TranslationRequest)
        assert image is not None
        request = self.bundle.complete(request)
        self.requests.append(request)
        translation = TRANSLATIONS[request.translation]
        assert image.mode == translation.source.mode
        assert image.size == (SIDE, SIDE)
        pairs = [Pair(self.test, translation, *numbers).pictures(SIDE) for numbers in self.test.pairs(translation)]
        sources, targets = map(list, zip(*pairs, strict=True))
        index = next(i for i, source in enumerate(sources) if np.array_equal(source, np.asarray(image)))
        made = np.clip(self.answer(targets, index, request.seed or 0), 0, 255).astype(np.uint8)
        return Rendering(
            image=Image.fromarray(made),
            request=request,
            modality=translation.target,
            seconds=0.5,
            model={"bundle": "tiny", "controlnet": "tiny sha256:0"},
            versions={"fake": "1"},
            created="2026-11-20T12:00:00+00:00",
        )


def truth(targets: list[np.ndarray], index: int, _: int) -> np.ndarray:
    return targets[index]


def another(targets: list[np.ndarray], index: int, _: int) -> np.ndarray:
    return targets[(index + 1) % len(targets)]


def rough(targets: list[np.ndarray], index: int, seed: int) -> np.ndarray:
    return targets[index] + np.random.default_rng(seed).normal(0, 20, targets[index].shape)


def evaluated(bundle: Bundle, data: Path, key: str, answer: Callable[..., Any], samples: int = 2) -> Outcome:
    trial = trial_of(data, key)
    engine = Oracle(bundle, data, answer)
    return measure(engine, trial, bundle, Sampling(samples), simple_rivals(trial, SIDE), lambda _: None)


def test_tiles_are_held_out_and_have_both_modalities(tmp_path: Path, data: Path) -> None:
    trial = trial_of(data, "rgb2sar", 3)
    assert len(trial.measured) == 3
    assert {pair.told["split"] for pair in trial.measured} == {"test"}
    assert [pair.told["split"] for pair in trial.training] == ["train"] * 6
    assert {pair.told["modality"] for pair in trial.measured} == {"rgb"}
    optical = write_set(tmp_path / "optical", places(held_out=2, trained_on=4), kinds=("rgb", "nir"))
    assert len(trial_of(optical, "rgb2nir", 3).measured) == 2
    with pytest.raises(UserError, match="No held-out tile has both RGB and SAR, so RGB → SAR cannot be measured: "):
        trial_of(optical, "rgb2sar", 3)
    with pytest.raises(UserError, match="holds no tile for training"):
        trial_of(write_set(tmp_path / "seen", places(held_out=2, trained_on=0)), "nir2rgb")
    grey = places(held_out=0, trained_on=1)
    write_shard(
        optical / "more.parquet",
        [[Record(scene(0)["nir"], Prompt(), "nir", "x", 1.0, "x", None, "x", "CC0", "test", "none")]],
    )
    assert len(trial_of(write_set(optical, grey | places(held_out=2, trained_on=4)), "nir2rgb").measured) == 2


def test_all_sources_get_their_share(tmp_path: Path) -> None:
    many, few = (places(held_out=50, trained_on=1, source="many"), places(held_out=3, trained_on=1, source="few"))
    pairs = trial_of(write_set(tmp_path / "set", many | few, kinds=("rgb", "nir"), side=8), "rgb2nir", 99).measured
    chosen = spread_over_sources(pairs, 10)
    assert [pair.told["source"] for pair in chosen].count("few") == 3
    assert len({pair.told["pair"] for pair in chosen}) == 10
    assert {pair.told["source"] for pair in chosen[:2]} == {"few", "many"}
    assert spread_over_sources(reversed(pairs), 10) == chosen
    assert spread_over_sources(pairs, 4) == chosen[:4]


def test_no_place_comes_twice_while_there_is_another(tmp_path: Path) -> None:
    one, other = (places(held_out=count, trained_on=1, source=name) for name, count in (("one", 1), ("other", 4)))
    folder = write_set(tmp_path / "set", one | other, kinds=("rgb", "nir"), side=8, cuts=3)
    chosen = trial_of(folder, "rgb2nir", 99).measured
    assert len(chosen) == 15
    assert len({pair.told["place"] for pair in chosen[:5]}) == 5
    assert len({pair.told["place"] for pair in chosen[5:10]}) == 5


def test_a_tile_is_brought_to_the_size_of_the_bundle(tmp_path: Path, data: Path) -> None:
    pair = trial_of(data, "rgb2sar").training[0]
    number = pair.told["place"].split("/")[1]
    rgb, sar = (scene(int(number))[kind] for kind in ("rgb", "sar"))
    assert all(np.array_equal(a, b) for a, b in zip(pair.pictures(SIDE), (rgb, sar), strict=True))
    turned = pair.pictures(SIDE, 1)
    assert all(np.array_equal(a, np.rot90(b)) for a, b in zip(turned, (rgb, sar), strict=True))
    large = trial_of(write_set(tmp_path / "large", places(held_out=1, trained_on=1), side=128), "nir2rgb").measured[0]
    assert [picture.shape for picture in large.pictures(SIDE)] == [(SIDE, SIDE), (SIDE, SIDE, 3)]
    assert abs(large.pictures(SIDE)[1].mean() - scene(0, 128)["rgb"].mean()) < 1


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", TRANSLATIONS)
def test_the_true_target_gets_perfect_figures(bundle: Bundle, data: Path, key: str) -> None:
    outcome = evaluated(bundle, data, key, truth)
    target = TRANSLATIONS[key].target
    assert list(outcome.figures) == list(SIMPLE)
    perfect = {"psnr_db": metrics.MOST_DB, "ndvi_error": 0, "histogram_distance": 0, "spectrum_distance_db": 0}
    for method in ("sample", "mean_of_samples"):
        figures = dict(outcome.figures[method])
        assert set(figures) == {n for n, figure in FIGURES.items() if figure.target in (None, target)} - {"lpips"}
        assert figures.pop("other_correlation") < 0.5
        assert figures == pytest.approx({name: perfect.get(name, 1) for name in figures})
    assert outcome.spread == 0
    assert (outcome.translation, len(outcome.tiles), outcome.seconds) == (key, 4, 0.5)
    assert outcome.rivals == {"mean_colour": {"tiles": 6}, "regression": {"tiles": 6}}
    assert (outcome.settings["steps"], outcome.settings["guidance"]) == (2, 1.5)
    assert outcome.model["controlnet"] == "tiny sha256:0"


def test_figures_that_only_one_modality_has(bundle: Bundle, data: Path) -> None:
    radar = evaluated(bundle, data, "rgb2sar", lambda targets, i, _: gaussian_filter(targets[i], 1)).figures["sample"]
    assert radar["looks_ratio"] > 2
    assert radar["log_deviation_ratio"] < 0.9
    assert "ndvi_error" not in radar
    infrared = evaluated(bundle, data, "rgb2nir", lambda targets, i, _: targets[i] // 2).figures["sample"]
    assert infrared["ndvi_error"] > 0.1
    assert "looks_ratio" not in infrared


def test_another_tiles_target_is_caught(bundle: Bundle, data: Path) -> None:
    figures = evaluated(bundle, data, "sar2rgb", another).figures["sample"]
    assert figures["recognised"] == 0
    assert figures["own_correlation"] < figures["other_correlation"]
    assert figures["histogram_distance"] < 25, "it looks like a real picture all the same"


def test_the_mean_of_samples_is_nearer_and_looks_less_real(bundle: Bundle, data: Path) -> None:
    def speckled_anew(targets: list[np.ndarray], index: int, seed: int) -> np.ndarray:
        return gaussian_filter(targets[index], 2.0) * np.random.default_rng(seed).gamma(4, 1 / 4, (SIDE, SIDE))

    outcome = evaluated(bundle, data, "rgb2sar", speckled_anew, samples=4)
    single, mean = outcome.figures["sample"], outcome.figures["mean_of_samples"]
    assert mean["psnr_db"] > single["psnr_db"] + 1
    assert mean["spectrum_distance_db"] > single["spectrum_distance_db"] + 1
    assert mean["looks_ratio"] > 2 > single["looks_ratio"]
    assert outcome.spread > 20


def test_baselines_are_fitted_on_training_tiles_and_measured_on_the_others(bundle: Bundle, data: Path) -> None:
    outcome = evaluated(bundle, data, "rgb2nir", another)
    figures = outcome.figures
    assert figures["regression"]["psnr_db"] > 50, "NIR is quadratic in RGB here, but for its rounding"
    assert figures["regression"]["recognised"] == 1
    assert figures["mean_colour"]["psnr_db"] < 25
    plain = ("correlation", "own_correlation", "other_correlation", "recognised")
    assert [figures["mean_colour"][name] for name in plain] == [0] * 4
    trial = trial_of(data, "rgb2nir")
    guess = np.full((SIDE, SIDE), np.mean([pair.pictures(SIDE)[1] for pair in trial.training]))
    assert outcome.tiles[0].pair == trial.measured[0].told["pair"]
    expected = metrics.psnr(guess, trial.measured[0].pictures(SIDE)[1])
    assert outcome.tiles[0].figures["mean_colour"]["psnr_db"] == pytest.approx(expected)


def test_every_sample_has_its_seed_and_the_benchmarks_prompt(bundle: Bundle, data: Path) -> None:
    trial = trial_of(data, "nir2rgb", 2)
    engine = Oracle(bundle, data, rough)
    done: list[str] = []
    outcome = measure(engine, trial, bundle, Sampling(3, seed=10, guidance=2.5), {}, done.append)
    assert [request.seed for request in engine.requests] == list(range(10, 16))
    assert [tile.seeds for tile in outcome.tiles] == [(10, 11, 12), (13, 14, 15)]
    assert {request.guidance for request in engine.requests} == {2.5} == {outcome.settings["guidance"]}
    assert [request.prompt.text for request in engine.requests[::3]] == [
        f"{pair.told['caption']}, GF1" for pair in trial.measured
    ]
    assert done == [f"NIR → RGB, {pair.told['pair']}" for pair in trial.measured]
    assert 15 < outcome.spread < 25


def test_ratios_are_summed_up_by_their_median_and_one_tile_alone_has_no_others(bundle: Bundle, data: Path) -> None:
    outcome = evaluated(bundle, data, "rgb2sar", rough)
    ratios = [tile.figures["sample"]["looks_ratio"] for tile in outcome.tiles]
    assert outcome.figures["sample"]["looks_ratio"] == pytest.approx(np.median(ratios))
    assert outcome.figures["mean_colour"]["looks_ratio"] == math.inf
    alone = measure(Oracle(bundle, data, truth), trial_of(data, "rgb2sar", 1), bundle, Sampling(2), {}, lambda _: None)
    assert math.isnan(alone.figures["sample"]["recognised"])
    assert math.isnan(alone.figures["sample"]["other_correlation"])


def test_lpips_is_measured_where_it_can_be(bundle: Bundle, data: Path) -> None:
    def distance(made: np.ndarray, real: np.ndarray) -> float:
        return float(np.abs(made - real.astype(float)).mean())

    trial = trial_of(data, "rgb2nir")
    rivals = {"unet": Rival(lambda source: np.zeros(source.shape[:2]), {"tiles": 1})}
    outcome = measure(Oracle(bundle, data, truth), trial, bundle, Sampling(2), rivals, lambda _: None, distance)
    assert outcome.figures["sample"]["lpips"] == 0
    expected = np.mean([pair.pictures(SIDE)[1].mean() for pair in trial.measured])
    assert outcome.figures["unet"]["lpips"] == pytest.approx(expected)


# --- the report and the command line ----------------------------------------------------------------------------------


ABOUT = {"command": "x", "bundle": "tiny", "title": "Tiny", "trained_on": "Nothing.", "size": SIDE}
HOW = {"samples": 2, "lpips": None}


class Blurring:
    """Encodes nothing, and decodes the picture with its colours halved and half of its fine structure gone."""

    device, dtype = torch.device("cpu"), torch.float32

    def encode(self, images: torch.Tensor) -> Any:
        return SimpleNamespace(latents=images)

    def decode(self, latents: torch.Tensor) -> Any:
        grey = latents.mean(1, keepdim=True)
        smooth = functional.avg_pool2d(grey, 9, 1, 4, count_include_pad=False)
        return SimpleNamespace(sample=(smooth + (grey - smooth) / 2) + (latents - grey) / 2)


def test_what_an_autoencoder_loses_is_measured_by_modality_and_source(tmp_path: Path) -> None:
    towns, fields = places(held_out=2, trained_on=1, source="town"), places(held_out=1, trained_on=1, source="field")
    samples = Samples(Manifest(write_set(tmp_path / "set", fields | towns)), "test")
    outcome = autoencoder.measure(Blurring(), samples, SIDE)
    assert {m: {s: told["tiles"] for s, told in of.items()} for m, of in outcome.figures.items()} == {
        modality: {"all": 3, "field": 1, "town": 2} for modality in ("nir", "rgb", "sar")
    }
    rgb, sar = outcome.figures["rgb"]["all"], outcome.figures["sar"]["all"]
    assert rgb["colour_ratio"] == pytest.approx(0.5, abs=0.02)
    assert 0.5 < sar["contrast_ratio"] < 0.65
    assert math.isnan(sar["colour_ratio"])
    real, made = outcome.sheet[0]
    assert outcome.figures["rgb"]["field"]["psnr_db"] == pytest.approx(metrics.psnr(made, real), abs=0.01)
    page = report_autoencoder.markdown({"figures": report.plain(outcome.figures)})
    assert f"| SAR, all | 3 | {sar['psnr_db']:.1f} |" in page
    with pytest.raises(UserError, match="have 64 px and the bundle's pictures 128"):
        autoencoder.measure(Blurring(), samples, 128)


def test_the_command_measures_the_autoencoder_of_a_bundle(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "random"
    write_base(weights / "tiny", seed=0)
    (weights / "catalog.toml").write_text(CATALOG, encoding="utf-8")
    monkeypatch.setenv("MMMRS_WEIGHTS", str(weights))
    words = ["evaluate", "autoencoder", "--bundle", "tiny", "--data", str(data)]
    assert main([*words, "--out", str(tmp_path / "report")]) == 0
    told = report.read(tmp_path / "report")["autoencoder"]
    assert told["figures"]["rgb"]["all"]["tiles"] == 4
    assert Image.open(tmp_path / "report" / report_autoencoder.SHEET).size == (2 * SIDE + 4, 3 * SIDE + 8)


def test_the_sheet_shows_the_first_six_tiles(bundle: Bundle, tmp_path: Path) -> None:
    data = write_set(tmp_path / "set", places(held_out=7, trained_on=2))
    trial = trial_of(data, "rgb2nir")
    rivals = simple_rivals(trial, SIDE) | {"unet": Rival(lambda source: np.full(source.shape[:2], 77.4), {"tiles": 2})}
    engine = Oracle(bundle, data, lambda targets, i, seed: targets[i] + 20 * (seed % 2))
    outcome = measure(engine, trial, bundle, Sampling(2), rivals, lambda _: None)
    assert len(outcome.tiles) == 7
    names = ["input", "real target", "one sample", "mean of samples", "U-Net", "regression", "spread of samples"]
    assert list(outcome.sheet[0]) == names
    report_translation.write(tmp_path, ABOUT | HOW | {"seed": 0, "guidance": None}, [outcome])
    page = np.asarray(Image.open(tmp_path / "rgb2nir.png"))
    assert page.shape == (6 * SIDE + 5 * 4, 7 * SIDE + 6 * 4, 3)
    shown = [page[:SIDE, column * (SIDE + 4) :][:, :SIDE] for column in range(7)]
    rgb, nir = trial.measured[0].pictures(SIDE)
    assert np.array_equal(shown[0], rgb)
    assert np.array_equal(shown[1][..., 0], nir)
    assert np.array_equal(shown[2], shown[1])
    assert np.array_equal(shown[3][..., 0], nir + 10)
    assert np.all(shown[4] == 77)
    assert np.allclose(shown[5][..., 0], nir, atol=1)
    assert np.all(shown[6] == round(20 / math.sqrt(2) * 255 / 64))


def test_what_is_not_defined_is_said(bundle: Bundle, data: Path) -> None:
    section = HOW | as_section([evaluated(bundle, data, "rgb2sar", truth)])
    assert section["directions"]["rgb2sar"]["figures"]["mean_colour"]["looks_ratio"] is None
    json.dumps(section, allow_nan=False)
    line = next(line for line in markdown(section).splitlines() if line.startswith("| equivalent looks"))
    assert line.split(" | ")[4] == "n/a"


def test_published_figures_are_not_to_be_ranked(bundle: Bundle, data: Path) -> None:
    text = markdown(HOW | as_section([evaluated(bundle, data, "rgb2sar", truth)]))
    assert "must not be ranked" in text
    assert "MMM-RS itself published no figure for any translation" in text
    assert "| SAR → RGB | QXS-SAROPT | SD2.1 ControlNet | PSNR 13.42, SSIM .297, FID 50.4, LPIPS .604 |" in text


def test_lpips_is_left_out_where_it_was_not_measured(bundle: Bundle, data: Path) -> None:
    section = as_section([evaluated(bundle, data, "rgb2sar", truth)])
    assert "\n| LPIPS" not in markdown(HOW | section)
    assert "LPIPS was not measured: it needs weights (`--lpips FILE`)." in markdown(HOW | section)
    for figures in section["directions"]["rgb2sar"]["figures"].values():
        figures["lpips"] = 0.25
    text = markdown(HOW | {"lpips": "own.safetensors sha256:0"} | section)
    assert "\n| LPIPS | low | 0.250 | 0.250 | 0.250 | 0.250 |\n" in text
    assert "AlexNet (own.safetensors sha256:0)" in text


def test_a_section_replaces_the_one_of_its_kind_and_leaves_the_others(
    bundle: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmmrs_demo.evaluation.report_text.markdown", lambda section: f"Words: {section['score']}\n")
    report.update(tmp_path, "text", ABOUT, {"score": 0.123456, "bad": math.inf})
    section = HOW | as_section([evaluated(bundle, data, "rgb2sar", truth)])
    report.update(tmp_path, "translation", ABOUT | {"command": "first"}, section)
    report.update(tmp_path, "translation", ABOUT | {"command": "second"}, section)
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(told) == ["translation", "text"]
    assert (told["text"]["score"], told["text"]["bad"], told["text"]["bundle"]) == (0.123456, None, "tiny")
    assert told["translation"]["command"] == "second"
    assert told["translation"]["directions"] == section["directions"]
    assert {"mmmrs-demo", "numpy", "scipy"} <= set(told["translation"]["versions"])
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert page.index("## Translations") < page.index("Words: 0.123456")
    assert "    second\n" in page
    assert "    first\n" not in page


@pytest.mark.parametrize(
    "found", ['{"translation": {', '{"bundle": "mini"}', '{"other": {}}', '{"text": 3}', "[]", "\x00"]
)
def test_a_foreign_report_is_left_as_it_is(found: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(found, encoding="utf-8")
    with pytest.raises(UserError, match=r"report\.json is no report that can be added to: move it away, or"):
        report.update(tmp_path, "translation", ABOUT, HOW | {"directions": {}})
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == found
    assert not (tmp_path / "report.md").exists()


class Shell:
    """Runs the command on a data set, with an oracle for an engine."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.data = write_set(folder / "set", places(held_out=3, trained_on=4))
        self.out = folder / "new" / "report"
        self.catalog = catalog
        self.engines: list[Oracle] = []
        self.answer: Callable[..., Any] = rough

    def make_engine(self) -> Oracle:
        self.engines.append(Oracle(self.catalog.bundle("tiny"), self.data, self.answer))
        return self.engines[-1]

    def __call__(self, *words: str, data: Path | None = None, out: Path | None = None) -> None:
        parser = argparse.ArgumentParser()
        cli.add_arguments(parser)
        places = ["--data", str(data or self.data), "--out", str(out or self.out)]
        args = parser.parse_args(["translation", *places, "--unet-steps", "0", *words])
        cli.run(args, self.catalog, self.catalog.bundle("tiny"), self.make_engine)

    def told(self) -> dict[str, Any]:
        return json.loads((self.out / "report.json").read_text(encoding="utf-8"))["translation"]


@pytest.fixture
def shell(tmp_path: Path, catalog: Catalog) -> Shell:
    return Shell(tmp_path, catalog)


def test_the_command_writes_a_report(
    shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmmrs_demo.evaluation.clock._SECONDS", 0)  # a line for every tile
    shell("--direction", "rgb2sar", "nir2rgb", "rgb2sar", "--tiles", "2", "--samples", "2", "--seed", "5")
    out, err = capsys.readouterr()
    assert out == f"{shell.out / 'report.md'}\n"
    assert [line.split(", ")[0] for line in err.splitlines()] == [f"{i} of 4 tiles" for i in range(1, 5)]
    assert "0.0 min left: NIR → RGB, made-" in err.splitlines()[-1]
    assert {file.name for file in shell.out.iterdir()} == {"report.json", "report.md", "rgb2sar.png", "nir2rgb.png"}
    with Image.open(shell.out / "nir2rgb.png") as image:
        assert "synthetic" in image.text["Description"]  # type: ignore[attr-defined]
    told = shell.told()
    assert told["command"].startswith("mmmrs-demo evaluate translation --data ")
    same = "--tiles 2 --samples 2 --seed 5 --unet-steps 0 --unet-width 16"
    assert told["command"].endswith(f"--bundle tiny --direction rgb2sar nir2rgb {same}")
    assert (told["bundle"], told["size"], told["samples"], told["lpips"]) == ("tiny", SIDE, 2, None)
    assert [tile["seeds"] for tile in told["directions"]["rgb2sar"]["tiles"]] == [[5, 6], [7, 8]]
    assert told["directions"]["rgb2sar"]["model"]["controlnet"] == "tiny sha256:0"


def test_the_table_holds_the_figures_of_the_json(shell: Shell) -> None:
    shell("--tiles", "2", "--samples", "2", "--unet-steps", "1", "--unet-width", "8")
    text = (shell.out / "report.md").read_text(encoding="utf-8")
    directions = shell.told()["directions"]
    assert list(directions) == list(TRANSLATIONS)
    for key, outcome in directions.items():
        section = text.split(f"### {TRANSLATIONS[key].title}\n")[1].split("\n### ")[0]
        rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
        assert rows[0] == ["figure", "best", "one sample", "mean of 2", "mean colour", "regression", "U-Net"]
        told = {label: [None if cell == "n/a" else float(cell) for cell in cells] for label, _, *cells in rows[2:]}
        assert told == {
            FIGURES[name].label: [outcome["figures"][method][name] for method in METHODS]
            for name in outcome["figures"]["sample"]
        }
        assert f"differ by {outcome['spread']} levels" in section
        learnt = outcome["rivals"]["unet"]
        assert (learnt["tiles"], learnt["width"], learnt["steps"]) == (4, 8, 1)
        assert f"parameters {learnt['parameters']:,}, width 8, steps 1, batch 8" in section
        assert f"regression, spread of samples]({key}.png)" in section


def test_a_second_run_trains_no_unet_again(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--direction", "rgb2nir", "--samples", "2", "--unet-steps", "2", "--unet-width", "8")
    shell(*words)
    learn = loop.Stage._learn
    learnt: list[str] = []

    def noted(stage: loop.Stage, loss: loop.Loss) -> float:
        learnt.append(stage.name)
        return learn(stage, loss)

    monkeypatch.setattr(loop.Stage, "_learn", noted)
    before = shell.told()["directions"]["rgb2nir"]["figures"]["unet"]
    shell(*words)
    assert learnt == []
    assert shell.told()["directions"]["rgb2nir"]["figures"]["unet"] == before
    shell(*words, data=write_set(shell.data, places(held_out=3, trained_on=5)))
    assert len(learnt) == 2, "other tiles, another U-Net"


def test_ctrl_c_leaves_what_was_done_and_a_rerun_measures_again(shell: Shell) -> None:
    def stop_in_the_second_direction(targets: list[np.ndarray], index: int, seed: int) -> np.ndarray:
        if targets[0].ndim == 3:
            raise KeyboardInterrupt
        return truth(targets, index, seed)

    words = ("--direction", "rgb2nir", "nir2rgb", "--samples", "2")
    shell.answer = stop_in_the_second_direction
    with pytest.raises(KeyboardInterrupt):
        shell(*words)
    assert {file.name for file in shell.out.iterdir()} == {"report.json", "report.md", "rgb2nir.png"}
    shell.answer = rough
    shell(*words)
    directions = shell.told()["directions"]
    assert list(directions) == ["rgb2nir", "nir2rgb"]
    assert directions["rgb2nir"]["figures"]["sample"]["psnr_db"] < 40


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--direction", "rgb2ir"),
            "There is no translation “rgb2ir”; choose from rgb2sar, rgb2nir, sar2rgb, nir2rgb.",
        ),
        (("--tiles", "0"), "--tiles should be at least 1, not 0."),
        (("--samples", "1"), "--samples should be at least 2, not 1."),
        (("--seed", "-1"), "--seed should be at least 0, not -1."),
        (("--unet-steps", "-1"), "--unet-steps should be at least 0, not -1."),
        (("--unet-width", "12"), "--unet-width should be a multiple of 8, not 12."),
        (("--guidance", "31"), "Guidance should be at most 30, not 31.0."),
        (("--lpips", "none.safetensors"), "There is no file “none.safetensors”: check its name and folder."),
    ],
)
def test_refusals_before_anything_is_loaded(shell: Shell, words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        shell(*words)
    assert str(refusal.value) == sentence
    assert not shell.engines
    assert not shell.out.exists()


def test_places_that_cannot_be_used(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no data set: make one with `mmmrs-demo dataset build`"):
        shell(data=tmp_path / "weights")
    with pytest.raises(UserError, match=r"“made\.parquet” cannot be made a folder: choose another with --out"):
        shell(out=shell.data / "made.parquet")
    shell.out.mkdir(parents=True)
    (shell.out / "report.json").write_text("{}}", encoding="utf-8")
    with pytest.raises(UserError, match="is no report that can be added to"):
        shell()
    (tmp_path / "weights" / "tiny" / "sar2rgb" / "config.json").unlink()
    with pytest.raises(UserError, match="There is no SAR → RGB ControlNet for tiny yet"):
        shell()
    assert not shell.engines


def test_the_program_refuses_before_it_loads_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "translation", "--data", str(tmp_path), "--out", str(tmp_path / "report")]
    assert main(words) == 2
    assert "holds no data set" in capsys.readouterr().err
    assert main([*words, "--samples", "1"]) == 2
    assert "--samples should be at least 2" in capsys.readouterr().err
