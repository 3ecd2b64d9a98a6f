"""The data sets MMM-RS was made from, as their publishers lay them out: what differs between them is one table.

Knows folders, file names and annotations; opens no image, and decides neither tiles nor captions.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from mmmrs_demo.dataset import tiles
from mmmrs_demo.errors import UserError

LARGEST_ANNOTATION = 2**20
"""Bytes read of one annotation; real ones have a few thousand."""


@dataclass(frozen=True)
class Picture:
    """One file of an original and which of its bands to read.

    Attributes:
        file: The image.
        bands: Band numbers from 1; () is the file's own RGB or grey as it comes.
        satellite: The prompt's word, one of `mmmrs_demo.prompt.SATELLITES`; None where the vocabulary has no word for
            the sensor (Gaofen-3, an aeroplane) or the source does not say which one took this picture.
    """

    file: Path
    bands: tuple[int, ...] = ()
    satellite: str | None = None


@dataclass(frozen=True)
class Original:
    """One place at one time as its source delivers it, in every modality that exists of it; all on the same pixels.

    Attributes:
        source: Key in `SOURCES`, or the data set that an index names.
        key: Name within the source: unique, the same at every reading of the same folder, safe as a file name.
        pictures: Modality (``rgb``, ``nir``, ``sar``) to picture.
        gsd: Ground sample distance in metres per pixel: the annotation's, otherwise the one of the table.
        place: Originals of one place share a split.
        category: The annotation's class in plain lower-case words.
        scenes: Possible endings of "a satellite image shows ...", drawn from the annotation.
        weather: ``snow`` where the source says so.
        licence: What is known about the terms of the source.
        held_out: Whether training must never see it; None leaves that to the place.
        town: Whether it shows one; None where RGB and NIR are not of one radiometry, which `captions.measured` needs.
    """

    source: str
    key: str
    pictures: Mapping[str, Picture]
    gsd: float
    place: str
    category: str | None
    scenes: tuple[str, ...]
    weather: str | None
    licence: str
    held_out: bool | None = None
    town: bool | None = None


@dataclass(frozen=True)
class Facts:
    """What one annotation tells of its image; None is what it leaves open."""

    gsd: float | None = None
    category: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class View:
    r"""How one modality of an original is found.

    Attributes:
        path: Template of the file's path (``\g<name>`` is a group of `FolderLayout.picture`); "" is the picture itself.
        bands: As in `Picture`.
        satellite: As in `Picture`.
    """

    path: str = ""
    bands: tuple[int, ...] = ()
    satellite: str | None = None


@dataclass(frozen=True)
class SourceLayout(ABC):
    """Where a source keeps its originals.

    Attributes:
        title: The name people know it by.
        expects: What must be in the folder, for the sentence that says it is not.
    """

    title: str
    expects: str

    @abstractmethod
    def originals(self, key: str, folder: Path) -> Iterator[Original]:
        """Yield what is found in `folder`, in a fixed order; `key` is this layout's own in `SOURCES`."""


