"""Rows of a table to points of light curves: nJy, kinds, bands; what cannot be used is named or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Kind
from broker.core.errors import TocsinError
from broker.core.units import JD_TO_MJD, NJY_ZERO_POINT, mag_err_to_njy, mag_to_njy
from broker.tables.names import Layout, band_codes
from broker.tables.read import Chunk
from broker.tables.values import FLAGS, SIGNS, Bools, codes, numbers, unknown

DETECTION_SIGMA = 5.0
LIMIT_SIGMA = 5.0
LATEST_MJD = 200_000.0
"""MJD of the year 2406: a larger number is no MJD."""
_NO_MAG = 90.0
_NO_FLUX = -99999.0

_COLUMNS = ("mjd", "flux_njy", "flux_err_njy", "band", "kind")


@dataclass(frozen=True, slots=True)
class Points:
    """P points, each with the row (from 0) of the chunk that it comes from.

    Attributes
    ----------
    row : (P,) int64
    mjd, flux_njy, flux_err_njy : (P,) float64
    band, kind : (P,) int8
        As in `broker.core.batch.LightCurves`.
    """

    row: NDArray[np.int64]
    mjd: Floats
    flux_njy: Floats
    flux_err_njy: Floats
    band: NDArray[np.int8]
    kind: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Rules:
    """How rows are understood.

    Attributes
    ----------
    survey : str
    layout : Layout
    zp : float
        AB zero point of the fluxes, where it is not a column.
    jd : bool
        Times are JD.
    drop_bad : bool
        Rows that cannot be used are left out and counted in ``dropped``; else they are errors.
    dropped : Counter
        Rows left out, by what is wrong with them.
    """

    survey: str
    layout: Layout
    zp: float = NJY_ZERO_POINT
    jd: bool = False
    drop_bad: bool = False
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def of_alerts(self) -> bool:
        """Whether magnitudes are of differences, as in alerts: there are limits or signs beside them."""
        return "limit" in self.layout or "sign" in self.layout

    def points(self, chunk: Chunk, done: int) -> Points:
        """Return the points of a chunk of rows; ``done`` rows came before.

        Raises
        ------
        TocsinError
            A row cannot be used: it is named, with its object.
        """
        mjd = numbers(self._column(chunk, "mjd"), "mjd", done) - (JD_TO_MJD if self.jd else 0.0)
        measure = self._fluxes if "flux" in self.layout else self._magnitudes
        flux, err, kind = measure(chunk, done)
        raw_band = self._column(chunk, "band")
        band = codes(raw_band, band_codes(self.survey))
        measured = ~(np.isnan(flux) | np.isnan(err))
        bands = ", ".join(SURVEYS[self.survey].bands)
        bad = self._refuse(
            chunk,
            done,
            [
                ("no time", ~np.isfinite(mjd), lambda i: f"mjd is {mjd[i]}"),
                (
                    "a time that is no MJD",
                    abs(mjd) > LATEST_MJD,
                    lambda i: f"the time {mjd[i]} is no MJD{'' if self.jd else ' (--time jd?)'}",
                ),
                ("an error that is not positive", measured & (err <= 0), lambda i: "its error is not positive"),
                (
                    "a band that is not known",
                    unknown(band),
                    lambda i: f"the band {str(raw_band[i])!r} is not one of {self.survey}'s {bands}",
                ),
            ],
        )
        self.dropped["no measurement"] += int(np.sum(~measured & ~bad))
        row = np.flatnonzero(measured & ~bad)
        return Points(row, mjd[row], flux[row], err[row], band[row].astype(np.int8), kind[row])

    def _column(self, chunk: Chunk, quantity: str) -> NDArray[Any]:
        return chunk[self.layout.columns[quantity]]

    def _fluxes(self, chunk: Chunk, done: int) -> tuple[Floats, Floats, NDArray[np.int8]]:
        """Return flux and error in nJy, NaN where nothing was measured, and kind, each (n,)."""
        flux, err = (numbers(self._column(chunk, name), name, done) for name in ("flux", "flux_err"))
        missing = (flux == _NO_FLUX) | (err == _NO_FLUX)
        zp = numbers(self._column(chunk, "zp"), "zp", done) if "zp" in self.layout else self.zp
        with np.errstate(over="ignore"):  # an absurd flux is left out where curves are cleaned
            scale = 10.0 ** (0.4 * (NJY_ZERO_POINT - zp))
            flux, err = np.where(missing, np.nan, flux) * scale, np.where(missing, np.nan, err) * scale
        significant = flux >= DETECTION_SIGMA * err
        return self._with_limits(chunk, done, flux, err, self._detected(chunk, done, significant))

    def _magnitudes(self, chunk: Chunk, done: int) -> tuple[Floats, Floats, NDArray[np.int8]]:
        """Return the same of magnitudes; in a table of alerts every magnitude is a detection."""
        mag, mag_err = (numbers(self._column(chunk, name), name, done) for name in ("mag", "mag_err"))
        mag = np.where(abs(mag) < _NO_MAG, mag, np.nan)
        flux = mag_to_njy(mag)
        err = np.sign(mag_err) * mag_err_to_njy(flux, abs(mag_err))
        if "sign" in self.layout:
            flux = flux * self._signs(chunk, done, ~np.isnan(mag))
        significant = np.full(len(mag), True) if self.of_alerts else abs(flux) >= DETECTION_SIGMA * err
        return self._with_limits(chunk, done, flux, err, self._detected(chunk, done, significant))

    def _with_limits(
        self, chunk: Chunk, done: int, flux: Floats, err: Floats, detected: Bools
    ) -> tuple[Floats, Floats, NDArray[np.int8]]:
        """Make rows without a flux upper limits where there is a 5-sigma depth: flux 0, a fifth of it as the error."""
        kind = np.where(detected, np.int8(Kind.DETECTION), np.int8(Kind.FORCED))
        if "limit" not in self.layout:
            return flux, err, kind
        depth = numbers(self._column(chunk, "limit"), "limit", done)
        limit = np.isnan(flux) & (abs(depth) < _NO_MAG)
        flux = np.where(limit, 0.0, flux)
        err = np.where(limit, mag_to_njy(np.where(limit, depth, np.nan)) / LIMIT_SIGMA, err)
        return flux, err, np.where(limit, np.int8(Kind.LIMIT), kind)

    def _detected(self, chunk: Chunk, done: int, significant: Bools) -> Bools:
        if "detected" not in self.layout:
            return significant
        values = self._column(chunk, "detected")
        found = codes(values, FLAGS)
        self._refuse_always(chunk, done, unknown(found), lambda i: f"detected is {str(values[i])!r}, not true or false")
        return np.asarray(found == 1)

    def _signs(self, chunk: Chunk, done: int, measured: Bools) -> Floats:
        values = self._column(chunk, "sign")
        found = codes(values, SIGNS)
        bad = unknown(found) & measured
        self._refuse_always(chunk, done, bad, lambda i: f"isdiffpos is {str(values[i])!r}, not t, f, 1, 0 or -1")
        return np.where(unknown(found), np.nan, found).astype(np.float64)

    def _refuse(self, chunk: Chunk, done: int, tests: Sequence[tuple[str, Bools, Callable[[int], str]]]) -> Bools:
        """Return where a test is true, after counting those rows; an error where they may not be left out."""
        bad = np.zeros(len(tests[0][1]), np.bool_)
        for what, hit, text in tests:
            if not self.drop_bad:
                self._refuse_always(chunk, done, hit, text, hint="; --drop-bad leaves such rows out")
            self.dropped[what] += int(np.sum(hit & ~bad))
            bad |= hit
        return bad

    def _refuse_always(self, chunk: Chunk, done: int, hit: Bools, text: Callable[[int], str], hint: str = "") -> None:
        if hit.any():
            row = int(np.argmax(hit))
            raise TocsinError(f"row {done + row + 1} (object {self._column(chunk, 'obj')[row]}): {text(row)}{hint}")
