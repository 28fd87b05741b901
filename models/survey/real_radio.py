"""Real radio galaxies of Fanaroff & Riley's two classes: MiraBest and FR-DEEP, both cut out of FIRST.

FR-DEEP only judges. At least forty of its images are MiraBest's under other names (they correlate by more than 0.99),
and which else are of one source is not told: what looks like any of MiraBest's is left out, be it by chance. Its images
from NVSS are not read: their pixels are eight times as large as those that rows ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import real
from broker.models.survey.row import Data, Examples, Floats

MIRABEST = Data(
    id="mirabest",
    version="confident",
    prior="radio galaxies of Best & Heckman (2012) that experts called FR I (44 %) or FR II (56 %) with confidence",
    real=True,
    licence="none stated; FIRST is public",
)
FRDEEP = Data(
    id="frdeep",
    version="first",
    prior="radio galaxies of FRICAT and CoNFIG, FR I (47 %) and FR II (53 %), without those that look like MiraBest's",
    real=True,
    licence="none stated; FIRST is public",
)
LIKE = 0.9
"""Correlation from which two images may be of one source."""
_MOVES = (-1, 0, 1)  # pixels, on either axis


def mirabest(n: int, seed: int, data: Path | None) -> Examples:
    """Return MiraBest (Porter & Scaife 2023): ``image`` (n, 1, 150, 150), 1.8 arcsec a pixel; truth 0 FR I, 1 FR II.

    Its images are clipped at three times the noise and scaled to their brightest pixel. A few are blank: no row
    answers them, and none learns from them.
    """
    return Examples(*_read(data, "mirabest_150px.npz"), MIRABEST)


def frdeep(n: int, seed: int, data: Path | None) -> Examples:
    """Return FR-DEEP (Tang, Scaife & Leahy 2019) as `mirabest`, without images that are like any of that set's."""
    columns, truth = _read(data, "frdeep_first_150px.npz")
    trained, _ = _read(data, "mirabest_150px.npz")
    new = np.flatnonzero(likeness(columns["image"][:, 0], trained["image"][:, 0]) < LIKE)
    return Examples(columns, truth, FRDEEP).take(new)


def likeness(images: NDArray[np.float32], others: NDArray[np.float32]) -> Floats:
    """Return how much images (n, s, s) correlate with those of (m, s, s) that each is most like: (n,), 1 if the same.

    The others are turned and mirrored in all eight ways, and moved by a pixel: catalogues differ in a source's place.
    """
    from scipy.sparse import csr_matrix  # nearly all pixels are blank

    own, most = csr_matrix(_unit(images).reshape(len(images), -1)), np.zeros(len(images))
    for turned, move in product(_turned(_unit(others)), product(_MOVES, _MOVES)):
        moved = csr_matrix(np.roll(turned, move, (1, 2)).reshape(len(others), -1))
        most = np.maximum(most, (own @ moved.T).max(axis=1).toarray()[:, 0])
    return most


def _unit(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return images (n, s, s) whose squares add up to 1; a blank one stays so."""
    size = np.sqrt(np.einsum("nyx,nyx->n", images, images))[:, None, None]
    unit: NDArray[np.float32] = np.divide(images, size, out=np.zeros_like(images), where=size > 0)
    return unit


def _turned(images: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield images (n, s, s) in their eight orientations."""
    for seen in (images, images[:, :, ::-1]):
        for quarters in range(4):
            yield np.rot90(seen, quarters, (1, 2))


def _read(data: Path | None, name: str) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    with np.load(real.file(data, name)) as found:
        return {"image": found["image"][:, None].astype(np.float32)}, found["label"].astype(np.int64)
