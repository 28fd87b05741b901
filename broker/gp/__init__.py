"""The Gaussian process: kernel, fit, interpolation on a grid."""

from broker.gp.api import SOLVERS, fit, interpolate, log_likelihood, solver
from broker.gp.model import Fit, Prediction, Solver

__all__ = ["SOLVERS", "Fit", "Prediction", "Solver", "fit", "interpolate", "log_likelihood", "solver"]
