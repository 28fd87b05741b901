"""The model in batched torch, float64: exact, on a GPU or on the CPU (an optional package).

Curves of about the same number of points are padded to one size and go through one batched Cholesky factorisation. A
padding point has flux 0, noise 1 and no correlation: it changes neither the likelihood nor the posterior. The fit is
that of `dense`: a coarse grid, then damped Newton climbs by the average information from the best of its points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broker.core.batch import Floats, Ints, LightCurves
from broker.gp.model import (
    LOG_AMPLITUDE_RANGE,
    LOG_TIME_SCALE_MAX,
    WAVELENGTH_SCALE_AA,
    Fit,
    Prediction,
    start_amplitude,
    usable,
)

ELEMENTS = {"cpu": 4_000_000, "cuda": 200_000_000}
"""Matrix elements of a batch: 32 MB, or 1.6 GB, for each matrix that is held."""
GRID_A, GRID_S = (-4.0, -2.0, 0.0, 2.0), (0.5, 2.5, 4.5, 6.0, 8.0, 10.0)
"""The coarse grid in log A², from its start, and log τ²."""
CLIMBS, STEPS = 3, 60
NOISE_MIN = 1e-12
"""Least squared error beside A²: what float64 can factorise."""
LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, slots=True)
class Padded:
    """Curves of one batch: time (days), wavelength (6000 Å / √3), flux and squared error (own units), all (A, N).

    ``real`` (A, N) is 1 for points and 0 for padding; ``counts`` (A,).
    """

    time: Tensor
    wave: Tensor
    flux: Tensor
    noise: Tensor
    real: Tensor
    counts: Tensor

    def take(self, rows: Tensor) -> Padded:
        """Return the curves ``rows``."""
        columns = (self.time, self.wave, self.flux, self.noise, self.real, self.counts)
        return Padded(*(column[rows] for column in columns))


def padded(curves: LightCurves, waves: Floats, rows: Ints, unit: Floats, device: torch.device) -> Padded:
    """Return the curves ``rows`` (n,), whose fluxes are to be in units of ``unit`` (n,), on a device."""
    counts = curves.counts[rows]
    place = curves.offsets[rows][:, None] + np.arange(int(counts.max()))
    real = np.arange(place.shape[1]) < counts[:, None]
    place = np.where(real, place, curves.offsets[rows][:, None])
    columns = (
        curves.mjd[place] - curves.mjd[curves.offsets[rows]][:, None],
        waves[curves.band[place]] * (np.sqrt(3.0) / WAVELENGTH_SCALE_AA),
        np.where(real, curves.flux_njy[place] / unit[:, None], 0.0),
        np.where(real, (curves.flux_err_njy[place] / unit[:, None]) ** 2, 1.0),
        real.astype(np.float64),
        counts.astype(np.float64),
    )
    return Padded(*(torch.from_numpy(column).to(device) for column in columns))


def roots(time: Tensor, wave: Tensor, time_2: Tensor, wave_2: Tensor, log_scale: Tensor) -> Tensor:
    """Return √3 r between points (A, N) and (A, M): (A, N, M); ``log_scale`` (A,) is log τ²."""
    gap = time[:, :, None] - time_2[:, None, :]
    step = wave[:, :, None] - wave_2[:, None, :]
    return torch.sqrt(gap**2 * (3.0 * torch.exp(-log_scale))[:, None, None] + step**2)


def covariance(batch: Padded, log_power: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return √3 r and the covariance without noise, both (A, N, N)."""
    root = roots(batch.time, batch.wave, batch.time, batch.wave, log_scale)
    both = batch.real[:, :, None] * batch.real[:, None, :] * torch.exp(log_power)[:, None, None]
    return root, both * (1.0 + root) * torch.exp(-root)


