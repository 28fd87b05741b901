"""What the stream sends to sidecars: the host's columns and the stamps of alerts of some classes.

Copies beside the annotation, in the same transaction: nobody's end of a packet. Only public alerts are sent.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from broker.core.bands import SURVEYS
from broker.core.batch import AlertBatch, Ints, PacketBatch, Scores
from broker.core.details import Columns, Details, Images, Missing, NotSent
from broker.core.outcomes import Record
from broker.core.schemas import latest
from broker.core.topics import Topics
from broker.sidecar.product import Array, Kind, Product
from broker.sidecar.write import product_message

Counts = Counter[tuple[str, str]]
"""Products by kind and reason; '' for those that are sent."""
LOGGED = 10
_PUBLIC = 1
_HARMLESS = (NotSent.NO_HOST, NotSent.NO_COLUMNS, NotSent.NO_STAMPS)

log = logging.getLogger("tocsin.feed")


@dataclass(frozen=True, slots=True)
class Feed:
    """Which products are sent, of which alerts; see `broker.core.config.Survey`.

    Attributes
    ----------
    topics : Topics
        Of the sidecars, not of the stream.
    kinds : tuple of Kind
        ``catalog``, ``cutout``.
    class_ids : frozenset of int
        Alerts are sent whose classification gives these classes together more than ``threshold``.
    threshold : float
    ask : callable
        Given a packet and its survey, returns what `broker.decode.details` finds in it.
    """

    topics: Topics
    kinds: tuple[Kind, ...]
    class_ids: frozenset[int]
    threshold: float
    ask: Callable[[bytes, str], Details]

    def chosen(self, alerts: AlertBatch, scores: Scores) -> Ints:
        """Return the numbers (n,) of the alerts (A,) that are sent; none where nothing is classified."""
        if scores.chosen is None:
            return np.zeros(0, np.int64)
        wanted = np.isin(scores.chosen.class_ids, list(self.class_ids))
        p = scores.chosen.probabilities[:, wanted].sum(axis=1)  # NaN where there is no classification
        return np.flatnonzero((p > self.threshold) & (alerts.programid == _PUBLIC))

    def records(self, alerts: AlertBatch, batch: PacketBatch, scores: Scores) -> tuple[list[Record], Counts]:
        """Return the messages of a batch's chosen alerts, and how many products there are or are not."""
        records: list[Record] = []
        counts, headers = Counter[tuple[str, str]](), latest("product").headers
        for number in self.chosen(alerts, scores).tolist():
            row = int(alerts.rows[number])
            details = self.ask(batch.values[row], alerts.survey)
            for kind in self.kinds:
                made = product(kind, details, alerts, number)
                if isinstance(made, Product):
                    key, value = alerts.object_id[number].encode(), product_message(made)
                    records.append(Record(row, self.topics.product(kind), key, value, headers))
                else:
                    _tell(kind, made, alerts, number, sum(counts.values()))
                counts[kind, "" if isinstance(made, Product) else made.reason] += 1
        return records, counts


def product(kind: Kind, details: Details, alerts: AlertBatch, number: int) -> Product | Missing:
    """Return one alert's product, or why there is none. Its id is always the same: ``ztf.2475433850015010009.cutout``.

    Parameters
    ----------
    number : int
        Of the alert among ``alerts``.
    """
    found = details.catalog if kind == Kind.CATALOG else details.cutout
    if isinstance(found, Missing):
        return found
    survey, alert_id = alerts.survey, int(alerts.alert_id[number])
    name, object_id = f"{survey}.{alert_id}.{kind}", alerts.object_id[number]
    made = (
        _catalog(name, found) if isinstance(found, Columns) else _cutout(name, object_id, found, _band(alerts, number))
    )
    return replace(made, survey=survey, object_id=object_id, alert_id=alert_id)


def _catalog(name: str, found: Columns) -> Product:
    arrays = {key: Array(found.units[key], np.array([value])) for key, value in found.values.items()}
    return Product(name, Kind.CATALOG, [found.record], arrays)


def _cutout(name: str, object_id: str, found: Images, band: str) -> Product:
    return Product(
        name,
        Kind.CUTOUT,
        [object_id],
        {"image": Array(found.unit, found.pixels[None])},
        bands=tuple(f"{image}{band}" for image in found.names),
        pixel_scale_arcsec=found.pixel_scale_arcsec,
        psf_fwhm_arcsec=found.psf_fwhm_arcsec,
        zero_point=found.zero_point,
    )


def _band(alerts: AlertBatch, number: int) -> str:
    """Return what follows the name of an image: '_g', or '' where the band is unknown."""
    band = int(alerts.band[number])
    return f"_{SURVEYS[alerts.survey].bands[band]}" if band >= 0 else ""


def _tell(kind: Kind, missing: Missing, alerts: AlertBatch, number: int, before: int) -> None:
    """Log what is wrong with a packet's own fields, of the first products of a batch."""
    if missing.reason in _HARMLESS or before >= LOGGED:
        return
    alert = {"survey": alerts.survey, "alert_id": int(alerts.alert_id[number]), "object_id": alerts.object_id[number]}
    log.warning("no %s: %s: %s", kind, missing.reason, missing.text, extra=alert)
