"""What results are called, and how they are written; of several samples, their mean and their spread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window

from mmmrs_demo.files import called, opened, whole
from mmmrs_demo.georaster import is_raster
from mmmrs_demo.geotiff import SPREAD
from mmmrs_demo.modality import Modality
from mmmrs_demo.provenance import Provenance, save_png
from mmmrs_demo.request import Rendering

PNG, GEOTIFF = ".png", (".tif", ".tiff")
"""What the names of results end with."""


def suffix_of(file: Path) -> str:
    """Return what the result of a file's translation ends with, by what is in the file.

    Raises:
        UserError: It cannot be opened.
    """
    with opened(file, called(file)) as stream:
        return GEOTIFF[0] if is_raster(stream.read(16)) else PNG


def mean_and_spread(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return mean and spread of samples of shape (samples, height, width) or (samples, height, width, 3)."""
    if len(samples) == 1:
        return samples[0], None
    spread = samples.std(axis=0, ddof=1)
    return samples.mean(axis=0), spread if spread.ndim == 2 else spread.mean(axis=2)


def spread_file(path: Path) -> Path:
    """Return where the spread of samples lies beside their mean, a PNG."""
    return path.with_name(f"{path.stem}_{SPREAD}{path.suffix}")


def spread_picture(mean: Rendering, spread: NDArray[np.float32]) -> Rendering:
    """Return the spread of samples as a grey picture in levels, which says the same of itself as their mean.

    Args:
        mean: The mean.
        spread: In levels, shape (height, width).
    """
    details = {**mean.details, SPREAD: "standard deviation of the samples, in grey levels"}
    return mean.model_copy(update={"image": Image.fromarray((spread + 0.5).astype(np.uint8)), "details": details})


class Output(Protocol):
    """What is written to; a context manager that finishes the file, or leaves nothing after an error."""

    truth: Rendering | Provenance | None

    def write(
        self,
        window: Window,
        picture: NDArray[Any],
        valid: NDArray[np.bool_] | None = None,
        spread: NDArray[np.float32] | None = None,
    ) -> None:
        """Write a part, as `GeoTIFFWriter.write` takes it."""


Writer = Callable[[Path], AbstractContextManager[Output]]
"""Opens the output at a path."""


class PNGWriter:
    """Writes a PNG, and one of a spread, with the face of a `GeoTIFFWriter`; in memory. What is not valid is black."""

    def __init__(self, path: Path, size: tuple[int, int], modality: Modality, *, spread: bool = False) -> None:
        self.truth: Rendering | Provenance | None = None
        self._path = path
        shape = size[1], size[0]
        self._pixels = np.zeros((*shape, 3) if modality is Modality.RGB else shape, np.uint8)
        self._spread = np.zeros(shape, np.float32) if spread else None

    def __enter__(self) -> Self:
        """Begin; nothing is on the disk yet."""
        return self

    def write(
        self,
        window: Window,
        picture: NDArray[Any],
        valid: NDArray[np.bool_] | None = None,
        spread: NDArray[np.float32] | None = None,
    ) -> None:
        """Write a part, as `GeoTIFFWriter.write` takes it."""
        if picture.dtype != np.uint8:
            picture = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
        for pixels, written in ((self._pixels, picture), (self._spread, spread)):
            if pixels is not None and written is not None:
                part = pixels[window.toslices()]
                part[...] = written
                if valid is not None:
                    part[~valid] = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Save what was written, if there was no error and `truth` is known.

        Raises:
            UserError: It cannot be written there.
        """
        if error is None and self.truth is not None:
            facts = {name: getattr(self.truth, name) for name in Provenance.model_fields}
            created = self.truth.created
            facts |= {"created": created if isinstance(created, str) else created.isoformat(timespec="seconds")}
            rendering = Rendering(image=Image.fromarray(self._pixels), seconds=0, **facts)
            if self._spread is not None:
                with whole(spread_file(self._path)) as file:
                    save_png(spread_picture(rendering, self._spread), file)
            with whole(self._path) as file:
                save_png(rendering, file)
