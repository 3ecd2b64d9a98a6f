"""A file in, a file out: same grid, nodata, place and request, and a killed scene that ends as if it had not been."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

from mmmrs_demo import engine as engine_module
from mmmrs_demo import scene, worldfile
from mmmrs_demo.engine import Engine
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.georaster import open_raster
from mmmrs_demo.inputs import _PictureSource
from mmmrs_demo.make import Done, generate_file, sampled, translate_file
from mmmrs_demo.modality import Modality
from mmmrs_demo.outputs import spread_picture
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.provenance import embed, read
from mmmrs_demo.radiometry import DISPLAY_DB, Quantity
from mmmrs_demo.request import Rendering, Step, TextRequest, TranslationRequest
from mmmrs_demo.scene import Progress
from mmmrs_demo.scene_file import unfinished
from mmmrs_demo.settings import Settings
from tests.instant import FACTOR, InstantEngine, InstantModel
from tests.rasters import UTM, pattern, write

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
RGBN = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
TO_SAR = TranslationRequest(translation="rgb2sar", bundle="tiny", seed=3, steps=2)
WIDE, HIGH = 150, 110  # of a scene; windows of the small bundles have 64 px
SMALL = 90, 80  # in one piece


@pytest.fixture
def instant(tmp_path: Path) -> InstantEngine:
    (tmp_path / "weights").mkdir()
    return InstantEngine(tmp_path / "weights")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def raster(
    folder: Path, size: tuple[int, int] = (WIDE, HIGH), bands: int = 4, name: str = "scene.tif", **options: Any
) -> Path:
    """Write a GeoTIFF of four bands, the first of them almost black where a fifth of it is."""
    samples = pattern(bands, size[1], size[0], low=20, high=250).astype(options.pop("dtype", "uint8"))
    return write(folder / name, samples, colours=RGBN[:bands] if bands > 1 else (), **options)


def picture(folder: Path, size: tuple[int, int] = (WIDE, HIGH), name: str = "tile.png") -> Path:
    pixels = pattern(3, size[1], size[0], high=255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def translated(engine: Any, file: Path, out: Path, request: TranslationRequest | None = None, **options: Any) -> Done:
    """Translate with the bundle that the engine has."""
    instant = isinstance(engine, InstantEngine)
    request = request or TranslationRequest(translation="rgb2sar", seed=3)
    settings = options.pop("settings", Settings(bundle="mini" if instant else "tiny"))
    return translate_file(engine, request, file, out, settings, **options)


def coarse(samples: NDArray[Any]) -> NDArray[np.float64]:
    """Return what the instant engine makes of bands, from 0 to 255, in one band."""
    height, width = (side // FACTOR for side in samples.shape[1:])
    blocks = samples[:, : height * FACTOR, : width * FACTOR].reshape(-1, height, FACTOR, width, FACTOR)
    return blocks.mean((0, 2, 4)).repeat(FACTOR, 0).repeat(FACTOR, 1)


def hidden(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize("size", [SMALL, (WIDE, HIGH)], ids=["one piece", "scene"])
def test_a_geotiff_becomes_one_on_its_grid(
    size: tuple[int, int], tiny_engine: Engine, tmp_path: Path, out: Path
) -> None:
    done = translated(tiny_engine, raster(tmp_path, size), out / "sar.tif", TO_SAR)
    assert done.path == out / "sar.tif"
    assert [file.name for file in out.iterdir()] == ["sar.tif"]
    with rasterio.open(done.path) as made:
        assert (made.width, made.height, made.count, made.dtypes) == (*size, 1, ("uint8",))
        assert (made.crs, made.transform) == (rasterio.crs.CRS.from_epsg(32636), UTM)
        assert made.tags()["synthetic"] == "true"
        assert made.read(1).std() > 0
    assert any("Bands 1, 2 and 3 are read as red, green and blue" in note for note in done.notes)
    assert any(note.startswith("Black is") for note in done.notes)
    truth = read(done.path)
    assert truth.request == done.request
    assert (truth.modality, truth.model["bundle"], truth.synthetic) == (Modality.SAR, "tiny", True)
    assert truth.details["bands"] == [1, 2, 3]
    assert truth.details["stretch"]["high"] == 255
    assert ("windows" in truth.details) == (size != SMALL) == bool(done.windows)
    if done.windows:
        assert truth.details["windows"] == {"count": done.windows, "side": 64, "overlap": 16}


@pytest.mark.parametrize("size", [SMALL, (WIDE, HIGH)], ids=["one piece", "scene"])
def test_the_request_inside_gives_the_same_pixels_again(
    size: tuple[int, int], tiny_engine: Engine, tmp_path: Path, out: Path
) -> None:
    file = raster(tmp_path, size)
    first = translated(tiny_engine, file, out / "a.tif", TO_SAR.model_copy(update={"seed": None}))
    truth = read(first.path)
    assert isinstance(truth.request, TranslationRequest)
    translated(tiny_engine, file, out / "b.tif", truth.request, bands=truth.details["bands"])
    other = truth.request.model_copy(update={"seed": (truth.request.seed or 0) + 1})
    translated(tiny_engine, file, out / "c.tif", other)
    one, two, three = (rasterio.open(out / f"{name}.tif").read() for name in "abc")
    assert np.array_equal(one, two)
    assert not np.array_equal(one, three)


def test_the_input_has_one_name_in_one_piece_and_as_a_scene(instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    file = raster(tmp_path, (300, 290))
    with open_raster(file, Settings()) as source:
        choice = source.choose(Modality.RGB)
        tile, _ = source.tile(choice, source.stretch(choice))
    done = translated(instant, file, out)
    assert isinstance(done.request, TranslationRequest)
    assert done.request.source_sha256 == engine_module._digest(tile)
    tile.save(tmp_path / "same.png")
    again = translated(instant, tmp_path / "same.png", out)
    assert isinstance(again.request, TranslationRequest)
    assert again.request.source_sha256 == done.request.source_sha256


def test_a_scene_shows_what_its_input_shows(instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    file = raster(tmp_path, (400, 304))
    translated(instant, file, out / "scene.tif")
    with rasterio.open(file) as source, rasterio.open(out / "scene.tif") as made:
        assert np.abs(made.read(1) - coarse(source.read([1, 2, 3]))).max() <= 1
    translated(instant, file, out / "blue.tif", bands=[3])
    with rasterio.open(file) as source, rasterio.open(out / "blue.tif") as made:
        assert np.abs(made.read(1) - coarse(source.read([3]))).max() <= 1
        assert read(out / "blue.tif").details["bands"] == [3]


def test_colour_comes_out_of_grey(instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    samples = pattern(1, HIGH, WIDE, low=-20, high=-5).astype("float32")
    file = write(tmp_path / "vv.tif", samples, names=("VV",))
    translated(instant, file, out / "rgb.tif", TranslationRequest(translation="sar2rgb", seed=1))
    with rasterio.open(out / "rgb.tif") as made:
        assert made.count == 3
        shown = (samples + 25) / 25 * 255
        assert np.abs(made.read(1)[:104, :144] - coarse(shown)).max() <= 2


@pytest.mark.parametrize("size", [SMALL, (WIDE, HIGH)], ids=["one piece", "scene"])
def test_nodata_stays_nodata(size: tuple[int, int], instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    samples = pattern(3, size[1], size[0], low=20, high=250).astype("uint8")
    samples[:, 40:, 30:60] = 0
    file = write(tmp_path / "hole.tif", samples, colours=RGBN[:3], nodata=0)
    translated(instant, file, out / "sar.tif")
    translated(instant, file, out / "db.tif", units=True)
    shown = (samples != 0).all(0)
    with rasterio.open(out / "sar.tif") as made:
        assert np.array_equal(made.dataset_mask() > 0, shown)
    with rasterio.open(out / "db.tif") as made:
        assert np.isnan(made.nodata)
        assert np.array_equal(~np.isnan(made.read(1)), shown)


@pytest.mark.parametrize("size", [SMALL, (WIDE, HIGH)], ids=["one piece", "scene"])
def test_physical_units(size: tuple[int, int], instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    file = raster(tmp_path, size)
    done = translated(instant, file, out / "db.tif", units=True)
    low, high = DISPLAY_DB["VV"]
    with rasterio.open(out / "db.tif") as made:
        assert (made.dtypes, made.units) == (("float32",), ("dB",))
        values = made.read(1)
        assert low <= values.min() < values.max() <= high
    assert any("not measured" in note for note in done.notes)


def test_a_picture_is_as_it_was(tiny_engine: Engine, tmp_path: Path, out: Path) -> None:
    file = picture(tmp_path, SMALL)
    done = translated(tiny_engine, file, out / "sar.png", TO_SAR)
    plain = tiny_engine.run(TO_SAR, Image.open(file))
    with Image.open(done.path) as made:
        assert (made.mode, made.tobytes()) == ("L", plain.image.tobytes())
        told = embed(plain)
        assert {key: made.info[key] for key in told if key != "mmmrs"} == {
            k: t for k, t in told.items() if k != "mmmrs"
        }
    assert read(done.path).request == plain.request
    assert not read(done.path).details
    assert (done.windows, done.notes) == (0, ())
    assert [file.name for file in out.iterdir()] == ["sar.png"]


def test_a_large_picture_is_a_scene(tiny_engine: Engine, tmp_path: Path, out: Path) -> None:
    done = translated(tiny_engine, picture(tmp_path), out / "sar.png", TO_SAR)
    assert done.windows > 1
    with Image.open(done.path) as made:
        assert (made.mode, made.size) == ("L", (WIDE, HIGH))
    assert read(done.path).request == done.request
    assert read(done.path).details == {"windows": {"count": done.windows, "side": 64, "overlap": 16}}
    assert done.request.scheduler == "euler-a"
    assert not hidden(out)


@pytest.mark.parametrize("size", [SMALL, (WIDE, HIGH)], ids=["one piece", "scene"])
def test_a_world_file_is_taken_over(size: tuple[int, int], instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    file = picture(tmp_path, size)
    place = Affine(0.5, 0, 1000, 0, -0.5, 2000)
    worldfile.write(file, place)
    done = translated(instant, file, out)
    assert worldfile.read(done.path) == place
    assert "world file" in done.notes[0]
    assert len(list(out.iterdir())) == 2


@pytest.mark.parametrize("size", [SMALL, (WIDE, HIGH)], ids=["one piece", "scene"])
def test_a_png_from_a_geotiff(size: tuple[int, int], instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    mask = np.full((size[1], size[0]), 255, np.uint8)
    mask[:20] = 0
    done = translated(instant, raster(tmp_path, size, mask=mask), out / "sar.png")
    pixels = np.asarray(Image.open(done.path))
    assert not pixels[:20].any()
    assert pixels[20:].any()
    assert worldfile.read(done.path) == UTM
    assert read(done.path).details["bands"] == [1, 2, 3]
    assert "neither nodata" in done.notes[-1]


@pytest.mark.parametrize("size", [(32, 300), (300, 32), (90, 33)])
def test_long_and_slim_is_a_scene(size: tuple[int, int], instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    for file in (raster(tmp_path, size), picture(tmp_path, size)):
        done = translated(instant, file, out)
        assert bool(done.windows) == (max(size) > 96)
        with Image.open(done.path) as made:
            assert made.size == size


def test_a_folder_names_the_file_after_its_request(instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    for file in (raster(tmp_path), raster(tmp_path, SMALL, name="small.tif"), picture(tmp_path)):
        done = translated(instant, file, out, overwrite=True)
        assert done.path.name == f"mmmrs_rgb2sar_seed-3{file.suffix}"


@pytest.mark.parametrize(
    ("make", "name", "options", "says"),
    [
        (raster, "a.jpg", {}, "should end in .tif or .tiff or .png"),
        (picture, "a.jpg", {}, "should end in .png"),
        (picture, "a.tif", {}, "picture without the coordinate reference system"),
        (picture, "a.png", {"units": True}, "leave the units out"),
        (raster, "a.png", {"units": True}, "ends in .tif"),
        (picture, "a.png", {"bands": [1, 2, 3]}, "leave the bands out"),
        (picture, "a.png", {"quantity": Quantity.DB}, "could be dB"),
        (raster, "a.tif", {"quantity": Quantity.DB}, "measure of SAR"),
        (raster, "a.tif", {"bands": [5, 1, 2]}, "has no band 5"),
        (raster, "a.tif", {"bands": [1, 2]}, "RGB needs three bands"),
        (raster, "a.png", {"settings": Settings(max_pixels=10_000, bundle="mini")}, "too large for a PNG"),
        (raster, "there.tif", {}, "is there already"),
        (raster, "no/where.tif", {}, "no folder “no”"),
        (raster, "a.tif", {"request": TO_SAR.model_copy(update={"bundle": "x"})}, "no bundle “x”"),
    ],
)
def test_what_cannot_be_made_is_said_at_once(
    make: Any, name: str, options: dict[str, Any], says: str, instant: InstantEngine, tmp_path: Path, out: Path
) -> None:
    (out / "there.tif").touch()

    def never() -> None:
        raise AssertionError

    instant.at_window = never
    with pytest.raises(UserError) as refused:
        translated(instant, make(tmp_path), out / name, **options)
    assert says in str(refused.value)
    assert str(refused.value).endswith(".")
    assert [file.name for file in out.iterdir()] == ["there.tif"]


def test_optical_units_need_reflectance(instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    request = TranslationRequest(translation="rgb2nir", seed=1)
    instant.windows = None  # type: ignore[assignment, method-assign] # it is said before a model is loaded
    counts = write(tmp_path / "counts.tif", pattern(3, HIGH, WIDE, low=900, high=9000).astype("uint16"))
    with pytest.raises(UserError, match="no physical unit"):
        translated(instant, counts, out / "nir.tif", request, units=True)
    assert not list(out.iterdir())


def test_smaller_than_a_tile(instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    for file in (raster(tmp_path, (31, 200)), picture(tmp_path, (31, 100))):
        with pytest.raises(UserError, match="each side needs at least 32 px"):
            translated(instant, file, out)


def test_other_schedulers_are_for_one_piece(tiny_engine: Engine, tmp_path: Path, out: Path) -> None:
    request = TO_SAR.model_copy(update={"scheduler": "unipc"})
    translated(tiny_engine, raster(tmp_path, SMALL), out / "small.tif", request)
    with pytest.raises(UserError, match="larger than 96 px"):
        translated(tiny_engine, raster(tmp_path), out / "large.tif", request)
    assert [file.name for file in out.iterdir()] == ["small.tif"]


KILLED = """
import sys, time
from pathlib import Path
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.engine import Engine
from mmmrs_demo.make import translate_file
from mmmrs_demo.request import TranslationRequest
from mmmrs_demo.settings import Settings
weights, file, out, until, samples = sys.argv[1:]
settings = Settings(weights=weights, bundle="tiny")
engine = Engine(Catalog.load(Path(weights)), settings)
def tell(progress):
    if progress.done >= int(until):
        print("here", flush=True)
        time.sleep(600)
