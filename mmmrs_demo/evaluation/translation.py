"""Measures how near the translations of a bundle come to real tiles; writes no file, and any engine will do."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from mmmrs_demo import metrics
from mmmrs_demo.catalog import Bundle
from mmmrs_demo.dataset.samples import Samples
from mmmrs_demo.errors import UserError
from mmmrs_demo.evaluation.baseline import Baseline
from mmmrs_demo.evaluation.measuring import average
from mmmrs_demo.modality import Modality, Translation
from mmmrs_demo.request import Rendering, TextRequest, TranslationRequest, parse_request

FITTED_TILES = 400
"""Mean colour and regression are fitted on at most this many training tiles, as many from every source as there are."""

SHEET_TILES = 6
"""Tiles whose pictures are kept to be looked at."""

WHITE_SPREAD = 64
"""Levels by which samples differ where a map of their spread is white."""

_SETTINGS = ("steps", "guidance", "scheduler", "lora_scale", "controlnet_scale")


class Translator(Protocol):
    """What is needed of an engine."""

    def run(self, request: TextRequest | TranslationRequest, image: Image.Image | None = None) -> Rendering:
        """Run a request; the picture has the size of its input."""


Distance = Callable[[np.ndarray, np.ndarray], float]
Guess = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Example:
    """A held-out tile with what a guess at its target is measured against.

    Attributes:
        source: The input: uint8 of shape (side, side) or (side, side, 3).
        target: The real target: the same.
        others: Shape (other tiles, 1024): the outlines of the other held-out tiles' targets.
        lpips: Returns the LPIPS distance of two pictures; None where there are no weights for it.
    """

    source: np.ndarray
    target: np.ndarray
    others: np.ndarray
    lpips: Distance | None = None


def _own(made: np.ndarray, example: Example) -> float:
    return metrics.correlation(metrics.outline(made), metrics.outline(example.target))


def _with_others(made: np.ndarray, example: Example) -> list[float]:
    seen = metrics.outline(made)
    return [metrics.correlation(seen, other) for other in example.others]


def _other(made: np.ndarray, example: Example) -> float:
    return statistics.fmean(_with_others(made, example)) if len(example.others) else math.nan


def _recognised(made: np.ndarray, example: Example) -> float:
    return float(_own(made, example) > max(_with_others(made, example))) if len(example.others) else math.nan


def _lpips(made: np.ndarray, example: Example) -> float:
    return example.lpips(made, example.target) if example.lpips else math.nan


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


LPIPS = "lpips"
"""Name of the one figure that is measured only where its weights are given."""

FIGURES: dict[str, Figure] = {
    "psnr_db": Figure("PSNR, dB", "high", lambda made, tile: metrics.psnr(made, tile.target)),
    "ssim": Figure("SSIM", "high", lambda made, tile: metrics.ssim(made, tile.target)),
    LPIPS: Figure("LPIPS", "low", _lpips),
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
    "unet": "U-Net",
}
"""What is measured side by side: twice the model, and what it has to beat."""

_SHOWN = ("sample", "mean_of_samples", "unet", "regression")


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
class Pair:
    """A piece of ground of a data set in both modalities of a direction.

    Attributes:
        samples: The split it is in.
        translation: The direction.
        source: Row of the input.
        target: Row of the target.
    """

    samples: Samples = field(repr=False)
    translation: Translation
    source: int
    target: int

    @property
    def told(self) -> Mapping[str, Any]:
        """What the data set says of the input."""
        return self.samples.rows[self.source]

    def pictures(self, side: int, turn: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return input and target: uint8 of shape (side, side) or, of RGB, (side, side, 3).

        Args:
            side: Pixels; tiles of another size are resampled.
            turn: As `Samples.picture` takes it.
        """
        return (
            self._picture(self.source, self.translation.source, side, turn),
            self._picture(self.target, self.translation.target, side, turn),
        )

    def _picture(self, number: int, modality: Modality, side: int, turn: int) -> np.ndarray:
        tile = Image.fromarray(self.samples.picture(number, turn)).convert(modality.mode)
        if tile.size == (side, side):
            return np.asarray(tile)
        return np.asarray(tile.resize((side, side), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Trial:
    """A direction and what to try it on.

    Attributes:
        translation: The direction.
        measured: Held-out tiles.
        training: All training tiles, for what the model has to beat.
    """

    translation: Translation
    measured: tuple[Pair, ...]
    training: tuple[Pair, ...]


@dataclass(frozen=True)
class Rival:
    """Something that a model has to beat.

    Attributes:
        guess: Makes levels of the target's shape of an input.
        told: What it was fitted with: tiles, and what else there is to say.
    """

    guess: Guess
    told: Mapping[str, Any]


@dataclass(frozen=True)
class TileOutcome:
    """The figures of one tile.

    Attributes:
        pair: Its name in the data set.
        source: Where the data set has it from.
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
        rivals: What each one was fitted with, by method.
        settings: Those of the requests that all samples share.
        model: What the engine says of its weights.
        versions: Of the engine's libraries.
        tiles: One by one.
        sheet: The pictures of the first tiles, uint8, by what they are called.
    """

    translation: str
    figures: dict[str, dict[str, float]]
    spread: float
    seconds: float
    rivals: dict[str, Mapping[str, Any]]
    settings: dict[str, Any]
    model: dict[str, Any]
    versions: dict[str, str]
    tiles: tuple[TileOutcome, ...]
    sheet: tuple[dict[str, np.ndarray], ...] = field(repr=False)


def plan(train: Samples, test: Samples, translation: Translation, count: int) -> Trial:
    """Choose the tiles of a direction: up to `count` held-out ones, and all training tiles.

    Raises:
        UserError: There are none of one kind.
    """
    measured = _pairs(test, translation, "held-out", "measured")
    training = _pairs(train, translation, "training", "compared with a regression")
    return Trial(translation, spread_over_sources(measured, count), training)


def _pairs(samples: Samples, translation: Translation, kind: str, use: str) -> tuple[Pair, ...]:
    try:
        return tuple(Pair(samples, translation, *numbers) for numbers in samples.pairs(translation))
    except UserError as error:
        raise UserError(
            f"No {kind} tile has both {translation.source.label} and {translation.target.label}, so "
            f"{translation.title} cannot be {use}: choose other directions, or a data set with more tiles."
        ) from error


def spread_over_sources(pairs: Iterable[Pair], count: int) -> tuple[Pair, ...]:
    """Return up to `count` pairs, as many from every source as it has; the choice depends on nothing but their names.

    No place comes twice while there is another one, so that nested cuts of a scene do not count as several. The first
    pairs are of all sources in turn.
    """
    by_chance = sorted(pairs, key=lambda pair: hashlib.sha256(pair.told["pair"].encode()).digest())
    of_place: Counter[str] = Counter()
    of_source: Counter[tuple[int, str]] = Counter()
    in_turn = []
    for pair in by_chance:
        place, source = pair.told["place"], pair.told["source"]
        again = of_place[place]
        in_turn.append((again, of_source[again, source], source, pair))
        of_place[place] += 1
        of_source[again, source] += 1
    return tuple(pair for *_, pair in sorted(in_turn, key=lambda entry: entry[:3])[:count])


def simple_rivals(trial: Trial, side: int) -> dict[str, Rival]:
    """Fit the mean colour and the regression to training tiles of `side` × `side` pixels."""
    fitted = spread_over_sources(trial.training, FITTED_TILES)
    baseline = Baseline.fit(pair.pictures(side) for pair in fitted)
    told = {"tiles": len(fitted)}
    return {"mean_colour": Rival(baseline.plain, told), "regression": Rival(baseline.predict, told)}


def measure(
    engine: Translator,
    trial: Trial,
    bundle: Bundle,
    sampling: Sampling,
    rivals: Mapping[str, Rival],
    on_tile: Callable[[str], None],
    lpips: Distance | None = None,
) -> Outcome:
    """Measure one direction at the bundle's native size.

    Args:
        engine: Makes the samples.
        trial: The tiles.
        bundle: The models to use.
        sampling: How often they are asked.
        rivals: What is measured beside them, by method.
        on_tile: Told the name of each tile that is done.
        lpips: Measures the LPIPS distance; None leaves that figure out.

    Raises:
        UserError: From the engine.
    """
    translation, side = trial.translation, bundle.size
    outlines = np.stack([metrics.outline(pair.pictures(side)[1]) for pair in trial.measured])
    notes: list[dict[str, Any]] = []
    outcomes: list[TileOutcome] = []
    sheet: list[dict[str, np.ndarray]] = []
    for index, pair in enumerate(trial.measured):
        example = Example(*pair.pictures(side), np.delete(outlines, index, axis=0), lpips)
        seeds = sampling.seeds(index)
        requests = [_request(pair, bundle, sampling.guidance, seed) for seed in seeds]
        renderings = [engine.run(request, Image.fromarray(example.source)) for request in requests]
        notes += [made.model_dump() for made in renderings]
        samples = np.stack([np.asarray(made.image.convert(translation.target.mode)) for made in renderings])
        guesses = {"sample": samples[0], "mean_of_samples": samples.mean(axis=0)}
        guesses |= {method: rival.guess(example.source) for method, rival in rivals.items()}
        figures = {method: _figures(guess, example, translation.target) for method, guess in guesses.items()}
        outcomes.append(TileOutcome(pair.told["pair"], pair.told["source"], seeds, metrics.spread(samples), figures))
        if index < SHEET_TILES:
            sheet.append(_row(example, samples, guesses))
        on_tile(f"{translation.title}, {pair.told['pair']}")
    return Outcome(
        translation=translation.key,
        figures={
            method: {name: _middle([tile.figures[method][name] for tile in outcomes], name) for name in measured}
            for method, measured in outcomes[0].figures.items()
        },
        spread=statistics.fmean(tile.spread for tile in outcomes),
        seconds=statistics.fmean(note["seconds"] for note in notes),
        rivals={method: rival.told for method, rival in rivals.items()},
        settings={name: notes[-1]["request"][name] for name in _SETTINGS},
        model=notes[-1]["model"],
        versions=notes[-1]["versions"],
        tiles=tuple(outcomes),
        sheet=tuple(sheet),
    )


def _request(pair: Pair, bundle: Bundle, guidance: float | None, seed: int) -> TextRequest | TranslationRequest:
    form = {"kind": "translation", "translation": pair.translation.key, "bundle": bundle.key}
    prompt = {"caption": pair.told["caption"], "satellite": pair.translation.satellite}
    return parse_request(form | {"prompt": prompt, "guidance": guidance, "seed": seed})


def _row(example: Example, samples: np.ndarray, guesses: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the pictures of one tile as a sheet shows them."""
    spread = np.atleast_3d(samples.std(axis=0, ddof=1)).mean(axis=2) * (metrics.PEAK / WHITE_SPREAD)
    shown = {METHODS[method]: guesses[method] for method in _SHOWN if method in guesses}
    levels = {"input": example.source, "real target": example.target, **shown, "spread of samples": spread}
    return {name: np.rint(picture).clip(0, metrics.PEAK).astype(np.uint8) for name, picture in levels.items()}


def _figures(made: np.ndarray, example: Example, target: Modality) -> dict[str, float]:
    return {
        name: figure.measure(made, example)
        for name, figure in FIGURES.items()
        if figure.target in (None, target) and (name != LPIPS or example.lpips)
    }


def _middle(values: list[float], name: str) -> float:
    """Return the median of ratios, which doubled and halved ones pull alike, and the mean of all else."""
    return average(values, statistics.median if FIGURES[name].best == "1" else statistics.fmean)
