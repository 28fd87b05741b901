from __future__ import annotations

import numpy as np

from broker.score import shape
from broker.score.tensors import Tensors

BANDS = ("g", "r", "i")
NAMES = shape.names(BANDS)


def tensors(flux: np.ndarray, span_d: float, mask: np.ndarray | None = None) -> Tensors:
    """Return one light curve's tensors of flux (T, 3) over ``span_d`` days, errors of 1 % of the scale."""
    times = len(flux)
    series = np.full((1, times, 8), -2.0, np.float32)
    series[0, :, :3] = flux
    series[0, :, -2] = np.log10(1.0 + np.linspace(span_d, 0.0, times))
    present = np.ones((1, times), dtype=bool) if mask is None else mask[None]
    return Tensors(series, present, np.zeros((1, 1), np.float32), np.ones(1, dtype=bool))


def columns(made: Tensors) -> dict[str, float]:
    return dict(zip(NAMES, shape.of_tensors(made)[0].tolist(), strict=True))


def test_colours_levels_and_times_of_a_triangle() -> None:
    # Up in 20 days, down in 60, one grid time a day; r is twice g, i half of g, always.
    days = np.arange(81.0)
    level = np.interp(days, [0.0, 20.0, 80.0], [0.0, 1.0, 0.0])
    found = columns(tensors(level[:, None] * np.array([1.0, 2.0, 0.5]), 80.0))
    for phase in (0, 15, 30):
        np.testing.assert_allclose(found[f"colour_gr_{phase}d"], -np.log10(2.0), atol=1e-3)
        np.testing.assert_allclose(found[f"colour_ri_{phase}d"], np.log10(4.0), atol=1e-3)
    np.testing.assert_allclose(found["level_30d"], np.log10(0.5), atol=1e-2)
    np.testing.assert_allclose(found["log_rise_d_0.25"], np.log10(1 + 15.0), atol=0.03)
    np.testing.assert_allclose(found["log_fall_d_0.25"], np.log10(1 + 45.0), atol=0.03)
    assert found["rises_before_0.75"] == 0.0
    assert found["falls_after_0.75"] == 0.0


def test_what_was_not_seen_is_unknown() -> None:
    days = np.arange(41.0)
    rising = np.repeat((1.0 + days)[:, None], 3, axis=1)
    found = columns(tensors(rising / 41.0, 40.0))
    assert np.isnan(found["colour_gr_15d"])  # after the window
    assert np.isnan(found["level_15d"])
    assert np.isfinite(found["colour_gr_-15d"])
    assert found["falls_after_0.75"] == 1.0
    hidden = days < 30
    masked = columns(tensors(rising / 41.0, 40.0, ~hidden))
    assert np.isnan(masked["colour_gr_-15d"])
    assert np.isfinite(masked["colour_gr_0d"])


def test_hidden_times_do_not_move_the_peak() -> None:
    flux = np.repeat(np.linspace(0.1, 1.0, 41)[:, None], 3, axis=1)
    mask = np.arange(41) < 20
    wild = flux.copy()
    wild[~mask] = 4.0
    before, after = (columns(tensors(f, 40.0, mask)) for f in (flux, wild))
    assert before["colour_gr_-15d"] == after["colour_gr_-15d"]
