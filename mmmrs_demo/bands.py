"""Which bands are red, green, blue, near infrared or a SAR polarisation, and on what grounds; opens no file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mmmrs_demo.errors import UserError
from mmmrs_demo.files import printable
from mmmrs_demo.modality import Modality

COLOURS = ("red", "green", "blue")
POLARISATIONS = ("VV", "HH", "VH", "HV")
"""What a SAR band may have measured, the first that is there being the one shown: the models know VV best."""
GREY = "grey"
"""The role of the only band of a raster, whatever it shows."""

_NOT_MODELLED = ("palette", "cyan", "magenta", "yellow", "black", "hue", "saturation", "lightness", "Y", "Cb", "Cr")


@dataclass(frozen=True)
class Band:
    """What a raster says of one of its bands.

    Attributes:
        number: From 1.
        dtype: Type of its samples, such as ``uint16``.
        name: Its description, or what the tags call it; "" for none.
        colour: Its colour interpretation, by GDAL's name.
        unit: Unit of what its samples become by `scale` and `offset`; "" for none.
        scale: Value of one count.
        offset: Value of the sample 0.
    """

    number: int
    dtype: str
    name: str = ""
    colour: str = "undefined"
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0

    @property
    def floating(self) -> bool:
        """Whether its samples are floating-point numbers, and real."""
        return self.dtype.startswith("float")

    @property
    def whole(self) -> bool:
        """Whether its samples are whole numbers, and real."""
        return self.dtype.startswith(("int", "uint"))


@dataclass(frozen=True)
class BandChoice:
    """The bands that are read as a modality.

    Attributes:
        modality: What they show together.
        numbers: Their numbers from 1, in the order in which they are read: three for RGB, or one that is shown in all
            three colours (panchromatic); one for SAR and NIR.
        roles: What each of them is: one of `COLOURS`, ``nir``, one of `POLARISATIONS`, `GREY`, or "" if unknown.
        grounds: A sentence for the person: which bands, and why these.
    """

    modality: Modality
    numbers: tuple[int, ...]
    roles: tuple[str, ...]
    grounds: str


class _Sensor(NamedTuple):
    name: str
    said: str  # a pattern for how tags call it
    told: Callable[[Sequence[str]], bool]  # by the band names of a raster, in its order
    names: dict[str, str]  # role by band name


_SENSORS = (
    _Sensor(
        "Sentinel-2",
        r"sentinel-?_?2|\bs2[abc]?(?:\b|_)|msil[12]",
        lambda names: bool({"8", "8a", "12"} & set(names)),
        {"4": "red", "3": "green", "2": "blue", "8": "nir"},
    ),
    _Sensor(
        "Landsat 4 to 7",
        r"landsat[-_ ]?[4-7]|\bl[emt]0?[4-7]",
        lambda names: list(names[:6]) == ["1", "2", "3", "4", "5", "7"],
        {"3": "red", "2": "green", "1": "blue", "4": "nir"},
    ),
    _Sensor(
        "Landsat 8 and 9",
        r"landsat[-_ ]?[89]|\bl[cot]0?[89]",
        lambda names: set("234567") <= set(names),
        {"4": "red", "3": "green", "2": "blue", "5": "nir"},
    ),
)
"""Sensors whose band numbers mean something, by their names without B and zeros. What tags say comes before all else;
then the first whose names these can be, for B8 is panchromatic on Landsat and hardly ever stacked with the others."""


class _Layout(NamedTuple):
    size: int
    label: str
    roles: tuple[str, ...]
    dtypes: str = ""  # pattern for the types of sample it has; any
    sensor: str = ""


_LAYOUTS = (
    _Layout(1, "a single band", (GREY,)),
    _Layout(2, "two polarisations", ("VV", "VH"), r"u?int16|float|complex"),
    _Layout(3, "three bands", COLOURS),
    _Layout(4, "four bands", (*COLOURS, "nir")),
    _Layout(4, "four polarisations", ("HH", "HV", "VH", "VV"), "float|complex"),
    _Layout(6, "six bands of Landsat 4 to 7", ("blue", "green", "red", "nir", "swir", "swir")),
    _Layout(7, "bands 1 to 7 of Landsat 8 and 9", ("coastal", "blue", "green", "red", "nir", "swir", "swir")),
    _Layout(
        8,
        "bands 1 to 5 and 7 of Landsat 4 to 7, and two more",
        ("blue", "green", "red", "nir", *[""] * 4),
        "uint8|int16",
    ),
    _Layout(
        10,
        "the ten bands of Sentinel-2 at 10 and 20 m",
        ("blue", "green", "red", "", "", "", "nir", "", "", ""),
        sensor="Sentinel-2",
    ),
    _Layout(
        12,
        "the twelve bands of Sentinel-2 at level 2A",
        ("", "blue", "green", "red", "", "", "", "nir", *[""] * 4),
        sensor="Sentinel-2",
    ),
    _Layout(
        13,
        "the thirteen bands of Sentinel-2 at level 1C",
        ("", "blue", "green", "red", "", "", "", "nir", *[""] * 5),
        sensor="Sentinel-2",
    ),
)
"""The usual order of bands by their number, where nothing in the file names them; 8 bands of uint16 are left out, for
Landsat and PlanetScope disagree about them, and so are 5."""

_WORDS = {
    "nir": r"nir(?:[-_ ]?0?[18])?|near[-_ ]?infra[-_ ]?red",
    "red": r"red(?![-_ ]?edge)",
    "green": r"green",
    "blue": r"blue",
    **{polarisation: polarisation.lower() for polarisation in POLARISATIONS},
}
_COLOUR_SHOWN = {colour: colour for colour in (*COLOURS, "nir", "alpha")}
_LETTERS = {"r": "red", "g": "green", "b": "blue", "n": "nir"}  # as whole names only
_NUMBER = re.compile(r"(?<![a-z0-9])(?:band|b)[-_ ]?0*(\d{1,2}a?)(?![a-z0-9])")
_TELLING_TAGS = re.compile(r"(?i)satellite|spacecraft|platform|sensor|mission|product|instrument|constellation")
_SHOWN = 200  # characters of a tag that are searched for a sensor's name, and of band names in a sentence


def choose(
    modality: Modality,
    bands: Sequence[Band],
    tags: Mapping[str, str],
    wanted: Collection[int] | None = None,
    *,
    decibels: bool = False,
    who: str = "The raster",
) -> BandChoice:
    """Choose the bands to read as a modality.

    What the bands are called comes first, then their colour interpretation, their numbers on a sensor, and the usual
    order for so many bands. Bands that hold transparency are left out.

    Args:
        modality: What is to be read.
        bands: All bands.
        tags: What the file says as a whole.
        wanted: Numbers that a person chose; they win.
        decibels: The samples are mostly negative, as SAR in dB is and no optical band.
        who: What to call the file in an error.

    Raises:
        UserError: The numbers chosen cannot be these bands, or nothing says which bands could be.
    """
    if any(band.colour in _NOT_MODELLED for band in bands):
        raise UserError(
            f"{who} stores its colours through a palette or as inks: convert it to RGB, for example with "
            "`gdal_translate -expand rgb`."
        )
    candidates = list(_candidates(bands, tags))
    if wanted is not None:
        return _as_wanted(modality, tuple(wanted), len(bands), candidates, who)
    if decibels and modality is not Modality.SAR:
        raise UserError(
            f"{who} holds mostly negative values, as SAR in dB does and {modality.label} does not: choose another "
            "raster, or say which bands are meant."
        )
    for known, why in candidates:
        if choice := _suiting(modality, known, why):
            return choice
    raise UserError(_unknown(modality, bands, who))


def band_numbers(text: str) -> list[int] | None:
    """Return the numbers in "4, 3, 2"; None where there are none.

    Raises:
        UserError: There is something else.
    """
    parts = re.split(r"[\s,;]+", text.strip(" ,;"))
    if parts == [""]:
        return None
    if not all(re.fullmatch(r"[0-9]{1,5}", part) for part in parts):
        raise UserError(f"Bands should be numbers with commas, such as 4, 3, 2, not “{text[:40]}”.")
    return [int(part) for part in parts]


def sensor_of(bands: Sequence[Band], tags: Mapping[str, str]) -> str:
    """Return the name of the sensor that tags, band names or the number of bands tell; "" for none."""
    if sensor := _sensor(bands, tags):
        return sensor.name
    opaque = _opaque(bands)
    return next((layout.sensor for layout in _LAYOUTS if layout.size == len(opaque) and layout.sensor), "")


def _opaque(bands: Sequence[Band]) -> list[Band]:
    return [band for band in bands if band.colour != "alpha"]


def _candidates(bands: Sequence[Band], tags: Mapping[str, str]) -> Iterator[tuple[dict[str, int], str]]:
    """Yield what is known of the bands (number by role) and why, the best grounds first."""
    bands = _opaque(bands)
    yield _by_name(bands), "by their names"
    yield {band.colour: band.number for band in reversed(bands)}, "by the file's colour interpretation"
    if sensor := _sensor(bands, tags):
        numbers = {_number(band): band.number for band in reversed(bands)}
        known = {role: numbers[name] for name, role in sensor.names.items() if name in numbers}
        yield known, f"by their numbers on {sensor.name}"
    for layout in _LAYOUTS:
        if layout.size == len(bands) and all(re.match(layout.dtypes, band.dtype) for band in bands):
            known = {role: band.number for role, band in zip(layout.roles, bands, strict=True) if role}
            yield known, f"the usual order of {layout.label}, since the file does not name them"


def _by_name(bands: Sequence[Band]) -> dict[str, int]:
    known: dict[str, int] = {}
    exact: set[str] = set()
    for band in bands:
        name = band.name.lower().strip()
        role = _LETTERS.get(name) or next(
            (role for role, word in _WORDS.items() if re.search(rf"(?<![a-z])(?:{word})(?![a-z])", name)), None
        )
        if role is None:
            continue
        whole = name in _LETTERS or name == role.lower()  # "blue" rather than "coastal blue"
        if role not in known or (whole and role not in exact):
            known[role] = band.number
        if whole:
            exact.add(role)
    return known


def _number(band: Band) -> str:
    found = _NUMBER.search(band.name.lower())
    return found[1] if found else ""


def _sensor(bands: Sequence[Band], tags: Mapping[str, str]) -> _Sensor | None:
    said = " ".join(text[:_SHOWN] for key, text in tags.items() if _TELLING_TAGS.search(key)).lower()
    for sensor in _SENSORS:
        if re.search(sensor.said, said):
            return sensor
    numbers = [_number(band) for band in _opaque(bands)]
    if numbers == [str(position) for position in range(1, len(numbers) + 1)]:
        return None  # "Band 1", "Band 2" and so on only count
    return next((sensor for sensor in _SENSORS if sensor.told(numbers)), None)


def _suiting(modality: Modality, known: Mapping[str, int], why: str) -> BandChoice | None:
    wanted = {
        Modality.RGB: (COLOURS,),
        Modality.NIR: (("nir",),),
        Modality.SAR: tuple((polarisation,) for polarisation in POLARISATIONS),
    }[modality]
    for roles in (*wanted, (GREY,)):
        if set(roles) <= set(known):
            numbers = tuple(known[role] for role in roles)
            return BandChoice(modality, numbers, roles, _sentence(modality, numbers, roles, why))
    return None


def _sentence(modality: Modality, numbers: Sequence[int], roles: Sequence[str], why: str) -> str:
    """Say which bands are read as what."""
    if tuple(roles) == (GREY,) or not all(roles):
        shown = f"{modality.label}{' in equal colours' if modality is Modality.RGB and len(numbers) == 1 else ''}"
    else:
        shown = _listed([role.upper() if role == "nir" else role for role in roles])
    one = len(numbers) == 1
    why = why.replace("their names", "its name").replace("their numbers", "its number") if one else why
    why = why.replace("does not name them", "does not name it") if one else why
    return f"Band{'' if one else 's'} {_listed(numbers)} {'is' if one else 'are'} read as {shown}: {why}."


def _listed(things: Sequence[object]) -> str:
    *most, last = [str(thing) for thing in things]
    return f"{', '.join(most)} and {last}" if most else last


def _as_wanted(
    modality: Modality,
    numbers: tuple[int, ...],
    count: int,
    candidates: Sequence[tuple[dict[str, int], str]],
    who: str,
) -> BandChoice:
    """Check band numbers that a person chose."""
    if len(numbers) not in ((1, 3) if modality is Modality.RGB else (1,)):
        needed = "three bands, or one that is shown in grey" if modality is Modality.RGB else "one band"
        raise UserError(f"{modality.label} needs {needed}, and {len(numbers)} were chosen of {who}: name as many.")
    if missing := [number for number in numbers if not 1 <= number <= count]:
        has = "only one band, number 1" if count == 1 else f"bands 1 to {count}"
        raise UserError(f"{who} has no band {missing[0]}: it has {has}.")
    if len(set(numbers)) < len(numbers):
        raise UserError(f"Bands {_listed(numbers)} of {who} name one band more than once: choose different ones.")
    roles: tuple[str, ...] = COLOURS if len(numbers) == 3 else ("nir",) if modality is Modality.NIR else ("",)
    if modality is Modality.SAR:
        known = (role for bands, _ in candidates for role, number in bands.items() if number == numbers[0])
        roles = (next((role for role in known if role in POLARISATIONS), ""),)
    return BandChoice(modality, numbers, roles, _sentence(modality, numbers, roles, "as chosen"))


def _unknown(modality: Modality, bands: Sequence[Band], who: str) -> str:
    has = f"{who} has {len(bands)} bands" if len(bands) > 1 else f"{who} has one band"
    names = [f"{band.number} {name}" for band in bands if (name := band.name or _COLOUR_SHOWN.get(band.colour, ""))]
    if names:
        has += f" ({printable(', '.join(names))[:_SHOWN]})"
    if modality is Modality.RGB:
        if len(_opaque(bands)) < len(COLOURS):
            return (
                f"{has}, but RGB needs red, green and blue: choose a raster that has them, or one band of it in grey."
            )
        return f"{has}, and nothing says which are red, green and blue: say which, such as 3, 2, 1."
    what = "near infrared" if modality is Modality.NIR else "a SAR polarisation"
    return f"{has}, and nothing says that one is {what}: choose another raster, or say which band it is."
