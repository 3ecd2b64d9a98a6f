"""From samples of any depth to the display range that models read, and back to physical units; opens no file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from mmmrs_demo.bands import Band, BandChoice, sensor_of
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import Modality

CUT = (2, 98)
"""Percentiles of the valid samples that become black and white; what GIS viewers use."""

DISPLAY_DB = {"VV": (-25.0, 0.0), "HH": (-25.0, 0.0), "VH": (-32.0, -5.0), "HV": (-32.0, -5.0)}
"""Backscatter in dB shown as black and white, by polarisation: the ranges of the tiles that the embedded bundle learned
from, so that a model sees SAR as it was taught, and so that its grey values can be read back as dB."""

REFLECTANCE, DECIBELS, COUNTS = "reflectance", "dB", "DN"
"""Units: of the ground's reflectance (1 is a white diffuser), of backscatter, and of what nobody calibrated."""

_QUANTIFICATION = 10_000  # Sentinel-2's counts per unit of reflectance
_BOA_OFFSET = -1000.0  # counts added to it from processing baseline 04.00 on, so that dark pixels need not be clipped
_BASELINE = 4.0
_ROOM = 200  # counts that a real dark pixel may lie below that offset: noise, and corrections that went too far
_BRIGHTEST = 2.0  # what is called reflectance stays below it: clouds and sun glint reach 1.5
_PLAUSIBLE_DB = (-40.0, 10.0)  # median of a calibrated scene; others are stretched by percentiles
_NEGATIVE = 0.1  # share of negative values that only dB has
_READ = 200  # characters of a tag
_OUR_TAGS = "mmmrs"  # tags of pictures made here, which hold words of a prompt
_LINEAR_MEDIAN = 1.0  # calibrated power lies below it, counts of a detected image far above it


class Quantity(StrEnum):
    """What the samples of a SAR band are."""

    DB = "dB"
    POWER = "power"
    AMPLITUDE = "amplitude"


_DECADE = {Quantity.DB: 0.0, Quantity.POWER: 10.0, Quantity.AMPLITUDE: 20.0}  # dB of a tenfold value
_SAID = (
    (Quantity.DB, r"(?<![a-z])(?:db|decibels?)(?![a-z])"),
    (Quantity.AMPLITUDE, r"amplitude|magnitude"),
    (Quantity.POWER, r"intensity|power|(?<![a-z])linear(?![a-z])"),
)


