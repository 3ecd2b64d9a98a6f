"""Figures of merit of pictures: pure functions of arrays; knows no model, no file and no report.

A picture is an array of shape (height, width) or (height, width, bands) in 8-bit levels, 0 to 255; its values need not
be whole, so that means of pictures are pictures too. Where a figure is defined for one band, that of a colour picture
is the mean over its bands. The two pictures of a comparison have the same shape.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

PEAK = 255.0
MOST_DB = 100.0
"""PSNR of equal pictures, in place of infinity, so that one of them does not spoil a mean."""

SSIM_WINDOW = 11
"""Side in pixels of the windows in which structural similarity is measured."""

WINDOW = 8
"""Side in pixels of the windows in which speckle is measured."""

_FLATTEST = 0.25  # share of windows that count as homogeneous
_ROUNDING = 1 / 12  # variance that rounding to whole levels leaves behind
_NOTHING = 1e-9  # standard deviation that a plain colour can have by errors of rounding
_OUTLINE = 32  # values along a side of a picture's outline


def psnr(made: np.ndarray, real: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, at most `MOST_DB`; higher is nearer."""
    return peak_ratio(float(np.square(_levels(made) - real).mean()))


def peak_ratio(error: float) -> float:
    """Return the peak signal-to-noise ratio in dB for a mean squared error in levels squared."""
    return min(MOST_DB, 10 * math.log10(PEAK**2 / error)) if error else MOST_DB


def ssim(made: np.ndarray, real: np.ndarray) -> float:
    """Return the structural similarity, -1 to 1, of pictures of at least 11 × 11 pixels; equal ones have 1.

    It is the mean of `ssim_map` where the window lies inside the picture.
    """
    inside = slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2))
    return float(ssim_map(made, real)[inside, inside].mean())


