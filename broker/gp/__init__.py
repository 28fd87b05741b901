"""The Gaussian process: kernel, fit, interpolation on a grid."""

from broker.gp.api import SOLVERS, fit, interpolate, log_likelihood, solver, warm
from broker.gp.model import Fit, Prediction, Solver
from broker.gp.threads import interpolate_on

__all__ = [
    "SOLVERS",
    "Fit",
    "Prediction",
    "Solver",
    "fit",
    "interpolate",
    "interpolate_on",
    "log_likelihood",
    "solver",
    "warm",
]
