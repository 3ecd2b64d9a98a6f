"""Bands are found by what files say of them, by the usual orders, or by a person; nobody guesses in silence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mmmrs_demo.bands import Band, BandChoice, choose, sensor_of
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import Modality

RGB, SAR, NIR = Modality.RGB, Modality.SAR, Modality.NIR
S2_12 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]


def made(names: Sequence[str], dtype: str = "uint16", colours: Sequence[str] = ()) -> list[Band]:
    shown = colours or ["undefined"] * len(names)
    return [Band(i, dtype, name, colour) for i, (name, colour) in enumerate(zip(names, shown, strict=True), 1)]


def unnamed(count: int, dtype: str = "uint16") -> list[Band]:
    return made([""] * count, dtype)


def numbers(modality: Modality, bands: list[Band], tags: dict[str, str] | None = None) -> tuple[int, ...]:
    return choose(modality, bands, tags or {}).numbers


def refusal(modality: Modality, bands: list[Band], wanted: Sequence[int] | None = None, **options: bool) -> str:
    with pytest.raises(UserError) as caught:
        choose(modality, bands, {}, wanted, who="“scene.tif”", **options)
    sentence = str(caught.value)
    assert "“scene.tif”" in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("names", "tags", "rgb", "nir"),
    [
        (["red", "green", "blue", "nir"], {}, (1, 2, 3), 4),
        (["Blue", "Green", "Red", "Near infrared"], {}, (3, 2, 1), 4),
        (["b", "g", "r", "n"], {}, (3, 2, 1), 4),
        (["B4 (red)", "B3 (green)", "B2 (blue)", "B8 (NIR)"], {}, (1, 2, 3), 4),
        (["B2", "B3", "B4", "B8"], {}, (3, 2, 1), 4),
        (["B02_10m", "B03_10m", "B04_10m", "B08_10m"], {}, (3, 2, 1), 4),
        (S2_12, {}, (4, 3, 2), 8),
        (S2_12[::-1], {}, (9, 10, 11), 5),
        (["coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir"], {}, (6, 4, 2), 8),
        (["red edge", "red", "green", "blue", "nir"], {}, (2, 3, 4), 5),
        (["Red-edge 705", "Red 665", "Green 560", "Blue 490", "NIR 842"], {}, (2, 3, 4), 5),
        ([f"SR_B{i}" for i in (1, 2, 3, 4, 5, 6, 7)], {}, (4, 3, 2), 5),
        ([f"SR_B{i}" for i in (1, 2, 3, 4, 5, 7)], {}, (3, 2, 1), 4),
        ([f"SR_B{i}" for i in (2, 3, 4, 5, 6, 7)], {}, (3, 2, 1), 4),
        ([f"band {i} reflectance" for i in (1, 2, 3, 4, 5, 7)] + ["band 6 temperature", "fmask"], {}, (3, 2, 1), 4),
        ([f"B{i}" for i in (1, 2, 3, 4)], {"SPACECRAFT_ID": "LANDSAT_5"}, (3, 2, 1), 4),
        ([f"B{i}" for i in (2, 3, 4, 5, 8)], {"platform": "Landsat-8"}, (3, 2, 1), 4),
        ([f"B{i}" for i in (2, 3, 4, 8)], {"PRODUCT_URI": "S2B_MSIL2A_20240101"}, (3, 2, 1), 4),
    ],
)
def test_names_of_bands(names: list[str], tags: dict[str, str], rgb: tuple[int, ...], nir: int) -> None:
    bands = made(names)
    assert numbers(RGB, bands, tags) == rgb
    assert numbers(NIR, bands, tags) == (nir,)


def test_names_that_only_count_say_nothing() -> None:
    """ENVI and ArcGIS call every first band "Band 1"; the fourth of four is near infrared, not Sentinel-2's red."""
    bands = made([f"Band {i}" for i in (1, 2, 3, 4)])
    assert numbers(RGB, bands) == (1, 2, 3)
    assert numbers(NIR, bands) == (4,)
    assert "nothing says" in refusal(RGB, made([f"Band {i}" for i in range(1, 9)]))


@pytest.mark.parametrize(
    ("count", "dtype", "rgb", "nir"),
    [
        (3, "uint8", (1, 2, 3), None),
        (4, "uint8", (1, 2, 3), 4),
        (4, "float32", (1, 2, 3), 4),
        (6, "uint8", (3, 2, 1), 4),
        (7, "uint16", (4, 3, 2), 5),
        (8, "int16", (3, 2, 1), 4),
        (10, "uint16", (3, 2, 1), 7),
        (12, "int16", (4, 3, 2), 8),
        (13, "uint16", (4, 3, 2), 8),
    ],
)
def test_usual_orders(count: int, dtype: str, rgb: tuple[int, ...], nir: int | None) -> None:
    choice = choose(RGB, unnamed(count, dtype), {})
    assert choice.numbers == rgb
    assert "does not name them" in choice.grounds
    if nir:
        assert numbers(NIR, unnamed(count, dtype)) == (nir,)
    else:
        assert "nothing says that one is near infrared" in refusal(NIR, unnamed(count, dtype))


@pytest.mark.parametrize("count", [5, 9, 11, 50])
def test_orders_that_nobody_knows_are_asked_for(count: int) -> None:
    for modality in Modality:
        assert f"{count} bands, and nothing says" in refusal(modality, unnamed(count))
    assert "nothing says" in refusal(RGB, unnamed(8, "uint16"))