@dataclass(frozen=True)
class FolderLayout(SourceLayout):
    r"""A source whose paths say what belongs together.

    Attributes:
        picture: Regular expression of an RGB picture's whole path within the folder, with ``/``; case does not matter.
            A group called ``category`` is the class.
        place: Template of the place.
        gsd: Metres per pixel where no annotation says better.
        licence: Terms, or that they are not known.
        views: Modality to view; what is not on the disk is left out, and without RGB there is no original.
        annotation: Template of the annotation's path, "" for none.
        facts: Reads the annotation's text; may raise whatever a broken text makes it raise.
    """

    picture: str
    place: str
    gsd: float
    licence: str
    views: Mapping[str, View] = field(default_factory=lambda: {"rgb": View()})
    annotation: str = ""
    facts: Callable[[str], Facts] = lambda _: Facts()

    def originals(self, key: str, folder: Path) -> Iterator[Original]:
        """Walk through `folder` one directory at a time: fMoW alone has two million files."""
        picture, root = re.compile(self.picture, re.IGNORECASE), folder.resolve()
        for directory, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
            stems: set[str] = set()  # the same picture in a second file format is the same original
            for name in sorted(names):
                file = Path(directory, name)
                found = picture.fullmatch(file.relative_to(folder).as_posix())
                if found and not name.startswith(".") and file.stem not in stems and _belongs(file, root):
                    stems.add(file.stem)
                    yield self._original(key, folder, root, found)

    def _original(self, key: str, folder: Path, root: Path, found: re.Match[str]) -> Original:
        files = {modality: folder / found.expand(view.path or r"\g<0>") for modality, view in self.views.items()}
        facts = self._facts(folder / found.expand(self.annotation), root) if self.annotation else Facts()
        category = _words(facts.category or found.groupdict().get("category") or "")
        return Original(
            source=key,
            key=_file_name(found[0].rpartition(".")[0]),
            pictures={
                modality: Picture(files[modality], view.bands, view.satellite)
                for modality, view in self.views.items()
                if _belongs(files[modality], root)
            },
            gsd=facts.gsd or self.gsd,
            place=f"{key}/{facts.place or found.expand(self.place)}",
            category=category,
            scenes=_scenes(category),
            weather=WEATHER_BY_CATEGORY.get(category or ""),
            licence=self.licence,
        )

    def _facts(self, file: Path, root: Path) -> Facts:
        if not _belongs(file, root):
            return Facts()
        try:
            with file.open("rb") as opened:
                return self.facts(opened.read(LARGEST_ANNOTATION).decode("utf-8-sig", "replace"))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return Facts()  # one broken annotation among a million is no reason to stop


@dataclass(frozen=True)
class IndexLayout(SourceLayout):
    """A folder with an ``index.csv`` of the sources in `mmmrs_demo.dataset.tiles.SOURCES`, which decides the split."""

    def originals(self, _: str, folder: Path) -> Iterator[Original]:
        """Yield the tiles of the index whose files exist within `folder`."""
        try:
            found = tiles.read_index(folder)
        except UserError:
            raise
        except (LookupError, ValueError, TypeError, AttributeError, csv.Error) as error:
            raise UserError(f"{folder / 'index.csv'} is not an index of tiles: {error}.") from error
        root = folder.resolve()
        for tile in found:
            files = {modality: file for modality, file in sorted(tile.files.items()) if _belongs(file, root)}
            if files:
                yield Original(
                    source=tile.source,
                    key=_file_name(tile.pair.partition("/")[2]),
                    # All SAR of those sources is Sentinel-1's; the tile's own word is that of its optical side.
                    pictures={
                        modality: Picture(file, satellite="Sentinel-1" if modality == "sar" else tile.satellite)
                        for modality, file in files.items()
                    },
                    gsd=tile.gsd,
                    place=tile.place,
                    category=None,
                    scenes=tile.scenes,
                    weather="snow" if tile.snowy else None,
                    licence=tile.licence,
                    held_out=tile.held_out,
                    town=tile.scenes[0] == tiles.TOWN[0] if tile.source.startswith("naip") else None,
                )


def read_source(key: str, folder: Path) -> Iterator[Original]:
    """Read a source as it was downloaded and unpacked.

    A missing or broken annotation costs an image its category, not its place in the set. Links that lead out of the
    folder are not followed.

    Args:
        key: A key of `SOURCES`.
        folder: Holds the source; it may lie some folders deeper.

    Returns:
        The originals in a fixed order, found while they are asked for.

    Raises:
        UserError: There is no such source or folder, or nothing of that layout is in it.
    """
    if key not in SOURCES:
        raise UserError(f"There is no source “{key}”; choose one of {', '.join(SOURCES)}.")
    layout = SOURCES[key]
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give the one that holds {layout.title}.")
    originals = layout.originals(key, folder)
    first = next(originals, None)
    if first is None:
        raise UserError(f"Nothing of {layout.title} is in {folder}; looked for {layout.expects}.")
    return chain((first,), originals)


