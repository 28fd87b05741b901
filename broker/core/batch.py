"""The types that flow from stage to stage.

A = alerts of a batch, D = light-curve points of all its alerts, B = bands, T = grid times.
All are frozen: a stage makes a new value, it never edits its input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FILE_PACKET_BYTES = 32_000_000
"""Of a larger packet in a file so many are read, and one more: whoever reads it says that it is too large."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Kind(IntEnum):
    """What a light-curve point is."""

    DETECTION = 0
    FORCED = 1
    LIMIT = 2


@dataclass(frozen=True, slots=True)
class PacketBatch:
    """Packets as they left their source, still bytes.

    Attributes
    ----------
    values : list of bytes, (A,)
        Untouched packets.
    topics, partitions, offsets : (A,)
        Where each came from. For files: the file's path, 0, and the record's number in it.
    timestamps_ms : (A,) int64
        The source's own time stamp, Unix ms UTC; -1 where it has none.
    ingest_ms : int
        When the batch was read, Unix ms UTC.
    members : list of str, (A,)
        Of tarballs, the names of the members that they are, '' of others; empty where none is such.
    """

    values: list[bytes]
    topics: list[str]
    partitions: NDArray[np.int32]
    offsets: Ints
    timestamps_ms: Ints
    ingest_ms: int
    members: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    def name(self, row: int) -> str:
        """Return what a packet of a file is called: the file, and behind it the member of a tarball; else the topic."""
        member = self.members[row] if self.members else ""
        return f"{self.topics[row]}/{member}" if member else self.topics[row]

    def part(self, begin: int, end: int) -> Self:
        """Return the packets of rows ``begin`` to ``end``, that one not included."""
        columns = {f.name: getattr(self, f.name)[begin:end] for f in fields(self) if f.name != "ingest_ms"}
        return type(self)(**columns, ingest_ms=self.ingest_ms)


@dataclass(frozen=True, slots=True)
class FilePacket:
    """A packet read from a file, or from a stretch of a topic that is read like one.

    Attributes
    ----------
    path : str
        Absolute path of the file; for a member of a tarball, the tarball's path; the topic.
    record : int
        Number of the record or member in it, from 0; the offset. (path, partition, record) is the packet's identity in
        the ledger.
    value : bytes
        The packet, untouched.
    partition : int
        Of the topic; 0 for files.
    timestamp_ms : int
        The source's own time stamp, Unix ms UTC; -1 where it has none.
    member : str
        Name of a member of a tarball, '' of other packets.
    """

    path: str
    record: int
    value: bytes
    partition: int = 0
    timestamp_ms: int = -1
    member: str = ""


@dataclass(frozen=True, slots=True)
class AlertBatch:
    """One row per alert of one survey; every column has shape (A,).

    Attributes
    ----------
    survey : str
        Key of `broker.core.bands.SURVEYS`.
    rows : int64
        Row of each alert in the `PacketBatch` it was decoded from.
    alert_id, dia_source_id : int64
        ZTF ``candid`` for both; Rubin ``alertId`` (``diaSourceId`` where the schema has none) and ``diaSourceId``.
    object_id : list of str
        ZTF ``objectId``; Rubin ``diaObjectId`` in digits, or ``ss`` + ``ssObjectId``.
    ra_deg, dec_deg : float64
        ICRS degrees.
    mjd : float64
        TAI, middle of the exposure of the detection that alerted.
    band : int8
        Index into the survey's bands, -1 unknown.
    flux_njy, flux_err_njy : float64
        Difference flux of that detection and its 1-sigma error, nJy (AB 31.4); NaN where missing.
    real_bogus, star_galaxy, ref_distance_arcsec : float32
        The survey's own scores in [0, 1] and the distance to the nearest reference source; NaN where missing.
    solar_system, negative, test : bool
        Known solar-system object; negative difference; the survey marks it as a test.
    solar_system_id : text
        Name or id of the solar-system object, '' for none.
    programid : int16
        ZTF ``programid`` (1 = public); 1 for Rubin.
    published_ms : int64
        When the survey says that it published, Unix ms; -1 unknown.
    not_public : int64
        Points of partnership data that were left out of a public alert's history.
    """

    survey: str
    rows: Ints
    alert_id: Ints
    dia_source_id: Ints
    object_id: list[str]
    ra_deg: Floats
    dec_deg: Floats
    mjd: Floats
    band: NDArray[np.int8]
    flux_njy: Floats
    flux_err_njy: Floats
    real_bogus: NDArray[np.float32]
    star_galaxy: NDArray[np.float32]
    ref_distance_arcsec: NDArray[np.float32]
    solar_system: NDArray[np.bool_]
    solar_system_id: list[str]
    negative: NDArray[np.bool_]
    test: NDArray[np.bool_]
    programid: NDArray[np.int16]
    published_ms: Ints
    not_public: Ints

    def __len__(self) -> int:
        return len(self.alert_id)

    def take(self, index: Ints) -> Self:
        """Return the alerts at ``index`` (n,), in that order."""
        columns = {f.name: _pick(getattr(self, f.name), index) for f in fields(self) if f.name != "survey"}
        return type(self)(survey=self.survey, **columns)


