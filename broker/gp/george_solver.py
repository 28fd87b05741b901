"""The field's solver: ``george`` with scipy's L-BFGS-B, as ``avocado`` and ``astronet`` call it (optional packages).

Start and bounds are theirs; on failure the start values stay. It is the baseline of `tocsin bench gp`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from broker.core.batch import Floats, LightCurves
from broker.core.errors import TocsinError
from broker.gp.dense import Curve, curve_at
from broker.gp.model import (
    LOG_AMPLITUDE_RANGE,
    LOG_TIME_SCALE_MAX,
    START_TIME_SCALE_D,
    WAVELENGTH_SCALE_AA,
    Fit,
    Prediction,
    start_amplitude,
    usable,
)


def process(curve: Curve, amplitude: float, tau_d: float) -> Any:
    """Return george's GP on the curve's points at given hyper-parameters, its wavelength scale frozen."""
    import george

    metric = [tau_d**2, WAVELENGTH_SCALE_AA**2]
    gp = george.GP(amplitude**2 * george.kernels.Matern32Kernel(metric, ndim=2))
    gp.freeze_parameter("kernel:k2:metric:log_M_1_1")
    gp.compute(np.column_stack([curve.time, curve.wavelength]), curve.error)
    return gp


def optimise(curve: Curve) -> tuple[Any, float]:
    """Return george's GP at the optimum that L-BFGS-B finds, and the log likelihood there."""
    from scipy.optimize import minimize

    gp = process(curve, start_amplitude(curve.flux, curve.error), START_TIME_SCALE_D)
    start = gp.get_parameter_vector()
    answer = minimize(
        lambda p: (gp.set_parameter_vector(p), -gp.log_likelihood(curve.flux, quiet=True))[1],
        start,
        jac=lambda p: (gp.set_parameter_vector(p), -gp.grad_log_likelihood(curve.flux, quiet=True))[1],
        bounds=[(start[0] - LOG_AMPLITUDE_RANGE, start[0] + LOG_AMPLITUDE_RANGE), (0.0, LOG_TIME_SCALE_MAX)],
        method="L-BFGS-B",
        tol=1e-6,
    )
    gp.set_parameter_vector(answer.x if answer.success else start)
    return gp, float(gp.log_likelihood(curve.flux, quiet=True))


def hyper_parameters(gp: Any) -> tuple[float, float]:
    """Return amplitude (nJy) and time scale (days) of one of george's GPs."""
    log_constant, log_metric = gp.get_parameter_vector()
    return float(np.sqrt(2.0 * np.exp(log_constant))), float(np.exp(0.5 * log_metric))


class George:
    """George as a `broker.gp.model.Solver`.

    Raises
    ------
    TocsinError
        If ``george`` or ``scipy`` is not installed.
    """

    def __init__(self) -> None:
        try:
            import george  # noqa: F401
            import scipy  # noqa: F401
        except ImportError as error:
            raise TocsinError("the solver 'george' needs: pip install 'tocsin[bench]'") from error

    def fit(self, curves: LightCurves, wavelengths_aa: Floats) -> Fit:
        """Maximise the marginal likelihood of every curve from the field's own start."""
        found = np.full((3, len(curves)), np.nan)
        for row in np.flatnonzero(usable(curves, len(wavelengths_aa))).tolist():
            gp, value = optimise(curve_at(curves, wavelengths_aa, row))
            found[:, row] = (*hyper_parameters(gp), value)
        return Fit(*found)

    def predict(
        self, curves: LightCurves, wavelengths_aa: Floats, times: Floats, fit: Fit, *, variance: bool
    ) -> Prediction:
        """Condition every curve and evaluate it on the grid."""
        shape = (len(curves), len(wavelengths_aa), times.shape[1])
        flux, spread, value = np.full(shape, np.nan), np.full(shape, np.nan), np.full(len(curves), np.nan)
        waves = np.repeat(wavelengths_aa, shape[2])
        for row in np.flatnonzero(usable(curves, shape[1]) & np.isfinite(fit.amplitude)).tolist():
            curve = curve_at(curves, wavelengths_aa, row)
            gp = process(curve, float(fit.amplitude[row]), float(fit.time_scale_d[row]))
            grid = np.column_stack([np.tile(times[row] - curves.mjd[curves.offsets[row]], shape[1]), waves])
            answer = gp.predict(curve.flux, grid, return_var=variance, return_cov=False)
            flux[row] = (answer[0] if variance else answer).reshape(shape[1:])
            if variance:
                spread[row] = answer[1].reshape(shape[1:])
            value[row] = gp.log_likelihood(curve.flux)
        return Prediction(flux, spread, value)

    def log_likelihood(self, curves: LightCurves, wavelengths_aa: Floats, amplitude: Floats, tau_d: Floats) -> Floats:
        """Log marginal likelihood (A,)."""
        value = np.full(len(curves), np.nan)
        for row in np.flatnonzero(usable(curves, len(wavelengths_aa)) & np.isfinite(amplitude)).tolist():
            curve = curve_at(curves, wavelengths_aa, row)
            value[row] = process(curve, float(amplitude[row]), float(tau_d[row])).log_likelihood(curve.flux)
        return value
