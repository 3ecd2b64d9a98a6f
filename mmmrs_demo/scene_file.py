"""A scene becomes a file: a hidden folder beside the output keeps what is done of it, and a kill undoes nothing."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from mmmrs_demo import scene
from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called, whole
from mmmrs_demo.maker import Maker, SceneModel
from mmmrs_demo.modality import Modality
from mmmrs_demo.outputs import Writer, mean_and_spread, spread_file
from mmmrs_demo.provenance import Provenance, file_name
from mmmrs_demo.request import REQUEST, TextRequest, TranslationRequest
from mmmrs_demo.scene import Field, Progress, Source

_AnyRequest = TextRequest | TranslationRequest
_WORK = ".mmmrs-"  # begins the name of a hidden folder with what is done of a scene


@dataclass(frozen=True)
class SceneFile:
    """A scene to be made.

    Attributes:
        size: Width and height in pixels.
        source: The input, None for words.
        modality: What it shows.
        details: What the result says of how its input was read.
        out: Its file, or a folder.
        place: Gives the path for a name without its suffix.
        writer: Opens the output at a path.
    """

    size: tuple[int, int]
    source: Source | None
    modality: Modality
    details: Mapping[str, Any]
    out: Path
    place: Callable[[str], Path]
    writer: Writer

    def make(
        self,
        engine: Maker,
        request: _AnyRequest,
        on_progress: Callable[[Progress], None],
        stop: threading.Event | None,
    ) -> tuple[Path, _AnyRequest, int]:
        """Make it, or go on with it, and return path, complete request and number of windows."""
        complete, model = engine.windows(request, stop)
        field = Field.of(*self.size, model, words=self.source is None)
        windows = {"count": field.windows, "side": model.side, "overlap": field.overlap * model.factor}
        meant = complete.model_dump(mode="json") | {"seed": request.seed}  # a drawn one does not tell two scenes apart
        key = {"request": meant, "size": self.size, "windows": windows, "model": model.model, "by": model.versions}
        folder, name = (self.out, "") if self.out.is_dir() else (self.out.parent, self.out.name)
        with _kept(folder, name, key) as work:
            complete = _remembered(work, complete)
            path = self.place(file_name(complete, ""))
            with self.writer(work / path.name) as output:
                for top, picture, spread, valid in self._rows(model, complete, work, on_progress, stop):
                    output.write(Window(0, top, self.size[0], len(picture)), picture, valid, spread)
                output.truth = Provenance(
                    request=complete,
                    modality=self.modality,
                    model=model.model,
                    versions=model.versions,
                    created=datetime.now(UTC).replace(microsecond=0),
                    details={**self.details, "windows": windows},
                    synthetic=True,
                )
            for made in (spread_file(path), path):
                if (work / made.name).exists():
                    (work / made.name).replace(made)
        return path, complete, field.windows

    def _rows(
        self,
        model: SceneModel,
        request: _AnyRequest,
        work: Path,
        on_progress: Callable[[Progress], None],
        stop: threading.Event | None,
    ) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.bool_]]]:
        """Yield first row, mean in 0..1, spread in levels, and where they are valid, from the top to the bottom.

        Samples are denoised one after another, and then decoded side by side.
        """
        count = request.samples
        counted = _Counted(count, on_progress)

        def sample(index: int) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
            folder, tell = (work, on_progress) if count == 1 else (work / f"sample-{index}", counted.by(index))
            return scene.render(model, self.source, self.size, (request.seed or 0) + index, folder, tell, stop)

        for parts in zip(*map(sample, range(count)), strict=True):
            rgb = self.modality is Modality.RGB
            mean, spread = mean_and_spread(np.stack([part if rgb else part.mean(2) for _, part, _ in parts]))
            top, _, valid = parts[0]
            yield top, mean, None if spread is None else spread * np.float32(255), valid


class _Counted:
    """Tells of the samples of a scene, of which each tells of itself, as of one."""

    def __init__(self, samples: int, on_progress: Callable[[Progress], None]) -> None:
        self._samples, self._on_progress = samples, on_progress
        self._found: dict[int, int] = {}  # windows of a sample when it was first heard of, by its number
        self._done: dict[int, int] = {}
        self._began = time.monotonic()

    def by(self, index: int) -> Callable[[Progress], None]:
        """Return what the sample of that number is to call."""
        return partial(self._tell, index)

    def _tell(self, index: int, progress: Progress) -> None:
        self._found.setdefault(index, progress.done)
        self._done[index] = progress.done
        done, total = sum(self._done.values()), self._samples * progress.total
        worked = done - sum(self._found.values())
        left = (time.monotonic() - self._began) / worked * (total - done) if worked else None
        self._on_progress(Progress(done, total, left))


def unfinished(folder: Path) -> bool:
    """Whether a scene was begun in a folder, or in one inside it, and can be gone on with."""
    return any(map(_begun, folder.rglob(f"{_WORK}*")))


@contextmanager
def _kept(folder: Path, name: str, key: Mapping[str, Any]) -> Iterator[Path]:
    """Give the hidden folder of a scene, which stays until the scene is finished.

    Args:
        folder: Where the output goes.
        name: Of the output; "" where it is named after its request.
        key: All that the pixels depend on, but for a seed that is drawn.

    Raises:
        UserError: It cannot be made, or another run is at this scene.
    """
    own = f"{_WORK}{_short({'name': name})}-"
    work = folder / f"{own}{_short(key)}"
    try:
        work.mkdir(exist_ok=True)
        lock = (work / "lock").open("w")
    except OSError as error:
        raise UserError(
            f"The folder {called(folder)} cannot be written to ({error.strerror}): choose another."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError("Another run is making this very file: wait for it, or choose another name.") from error
        except OSError:  # a file system without locks
            pass
        for left in (*work.glob(".mmmrs-*"), *work.rglob(".*.part")):  # by a kill while the file was being written
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield work
        except BaseException:
            if not _begun(work):
                shutil.rmtree(work, ignore_errors=True)
            raise
        for old in folder.glob(f"{own}*") if name else [work]:  # of other settings, given up
            shutil.rmtree(old, ignore_errors=True)


def _begun(work: Path) -> bool:
    """Whether anything of a scene, or of one of its samples, has been done."""
    return any(work.rglob("state.json"))


def _short(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _remembered(work: Path, request: _AnyRequest) -> _AnyRequest:
    """Return the request with which a scene was begun, which has the seed that was drawn then."""
    file = work / "request.json"
    if file.is_file():
        return REQUEST.validate_json(file.read_bytes())
    with whole(file) as stream:
        stream.write(request.model_dump_json().encode())
    return request
