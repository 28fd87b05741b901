"""What a supernova's light curve might have been on another night: fewer points, more noise, an earlier end."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from broker.core.batch import Kind, LightCurves
from broker.models.transients.augment import Bools, Rng, chosen_detection, of_points


def flagged(curves: LightCurves, snr: float) -> LightCurves:
    """Return curves of which a point is a detection from ``snr`` sigma on, and forced below: limits stay limits."""
    above = curves.flux_njy >= snr * curves.flux_err_njy
    kind = np.where(curves.kind == Kind.LIMIT, Kind.LIMIT, np.where(above, Kind.DETECTION, Kind.FORCED))
    return replace(curves, kind=kind.astype(np.int8))


def fainter(curves: LightCurves, rng: Rng, chance: float) -> LightCurves:
    """Return curves of which a fraction ``chance`` has up to 1.5 times its errors, and noise to match."""
    factor = np.where(rng.random(len(curves)) < chance, rng.uniform(0.0, 1.1, len(curves)), 0.0)
    extra = of_points(curves, factor) * curves.flux_err_njy
    flux = curves.flux_njy + extra * rng.standard_normal(len(extra))
    return replace(curves, flux_njy=flux, flux_err_njy=np.hypot(curves.flux_err_njy, extra))


def cut(curves: LightCurves, rng: Rng, chance: float) -> LightCurves:
    """Return curves of which a fraction ``chance`` ends at one of its detections."""
    end = np.where(rng.random(len(curves)) < chance, chosen_detection(curves, rng), np.inf)
    return curves.keep(np.asarray(~(curves.mjd > of_points(curves, end))))


def thin(curves: LightCurves, rng: Rng, chance: float) -> LightCurves:
    """Return curves of which a fraction ``chance`` lost up to 40 % of its points."""
    share = np.where(rng.random(len(curves)) < chance, rng.uniform(0.6, 1.0, len(curves)), 1.0)
    return curves.keep(np.asarray(rng.random(len(curves.mjd)) < of_points(curves, share)))


def joined(first: LightCurves, *others: LightCurves) -> LightCurves:
    """Return the curves of all, one after the other."""
    every = (first, *others)
    starts = np.cumsum([0, *(len(c.mjd) for c in every)])
    offsets = [first.offsets[:1], *(c.offsets[1:] + start for c, start in zip(every, starts, strict=False))]
    columns = (np.concatenate([getattr(c, f.name) for c in every]) for f in fields(LightCurves)[1:])
    return LightCurves(np.concatenate(offsets), *columns)


def either(yes: LightCurves, no: LightCurves, which: Bools) -> LightCurves:
    """Return the curves of ``yes`` where ``which`` (A,) is true, of ``no`` elsewhere."""
    return joined(yes, no).take(np.where(which, np.arange(len(yes)), np.arange(len(yes)) + len(yes)))
