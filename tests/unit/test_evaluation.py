"""Figures with known values, baselines that must find what they can, and a report that repeats what was measured."""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from mmmrs_demo.catalog import Bundle, Catalog
from mmmrs_demo.cli import main
from mmmrs_demo.dataset.tiles import Tile, read_index
from mmmrs_demo.errors import UserError
from mmmrs_demo.evaluation import cli, metrics
from mmmrs_demo.evaluation.baseline import Baseline
from mmmrs_demo.evaluation.report import as_json, as_markdown, sheet
from mmmrs_demo.evaluation.translation import (
    FIGURES,
    METHODS,
    Outcome,
    Sampling,
    measure,
    picture,
    plan,
    spread_over_sources,
)
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.request import Rendering, TextRequest, TranslationRequest

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
HELD_OUT, TRAINED_ON = "s12_2017", "s12_2020"
"""Beginnings of names in a source whose split their year decides."""


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
    assert baseline.plain((8, 9)).shape == (8, 9)
    assert np.allclose(baseline.plain((8, 9)), np.mean([quadratic(source) for source in sources[:4]]))


def test_regression_to_colours_stays_within_levels() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = np.stack([grey * 2.0, 255 - grey, np.full((16, 16), 9)], axis=-1)
    baseline = Baseline.fit([(grey, colours)])
    assert np.allclose(baseline.predict(grey), colours.clip(0, 255))
    assert np.allclose(baseline.plain((4, 4, 3)), [255, 127.5, 9])


def test_regression_takes_equal_bands() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    source = np.stack([grey] * 3, axis=-1)
    assert np.allclose(Baseline.fit([(source, grey)]).predict(source), grey)


# --- tiles ------------------------------------------------------------------------------------------------------------


