"""A real Ray cluster of two workers gives what one engine gives, whoever of them is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.cli import main
from mmmrs_demo.cluster import Factory, connect
from mmmrs_demo.errors import UserError
from mmmrs_demo.files import whole
from mmmrs_demo.make import translate_file
from mmmrs_demo.provenance import read
from mmmrs_demo.request import Rendering, TranslationRequest
from mmmrs_demo.settings import Settings
from tests import rasters
from tests.instant import InstantEngine, InstantModel

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
TO_SAR = TranslationRequest(translation="rgb2sar", bundle="mini", seed=3)

HEAD = """
import ray, sys
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a cluster with room for two workers, of one thread each as the engine here has."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    own = os.environ | {"RAY_ADDRESS": "local", "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", HEAD], env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as head:
        assert head.stdout is not None
        assert head.stdin is not None
        yield head.stdout.readline().strip()
        head.stdin.close()
    torch.set_num_threads(threads)


@pytest.fixture
def here(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the commands run, with a catalog and the cluster's address."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # workers import this file
    (tmp_path / "weights").mkdir()
    InstantEngine(tmp_path / "weights")
    monkeypatch.setenv("MMMRS_WEIGHTS", "weights")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Watched(InstantEngine):
    """Notes whatever it is asked in a file, and from the request `hold` on waits until there is one called go."""

    def __init__(self, hold: int, notes: Path, catalog: Catalog, _: Settings) -> None:
        self.catalog, self.notes, self.hold = catalog, notes, hold
        self.at_window = self.note

    def note(self) -> None:
        with self.notes.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        while len(noted(self.notes)) > self.hold and not self.notes.with_name("go").exists():
            time.sleep(0.01)

    def run(self, *args: Any, **options: Any) -> Rendering:
        self.note()
        return super().run(*args, **options)

    def load(self, _: str) -> None:
        raise NotImplementedError

    def tokenize(self, _: str, __: str) -> list[str]:
        raise NotImplementedError


class Deadly(Watched):
    """Kills the process that shows it a picture which begins white."""

    def run(self, *args: Any, **options: Any) -> Rendering:
        if args[1].getpixel((0, 0)) == (255, 255, 255):
            self.note()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(*args, **options)


class Different(Watched):
    """Differs from process to process, and lets none look before there are two."""

    def note(self) -> None:
        until(lambda: len(set(noted(self.notes))) == 2)

    def windows(self, *args: Any) -> tuple[Any, InstantModel]:
        with self.notes.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        request, model = super().windows(*args)
        model.model["base"] = f"process {os.getpid()}"
        return request, model


def noted(notes: Path) -> list[int]:
    return [int(line) for line in notes.read_text(encoding="utf-8").splitlines()] if notes.exists() else []


def until(happened: Callable[[], object]) -> None:
    """Wait for what does happen."""
    while not happened():
        time.sleep(0.01)


def dead(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "Z"


@pytest.fixture
def tiles(here: Path) -> Path:
    """A folder of small pictures, one of them broken, and a scene between them."""
    (here / "tiles").mkdir()
    for index, name in enumerate(("a", "b", "d", "e")):
        pixels = rasters.pattern(3, 60, 70, low=10 * index, high=250).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(here / "tiles" / f"{name}.png")
    rasters.write(here / "tiles" / "c.tif", rasters.pattern(3, 130, 200, low=20, high=250).astype(np.uint8))
    (here / "tiles" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    return here / "tiles"


def scene(folder: Path) -> Path:
    return rasters.write(folder / "scene.tif", rasters.pattern(3, 130, 400, low=20, high=250).astype(np.uint8))


def told(file: Path) -> dict[str, Any]:
    return read(file).model_dump(exclude={"created"})


def same(one: Path, two: Path) -> None:
    """Assert that two results have the same pixels and say the same of themselves but for the time."""
    first, second = (
        np.asarray(Image.open(file)) if file.suffix == ".png" else rasterio.open(file).read() for file in (one, two)
    )
    assert np.array_equal(first, second)
    assert first.std() > 0
    assert told(one) == told(two)


def manifest(out: str) -> list[dict[str, Any]]:
    entries = json.loads(Path(out, "manifest.json").read_text(encoding="utf-8"))
    return [{key: entry[key] for key in entry if key not in ("sha256", "seconds")} for entry in entries]


def same_folders() -> None:
    """Assert the same of what was made of the tiles in the folders one and two."""
    assert manifest("one") == manifest("two")
    assert {file.name for file in Path("one").iterdir()} == {file.name for file in Path("two").iterdir()}
    for name in ("a.png", "b.png", "c.tif", "d.png", "e.png"):
        same(Path("one", name), Path("two", name))


@pytest.mark.usefixtures("tiles")
def test_models_give_the_same_to_the_last_bit(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMMRS_WEIGHTS", str(tiny_weights))
    said: list[Any] = []
    for engine, out in (("local", "one"), ("ray", "two")):
        words = ["--bundle", "tiny", "--steps", "2", "--seed", "7", "--engine", engine, "--out", out]
        status = main(["translate", "rgb2sar", "tiles", *words])
        said.append((status, *(text.replace(f"{out}/", "") for text in capsys.readouterr())))
    assert said[0] == said[1]
    assert said[0][:2] == (1, "a.png\nb.png\nc.tif\nd.png\ne.png\n")
    assert "“broken.jpg” is damaged" in said[0][2]
    same_folders()


def killing(notes: Path, held: int) -> threading.Thread:
    """Begin to wait for so many requests; kill the worker that holds the last of them, and let the others go on."""

    def kill() -> None:
        until(lambda: len(noted(notes)) >= held)
        os.kill(worker := noted(notes)[held - 1], signal.SIGKILL)
        until(lambda: dead(worker))
        notes.with_name("go").touch()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.usefixtures("tiles")
def test_files_survive_their_workers(here: Path) -> None:
    notes, factory = here / "notes", partial(Watched, 0, here / "notes")
    notes.with_name("go").touch()
    main(["translate", "rgb2sar", "tiles", "--seed", "3", "--out", "one", "--quiet"], factory)
    asked = noted(notes)
    notes.unlink()
    notes.with_name("go").unlink()
    killer = killing(notes, 2)  # each of the two holds a file
    words = ["translate", "rgb2sar", "tiles", "--seed", "3", "--out", "two", "--quiet", "--engine", "ray"]
    assert main(words, factory) == 1
    killer.join()
    assert len(noted(notes)) == len(asked) + 1  # one was tried again
    assert len(set(noted(notes)[:2])) == 2
    same_folders()
    until(lambda: all(dead(process) for process in noted(notes)))


def test_a_scene_survives_its_workers(here: Path) -> None:
    file, notes, settings = scene(here), here / "notes", Settings()
    notes.with_name("go").touch()
    engine = Watched(0, notes, Catalog.load(here / "weights"), settings)
    translate_file(engine, TO_SAR, file, here / "one.tif", settings)
    asked = len(noted(notes))
    notes.unlink()
    notes.with_name("go").unlink()
    with connect(partial(Watched, 5, notes), engine.catalog, settings) as cluster:
        killer = killing(notes, 6)
        done = translate_file(cluster, TO_SAR, file, here / "two.tif", settings)
        killer.join()
    assert done.windows > 8
    assert len(noted(notes)) == asked + 1
    same(here / "one.tif", here / "two.tif")
    until(lambda: all(dead(process) for process in noted(notes)))


def test_what_kills_every_worker_is_noted_and_the_rest_done(tiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tiles.parent / "notes"
    (tiles.parent / "go").touch()
    Image.new("RGB", (50, 50), "white").save(tiles / "b.png")
    (tiles / "c.tif").unlink()
    assert main(["translate", "rgb2sar", "tiles", "--out", "out", "--engine", "ray"], partial(Deadly, 0, notes)) == 1
    out, err = capsys.readouterr()
    assert out == "out/a.png\nout/d.png\nout/e.png\n"
    assert "lost 3 workers over this" in err
    assert len(noted(notes)) == 3 + 3


def ctrl_c(words: list[str], hold: int, held: int) -> tuple[int, str]:
    """Run a command on the cluster in a process of its own and stop it once so many requests are held."""
    script = f"""
import signal, sys
from functools import partial
from pathlib import Path
from mmmrs_demo.cli import main
from tests.unit.test_cluster import Watched
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would ignore it
sys.exit(main(sys.argv[1:], partial(Watched, {hold}, Path("notes").resolve())))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, *words, "--engine", "ray"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until(lambda: len(noted(Path("notes"))) >= held or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    until(lambda: all(dead(worker) for worker in noted(Path("notes"))))
    own = [line for line in err.splitlines() if not line.startswith("[")]  # Ray's C++ may note what was cut off
    return process.returncode, "\n".join(own)


@pytest.mark.usefixtures("tiles")
def test_ctrl_c_ends_files_at_once() -> None:
    status, err = ctrl_c(["translate", "rgb2sar", "tiles", "--out", "out"], hold=0, held=2)
    assert (status, err) == (130, "mmmrs-demo: Stopped.")
    assert not [file for file in Path("out").iterdir() if "manifest" not in file.name]


def test_a_stopped_scene_goes_on_without_the_cluster(here: Path) -> None:
    words = ["translate", "rgb2sar", str(scene(here)), "--out", "scene_sar.tif"]
    assert ctrl_c(words, hold=10, held=11) == (130, "mmmrs-demo: Stopped.")
    assert not Path("scene_sar.tif").exists()
    before = len(noted(here / "notes"))
    notes, factory = here / "notes", partial(Watched, 0, here / "notes")
    (here / "go").touch()
    assert main([*words, "--quiet"], factory) == 0
    went_on = len(noted(notes)) - before
    request = read("scene_sar.tif").request
    assert isinstance(request, TranslationRequest)
    catalog = Catalog.load(here / "weights")
    translate_file(factory(catalog, Settings()), request, here / "scene.tif", here / "whole.tif", Settings())
    assert 0 < went_on < len(noted(notes)) - before - went_on
    same(here / "scene_sar.tif", here / "whole.tif")


def test_workers_that_differ_make_no_scene_together(here: Path) -> None:
    catalog, settings = Catalog.load(here / "weights"), Settings()
    with (
        connect(partial(Different, 0, here / "notes"), catalog, settings) as cluster,
        pytest.raises(UserError, match="differ"),
    ):
        translate_file(cluster, TO_SAR, scene(here), here / "sar.tif", settings)
    assert not (here / "sar.tif").exists()


def test_without_a_cluster_one_is_started_and_shut_down(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr("mmmrs_demo.engine.threads", lambda: 10_000)
    (here / "go").touch()
    with connect(partial(Parent, 0, here / "notes"), Catalog.load(here / "weights"), Settings()) as cluster:
        assert cluster.workers == 1
        parent = int(cluster.run(TO_SAR, Image.new("RGB", (64, 64))).versions["parent"])
        assert not dead(parent)
    until(lambda: dead(parent) and all(dead(process) for process in noted(here / "notes")))
    import ray

    assert not ray.is_initialized()


class Parent(Watched):
    """Says who started it."""

    def run(self, *args: Any, **options: Any) -> Rendering:
        return super().run(*args, **options).model_copy(update={"versions": {"parent": str(os.getppid())}})


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda patch: patch.setitem(sys.modules, "ray", None), r"needs ray: .*pip install 'mmmrs-demo\[ray\]'\.$"),
        (lambda patch: patch.setenv("RAY_ADDRESS", "127.0.0.1:1"), r"No Ray cluster answers at 127\.0\.0\.1:1: .*\.$"),
    ],
    ids=["no ray", "no cluster"],
)
def test_what_is_missing_is_said(
    prepare: Callable[[pytest.MonkeyPatch], None], says: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory: Factory = partial(Watched, 0, here / "notes")
    prepare(monkeypatch)
    with (
        pytest.raises(UserError, match=says),
        connect(factory, Catalog.load(here / "weights"), Settings()),
    ):
        raise AssertionError


def test_threads_write_into_one_folder(tmp_path: Path) -> None:
    def write() -> None:
        with whole(tmp_path / "second") as file:
            file.write(b"second")

    thread = threading.Thread(target=write)
    with whole(tmp_path / "first") as file:
        file.write(b"first")
        thread.start()
        thread.join()
    assert [(file.name, file.read_text()) for file in sorted(tmp_path.iterdir())] == [
        ("first", "first"),
        ("second", "second"),
    ]
