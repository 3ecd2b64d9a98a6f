"""A scene is one picture, whatever windows it is looked at through, and a killed one ends as if it had not been."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmmrs_demo import scene
from mmmrs_demo.errors import Stopped
from mmmrs_demo.scene import Field, Progress, noise, render

pytestmark = pytest.mark.unit

SIDE, FACTOR = 32, 4


class Eye:
    """A model that says half of what it is shown, with its own error in every window: near the window's border."""

    side, factor, channels, steps = SIDE, FACTOR, 3, 3
    each = map

    def __init__(self, kill_at: int | None = None) -> None:
        self.looked, self.kill_at = 0, kill_at

    def begin(self, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        return noise * np.float32(2)

    def predict(
        self, latents: NDArray[np.float32], step: int, pictures: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        assert 0 <= step < self.steps
        if self.looked == self.kill_at:
            raise KeyboardInterrupt
        self.looked += 1
        said = latents * np.float32(0.5)
        if pictures is not None:
            shown = pictures.reshape(len(pictures), SIDE // FACTOR, FACTOR, SIDE // FACTOR, FACTOR, 3).mean((2, 4))
            said -= shown.transpose(0, 3, 1, 2) / 255
        said[..., 0] += 0.5  # what only this window sees, at its left border
        return said

    def advance(
        self, latents: NDArray[np.float32], said: NDArray[np.float32], step: int, seed: int
    ) -> NDArray[np.float32]:
        drawn = np.random.default_rng(seed).standard_normal(latents.shape, np.float32)
        return latents - said + drawn * np.float32(0.01 * (step + 1 < self.steps))

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        return latents.transpose(0, 2, 3, 1).repeat(FACTOR, 1).repeat(FACTOR, 2)


class Ground:
    """An input with a gradient from left to right; everything right of `until` is nodata."""

    def __init__(self, width: int, height: int, until: int | None = None) -> None:
        levels = np.linspace(0, 255, width).astype(np.uint8)
        self.picture = np.broadcast_to(levels[None, :, None], (height, width, 3))
        self.valid = np.broadcast_to(np.arange(width)[None] < (width if until is None else until), (height, width))

    def read(self, x: int, y: int, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return self.picture[y : y + height, x : x + width], self.valid[y : y + height, x : x + width]


def rendered(
    work: Path, width: int, height: int, model: Eye | None = None, source: Ground | None = None, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    rows = list(render(model or Eye(), source, (width, height), seed, work))
    tops = [top for top, *_ in rows]
    assert tops == [sum(len(colours) for _, colours, _ in rows[:i]) for i in range(len(rows))]
    return np.concatenate([colours for _, colours, _ in rows]), np.concatenate([valid for *_, valid in rows])


@pytest.mark.parametrize(("width", "height"), [(130, 97), (32, 32), (20, 10), (33, 200), (64, 8)])
def test_a_scene_has_its_size_and_every_pixel_is_seen(width: int, height: int, tmp_path: Path) -> None:
    colours, valid = rendered(tmp_path, width, height, source=Ground(width, height))
    assert colours.shape == (height, width, 3)
    assert valid.shape == (height, width)
    assert valid.all()
    assert np.isfinite(colours).all()


@pytest.mark.parametrize(("words", "share"), [(False, scene.OVERLAP), (True, scene.OVERLAP_OF_WORDS)])
def test_windows_overlap_and_reach_both_borders(words: bool, share: float) -> None:
    field = Field.of(1000, 300, Eye(), words=words)
    assert field.lefts[0] == 0
    assert field.lefts[-1] + field.side == field.width == 250
    strides = np.diff(field.lefts)
    assert strides.max() <= field.side * (1 - share)
    assert strides.min() > 0
    assert list(field.bands())[-1][1] == field.height


def test_the_input_is_followed_without_seams(tmp_path: Path) -> None:
    colours, _ = rendered(tmp_path, 200, 64, source=Ground(200, 64))
    line = colours.mean((0, 2))
    fit = np.polyval(np.polyfit(np.arange(200), line, 1), np.arange(200))
    assert np.corrcoef(line, np.arange(200))[0, 1] > 0.95
    inner = slice(2 * FACTOR, None)  # at the scene's own border there is one window alone, and it errs by 0.9
    assert np.abs(line - fit)[inner].max() < 0.4


@pytest.mark.parametrize("kill_at", [0, 1, 5, 11])
def test_a_killed_scene_goes_on_as_if_it_had_not_been(kill_at: int, tmp_path: Path) -> None:
    whole, _ = rendered(tmp_path / "whole", 120, 100, source=Ground(120, 100))
    dying = Eye(kill_at)
    with pytest.raises(KeyboardInterrupt):
        rendered(tmp_path / "cut", 120, 100, dying, Ground(120, 100))
    second = Eye()
    resumed, _ = rendered(tmp_path / "cut", 120, 100, second, Ground(120, 100))
    assert np.array_equal(whole, resumed)
    fresh = Eye()
    rendered(tmp_path / "fresh", 120, 100, fresh, Ground(120, 100))
    assert second.looked <= fresh.looked - kill_at + 1  # at most the row in hand is done again


def test_stop_ends_it_and_nothing_is_lost(tmp_path: Path) -> None:
    stop, told = threading.Event(), []

    def halfway(progress: Progress) -> None:
        told.append(progress)
        if progress.done > progress.total // 2:
            stop.set()

    with pytest.raises(Stopped):
        list(render(Eye(), None, (120, 100), 1, tmp_path, halfway, stop))
    assert told[-1].seconds_left is not None
    again: list[Progress] = []
    list(render(Eye(), None, (120, 100), 1, tmp_path, again.append))
    assert again[0].done > told[-1].done // 2
    assert again[-1].done == again[-1].total


def test_nodata_is_passed_over(tmp_path: Path) -> None:
    whole, part = Eye(), Eye()
    rendered(tmp_path / "whole", 400, 32, whole, Ground(400, 32))
    _, valid = rendered(tmp_path / "part", 400, 32, part, Ground(400, 32, until=60))
    assert part.looked < whole.looked / 2
    assert valid[:, :60].all()
    assert not valid[:, 60:].any()


@pytest.mark.parametrize("until", [None, 60], ids=["full", "nodata"])
def test_batches_may_be_asked_ahead(until: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = rendered(tmp_path / "one", 200, 100, Eye(), Ground(200, 100, until))

    def all_at_once(ask: Callable[[Any], Any], batches: Iterable[Any]) -> list[Any]:
        return [ask(batch) for batch in batches]  # of every row of windows

    monkeypatch.setattr(Eye, "each", staticmethod(all_at_once))
    ahead, _ = rendered(tmp_path / "ahead", 200, 100, Eye(), Ground(200, 100, until))
    assert np.array_equal(one, ahead)


def test_noise_depends_on_seed_and_row_alone() -> None:
    assert np.array_equal(noise(1, 5, 4, 100), noise(1, 5, 4, 100))
    assert not np.array_equal(noise(1, 5, 4, 100), noise(1, 6, 4, 100))
    assert not np.array_equal(noise(1, 5, 4, 100), noise(2, 5, 4, 100))
    assert abs(float(noise(1, 5, 8, 10_000).std()) - 1) < 0.02


def test_another_seed_gives_another_picture(tmp_path: Path) -> None:
    one, two = (rendered(tmp_path / str(seed), 100, 40, seed=seed)[0] for seed in (1, 2))
    assert not np.allclose(one, two)