@dataclass(frozen=True, slots=True)
class LightCurves:
    """The points of A light curves, ragged: those of alert i are ``offsets[i]:offsets[i + 1]``.

    Attributes
    ----------
    offsets : (A + 1,) int64
    mjd : (D,) float64
        TAI, middle of the exposure.
    flux_njy, flux_err_njy : (D,) float64
        nJy, AB zero point 31.4. A limit has flux 0 and its 1-sigma depth as error (5-sigma limit / 5).
    band : (D,) int8
        Index into the survey's bands; -1 unknown (dropped by ``lightcurve.merge``).
    kind : (D,) int8
        `Kind`.
    """

    offsets: Ints
    mjd: Floats
    flux_njy: Floats
    flux_err_njy: Floats
    band: NDArray[np.int8]
    kind: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Ints:
        """Points per light curve, (A,)."""
        return np.diff(self.offsets)

    def keep(self, mask: NDArray[np.bool_]) -> Self:
        """Return the same alerts with only the points where ``mask`` (D,) is true."""
        kept = np.concatenate(([0], np.cumsum(mask, dtype=np.int64)))
        return type(self)(kept[self.offsets], *(getattr(self, name)[mask] for name in _POINT_COLUMNS))

    def take(self, index: Ints) -> Self:
        """Return the light curves at ``index`` (n,), in that order."""
        counts = self.counts[index]
        offsets = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        points = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], counts)
        return type(self)(offsets, *(getattr(self, name)[points] for name in _POINT_COLUMNS))


@dataclass(frozen=True, slots=True)
class Interpolated:
    """Gaussian-process interpolation of A light curves on a grid of T times in B bands.

    Attributes
    ----------
    times : (A, T) float64
        MJD TAI of each grid point.
    flux : (A, B, T) float32
        Posterior mean, nJy.
    variance : (A, B, T) float32
        Posterior variance of the noise-free flux, nJy².
    amplitude, time_scale_d : (A,) float64
        Hyper-parameters: kernel standard deviation in nJy, Matern time scale in days.
    log_likelihood : (A,) float64
        Log marginal likelihood at those.
    """

    times: Floats
    flux: NDArray[np.float32]
    variance: NDArray[np.float32]
    amplitude: Floats
    time_scale_d: Floats
    log_likelihood: Floats


@dataclass(frozen=True, slots=True)
class ClassScores:
    """What one classifier says of A alerts.

    Attributes
    ----------
    name, version, weights_hash : str
        Of an average, the last one says what it is the average of.
    class_ids : (K,) int
        ELAsTiCC class ids, the order of the columns.
    prior : (K,) float32
        How common each class is taken to be: probabilities over prior, made to add up to 1, are those of even classes.
    probabilities, uncertainty : (A, K) float32
        Rows sum to one; NaN rows where ``reason`` is not ''. Uncertainty is one standard deviation.
    branch_uncertainty : (A, N) float32
        Of the sums over the branches, `broker.core.taxonomy.over_branches`.
    reason : list of str, (A,)
        '' where scored, else a member of `broker.core.reasons.Unscored`.
    """

    name: str
    version: str
    weights_hash: str
    class_ids: tuple[int, ...]
    prior: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    branch_uncertainty: NDArray[np.float32]
    reason: list[str]


@dataclass(frozen=True, slots=True)
class AnomalyScores:
    """How strange A alerts are: larger is stranger.

    Attributes
    ----------
    name, version, weights_hash : str
    score : (A,) float32
        Percentile rank in [0, 1] among the card's reference set; NaN where ``reason`` is not ''.
    parts : dict of str to (A,) float32
        What the score is made of, and what is published beside it: ``forest`` (isolation-forest score),
        ``reconstruction`` (mean squared error in error bars).
    reason : list of str, (A,)
    nearest : (A,) int64 or None
        Id of the known class that the light curve is nearest to, 0 where there is none; None: the model does not say,
        and the likeliest class that is not rare is published.
    """

    name: str
    version: str
    weights_hash: str
    score: NDArray[np.float32]
    parts: dict[str, NDArray[np.float32]]
    reason: list[str]
    nearest: Ints | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """All scorers' answers for the same A alerts."""

    classifiers: list[ClassScores]
    anomaly: AnomalyScores | None

    @property
    def chosen(self) -> ClassScores | None:
        """The classification that Tocsin goes by: the average of several classifiers, which is the last, or the one."""
        return self.classifiers[-1] if self.classifiers else None


_POINT_COLUMNS = ("mjd", "flux_njy", "flux_err_njy", "band", "kind")


def _pick(column: Any, index: Ints) -> Any:
    return [column[i] for i in index.tolist()] if isinstance(column, list) else column[index]
