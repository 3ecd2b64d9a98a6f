"""Grids: what differs, what is shared, what is remembered, and the sheet; and the command that makes them."""

from __future__ import annotations

import json
import shlex
import threading
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmrs_demo import grid as grids
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.grid import DESCRIPTION, SHEET, Grid, axes, make, write_sheet
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt
from mmmrs_demo.provenance import read
from mmmrs_demo.request import Step, TextRequest
from mmmrs_demo.settings import Settings
from tests.unit.test_cli import FakeEngine, Shell

pytestmark = pytest.mark.unit

TOWN = TextRequest(prompt=PAPER_PROMPTS[0], steps=2)
SETTINGS = Settings(bundle="mini")
CATALOG = Catalog.load(SETTINGS.weights)
SIDE = 256  # of a picture of mini


def grid(
    rows: str | None = "weather",
    row_values: list[object] | None = None,
    columns: str | None = "gsd",
    column_values: list[object] | None = None,
    request: TextRequest = TOWN,
) -> Grid:
    return Grid.of(request, rows, row_values, columns, column_values, CATALOG, SETTINGS)


def engine() -> FakeEngine:
    return FakeEngine(CATALOG, SETTINGS)


def requests(of: Grid) -> list[TextRequest]:
    return [cell.request for cell in chain(*of.cells(CATALOG))]


def made(of: Grid, folder: Path, **more: Any) -> list[str]:
    """Make a grid and return the names of the files that were made now."""
    done = make(of, engine(), folder, SETTINGS, **more)
    return [finished.path.name for finished in done if finished.seconds is not None]


def test_the_usual_grid_is_the_weather_by_the_five_gsd_levels(tmp_path: Path) -> None:
    begun = grid().begun(tmp_path, CATALOG)
    cells = begun.cells(CATALOG)
    assert [len(row) for row in cells] == [5, 5, 5, 5]
    assert cells[0][0].label == "Clear, Ultra-high precision"
    assert cells[2][1].request.prompt.text == (
        "High precision resolution, fog, a satellite image shows a small town in the middle of a field, GF2"
    )
    assert len({cell.name for cell in chain(*cells)}) == 20
    (seed,) = {cell.request.seed for cell in chain(*cells)}
    assert seed is not None
    assert begun.title(CATALOG) == (
        f"a satellite image shows a small town in the middle of a field, GF2 · seed {seed} · 2 steps · guidance 4 · "
        "DPM++ 2M Karras · LoRA scale 1 · Mini, 256 px (embedded) · synthetic"
    )


@pytest.mark.parametrize("key", axes(CATALOG))
def test_every_axis_sets_its_values_and_nothing_else(key: str) -> None:
    axis = axes(CATALOG)[key]
    asked = requests(grid(key, None, None, None))
    assert len(asked) == len(axis.usual) > 1
    within = key in Prompt.model_fields
    found = [getattr(request.prompt if within else request, key) for request in asked]
    assert [axis.word(value if not isinstance(value, float) else f"{value:g}") for value in found] == [*axis.usual]
    for request in asked:
        shared = request.model_dump()
        usual = grid(None, None, None, None).request.model_dump()
        for data in (shared, usual):
            (data["prompt"] if within else data).pop(key, None)  # full speed goes without saying
        assert shared == usual


def test_values_may_be_said_in_other_ways() -> None:
    said = grid("weather", [None, "none", "fog"], "guidance", [4, "4.0", 7.5, 4])
    assert [cell.label for cell in chain(*said.cells(CATALOG))] == [
        f"{weather}, Guidance {guidance}" for weather in ("Clear", "Fog") for guidance in ("4", "4.0", "7.5")
    ]
    assert [request.guidance for request in requests(said)] == [4, 4, 7.5] * 2


