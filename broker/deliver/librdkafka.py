"""librdkafka settings of our consumers and producers, and what its errors mean."""

from __future__ import annotations

import logging
import time
from typing import Any

from confluent_kafka import KafkaError, Message

from broker.core.errors import Stop
from broker.core.kafka import Refusal

LARGEST_MESSAGE = 64 * 2**20
_LATEST_MS = 253_402_300_799_999  # Python's dates, and so what reads our records, end with the year 9999

# librdkafka's own log repeats a line per broker and second; `Away` says the same once. A user's setting wins.
_QUIET: dict[str, Any] = {"log_level": 2}

# librdkafka warns on every start of a key that is not for this kind of client; operators give one table for both.
_CONSUMER_ONLY = (
    "auto.", "check.crcs", "enable.auto.", "enable.partition.eof", "fetch.", "group.", "heartbeat.", "isolation.level",
    "max.partition.fetch.bytes", "max.poll.", "partition.assignment.", "queued.", "session.timeout.ms",
)  # fmt: skip
_PRODUCER_ONLY = (
    "acks", "batch.", "compression.", "delivery.", "enable.idempotence", "linger.ms", "message.timeout.ms",
    "partitioner", "queue.buffering.", "request.required.acks", "request.timeout.ms", "sticky.",
    "transaction.timeout.ms", "transactional.id",
)  # fmt: skip


def consumer(config: dict[str, Any], group: str) -> dict[str, Any]:
    """Return the settings of a consumer of packets.

    Offsets move only in transactions, and no offset is ever chosen for us (``auto.offset.reset = error``). The
    assignment is eager: a rebalance first takes everything away, so at no time can a batch mix two generations, and
    the batch in flight is committed under the generation that read it or not at all. That costs a re-read of the
    prefetched packets at each rebalance, which is rare and cheap beside the reasoning that the cooperative protocol
    would need. ``roundrobin`` spreads the one-partition topics of several nights over the members.
    """
    return {
        **_QUIET,
        "session.timeout.ms": 10_000,
        "max.poll.interval.ms": 300_000,
        "fetch.message.max.bytes": 16 * 2**20,
        "fetch.max.bytes": LARGEST_MESSAGE,
        "queued.max.messages.kbytes": 96 * 1024,
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 100,
        **_without(config, _PRODUCER_ONLY),
        "group.id": group,
        "partition.assignment.strategy": "roundrobin",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
    }


def reader(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a consumer that reads whole topics back: no group, an event at each partition's end."""
    return {
        **_QUIET,
        "fetch.message.max.bytes": 16 * 2**20,
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 20,  # how long the server holds the answer that a partition has ended
        **_without(config, _PRODUCER_ONLY),
        "group.id": "tocsin-reader",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
    }


def producer(config: dict[str, Any], transactional_id: str | None) -> dict[str, Any]:
    """Return the settings of a producer; ``transactional_id`` None makes a plain idempotent one.

    ``retry.backoff.ms`` is what librdkafka sleeps between the steps of a transaction: with its default of 100 a
    transaction of 100 messages took 105 ms, with 5 it took 9 ms (measured).
    """
    settings = {
        **_QUIET,
        "compression.type": "zstd",
        "linger.ms": 5,
        "batch.size": 2**20,
        "message.max.bytes": LARGEST_MESSAGE,
        "queue.buffering.max.kbytes": 1024 * 1024,
        "retry.backoff.ms": 5,
        "retry.backoff.max.ms": 500,
        "delivery.report.only.error": True,
        **_without(config, _CONSUMER_ONLY),
        "enable.idempotence": True,
    }
    if transactional_id is None:
        return settings
    return {"transaction.timeout.ms": 30_000, **settings, "transactional.id": transactional_id}


def time_ms(message: Message) -> int:
    """Return a message's time stamp, Unix ms UTC, -1 for none; a sender may set any number, so it is cut to a date."""
    stamp: int = message.timestamp()[1]
    return max(-1, min(stamp, _LATEST_MS))


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that any client takes, for an admin client."""
    return {**_QUIET, **_without(config, _CONSUMER_ONLY + _PRODUCER_ONLY)}


def _without(config: dict[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith(prefixes)}


_AWAY = (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._RESOLVE, KafkaError._SSL)


class Away:
    """Turns librdkafka's error events into one line now and then, and remembers that Kafka never let us in.

    Parameters
    ----------
    log : logging.Logger
    config : dict
        librdkafka settings of the client.
    every_s : float
        At most one line per this many seconds.
    """

    def __init__(self, log: logging.Logger, config: dict[str, Any], every_s: float = 30.0) -> None:
        self._log, self._every_s, self._said = log, every_s, -every_s
        self._connected, self._refusal = False, Refusal(config)
        self.since: float | None = None

    def __call__(self, error: KafkaError) -> None:
        """Take an error event (librdkafka's ``error_cb``)."""
        if not self._connected:
            self._refusal(error)
        if error.code() not in _AWAY:
            return
        self.since = self.since or time.monotonic()
        if time.monotonic() - self._said >= self._every_s:
            self._said = time.monotonic()
            self._log.warning("waiting for Kafka: %s", error.str())

    def refuse(self) -> None:
        """Raise if Kafka never let us in and says why: later it is waited for, whatever it says.

        Raises
        ------
        Stop
            The login or a certificate is refused.
        """
        why = self._refusal.why()
        if why:
            raise Stop(why)

    def back(self) -> None:
        """Note that Kafka answered."""
        self._connected = True
        self._refusal.forget()
        if self.since is not None:
            self._log.info("Kafka is back after %.0f s", time.monotonic() - self.since)
            self.since = None
