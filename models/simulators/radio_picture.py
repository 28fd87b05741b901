"""A picture of simulated radio sources: ``python -m broker.models.simulators.radio_picture``."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from broker.models.simulators import radio

OUT = Path(__file__).parents[1] / "results" / "survey" / "simulators" / "radio.png"
_EACH = 9


def draw(path: Path) -> None:
    """Write the picture: a row of every kind as FIRST maps it, and the last again as NVSS does."""
    from matplotlib.figure import Figure
    from PIL import Image

    shown = [(kind, radio.FIRST) for kind in range(len(radio.KINDS))] + [(0, radio.NVSS), (1, radio.NVSS)]
    figure = Figure(figsize=(9, 6.4), layout="constrained", dpi=80)
    axes = figure.subplots(len(shown), _EACH)
    for row, (kind, survey) in zip(axes, shown, strict=True):
        rng = np.random.default_rng(kind)  # the same sources for both surveys
        sky = radio.sources(np.full(_EACH, kind), rng)
        name = "FIRST" if survey is radio.FIRST else "NVSS"
        row[0].set_ylabel(f"{radio.KINDS[kind]}\n{name}", fontsize=8)
        for one, image in zip(row, radio.observe(sky, survey, 64, rng), strict=True):
            one.imshow(np.sqrt(np.clip(image / image.max(), 0.0, 1.0)), origin="lower", cmap="inferno")
            one.set(xticks=[], yticks=[])
    figure.suptitle("64 × 64 pixels: FIRST 115 arcsec, NVSS 16 arcmin; square root of the brightness", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    with Image.open(drawn) as picture:  # a few colours make a small file
        picture.convert("RGB").quantize(32).save(path, optimize=True)


if __name__ == "__main__":
    draw(OUT)