@pytest.mark.parametrize(
    ("rows", "row_values", "columns", "column_values", "sentence"),
    [
        ("cloud", None, None, None, "There is no axis “cloud”; choose one of gsd, weather"),
        ("weather", ["rain"], None, None, "There is no weather “rain”; choose one of snow, fog, night"),
        ("steps", ["0"], None, None, "Steps should be at least 1"),
        ("steps", ["many"], None, None, "Steps should be a valid integer"),
        ("steps", ["none"], None, None, "Steps should be a valid integer"),
        ("seed", [-1], None, None, "Seed should be at least 0"),
        ("scheduler", ["pndm"], None, None, "There is no scheduler “pndm”"),
        ("bundle", ["sd3"], None, None, "There is no bundle “sd3”"),
        ("weather", [], None, None, "An axis has no values"),
        ("weather", None, "weather", None, "Rows and columns are both “weather”"),
        ("seed", list(range(13)), "gsd", None, "These are 65 pictures, and a grid has at most 64"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    rows: str, row_values: list[object], columns: str, column_values: list[object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        grid(rows, row_values, columns, column_values)


def test_one_axis_or_none_will_do(tmp_path: Path) -> None:
    shapes = {}
    for name, rows, columns in (("one", None, None), ("row", "", "seed"), ("column", "seed", "none")):
        begun = grid(rows, None, columns, None).begun(tmp_path / name, CATALOG)
        made(begun, tmp_path / name)
        write_sheet(begun, CATALOG, tmp_path / name)
        shapes[name] = [len(row) for row in begun.cells(CATALOG)]
    assert shapes == {"one": [1], "row": [4], "column": [1, 1, 1, 1]}
    (single,) = requests(grid(None, None, None, None))
    assert single.prompt == TOWN.prompt


def test_a_folder_remembers_its_seed_and_takes_no_other_grid(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    first = grid().begun(folder, CATALOG)
    assert grid().begun(folder, CATALOG) == first
    seeded = grid(request=TOWN.model_copy(update={"seed": first.request.seed}))
    assert seeded.begun(folder, CATALOG) == first
    for other in (grid("seed"), grid(request=TOWN.model_copy(update={"seed": 0, "steps": 3}))):
        with pytest.raises(UserError, match="“out” holds another grid"):
            other.begun(folder, CATALOG)
    assert grid("seed").begun(folder, CATALOG, overwrite=True).rows != first.rows
    (folder / DESCRIPTION).write_text("{")
    with pytest.raises(UserError, match=f"“{DESCRIPTION}” in the folder “out” is none of ours"):
        grid().begun(folder, CATALOG)


def test_a_sheet_of_others_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / SHEET).write_bytes(b"mine")
    with pytest.raises(UserError, match=f"“{SHEET}” is there already"):
        grid().begun(tmp_path, CATALOG)
    assert [file.name for file in tmp_path.iterdir()] == [SHEET]


def test_what_is_made_is_not_made_again(tmp_path: Path) -> None:
    begun = grid(columns="steps", column_values=[1, 2]).begun(tmp_path, CATALOG)
    names = [cell.name for cell in chain(*begun.cells(CATALOG))]
    assert made(begun, tmp_path) == names
    assert made(begun, tmp_path) == []
    (tmp_path / names[3]).write_bytes((tmp_path / names[2]).read_bytes())  # another request
    (tmp_path / names[5]).write_bytes(b"cut")
    assert made(begun, tmp_path) == [names[3], names[5]]
    assert made(begun, tmp_path, overwrite=True) == names
    for cell in chain(*begun.cells(CATALOG)):
        assert read(tmp_path / cell.name).request == CATALOG.bundle("mini").complete(cell.request)


def test_a_large_picture_is_known_again(tmp_path: Path) -> None:
    wide = TOWN.model_copy(update={"width": 512, "height": 256})
    begun = grid("weather", ["fog"], None, None, wide).begun(tmp_path, CATALOG)
    assert len(made(begun, tmp_path)) == 1
    assert made(begun, tmp_path) == []


def test_stop_leaves_what_is_finished(tmp_path: Path) -> None:
    begun = grid(None, None, "seed").begun(tmp_path, CATALOG)
    stop = threading.Event()

    class Stoppable(FakeEngine):
        def run(self, *args: Any, **more: Any) -> Any:
            assert args[-1] is stop
            return super().run(*args[:-1], **more)

    making = make(begun, Stoppable(CATALOG, SETTINGS), tmp_path, SETTINGS, stop=stop)
    seen = [next(making).path.name, next(making).path.name]
    stop.set()
    with pytest.raises(Stopped):
        next(making)
    names = [cell.name for cell in begun.cells(CATALOG)[0]]
    assert seen == names[:2]
    assert made(begun, tmp_path) == names[2:]


def test_the_sheet_shows_each_picture_in_its_place_and_says_what_it_is(tmp_path: Path) -> None:
    begun = grid("seed", [40, 80], "weather", ["clear", "fog", "snow"]).begun(tmp_path, CATALOG)
    with pytest.raises(UserError, match="no picture of the grid"):
        write_sheet(begun, CATALOG, tmp_path)
    made(begun, tmp_path)
    missing = tmp_path / begun.cells(CATALOG)[1][2].name
    missing.unlink()
    with Image.open(write_sheet(begun, CATALOG, tmp_path)) as sheet:
        assert sheet.width > 3 * SIDE
        assert sheet.height > 2 * SIDE
        left = sheet.width - 16 - 3 * SIDE - 2 * 8  # margin and gaps
        top = sheet.height - 16 - 2 * SIDE - 8
        centre = [
            [sheet.getpixel((left + x * (SIDE + 8) + SIDE // 2, top + y * (SIDE + 8) + SIDE // 2)) for x in range(3)]
            for y in range(2)
        ]
        labels = sheet.crop((left, 0, sheet.width, top)).convert("L")
    assert centre == [[(40, 0, 0)] * 3, [(80, 0, 0), (80, 0, 0), (0xE2, 0xE8, 0xF0)]]
    assert min(labels.tobytes()) < 64  # something is written there
    said = read(tmp_path / SHEET)
    assert said.request == CATALOG.bundle("mini").complete(begun.request)
    assert said.details == {
        "grid": {
            "rows": {"axis": "seed", "values": ["40", "80"]},
            "columns": {"axis": "weather", "values": ["clear", "fog", "snow"]},
        }
    }
    assert Grid.model_validate({"request": said.request, **said.details["grid"]}).cells(CATALOG)


def test_a_sheet_of_many_pixels_is_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = grid(None, None, "seed").begun(tmp_path, CATALOG)
    made(begun, tmp_path)
    monkeypatch.setattr(grids, "_SHEET_PIXELS", SIDE * SIDE)
    with Image.open(write_sheet(begun, CATALOG, tmp_path)) as sheet:
        assert 4 * SIDE // 2 < sheet.width < 4 * SIDE // 2 + 100


def test_pictures_of_two_models_are_no_work_of_one(tmp_path: Path) -> None:
    begun = grid("bundle", None, None, None).begun(tmp_path, CATALOG)
    made(begun, tmp_path)
    assert read(write_sheet(begun, CATALOG, tmp_path)).model == {}
    assert "Mini" not in begun.title(CATALOG)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(capsys)


def test_compare_as_in_its_help(shell: Shell, tmp_path: Path) -> None:
    said = shell("compare", "--help")[1]
    assert said
    for line in said.split("examples:")[1].strip().splitlines():
        status, out, err = shell(*shlex.split(line)[1:], "--steps", "1")
        assert (status, err) == (0, "")
        *pictures, sheet = map(Path, out.splitlines())
        assert sheet.name == SHEET
        assert len(pictures) == len(shell.engines[-1].asked)
        assert all(read(picture).request.bundle == "mini" for picture in pictures)
        assert sorted(sheet.parent.iterdir()) == sorted([*pictures, sheet, sheet.parent / DESCRIPTION])
    assert {file.name for file in tmp_path.iterdir()} == {"town", "park", "roads"}


def test_compare_goes_on_after_ctrl_c_with_the_same_seed(shell: Shell) -> None:
    def third(_: Step) -> None:
        if len(shell.engines[-1].asked) == 3:
            raise KeyboardInterrupt

    words = ["compare", "a pond", "--rows", "none", "--columns", "lora-scale", "--column-values", "0,0.5,1"]
    shell.at_step = third
    status, out, _ = shell(*words, "--out", "out")
    assert status == 130
    assert len(out.splitlines()) == 2
    shell.at_step = lambda _: None
    status, out, _ = shell(*words, "--out", "out")
    assert status == 0
    assert len(out.splitlines()) == 2
    seeds = {request.seed for made in shell.engines for request, _ in made.asked}
    assert len(seeds) == 1
    assert [len(made.asked) for made in shell.engines] == [3, 1]
    assert shell("compare", "a pond", "--out", "out")[0] == 2
    assert shell("compare", "a pond", "--out", "out", "--overwrite", "--quiet")[0] == 0


def test_compare_refuses_before_a_model_is_loaded(shell: Shell) -> None:
    assert "Several files need a folder" in shell.refusal("compare", "a pond")
    assert "no weather “rain”" in shell.refusal("compare", "a pond", "--row-values", "clear,rain", "--out", "out")
    assert "no axis “cloud”" in shell.refusal("compare", "a pond", "--rows", "cloud", "--out", "out")
    assert "no GSD “tiny”" in shell.refusal("compare", "a pond", "--column-values", "0.6m,tiny", "--out", "out")
    assert shell.engines == []
    assert not Path("out").exists()


def test_show_says_what_a_sheet_is_of(shell: Shell) -> None:
    shell("compare", "a pond", "--row-values", "Clear,FOG", "--column-values", "0.6m,none", "--out", "out")
    said = shell("show", f"out/{SHEET}")[1]
    assert "weather: clear, fog" in said
    assert "gsd: high, none" in said
    assert json.loads(Path("out", DESCRIPTION).read_text())["rows"]["values"] == ["clear", "fog"]
