"""A real schema registry: the survey's schemas from it, ours into it, and what happens while it is not there."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from broker.archive import simulate
from broker.cli import kafkaserver
from broker.client import subscribe
from broker.core import schemas
from broker.core.config import Settings
from broker.core.reasons import Dead
from broker.core.topics import Topics
from broker.decode import Registry, SchemaStore
from broker.decode.schemas import DiskCache, full_name
from broker.deliver.kafka.reader import read_messages
from broker.deliver.outputs import KafkaOutputs
from tests.conftest import RealKafka
from tests.faults.proxy import CLEAR, Kind, Proxy, Weather
from tests.faults.verifier import SCHEMAS, verify_kafka

from .apicurio import RealRegistry
from .serving import SURVEYS, packets, serving, settings

pytestmark = pytest.mark.kafka

LSST = simulate.schema("lsst").decode()
GARBAGE = b"nonsense"
AWAY = Weather("reset")


class Stream:
    """A topic of packets and the service's settings for it."""

    def __init__(self, kafka: RealKafka, cache: Path) -> None:
        self.kafka, self.cache = kafka, cache
        self.topic, self.prefix = kafka.topic("in", 2), f"t{uuid.uuid4().hex[:8]}"
        self.sent = 0

    def send(self, values: list[bytes]) -> None:
        self.kafka.send(self.topic, values)
        self.sent += len(values)

    def settings(self, **more: Any) -> Settings:
        return settings(
            kafka__brokers=self.kafka.bootstrap,
            kafka__client={"session.timeout.ms": 3000, "heartbeat.interval.ms": 500},
            source__topics=[self.topic],
            source__group=self.prefix,
            output__prefix=self.prefix,
            run__cache_dir=self.cache,
            run__drain_s=1.0,
            **more,
        )

    @property
    def outputs(self) -> KafkaOutputs:
        return KafkaOutputs(self.kafka.config, Topics(self.prefix))

    def sound(self) -> bool:
        report = verify_kafka(self.kafka.bootstrap, [self.topic], self.prefix, SURVEYS)
        assert report.inputs == self.sent
        assert report.sound, str(report)
        return True

    def dead(self) -> list[str]:
        return sorted(letter["reason"] for letter in self.outputs.dead_letters())


@pytest.fixture
def stream(kafka: RealKafka, tmp_path: Path) -> Stream:
    return Stream(kafka, tmp_path)


@pytest.fixture
def proxy(registry: RealRegistry) -> Iterator[Proxy]:
    made = Proxy(registry.port, kafkaserver.free_port())
    yield made
    made.set(CLEAR)
    made.close()


def fresh(registry: RealRegistry) -> int:
    """Register Rubin's schema, with a doc of its own, and return its id."""
    schema = {**json.loads(LSST), "doc": uuid.uuid4().hex}
    return registry.register(f"alert-packet-{uuid.uuid4().hex[:8]}", json.dumps(schema))


# -- the survey's schemas --------------------------------------------------------------------------------------------


def test_references_are_resolved(registry: RealRegistry) -> None:
    """Rubin registers one schema; others cut theirs into pieces that refer to each other."""
    whole = json.loads(LSST)
    named = next(field["type"] for field in whole["fields"] if field["name"] == "diaSource")
    name = full_name({"namespace": whole.get("namespace"), **named})
    piece = json.dumps({**named, "name": name})
    fields = [{**f, "type": name} if f["name"] == "diaSource" else f for f in whole["fields"]]
    subject = uuid.uuid4().hex
    registry.register(subject, piece)
    references = [{"name": name, "subject": subject, "version": 1}]
    number = registry.register(f"{subject}-main", json.dumps({**whole, "fields": fields}), references)
    found = SchemaStore(Registry(registry.url)).get(number)
    parsed = [fastavro.parse_schema(json.loads(text)) for text in (found, LSST)]
    (value,) = packets("lsst", 1, schema_id=number)
    one, other = (fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None) for schema in parsed)
    assert one == other