@dataclass(frozen=True)
class Stretch:
    """A range of values shown as black to white, and how a file's samples become such values.

    A sample s has the value ``s * gain + offset``, or ``decade * log10(s * gain + offset)`` where `decade` is not 0.

    Attributes:
        low: Value shown as black, in `unit`.
        high: Value shown as white.
        unit: `REFLECTANCE`, `DECIBELS`, `COUNTS` or a unit that the file names.
        per: What the range was taken from.
        gain: One for each band, or one for all.
        offset: The same.
        decade: dB of a tenfold value: 10 for power, 20 for amplitude, 0 for values that are shown as they are.
        calibrated: The values mean the same in every file: reflectance, or dB that is no mere logarithm of counts.
        grounds: A sentence for the person: what the samples were taken for, and why.
    """

    low: float
    high: float
    unit: str
    per: str
    gain: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    decade: float = 0.0
    calibrated: bool = False
    grounds: str = ""

    def values(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Return what samples of shape (bands, height, width) or (bands, n) mean, in `unit`; a power of 0 is -inf."""
        shape = (-1,) + (1,) * (samples.ndim - 1)
        gain, offset = (np.reshape(np.asarray(part, np.float32), shape) for part in (self.gain, self.offset))
        linear = samples.astype(np.float32) * gain + offset
        if not self.decade:
            return linear
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.float32(self.decade) * np.log10(np.maximum(linear, 0))

    def apply(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Return samples of shape (bands, height, width) as 0 (black) to 1 (white); what is not a number is black."""
        share = (self.values(samples) - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.clip(np.nan_to_num(share, nan=0, posinf=1, neginf=0), 0, 1)

    def invert(self, shares: NDArray[Any]) -> NDArray[np.float32]:
        """Return what 0 (black) to 1 (white) stand for, in `unit`; what lay outside the range stays at its ends."""
        return (np.asarray(shares, np.float32) * np.float32(self.high - self.low) + np.float32(self.low)).astype(
            np.float32
        )

    @property
    def sentence(self) -> str:
        """What is shown as black and white, for the person."""
        return f"Black is {self.low:.4g} and white {self.high:.4g} {self.unit} ({self.per}). {self.grounds}".strip()

    def to_dict(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> Stretch:
        """Read what ``json.dumps(stretch.to_dict())`` wrote.

        Raises:
            UserError: It is not that.
        """
        try:
            return _STRETCH.validate_json(text)
        except ValidationError as error:
            raise UserError("The display range that the file carries cannot be used: use the original file.") from error


_STRETCH: TypeAdapter[Stretch] = TypeAdapter(Stretch)

AS_IT_IS = Stretch(0.0, 255.0, COUNTS, "all of 8 bits", grounds="8 bits are shown as they are.")
"""The stretch of a band of uint8."""


def stretch_of(
    choice: BandChoice,
    bands: Sequence[Band],
    tags: Mapping[str, str],
    samples: NDArray[Any],
    quantity: Quantity | None = None,
    *,
    who: str = "The raster",
) -> Stretch:
    """Find out what the samples of the chosen bands mean and how to show them.

    uint8 is shown as it is. Optical bands share one range, the 2nd to the 98th percentile of the samples of all of
    them, so that colours keep their balance. SAR in dB, or made into dB from power or amplitude, has a fixed range by
    polarisation, unless it is not calibrated.

    Args:
        choice: Which bands, and as what.
        bands: All bands of the raster.
        tags: What the file says as a whole.
        samples: Valid samples of the chosen bands to measure, shape (bands, n); samples of 0 are taken for the black
            around a scene where the type is a whole number.
        quantity: What the samples of a SAR band are, where a person knows better; it wins.
        who: What to call the file in an error.

    Raises:
        UserError: There is nothing to measure, or a quantity was named for what is not SAR.
    """
    chosen = [bands[number - 1] for number in choice.numbers]
    if quantity is not None and choice.modality is not Modality.SAR:
        raise UserError(f"{quantity} is a measure of SAR, and {who} is read as {choice.modality.label}: leave it out.")
    if not samples.size:
        number = ", ".join(str(band.number) for band in chosen)
        raise UserError(f"{who} has no valid pixel in band {number}: all is nodata, so choose another band or raster.")
    if all(band.whole for band in chosen) and not samples.any():
        raise UserError(f"{who} is 0 all over in the bands that were chosen: choose another band or raster.")
    if choice.modality is Modality.SAR:
        return _radar(choice, chosen, tags, samples, quantity)
    return _optical(bands, chosen, tags, samples)


def output_stretch(source: Stretch | None, target: Modality) -> Stretch | None:
    """Return what the grey values of a generated picture stand for, in the unit of `Stretch`; None if for nothing.

    A SAR picture is read through the display range of VV, which models learn from. An optical picture made from an
    optical one is read through the range of its input. Neither is a measurement, and each says so.
    """
    if target is Modality.SAR:
        low, high = DISPLAY_DB["VV"]
        note = "Synthetic: grey read as backscatter through the display range of SAR, not measured."
        return Stretch(low, high, DECIBELS, "the display range of VV", calibrated=True, grounds=note)
    if source is None or source.unit == DECIBELS or not source.calibrated:
        return None
    note = "Synthetic: grey read through the range that the input was shown with, not measured."
    per = f"the input's range: {source.per}"
    return replace(source, per=per, gain=(1.0,), offset=(0.0,), decade=0.0, grounds=note)


class _Scale(NamedTuple):
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    unit: str
    grounds: str
    calibrated: bool = True


def _optical(bands: Sequence[Band], chosen: Sequence[Band], tags: Mapping[str, str], samples: NDArray[Any]) -> Stretch:
    scale = _own_scale(chosen, samples) or _sentinel2(bands, chosen, tags, samples)
    if scale is None and all(band.dtype == "uint8" for band in chosen):
        return AS_IT_IS
    scale = scale or _plain(chosen, samples)
    numbers = ", ".join(str(band.number) for band in chosen)
    plural = "s" if len(chosen) > 1 else ""
    per = f"2nd to 98th percentile of band{plural} {numbers}{' together' if plural else ''}"
    return _by_percentiles(
        Stretch(0, 1, scale.unit, per, scale.gain, scale.offset, 0, scale.calibrated, scale.grounds), samples
    )


def _by_percentiles(stretch: Stretch, samples: NDArray[Any]) -> Stretch:
    values = stretch.values(samples)
    counted = (samples != 0) if np.issubdtype(samples.dtype, np.integer) else np.ones(samples.shape, bool)
    low, high = np.percentile(values[counted & np.isfinite(values)], CUT)
    return replace(stretch, low=float(low), high=float(high if high > low else low + max(1e-6, abs(low) * 1e-3)))


def _own_scale(chosen: Sequence[Band], samples: NDArray[Any]) -> _Scale | None:
    """The scale and offset that the bands carry."""
    gain, offset = tuple(band.scale for band in chosen), tuple(band.offset for band in chosen)
    if set(gain) == {1.0} and set(offset) == {0.0}:
        return None
    if len({*zip(gain, offset, strict=True)}) == 1:
        gain, offset = gain[:1], offset[:1]
    reflectance = _like_reflectance(Stretch(0, 1, "", "", gain, offset).values(samples))
    unit = chosen[0].unit or (REFLECTANCE if reflectance else "units of the band's scale")
    grounds = f"The file's own scale {gain[0]:g} and offset {offset[0]:g} were applied, and no other."
    return _Scale(gain, offset, unit, grounds)


def _like_reflectance(values: NDArray[np.float32]) -> bool:
    return bool(np.percentile(values, CUT[1]) <= _BRIGHTEST and np.percentile(values, CUT[0]) >= -_BRIGHTEST / 10)


def _sentinel2(
    bands: Sequence[Band], chosen: Sequence[Band], tags: Mapping[str, str], samples: NDArray[Any]
) -> _Scale | None:
    """The scale of Sentinel-2's counts: reflectance is (DN + offset) / 10,000."""
    if any(band.dtype not in ("uint16", "int16") for band in chosen):
        return None
    said = {key.upper(): text for key, text in tags.items()}
    counts, added, baseline = (
        _figure(said, key) for key in ("QUANTIFICATION_VALUE", "(?:BOA|RADIO)_ADD_OFFSET", "PROCESSING_BASELINE")
    )
    applied = any(re.search("OFFSET_APPLIED", key) and re.match("(?i)true|yes|1", text) for key, text in said.items())
    if sensor_of(bands, tags) != "Sentinel-2" and counts is None and added is None:
        return None
    counts = counts or _QUANTIFICATION
    offset = added if added is not None else _BOA_OFFSET if baseline is not None and baseline >= _BASELINE else 0.0
    if added is not None:
        why = f"the offset of {offset:g} that the tags name"
    elif baseline is not None:
        why = f"{f'an offset of {offset:g}' if offset else 'no offset'}, for processing baseline {baseline:05.2f}"
    else:
        why = "no offset, for the tags name no processing baseline"
    if offset and (applied or np.percentile(samples[samples != 0], CUT[0]) < -offset - _ROOM):
        why = f"no offset: that of {offset:g} has been {'' if applied else 'visibly '}taken out before"
        offset = 0.0
    grounds = f"Taken as Sentinel-2 counts of {counts:g} to a reflectance of 1, with {why}."
    return _Scale((1 / counts,), (offset / counts,), REFLECTANCE, grounds)


def _figure(tags: Mapping[str, str], key: str) -> float | None:
    """Return the first number in a tag whose name ends so, also where it stands for several bands."""
    for name, text in tags.items():
        if re.search(rf"{key}(?:_[A-Z_]*\d+)?$", name) and (found := re.search(r"-?\d+(?:\.\d+)?", text)):
            return float(found[0])
    return None


def _plain(chosen: Sequence[Band], samples: NDArray[Any]) -> _Scale:
    """The scale of what says nothing of itself."""
    floating = all(band.floating for band in chosen)
    unit = next((band.unit for band in chosen if band.unit), "")
    if floating and _like_reflectance(samples.astype(np.float32)) and unit in ("", REFLECTANCE, "1"):
        return _Scale((1.0,), (0.0,), REFLECTANCE, "Taken as reflectance, by the range of its values.")
    return _Scale(
        (1.0,), (0.0,), unit or COUNTS, "Taken as they are, since nothing tells their scale.", calibrated=False
    )


def _radar(
    choice: BandChoice,
    chosen: Sequence[Band],
    tags: Mapping[str, str],
    samples: NDArray[Any],
    quantity: Quantity | None,
) -> Stretch:
    band = chosen[0]
    plain = band.scale == 1 and band.offset == 0
    if band.dtype == "uint8" and plain and quantity is None:
        return AS_IT_IS
    gain, offset = (band.scale,), (band.offset,)
    measured = samples * band.scale + band.offset
    quantity, why = (quantity, "as chosen") if quantity else _quantity(band, tags, measured)
    grounds = f"Taken as {quantity}, {why}." + ("" if plain else " The file's own scale and offset were applied.")
    stretch = Stretch(0, 1, DECIBELS, "", gain, offset, _DECADE[quantity], calibrated=True, grounds=grounds)
    values = stretch.values(samples)
    finite = values[np.isfinite(values)]
    if finite.size and _PLAUSIBLE_DB[0] <= np.median(finite) <= _PLAUSIBLE_DB[1]:
        polarisation = choice.roles[0] if choice.roles[0] in DISPLAY_DB else "VV"
        low, high = DISPLAY_DB[polarisation]
        return replace(stretch, low=low, high=high, per=f"the display range of {polarisation}")
    if not finite.size:
        return replace(stretch, low=-1.0, high=0.0, per="no value above 0", calibrated=False)
    per = f"2nd to 98th percentile of band {band.number}"
    unit = f"{DECIBELS} of uncalibrated counts" if quantity is not Quantity.DB else COUNTS
    return _by_percentiles(replace(stretch, unit=unit, per=per, calibrated=False), samples)


def _quantity(band: Band, tags: Mapping[str, str], values: NDArray[Any]) -> tuple[Quantity, str]:
    """Tell dB, power and amplitude apart: by the sign of the values, by words, by their size."""
    if band.dtype.startswith("complex"):
        return Quantity.AMPLITUDE, "the length of its complex values"
    negative = float(np.mean(values < 0))
    if negative > _NEGATIVE:
        return Quantity.DB, f"for {negative:.0%} of its values are negative"
    said = (f"{key} {text[:_READ]}" for key, text in tags.items() if not key.startswith(_OUR_TAGS))
    words = " ".join((band.name, band.unit, *said)).lower()
    for quantity, pattern in _SAID:
        if re.search(pattern, words):
            return quantity, "by its name, unit or tags"
    if band.floating and np.median(values) <= _LINEAR_MEDIAN:
        return Quantity.POWER, "for its values are positive and mostly below 1"
    return Quantity.AMPLITUDE, "for its values are positive counts"
