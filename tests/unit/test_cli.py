"""The command line with a fake engine, and once with a real one on random weights."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.cli import _engine, main
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.provenance import read
from mmmrs_demo.request import Rendering, Step, TextRequest, TranslationRequest
from mmmrs_demo.settings import Settings
from tests import rasters
from tests.instant import InstantModel
from tests.one_by_one import OneByOne

ROOT = Path(__file__).resolve().parents[2]


class FakeEngine(OneByOne):
    """Paints the seed's colour, a step at a time; remembers what it was asked."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog = catalog
        self.settings = settings
        self.asked: list[tuple[TextRequest | TranslationRequest, Image.Image | None]] = []
        self.at_step: Callable[[Step], None] = lambda _: None
        self.at_window: Callable[[], None] = lambda: None

    def load(self, bundle: str) -> None:
        self.catalog.bundle(bundle)

    def tokenize(self, bundle: str, text: str) -> list[str]:
        self.catalog.bundle(bundle)
        return text.split()

    def run(
        self,
        request: TextRequest | TranslationRequest,
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Rendering:
        assert stop is None
        self.asked.append((request, image))
        total = request.steps or 0
        for index in range(1, total + 1):
            step = Step(index, total, None, float(index))
            self.at_step(step)
            if on_step:
                on_step(step)
        text = isinstance(request, TextRequest)
        modality = Modality.RGB if isinstance(request, TextRequest) else TRANSLATIONS[request.translation].target
        size = (request.width or 0, request.height or 0) if isinstance(request, TextRequest) else image.size  # type: ignore[union-attr]
        shade = (request.seed or 0) % 256
        return Rendering(
            image=Image.new(modality.mode, size, (shade, 0, 0) if text else shade),
            request=request,
            modality=modality,
            seconds=1.0,
            model={"bundle": request.bundle, "title": "Fake", "base": "fake sha256:0"},
            versions={"torch": "0"},
            created="2026-11-21T04:05:06+00:00",
        )

    def windows(
        self, request: TextRequest | TranslationRequest, stop: threading.Event | None = None
    ) -> tuple[TextRequest | TranslationRequest, InstantModel]:
        assert stop is None
        self.asked.append((request, None))
        request = request.model_copy(update={"scheduler": request.scheduler or "euler-a"})
        complete = self.catalog.bundle(request.bundle or self.settings.bundle).complete(request)
        return complete, InstantModel(self.catalog.bundle(complete.bundle or "").size, self.at_window)


class Shell:
    """Runs commands and keeps the engines they made."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.engines: list[FakeEngine] = []
        self.at_step: Callable[[Step], None] = lambda _: None
        self.at_window: Callable[[], None] = lambda: None
        self._capsys = capsys

    def make_engine(self, catalog: Catalog, settings: Settings) -> FakeEngine:
        self.engines.append(FakeEngine(catalog, settings))
        self.engines[-1].at_step, self.engines[-1].at_window = self.at_step, self.at_window
        return self.engines[-1]

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        """Return exit status, stdout and stderr."""
        try:
            status = main([str(word) for word in words], self.make_engine)
        except SystemExit as done:
            status = int(done.code or 0)
        return status, *self._capsys.readouterr()

    def refusal(self, *words: str | Path) -> str:
        """Return the one sentence that a refused command says."""
        status, out, err = self(*words)
        assert (status, out) == (2, "")
        assert re.fullmatch(r"mmmrs-demo.*: [^\n]+\.\n", err), err
        return err

    @property
    def request(self) -> TextRequest | TranslationRequest:
        return self.engines[-1].asked[-1][0]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    for name in ("MMMRS_WEIGHTS", "MMMRS_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    return Shell(capsys)


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    file = tmp_path / "tile.png"
    y, x = np.mgrid[0:40, 0:60]
    Image.fromarray(np.stack([4 * x, 250 - 4 * x, 6 * y], axis=-1).astype(np.uint8)).save(file)
    return file


def test_generate_as_in_the_readme(shell: Shell) -> None:
    options = shlex.split('--gsd high --weather snow --satellite "Google Earth" --seed 7 --out park.png')
    assert shell("generate", "a park in the city", *options) == (0, "park.png\n", "")
    assert isinstance(shell.request, TextRequest)
    assert shell.request.prompt.text == "High precision resolution, snow, a park in the city, Google Earth"
    assert (shell.request.seed, shell.request.bundle) == (7, "mini")
    assert None not in shell.request.model_dump().values()
    assert read("park.png").request == shell.request
    assert list(Path().iterdir()) == [Path("park.png")]


def test_every_option_reaches_the_request(shell: Shell, tile: Path) -> None:
    shared = shlex.split(
        "--steps 3 --guidance 2.5 --scheduler ddim --lora-scale 0.5 --negative clouds --bundle sd15 --seed 9"
    )
    shell("generate", "a park", *shared, "--width", "72", "--height", "128", "--out", "a.png")
    text = shell.request
    assert isinstance(text, TextRequest)
    assert (text.width, text.height) == (72, 128)
    shell("translate", "sar2rgb", _grey(tile), *shared, "--controlnet-scale", "0.25", "--caption", "a dam")
    translation = shell.request
    assert isinstance(translation, TranslationRequest)
    assert (translation.controlnet_scale, translation.translation) == (0.25, "sar2rgb")
    assert translation.prompt.text == "Low precision resolution, a dam, Sentinel-1"
    for request in (text, translation):
        assert (request.steps, request.guidance, request.scheduler, request.lora_scale) == (3, 2.5, "ddim", 0.5)
        assert (request.negative_prompt, request.bundle, request.seed) == ("clouds", "sd15", 9)
    assert shell.engines[-1].settings.bundle == "sd15"


def _grey(tile: Path) -> Path:
    file = tile.with_name("grey.png")
    Image.open(tile).convert("L").save(file)
    return file


@pytest.mark.parametrize(
    ("given", "level"),
    [
        ("high", "High"),
        ("ULTRA-LOW", "Ultra-low"),
        ("0.6m", "High"),
        (".6 m", "High"),
        ("60cm", "High"),
        ("0.3", "Ultra-high"),
        ("10m/px", "Low"),
        ("10.01 m", "Ultra-low"),
    ],
)
def test_gsd_in_words_and_metres(shell: Shell, given: str, level: str) -> None:
    assert shell("generate", "a park", "--gsd", given)[0] == 0
    assert shell.request.prompt.text == f"{level} precision resolution, a park"


def test_a_whole_prompt_is_understood_and_options_win(shell: Shell) -> None:
    whole = "High precision resolution, snow, a satellite image shows a park in the city, Google Earth"
    shell("generate", whole, "--seed", "1")
    assert (shell.request.prompt.weather, shell.request.prompt.text) == ("snow", whole)
    shell("generate", whole, "--weather", "clear", "--satellite", "gf2", "--gsd", "none", "--seed", "2")
    assert shell.request.prompt.text == "a satellite image shows a park in the city, GF2"


@pytest.mark.parametrize("key", TRANSLATIONS)
def test_translate_uses_the_papers_words_and_the_right_mode(shell: Shell, tile: Path, key: str) -> None:
    translation = TRANSLATIONS[key]
    source = tile if translation.source is Modality.RGB else _grey(tile)
    assert shell("translate", key, source, "--out", "out.png", "--seed", "5") == (0, "out.png\n", "")
    request, image = shell.engines[-1].asked[-1]
    assert request.prompt.text == f"Low precision resolution, {translation.caption}, {translation.satellite}"
    assert image is not None
    assert (image.mode, image.size) == (translation.source.mode, (60, 40))
    with Image.open("out.png") as picture:
        assert (picture.mode, picture.size) == (translation.target.mode, (60, 40))
    shell("translate", key, source, "--out", "none.png", "--satellite", "none", "--gsd", "2m")
    assert shell.request.prompt.text == f"Ordinary precision resolution, {translation.caption}"


def test_without_a_name_the_file_is_named_after_the_request(shell: Shell, tile: Path) -> None:
    assert shell("generate", "a park", "--seed", "3")[1] == "mmmrs_a-park_seed-3.png\n"
    Path("folder").mkdir()
    assert shell("translate", "rgb2nir", tile, "--seed", "3", "--out", "folder")[0] == 0
    assert [file.name for file in Path("folder").iterdir()] == [
        "mmmrs_rgb2nir_a-mountain-with-a-river-running-through_low_gf1_seed-3.png"
    ]


def test_a_seed_is_drawn_and_kept(shell: Shell) -> None:
    shell("generate", "a park", "--out", "a.png")
    shell("generate", "a park", "--out", "b.png")
    assert read("a.png").request.seed != read("b.png").request.seed


def test_nothing_is_overwritten_unasked(shell: Shell) -> None:
    Path("park.png").write_bytes(b"mine")
    assert "“park.png” is there already" in shell.refusal("generate", "a park", "--out", "park.png")
    assert Path("park.png").read_bytes() == b"mine"
    assert not shell.engines[-1].asked
    assert shell("generate", "a park", "--out", "park.png", "--overwrite")[0] == 0
    assert read("park.png").request.prompt.caption == "a park"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("generate x --steps 0", "at least 1"),
        ("generate x --steps 9999", "at most 150"),
        ("generate x --steps many", "--steps"),
        ("generate x --guidance nan", "guidance"),
        ("generate x --guidance 31", "at most 30"),
        ("generate x --seed 9223372036854775808", "seed"),
        ("generate x --seed -1", "seed"),
        ("generate x --width 100", "multiple of 8"),
        ("generate x --scheduler magic", "dpm++2m-karras"),
        ("generate x --bundle huge", "mini, sd15"),
        ("generate x --gsd medium", "ultra-high, high"),
        ("generate x --gsd 0m", "positive"),
        ("generate x --weather rain", "snow, fog, night"),
        ("generate x --satellite Landsat", "Google Earth"),
        ("generate x --out park.jpg", "should end in .png"),
        ("generate x --out no/where/park.png", "no folder “where”"),
        ("generate x --lora-scale 3", "at most 2"),
        ("generate", "caption"),
        ("translate rgb2dem tile.png", "rgb2sar"),
        ("translate rgb2sar gone.png", "no file “gone.png”"),
        ("translate sar2rgb tile.png", "colour"),
        ("translate rgb2sar tile.png --controlnet-scale -1", "at least 0"),
        ("show gone.png", "no file “gone.png”"),
        ("show tile.png", "“tile.png” carries no request"),
        ("show .", "not a file"),
        ("serve --port 99999", "65,535"),
        ("paint x", "invalid choice"),
        ("generate x --colour red", "--colour"),
    ],
)
@pytest.mark.usefixtures("tile")
def test_what_is_wrong_is_said_in_a_sentence(shell: Shell, words: str, says: str) -> None:
    assert says.lower() in shell.refusal(*words.split()).lower()
    assert [file.name for file in Path().iterdir()] == ["tile.png"]


def test_long_captions(shell: Shell) -> None:
    assert "1000" in shell.refusal("generate", "word " * 1000)


def test_wrong_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMMRS_MAX_SIDE", "wide")
    assert "MMMRS_MAX_SIDE cannot be “wide”: it should be a whole number above 0." in shell.refusal("weights")
    monkeypatch.delenv("MMMRS_MAX_SIDE")
    monkeypatch.setenv("MMMRS_WEIGHTS", "nowhere")
    assert "catalog" in shell.refusal("generate", "x")


def test_missing_weights_say_what_to_do(shell: Shell) -> None:
    def refuse(_: Step) -> None:
        raise UserError("There is no LoRA for mini yet: train one.")

    shell.at_step = refuse
    assert "train one" in shell.refusal("generate", "x", "--out", "x.png")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, Stopped])
def test_stop_leaves_nothing(shell: Shell, stopped: type[BaseException]) -> None:
    def stop(step: Step) -> None:
        if step.index == 2:
            raise stopped

    shell.at_step = stop
    assert shell("generate", "a park", "--out", "park.png") == (130, "", "mmmrs-demo: Stopped.\n")
    assert not list(Path().iterdir())


def test_a_failed_save_leaves_what_was_there(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("park.png").write_bytes(b"mine")

    def full(picture: Rendering, file: io.BufferedWriter) -> None:
        file.write(b"half of " + bytes(str(picture.modality), "ascii"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmmrs_demo.make.save_png", full)
    said = shell.refusal("generate", "a park", "--out", "park.png", "--overwrite")
    assert "No space left on device" in said
    assert [file.read_bytes() for file in Path().iterdir()] == [b"mine"]


def test_files_get_usual_rights(shell: Shell) -> None:
    Path("plain").touch()
    shell("generate", "a park", "--out", "park.png")
    assert Path("park.png").stat().st_mode == Path("plain").stat().st_mode


def test_ctrl_c_in_a_real_shell(tmp_path: Path) -> None:
    script = """
import signal, sys, time
from test_cli import FakeEngine
from mmmrs_demo.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would ignore it
class Slow(FakeEngine):
    def run(self, request, image=None, on_step=None, stop=None):
        def wait(step):
            print("step", flush=True)
            time.sleep(60)
        self.at_step = wait
        return super().run(request, image, on_step, stop)
sys.exit(main(["generate", "a park", "--out", "park.png"], Slow))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "step\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "mmmrs-demo: Stopped.\n")
    assert not list(tmp_path.iterdir())


def test_progress_on_a_terminal_only(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("generate", "a park", "--steps", "4", "--overwrite", "--out", "park.png")
    assert shell(*words)[2] == ""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
    shown = shell(*words)[2].replace("\x1b[K", "").split("\r")
    assert shown[1].startswith("Loading Mini")
    assert shown[2:] == [f"Step {k}/4, {4 - k} s left" for k in (1, 2, 3, 4)] + [""]
    assert shell(*words, "--quiet") == (0, "park.png\n", "")


def test_a_prompt_longer_than_the_model_reads_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
    status, _, err = shell("generate", "word " * 74 + "one two three")
    assert status == 0
    assert "will be ignored: “two three”" in err


def test_show(shell: Shell, tile: Path) -> None:
    shell("generate", "a park, 公园", "--gsd", "high", "--seed", "7", "--negative", "haze", "--out", "park.png")
    status, out, _ = shell("show", "park.png")
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines())
    assert status == 0
    assert facts["Prompt"] == "High precision resolution, a park, 公园"
    assert (facts["Seed"], facts["Negative prompt"], facts["Bundle"]) == ("7", "haze", "mini, Fake")
    assert facts["Scheduler"] == "DPM++ 2M Karras"
    assert "synthetic" in facts["Shows"]
    assert facts["Created"] == "2026-11-21 04:05:06 UTC"
    shell("translate", "rgb2sar", tile, "--out", "sar.png")
    assert "RGB → SAR" in shell("show", "sar.png")[1]


def test_show_json_is_a_request_that_runs_again(shell: Shell) -> None:
    shell("generate", "a park", "--out", "park.png")
    facts = json.loads(shell("show", "park.png", "--json")[1])
    assert TextRequest.model_validate(facts["request"]) == shell.request
    assert facts["synthetic"] is True


def test_show_does_not_let_a_file_command_the_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("generate", "a park", "--out", "park.png")
    found = read("park.png")
    hostile = found.model_copy(update={"model": {"title": "\x1b]0;owned\x07\nSeed  8"}})
    monkeypatch.setattr("mmmrs_demo.cli.show.read", lambda _: hostile)
    out = shell("show", "park.png")[1]
    assert "\x1b" not in out
    assert "\nSeed  8" not in out


def test_weights_table(shell: Shell) -> None:
    status, out, _ = shell("weights")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split() == ["bundle", "part", "present", "size", "licence", "where"]
    assert sum(line.startswith("mini ") for line in lines) == 6
    assert "stable-diffusion-v1-5@" in out
    assert "no RGB → SAR ControlNet for sd15 yet" in out


def test_serve_hands_on_host_and_port(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[str, dict[str, object]]] = []

    def serve(engine: FakeEngine, _: Catalog, settings: Settings, **launch: object) -> None:
        assert engine is shell.engines[-1]
        served.append((settings.bundle, launch))

    monkeypatch.setattr("mmmrs_demo.ui.serve", serve)
    assert shell("serve", "--host", "0.0.0.0", "--port", "8080", "--bundle", "sd15")[0] == 0  # noqa: S104
    assert shell("serve")[0] == 0
    assert served == [
        ("sd15", {"server_name": "0.0.0.0", "server_port": 8080}),  # noqa: S104
        ("mini", {"server_name": None, "server_port": None}),
    ]


def test_a_taken_port_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr("mmmrs_demo.ui.serve", taken)
    assert "choose another --port" in shell.refusal("serve")


def test_help_is_for_people(shell: Shell) -> None:
    for words in ([], ["--help"]):
        status, out, _ = shell(*words)
        assert status == 0
        for command in ("serve", "generate", "translate", "show", "weights", "train"):
            assert f"    {command} " in out
    for command in ("serve", "generate", "translate", "show"):
        assert f"  mmmrs-demo {command}" in shell(command, "--help")[1].split("examples:")[1]
    assert "usage: mmmrs-demo train" in shell("train", "--help")[1]
    assert re.fullmatch(r"mmmrs-demo \d+\.\d+\.\d+\n", shell("--version")[1])


def test_no_help_loads_torch_and_only_train_loads_training(tmp_path: Path) -> None:
    script = """
import sys
from mmmrs_demo.cli import main
for words in (["--help"], ["generate", "--help"], ["weights"], ["serve", "--help"], ["show", "gone.png"]):
    try:
        main(words)
    except SystemExit:
        pass
loaded = [name for name in ("torch", "gradio", "diffusers", "mmmrs_demo.training") if name in sys.modules]
assert not loaded, loaded
try:
    main(["train", "--help"])
except SystemExit:
    pass
assert "mmmrs_demo.training" in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)


def test_python_m(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mmmrs_demo", "show", "gone.png"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mmmrs-demo: There is no file “gone.png”: check its name and folder.\n"


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import tiny

    weights = tmp_path_factory.mktemp("weights")
    tiny.write_base(weights / "mini", seed=1, embedded=True)
    tiny.write_lora(weights / "mini", weights / "mini" / "lora")
    tiny.write_controlnet(weights / "mini", weights / "mini" / "controlnet" / "rgb2sar", seed=2)
    (weights / "catalog.toml").write_text(tiny.table("mini"), encoding="utf-8")
    return weights


def test_with_a_real_engine_the_same_words_give_the_same_pixels(
    random_weights: Path, shell: Shell, tile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMMRS_WEIGHTS", str(random_weights))
    shell.make_engine = _engine  # type: ignore[assignment, method-assign]
    for words in (("generate", "a park", "--gsd", "high"), ("translate", "rgb2sar", str(tile))):
        for name, seed in (("a.png", "7"), ("b.png", "7"), ("c.png", "8")):
            assert shell(*words, "--seed", seed, "--out", name, "--overwrite") == (0, f"{name}\n", "")
        first, again, other = (Image.open(name).tobytes() for name in ("a.png", "b.png", "c.png"))
        assert first == again
        assert first != other
        assert "Model: base" in shell("show", "a.png")[1]
    assert "no RGB → NIR ControlNet for mini yet" in shell.refusal("translate", "rgb2nir", tile, "--out", "d.png")


def test_a_geotiff_says_what_was_assumed_and_becomes_one(shell: Shell) -> None:
    rasters.write(Path("tile.tif"), rasters.pattern(4, low=900, high=9000).astype("uint16"))
    status, out, err = shell("translate", "rgb2nir", "tile.tif", "--out", "nir.tif", "--bands", "4, 3,2", "--seed", "1")
    assert (status, out) == (0, "nir.tif\n")
    assert err.startswith("Bands 4, 3 and 2 are read as red, green and blue: as chosen.\nBlack is")
    assert read("nir.tif").request == shell.request
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in shell("show", "nir.tif")[1].splitlines())
    assert shown["Bands"] == "4, 3, 2"
    assert shown["Input range"].endswith(" DN")
    assert shell("translate", "rgb2sar", "tile.tif", "--units", "--quiet", "--out", "db.tif") == (0, "db.tif\n", "")
    with rasterio.open("db.tif") as made:
        assert made.dtypes == ("float32",)


def test_sar_as(shell: Shell) -> None:
    rasters.write(Path("vv.tif"), rasters.pattern(1, low=0.01, high=0.9).astype("float32"), names=("VV",))
    for word in ("db", "power", "amplitude"):
        err = shell("translate", "sar2rgb", "vv.tif", "--sar-as", word, "--out", f"{word}.tif")[2]
        assert f"Taken as {word}, as chosen".lower() in err.lower()
    assert "--sar-as" in shell.refusal("translate", "sar2rgb", "vv.tif", "--sar-as", "phase")


def shown(text: str) -> dict[str, str]:
    return dict(re.split(r"  +", line, maxsplit=1) for line in text.splitlines())


def test_samples_become_their_mean_and_spread(shell: Shell, tile: Path) -> None:
    words = ("translate", "rgb2sar", tile, "--samples", "3", "--seed", "7")
    assert shell(*words, "--out", "mean.png") == (0, "mean.png\nmean_spread.png\n", "")
    assert [request.seed for request, _ in shell.engines[-1].asked] == [7, 8, 9]
    for name, level in (("mean", 8), ("mean_spread", 1)):
        with Image.open(f"{name}.png") as picture:
            assert (picture.mode, picture.getextrema()) == ("L", (level, level))
        assert shown(shell("show", f"{name}.png")[1])["Samples"] == "3"
    assert shown(shell("show", "mean_spread.png")[1])["Spread"] == "standard deviation of the samples, in grey levels"
    rasters.write(Path("tile.tif"), rasters.pattern(3, high=255).astype("uint8"))
    assert shell(*words[:2], "tile.tif", *words[3:], "--out", "mean.tif", "--quiet") == (0, "mean.tif\n", "")
    with rasterio.open("mean.tif") as made:
        assert [(int(band.min()), int(band.max())) for band in made.read()] == [(8, 8), (1, 1)]
    assert "Samples should be at most 16, not 17" in shell.refusal(*words[:3], "--samples", "17")


def test_a_reference_is_compared_with(shell: Shell, tile: Path) -> None:
    Image.new("L", (60, 40), 17).save("real.png")
    words = ("translate", "rgb2sar", tile, "--seed", "7", "--out", "sar.png")
    status, out, err = shell(*words, "--reference", "real.png")
    path, *facts = out.splitlines()
    assert (status, path) == (0, "sar.png")
    assert shown("\n".join(facts)) == {"PSNR": "28.1 dB", "SSIM": "0.71", "backscatter error": "0.98 dB"}
    assert err == "Black to white are taken for -25 to 0 dB in the result and in the reference.\n"
    Image.new("L", (61, 40)).save("real.png")
    engines = len(shell.engines)
    for reference, says in (("real.png", "61 by 40 px and the result 60 by 40 px"), ("gone.png", "no file “gone.png”")):
        assert says in shell.refusal(*words, "--overwrite", "--reference", reference)
    assert len(shell.engines) == engines
    assert "is a colour picture" in shell.refusal(*words, "--overwrite", "--reference", tile)


def test_a_folder_of_references(shell: Shell, folder: Path) -> None:
    (folder / "broken.jpg").unlink()
    real = Path("real")
    (real / "scenes").mkdir(parents=True)
    Image.new("L", (60, 40), 17).save(real / "tile.jpg")
    Image.new("L", (60, 41)).save(real / "inner.png")
    words = ("translate", "rgb2sar", "tiles", "--seed", "7", "--samples", "2", "--out", "out")
    assert "folder of references" in shell.refusal(*words, "--reference", "real/tile.jpg")
    assert shell(*words, "--quiet")[0] == 0
    assert {entry["comparison"] for entry in manifest().values()} == {None}
    status, out, err = shell(*words, "--reference", "real", "--quiet")  # what is there is compared, and not made anew
    assert (status, shell.engines[-1].asked) == (1, [])
    assert out.splitlines()[:4] == ["out/inner.png", "out/inner_spread.png", "out/tile.png", "out/tile_spread.png"]
    assert list(shown("\n".join(out.splitlines()[4:]))) == ["PSNR", "SSIM", "backscatter error"]
    assert err == "“inner.png” is 60 by 41 px and the result 60 by 40 px: choose a reference of the same size.\n"
    entries = manifest()
    assert entries["tile.png"]["spread"] == "tile_spread.png"
    assert entries["tile.png"]["comparison"]["error_name"] == "backscatter error"
    assert entries["inner.png"]["comparison"] == {"problem": err.strip()}
    assert (entries["inner.png"]["error"], entries["scenes/large.tif"]["comparison"]) == ("", None)
    Image.new("L", (60, 40)).save(real / "inner.png")
    rasters.write(real / "scenes" / "large.tif", rasters.pattern(1, 300, 500, high=255).astype("uint8"), names=("VV",))
    Path("out/tile_spread.png").unlink()
    status, out, _ = shell(*words, "--reference", "real")
    assert (status, [request.seed for request, _ in shell.engines[-1].asked]) == (0, [7, 8])  # for the spread that went
    assert out.count("PSNR") == len([entry for entry in manifest().values() if entry["comparison"]["psnr"]]) == 3


def test_a_manifest_from_before_there_were_samples(shell: Shell, folder: Path) -> None:
    (folder / "broken.jpg").unlink()
    words = ("translate", "rgb2sar", "tiles", "--seed", "7", "--out", "out")
    assert shell(*words, "--quiet")[0] == 0
    older = [entry for entry in manifest().values() if entry.pop("spread") == "" and entry.pop("comparison") is None]
    assert len(older) == 3
    assert all("samples" not in entry["request"] | entry["settings"]["request"] for entry in older)
    Path("out/manifest.json").write_text(json.dumps(older), encoding="utf-8")
    assert shell(*words)[2].splitlines()[-1] == "3 skipped: out/manifest.csv says more."


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("tile.tif --bands red", "numbers with commas"),
        ("tile.tif --bands 1,2", "needs three bands"),
        ("tile.tif --bands 1,2,9", "has no band 9"),
        ("tile.tif --out a.jpg", "should end in .tif or .tiff or .png"),
        ("tile.png --out a.tif", "ends in .png"),
        ("tile.png --units", "leave the units out"),
        ("tile.png tile.tif", "name one with --out"),
        ("tile.png gone.tif --out out", "no file “gone.tif”"),
        ("empty --out out", "no picture and no raster in “empty”"),
        ("tile.png tile.tif --out tile.png", "name one with --out"),
        ("tile.png tile.tif --out .", "choose another folder"),
        ("tile.png empty/../tile.png --out out", "both become"),
    ],
)
def test_what_is_wrong_with_files_is_said_in_a_sentence(shell: Shell, tile: Path, words: str, says: str) -> None:
    rasters.write(tile.with_name("tile.tif"), rasters.pattern(4, high=255).astype("uint8"))
    Path("empty").mkdir()
    assert says in shell.refusal("translate", "rgb2sar", *words.split())
    assert {file.name for file in Path().iterdir()} == {"tile.png", "tile.tif", "empty"}


@pytest.fixture
def folder(tile: Path) -> Path:
    """A folder of a picture, a scene in a folder of its own, a broken file, and what is to be passed over."""
    root = tile.parent / "tiles"
    (root / "scenes" / ".hidden").mkdir(parents=True)
    tile.rename(root / "tile.png")
    rasters.write(root / "scenes" / "large.tiff", rasters.pattern(4, 300, 500, high=255).astype("uint8"))
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (root / "notes.txt").write_text("not a picture", encoding="utf-8")
    (root / "scenes" / ".hidden" / "tile.png").write_bytes(b"")
    (tile.parent / "secret.png").write_bytes(b"outside")
    (root / "link.png").symlink_to(tile.parent / "secret.png")
    (root / "inner.png").symlink_to(root / "tile.png")
    (root / "up").symlink_to(tile.parent)
    return root


def manifest(out: str = "out") -> dict[str, dict[str, Any]]:
    entries = json.loads(Path(out, "manifest.json").read_text(encoding="utf-8"))
    with Path(out, "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["input"], row["output"], row["sha256"], row["error"]) for row in rows] == [
        (entry["input"], entry["output"], entry["sha256"], entry["error"]) for entry in entries
    ]
    return {entry["output"]: entry for entry in entries}


def made_in(out: str) -> set[str]:
    return {file.relative_to(out).as_posix() for file in Path(out).rglob("*") if file.is_file()}


WHOLE_FOLDER = {"tile.png", "inner.png", "scenes/large.tif", "manifest.csv", "manifest.json"}


def test_a_folder_becomes_one_of_the_same_names(shell: Shell, folder: Path) -> None:
    status, out, err = shell("translate", "rgb2sar", "tiles", "--seed", "7", "--out", "out")
    assert status == 1
    assert out.splitlines() == ["out/inner.png", "out/tile.png", "out/scenes/large.tif"]
    assert made_in("out") == WHOLE_FOLDER
    assert "“broken.jpg” is damaged" in err
    assert "“link.png” and other links lead out of “tiles”" in err
    assert err.splitlines()[-1] == "3 made, 1 failed: out/manifest.csv says more."
    entries = manifest()
    assert set(entries) == WHOLE_FOLDER - {"manifest.csv", "manifest.json"} | {"broken.png"}
    assert "is damaged" in entries["broken.png"]["error"]
    large = entries["scenes/large.tif"]
    assert large["input"] == "tiles/scenes/large.tiff"
    assert large["sha256"] == hashlib.sha256(Path("out/scenes/large.tif").read_bytes()).hexdigest()
    assert (large["windows"], large["settings"]["request"]["seed"], large["error"]) == (6, 7, "")
    assert read("out/scenes/large.tif").request == TranslationRequest.model_validate(large["request"])
    assert folder.is_dir()


def test_what_is_done_is_skipped_and_changed_settings_are_not(shell: Shell, folder: Path) -> None:
    words = ("translate", "rgb2sar", "tiles", "--quiet", "--out", "out")
    assert shell(*words)[0] == 1
    first = {name: entry["sha256"] for name, entry in manifest().items()}
    (folder / "broken.jpg").unlink()
    status, out, err = shell("translate", "rgb2sar", "tiles", "--out", "out")
    assert (status, out, shell.engines[-1].asked) == (0, "", [])
    assert err.splitlines()[-1] == "3 skipped: out/manifest.csv says more."
    assert {name: entry["sha256"] for name, entry in manifest().items()} == first
    Image.new("RGB", (50, 50)).save(folder / "tile.png")  # inner.png shows the same file
    Path("out/scenes/large.tif").unlink()
    assert shell(*words)[1].splitlines() == ["out/inner.png", "out/tile.png", "out/scenes/large.tif"]
    assert shell(*words)[1] == ""
    assert len(shell(*words, "--steps", "3")[1].splitlines()) == 3
    assert all(entry["settings"]["request"]["steps"] == 3 for entry in manifest().values() if not entry["error"])
    assert len(shell(*words, "--steps", "3", "--overwrite")[1].splitlines()) == 3


def test_a_strangers_file_is_not_replaced(shell: Shell, tile: Path) -> None:
    Path("tiles").mkdir()
    tile.rename("tiles/tile.png")
    Path("out").mkdir()
    Path("out/tile.png").write_bytes(b"mine")
    words = ("translate", "rgb2sar", "tiles", "--out", "out")
    assert (shell(*words)[0], shell(*words)[0]) == (1, 1)
    assert Path("out/tile.png").read_bytes() == b"mine"
    assert shell(*words, "--overwrite")[0] == 0
    assert read("out/tile.png").request == shell.request
    Path("out/manifest.json").write_text("[1]", encoding="utf-8")
    assert "move it away" in shell.refusal(*words)


def test_several_files_and_folders(shell: Shell, folder: Path) -> None:
    status, out, _ = shell(
        "translate", "rgb2sar", folder / "tile.png", folder / "scenes", "--out", "deep/out", "--quiet"
    )
    assert (status, out.splitlines()) == (0, ["deep/out/tile.png", "deep/out/large.tif"])
    shell("translate", "rgb2sar", "tiles", "--out", "tiles/sar", "--quiet")
    status, out, _ = shell("translate", "rgb2sar", "tiles", "--out", "tiles/sar", "--quiet")
    assert (status, out) == (1, "")  # the broken one again, and none of its own results


def test_stop_in_a_folder_keeps_what_is_done(shell: Shell, folder: Path) -> None:
    words = ("translate", "rgb2sar", "tiles", "--out", "out", "--quiet")
    seen = []

    def interrupt() -> None:
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt

    shell.at_window = interrupt
    assert shell(*words)[0] == 130
    assert set(manifest()) == {"broken.png", "inner.png", "tile.png"}
    (work,) = Path("out/scenes").iterdir()
    seed = json.loads((work / "request.json").read_text(encoding="utf-8"))["seed"]
    (folder / "broken.jpg").unlink()
    assert shell(*words)[:2] == (0, "out/scenes/large.tif\n")
    assert manifest()["scenes/large.tif"]["request"]["seed"] == seed
    assert [file.name for file in Path("out/scenes").iterdir()] == ["large.tif"]


def test_a_failure_inside_the_program_does_not_end_a_folder(shell: Shell, folder: Path) -> None:
    def fail(_: Step) -> None:
        raise RuntimeError("three is no tensor")

    shell.at_step = fail
    status, out, err = shell("translate", "rgb2sar", "tiles", "--out", "out")
    assert (status, out) == (1, "out/scenes/large.tif\n")
    assert "“tile.png” failed inside the program (RuntimeError), whose log says why." in err
    assert folder.is_dir()


def test_windows_and_time_left_on_a_terminal(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
    (folder / "broken.jpg").unlink()
    _, _, err = shell("translate", "rgb2sar", "tiles", "--out", "out", "--steps", "3")
    shown = err.replace("\x1b[K", "").split("\r")
    assert "1/3 inner.png: Step 1/3, 2 s left" in shown
    assert "3/3 large.tiff: Window 6/18, 0 s left" in shown
    assert "3 made" in shown[-2]


def test_words_beyond_the_native_size(shell: Shell) -> None:
    assert shell("generate", "a park", "--width", "512", "--seed", "7", "--out", "park.png") == (0, "park.png\n", "")
    with Image.open("park.png") as picture:
        assert picture.size == (512, 512)
    shown = shell("show", "park.png")[1]
    assert re.search(r"Windows +9 of 256 px, 64 px in common", shown)
    assert re.search(r"Scheduler +Euler ancestral", shown)
