"""The readers of the nine data sets behind MMM-RS: trees of the published shapes, and what is said of each original."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mmmrs_demo.dataset import tiles
from mmmrs_demo.dataset.sources import SOURCES, FolderLayout, Original, Picture, read_source
from mmmrs_demo.errors import UserError
from mmmrs_demo.prompt import SATELLITES, WEATHERS

pytestmark = pytest.mark.unit

AIRPORT = json.dumps(
    {
        "gsd": 0.52,
        "country_code": "FRA",
        "timestamp": "2016-02-03T10:00:00Z",
        "bounding_boxes": [{"category": "false_detection"}, {"category": "airport_hangar"}],
    }
)
OBJECT = "<object>\n\t<name>{}</name></object>"
CROSSING = (
    "<annotation><owner><name>someone</name></owner>"
    + "".join(OBJECT.format(name) for name in ("ship", "T junction", "T junction"))
    + "</annotation>"
)
HARBOUR = (
    "<HRSC_Image><Place_ID>100000004</Place_ID><Img_Resolution>1.07</Img_Resolution>"
    "<HRSC_Objects><HRSC_Object></HRSC_Object></HRSC_Objects></HRSC_Image>"
)
INDEX = (
    "file,modality,pair_id,source,gsd_m,caption,licence\n"
    "s/a_sar.png,sar,s1s2_triples/s12_2017_a,s1s2_triples,10,snow-covered hills,CC0\n"
    "s/a_rgb.png,rgb,s1s2_triples/s12_2017_a,s1s2_triples,10,snow-covered hills,CC0\n"
    "s/gone.png,rgb,s1s2_triples/s12_2017_b,s1s2_triples,10,,CC0\n"
    "../outside.png,rgb,s1s2_triples/s12_2017_c,s1s2_triples,10,,CC0\n"
)


@dataclass(frozen=True)
class Case:
    """A tree of one source (path to content) and what its first original must be, `named` after another source."""

    source: str
    tree: dict[str, str]
    keys: tuple[str, ...]
    pictures: dict[str, tuple[str, tuple[int, ...], str | None]]
    gsd: float
    place: str
    category: str | None = None
    scenes: tuple[str, ...] = ()
    weather: str | None = None
    held_out: bool | None = None
    named: str = ""
    broken: dict[str, str] = field(default_factory=dict)


CASES = (
    Case(
        source="fmow",
        tree={
            "fMoW-rgb/val/airport_hangar/airport_hangar_1/airport_hangar_1_0_rgb.jpg": "",
            "fMoW-rgb/train/airport_hangar/airport_hangar_0/airport_hangar_0_1_rgb.jpg": "",
            "fMoW-rgb/train/airport_hangar/airport_hangar_0/airport_hangar_0_0_rgb.jpg": "",
            "fMoW-rgb/train/airport_hangar/airport_hangar_0/airport_hangar_0_0_rgb.json": AIRPORT,
            "fMoW-rgb/train/airport_hangar/airport_hangar_0/airport_hangar_0_0_rgb.tif": "",
            "fMoW-rgb/train/airport_hangar/airport_hangar_0/airport_hangar_0_0_msrgb.jpg": "",
        },
        keys=(
            "fMoW-rgb.train.airport_hangar.airport_hangar_0.airport_hangar_0_0_rgb",
            "fMoW-rgb.train.airport_hangar.airport_hangar_0.airport_hangar_0_1_rgb",
            "fMoW-rgb.val.airport_hangar.airport_hangar_1.airport_hangar_1_0_rgb",
        ),
        pictures={
            "rgb": ("fMoW-rgb/train/airport_hangar/airport_hangar_0/airport_hangar_0_0_rgb.jpg", (), None),
        },
        gsd=0.52,
        place="fmow/fMoW-rgb/train/airport_hangar/airport_hangar_0",
        category="airport hangar",
        scenes=("an airport hangar",),
        broken={"fMoW-rgb/train/airport_hangar/airport_hangar_0/airport_hangar_0_0_rgb.json": '{"gsd": 0.5'},
    ),
    Case(
        source="sen12",
        tree={
            "ROIs1970_fall/s2_7/ROIs1970_fall_s2_7_p3.png": "",
            "ROIs1158_spring/s1_1/ROIs1158_spring_s1_1_p30.png": "",
            "ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p30.png": "",
        },
        keys=("ROIs1158_spring.s2_1.ROIs1158_spring_s2_1_p30", "ROIs1970_fall.s2_7.ROIs1970_fall_s2_7_p3"),
        pictures={
            "rgb": ("ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p30.png", (), "Sentinel-2"),
            "sar": ("ROIs1158_spring/s1_1/ROIs1158_spring_s1_1_p30.png", (), "Sentinel-1"),
        },
        gsd=10,
        place="sen12/ROIs1158_spring/1",
    ),
    Case(
        source="gid",
        tree={
            "Large/image_RGB/GF2_PMS1__L1A0000564539-MSS1.tif": "",
            "Large/image_NirRGB/GF2_PMS1__L1A0000564539-MSS1.tif": "",
            "Large/label_5classes/GF2_PMS1__L1A0000564539-MSS1_label.tif": "",
            "gid-15/GID/img_dir/train/GF2_PMS2__L1A0000607681-MSS2.tif": "",
            "gid-15/GID/ann_dir/train/GF2_PMS2__L1A0000607681-MSS2_15label.png": "",
        },
        keys=(
            "Large.image_RGB.GF2_PMS1__L1A0000564539-MSS1",
            "gid-15.GID.img_dir.train.GF2_PMS2__L1A0000607681-MSS2",
        ),
        pictures={"rgb": ("Large/image_RGB/GF2_PMS1__L1A0000564539-MSS1.tif", (), "GF2")},
        gsd=4,
        place="gid/GF2_PMS1__L1A0000564539-MSS1",
    ),
    Case(
        source="hrrsd",
        tree={
            "OPT2017/JPEGImages/00002.jpg": "",
            "OPT2017/JPEGImages/00001.jpg": "",
            "OPT2017/Annotations/00001.xml": CROSSING,
        },
        keys=("OPT2017.JPEGImages.00001", "OPT2017.JPEGImages.00002"),
        pictures={"rgb": ("OPT2017/JPEGImages/00001.jpg", (), None)},
        gsd=0.42,
        place="hrrsd/00001",
        category="t junction",
        scenes=("a road junction", "a T junction"),
        broken={"OPT2017/Annotations/00001.xml": "<annotation><object><na"},
    ),
    Case(
        source="nasc_tg2",
        tree={"Snowberg/0001.jpg": "", "beach/0001.jpg": "", "__MACOSX/beach/0001.jpg": "", "beach/._0001.jpg": ""},
        keys=("Snowberg.0001", "beach.0001"),
        pictures={"rgb": ("Snowberg/0001.jpg", (), "TG2")},
        gsd=100,
        place="nasc_tg2/Snowberg/0001",
        category="snowberg",
        scenes=("snow-covered mountains", "a mountain with snow"),
        weather="snow",
    ),
    Case(
        source="whu_opt_sar",
        tree={
            "optical/NH49E001014.tif": "",
            "optical/NH49E001013.tif": "",
            "sar/NH49E001013.tif": "",
            "lbl/NH49E001013.tif": "",
        },
        keys=("optical.NH49E001013", "optical.NH49E001014"),
        pictures={
            "rgb": ("optical/NH49E001013.tif", (1, 2, 3), "GF1"),
            "nir": ("optical/NH49E001013.tif", (4,), "GF1"),
            "sar": ("sar/NH49E001013.tif", (), None),
        },
        gsd=5,
        place="whu_opt_sar/NH49E001013",
    ),
    Case(
        source="mrssc2",
        tree={"VIS/city/1.png": "", "SAR/city/1.png": "", "INF/city/1.png": "", "lake/2_SWI.png": "", "lake/2.tif": ""},
        keys=("VIS.city.1", "lake.2"),
        pictures={"rgb": ("VIS/city/1.png", (), "TG2")},
        gsd=100,
        place="mrssc2/VIS/city/1",
        category="city",
        scenes=("a city",),
    ),
    Case(
        source="inria",
        tree={
            "AerialImageDataset/train/images/austin1.tif": "",
            "AerialImageDataset/train/gt/austin1.tif": "",
            "AerialImageDataset/test/images/tyrol-e36.tif": "",
        },
        keys=("AerialImageDataset.test.images.tyrol-e36", "AerialImageDataset.train.images.austin1"),
        pictures={"rgb": ("AerialImageDataset/test/images/tyrol-e36.tif", (), None)},
        gsd=0.3,
        place="inria/tyrol-e36",
    ),
    Case(
        source="hrsc2016",
        tree={
            "FullDataSet/AllImages/100000002.bmp": "",
            "FullDataSet/AllImages/100000001.bmp": "",
            "FullDataSet/Annotations/100000001.xml": HARBOUR,
        },
        keys=("FullDataSet.AllImages.100000001", "FullDataSet.AllImages.100000002"),
        pictures={"rgb": ("FullDataSet/AllImages/100000001.bmp", (), "Google Earth")},
        gsd=1.07,
        place="hrsc2016/100000004",
        category="ship",
        scenes=("a ship", "ships", "a ship in a harbor"),
        broken={"FullDataSet/Annotations/100000001.xml": "<HRSC_Image><Img_Resolution>nan</Img_Resolution>"},
    ),
    Case(
        source="index",
        tree={"index.csv": INDEX, "s/a_rgb.png": "", "s/a_sar.png": ""},
        keys=("s12_2017_a",),
        named="s1s2_triples",
        pictures={"rgb": ("s/a_rgb.png", (), "Sentinel-2"), "sar": ("s/a_sar.png", (), "Sentinel-1")},
        gsd=10,
        place="s1s2_triples/s12_2017",
        scenes=("a frozen landscape", "a forest in the mountains"),
        weather="snow",
        held_out=True,
    ),
)
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.source)


def plant(folder: Path, tree: dict[str, str]) -> Path:
    for path, content in tree.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return folder


def read(case: Case, folder: Path) -> list[Original]:
    return list(read_source(case.source, plant(folder, case.tree)))


def test_every_source_has_a_case() -> None:
    assert [case.source for case in CASES] == list(SOURCES)


@EACH
def test_a_tree_is_read_in_a_fixed_order(case: Case, tmp_path: Path) -> None:
    originals = read(case, tmp_path)
    assert tuple(original.key for original in originals) == case.keys
    assert originals == list(read_source(case.source, tmp_path))
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", original.key) for original in originals)


@EACH
def test_an_original_says_what_its_source_says(case: Case, tmp_path: Path) -> None:
    first = read(case, tmp_path)[0]
    assert first.pictures == {
        modality: Picture(tmp_path / file, bands, satellite)
        for modality, (file, bands, satellite) in case.pictures.items()
    }
    assert (first.source, first.gsd, first.place) == (case.named or case.source, case.gsd, case.place)
    assert (first.category, first.scenes, first.weather) == (case.category, case.scenes, case.weather)
    assert first.held_out == case.held_out
    assert first.licence


@pytest.mark.parametrize("case", [case for case in CASES if case.broken], ids=lambda case: case.source)
@pytest.mark.parametrize("missing", [False, True])
def test_without_an_annotation_an_image_keeps_its_place_in_the_set(
    case: Case, tmp_path: Path, *, missing: bool
) -> None:
    plant(tmp_path, case.tree)
    plant(tmp_path, case.broken)
    if missing:
        for path in case.broken:
            (tmp_path / path).unlink()
    layout = SOURCES[case.source]
    assert isinstance(layout, FolderLayout)
    originals = list(read_source(case.source, tmp_path))
    assert tuple(original.key for original in originals) == case.keys
    assert (originals[0].category, originals[0].scenes, originals[0].gsd) == (None, (), layout.gsd)


@pytest.mark.parametrize(
    ("told", "category", "gsd"),
    [
        ('{"gsd": "0.5", "bounding_boxes": {"category": "crop_field"}}', "crop field", 0.5),
        ('{"gsd": -1, "bounding_boxes": [{"category": "lake_or_pond"}]}', "lake or pond", 1.0),
        ('{"gsd": NaN, "bounding_boxes": [{"category": "false_detection"}]}', None, 1.0),
        ('{"gsd": 0.7}', None, 0.7),
        ('{"gsd": true, "bounding_boxes": []}', None, 1.0),
        ('{"gsd": 0.7, "bounding_boxes": [{"category": "park, fog"}]}', "park fog", 0.7),
        ("[1]", None, 1.0),
        ("[" * 100_000, None, 1.0),
        ("", None, 1.0),
    ],
    ids=["one box", "lake", "false detection", "no boxes", "no number", "comma", "list", "deep", "empty"],
)
def test_what_an_fmow_annotation_may_say(told: str, category: str | None, gsd: float, tmp_path: Path) -> None:
    plant(tmp_path, {"a/a_0_rgb.jpg": "", "a/a_0_rgb.json": told})
    (original,) = read_source("fmow", tmp_path)
    assert (original.category, original.gsd) == (category, gsd)


def test_no_entity_of_an_annotation_is_expanded(tmp_path: Path) -> None:
    told = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>' + OBJECT.format("&e;") + "</annotation>"
    plant(tmp_path, {"JPEGImages/1.jpg": "", "Annotations/1.xml": told})
    (original,) = read_source("hrrsd", tmp_path)
    assert original.category == "e"


def test_years_and_cuts_of_one_place_share_it(tmp_path: Path) -> None:
    plant(tmp_path, {"opt/NH49E001013_1.tif": "", "opt/NH49E001013_1_12.tif": "", "sar/NH49E001013_1.tif": ""})
    originals = list(read_source("whu_opt_sar", tmp_path))
    assert {original.place for original in originals} == {"whu_opt_sar/NH49E001013"}
    assert [sorted(original.pictures) for original in originals] == [["nir", "rgb", "sar"], ["nir", "rgb"]]


def test_names_that_are_no_file_names_stay_apart(tmp_path: Path) -> None:
    plant(tmp_path, {"a b/1.jpg": "", "a-b/1.jpg": "", "a.b/1.jpg": "", "a/b/1.jpg": "", "é/1.jpg": ""})
    keys = [original.key for original in read_source("nasc_tg2", tmp_path)]
    assert len(set(keys)) == len(keys) == 5
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", key) for key in keys)


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = plant(tmp_path / "outside", {"2.jpg": "", "JPEGImages/3.jpg": "", "1.xml": CROSSING})
    inside = plant(tmp_path / "inside", {"JPEGImages/1.jpg": ""})
    (inside / "JPEGImages/2.jpg").symlink_to(outside / "2.jpg")
    (inside / "more").symlink_to(outside, target_is_directory=True)
    (inside / "Annotations").symlink_to(outside, target_is_directory=True)
    (original,) = read_source("hrrsd", inside)
    assert (original.key, original.category) == ("JPEGImages.1", None)


def test_the_words_are_those_of_the_prompt() -> None:
    folders = [layout for layout in SOURCES.values() if isinstance(layout, FolderLayout)]
    words = {view.satellite for layout in folders for view in layout.views.values()}
    words |= {source.satellite for source in tiles.SOURCES.values()}
    assert words - {None} == set(SATELLITES)
    assert {case.weather for case in CASES} - {None} <= set(WEATHERS)


def test_an_unknown_source_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no source “fmov”; choose one of {', '.join(SOURCES)}\\."):
        read_source("fmov", tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere; give the one that holds SEN1-2\."):
        read_source("sen12", tmp_path / "nowhere")


@pytest.mark.parametrize("key", [key for key in SOURCES if key != "index"])
def test_a_folder_of_something_else_says_what_was_looked_for(key: str, tmp_path: Path) -> None:
    plant(tmp_path, {"notes.txt": "", "picture.jpg": "", "scene.tif": ""})
    with pytest.raises(UserError, match="looked for " + re.escape(SOURCES[key].expects)):
        read_source(key, tmp_path)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (None, "has no index.csv"),
        (INDEX, "looked for an index.csv"),
        ("file,modality\na.png,rgb\n", "is not an index of tiles"),
        (INDEX.replace(",10,", ",ten,"), "is not an index of tiles"),
    ],
    ids=["none", "no files", "no columns", "no number"],
)
def test_a_folder_without_a_usable_index_is_refused(index: str | None, sentence: str, tmp_path: Path) -> None:
    plant(tmp_path, {} if index is None else {"index.csv": index})
    with pytest.raises(UserError, match=sentence):
        read_source("index", tmp_path)
