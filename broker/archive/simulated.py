"""What the simulators give: a packet, when the survey sent it, and what it truly is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from broker.archive.population import KINDS
from broker.archive.sky import ARTEFACT, SOLAR_SYSTEM

_OTHERS = {ARTEFACT: "artefact", SOLAR_SYSTEM: "solar system"}


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth about one packet: one line of ``truth.jsonl``, one message of ``<TOPIC>.truth``.

    Attributes
    ----------
    survey : str
    alert_id : int
        ZTF ``candid``, Rubin ``diaSourceId``.
    object_id : str
        As `broker.decode` names it.
    class_id : int
        ELAsTiCC class id; 0 for artefacts and solar-system objects.
    class_name : str
    transient : bool
        An explosion or disruption: what a follow-up observer calls a real transient.
    z : float or None
    mjd : float
        MJD TAI, middle of the alerting exposure.
    snr : float
        True signal to noise of the alerting detection.
    detections : int
        Detections in the packet's histories and its own.
    points : int
        Entries of all histories and its own.
    programid : int
    test : bool
    """

    survey: str
    alert_id: int
    object_id: str
    class_id: int
    class_name: str
    transient: bool
    z: float | None
    mjd: float
    snr: float
    detections: int
    points: int
    programid: int
    test: bool

    def as_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class SimulatedPacket:
    """A packet as the survey would send it.

    Attributes
    ----------
    value : bytes
    timestamp_ms : int
        When the survey sends it, Unix ms UTC.
    truth : Truth
    """

    value: bytes
    timestamp_ms: int
    truth: Truth


def of_kind(kind: int) -> tuple[int, str, bool]:
    """Return (class id, name, transient) of a kind's number."""
    if kind < 0:
        return 0, _OTHERS[kind], False
    found = KINDS[kind]
    return found.class_id, found.name, found.transient