def factorise(batch: Padded, kernel: Tensor, log_power: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Cholesky factor (A, N, N), α = K⁻¹ y (A, N) and the log likelihood (A,), -inf where there is none."""
    noise = torch.maximum(batch.noise, NOISE_MIN * torch.exp(log_power)[:, None])
    factor, failed = torch.linalg.cholesky_ex(kernel + torch.diag_embed(noise))
    alpha = torch.cholesky_solve(batch.flux[:, :, None], factor)[:, :, 0]
    logs = torch.log(torch.diagonal(factor, dim1=1, dim2=2)).sum(1)
    value = -0.5 * (batch.flux * alpha).sum(1) - logs - 0.5 * LOG_2PI * batch.counts
    good = (failed == 0) & torch.isfinite(value)
    return factor, alpha, torch.where(good, value, torch.full_like(value, -torch.inf))


def likelihood(batch: Padded, theta: Tensor) -> Tensor:
    """Return the log likelihood (A,) at (log A², log τ²), ``theta`` (A, 2)."""
    kernel = covariance(batch, theta[:, 0], theta[:, 1])[1]
    return factorise(batch, kernel, theta[:, 0])[2]


def derivatives(batch: Padded, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradient (A, 2) and average information (A, 2, 2) of the log likelihood: see `dense.derivatives`."""
    root, kernel = covariance(batch, theta[:, 0], theta[:, 1])
    factor, alpha, _ = factorise(batch, kernel, theta[:, 0])
    inverse = torch.cholesky_inverse(factor)
    gap2 = (batch.time[:, :, None] - batch.time[:, None, :]) ** 2 * torch.exp(-theta[:, 1])[:, None, None]
    slopes = (kernel, 1.5 * gap2 * kernel / (1.0 + root))
    pulls = [(slope @ alpha[:, :, None])[:, :, 0] for slope in slopes]
    gradient = [
        0.5 * ((alpha * pull).sum(1) - (inverse * slope).sum((1, 2))) for pull, slope in zip(pulls, slopes, strict=True)
    ]
    solved = [(inverse @ pull[:, :, None])[:, :, 0] for pull in pulls]
    information = [[0.5 * (left * right).sum(1) for right in solved] for left in pulls]
    return torch.stack(gradient, 1), torch.stack([torch.stack(row, 1) for row in information], 1)


def maximise(batch: Padded) -> tuple[Tensor, Tensor]:
    """Return (log A², log τ²) (A, 2) at the best of several climbs, and the log likelihood there (A,)."""
    points = torch.tensor([(a, s) for a in GRID_A for s in GRID_S], dtype=torch.float64, device=batch.flux.device)
    every = len(batch.flux)
    values = torch.stack([likelihood(batch, point.expand(every, 2)) for point in points], 1)
    chosen = torch.topk(values, CLIMBS, dim=1).indices
    climbs = [_climb(batch, points[chosen[:, k]], values.gather(1, chosen[:, k : k + 1])[:, 0]) for k in range(CLIMBS)]
    value = torch.stack([climb[1] for climb in climbs], 1)
    best = value.argmax(1)
    theta = torch.stack([climb[0] for climb in climbs], 1)
    return theta[torch.arange(every), best], value.max(1).values


def _climb(batch: Padded, theta: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Climb by damped Newton steps, clipped to the bounds, each curve until a step is below 1e-5."""
    low = theta.new_tensor([-LOG_AMPLITUDE_RANGE, 0.0])
    high = theta.new_tensor([LOG_AMPLITUDE_RANGE, LOG_TIME_SCALE_MAX])
    theta, value, damping = theta.clone(), value.clone(), torch.full_like(value, 0.1)
    rows = torch.arange(len(theta), device=theta.device)
    for _ in range(STEPS):
        part, here = batch.take(rows), theta[rows]
        gradient, information = derivatives(part, here)
        free = ~(((here <= low) & (gradient < 0)) | ((here >= high) & (gradient > 0)))
        trial = torch.clamp(here + _step(gradient, information, free, damping[rows]), low, high)
        found = likelihood(part, trial)
        better = found >= value[rows]
        moved = (trial - here).abs().max(1).values
        theta[rows] = torch.where(better[:, None], trial, here)
        value[rows] = torch.where(better, found, value[rows])
        damping[rows] = torch.where(better, (damping[rows] / 10.0).clamp(min=1e-6), damping[rows] * 5.0)
        rows = rows[~((better & (moved < 1e-5)) | (damping[rows] > 1e8))]
        if len(rows) == 0:
            break
    return theta, value


def _step(gradient: Tensor, information: Tensor, free: Tensor, damping: Tensor) -> Tensor:
    """Return the damped Newton steps (A, 2), at most 2 in each direction and 0 along what is not free."""
    diagonal = torch.diagonal(information, dim1=1, dim2=2) * (1.0 + damping[:, None]) + 1e-12
    both = (free[:, 0] & free[:, 1]).to(gradient.dtype)
    cross = information[:, 0, 1] * both
    determinant = diagonal[:, 0] * diagonal[:, 1] - cross**2
    pull = gradient * free
    step = torch.stack(
        (
            (diagonal[:, 1] * pull[:, 0] - cross * pull[:, 1]) / determinant,
            (diagonal[:, 0] * pull[:, 1] - cross * pull[:, 0]) / determinant,
        ),
        1,
    )
    return torch.nan_to_num(step * free, nan=0.0).clamp(-2.0, 2.0)


@dataclass(frozen=True, slots=True)
class Torch:
    """The torch solver as a `broker.gp.model.Solver`; ``device`` is torch's, or "auto": a GPU if there is one."""

    device: str = "auto"

    def fit(self, curves: LightCurves, wavelengths_aa: Floats) -> Fit:
        """Maximise the marginal likelihood of every curve."""
        found = np.full((3, len(curves)), np.nan)
        for rows in self._batches(curves, usable(curves, len(wavelengths_aa)), 0):
            points = [slice(curves.offsets[row], curves.offsets[row + 1]) for row in rows]
            unit = np.array([start_amplitude(curves.flux_njy[p], curves.flux_err_njy[p]) for p in points])
            theta, value = (x.cpu().numpy() for x in maximise(self._padded(curves, wavelengths_aa, rows, unit)))
            found[0, rows], found[1, rows] = unit * np.exp(0.5 * theta[:, 0]), np.exp(0.5 * theta[:, 1])
            found[2, rows] = value - curves.counts[rows] * np.log(unit)
        return Fit(*found)

    def predict(
        self, curves: LightCurves, wavelengths_aa: Floats, times: Floats, fit: Fit, *, variance: bool
    ) -> Prediction:
        """Condition every curve and evaluate it on the grid."""
        bands, length = len(wavelengths_aa), times.shape[1]
        shape = (len(curves), bands, length)
        answer = Prediction(np.full(shape, np.nan), np.full(shape, np.nan), np.full(len(curves), np.nan))
        good = usable(curves, bands) & (fit.amplitude > 0) & (fit.time_scale_d > 0)
        waves = torch.from_numpy(np.repeat(wavelengths_aa * (np.sqrt(3.0) / WAVELENGTH_SCALE_AA), length))
        for rows in self._batches(curves, good, bands * length):
            unit = fit.amplitude[rows]
            batch = self._padded(curves, wavelengths_aa, rows, unit)
            log_scale = torch.from_numpy(2.0 * np.log(fit.time_scale_d[rows])).to(batch.flux.device)
            log_power = torch.zeros_like(log_scale)
            factor, alpha, value = factorise(batch, covariance(batch, log_power, log_scale)[1], log_power)
            grid = np.tile(times[rows] - curves.mjd[curves.offsets[rows]][:, None], (1, bands))
            at = torch.from_numpy(grid).to(batch.flux.device), waves.to(batch.flux.device).expand(len(rows), -1)
            root = roots(batch.time, batch.wave, *at, log_scale)
            cross = batch.real[:, :, None] * (1.0 + root) * torch.exp(-root)
            mean = (alpha[:, None, :] @ cross)[:, 0].cpu().numpy() * unit[:, None]
            answer.flux[rows] = mean.reshape(len(rows), bands, length)
            answer.log_likelihood[rows] = value.cpu().numpy() - curves.counts[rows] * np.log(unit)
            if variance:
                half = torch.linalg.solve_triangular(factor, cross, upper=False)
                left = (1.0 - (half**2).sum(1)).clamp(min=0.0).cpu().numpy() * unit[:, None] ** 2
                answer.variance[rows] = left.reshape(len(rows), bands, length)
        return answer

    def log_likelihood(self, curves: LightCurves, wavelengths_aa: Floats, amplitude: Floats, tau_d: Floats) -> Floats:
        """Log marginal likelihood (A,)."""
        empty = np.empty((len(curves), 0))
        return self.predict(curves, wavelengths_aa, empty, Fit(amplitude, tau_d, tau_d), variance=False).log_likelihood

    def _device(self) -> torch.device:
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(auto if self.device == "auto" else self.device)

    def _padded(self, curves: LightCurves, wavelengths_aa: Floats, rows: Ints, unit: Floats) -> Padded:
        return padded(curves, wavelengths_aa, rows, unit, self._device())

    def _batches(self, curves: LightCurves, good: NDArray[np.bool_], grid: int) -> Iterator[Ints]:
        """Yield rows of good curves of about the same size, as many as fit with ``grid`` points to predict each."""
        room = ELEMENTS[self._device().type]
        order = np.argsort(curves.counts, kind="stable")
        order = order[good[order]]
        while len(order):
            # the last of a batch is the largest, and all are padded to it
            size = curves.counts[order]
            fits = np.flatnonzero((np.arange(len(order)) + 1) * size * np.maximum(size, grid) <= room)
            take = max(int(fits[-1]) + 1 if len(fits) else 1, 1)
            yield order[:take]
            order = order[take:]