def _belongs(file: Path, root: Path) -> bool:
    """Whether `file` is there and, its links followed, within `root`."""
    return file.is_file() and file.resolve().is_relative_to(root)


def _file_name(path: str) -> str:
    """Turn a path into a name of ``[A-Za-z0-9._-]+``; a hash keeps apart what that would make the same."""
    name = ".".join(re.sub(r"[^A-Za-z0-9_-]+", "-", part) for part in path.split("/"))
    if name.replace(".", "/") == path:
        return name
    return f"{name}-{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _words(name: str) -> str | None:
    """Turn a class name such as ``multi-unit_residential`` into plain words; a comma would part the prompt."""
    return " ".join(re.findall(r"[a-z0-9-]+", name.lower())) or None


def _scenes(category: str | None) -> tuple[str, ...]:
    if category is None:
        return ()
    return SCENES_BY_CATEGORY.get(category, (f"{'an' if category[0] in 'aeiou' else 'a'} {category}",))


def _metres(told: object) -> float | None:
    """Read a ground sample distance, None where it is not a positive number."""
    try:
        metres = float(str(told))
    except ValueError:
        return None
    return metres if math.isfinite(metres) and metres > 0 else None


def _most_frequent(names: Iterable[str]) -> str | None:
    return next((name for name, _ in Counter(names).most_common(1)), None)


def _read_fmow(text: str) -> Facts:
    told = json.loads(text)
    boxes = told.get("bounding_boxes") or ()
    boxes = (boxes,) if isinstance(boxes, dict) else boxes
    names = [str(box["category"]) for box in boxes if "category" in box]
    # A false detection is a box around nothing: it says what the image does not show.
    return Facts(_metres(told.get("gsd")), _most_frequent(name for name in names if name != "false_detection"))


# Patterns over the few tags that are needed read XML without a parser, so that no entity is ever expanded.
def _read_hrrsd(text: str) -> Facts:
    return Facts(category=_most_frequent(re.findall(r"<object>\s*<name>([^<]+)</name>", text)))


def _read_hrsc2016(text: str) -> Facts:
    gsd = re.search(r"<Img_Resolution>([^<]+)</Img_Resolution>", text)
    place = re.search(r"<Place_ID>(\w+)</Place_ID>", text)
    return Facts(
        gsd=_metres(gsd[1]) if gsd else None,
        category="ship" if "<HRSC_Object>" in text else None,
        place=place[1] if place else None,
    )


SCENES_BY_CATEGORY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # fMoW
        "aquaculture": ("fish ponds", "aquaculture"),
        "crop field": tiles.FARMLAND,
        "debris or rubble": ("debris", "rubble"),
        "lake or pond": ("a lake", "a pond"),
        "multi-unit residential": ("apartment buildings", "a residential area"),
        "oil or gas facility": ("an oil facility", "a gas facility"),
        "parking lot or garage": ("a parking lot", "a parking garage"),
        "factory or powerplant": ("a factory", "a power plant"),
        "single-unit residential": ("houses", "a residential area"),
        "waste disposal": ("a landfill", "a waste disposal site"),
        # TGRS-HRRSD
        "t junction": ("a road junction", "a T junction"),
        "vehicle": ("vehicles", "vehicles on a road"),
        # NaSC-TG2
        "circular farmland": ("circular fields", "farmland with circular fields"),
        "cloud": ("clouds",),
        "rectangular farmland": ("rectangular fields", "farmland"),
        "residential": ("a residential area", "a town"),
        "snowberg": ("snow-covered mountains", "a mountain with snow"),
        # plain land cover
        "farmland": ("farmland", "fields"),
        "forest": ("a forest", "dense woodland"),
        "mountain": ("mountains", "a mountain range"),
        "ship": ("a ship", "ships", "a ship in a harbor"),
    }
)
"""What a caption may say of a class where an article before its name would not do."""

WEATHER_BY_CATEGORY: Mapping[str, str] = MappingProxyType({"snowberg": "snow"})
"""Classes that are a weather of the prompt as well."""

_ROOT = r"(?P<root>(?:.+/)?)"
_RASTER = r"(?:jpe?g|png|bmp)"

