"""Images as the survey models want them: of one size, without the noise, of one brightness. n = images, b = bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
"""(n, b, height, width)."""


def cleaned(images: NDArray[Any], size: int, sigmas: float = 3.0) -> Images:
    """Return images (n, b, size, size) of what stands above the noise, each band's brightest pixel 1; finite.

    Pixels below ``sigmas`` times the noise are 0, as in Aniyan & Thorat (2017). Where all pixels are, the image is 0.
    """
    stamps = centred(np.nan_to_num(images, nan=0.0, posinf=0.0, neginf=0.0), size)
    largest = np.abs(stamps).max(axis=(2, 3), keepdims=True, initial=0.0)
    stamps = np.divide(stamps, largest, out=np.zeros(stamps.shape), where=largest > 0)  # squares of 1e30 are no float32
    kept = np.where(stamps > sigmas * noise(stamps), stamps, 0.0)
    peak = kept.max(axis=(2, 3), keepdims=True, initial=0.0)
    bright: Images = np.divide(kept, peak, out=np.zeros(kept.shape), where=peak > 0).astype(np.float32)
    return bright


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
    squares = np.where(below, images, 0.0) ** 2
    rms: NDArray[np.floating] = np.sqrt(squares.sum(axis=(2, 3), keepdims=True) / count)
    return rms
