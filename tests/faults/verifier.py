"""The blind verifier: was every input delivered exactly once?

It shares no code with the broker: a plain ``read_committed`` Kafka client, fastavro, and the schema files read from
disk. What it calls an end: an annotation on an ``all`` topic, a sidecar's result, a dead letter, or a filtered offset
of a ledger record. A dead letter and the outcome of its retry, which a later ledger record names, are one end: the
later one.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from fastavro.schema import to_parsing_canonical_form

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"

Place = tuple[str, int, int]


@dataclass(frozen=True)
class Report:
    """How many inputs there are, and what is wrong: inputs without an end or with several, ends without an input."""

    inputs: int
    lost: list[Place]
    doubled: list[Place]
    invented: list[Place]
    ledger_differs: list[Place]
    retries_differ: list[Place]
    """Retries without a dead letter before them, or that did not end as the ledger says."""
    ended: Counter[str]
    """How many inputs ended how, a retried one as its last outcome."""

    @property
    def sound(self) -> bool:
        return not (self.lost or self.doubled or self.invented or self.ledger_differs or self.retries_differ)

    def __str__(self) -> str:
        named = {
            "lost": self.lost,
            "doubled": self.doubled,
            "invented": self.invented,
            "not in ledger": self.ledger_differs,
            "not retried as the ledger says": self.retries_differ,
        }
        return f"{self.inputs} inputs, " + ", ".join(
            f"{len(found)} {name} {found[:3]}" for name, found in named.items()
        )


def read_inputs(bootstrap: str, topics: list[str]) -> list[Place]:
    """Return the place of every packet on ``topics``."""
    return [(m.topic(), m.partition(), m.offset()) for m in _messages(bootstrap, topics)]


def verify_kafka(
    bootstrap: str,
    source_topics: list[str],
    prefix: str,
    surveys: tuple[str, ...] = ("ztf",),
    inputs: list[Place] | None = None,
    *,
    sidecar: bool = False,
) -> Report:
    """Compare the packets on ``source_topics`` (or ``inputs``) with what was published under ``prefix``."""
    inputs = read_inputs(bootstrap, source_topics) if inputs is None else inputs
    ends = [f"{prefix}.results"] if sidecar else [f"{prefix}.{survey}.all" for survey in surveys]
    annotations = read_records(bootstrap, ends, "result" if sidecar else "annotation")
    dead = read_records(bootstrap, [f"{prefix}.dead-letters"], "deadletter")
    ledgers = list(read_records(bootstrap, [f"{prefix}.ledger"], "ledger"))
    return _report(inputs, annotations, dead, ledgers)


def verify_directory(directory: Path, inputs: list[Place]) -> Report:
    """Compare ``inputs`` (path, 0, record) with the files of a replay."""
    with (directory / "manifest.jsonl").open() as lines:
        ledgers = [json.loads(line)["ledger"] for line in lines]
    annotations = chain(_containers(directory / "annotations"), _containers(directory / "results"))
    return _report(inputs, annotations, _containers(directory / "dead_letters"), ledgers)


def _report(
    inputs: list[Place],
    annotations: Iterable[dict[str, Any]],
    dead: Iterable[dict[str, Any]],
    ledgers: list[dict[str, Any]],
) -> Report:
    found: dict[Place, list[str]] = {}
    for annotation in annotations:
        found.setdefault(_place(annotation["source"]), []).append(annotation["outcome"])
    for letter in dead:
        found.setdefault(_place(letter), []).append("dead_lettered")
    for filtered in (filtered for ledger in ledgers for filtered in ledger["filtered"]):
        found.setdefault(_place(filtered), []).append("filtered")
    differ = _pair(found, [retry for ledger in ledgers for retry in ledger.get("retried", [])])
    ends = Counter({place: len(outcomes) for place, outcomes in found.items()})
    claimed = Counter(
        (source["topic"], source["partition"], offset)
        for ledger in ledgers
        for source in ledger["sources"]
        for offset in range(source["first"], source["last"] + 1)
    )
    known = set(inputs)
    assert len(known) == len(inputs)
    return Report(
        inputs=len(inputs),
        lost=sorted(known - set(ends)),
        doubled=sorted(place for place, count in ends.items() if count > 1),
        invented=sorted(set(ends) - known),
        ledger_differs=sorted(place for place in set(claimed) | set(ends) if claimed[place] != ends[place]),
        retries_differ=sorted(differ),
        ended=Counter(outcome for outcomes in found.values() for outcome in outcomes),
    )


def _pair(found: dict[Place, list[str]], retries: list[dict[str, Any]]) -> set[Place]:
    """Take from ``found`` the dead letter that each retry is of; return the places where that does not come out."""
    last = {_place(retry): retry["outcome"] for retry in retries}
    differ = set()
    for retry in retries:
        outcomes = found.setdefault(_place(retry), [])
        if retry["outcome"] == "filtered":
            outcomes.append("filtered")  # such an end has no record but this
        if "dead_lettered" in outcomes:
            outcomes.remove("dead_lettered")
        else:
            differ.add(_place(retry))
    return differ | {place for place, outcome in last.items() if found[place] != [outcome]}


def _place(record: dict[str, Any]) -> Place:
    return record["topic"], record["partition"], record["offset"]


def _containers(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.avro")):
        with path.open("rb") as file:
            for record in fastavro.reader(file):
                assert isinstance(record, dict)
                yield record


def read_records(bootstrap: str, topics: list[str], schema: str) -> Iterator[dict[str, Any]]:
    """Yield every committed record of ours on ``topics``."""
    parsed: dict[bytes, Any] = {}  # by wire id, and by the fingerprint that the header has where a registry gave the id
    for path in (SCHEMAS / schema).glob("*/schema.avsc"):
        major, minor = map(int, path.parent.name.split("."))
        found = json.loads(path.read_text())
        fingerprint = hashlib.sha256(to_parsing_canonical_form(found).encode()).digest()
        parsed[(100 * major + minor).to_bytes(4, "big")] = parsed[fingerprint] = fastavro.parse_schema(found)
    for message in _messages(bootstrap, topics):
        value = message.value()
        assert value is not None
        assert value[:1] == b"\0"
        writer = parsed[dict(message.headers() or []).get("schema", value[1:5])]
        record = fastavro.schemaless_reader(io.BytesIO(value[5:]), writer, None)
        assert isinstance(record, dict)
        yield record


def _messages(bootstrap: str, topics: list[str]) -> Iterator[Message]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "blind-verifier",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
            "log_level": 2,
        }
    )
    try:
        known = consumer.list_topics(timeout=10).topics
        waiting = {(topic, number) for topic in topics if topic in known for number in known[topic].partitions}
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in waiting])
        while waiting:
            message = consumer.poll(10)
            assert message is not None, f"no answer of {waiting}"
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                waiting.discard((message.topic() or "", message.partition() or 0))
            else:
                raise AssertionError(error)
    finally:
        consumer.close()
