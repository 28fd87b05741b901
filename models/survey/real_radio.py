"""Real radio galaxies of Fanaroff & Riley's two classes: MiraBest, cut out of FIRST.

FRDEEP, which lies beside it, is no second set: at least forty of its FIRST images are MiraBest's, under other names
(they correlate by more than 0.99). So nothing here reads it, not even without its labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from broker.models.survey import real
from broker.models.survey.row import Data, Examples

MIRABEST = Data(
    id="mirabest",
    version="confident",
    prior="radio galaxies of Best & Heckman (2012) that experts called FR I (44 %) or FR II (56 %) with confidence",
    real=True,
    licence="none stated; FIRST is public",
)


def mirabest(n: int, seed: int, data: Path | None) -> Examples:
    """Return MiraBest (Porter & Scaife 2023): ``image`` (n, 1, 150, 150), 1.8 arcsec a pixel; truth 0 FR I, 1 FR II.

    Its images are clipped at three times the noise and scaled to their brightest pixel. A few are blank: all they say
    is how common the classes are.
    """
    with np.load(real.file(data, "mirabest_150px.npz")) as found:
        image = found["image"][:, None].astype(np.float32)
        return Examples({"image": image}, found["label"].astype(np.int64), MIRABEST)
