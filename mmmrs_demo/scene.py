"""Pictures larger than the models' native size, in constant memory: one field of noise, denoised through windows.

The scene is denoised as one picture: in every step the network looks through overlapping windows, what it says is
blended, and the step is taken with the blend (MultiDiffusion, Bar-Tal et al. 2023). So neighbouring windows never
disagree. The field lies on the disk, and a row of windows is in memory at a time. Knows no files of pictures and no
page: what is read and written comes in rows of arrays.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmmrs_demo.errors import heed
from mmmrs_demo.files import whole

OVERLAP = 1 / 8
"""Share of a window's side that it has in common with the next one: of an input that both see, no more is needed."""

OVERLAP_OF_WORDS = 1 / 4
"""The same where there is no input, and only what they have in common makes windows agree."""

BATCH = 4
"""Windows that the network looks through at once: on a CPU more cost memory and gain nothing."""


_Batch = TypeVar("_Batch")
_Answer = TypeVar("_Answer")
_Array = NDArray[np.float32]


class Windows(Protocol):
    """A model as a scene needs it; `window_model.WindowModel` is one.

    Attributes:
        side: of a window in pixels.
        factor: pixels of the scene along one side of a pixel of the latents.
        channels: of the latents.
        steps: how many denoising steps there are.
    """

    side: int
    factor: int
    channels: int
    steps: int

    def each(self, ask: Callable[[_Batch], _Answer], batches: Iterable[_Batch]) -> Iterator[_Answer]:
        """Yield what is answered to each batch, in their order: `map`, or what asks several at a time and ahead."""

    def begin(self, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what standard normal noise is at the first step."""

    def predict(
        self, latents: NDArray[np.float32], step: int, pictures: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        """Return what the network says of windows of noisy latents.

        Args:
            latents: shape (windows, channels, side / factor, side / factor).
            step: from 0.
            pictures: the same windows of the input, uint8 of shape (windows, side, side, 3); None for words alone.
        """

    def advance(
        self, latents: NDArray[np.float32], said: NDArray[np.float32], step: int, seed: int
    ) -> NDArray[np.float32]:
        """Return latents of shape (channels, height, width) one step further; `seed` decides on any noise added."""

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return pictures, float32 in 0..1 of shape (windows, side, side, 3)."""


class Source(Protocol):
    """The input of a translation."""

    def read(self, x: int, y: int, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return a window as uint8 of shape (height, width, 3), and which of its pixels are valid."""


class Progress(NamedTuple):
    """How far a scene has come.

    Attributes:
        done: windows looked through, over all steps and the decoding.
        total: windows in all.
        seconds_left: estimate; None before the first batch of this run.
    """

    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True)
class Field:
    """Where the windows of a scene lie, in pixels of its latents.

    Attributes:
        height: of the scene's latents, at least one window's.
        width: the same.
        side: of a window.
        overlap: what a window has in common with the next one, at least.
    """

    height: int
    width: int
    side: int
    overlap: int

    @classmethod
    def of(cls, width: int, height: int, model: Windows, *, words: bool = False) -> Field:
        """Return the field of a scene of that many pixels; `words` says that it has no input."""
        side = model.side // model.factor
        overlap = max(2, round(side * (OVERLAP_OF_WORDS if words else OVERLAP)))
        return cls(max(side, -(-height // model.factor)), max(side, -(-width // model.factor)), side, overlap)

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self.tops) * len(self.lefts)

    @property
    def tops(self) -> list[int]:
        """First rows of the rows of windows."""
        return self._starts(self.height)

    @property
    def lefts(self) -> list[int]:
        """First columns of the windows of a row."""
        return self._starts(self.width)

    def bands(self) -> Iterator[tuple[int, int]]:
        """Yield for each row of windows the rows (from, to) that no later one touches."""
        tops = self.tops
        yield from zip(tops, [*tops[1:], self.height], strict=True)

    def weights(self, factor: int = 1) -> NDArray[np.float32]:
        """Return how much each pixel of a window counts, shape (side, side): next to nothing at its borders.

        Args:
            factor: Pixels of the picture along one side of a pixel of the latents; 1 for the latents themselves.
        """
        overlap, side = self.overlap * factor, self.side * factor
        ramp = np.sin(np.minimum(1, (np.arange(side) + 0.5) / overlap) * np.pi / 2) ** 2
        line = np.maximum(1e-3, np.minimum(ramp, ramp[::-1])).astype(np.float32)
        return np.outer(line, line)

    def _starts(self, length: int) -> list[int]:
        """Return evenly spread starts of windows that have at least the overlap in common."""
        stride = self.side - self.overlap
        count = 1 + -(-(length - self.side) // stride)
        return [round(i * (length - self.side) / max(1, count - 1)) for i in range(count)]


def render(
    model: Windows,
    source: Source | None,
    size: tuple[int, int],
    seed: int,
    work: Path,
    on_progress: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
    """Yield the rows of a scene from its top to its bottom, finished.

    What has been done is kept in `work` after every row of windows: after a stop or a kill the same call goes on there
    and gives the same pixels. Windows without a valid pixel are passed over.

    Args:
        model: looks through the windows.
        source: the input of a translation, None for words alone.
        size: width and height of the scene in pixels, those of the input.
        seed: of all noise; the noise at a place depends on nothing else.
        work: folder for this scene alone; the caller removes it when the scene is written.
        on_progress: called after every batch.
        stop: once set, ends the run after the batch in hand.

    Yields:
        The first row; colours in 0..1 of shape (rows, width, 3); and where they are valid, shape (rows, width).

    Raises:
        Stopped: `stop` was set.
    """
    scene = _Scene(model, source, size, seed, work, on_progress, stop)
    scene.denoise()
    yield from scene.decode()


class _Windows(NamedTuple):
    """Windows of one row that are looked through at once.

    Attributes:
        top: first row of their latents.
        lefts: their first columns.
        pictures: of the input.
        last: no more of this row follow.
    """

    top: int
    lefts: list[int]
    pictures: list[NDArray[np.uint8]]
    last: bool


class _Scene:
    def __init__(
        self,
        model: Windows,
        source: Source | None,
        size: tuple[int, int],
        seed: int,
        work: Path,
        on_progress: Callable[[Progress], None],
        stop: threading.Event | None,
    ) -> None:
        self.model, self.source, self.size, self.seed, self.work = model, source, size, seed, work
        self.field = Field.of(*size, model, words=source is None)
        self.weights = self.field.weights()
        self.on_progress, self.stop = on_progress, stop
        self.total = (model.steps + 1) * self.field.windows
        work.mkdir(parents=True, exist_ok=True)
        shape = (model.channels, self.field.height, self.field.width)
        self.latents = [_array(work / f"latents-{i}.npy", shape) for i in range(2)]
        self.state = work / "state.json"
        told = json.loads(self.state.read_text(encoding="utf-8")) if self.state.is_file() else {"step": 0, "band": 0}
        self.step, self.band = told["step"], told["band"]
        if self.step == self.band == 0:
            for row in range(self.field.height):
                self.latents[0][:, row] = model.begin(noise(self.seed, row, model.channels, self.field.width))
        self.done = (self.step * len(self.field.tops) + self.band) * len(self.field.lefts)
        self.worked, self.began = 0, time.monotonic()

    def denoise(self) -> None:
        """Take all steps that are left."""
        while self.step < self.model.steps:
            now, then = self.latents[self.step % 2], self.latents[(self.step + 1) % 2]
            said, weight = self._carried()
            bands = list(self.field.bands())[self.band :]
            looked = self._look(now, bands, lambda noisy, pictures: self.model.predict(noisy, self.step, pictures))
            for (top, end), row in zip(bands, looked, strict=True):
                for left, predicted in row:
                    columns = slice(left, left + self.field.side)
                    said[:, :, columns] += predicted * self.weights
                    weight[:, columns] += self.weights
                rows = end - top
                blend = (said[:, :rows] / np.maximum(weight[:rows], 1e-9)).astype(np.float32)
                seed = np.random.SeedSequence((self.seed, self.step + 1, top)).generate_state(1, np.uint64)[0]
                then[:, top:end] = self.model.advance(now[:, top:end], blend, self.step, int(seed) >> 1)
                said, weight = _moved(said, rows), _moved(weight, rows)
                self._keep(said, weight, last=end == self.field.height)
                self.band += 1
            self.step, self.band = self.step + 1, 0

    def _look(
        self,
        latents: _Array,
        bands: Sequence[tuple[int, int]],
        ask: Callable[[_Array, NDArray[np.uint8] | None], _Array],
    ) -> Iterator[Iterator[tuple[int, _Array]]]:
        """Yield for every row of windows column and answer of those that have something to see.

        Args:
            latents: what the windows are cut from.
            bands: the rows of windows.
            ask: answers to windows of latents and of the input; may be called in other threads.
        """
        side = self.field.side

        def answered(batch: _Windows) -> tuple[list[tuple[int, _Array]], bool]:
            heed(self.stop)
            if not batch.lefts:
                return [], batch.last
            noisy = np.stack([latents[:, batch.top : batch.top + side, left : left + side] for left in batch.lefts])
            said = ask(noisy, None if self.source is None else np.stack(batch.pictures))
            return list(zip(batch.lefts, said, strict=True)), batch.last

        answers = iter(self.model.each(answered, self._batches(bands)))
        for _ in bands:
            yield self._row(answers)

    def _batches(self, bands: Sequence[tuple[int, int]]) -> Iterator[_Windows]:
        """Yield the windows that have something to see; of a row without any, an empty batch."""
        factor = self.model.factor
        for top, _ in bands:
            seen = [(left, *self._input(left * factor, top * factor)) for left in self.field.lefts]
            windows = [(left, picture) for left, picture, valid in seen if valid.any()]
            for first in range(0, max(1, len(windows)), BATCH):
                some = windows[first : first + BATCH]
                last = first + BATCH >= len(windows)
                yield _Windows(top, [left for left, _ in some], [picture for _, picture in some], last)

    def _row(self, answers: Iterator[tuple[list[tuple[int, _Array]], bool]]) -> Iterator[tuple[int, _Array]]:
        """Yield the answers to one row of windows, and tell of them."""
        unseen = len(self.field.lefts)
        for windows, last in answers:
            yield from windows
            unseen -= len(windows)
            self._tell(len(windows))
            if last:
                break
        self._tell(unseen, worked=False)

    def _input(self, x: int, y: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return a window of the input; beyond its borders it is mirrored."""
        side, (width, height) = self.model.side, self.size
        if self.source is None:
            return np.zeros((side, side, 3), np.uint8), np.ones((side, side), bool)
        right, bottom = min(side, width - x), min(side, height - y)
        picture, valid = self.source.read(x, y, right, bottom)
        beyond = ((0, side - bottom), (0, side - right))
        return np.pad(picture, (*beyond, (0, 0)), "symmetric"), np.pad(valid, beyond)

    def _tell(self, windows: int, *, worked: bool = True) -> None:
        self.done += windows
        self.worked += windows if worked else 0
        pace = (time.monotonic() - self.began) / self.worked if self.worked else None
        self.on_progress(Progress(self.done, self.total, None if pace is None else pace * (self.total - self.done)))

    def _carried(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what earlier rows of windows have said of the next one's rows, and how much that counts."""
        if self.band:
            kept = np.load(self._carry(self.step, self.band))
            return kept[:-1], kept[-1]
        shape = self.field.side, self.field.width
        return np.zeros((self.model.channels, *shape), np.float32), np.zeros(shape, np.float32)

    def _keep(self, said: NDArray[np.float32], weight: NDArray[np.float32], *, last: bool) -> None:
        """Write down that a row of windows is done: first what is needed to go on, then the note that says so."""
        for latents in self.latents:
            latents.flush()
        step, band = (self.step + 1, 0) if last else (self.step, self.band + 1)
        if not last:
            with whole(self._carry(step, band)) as file:
                np.save(file, np.concatenate([said, weight[None]]))
        with whole(self.state) as file:
            file.write(json.dumps({"step": step, "band": band}).encode())
        self._carry(self.step, self.band).unlink(missing_ok=True)

    def _carry(self, step: int, band: int) -> Path:
        return self.work / f"carry-{step}-{band}.npy"

    def decode(self) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
        """Turn the finished latents into pictures, window by window, and blend those."""
        latents, factor, (width, height) = self.latents[self.model.steps % 2], self.model.factor, self.size
        weights = self.field.weights(factor)[..., None]
        side = self.model.side
        sums = np.zeros((side, self.field.width * factor, 4), np.float32)  # three colours and the weight
        bands = list(self.field.bands())
        looked = self._look(latents, bands, lambda noisy, _: self.model.decode(noisy))
        for (top, end), row in zip(bands, looked, strict=True):
            for left, picture in row:
                columns = slice(left * factor, left * factor + side)
                sums[:, columns] += np.concatenate([picture, np.ones_like(picture[..., :1])], 2) * weights
            rows = min(end * factor, height) - top * factor
            colours = sums[:rows, :width, :3] / np.maximum(sums[:rows, :width, 3:], 1e-9)
            y, valid = top * factor, np.ones((rows, width), bool)
            yield (
                y,
                colours.astype(np.float32, copy=False),
                valid if self.source is None else self.source.read(0, y, width, rows)[1],
            )
            sums = np.concatenate([sums[(end - top) * factor :], np.zeros_like(sums[: (end - top) * factor])])


def noise(seed: int, row: int, channels: int, width: int) -> NDArray[np.float32]:
    """Return the first noise of one row of a scene's latents, shape (channels, width); it depends on the row alone."""
    return np.random.default_rng((seed, row)).standard_normal((channels, width), np.float32)


def _array(file: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.float32]]:
    """Open an array on the disk; only what is touched of it is in memory.

    It is written in full before it is used, for a disk that turns out to be full under a mapped file ends the process.
    """
    if not file.is_file():
        with whole(file) as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
            )
            for _ in range(shape[0]):
                stream.write(bytes(4 * shape[1] * shape[2]))
    return np.lib.format.open_memmap(file, mode="r+")


def _moved(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return an array whose next-to-last axis has moved up by `count` rows, with zeros below."""
    moved = np.zeros_like(rows)
    moved[..., : rows.shape[-2] - count, :] = rows[..., count:, :]
    return moved
