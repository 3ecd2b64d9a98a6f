"""Samples of every depth become the display range, and the display range becomes physical units again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmmrs_demo.bands import Band, BandChoice, choose
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import Modality
from mmmrs_demo.radiometry import (
    AS_IT_IS,
    COUNTS,
    DECIBELS,
    DISPLAY_DB,
    REFLECTANCE,
    Quantity,
    Stretch,
    output_stretch,
    stretch_of,
)

RGB, SAR, NIR = Modality.RGB, Modality.SAR, Modality.NIR
REFLECTANCES = np.random.default_rng(7).uniform(0.02, 0.4, (3, 4000))


def stretched(
    samples: NDArray[Any],
    modality: Modality = RGB,
    *,
    count: int | None = None,
    tags: dict[str, str] | None = None,
    name: str = "",
    quantity: Quantity | None = None,
    **band: Any,
) -> Stretch:
    bands = [Band(i + 1, str(samples.dtype), name, **band) for i in range(count or len(samples))]
    choice = choose(modality, bands, {}, range(1, len(samples) + 1) if count else None)
    return stretch_of(choice, bands, tags or {}, samples, quantity, who="“scene.tif”")


def test_eight_bits_are_shown_as_they_are() -> None:
    samples = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    for modality in Modality:
        stretch = stretched(samples.reshape(1, -1), modality)
        assert stretch == AS_IT_IS
        assert ((stretch.apply(samples) * 255 + 0.5).astype(np.uint8) == samples).all()


def test_optical_bands_share_one_range() -> None:
    samples = np.stack([np.arange(1, 1001), np.arange(1001, 2001), np.arange(2001, 3001)]).astype(np.uint16)
    stretch = stretched(samples)
    assert (stretch.low, stretch.high) == pytest.approx(np.percentile(samples, (2, 98)), rel=1e-3)
    assert stretch.unit == COUNTS
    assert not stretch.calibrated
    assert stretch.per == "2nd to 98th percentile of bands 1, 2, 3 together"
    shown = stretch.apply(samples)
    assert shown[0].mean() < shown[1].mean() < shown[2].mean()


def test_black_around_a_scene_is_no_part_of_the_range() -> None:
    samples = np.concatenate([np.zeros((3, 5000)), np.full((3, 5000), 900) + np.arange(5000) % 100], axis=1)
    assert stretched(samples.astype(np.uint16)).low > 899
    assert stretched(samples.astype(np.float32)).low == 0  # a reflectance of 0.0 is a measurement


@pytest.mark.parametrize(
    ("tags", "offset", "says"),
    [
        ({}, 0, "no processing baseline"),
        ({"PROCESSING_BASELINE": "05.09"}, -1000, "an offset of -1000, for processing baseline 05.09"),
        ({"PROCESSING_BASELINE": "04.00"}, -1000, "04.00"),
        ({"PROCESSING_BASELINE": "03.01"}, 0, "no offset, for processing baseline 03.01"),
        ({"PROCESSING_BASELINE": "02.14", "BOA_ADD_OFFSET": "0"}, 0, "that the tags name"),
        ({"BOA_ADD_OFFSET": "-1000"}, -1000, "offset of -1000 that the tags name"),
        ({"RADIO_ADD_OFFSET_4": "-1000"}, -1000, "that the tags name"),
        ({"BOA_ADD_OFFSET_band_id_3": "-1000"}, -1000, "that the tags name"),
        ({"PROCESSING_BASELINE": "05.09", "earthsearch:boa_offset_applied": "true"}, 0, "has been taken out before"),
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_sentinel2_reflectance(tags: dict[str, str], offset: float, says: str, dtype: str) -> None:
    counts = (REFLECTANCES * 10_000 - offset).round().astype(dtype)
    stretch = stretched(counts, count=13, tags=tags)
    assert (stretch.unit, stretch.calibrated) == (REFLECTANCE, True)
    assert stretch.values(counts) == pytest.approx(REFLECTANCES, abs=1e-4)
    assert (stretch.low, stretch.high) == pytest.approx(np.percentile(REFLECTANCES, (2, 98)), abs=1e-3)
    assert says in stretch.grounds


def test_an_offset_is_never_applied_twice() -> None:
    """Harmonised products keep the name of their baseline, but their dark pixels show that the offset is gone."""
    counts = (REFLECTANCES * 10_000).astype(np.uint16)
    stretch = stretched(counts, count=13, tags={"PROCESSING_BASELINE": "05.09"})
    assert stretch.values(counts) == pytest.approx(REFLECTANCES, abs=2e-4)
    assert "visibly taken out before" in stretch.grounds


def test_an_offset_that_tags_call_applied_is_not_applied_again() -> None:
    bright = REFLECTANCES + 0.3  # snow, whose counts do not tell
    tags = {"PROCESSING_BASELINE": "05.09", "earthsearch:boa_offset_applied": "true"}
    counts = (bright * 10_000).astype(np.uint16)
    assert stretched(counts, count=13, tags=tags).values(counts) == pytest.approx(bright, abs=2e-4)
    tags["earthsearch:boa_offset_applied"] = "false"
    assert stretched(counts, count=13, tags=tags).values(counts) == pytest.approx(bright - 0.1, abs=2e-4)


def test_a_files_own_scale_wins_over_its_baseline() -> None:
    counts = (REFLECTANCES * 10_000 + 1000).astype(np.uint16)
    stretch = stretched(counts, count=13, tags={"PROCESSING_BASELINE": "05.09"}, scale=1e-4, offset=-0.1)
    assert stretch.values(counts) == pytest.approx(REFLECTANCES, abs=2e-4)
    assert (stretch.unit, stretch.gain, stretch.offset) == (REFLECTANCE, (1e-4,), (-0.1,))
    assert "own scale 0.0001 and offset -0.1 were applied, and no other" in stretch.grounds


def test_landsat_scale_and_bands_that_differ() -> None:
    counts = ((REFLECTANCES + 0.2) / 2.75e-5).astype(np.uint16)
    assert stretched(counts, scale=2.75e-5, offset=-0.2).values(counts) == pytest.approx(REFLECTANCES, abs=1e-4)
    bands = [Band(i, "uint16", scale=1e-4 * i) for i in (1, 2, 3)]
    stretch = stretch_of(choose(RGB, bands, {}), bands, {}, counts)
    assert stretch.values(counts.reshape(3, 40, 100))[2, 0, 0] == pytest.approx(counts[2, 0] * 3e-4)
    assert Stretch.from_json(json.dumps(stretch.to_dict())) == stretch


def test_floats_that_look_like_reflectance_are_called_so() -> None:
    assert stretched(REFLECTANCES.astype(np.float32)).unit == REFLECTANCE
    assert stretched((REFLECTANCES * 300).astype(np.float64)).unit == COUNTS
    assert stretched((REFLECTANCES * 300).astype(np.float64), unit="W/m2/sr/um").unit == "W/m2/sr/um"


def speckle(db: float) -> NDArray[np.float32]:
    """Linear power of a rough surface, four looks, whose mean is `db`."""
    return (np.random.default_rng(7).gamma(4, 10 ** (db / 10) / 4, (1, 5000))).astype(np.float32)


@pytest.mark.parametrize(
    ("samples", "name", "quantity"),
    [
        (10 * np.log10(speckle(-12)), "", Quantity.DB),
        (10 * np.log10(speckle(-12)), "Sigma0_VV_intensity", Quantity.DB),
        (speckle(-12), "", Quantity.POWER),
        (speckle(-12), "gamma0 power", Quantity.POWER),
        (np.sqrt(speckle(-12)), "VV amplitude", Quantity.AMPLITUDE),
    ],
)
def test_what_sar_samples_are(samples: NDArray[np.float32], name: str, quantity: Quantity) -> None:
    stretch = stretched(samples, SAR, name=name)
    assert f"Taken as {quantity}, " in stretch.grounds
    assert stretch.values(samples) == pytest.approx(10 * np.log10(speckle(-12)), abs=1e-3)
    assert (stretch.low, stretch.high, stretch.unit) == (*DISPLAY_DB["VV"], DECIBELS)
    assert stretch.calibrated


def test_a_persons_quantity_wins() -> None:
    samples = np.sqrt(speckle(-12))
    assert "power" in stretched(samples, SAR).grounds
    stretch = stretched(samples, SAR, quantity=Quantity.AMPLITUDE)
    assert stretch.values(samples) == pytest.approx(10 * np.log10(speckle(-12)), abs=1e-3)
    assert "amplitude, as chosen" in stretch.grounds
    with pytest.raises(UserError, match=r"“scene.tif” is read as RGB"):
        stretched(REFLECTANCES, quantity=Quantity.DB)


def test_cross_polarisation_is_darker() -> None:
    samples = 10 * np.log10(speckle(-18))
    stretch = stretched(samples, SAR, name="VH")
    assert (stretch.low, stretch.high) == DISPLAY_DB["VH"]
    assert stretch.per == "the display range of VH"


@pytest.mark.parametrize("dtype", ["uint16", "float32", "uint32"])
def test_counts_of_a_detected_image_are_stretched_by_percentiles(dtype: str) -> None:
    samples = (np.sqrt(speckle(-12)) * 800).astype(dtype)
    stretch = stretched(samples, SAR)
    assert not stretch.calibrated
    assert stretch.unit != DECIBELS
    assert "2nd to 98th percentile" in stretch.per
    assert "amplitude" in stretch.grounds
    shown = stretch.apply(samples)
    assert 0.3 < shown.mean() < 0.8
    assert ((shown == 0).mean(), (shown == 1).mean()) == pytest.approx((0.02, 0.02), abs=0.01)


def test_scaled_decibels() -> None:
    samples = (10 * np.log10(speckle(-12)) * 100).astype(np.int16)
    assert stretched(samples, SAR, scale=0.01).values(samples) == pytest.approx(10 * np.log10(speckle(-12)), abs=0.02)
    assert not stretched(samples, SAR).calibrated


def test_power_of_zero_is_black_and_not_counted() -> None:
    samples = speckle(-12)
    samples[:, :3000] = 0
    stretch = stretched(samples, SAR)
    assert stretch.calibrated
    assert (stretch.apply(samples)[:, :3000] == 0).all()
    assert (stretched(np.zeros((1, 9), np.float32), SAR).apply(np.zeros((1, 3, 3), np.float32)) == 0).all()


def test_complex_lengths_are_amplitudes() -> None:
    bands = [Band(1, "complex64")]
    stretch = stretch_of(choose(SAR, bands, {}), bands, {}, np.sqrt(speckle(-12)))
    assert "the length of its complex values" in stretch.grounds
    assert stretch.decade == 20


def test_nothing_to_measure() -> None:
    for modality, samples in ((RGB, np.empty((3, 0), np.uint16)), (SAR, np.empty((1, 0), np.float32))):
        with pytest.raises(UserError, match=r"“scene.tif” has no valid pixel in band 1"):
            stretched(samples, modality)
    with pytest.raises(UserError, match="0 all over"):
        stretched(np.zeros((3, 9), np.uint16))


def test_an_even_band_has_a_range() -> None:
    for value in (0.3, 700.0, -0.001):
        stretch = stretched(np.full((3, 9), value, np.float32))
        assert stretch.high > stretch.low
        assert np.isfinite(stretch.apply(np.full((3, 3, 3), value))).all()


def test_what_is_no_number_is_black() -> None:
    stretch = Stretch(0.0, 2.0, REFLECTANCE, "made")
    samples = np.array([[[np.nan, -np.inf, np.inf, 1.0, 9.0, -9.0]]])
    assert stretch.apply(samples).ravel().tolist() == [0, 0, 1, 0.5, 1, 0]
    assert stretch.apply(samples).dtype == np.float32


@given(
    st.floats(-1e4, 1e4),
    st.floats(1e-2, 1e4),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_inverting_and_applying_lead_back(low: float, width: float, shares: list[float]) -> None:
    stretch = Stretch(low, low + width, REFLECTANCE, "made")
    there = np.array(shares, np.float32).reshape(1, 1, -1)
    tolerance = 1e-5 + 4e-7 * max(abs(low), width) / width * 4
    assert stretch.apply(stretch.invert(there)) == pytest.approx(there, abs=tolerance)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.sampled_from([0.0, 10.0, 20.0]), st.booleans(), st.text())
def test_a_stretch_survives_json(low: float, width: float, decade: float, calibrated: bool, grounds: str) -> None:
    stretch = Stretch(low, low + width, DECIBELS, "made", (0.5, 1.0), (0.0, -1.0), decade, calibrated, grounds)
    assert Stretch.from_json(json.dumps(stretch.to_dict())) == stretch


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"low": "a"}'])
def test_broken_json_is_told(text: str) -> None:
    with pytest.raises(UserError, match="display range"):
        Stretch.from_json(text)


def test_sentences() -> None:
    stretch = stretched((REFLECTANCES * 10_000).astype(np.uint16), count=13)
    assert stretch.sentence.startswith("Black is 0.0")
    assert (
        " reflectance (2nd to 98th percentile of bands 1, 2, 3 together). Taken as Sentinel-2 counts"
        in stretch.sentence
    )


def test_what_a_generated_picture_stands_for() -> None:
    reflectance = stretched(REFLECTANCES.astype(np.float32))
    decibels = stretched(10 * np.log10(speckle(-12)), SAR)
    sar = output_stretch(reflectance, SAR)
    assert sar is not None
    assert (sar.low, sar.high, sar.unit) == (*DISPLAY_DB["VV"], DECIBELS)
    assert output_stretch(AS_IT_IS, SAR) == sar
    nir = output_stretch(reflectance, NIR)
    assert nir is not None
    assert (nir.low, nir.high, nir.unit) == (reflectance.low, reflectance.high, REFLECTANCE)
    for made in (sar, nir):
        assert "Synthetic" in made.grounds
        assert "not measured" in made.grounds
    for source in (decibels, AS_IT_IS, None):
        assert output_stretch(source, RGB) is None


def test_choices_name_their_bands() -> None:
    bands = [Band(i, "float32") for i in (1, 2, 3)]
    choice = BandChoice(NIR, (3,), ("nir",), "")
    assert stretch_of(choice, bands, {}, REFLECTANCES[2:]).per == "2nd to 98th percentile of band 3"