def ssim_map(made: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return the structural similarity around each pixel and in each band, in the pictures' shape.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity": Gaussian window of
    11 × 11 pixels with a standard deviation of 1.5, K1 = .01, K2 = .03. What lies outside of a picture is mirrored.
    """
    a, b = _levels(made), _levels(real)
    mean_a, mean_b = _local_mean(a), _local_mean(b)
    variance_a = _local_mean(a * a) - mean_a**2
    variance_b = _local_mean(b * b) - mean_b**2
    covariance = _local_mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return luminance * structure


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation of two arrays of one shape, -1 to 1; 0 where one of them is constant."""
    a, b = (_levels(array) - array.mean() for array in (a, b))
    scale = float(_deviation(a) * _deviation(b))
    return float((a * b).mean()) / scale if scale else 0.0


def spread(samples: np.ndarray) -> float:
    """Return how far samples of one picture, shape (2 or more, height, width, ...), lie apart.

    Returns:
        The standard deviation over samples in levels, as a mean over pixels.
    """
    return float(_levels(samples).std(axis=0, ddof=1).mean())


def histogram_distance(made: np.ndarray, real: np.ndarray) -> float:
    """Return the 1-Wasserstein distance in levels between the histograms of two pictures; 0 where they are equal.

    Between as many values on either side it is the mean difference of the sorted values.
    """
    a, b = (np.sort(_bands(picture).reshape(-1, _bands(picture).shape[2]), axis=0) for picture in (made, real))
    return float(np.abs(a - b).mean())


def power_spectrum(band: np.ndarray) -> np.ndarray:
    """Return the radially averaged power spectrum of one band.

    The mean is taken off and a Hann window keeps the borders from leaking. White noise has its variance everywhere.

    Args:
        band: Shape (height, width).

    Returns:
        Power in levels squared at 1, 2, ... cycles per shorter side, up to half as many cycles as that has pixels.
    """
    height, width = band.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fft2((_levels(band) - band.mean()) * window)) ** 2 / np.square(window).sum()
    shorter = min(height, width)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * shorter
    ring = np.rint(frequency).astype(int).ravel()
    rings = slice(1, shorter // 2 + 1)
    return np.bincount(ring, power.ravel())[rings] / np.bincount(ring)[rings]


def spectrum_distance(made: np.ndarray, real: np.ndarray) -> float:
    """Return the mean difference in dB between the power spectra of two pictures; 0 where they are equal.

    What rounding to whole levels adds is added to both, so that a plain colour has a spectrum too.
    """
    spectra = (
        [10 * np.log10(power_spectrum(band) + _ROUNDING) for band in np.moveaxis(_bands(picture), 2, 0)]
        for picture in (made, real)
    )
    a, b = map(np.asarray, spectra)
    return float(np.abs(a - b).mean())


def ndvi(nir: np.ndarray, red: np.ndarray) -> np.ndarray:
    """Return the normalised difference vegetation index, -1 to 1, of two bands; 0 where both are black.

    Rouse et al. 1974, "Monitoring vegetation systems in the Great Plains with ERTS".
    """
    total = _levels(nir) + red
    return np.divide(_levels(nir) - red, total, out=np.zeros_like(total), where=total > 0)


def ndvi_error(made: np.ndarray, real: np.ndarray, rgb: np.ndarray) -> float:
    """Return the mean of `ndvi_difference`, 0 to 2."""
    return float(ndvi_difference(made, real, rgb).mean())


def ndvi_difference(made: np.ndarray, real: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Return the absolute difference, 0 to 2, of the NDVI with a made and with the real NIR band.

    Args:
        made: NIR of shape (height, width).
        real: The same.
        rgb: Shape (height, width, 3); its red band is used with both. Levels stand for reflectance, so the index is
            that of the tile as it is displayed.
    """
    red = rgb[..., 0]
    return np.abs(ndvi(made, red) - ndvi(real, red))


def log_mean_ratio(made: np.ndarray, real: np.ndarray) -> float:
    """Return the ratio of two pictures' geometric mean intensities; 1 is as bright as the real one.

    A level plus one stands for the intensity, here and in `log_deviation_ratio`.
    """
    return math.exp(np.log1p(_levels(made)).mean() - np.log1p(_levels(real)).mean())


def log_deviation_ratio(made: np.ndarray, real: np.ndarray) -> float:
    """Return the ratio of the standard deviations of log-intensity; 1 is as contrasted as the real picture.

    It is NaN where the real picture is a plain colour.
    """
    made_log, real_log = (np.log1p(_levels(picture)) for picture in (made, real))
    return _ratio(float(_deviation(made_log)), float(_deviation(real_log)))


def homogeneous_windows(guide: np.ndarray) -> np.ndarray:
    """Choose the quarter of a picture's windows in which it varies least.

    Windows are chosen in another picture of the same ground, the optical one, and not in the radar picture that is
    measured: among windows with speckle the flattest would be those with little of it by chance.

    Args:
        guide: A picture, cut into windows of `WINDOW` × `WINDOW` pixels side by side.

    Returns:
        Their numbers, for `looks`.
    """
    deviation = _windows(_bands(guide).mean(axis=2)).std(axis=1)
    return np.argsort(deviation, kind="stable")[: max(1, round(_FLATTEST * len(deviation)))]


def looks(intensity: np.ndarray, windows: np.ndarray) -> float:
    """Return the equivalent number of looks: mean² / variance, as a median over homogeneous windows.

    Oliver and Quegan 2004, "Understanding Synthetic Aperture Radar Images", chapter 4. With levels of a stretch that
    nobody stated in place of intensity it is no number of a sensor, but still says how one picture's speckle compares
    with another's of the same stretch.

    Args:
        intensity: Shape (height, width).
        windows: As `homogeneous_windows` returns them.

    Returns:
        1 for speckle as strong as it can be, more the smoother; infinite for a plain colour, NaN for a black one.
    """
    values = _windows(intensity)[windows]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (values.mean(axis=1) / _deviation(values, axis=1, ddof=1)) ** 2
    found = found[~np.isnan(found)]
    return float(np.median(found)) if found.size else math.nan


def looks_ratio(made: np.ndarray, real: np.ndarray, guide: np.ndarray) -> float:
    """Return the ratio of two radar pictures' equivalent numbers of looks; 1 is as speckled, more is smoother.

    Args:
        made: Shape (height, width).
        real: The same.
        guide: The optical picture of the same ground.
    """
    windows = homogeneous_windows(guide)
    return _ratio(looks(made, windows), looks(real, windows))


def contrast_ratio(made: np.ndarray, real: np.ndarray) -> float:
    """Return the ratio of two pictures' mean standard deviations within windows; below 1 is smoother.

    It is NaN where the real picture is a plain colour.
    """
    made_windows, real_windows = (_deviation(_windows(_bands(one).mean(axis=2)), axis=1) for one in (made, real))
    return _ratio(float(made_windows.mean()), float(real_windows.mean()))


def colour_ratio(made: np.ndarray, real: np.ndarray) -> float:
    """Return the ratio of the mean differences between two pictures' bands; below 1 is greyer, NaN for a grey one."""
    made_colours, real_colours = (np.abs(np.diff(_bands(one), axis=2)) for one in (made, real))
    return _ratio(float(made_colours.mean()), float(real_colours.mean())) if real_colours.size else math.nan


def outline(picture: np.ndarray) -> np.ndarray:
    """Return what is left of a picture to someone who looks from far away.

    Args:
        picture: Its sides are multiples of 32.

    Returns:
        Shape (1024,): the grey picture, blurred with a standard deviation of 1/32 of each side, at 32 × 32 points.
    """
    steps = [side // _OUTLINE for side in picture.shape[:2]]
    blurred = gaussian_filter(_bands(picture).mean(axis=2), sigma=steps)
    return blurred[steps[0] // 2 :: steps[0], steps[1] // 2 :: steps[1]].ravel()


def _levels(picture: np.ndarray) -> np.ndarray:
    return np.asarray(picture, np.float64)


def _deviation(values: np.ndarray, axis: int | None = None, ddof: int = 0) -> np.ndarray:
    """Return the standard deviation, and exactly 0 where there is none but for errors of rounding."""
    found = values.std(axis=axis, ddof=ddof)
    return np.where(found < _NOTHING, 0.0, found)


def _bands(picture: np.ndarray) -> np.ndarray:
    """Return shape (height, width, bands)."""
    return np.atleast_3d(_levels(picture))


def _local_mean(picture: np.ndarray) -> np.ndarray:
    return gaussian_filter(picture, sigma=1.5, radius=SSIM_WINDOW // 2, axes=(0, 1))


def _windows(band: np.ndarray) -> np.ndarray:
    """Return shape (windows, pixels of one); what is left at the right and the bottom belongs to none."""
    rows, columns = (side // WINDOW for side in band.shape)
    cut = _levels(band)[: rows * WINDOW, : columns * WINDOW]
    return cut.reshape(rows, WINDOW, columns, WINDOW).swapaxes(1, 2).reshape(rows * columns, WINDOW**2)


def _ratio(made: float, real: float) -> float:
    return made / real if real else math.nan