request = TranslationRequest(translation="rgb2sar", bundle="tiny", steps=2, samples=samples)
translate_file(engine, request, Path(file), Path(out), settings, on_progress=tell)
"""


@pytest.mark.parametrize(
    ("until", "samples"),
    [(8, 1), (20, 1), (32, 1), (40, 2)],
    ids=["first step", "second step", "decoding", "second sample"],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_pixels(
    until: int, samples: int, tiny_engine: Engine, tiny_weights: Path, tmp_path: Path, out: Path
) -> None:
    file, path = raster(tmp_path, (200, 160)), out / "sar.tif"
    words = [sys.executable, "-c", KILLED, str(tiny_weights), str(file), str(path), str(until), str(samples)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert not path.exists()
    assert len(hidden(out)) == 1
    told: list[Progress] = []
    request = TO_SAR.model_copy(update={"seed": None, "samples": samples})
    resumed = translated(tiny_engine, file, path, request, on_progress=told.append)
    assert told[0].done > min(until, 24) // 2  # it went on
    assert [file.name for file in out.iterdir()] == ["sar.tif"]
    assert isinstance(resumed.request, TranslationRequest)  # its seed is the one that the killed run drew
    whole = translated(tiny_engine, file, out / "whole.tif", resumed.request)
    assert whole.windows == resumed.windows == 12
    one, two = (rasterio.open(made.path).read() for made in (resumed, whole))
    assert np.array_equal(one, two)


def stopped(engine: InstantEngine, file: Path, out: Path, request: TranslationRequest, after: int) -> None:
    """Begin, and stop after so many batches of windows."""
    stop, batches = threading.Event(), []

    def count() -> None:
        batches.append(1)
        if len(batches) == after:
            stop.set()

    engine.at_window = count
    with pytest.raises(Stopped):
        translated(engine, file, out, request, stop=stop)
    engine.at_window = lambda: None


def test_stop_keeps_what_is_done_with_its_seed(instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    file, drawn = raster(tmp_path), TranslationRequest(translation="rgb2sar")
    stopped(instant, file, out, drawn, after=3)
    (work,) = hidden(out)
    assert list(out.iterdir()) == [work]
    seed = TranslationRequest.model_validate_json((work / "request.json").read_bytes()).seed
    done = translated(instant, file, out, drawn)
    assert (done.request.seed, done.path.name) == (seed, f"mmmrs_rgb2sar_seed-{seed}.tif")
    assert list(out.iterdir()) == [done.path]


def test_stop_before_anything_is_done_leaves_nothing(instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    def stop() -> None:
        raise Stopped

    instant.at_window = stop
    with pytest.raises(Stopped):
        translated(instant, raster(tmp_path), out / "sar.tif")
    assert not list(out.iterdir())


def test_other_settings_or_another_input_begin_anew(instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    file, request = raster(tmp_path), TranslationRequest(translation="rgb2sar", seed=1)
    stopped(instant, file, out / "sar.tif", request, after=3)
    other = request.model_copy(update={"prompt": Prompt(caption="a dam")})
    for changed in (request.model_copy(update={"seed": 2}), other):
        stopped(instant, file, out / "sar.tif", changed, after=3)
    stopped(instant, raster(tmp_path, name="other.tif", dtype="uint16"), out / "sar.tif", request, after=3)
    assert len(hidden(out)) == 4
    told: list[Progress] = []
    translated(instant, file, out / "sar.tif", request, on_progress=told.append)
    assert told[0].done > 4
    assert [file.name for file in out.iterdir()] == ["sar.tif"]  # the others went with it


def test_two_runs_do_not_share_a_scene(instant: InstantEngine, tmp_path: Path, out: Path) -> None:
    file, request = raster(tmp_path), TranslationRequest(translation="rgb2sar", seed=1)
    stopped(instant, file, out / "sar.tif", request, after=3)
    with (hidden(out)[0] / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="Another run"):
            translated(instant, file, out / "sar.tif", request)
    assert translated(instant, file, out / "sar.tif", request).windows


@pytest.mark.parametrize(("samples", "tall"), [(1, 4000), (3, 2000)])
def test_memory_does_not_grow_with_the_scene(
    samples: int, tall: int, instant: InstantEngine, tmp_path: Path, out: Path
) -> None:
    request = TranslationRequest(translation="rgb2sar", seed=3, samples=samples)
    peaks = []
    for height in (500, tall):
        with rasterio.open(
            tmp_path / "long.tif",
            "w",
            driver="GTiff",
            width=600,
            height=height,
            count=3,
            dtype="uint8",
            tiled=True,
            transform=UTM,
        ) as file:
            for top in range(0, height, 500):
                file.write(pattern(3, 500, 600, high=255).astype("uint8"), window=Window(0, top, 600, 500))
        tracemalloc.start()
        translated(instant, tmp_path / "long.tif", out / f"{height}.tif", request)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.25


# --- several samples --------------------------------------------------------------------------------------------------


class Grainy(InstantEngine):
    """Gives another picture with every seed, and the same in one piece as of a scene."""

    def windows(
        self, request: TextRequest | TranslationRequest, stop: threading.Event | None = None
    ) -> tuple[TextRequest | TranslationRequest, InstantModel]:
        complete, model = super().windows(request, stop)
        model.grain = 0.4
        return complete, model

    def run(
        self,
        request: TextRequest | TranslationRequest,
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Rendering:
        complete = self.catalog.bundle("mini").complete(request)
        made = super().run(complete, image, on_step, stop)
        assert image is not None
        assert complete.seed is not None
        with TemporaryDirectory() as work:
            source = _PictureSource(image, "", None)
            rows = scene.render(self.windows(complete)[1], source, image.size, complete.seed, Path(work))
            colours = np.concatenate([part for _, part, _ in rows])
        shown = colours if made.modality is Modality.RGB else colours.mean(2)
        pixels = (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)
        return made.model_copy(update={"image": Image.fromarray(pixels)})


@pytest.fixture
def grainy(tmp_path: Path) -> Grainy:
    (tmp_path / "grainy").mkdir()
    return Grainy(tmp_path / "grainy")


THREE = TranslationRequest(translation="rgb2sar", seed=3, samples=3)


def singles(engine: Any, file: Path, folder: Path, request: TranslationRequest, **options: Any) -> NDArray[np.float64]:
    """Return three translations with the seeds 3, 4 and 5, of shape (3, bands, height, width)."""
    parts = []
    for seed in (3, 4, 5):
        one = request.model_copy(update={"seed": seed, "samples": 1})
        with rasterio.open(translated(engine, file, folder / f"{seed}.tif", one, **options).path) as made:
            parts.append(made.read().astype(np.float64))
    return np.stack(parts)


@pytest.mark.parametrize("size", [SMALL, (WIDE, HIGH)], ids=["one piece", "scene"])
def test_mean_and_spread_in_units_are_those_of_the_single_samples(
    size: tuple[int, int], grainy: Grainy, tmp_path: Path, out: Path
) -> None:
    file = raster(tmp_path, size)
    ones = singles(grainy, file, out, THREE, units=True)[:, 0]
    done = translated(grainy, file, out / "three.tif", THREE, units=True)
    with rasterio.open(done.path) as made:
        assert made.descriptions == ("VV", "spread")
        assert made.units == ("dB", "dB")
        mean, spread = made.read()
    assert ones.std(axis=0).mean() > 0.5
    assert np.allclose(mean, ones.mean(axis=0), atol=1e-4)
    assert np.allclose(spread, ones.std(axis=0, ddof=1), atol=1e-4)
    assert read(done.path).request == done.request
    assert isinstance(done.request, TranslationRequest)
    assert (done.request.seed, done.request.samples, done.spread) == (3, 3, None)


@pytest.mark.parametrize("size", [SMALL, (WIDE, HIGH)], ids=["one piece", "scene"])
def test_the_spread_of_colours_is_one_band(size: tuple[int, int], grainy: Grainy, tmp_path: Path, out: Path) -> None:
    samples = pattern(1, size[1], size[0], low=60, high=190).astype("uint8")
    mask = np.full(samples.shape[1:], 255, np.uint8)
    mask[:20] = 0
    file = write(tmp_path / "vv.tif", samples, names=("VV",), mask=mask)
    request = THREE.model_copy(update={"translation": "sar2rgb"})
    ones = singles(grainy, file, out, request)
    with rasterio.open(translated(grainy, file, out / "three.tif", request).path) as made:
        assert made.descriptions == ("red", "green", "blue", "spread")
        assert made.colorinterp[:3] == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert made.colorinterp[3] not in (ColorInterp.alpha, ColorInterp.gray)
        assert made.dtypes == ("uint8",) * 4
        assert np.array_equal(made.dataset_mask(), mask)
        bands = made.read()
    assert np.abs(bands[:3] - ones.mean(axis=0)).max() <= 1
    assert np.abs(bands[3] - ones.std(axis=0, ddof=1).mean(axis=0)).max() <= 1
    assert not bands[:, :20].any()
    assert bands[3].max() > 5
    with open_raster(out / "three.tif", Settings()) as source:
        assert source.choose(Modality.RGB).numbers == (1, 2, 3)


@pytest.mark.parametrize("size", [SMALL, (WIDE, HIGH)], ids=["one piece", "scene"])
def test_the_spread_of_a_png_is_a_second_one(size: tuple[int, int], grainy: Grainy, tmp_path: Path, out: Path) -> None:
    file = picture(tmp_path, size)
    worldfile.write(file, UTM)
    parts = []
    for seed in (3, 4, 5):
        one = THREE.model_copy(update={"seed": seed, "samples": 1})
        parts.append(np.asarray(Image.open(translated(grainy, file, tmp_path / f"{seed}.png", one).path), float))
    done = translated(grainy, file, out, THREE)
    assert done.path.name == "mmmrs_rgb2sar_seed-3_3-samples.png"
    assert done.spread == out / "mmmrs_rgb2sar_seed-3_3-samples_spread.png"
    assert len(list(out.iterdir())) == 4
    for file, expected in ((done.path, np.mean(parts, axis=0)), (done.spread, np.std(parts, axis=0, ddof=1))):
        with Image.open(file) as made:
            assert made.mode == "L"
            assert np.abs(np.asarray(made, float) - expected).max() <= 1
        assert read(file).request == done.request
        assert worldfile.read(file) == UTM
    assert "grey levels" in read(done.spread).details["spread"]
    assert "spread" not in read(done.path).details


def test_a_scene_has_the_mean_and_spread_that_it_would_have_in_one_piece(
    grainy: Grainy, tmp_path: Path, out: Path
) -> None:
    file = picture(tmp_path)
    done = translated(grainy, file, out / "scene.png", THREE)
    assert done.windows
    assert done.spread
    piece = sampled(grainy, THREE, Image.open(file))
    assert piece.spread is not None
    for path, expected in ((done.path, piece.mean), (done.spread, piece.spread)):
        assert np.abs(np.asarray(Image.open(path), float) - expected).max() <= 1.5


def test_a_drawn_seed_is_drawn_once_and_gives_the_same_again(grainy: Grainy, tmp_path: Path, out: Path) -> None:
    drawn = TranslationRequest(translation="rgb2sar", samples=4)
    image = Image.open(picture(tmp_path, SMALL))
    steps: list[Step] = []
    first = sampled(grainy, drawn, image, steps.append)
    request = first.rendering.request
    assert isinstance(request, TranslationRequest)
    assert (request.samples, [(step.index, step.total) for step in steps]) == (4, [(n, 4) for n in (1, 2, 3, 4)])
    again = sampled(grainy, request, image)
    assert again.rendering.image == first.rendering.image
    assert np.array_equal(np.asarray(first.rendering.image), (first.mean + 0.5).astype(np.uint8))
    assert first.spread is not None
    shown = spread_picture(first.rendering, first.spread)
    assert (shown.request, shown.image.size, shown.image.mode) == (request, SMALL, "L")
    path = translated(grainy, tmp_path / "tile.png", out / "same.png", request).path
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(first.rendering.image))


def test_one_sample_is_as_it_was(grainy: Grainy, tmp_path: Path, out: Path) -> None:
    image = Image.open(picture(tmp_path, SMALL))
    alone = THREE.model_copy(update={"samples": 1, "bundle": "mini"})
    one, plain = sampled(grainy, alone, image), grainy.run(alone, image)
    assert one.spread is None
    assert one.rendering == plain.model_copy(update={"image": one.rendering.image})
    assert one.rendering.image == plain.image
    done = translated(grainy, tmp_path / "tile.png", out / "one.png", alone)
    assert [file.name for file in out.iterdir()] == ["one.png"]
    assert b"amples" not in done.path.read_bytes()


def test_all_samples_of_a_scene_are_told_as_one_run(grainy: Grainy, tmp_path: Path, out: Path) -> None:
    told: list[Progress] = []
    done = translated(grainy, raster(tmp_path), out / "sar.tif", THREE, on_progress=told.append)
    assert {progress.total for progress in told} == {done.windows * 3 * (InstantModel.steps + 1)}
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert told[-1].done == told[-1].total
    assert told[0].seconds_left is None
    assert told[-1].seconds_left == 0


def test_a_stopped_scene_of_samples_goes_on_in_the_sample_it_was_at(grainy: Grainy, tmp_path: Path, out: Path) -> None:
    file = raster(tmp_path)
    whole = translated(grainy, file, out / "whole.tif", THREE).path
    looked: list[int] = []
    grainy.at_window = lambda: looked.append(1)
    translated(grainy, file, out / "counted.tif", THREE)
    total = len(looked)
    stopped(grainy, file, out / "sar.tif", THREE, after=total * 2 // 3 - 1)  # near the end of the second sample
    (work,) = hidden(out)
    assert sorted(path.name for path in work.glob("sample-*")) == ["sample-0", "sample-1"]
    assert unfinished(tmp_path)
    looked.clear()
    told: list[Progress] = []
    grainy.at_window = lambda: looked.append(1)
    translated(grainy, file, out / "sar.tif", THREE, on_progress=told.append)
    assert len(looked) < total // 2
    assert told[-1].done == told[-1].total
    with rasterio.open(out / "sar.tif") as resumed, rasterio.open(whole) as made:
        assert np.array_equal(resumed.read(), made.read())
    assert not hidden(out)
    assert not unfinished(tmp_path)


def test_a_spread_does_not_replace_a_strangers_file(grainy: Grainy, tmp_path: Path, out: Path) -> None:
    (out / "sar_spread.png").touch()
    for size in (SMALL, (WIDE, HIGH)):
        with pytest.raises(UserError, match=r"“sar_spread\.png” is there already"):
            translated(grainy, picture(tmp_path, size), out / "sar.png", THREE)
    assert [file.name for file in out.iterdir()] == ["sar_spread.png"]
    translated(grainy, tmp_path / "tile.png", out / "sar.png", THREE, overwrite=True)
    assert read(out / "sar_spread.png").request == read(out / "sar.png").request


def test_an_engine_makes_one_picture_and_says_so(tiny_engine: Engine, tmp_path: Path) -> None:
    image = Image.open(picture(tmp_path, SMALL))
    three = TO_SAR.model_copy(update={"samples": 3})
    alone, together = tiny_engine.run(three, image), sampled(tiny_engine, three, image)
    assert alone.request == together.rendering.request.model_copy(update={"samples": 1})
    parts = [tiny_engine.run(TO_SAR.model_copy(update={"seed": seed}), image).image for seed in (3, 4, 5)]
    assert parts[0] == alone.image
    assert np.allclose(together.mean, np.mean([np.asarray(part, float) for part in parts], axis=0), atol=2)
    assert together.rendering.details == {"batch": 3}


WORDS = TextRequest(prompt=Prompt(caption="a park"), bundle="tiny", seed=5, steps=2)


def test_words_become_a_picture_as_before_or_a_scene(tiny_engine: Engine, out: Path) -> None:
    settings = Settings(bundle="tiny")
    small = generate_file(tiny_engine, WORDS.model_copy(update={"width": 96}), out / "a.png", settings)
    plain = tiny_engine.run(WORDS.model_copy(update={"width": 96}))
    with Image.open(small.path) as made:
        assert made.tobytes() == plain.image.tobytes()
    assert read(small.path).request == plain.request == small.request
    large = WORDS.model_copy(update={"width": 200, "height": 104})
    done = generate_file(tiny_engine, large, out / "b.png", settings)
    assert done.windows > 4
    with Image.open(done.path) as made:
        assert (made.mode, made.size) == ("RGB", (200, 104))
        assert np.asarray(made).std() > 0
    truth = read(done.path)
    assert truth.details["windows"]["overlap"] == 16
    assert isinstance(truth.request, TextRequest)
    again = generate_file(tiny_engine, truth.request, out / "c.png", settings)
    assert Image.open(again.path).tobytes() == Image.open(done.path).tobytes()
    assert len(list(out.iterdir())) == 3
