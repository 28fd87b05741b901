"""Topic names over the nights, and the topics that we write: their configuration and their making."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic

from broker.core.errors import TocsinError, Wait
from broker.core.kafka import Refusal, client
from broker.core.topics import Topics
from broker.deliver.librdkafka import LARGEST_MESSAGE, plain

WEEK_MS = 7 * 24 * 3600 * 1000
NIGHT = "{date}"


def expand(names: Sequence[str], tonight: date, nights: int) -> list[str]:
    """Return topic names, with ``{date}`` (UTC, YYYYMMDD) expanded to the last ``nights`` nights, tonight's last.

    Never a pattern over all topics: that would read nights that are long gone.
    """
    days = [(tonight - timedelta(days=back)).strftime("%Y%m%d") for back in reversed(range(nights))]
    expanded = [name.replace(NIGHT, day) for name in names for day in (days if NIGHT in name else days[:1])]
    return list(dict.fromkeys(expanded))


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to make.

    Attributes
    ----------
    name : str
    partitions : int
    config : dict
        Topic-level configuration of Kafka.
    """

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def specs(topics: Topics, surveys: Iterable[str], slugs: Iterable[str], partitions: int, raw: bool) -> list[TopicSpec]:
    """Return every topic that the service writes under ``topics.prefix``."""
    slugs = list(slugs)
    per_alert: list[str] = []
    for survey in surveys:
        per_alert += [topics.all(survey), topics.anomaly(survey), *(topics.of_class(survey, slug) for slug in slugs)]
        per_alert += [topics.raw(survey)] if raw else []
    return [spec(topics, name, partitions) for name in (*per_alert, *_single(topics))]


def specs_of_sidecar(topics: Topics, sources: Iterable[str], partitions: int) -> list[TopicSpec]:
    """Return every topic that a sidecar writes under ``topics.prefix``, and those of products that it reads."""
    return [spec(topics, name, partitions) for name in (*sources, topics.results, *_single(topics))]


def spec(topics: Topics, name: str, partitions: int) -> TopicSpec:
    """Return how one of our topics is made.

    All keep a week, so that annotations, dead letters and ledger can be compared; ``compression.type = producer``
    keeps the producer's zstd. Raw packets and dead letters may be as large as the largest packet and its wrapping.
    Dead letters and the ledger are few: one partition keeps them in the order of their transactions. Of the notes
    of what is in flight Kafka keeps the last of each key. Times are those of Kafka's clock: a service whose clock is
    wrong would have its messages refused, or deleted at once.
    """
    large = name == topics.dead_letters or name.endswith(".raw")
    config = {
        "cleanup.policy": "compact" if name == topics.in_flight else "delete",
        "retention.ms": str(WEEK_MS),
        "compression.type": "producer",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(LARGEST_MESSAGE if large else 8 * 2**20),
    }
    return TopicSpec(name, 1 if name in _single(topics) else partitions, config)


def _single(topics: Topics) -> tuple[str, ...]:
    """Return the topics of one partition."""
    return topics.dead_letters, topics.ledger, topics.in_flight


def create(config: dict[str, Any], wanted: Sequence[TopicSpec], *, timeout_s: float = 30.0) -> list[str]:
    """Make the topics that do not exist yet; return their names.

    Raises
    ------
    Wait
        Kafka does not answer.
    TocsinError
        Kafka refuses us, or a topic; the text says which and why.
    """
    refusal = Refusal(config)
    admin = client(AdminClient, {**plain(config), "error_cb": refusal})
    try:
        there = refusal.topics(admin, timeout_s)
        missing = [s for s in wanted if s.name not in there]
        new = [NewTopic(s.name, num_partitions=s.partitions, config=s.config) for s in missing]
        futures = admin.create_topics(new, request_timeout=timeout_s) if new else {}
    except KafkaException as error:
        raise Wait(f"Kafka does not answer: {error.args[0].str()}") from error
    made = [name for name, future in futures.items() if _made(name, future)]
    _wait_until_known(admin, made, timeout_s)
    return made


def missing(config: dict[str, Any], names: Iterable[str], *, timeout_s: float = 10.0) -> list[str]:
    """Return those of the topics that are not there.

    Raises
    ------
    Wait
        Kafka does not answer.
    TocsinError
        It refuses us.
    """
    refusal = Refusal(config)
    there = refusal.topics(client(AdminClient, {**plain(config), "error_cb": refusal}), timeout_s)
    return [name for name in names if name not in there]


def unwritable(config: dict[str, Any], names: Iterable[str], *, timeout_s: float = 10.0) -> list[str]:
    """Return those of the topics that Kafka says we may not write to; none where it does not say."""
    admin = client(AdminClient, plain(config))
    asked = TopicCollection(sorted(names))
    found = []
    for name, future in admin.describe_topics(
        asked, include_authorized_operations=True, request_timeout=timeout_s
    ).items():
        try:
            allowed = future.result().authorized_operations
        except KafkaException:
            allowed = []
        if allowed is not None and AclOperation.WRITE not in allowed:
            found.append(name)
    return found


def _made(name: str, future: Any) -> bool:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise TocsinError(f"Kafka does not make the topic {name}: {error.args[0].str()}") from error
    return True


def _wait_until_known(admin: AdminClient, names: list[str], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while names and time.monotonic() < end:
        known = admin.list_topics(timeout=timeout_s).topics
        if all(name in known for name in names):
            return
        time.sleep(0.05)
