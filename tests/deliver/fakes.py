"""A step without astronomy: the packet's first byte decides how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from broker.core.batch import FilePacket, PacketBatch
from broker.core.errors import Wait
from broker.core.outcomes import DeadLetter, Outcomes, Record
from broker.core.reasons import Outcome
from broker.core.schemas import fitting
from broker.core.topics import Topics

ENDS = {
    b"s": (Outcome.SCORED, ""),
    b"u": (Outcome.UNSCORED, "bogus"),
    b"f": (Outcome.FILTERED, "programid"),
    b"d": (Outcome.DEAD_LETTERED, "malformed"),
}
PATTERN = b"sssusfsd"


def primary(topics: Topics) -> frozenset[str]:
    return frozenset({topics.all("ztf")})


def packet(number: int, size: int = 64) -> bytes:
    """Return a packet whose end is told by its number."""
    return PATTERN[number % len(PATTERN)].to_bytes(1, "big") + number.to_bytes(8, "big") + b"." * max(0, size - 9)


def number_of(packet: bytes) -> int:
    """Return the number of a packet."""
    return int.from_bytes(packet[1:9], "big")


def annotation(number: int, topic: str, partition: int, offset: int, outcome: Outcome, reason: str) -> dict[str, Any]:
    return {
        "alertId": number,
        "diaSourceId": number,
        "objectId": f"object{number % 10}",
        "survey": "ztf",
        "outcome": "scored" if outcome == Outcome.SCORED else "unscored",
        "unscoredReason": reason or None,
        "ra": 0.0,
        "dec": 0.0,
        "mjd": 60000.0,
        "band": "g",
        "classifiers": [],
        "points": {"used": 1, "notFinite": 0, "unknownBand": 0, "duplicate": 0, "notPublic": 0},
        "summary": {"nDetections": 1, "nForced": 0, "nLimits": 0, "lastMag": {}, "riseRate": {}},
        "context": {"solarSystem": False, "negative": False, "repeated": False},
        "source": {"topic": topic, "partition": partition, "offset": offset, "timestamp": -1},
        "brokerIngestTimestamp": 0,
        "brokerPublishTimestamp": 0,
        "brokerName": "tocsin",
        "brokerVersion": "test",
    }


@dataclass
class FakeStep:
    """Ends each packet as its first byte says, with a copy of each scored one on a class topic."""

    topics: Topics = field(default_factory=Topics)
    waits: int = 0
    pause_s: float = 0.0
    before: Callable[[PacketBatch], None] = lambda batch: None
    mended: bool = False  # a better version: what was dead is scored
    calls: int = 0
    seen: list[int] = field(default_factory=list)

    def __call__(self, batch: PacketBatch) -> Outcomes:
        self.calls += 1
        self.before(batch)
        if self.waits:
            self.waits -= 1
            raise Wait("the registry is away")
        time.sleep(self.pause_s)
        known = {**ENDS, b"d": ENDS[b"s"]} if self.mended else ENDS
        ends = [known[value[:1]] for value in batch.values]
        records, dead = [], []
        for row, (outcome, reason) in enumerate(ends):
            number = number_of(batch.values[row])
            if outcome <= Outcome.UNSCORED:
                where = batch.topics[row], int(batch.partitions[row]), int(batch.offsets[row])
                said = annotation(number, *where, outcome, reason)
                schema = fitting("annotation", said)
                value = schema.encode(said)
                key = f"object{number % 10}".encode()
                records.append(Record(row, self.topics.all("ztf"), key, value, schema.headers))
                if outcome == Outcome.SCORED:
                    records.append(Record(row, self.topics.of_class("ztf", "ia"), key, value, schema.headers))
            elif outcome == Outcome.DEAD_LETTERED:
                dead.append(DeadLetter(row, "decode", reason, f"packet {number} is broken"))
        codes = np.array([outcome for outcome, _ in ends], np.int8)
        return Outcomes(codes, [reason for _, reason in ends], records, dead)

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
        self.seen += [number_of(value) for value in batch.values]


def file_packets(
    directory: Path, count: int, records_per_file: int = 10, make: Callable[[int], bytes] = packet
) -> Iterator[FilePacket]:
    """Yield packets as an archive reader would; the files themselves are not needed."""
    for number in range(count):
        path = directory / f"{number // records_per_file}.avro"
        yield FilePacket(str(path), number % records_per_file, make(number))
