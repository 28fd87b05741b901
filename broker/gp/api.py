"""The room's two verbs, fit and interpolate, over solvers chosen by name.

All of them see errors that the curve's own close exposures confirm (see `noise`); the solvers themselves, called
directly, believe what is stated.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from broker.core.batch import Floats, Interpolated, LightCurves
from broker.core.errors import TocsinError
from broker.gp.model import Fit, Solver, check_sorted
from broker.gp.noise import believable


def solver(name: str) -> Solver:
    """Return a solver: ``fast``, ``fast64`` (its exact float64 prediction), ``dense``, ``torch`` or ``george``.

    Raises
    ------
    TocsinError
        If there is no such solver, or its package is not installed.
    """
    if name not in SOLVERS:
        raise TocsinError(f"no GP solver {name!r}; there are: {', '.join(SOLVERS)}")
    return _made(name)


def fit(curves: LightCurves, wavelengths_aa: Floats, *, solver: str = "fast") -> Fit:
    """Fit amplitude and time scale of every light curve.

    Parameters
    ----------
    curves : LightCurves
        Sorted in time within each curve. All kinds of points count alike: a limit is flux 0 with its depth as error.
    wavelengths_aa : (B,) float
        Central wavelengths of the bands, Å.
    solver : {"fast", "fast64", "dense", "torch", "george"}

    Returns
    -------
    Fit
        NaN in the rows of curves without points, or with a point that is not finite, has no positive error, or has an
        unknown band. No curve's result depends on another's.

    Raises
    ------
    ValueError
        If a curve is not sorted in time.
    TocsinError
        If there is no such solver.
    """
    check_sorted(curves)
    waves = np.asarray(wavelengths_aa, dtype=np.float64)
    return _by_name(solver).fit(believable(curves, len(waves)), waves)


def interpolate(
    curves: LightCurves,
    wavelengths_aa: Floats,
    times: Floats,
    *,
    solver: str = "fast",
    variance: bool = True,
    at: Fit | None = None,
) -> Interpolated:
    """Fit every light curve and evaluate its posterior on a grid.

    Parameters
    ----------
    curves, wavelengths_aa, solver
        As for `fit`.
    times : (A, T) float64
        Grid times of each curve, MJD TAI. In time order the fast solver is fastest.
    variance : bool
        Whether to compute the variance, about half of the cost; NaN where not.
    at : Fit, optional
        Hyper-parameters to use instead of fitting.

    Returns
    -------
    Interpolated
        Rows of unusable curves and points at non-finite times are NaN.

    Raises
    ------
    ValueError
        If a curve is not sorted in time, or ``times`` is not (A, T).
    TocsinError
        If there is no such solver.
    """
    check_sorted(curves)
    times = np.asarray(times, dtype=np.float64)
    if times.ndim != 2 or len(times) != len(curves):
        raise ValueError(f"times must be ({len(curves)}, T), not {times.shape}")
    chosen, waves = _by_name(solver), np.asarray(wavelengths_aa, dtype=np.float64)
    curves = believable(curves, len(waves))
    fitted = chosen.fit(curves, waves) if at is None else at
    _check_rows(curves, fitted.amplitude, fitted.time_scale_d)
    answer = chosen.predict(curves, waves, times, fitted, variance=variance)
    # a curve that is predicted in windows has no exact likelihood: the fit's own stands for it
    exact = np.isfinite(answer.log_likelihood)
    return Interpolated(
        times,
        _float32(answer.flux),
        _float32(answer.variance),
        fitted.amplitude,
        fitted.time_scale_d,
        np.where(exact, answer.log_likelihood, fitted.log_likelihood),
    )


def log_likelihood(
    curves: LightCurves, wavelengths_aa: Floats, amplitude: Floats, time_scale_d: Floats, *, solver: str = "dense"
) -> Floats:
    """Return the log marginal likelihood (A,) at given amplitudes (A,), nJy, and time scales (A,), days."""
    check_sorted(curves)
    _check_rows(curves, amplitude, time_scale_d)
    waves = np.asarray(wavelengths_aa, dtype=np.float64)
    return _by_name(solver).log_likelihood(believable(curves, len(waves)), waves, amplitude, time_scale_d)


def warm() -> None:
    """Compile the fast solver in each of its precisions, which a few light curves need not meet."""
    errors, points = (0.3, 0.025, 0.003), 20
    total = len(errors) * points
    mjd = np.tile(np.arange(float(points)), len(errors))
    codes = np.zeros(total, np.int8)
    error = np.repeat(errors, points)
    curves = LightCurves(np.arange(len(errors) + 1) * points, mjd, np.sin(mjd), error, codes, codes)
    at = Fit(*(np.full(len(errors), value) for value in (1.0, 10.0, 0.0)))
    for variance in (False, True):
        interpolate(curves, np.array([5000.0]), mjd.reshape(len(errors), points), variance=variance, at=at)
    fit(curves, np.array([5000.0]))


def _check_rows(curves: LightCurves, amplitude: Floats, time_scale_d: Floats) -> None:
    if amplitude.shape != (len(curves),) or time_scale_d.shape != (len(curves),):
        raise ValueError(f"hyper-parameters of {len(curves)} curves, not {amplitude.shape} and {time_scale_d.shape}")


def _float32(values: Any) -> Any:
    """Narrow to float32; what does not fit becomes NaN, not infinity."""
    with np.errstate(over="ignore"):
        narrow = np.asarray(values).astype(np.float32)
    narrow[np.isinf(narrow)] = np.nan
    return narrow


def _dense() -> Solver:
    from broker.gp.dense import Dense

    return Dense()


def _fast() -> Solver:
    from broker.gp.fast import Fast

    return Fast()


def _fast64() -> Solver:
    from broker.gp.fast import Fast

    return Fast(cut=0.0, tail=0.0, single=np.inf, single_variance=np.inf, join=0.0)


def _george() -> Solver:
    from broker.gp.george_solver import George

    return George()


def _torch() -> Solver:
    try:
        from broker.gp.torch_solver import Torch
    except ImportError as error:
        raise TocsinError("the solver 'torch' needs: pip install 'tocsin[broker]'") from error
    return Torch()


SOLVERS = {"fast": _fast, "fast64": _fast64, "dense": _dense, "george": _george, "torch": _torch}
_by_name = solver


@cache
def _made(name: str) -> Solver:
    return SOLVERS[name]()
