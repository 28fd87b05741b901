"""Light curves and their interpolation to what a network reads; training and serving call the same functions."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Interpolated, Ints
from broker.score import epochs as raw
from broker.score import features
from broker.score.window import GridRequest

Float32s = NDArray[np.float32]

GP_SCALARS = (
    "log_amplitude",  # of the kernel, over the flux scale
    "log_time_scale_d",
    "log_likelihood",  # per point, of fluxes over the scale
    "log_span_d",  # of the window
    "peak_value",
    "peak_place",  # 0 = window's start, 1 = its end
    "log_rise_half_d",
    "log_fall_half_d",
    "bright_fraction",  # of the window above half of the peak
)
HOST = ("host_z", "host_z_err", "log_luminosity", "host_zero", "has_host_z")
"""``host_zero``: the redshift given is exactly 0, which is how PLAsTiCC says Galactic. NaN = none given."""

ALWAYS = ("series", "mask", "scalars", "finite")
"""Fields of `Tensors` that are never left out."""

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True, slots=True)
class Tensors:
    """What the networks read of A alerts.

    Attributes
    ----------
    series : (A, T, C) float32
        Channels of `channel_names`, finite.
    mask : (A, T) bool
        Grid times that hold data.
    scalars : (A, S) float32
        Columns of `scalar_names`; NaN where unknown, which the networks replace after scaling.
    finite : (A,) bool
        False where the interpolation gave a number that is not finite: such a row is never scored.
    epochs : (A, E, C') float32 or None
        Channels of `broker.score.epochs.names`; None where no network asks for them.
    epochs_mask : (A, E) bool or None
        Epochs that hold data.
    """

    series: Float32s
    mask: NDArray[np.bool_]
    scalars: Float32s
    finite: NDArray[np.bool_]
    epochs: Float32s | None = None
    epochs_mask: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.mask)

    def take(self, index: Ints) -> Self:
        """Return the rows at ``index`` (n,)."""
        columns: list[Any] = [getattr(self, field.name) for field in fields(self)]
        picked: list[Any] = [None if column is None else column[index] for column in columns]
        return type(self)(*picked)

    def inputs(self, reads: str, rows: Ints | slice) -> tuple[Float32s, NDArray[np.bool_], Float32s]:
        """Return the three arrays of ``rows`` that a network reads: its ``READS``, "series" or "epochs".

        Raises
        ------
        ValueError
            It reads epochs, and these tensors were made without.
        """
        if reads == "series":
            return self.series[rows], self.mask[rows], self.scalars[rows]
        if self.epochs is None or self.epochs_mask is None:
            raise ValueError("the network reads epochs, and the tensors were made without: build(..., epochs=True)")
        return self.epochs[rows], self.epochs_mask[rows], self.scalars[rows]


def channel_names(survey: str) -> tuple[str, ...]:
    """Return the channels: flux and error per band, over the flux scale, and two of time."""
    bands = SURVEYS[survey].bands
    return (*(f"flux_{b}" for b in bands), *(f"log_err_{b}" for b in bands), "time", "log_step_d")


def scalar_names(survey: str, host: bool) -> tuple[str, ...]:
    """Return the scalars' names; without the host's for a model that never looks at it."""
    bands = SURVEYS[survey].bands
    points = features.names(bands)
    at = (f"{when}_{band}" for when in ("at_peak", "at_end") for band in bands)
    return (*points, *GP_SCALARS, *at, *(HOST if host else ()))


def build(
    grid: GridRequest,
    interpolated: Interpolated,
    *,
    host_z: Floats | None = None,
    host_z_err: Floats | None = None,
    epochs: bool = False,
) -> Tensors:
    """Return the tensors of A alerts, with the host's scalars last.

    Parameters
    ----------
    grid : GridRequest
        As `broker.score.window.request` made it.
    interpolated : Interpolated
        The Gaussian process of ``grid.curves`` at ``grid.times``.
    host_z, host_z_err : (A,) float64
        Redshift of the host and its 1-sigma error; NaN (or None for all): not known.
    epochs : bool
        Make the raw observations too, for the networks that read them.
    """
    n_bands = interpolated.flux.shape[1]
    scale, points = features.of_points(grid.history, n_bands)
    # What overflows here is not finite and is said so below.
    with np.errstate(over="ignore", invalid="ignore"):
        flux = np.asarray(interpolated.flux / scale[:, None, None], dtype=np.float32)
        err = np.sqrt(np.maximum(interpolated.variance, 0.0)) / scale[:, None, None]
    finite = np.asarray(np.isfinite(flux).all(axis=(1, 2)) & np.isfinite(err).all(axis=(1, 2)))
    hyper = np.stack((interpolated.amplitude, interpolated.time_scale_d, interpolated.log_likelihood), axis=1)
    finite &= np.isfinite(hyper).all(axis=1) & (hyper[:, :2] > 0).all(axis=1)
    flux[~finite], err[~finite], hyper[~finite] = 0.0, 1.0, 1.0
    shape = _of_shape(grid, flux, err, hyper, scale)
    host = of_host(len(grid), host_z, host_z_err, points[:, 0])
    with np.errstate(over="ignore"):
        scalars = np.concatenate((points, shape, host), axis=1).astype(np.float32)
    absurd = np.isinf(scalars)  # NaN is what is not known
    finite &= ~absurd.any(axis=1)
    scalars[absurd] = 0.0
    observed = raw.of_curves(grid.history, n_bands, scale) if epochs else (None, None)
    return Tensors(_series(grid, flux, err), grid.mask, scalars, finite, *observed)


def _series(grid: GridRequest, flux: Float32s, err: NDArray[np.floating]) -> Float32s:
    """Return (A, T, 2 B + 2): flux clipped to ±4 scales, log10 of its error, time before the end, grid step."""
    n, n_bands, n_times = flux.shape
    out = np.empty((n, n_times, 2 * n_bands + 2), np.float32)
    out[..., :n_bands] = np.clip(flux, -4.0, 4.0).transpose(0, 2, 1)
    out[..., n_bands:-2] = np.log10(np.clip(err, 1e-3, 10.0)).transpose(0, 2, 1)
    before_end = grid.times[:, -1:] - grid.times
    out[..., -2] = np.log10(1.0 + before_end)
    out[..., -1] = np.log10(np.maximum(before_end[:, :1] / (n_times - 1), 1e-3))
    return out


def _of_shape(grid: GridRequest, flux: Float32s, err: NDArray[np.floating], hyper: Floats, scale: Floats) -> Floats:
    """Return `GP_SCALARS` and the bands' flux at the peak and at the end, (A, 9 + 2 B)."""
    n, n_bands, n_times = flux.shape
    if n == 0:
        return np.empty((0, len(GP_SCALARS) + 2 * n_bands))
    weight = 1.0 / (err**2 + 0.01)
    curve = (flux * weight).sum(axis=1) / weight.sum(axis=1)
    rows = np.arange(n)
    peak = curve.argmax(axis=1)
    top = curve[rows, peak]
    span = grid.times[:, -1] - grid.times[:, 0]
    step = span / (n_times - 1)
    bright = curve > 0.5 * top[:, None]
    steps = np.arange(n_times)
    # Steps from the peak to the nearest grid time on each side that is at half of it, or to the window's edge.
    rise = np.where(~bright & (steps < peak[:, None]), steps, -1).max(axis=1)
    fall = np.where(~bright & (steps > peak[:, None]), steps, n_times).min(axis=1)
    points = np.maximum(grid.curves.counts, 1)
    columns = (
        np.log10(hyper[:, 0] / scale),
        np.log10(hyper[:, 1]),
        np.clip(hyper[:, 2] / points + np.log(scale), -50.0, 50.0),
        np.log10(np.maximum(span, 1e-3)),
        np.clip(top, -4.0, 4.0),
        peak / (n_times - 1),
        np.log10(1.0 + (peak - rise) * step),
        np.log10(1.0 + (fall - peak) * step),
        bright.mean(axis=1),
    )
    ends = (np.clip(flux[rows, :, peak], -4.0, 4.0), np.clip(flux[:, :, -1], -4.0, 4.0))
    return np.concatenate((np.stack(columns, axis=1), *ends), axis=1)


def of_host(n: int, host_z: Floats | None, host_z_err: Floats | None, log_scale: Floats) -> Floats:
    """Return `HOST` (A, 5); ``log_luminosity`` is log10 of flux scale × luminosity distance², in nJy Gpc²."""
    z = np.full(n, np.nan) if host_z is None else np.asarray(host_z, dtype=np.float64)
    err = np.full(n, np.nan) if host_z_err is None else np.asarray(host_z_err, dtype=np.float64)
    known = np.isfinite(z) & (z >= 0)
    z = np.where(known, z, np.nan)
    far = np.where(z > 0, z, np.nan)
    luminosity = log_scale + 2.0 * np.log10(distance_gpc(far))
    return np.stack((z, np.where(known, err, np.nan), luminosity, np.where(known, z == 0, np.nan), known), axis=1)


def distance_gpc(z: Floats) -> Floats:
    """Return the luminosity distance (n,) in Gpc of a flat universe with H0 = 70, matter 0.3; NaN stays NaN.

    Eight Gauss-Legendre nodes: exact to 1e-4 up to redshift 5.
    """
    place = 0.5 * z[:, None] * (_NODES + 1.0)
    integral = 0.5 * z * (_NODE_WEIGHTS / np.sqrt(0.3 * (1.0 + place) ** 3 + 0.7)).sum(axis=1)
    return np.asarray((1.0 + z) * integral * 299792.458 / 70.0 / 1000.0)


def without_host(tensors: Tensors) -> Tensors:
    """Return the tensors for a model that never looks at the host: the last scalars are left out."""
    return replace(tensors, scalars=tensors.scalars[:, : -len(HOST)])


def hide_host(scalars: Float32s, hidden: NDArray[np.bool_]) -> Float32s:
    """Return scalars (A, S) as `build` gives them when no redshift is known, for the rows ``hidden`` (A,)."""
    out = scalars.copy()
    out[np.ix_(hidden, np.arange(out.shape[1] - len(HOST), out.shape[1]))] = (np.nan, np.nan, np.nan, np.nan, 0.0)
    return out