SOURCES: Mapping[str, SourceLayout] = MappingProxyType(
    {
        # github.com/fMoW/dataset and the notes of mlaico/fmow-helper: train/airport/airport_0/airport_0_3_rgb.jpg (or
        # .tif in fMoW-full) beside airport_0_3_rgb.json; _msrgb and _ms are the same view coarser. A folder is one
        # location at several times. The satellite is not stated in MMM-RS. 1 m is the geometric mean of 0.5 to 2 m.
        "fmow": FolderLayout(
            title="fMoW",
            expects="train/airport/airport_0/airport_0_0_rgb.jpg and the like",
            picture=r"(?P<annotation>(?P<place>.+)/[^/]+_rgb)\.(?:jpe?g|tiff?)",
            annotation=r"\g<annotation>.json",
            facts=_read_fmow,
            place=r"\g<place>",
            gsd=1.0,
            licence="Functional Map of the World Challenge Public License",
        ),
        # READMEs of YuChuang1205/SEN1-2-patch-dataset and others: ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p30.png
        # and its Sentinel-1 twin. The number of the folder is the scene that its patches were cut from: the place.
        "sen12": FolderLayout(
            title="SEN1-2",
            expects="ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p1.png and the like, with s1 beside s2",
            picture=_ROOT
            + r"(?P<roi>ROIs\d+_[a-z]+)/s2_(?P<scene>\d+)/(?P=roi)_s2_(?P=scene)_(?P<patch>p\d+)\.(?P<end>png)",
            place=r"\g<roi>/\g<scene>",
            gsd=10.0,
            licence="contains modified Copernicus Sentinel data; terms of the patches not confirmed",
            views={
                "rgb": View(satellite="Sentinel-2"),
                "sar": View(
                    r"\g<root>\g<roi>/s1_\g<scene>/\g<roi>_s1_\g<scene>_\g<patch>.\g<end>", satellite="Sentinel-1"
                ),
            },
        ),
        # Paths in public readers: "Large-scale Classification_5classes/image_RGB/GF2_PMS1__L1A0000564539-MSS1.tif",
        # the same with 15 classes, and GID/img_dir/train for GID-15. image_NirRGB holds the same scenes once more.
        "gid": FolderLayout(
            title="GID",
            expects="image_RGB/GF2_PMS1__L1A0000564539-MSS1.tif or img_dir/train/*.tif and the like",
            picture=r"(?:.+/)?(?:image_RGB|img_dir/(?:train|val|test))/(?P<scene>[^/]+)\.tiff?",
            place=r"\g<scene>",
            gsd=4.0,
            licence="not confirmed",
            views={"rgb": View(satellite="GF2")},
        ),
        # github.com/CrazyStoneonRoad/TGRS-HRRSD-Dataset: OPT2017/JPEGImages/00001.jpg, OPT2017/Annotations/00001.xml.
        # The XML has neither GSD nor place, nor whether Google Earth or Baidu Map delivered the image: every image is a
        # place, no satellite is named, and 0.42 m is our choice, the geometric mean of 0.15 to 1.2 m.
        "hrrsd": FolderLayout(
            title="TGRS-HRRSD",
            expects="JPEGImages/00001.jpg and the like, with Annotations/00001.xml",
            picture=_ROOT + r"JPEGImages/(?P<image>[^/]+)\.jpe?g",
            annotation=r"\g<root>Annotations/\g<image>.xml",
            facts=_read_hrrsd,
            place=r"\g<image>",
            gsd=0.42,
            licence="none stated by its repository; imagery from Google Earth and Baidu Map",
        ),
        # Ten classes, RGB of 128 px: the card of the mirror jonathan-roberts1/NaSC-TG2, which also states the licence.
        # Folder per class, as class-folder data sets are: not confirmed. No place is known, so every image is one.
        "nasc_tg2": FolderLayout(
            title="NaSC-TG2",
            expects="a folder per class with .jpg or .png images, such as beach/0001.jpg",
            picture=rf"(?P<place>(?:.+/)?(?P<category>[^/]+)/[^/]+)\.{_RASTER}",
            place=r"\g<place>",
            gsd=100.0,
            licence="CC-BY-NC-SA-4.0 as a mirror of it states",
            views={"rgb": View(satellite="TG2")},
        ),
        # github.com/AmberHen/WHU-OPT-SAR-dataset and public readers: optical/NH49E001013.tif (cut copies: opt/ and a
        # number behind the name), sar/ and lbl/ with the same names; a name is one scene of 5556 by 3704 pixels.
        # Four optical bands, RGB and near infrared: that 2 is green and 4 is NIR agrees with a public check of NDWI
        # against the water labels; that 1 is red and 3 is blue is not confirmed.
        "whu_opt_sar": FolderLayout(
            title="WHU-OPT-SAR",
            expects="optical/NH49E001013.tif and the like, with sar/NH49E001013.tif",
            picture=_ROOT + r"opt(?:ical)?/(?P<scene>[A-Z]{2}\d{2}E\d{6})(?P<tile>(?:_\d+)*)\.(?P<end>tiff?)",
            place=r"\g<scene>",
            gsd=5.0,
            licence="none stated by its repository",
            views={
                "rgb": View(bands=(1, 2, 3), satellite="GF1"),
                "nir": View(bands=(4,), satellite="GF1"),
                "sar": View(r"\g<root>sar/\g<scene>\g<tile>.\g<end>"),  # Gaofen-3 has no word in the vocabulary
            },
        ),
        # The supplement of the MMM-RS paper: four modes (VIS, SWI, INF, SAR) that are not aligned, so only VIS is read.
        # Folder per class and the mode in the path: not confirmed. No place is known, so every image is one.
        "mrssc2": FolderLayout(
            title="MRSSC2.0",
            expects="a folder per class with .jpg, .png or .tif images, such as VIS/city/0001.png",
            picture=r"(?!(?:.*[/_. -])?(?:SWI|INF|SAR)[/_. -])"
            rf"(?P<place>(?:.+/)?(?P<category>(?!VIS/)[^/]+)/(?:VIS/)?[^/]+)\.(?:{_RASTER}|tiff?)",
            place=r"\g<place>",
            gsd=100.0,
            licence="not confirmed",
            views={"rgb": View(satellite="TG2")},
        ),
        # The data set's mirrors and torchgeo: AerialImageDataset/train/images/austin1.tif, test/images/tyrol-e36.tif;
        # gt/ holds masks of the same name. The pictures are taken from aircraft.
        "inria": FolderLayout(
            title="the Inria aerial images",
            expects="AerialImageDataset/train/images/austin1.tif and the like",
            picture=r"(?:.+/)?images/(?P<place>[a-z-]+\d+)\.tiff?",
            place=r"\g<place>",
            gsd=0.3,
            licence="imagery in the public domain; terms of the collection not confirmed",
        ),
        # Public readers (brambox shows a whole XML): FullDataSet/AllImages/100000001.bmp (also Train/ and Test/) with
        # Annotations/100000001.xml. Class_ID numbers types of ships, so any object is a ship. That images with one
        # Place_ID show one place is what its name says, not confirmed. 0.9 m is the geometric mean of 0.4 to 2 m.
        "hrsc2016": FolderLayout(
            title="HRSC2016",
            expects="FullDataSet/AllImages/100000001.bmp and the like, with Annotations/100000001.xml",
            picture=_ROOT + rf"AllImages/(?P<image>[^/]+)\.{_RASTER}",
            annotation=r"\g<root>Annotations/\g<image>.xml",
            facts=_read_hrsc2016,
            place=r"\g<image>",
            gsd=0.9,
            licence="not confirmed; imagery from Google Earth",
            views={"rgb": View(satellite="Google Earth")},
        ),
        "index": IndexLayout(
            title="a folder with an index", expects="an index.csv whose rows name files of the known sources"
        ),
    }
)
"""Every source that can be read, by key.

Modalities, GSD and satellites are those of the MMM-RS paper where no comment says otherwise.
"""
