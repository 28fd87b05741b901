"""What the simulators give: a packet, when the survey sent it, and what it truly is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

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
    peak_mjd : float or None
        MJD TAI of the light curve's zero: its maximum, or within days of it; None for what has none.
    artefact : bool
    sent_ms : int
        When the survey sent the alert, Unix ms UTC; in real time, when the simulator did.
    poison : str
        SHA-256 of a packet that was spoilt on purpose, '' for a good one.
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
    peak_mjd: float | None = None
    artefact: bool = False
    sent_ms: int = -1
    poison: str = ""

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
    number : int
        Of the object in the simulation.
    """

    value: bytes
    timestamp_ms: int
    truth: Truth
    number: int = 0


def spoilt(packet: SimulatedPacket, kind: float) -> SimulatedPacket:
    """Return a packet that no broker can understand: cut, with bytes behind its end, or without its magic bytes.

    Parameters
    ----------
    kind : float
        In [0, 1): how.
    """
    value = packet.value
    if kind < 0.5:
        value = value[: 100 + int(1.8 * kind * (len(value) - 100))]
    else:
        value = value + b"behind the end" if kind < 0.75 else b"\xff" + value[1:]
    digest = hashlib.sha256(value).hexdigest()
    return SimulatedPacket(value, packet.timestamp_ms, replace(packet.truth, poison=digest), packet.number)


def of_kind(kind: int) -> tuple[int, str, bool]:
    """Return (class id, name, transient) of a kind's number."""
    if kind < 0:
        return 0, _OTHERS[kind], False
    found = KINDS[kind]
    return found.class_id, found.name, found.transient
