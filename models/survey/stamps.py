"""Images as the survey models want them: of one size, without the noise, of one brightness. n = images, b = bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
"""(n, b, height, width)."""
HOME = 30.0
"""Pixels from a stamp's middle within which light is the source's own."""
_BLOCK = 256  # images at once: bounds memory


def cleaned(images: NDArray[Any], size: int, sigmas: float = 3.0) -> Images:
    """Return images (n, b, size, size) of what stands above the noise, each band's brightest pixel 1; finite.

    Pixels below ``sigmas`` times the noise are 0, as in Aniyan & Thorat (2017). Where all pixels are, the image is 0.
    """
    bright = np.empty((*images.shape[:2], size, size), dtype=np.float32)
    for start in range(0, len(images), _BLOCK):
        rows = slice(start, start + _BLOCK)
        bright[rows] = _cleaned(centred(images[rows], size).astype(np.float64), sigmas)
    return bright


def _cleaned(stamps: NDArray[np.float64], sigmas: float) -> NDArray[np.float64]:
    stamps = np.nan_to_num(stamps, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(stamps).max(axis=(2, 3), keepdims=True)
    stamps /= np.where(largest > 0, largest, 1.0)  # squares of 1e30 are no float32
    stamps[stamps <= sigmas * noise(stamps)] = 0.0
    peak = stamps.max(axis=(2, 3), keepdims=True)
    bright: NDArray[np.float64] = np.divide(stamps, peak, out=stamps, where=peak > 0)
    return bright


def own_brightness(bright: Images) -> Images:
    """Return cleaned images (n, b, s, s) whose brightest pixel within `HOME` of the middle is 1.

    A stranger that outshines the source is cut off at 1, or the source would look faint. Where the middle is empty, the
    image stays as it is.
    """
    y, x = (np.arange(bright.shape[axis]) - 0.5 * (bright.shape[axis] - 1) for axis in (2, 3))
    near = np.hypot(y[:, None], x) < HOME
    peak = np.where(near, bright, 0.0).max(axis=(2, 3), keepdims=True, initial=0.0)
    own: Images = np.divide(bright, peak, out=bright.copy(), where=peak > 0)
    return np.minimum(own, 1.0, out=own)


def centred(images: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the middle (n, b, size, size) of images; what lies beyond their borders is 0."""
    for axis in (2, 3):
        have = images.shape[axis]
        start = max(have // 2 - size // 2, 0)
        images = np.take(images, np.arange(start, min(start + size, have)), axis=axis)
    gaps = [(size // 2 - have // 2, size - size // 2 - have + have // 2) for have in images.shape[2:]]
    return np.pad(images, [(0, 0), (0, 0), *gaps])


def noise(images: NDArray[Any]) -> NDArray[np.floating]:
    """Return the noise (n, b, 1, 1): the rms of the negative pixels, because a map's noise has mean 0.

    It is 0 where there are none, as in an image that was clipped before. Borders filled with 0 change nothing.
    """
    below = images < 0
    count = np.maximum(below.sum(axis=(2, 3), keepdims=True), 1)
    squares: NDArray[np.floating] = np.square(images, where=below, out=np.zeros_like(images))
    rms: NDArray[np.floating] = np.sqrt(squares.sum(axis=(2, 3), keepdims=True) / count)
    return rms