def test_an_unknown_id_is_a_dead_letter_until_it_is_registered(registry: RealRegistry, stream: Stream) -> None:
    known = fresh(registry)
    unknown = known + 1  # ids are given in turn
    stream.send(packets("lsst", 10, schema_id=known) + packets("lsst", 3, schema_id=unknown))
    with serving(stream.settings(registry__survey_url=registry.url)) as service:
        service.until(lambda: service.received == 13)
    assert stream.sound()
    letters = list(stream.outputs.dead_letters())
    assert {letter["reason"] for letter in letters} == {Dead.UNKNOWN_SCHEMA}
    assert sorted(letter["packet"] for letter in letters) == sorted(packets("lsst", 3, schema_id=unknown))
    assert f"does not have id {unknown}" in letters[0]["error"]
    assert DiskCache(stream.cache / "schemas" / Registry(registry.url).folder).ids() == [known]
    now = [0.0]
    store = SchemaStore(Registry(registry.url), clock=lambda: now[0])
    with pytest.raises(Exception, match="does not have id"):
        store.get(unknown)
    assert fresh(registry) == unknown
    with pytest.raises(Exception, match="does not have id"):
        store.get(unknown)
    now[0] += 31.0
    assert store.get(unknown)


def test_away_at_the_start_and_in_the_middle(registry: RealRegistry, stream: Stream, proxy: Proxy) -> None:
    first, second = fresh(registry), fresh(registry)
    chosen = stream.settings(registry__survey_url=registry.at(proxy.port))
    proxy.set(AWAY)
    stream.send(packets("lsst", 10, schema_id=first))
    with serving(chosen) as service:
        service.until(lambda: service.waits("step") >= 2)
        assert service.received == 0, "an id that nobody knows is waited for"
        proxy.set(CLEAR)
        service.until(lambda: service.received == 10)
        registry.down()
        stream.send(packets("lsst", 10, 4, schema_id=first) + packets("ztf", 10))
        service.until(lambda: service.received == 30)
    try:
        with serving(chosen) as service:  # a new life, with what the last one left on disk
            stream.send(packets("lsst", 10, 5, schema_id=first))
            service.until(lambda: service.received == 10)
            stream.send(packets("lsst", 10, 6, schema_id=second) + packets("lsst", 5, 7, schema_id=first))
            service.until(lambda: service.waits("step") >= 2)
            registry.up()
            service.until(lambda: service.received == 25)
    finally:
        registry.up()
    assert stream.sound()
    assert stream.dead() == []


@pytest.mark.parametrize("kind", ["stall", "truncate", "reset", "throttle"])
def test_a_registry_that_answers_slowly_or_half(
    registry: RealRegistry, stream: Stream, proxy: Proxy, kind: Kind
) -> None:
    number = fresh(registry)
    stream.send(packets("lsst", 10, schema_id=number))
    proxy.set(Weather(kind))
    with serving(stream.settings(registry__survey_url=registry.at(proxy.port))) as service:
        if kind != "throttle":  # 20 kB a second is slow, but it is an answer
            service.until(lambda: service.waits("step") >= 1)
            assert service.received == 0
            proxy.set(CLEAR)
        service.until(lambda: service.received == 10)
    assert stream.sound()
    assert stream.dead() == []


def test_an_address_of_something_else_is_waited_for(registry: RealRegistry, stream: Stream) -> None:
    """Another path of the same server answers 404 in words of its own: no reason to dead-letter a night."""
    stream.send(packets("lsst", 10, schema_id=fresh(registry)))
    url = registry.url.replace("/ccompat/v7", "/nothing")
    with serving(stream.settings(registry__survey_url=url)) as service:
        service.until(lambda: service.waits("step") >= 2)
        assert service.received == 0
    assert stream.dead() == []


# -- ours ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(kafka: RealKafka, registry: RealRegistry, tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """Return a stream whose outputs went through the registry."""
    stream = Stream(kafka, tmp_path_factory.mktemp("published"))
    values = packets("ztf", 30) + packets("lsst", 20, schema_id=fresh(registry)) + [GARBAGE]
    stream.send(values)
    urls = {"registry__survey_url": registry.url, "registry__output_url": registry.url}
    with serving(stream.settings(**urls)) as service:
        service.until(lambda: service.received == len(values))
    assert stream.sound()
    return stream


def ours(stream: Stream) -> dict[str, str]:
    """Return the topics that have messages, with the schema of each."""
    topics = Topics(stream.prefix)
    return {
        topics.all("ztf"): "annotation",
        topics.all("lsst"): "annotation",
        topics.dead_letters: "deadletter",
        topics.ledger: "ledger",
    }


