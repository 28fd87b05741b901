"""What training does to a batch of epochs, anew at every draw: cuts, lost nights, noise, other starts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float32s = NDArray[np.float32]
Bools = NDArray[np.bool_]
Rng = np.random.Generator

SHIFT_D = 30.0
"""Standard deviation of the shift of a curve's start, days."""


def truncate(epochs: Float32s, mask: Bools, rng: Rng) -> tuple[Float32s, Bools]:
    """Cut half of the curves after a random epoch, the second at the earliest (SuperNNova).

    Parameters
    ----------
    epochs : (n, E, 3 B + 2) float32
        Of `broker.score.epochs`.
    mask : (n, E) bool
    """
    count = mask.sum(axis=1)
    cut = np.where(rng.random(len(mask)) < 0.5, 2 + np.floor(rng.random(len(mask)) * np.maximum(count - 1, 0)), count)
    return epochs, mask & (np.cumsum(mask, axis=1) <= cut[:, None])


def lose(epochs: Float32s, mask: Bools, rng: Rng) -> tuple[Float32s, Bools]:
    """Take up to a third of each curve's epochs away, never all; gaps are those between what is left."""
    kept = mask & (rng.random(mask.shape) >= rng.uniform(0.0, 1.0 / 3.0, (len(mask), 1)))
    kept = np.where(kept.any(axis=1, keepdims=True), kept, mask)
    since = np.where(kept, epochs[..., -2], -np.inf)
    before = np.maximum.accumulate(since, axis=1)[:, :-1]
    out = epochs.copy()
    out[:, 0, -1] = 0.0
    out[:, 1:, -1] = np.where(np.isfinite(before) & kept[:, 1:], epochs[:, 1:, -2] - before, 0.0)
    return out, kept


def add_noise(epochs: Float32s, mask: Bools, rng: Rng) -> tuple[Float32s, Bools]:
    """Add up to one error bar of noise to each curve's fluxes; the errors grow with it."""
    bands = (epochs.shape[-1] - 2) // 3
    flux, log_err, seen = (slice(k * bands, (k + 1) * bands) for k in range(3))
    factor = rng.uniform(0.0, 1.0, (len(epochs), 1, 1)).astype(np.float32)
    noise = rng.standard_normal((*mask.shape, bands), dtype=np.float32)
    measured = epochs[..., seen] > 0
    out = epochs.copy()
    out[..., flux] += np.where(measured, factor * noise * 10.0 ** epochs[..., log_err], 0.0)
    out[..., log_err] += np.where(measured, 0.5 * np.log10(1.0 + factor**2), 0.0)
    return out, mask


def shift(epochs: Float32s, mask: Bools, rng: Rng) -> tuple[Float32s, Bools]:
    """Move each curve in time: the first detection is not where it seems to be."""
    out = epochs.copy()
    out[..., -2] += SHIFT_D * rng.standard_normal((len(epochs), 1), dtype=np.float32)
    return out, mask


def moss(epochs: Float32s, mask: Bools, rng: Rng) -> tuple[Float32s, Bools]:
    """Do what Moss (2018) did, time shift, noise and early cuts, and lose nights."""
    for step in (truncate, lose, add_noise, shift):
        epochs, mask = step(epochs, mask, rng)
    return epochs, mask


PERTURB: dict[str, Callable[[Float32s, Bools, Rng], tuple[Float32s, Bools]]] = {"truncate": truncate, "moss": moss}
"""Name in a recipe to what is done."""