def write_tiles(folder: Path, names: dict[str, str], *, kinds: tuple[str, ...] = ("rgb", "nir", "sar")) -> Path:
    """Write scenes, one for each name with its source, each as RGB, as NIR (quadratic in it) and as SAR (speckled)."""
    rows = []
    for seed, (name, source) in enumerate(names.items()):
        rng = np.random.default_rng(seed)
        scene = gaussian_filter(rng.normal(0, 1, (SIDE, SIDE + 16, 3)), (6, 6, 0))
        rgb = np.clip(128 + 45 * scene / scene.std() + rng.normal(0, 3, scene.shape), 0, 255).astype(np.uint8)
        sar = rgb.mean(axis=2) * rng.gamma(4, 1 / 4, rgb.shape[:2])
        pictures = {"rgb": rgb, "nir": quadratic(rgb).round(), "sar": sar.clip(0, 255)}
        (folder / source).mkdir(exist_ok=True)
        for kind in kinds:
            file = f"{source}/{name}_{kind}.png"
            Image.fromarray(pictures[kind].astype(np.uint8)).save(folder / file)
            told = {"modality": kind, "pair_id": f"{source}/{name}", "source": source, "gsd_m": "10"}
            rows.append({"file": file, **told, "caption": "", "licence": "CC0"})
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as index:
        writer = csv.DictWriter(index, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder


def names(*, held_out: int, trained_on: int) -> dict[str, str]:
    beginnings = [f"{HELD_OUT}{i:04}_x" for i in range(held_out)] + [f"{TRAINED_ON}{i:04}_x" for i in range(trained_on)]
    return dict.fromkeys(beginnings, "s1s2_triples")


@pytest.fixture
def tiles(tmp_path: Path) -> list[Tile]:
    return read_index(write_tiles(tmp_path, names(held_out=4, trained_on=6)))


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
    """Knows the target of every tile, and answers with what `answer` makes of all targets, a number and a seed."""

    def __init__(self, bundle: Bundle, tiles: list[Tile], answer: Callable[[list[np.ndarray], int, int], Any]) -> None:
        self.bundle = bundle
        self.tiles = tiles
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
        sources = [picture(tile, translation.source, SIDE) for tile in self.tiles]
        targets = [picture(tile, translation.target, SIDE) for tile in self.tiles]
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


def evaluated(bundle: Bundle, tiles: list[Tile], key: str, answer: Callable[..., Any], samples: int = 2) -> Outcome:
    trial = plan(tiles, TRANSLATIONS[key], 9)
    engine = Oracle(bundle, list(trial.measured), answer)
    return measure(engine, trial, bundle, Sampling(samples), lambda _: None)


def test_tiles_are_held_out_and_have_both_modalities(tmp_path: Path, tiles: list[Tile]) -> None:
    trial = plan(tiles, TRANSLATIONS["rgb2sar"], 3)
    assert [tile.held_out for tile in trial.measured] == [True] * 3
    assert {tile.held_out for tile in trial.fitted} == {False}
    assert {tile.pair for tile in trial.fitted} == {tile.pair for tile in tiles if not tile.held_out}
    optical = read_index(write_tiles(tmp_path, names(held_out=2, trained_on=4), kinds=("rgb", "nir")))
    assert len(plan(optical, TRANSLATIONS["rgb2nir"], 3).measured) == 2
    with pytest.raises(UserError, match="No held-out tile has both RGB and SAR, so RGB → SAR cannot be measured: "):
        plan(optical, TRANSLATIONS["rgb2sar"], 3)
    seen = [tile for tile in optical if tile.held_out]
    with pytest.raises(UserError, match="No training tile has both NIR and RGB, so NIR → RGB cannot be compared "):
        plan(seen, TRANSLATIONS["nir2rgb"], 3)


def test_all_sources_get_their_share(tiles: list[Tile]) -> None:
    many = [replace(tiles[0], pair=f"many/{i}", source="many") for i in range(50)]
    few = [replace(tiles[0], pair=f"few/{i}", source="few") for i in range(3)]
    chosen = spread_over_sources([*many, *few], 10)
    assert [tile.source for tile in chosen].count("few") == 3
    assert len({tile.pair for tile in chosen}) == 10
    assert {tile.source for tile in chosen[:2]} == {"few", "many"}
    assert spread_over_sources([*reversed(few), *many], 10) == chosen
    assert spread_over_sources([*many, *few], 4) == chosen[:4]


def test_a_tile_is_cut_to_its_centre(tiles: list[Tile]) -> None:
    with Image.open(tiles[0].files["rgb"]) as image:
        whole = np.asarray(image)
    assert whole.shape == (SIDE, SIDE + 16, 3)
    assert np.array_equal(picture(tiles[0], Modality.RGB, SIDE), whole[:, 8:-8])
    assert picture(tiles[0], Modality.SAR, 128).shape == (128, 128)


def test_a_tile_that_cannot_be_read_is_named(tiles: list[Tile]) -> None:
    tiles[0].files["rgb"].write_text("no picture")
    with pytest.raises(UserError, match=r"_rgb\.png” is no picture"):
        picture(tiles[0], Modality.RGB, SIDE)
    tiles[0].files["rgb"].unlink()
    with pytest.raises(UserError, match="There is no file"):
        picture(tiles[0], Modality.RGB, SIDE)


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", TRANSLATIONS)
def test_the_true_target_gets_perfect_figures(bundle: Bundle, tiles: list[Tile], key: str) -> None:
    outcome = evaluated(bundle, tiles, key, truth)
    target = TRANSLATIONS[key].target
    assert list(outcome.figures) == list(METHODS)
    perfect = {"psnr_db": metrics.MOST_DB, "ndvi_error": 0, "histogram_distance": 0, "spectrum_distance_db": 0}
    for method in ("sample", "mean_of_samples"):
        figures = dict(outcome.figures[method])
        assert set(figures) == {name for name, figure in FIGURES.items() if figure.target in (None, target)}
        assert figures.pop("other_correlation") < 0.5
        assert figures == pytest.approx({name: perfect.get(name, 1) for name in figures})
    assert outcome.spread == 0
    assert (outcome.translation, len(outcome.tiles), outcome.fitted, outcome.seconds) == (key, 4, 6, 0.5)
    assert (outcome.settings["steps"], outcome.settings["guidance"]) == (2, 1.5)
    assert outcome.model["controlnet"] == "tiny sha256:0"


def test_figures_that_only_one_modality_has(bundle: Bundle, tiles: list[Tile]) -> None:
    radar = evaluated(bundle, tiles, "rgb2sar", lambda targets, i, _: gaussian_filter(targets[i], 1)).figures["sample"]
    assert radar["looks_ratio"] > 2
    assert radar["log_deviation_ratio"] < 0.9
    assert "ndvi_error" not in radar
    infrared = evaluated(bundle, tiles, "rgb2nir", lambda targets, i, _: targets[i] // 2).figures["sample"]
    assert infrared["ndvi_error"] > 0.1
    assert "looks_ratio" not in infrared


def test_another_tiles_target_is_caught(bundle: Bundle, tiles: list[Tile]) -> None:
    figures = evaluated(bundle, tiles, "sar2rgb", another).figures["sample"]
    assert figures["recognised"] == 0
    assert figures["own_correlation"] < figures["other_correlation"]
    assert figures["histogram_distance"] < 20, "it looks like a real picture all the same"


def test_the_mean_of_samples_is_nearer_and_looks_less_real(bundle: Bundle, tiles: list[Tile]) -> None:
    def speckled_anew(targets: list[np.ndarray], index: int, seed: int) -> np.ndarray:
        return gaussian_filter(targets[index], 2.0) * np.random.default_rng(seed).gamma(4, 1 / 4, (SIDE, SIDE))

    outcome = evaluated(bundle, tiles, "rgb2sar", speckled_anew, samples=4)
    single, mean = outcome.figures["sample"], outcome.figures["mean_of_samples"]
    assert mean["psnr_db"] > single["psnr_db"] + 1
    assert mean["spectrum_distance_db"] > single["spectrum_distance_db"] + 1
    assert mean["looks_ratio"] > 2 > single["looks_ratio"]
    assert outcome.spread > 20


def test_baselines_are_fitted_on_training_tiles_and_measured_on_the_others(bundle: Bundle, tiles: list[Tile]) -> None:
    outcome = evaluated(bundle, tiles, "rgb2nir", another)
    figures = outcome.figures
    assert figures["regression"]["psnr_db"] > 50, "NIR is quadratic in RGB here, but for its rounding"
    assert figures["regression"]["recognised"] == 1
    assert figures["mean_colour"]["psnr_db"] < 25
    plain = ("correlation", "own_correlation", "other_correlation", "recognised")
    assert [figures["mean_colour"][name] for name in plain] == [0] * 4
    level = np.mean([picture(tile, Modality.NIR, SIDE) for tile in tiles if not tile.held_out])
    first = next(tile for tile in tiles if tile.pair == outcome.tiles[0].pair)
    guess = np.full((SIDE, SIDE), level)
    expected = metrics.psnr(guess, picture(first, Modality.NIR, SIDE))
    assert outcome.tiles[0].figures["mean_colour"]["psnr_db"] == pytest.approx(expected)


def test_every_sample_has_its_seed_and_the_benchmarks_prompt(bundle: Bundle, tiles: list[Tile]) -> None:
    trial = plan(tiles, TRANSLATIONS["nir2rgb"], 2)
    engine = Oracle(bundle, list(trial.measured), rough)
    done: list[str] = []
    outcome = measure(engine, trial, bundle, Sampling(3, seed=10, guidance=2.5), done.append)
    assert [request.seed for request in engine.requests] == list(range(10, 16))
    assert [tile.seeds for tile in outcome.tiles] == [(10, 11, 12), (13, 14, 15)]
    assert {request.guidance for request in engine.requests} == {2.5} == {outcome.settings["guidance"]}
    assert {request.prompt.text for request in engine.requests} == {"a satellite image shows the countryside, GF1"}
    assert done == [f"NIR → RGB, {tile.pair}" for tile in trial.measured]
    assert 15 < outcome.spread < 25


def test_ratios_are_summed_up_by_their_median_and_one_tile_alone_has_no_others(
    bundle: Bundle, tiles: list[Tile]
) -> None:
    outcome = evaluated(bundle, tiles, "rgb2sar", rough)
    ratios = [tile.figures["sample"]["looks_ratio"] for tile in outcome.tiles]
    assert outcome.figures["sample"]["looks_ratio"] == pytest.approx(np.median(ratios))
    assert outcome.figures["mean_colour"]["looks_ratio"] == math.inf
    trial = plan(tiles, TRANSLATIONS["rgb2sar"], 1)
    alone = measure(Oracle(bundle, tiles, truth), trial, bundle, Sampling(2), lambda _: None)
    assert math.isnan(alone.figures["sample"]["recognised"])
    assert math.isnan(alone.figures["sample"]["other_correlation"])


# --- the report and the command line ----------------------------------------------------------------------------------


ABOUT = {"command": "x", "bundle": "tiny", "title": "Tiny", "trained_on": "Nothing.", "size": SIDE, "samples": 2}


def test_the_sheet_shows_the_first_six_tiles(bundle: Bundle, tmp_path: Path) -> None:
    tiles = read_index(write_tiles(tmp_path, names(held_out=7, trained_on=2)))
    outcome = evaluated(bundle, tiles, "rgb2nir", truth)
    assert len(outcome.tiles) == 7
    page = np.asarray(sheet(outcome))
    assert page.shape == (6 * SIDE + 5 * 4, 5 * SIDE + 4 * 4, 3)
    first = next(tile for tile in tiles if tile.pair == outcome.tiles[0].pair)
    assert np.array_equal(page[:SIDE, :SIDE], picture(first, Modality.RGB, SIDE))
    real = picture(first, Modality.NIR, SIDE)
    for column in (1, 2, 3):
        assert np.array_equal(page[:SIDE, column * (SIDE + 4) :][:, :SIDE, 0], real)
    assert np.allclose(page[:SIDE, -SIDE:, 0], real, atol=1)


def test_what_is_not_defined_is_said(bundle: Bundle, tiles: list[Tile]) -> None:
    report = as_json(ABOUT, [evaluated(bundle, tiles, "rgb2sar", truth)])
    assert report["directions"]["rgb2sar"]["figures"]["mean_colour"]["looks_ratio"] is None
    json.dumps(report, allow_nan=False)
    line = next(line for line in as_markdown(report).splitlines() if line.startswith("| equivalent looks"))
    assert line.split(" | ")[4] == "n/a"


def test_published_figures_are_not_to_be_ranked(bundle: Bundle, tiles: list[Tile]) -> None:
    text = as_markdown(as_json(ABOUT, [evaluated(bundle, tiles, "rgb2sar", truth)]))
    assert "must not be ranked" in text
    assert "MMM-RS itself published no figure for any translation" in text
    assert "| SAR → RGB | QXS-SAROPT | SD2.1 ControlNet | PSNR 13.42, SSIM .297, FID 50.4, LPIPS .604 |" in text


class Shell:
    """Runs the command on tiles in a folder, with an oracle for an engine."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.data = write_tiles(folder, names(held_out=3, trained_on=4))
        self.out = folder / "new" / "report"
        self.catalog = catalog
        self.engines: list[Oracle] = []
        self.answer: Callable[..., Any] = rough

    def make_engine(self) -> Oracle:
        tiles = [tile for tile in read_index(self.data) if tile.held_out]
        self.engines.append(Oracle(self.catalog.bundle("tiny"), tiles, self.answer))
        return self.engines[-1]

    def __call__(self, *words: str, data: Path | None = None, out: Path | None = None) -> None:
        parser = argparse.ArgumentParser()
        cli.add_arguments(parser)
        places = ["--data", str(data or self.data), "--out", str(out or self.out)]
        args = parser.parse_args(["translation", *places, *words])
        cli.run(args, self.catalog, self.catalog.bundle("tiny"), self.make_engine)


@pytest.fixture
def shell(tmp_path: Path, catalog: Catalog) -> Shell:
    return Shell(tmp_path, catalog)


def test_the_command_writes_a_report(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    shell("--direction", "rgb2sar", "nir2rgb", "rgb2sar", "--tiles", "2", "--samples", "2", "--seed", "5")
    out, err = capsys.readouterr()
    assert out == f"{shell.out / 'report.md'}\n"
    assert [line.split(", ")[0] for line in err.splitlines()] == [f"{i} of 4 tiles" for i in range(1, 5)]
    assert "0.0 min left: NIR → RGB, s1s2_triples/" in err.splitlines()[-1]
    assert {file.name for file in shell.out.iterdir()} == {"report.json", "report.md", "rgb2sar.png", "nir2rgb.png"}
    with Image.open(shell.out / "nir2rgb.png") as image:
        assert "synthetic" in image.text["Description"]  # type: ignore[attr-defined]
    report = json.loads((shell.out / "report.json").read_text(encoding="utf-8"))
    assert report["command"].startswith("mmmrs-demo evaluate translation --data ")
    assert report["command"].endswith("--bundle tiny --direction rgb2sar nir2rgb --tiles 2 --samples 2 --seed 5")
    assert (report["bundle"], report["size"], report["samples"]) == ("tiny", SIDE, 2)
    assert {"mmmrs-demo", "numpy", "scipy"} <= set(report["versions"])
    assert [tile["seeds"] for tile in report["directions"]["rgb2sar"]["tiles"]] == [[5, 6], [7, 8]]
    assert report["directions"]["rgb2sar"]["model"]["controlnet"] == "tiny sha256:0"


def test_the_table_holds_the_figures_of_the_json(shell: Shell) -> None:
    shell("--tiles", "2", "--samples", "2")
    report = json.loads((shell.out / "report.json").read_text(encoding="utf-8"))
    text = (shell.out / "report.md").read_text(encoding="utf-8")
    assert list(report["directions"]) == list(TRANSLATIONS)
    for key, outcome in report["directions"].items():
        section = text.split(f"## {TRANSLATIONS[key].title}\n")[1].split("\n## ")[0]
        rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
        assert rows[0] == ["figure", "best", "one sample", "mean of 2", "mean colour", "regression"]
        told = {label: [None if cell == "n/a" else float(cell) for cell in cells] for label, _, *cells in rows[2:]}
        assert told == {
            FIGURES[name].label: [outcome["figures"][method][name] for method in METHODS]
            for name in outcome["figures"]["sample"]
        }
        assert f"differ by {outcome['spread']} levels" in section
        assert f"({key}.png)" in section


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
    report = json.loads((shell.out / "report.json").read_text(encoding="utf-8"))
    assert list(report["directions"]) == ["rgb2nir", "nir2rgb"]
    assert report["directions"]["rgb2nir"]["figures"]["sample"]["psnr_db"] < 40


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
    ],
)
def test_refusals_before_anything_is_loaded(shell: Shell, words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        shell(*words)
    assert str(refusal.value) == sentence
    assert not shell.engines
    assert not shell.out.exists()


def test_places_that_cannot_be_used(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no index\.csv"):
        shell(data=tmp_path / "weights")
    with pytest.raises(UserError, match=r"“index\.csv” cannot be the report's folder"):
        shell(out=tmp_path / "index.csv")
    (tmp_path / "weights" / "tiny" / "sar2rgb" / "config.json").unlink()
    with pytest.raises(UserError, match="There is no SAR → RGB ControlNet for tiny yet"):
        shell()
    assert not shell.engines


def test_a_guidance_that_no_request_may_have(shell: Shell) -> None:
    with pytest.raises(UserError, match="Guidance should be at most 30"):
        shell("--guidance", "31")


def test_the_program_refuses_before_it_loads_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "translation", "--data", str(tmp_path), "--out", str(tmp_path / "report")]
    assert main(words) == 2
    assert "has no index.csv" in capsys.readouterr().err
    assert main([*words, "--samples", "1"]) == 2
    assert "--samples should be at least 2" in capsys.readouterr().err