def test_every_topic_has_its_schema_in_the_registry(published: Stream, registry: RealRegistry) -> None:
    subjects = registry.ask("/subjects")
    for topic, name in ours(published).items():
        assert f"{topic}-value" in subjects
        registered = json.loads(registry.ask(f"/subjects/{topic}-value/versions/latest")["schema"])
        assert registered in [json.loads(schema.text) for schema in schemas.versions(name).values()]


def test_another_avro_client_reads_every_topic(published: Stream, registry: RealRegistry) -> None:
    """Confluent's deserializer, by the id and the registry, gives what ours gives by the header alone."""
    with SchemaRegistryClient({"url": registry.url}) as theirs:
        deserialize = AvroDeserializer(theirs)
        for topic in ours(published):
            context = SerializationContext(topic, MessageField.VALUE)
            messages = list(read_messages(published.kafka.config, [topic]))
            found = [deserialize(message.value(), context) for message in messages]
            with subscribe(topic, brokers=published.kafka.bootstrap, from_="earliest", once=True) as records:
                assert found == list(records)
            assert found


def test_plain_fastavro_reads_every_topic_by_the_header(published: Stream) -> None:
    files = {schema.fingerprint: schema for schema in by_file()}
    for topic, name in ours(published).items():
        with subscribe(topic, brokers=published.kafka.bootstrap, from_="earliest", once=True) as alerts:
            for received in alerts.received():
                schema = files[dict(received.headers)["schema"]]
                assert schema.name == name
                record = fastavro.schemaless_reader(io.BytesIO(received.value[5:]), schema.parsed, None)
                assert record == received.decode()


class File:
    """A schema file, read as somebody without our package reads it."""

    def __init__(self, path: Path) -> None:
        schema = json.loads(path.read_text())
        canonical = fastavro.schema.to_parsing_canonical_form(schema)
        self.name, self.parsed = path.parts[-3], fastavro.parse_schema(schema)
        self.fingerprint = hashlib.sha256(canonical.encode()).digest()


def by_file() -> list[File]:
    return [File(path) for path in SCHEMAS.glob("*/*/schema.avsc")]


def test_the_registry_finds_our_versions_compatible(registry: RealRegistry) -> None:
    """A registry that insists on both directions takes one version after the other, and after a rollback again."""
    for name in schemas.NAMES:
        found = list(schemas.versions(name).values())
        subject = f"{uuid.uuid4().hex}-value"
        ids = [registry.register(subject, found[0].text)]
        registry.put(f"/config/{subject}", {"compatibility": "FULL_TRANSITIVE"})
        ids += [registry.register(subject, schema.text) for schema in found[1:]]
        assert ids == [registry.register(subject, schema.text) for schema in found]


def test_our_ids_survive_the_registrys_absence(registry: RealRegistry, stream: Stream, proxy: Proxy) -> None:
    chosen = stream.settings(registry__output_url=registry.at(proxy.port))
    proxy.set(AWAY)
    stream.send([*packets("ztf", 5), GARBAGE])
    with serving(chosen) as service:
        service.until(lambda: service.waits("commit") >= 2)
        assert service.received == 0, "without an id nothing is published"
        proxy.set(CLEAR)
        service.until(lambda: service.received == 6)
    proxy.set(AWAY)
    stream.send([*packets("ztf", 5, 4), GARBAGE])
    with serving(chosen) as service:
        service.until(lambda: service.received == 6)
        assert service.waits("commit") == 0
    assert stream.sound()
    for topic in (topic for topic in ours(stream) if "lsst" not in topic):
        ids = {message.value()[:5] for message in read_messages(stream.kafka.config, [topic])}
        assert len(ids) == 1, "the same id before and after"


def test_a_schema_that_breaks_the_registrys_rule_stops_the_service(registry: RealRegistry, stream: Stream) -> None:
    subject = f"{Topics(stream.prefix).all('ztf')}-value"
    registry.register(subject, json.dumps({"type": "record", "name": "other", "fields": []}))
    registry.put(f"/config/{subject}", {"compatibility": "FULL"})
    stream.send(packets("ztf", 5))
    message = "refuses annotation"
    with (
        pytest.raises(AssertionError, match=message),
        serving(stream.settings(registry__output_url=registry.url)) as service,
    ):
        service.thread.join(60)
