"""Measures how near the translations of a bundle come to real tiles; writes no file, and any engine will do."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from mmmrs_demo.catalog import Bundle
from mmmrs_demo.dataset.tiles import Tile
from mmmrs_demo.errors import UserError
from mmmrs_demo.evaluation import metrics
from mmmrs_demo.evaluation.baseline import Baseline
from mmmrs_demo.files import called, opened
from mmmrs_demo.modality import Modality, Translation
from mmmrs_demo.request import Rendering, TextRequest, TranslationRequest, parse_request

FITTED_TILES = 400
"""The baselines are fitted on at most this many training tiles, as many from every source as there are."""

SHEET_TILES = 6
"""Tiles whose pictures are kept to be looked at."""


_SETTINGS = ("steps", "guidance", "scheduler", "lora_scale", "controlnet_scale")


class Translator(Protocol):
    """What is needed of an engine."""

    def run(self, request: TextRequest | TranslationRequest, image: Image.Image | None = None) -> Rendering:
        """Run a request; the picture has the size of its input."""


@dataclass(frozen=True)
class Example:
    """A held-out tile with what a guess at its target is measured against.

    Attributes:
        source: The input: uint8 of shape (side, side) or (side, side, 3).
        target: The real target: the same.
        others: Shape (other tiles, 1024): the outlines of the other held-out tiles' targets.
    """

    source: np.ndarray
    target: np.ndarray
    others: np.ndarray


def _own(made: np.ndarray, example: Example) -> float:
    return metrics.correlation(metrics.outline(made), metrics.outline(example.target))


def _with_others(made: np.ndarray, example: Example) -> list[float]:
    seen = metrics.outline(made)
    return [metrics.correlation(seen, other) for other in example.others]


def _other(made: np.ndarray, example: Example) -> float:
    return statistics.fmean(_with_others(made, example)) if len(example.others) else math.nan


def _recognised(made: np.ndarray, example: Example) -> float:
    return float(_own(made, example) > max(_with_others(made, example))) if len(example.others) else math.nan


class Figure(NamedTuple):
    """One figure of merit.

    Attributes:
        label: Name for people, with the unit.
        best: Where it should lie: "high", "low", or "1" for ratios to the real tile.
        measure: Takes what was made, in levels and of the target's shape, and what it is measured against.
        target: The only target it is measured for, or None for all.
    """

    label: str
    best: str
    measure: Callable[[np.ndarray, Example], float]
    target: Modality | None = None


FIGURES: dict[str, Figure] = {
    "psnr_db": Figure("PSNR, dB", "high", lambda made, tile: metrics.psnr(made, tile.target)),
    "ssim": Figure("SSIM", "high", lambda made, tile: metrics.ssim(made, tile.target)),
    "correlation": Figure("correlation of pixels", "high", lambda made, tile: metrics.correlation(made, tile.target)),
    "ndvi_error": Figure(
        "NDVI error", "low", lambda made, tile: metrics.ndvi_error(made, tile.target, tile.source), Modality.NIR
    ),
    "log_mean_ratio": Figure(
        "mean log-intensity, ratio", "1", lambda made, tile: metrics.log_mean_ratio(made, tile.target), Modality.SAR
    ),
    "log_deviation_ratio": Figure(
        "deviation of log-intensity, ratio",
        "1",
        lambda made, tile: metrics.log_deviation_ratio(made, tile.target),
        Modality.SAR,
    ),
    "looks_ratio": Figure(
        "equivalent looks, ratio",
        "1",
        lambda made, tile: metrics.looks_ratio(made, tile.target, tile.source),
        Modality.SAR,
    ),
    "histogram_distance": Figure(
        "distance of histograms, levels", "low", lambda made, tile: metrics.histogram_distance(made, tile.target)
    ),
    "spectrum_distance_db": Figure(
        "distance of spectra, dB", "low", lambda made, tile: metrics.spectrum_distance(made, tile.target)
    ),
    "own_correlation": Figure("likeness to its own tile", "high", _own),
    "other_correlation": Figure("likeness to the other tiles", "low", _other),
    "recognised": Figure("most like its own tile, share of tiles", "high", _recognised),
}
"""Every figure by its name in a report, in the order in which they are shown."""

METHODS = {
    "sample": "one sample",
    "mean_of_samples": "mean of samples",
    "mean_colour": "mean colour",
    "regression": "regression",
}
"""What is measured side by side: twice the model, and the two baselines."""


@dataclass(frozen=True)
class Sampling:
    """How often the model is asked, and how.

    Attributes:
        samples: Pictures of each tile, 2 or more.
        seed: Of the first picture of the first tile; every further picture has the next.
        guidance: In place of the bundle's own, where it is not None.
    """

    samples: int
    seed: int = 0
    guidance: float | None = None

    def seeds(self, index: int) -> tuple[int, ...]:
        """Return the seeds of the tile of that number, counted from 0."""
        first = self.seed + index * self.samples
        return tuple(range(first, first + self.samples))


@dataclass(frozen=True)
class Trial:
    """A direction and the tiles to try it on.

    Attributes:
        translation: The direction.
        measured: Held-out tiles.
        fitted: Training tiles, for the baselines.
    """

    translation: Translation
    measured: tuple[Tile, ...]
    fitted: tuple[Tile, ...]


@dataclass(frozen=True)
class TileOutcome:
    """The figures of one tile.

    Attributes:
        pair: Its name in the index.
        source: Its data set.
        seeds: Of its samples.
        spread: Standard deviation over samples in levels, as a mean over pixels.
        figures: By method, then by figure.
    """

    pair: str
    source: str
    seeds: tuple[int, ...]
    spread: float
    figures: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Outcome:
    """The figures of one direction.

    Attributes:
        translation: Its key.
        figures: By method, then by figure: the mean over tiles, for ratios the median.
        spread: The mean over tiles.
        seconds: Time of one sample, without loading weights.
        fitted: Number of training tiles that the baselines are fitted on.
        settings: Those of the requests that all samples share.
        model: What the engine says of its weights.
        versions: Of the engine's libraries.
        tiles: One by one.
        sheet: Of the first tiles: input, target, one sample, mean of samples and regression, each as uint8.
    """

    translation: str
    figures: dict[str, dict[str, float]]
    spread: float
    seconds: float
    fitted: int
    settings: dict[str, Any]
    model: dict[str, Any]
    versions: dict[str, str]
    tiles: tuple[TileOutcome, ...]
    sheet: tuple[tuple[np.ndarray, ...], ...] = field(repr=False)


def plan(tiles: Iterable[Tile], translation: Translation, count: int) -> Trial:
    """Choose the tiles of a direction: up to `count` held-out ones, and training tiles for the baselines.

    Raises:
        UserError: There are none of one kind.
    """
    usable = [tile for tile in tiles if {translation.source, translation.target} <= {*tile.files}]
    measured = spread_over_sources((tile for tile in usable if tile.held_out), count)
    fitted = spread_over_sources((tile for tile in usable if not tile.held_out), FITTED_TILES)
    for kind, found, use in (("held-out", measured, "measured"), ("training", fitted, "compared with a regression")):
        if not found:
            raise UserError(
                f"No {kind} tile has both {translation.source.label} and {translation.target.label}, so "
                f"{translation.title} cannot be {use}: choose other directions, or a folder with more tiles."
            )
    return Trial(translation, measured, fitted)


def spread_over_sources(tiles: Iterable[Tile], count: int) -> tuple[Tile, ...]:
    """Return up to `count` tiles, as many from every source as it has; the choice depends on nothing but their names.

    The first tiles are of all sources in turn.
    """
    by_chance = sorted(tiles, key=lambda tile: hashlib.sha256(tile.pair.encode()).digest())
    met: Counter[str] = Counter()
    in_turn = []
    for tile in by_chance:
        in_turn.append((met[tile.source], tile.source, tile))
        met[tile.source] += 1
    return tuple(tile for *_, tile in sorted(in_turn, key=lambda entry: entry[:2])[:count])


def picture(tile: Tile, modality: Modality, side: int) -> np.ndarray:
    """Return the centre square of a tile in one modality: uint8 of shape (side, side) or, of RGB, (side, side, 3).

    Raises:
        UserError: Its file cannot be read.
    """
    file = tile.files[modality]
    with opened(file, called(file)) as stream:
        try:
            with Image.open(stream) as image:
                whole = image.convert(modality.mode)
        except OSError as error:
            raise UserError(f"{called(file)} is no picture that can be read: take it out of index.csv.") from error
    square = min(whole.size)
    left, top = ((length - square) // 2 for length in whole.size)
    box = (left, top, left + square, top + square)
    return np.asarray(whole.resize((side, side), Image.Resampling.BICUBIC, box))


def measure(
    engine: Translator, trial: Trial, bundle: Bundle, sampling: Sampling, on_tile: Callable[[str], None]
) -> Outcome:
    """Measure one direction at the bundle's native size.

    Args:
        engine: Makes the samples.
        trial: The tiles.
        bundle: The models to use.
        sampling: How often they are asked.
        on_tile: Told the name of each tile that is done.

    Raises:
        UserError: From the engine, or a tile cannot be read.
    """
    translation, side = trial.translation, bundle.size
    baseline = Baseline.fit(
        (picture(tile, translation.source, side), picture(tile, translation.target, side)) for tile in trial.fitted
    )
    outlines = np.stack([metrics.outline(picture(tile, translation.target, side)) for tile in trial.measured])
    notes: list[dict[str, Any]] = []
    outcomes: list[TileOutcome] = []
    sheet: list[tuple[np.ndarray, ...]] = []
    for index, tile in enumerate(trial.measured):
        example = Example(
            picture(tile, translation.source, side),
            picture(tile, translation.target, side),
            np.delete(outlines, index, axis=0),
        )
        seeds = sampling.seeds(index)
        requests = [_request(tile, translation, bundle, sampling.guidance, seed) for seed in seeds]
        renderings = [engine.run(request, Image.fromarray(example.source)) for request in requests]
        notes += [made.model_dump() for made in renderings]
        samples = np.stack([np.asarray(made.image.convert(translation.target.mode)) for made in renderings])
        guesses = {
            "sample": samples[0],
            "mean_of_samples": samples.mean(axis=0),
            "mean_colour": baseline.plain(example.target.shape),
            "regression": baseline.predict(example.source),
        }
        figures = {method: _figures(guess, example, translation.target) for method, guess in guesses.items()}
        outcomes.append(TileOutcome(tile.pair, tile.source, seeds, metrics.spread(samples), figures))
        if index < SHEET_TILES:
            shown = (guesses[method] for method in ("sample", "mean_of_samples", "regression"))
            sheet.append((example.source, example.target, *(np.rint(guess).astype(np.uint8) for guess in shown)))
        on_tile(f"{translation.title}, {tile.pair}")
    return Outcome(
        translation=translation.key,
        figures={
            method: {name: _middle([tile.figures[method][name] for tile in outcomes], name) for name in measured}
            for method, measured in outcomes[0].figures.items()
        },
        spread=statistics.fmean(tile.spread for tile in outcomes),
        seconds=statistics.fmean(note["seconds"] for note in notes),
        fitted=len(trial.fitted),
        settings={name: notes[-1]["request"][name] for name in _SETTINGS},
        model=notes[-1]["model"],
        versions=notes[-1]["versions"],
        tiles=tuple(outcomes),
        sheet=tuple(sheet),
    )


def _request(
    tile: Tile, translation: Translation, bundle: Bundle, guidance: float | None, seed: int
) -> TextRequest | TranslationRequest:
    caption = f"a satellite image shows {tile.scenes[0]}"
    form = {"kind": "translation", "translation": translation.key, "bundle": bundle.key}
    prompt = {"caption": caption, "satellite": translation.satellite}
    return parse_request(form | {"prompt": prompt, "guidance": guidance, "seed": seed})


def _figures(made: np.ndarray, example: Example, target: Modality) -> dict[str, float]:
    return {name: figure.measure(made, example) for name, figure in FIGURES.items() if figure.target in (None, target)}


def _middle(values: list[float], name: str) -> float:
    """Return the median of ratios, which doubled and halved ones pull alike, and the mean of all else."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan
    return statistics.median(known) if FIGURES[name].best == "1" else statistics.fmean(known)