@pytest.mark.parametrize(
    ("bands", "number", "role"),
    [
        (made(["VV", "VH"], "float32"), 1, "VV"),
        (made(["VH", "VV"], "float32"), 2, "VV"),
        (made(["Sigma0_VH_db", "Gamma0_VV_db"], "float32"), 2, "VV"),
        (made(["HV", "HH"], "float32"), 2, "HH"),
        (made(["VH"], "float32"), 1, "VH"),
        (unnamed(2, "float64"), 1, "VV"),
        (unnamed(2, "uint16"), 1, "VV"),
        (unnamed(2, "complex64"), 1, "VV"),
        (unnamed(4, "float32"), 4, "VV"),
        (unnamed(1, "uint8"), 1, "grey"),
        (made(["VV", ""], "uint8", ["gray", "alpha"]), 1, "VV"),
    ],
)
def test_polarisations(bands: list[Band], number: int, role: str) -> None:
    choice = choose(SAR, bands, {}, decibels=True)
    assert (choice.numbers, choice.roles) == ((number,), (role,))


def test_colour_interpretation_is_read_and_alpha_left_out() -> None:
    bands = made([""] * 4, "uint8", ["blue", "green", "red", "alpha"])
    choice = choose(RGB, bands, {})
    assert choice.numbers == (3, 2, 1)
    assert choice.grounds == "Bands 3, 2 and 1 are read as red, green and blue: by the file's colour interpretation."
    assert "4 alpha" in refusal(NIR, bands)
    assert numbers(NIR, made([""] * 4, "uint8", ["red", "green", "blue", "nir"])) == (4,)
    assert numbers(RGB, made(["", ""], "uint8", ["gray", "alpha"])) == (1,)


def test_a_single_band_is_whatever_is_asked_for() -> None:
    for modality in Modality:
        assert choose(modality, unnamed(1), {}).roles == ("grey",)
    assert "in equal colours" in choose(RGB, unnamed(1), {}).grounds


def test_grounds_are_sentences() -> None:
    assert choose(NIR, made(["nir"]), {}).grounds == "Band 1 is read as NIR: by its name."
    assert choose(RGB, made(S2_12), {}).grounds == (
        "Bands 4, 3 and 2 are read as red, green and blue: by their numbers on Sentinel-2."
    )
    assert choose(SAR, unnamed(2, "float32"), {}).grounds == (
        "Band 1 is read as VV: the usual order of two polarisations, since the file does not name it."
    )


def test_a_persons_choice_wins() -> None:
    bands = made(S2_12)
    assert choose(RGB, bands, {}, [12, 8, 4]) == BandChoice(
        RGB,
        (12, 8, 4),
        ("red", "green", "blue"),
        "Bands 12, 8 and 4 are read as red, green and blue: as chosen.",
    )
    assert choose(RGB, bands, {}, [8]).grounds == "Band 8 is read as RGB in equal colours: as chosen."
    assert choose(NIR, bands, {}, [9]).numbers == (9,)
    assert choose(NIR, unnamed(1, "float32"), {}, [1], decibels=True).numbers == (1,)
    assert choose(SAR, unnamed(2, "float32"), {}, [2]).roles == ("VH",)
    assert choose(SAR, unnamed(5, "float32"), {}, [2]).roles == ("",)


@pytest.mark.parametrize(
    ("modality", "wanted", "says"),
    [
        (RGB, [1, 2], "three bands, or one"),
        (RGB, [], "three bands, or one"),
        (NIR, [1, 2], "NIR needs one band, and 2 were chosen"),
        (SAR, [], "SAR needs one band, and 0"),
        (RGB, [1, 2, 13], "has no band 13: it has bands 1 to 12"),
        (NIR, [0], "has no band 0"),
        (NIR, [-1], "has no band -1"),
        (RGB, [3, 3, 2], "more than once"),
    ],
)
def test_a_persons_choice_is_checked(modality: Modality, wanted: list[int], says: str) -> None:
    assert says in refusal(modality, made(S2_12), wanted)


def test_what_cannot_be_the_modality() -> None:
    assert "RGB needs red, green and blue" in refusal(RGB, made(["VV", "VH"], "float32"))
    assert "(1 VV, 2 VH)" in refusal(NIR, made(["VV", "VH"], "float32"))
    for modality in (RGB, NIR):
        assert "mostly negative" in refusal(modality, unnamed(4, "float32"), decibels=True)
    assert "palette" in refusal(RGB, made([""], "uint8", ["palette"]))
    assert "palette or as inks" in refusal(RGB, made([""] * 4, "uint8", ["cyan", "magenta", "yellow", "black"]))


def test_names_of_strangers_are_printable_and_short() -> None:
    sentence = refusal(SAR, made(["\x1b[31m" + "x" * 500] * 20))
    assert "\x1b" not in sentence
    assert len(sentence) < 400


def test_sensors() -> None:
    assert sensor_of(made(S2_12), {}) == "Sentinel-2"
    assert sensor_of(unnamed(13), {}) == "Sentinel-2"
    assert sensor_of(unnamed(4), {"PLATFORM": "Sentinel-2A"}) == "Sentinel-2"
    assert sensor_of(unnamed(4), {"mmmrs": "a prompt with Sentinel-2"}) == ""
    assert sensor_of(unnamed(4), {}) == ""
