"""Outcomes to Kafka topics: one transaction per batch.

librdkafka tells three kinds of error apart, and so do we: retriable (the same call again, while the source stays
alive), abortable (roll back, the loop rewinds and reads again), fatal (the producer is made anew, or another process
has taken our name: stop).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NoReturn

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from broker.core.errors import Stop, TocsinError, Wait
from broker.core.kafka import client
from broker.core.outcomes import Record
from broker.core.schemas import fitting, latest
from broker.core.topics import Topics
from broker.deliver import deadletters, librdkafka
from broker.deliver.files import done_in
from broker.deliver.kafka.ends import settle
from broker.deliver.kafka.reader import read_records
from broker.deliver.registry import Registry
from broker.deliver.topics import create, missing, spec, unwritable
from broker.deliver.types import Aborted, Commit, Done, Hook, Idle, no_hook

log = logging.getLogger(__name__)

CALL_S = 5.0
ASK_S = 2.0
HUNG_S = 15.0
PAUSE_S = 0.05
_REFUSED = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.INVALID_RECORD,
)
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


class KafkaSink:
    """A `Sink` of one transactional producer.

    Parameters
    ----------
    config : dict
        librdkafka settings, at least ``bootstrap.servers``.
    transactional_id : str
        Stable over restarts of this member, unique in the cluster.
    topics : Topics
        Names of dead letters and ledger, and which prefix is ours to make topics under.
    registry : Registry or None
        Where our schemas get their ids.
    resume : bool
        The progress is in the ledger topic (a replay from files); otherwise it is the group's offsets.
    partitions : int
        Of topics that have to be made.
    """

    def __init__(
        self,
        config: dict[str, Any],
        transactional_id: str,
        topics: Topics,
        *,
        registry: Registry | None = None,
        resume: bool = False,
        partitions: int = 1,
        at: Hook = no_hook,
    ) -> None:
        self._config, self._id, self._topics, self._registry = config, transactional_id, topics, registry
        self._resume, self._partitions, self._at = resume, partitions, at
        self._away = librdkafka.Away(log, config)
        self._producer: Producer | None = None
        self._starting: Producer | None = None
        self._known: set[str] = set()
        self._failed: tuple[KafkaError, str] | None = None  # a message's error, and its topic
        self._began = 0.0
        self._deadletter = latest("deadletter")

    def open(self) -> Done:
        """Take over this member's name (an open transaction of its last life is rolled back) and find the progress."""
        self._connect()
        self._require({self._topics.dead_letters, self._topics.ledger})
        if not self._resume:
            return {}
        settle(self._config, [self._topics.ledger])  # behind an open transaction our own records are not seen
        return done_in(record for record, _ in read_records(self._config, [self._topics.ledger], "ledger"))

    def commit(self, commit: Commit, idle: Idle) -> None:
        """Commit one batch in one transaction.

        3. Begin. 4. Send the records, and 5. the dead letters. 6. Send the ledger record. 7. Put the source's offsets
        in, under the generation that read them. 8. Commit.
        """
        messages = self._messages(commit)
        producer = self._ready()
        self._began = time.monotonic()
        try:
            self._call("begin", producer.begin_transaction, idle)
            self._at(3)
            for number, records in messages:
                self._send(producer, records, idle)
                self._at(number)
            if commit.intake.group is not None:
                offsets = [TopicPartition(*where, offset) for where, offset in commit.intake.positions.items()]
                group = commit.intake.group
                self._call("offsets", lambda: producer.send_offsets_to_transaction(offsets, group, CALL_S), idle)
            self._at(7)
            self._call("commit", lambda: producer.commit_transaction(CALL_S), idle)
        except Aborted:
            self._abort(producer, idle)
            raise
        self._at(8)

    def close(self) -> None:
        """Roll back what is open, within a moment: else the member's next life does it."""
        if self._producer is None:
            return
        try:
            self._producer.abort_transaction(1.0)
        except KafkaException as error:
            log.debug("nothing to roll back: %s", error)
        self._producer = None

    # -- the producer -------------------------------------------------------------------------------------------

    def _connect(self) -> Producer:
        """Make the producer and take over the name.

        Raises
        ------
        Wait
            Kafka does not answer.
        Stop
            It refuses us.
        """
        settings = librdkafka.producer(self._config, self._id)
        if self._starting is None:
            hooks = {"error_cb": self._away, "on_delivery": self._on_delivery}
            self._starting = client(Producer, {**settings, **hooks})
        producer = self._starting
        try:
            producer.init_transactions(CALL_S)
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() in _REFUSED or cause.code() in _FENCED:
                raise Stop(f"Kafka refuses the transactional id {self._id}: {cause.str()}") from error
            producer.poll(0)  # serves the error events
            self._away.refuse()
            if not cause.retriable():
                self._starting = None
            raise Wait(f"Kafka does not answer: {cause.str()}") from error
        self._away.back()
        self._failed, self._producer, self._starting = None, producer, None
        return producer

    def _ready(self) -> Producer:
        """Return the producer, made anew where Kafka was away since the last transaction.

        librdkafka drops a broker that was away, but keeps it as the group's coordinator, and then waits for it for
        ever (librdkafka#5511): a new producer does not know it.
        """
        if self._producer is not None:
            self._producer.poll(0)  # serves the error events
            if self._away.since is not None:
                self._producer = None
        return self._producer or self._connect()

    def _call(self, what: str, call: Callable[[], None], idle: Idle) -> None:
        """Make one call of the transaction, again while its error is retriable.

        Raises
        ------
        Aborted
            The transaction must be rolled back, or the producer is lost and with it the transaction.
        Stop
            Another process has our transactional id.
        """
        said = time.monotonic()
        while True:
            try:
                if not _returns(call, idle):
                    self._give_up(what, f"the client library did not return within {HUNG_S:.0f} s")
                return
            except KafkaException as error:
                cause = error.args[0]
                if not cause.retriable() or cause.txn_requires_abort() or cause.fatal():
                    self._raise(what, cause, error)
                if cause.code() == KafkaError._TIMED_OUT and (gone := self._gone()):
                    self._give_up(what, f"{', '.join(gone)}: no such topic any more")
                if time.monotonic() - said > 6 * CALL_S:
                    said = time.monotonic()
                    log.warning("waiting for Kafka (%s): %s", what, cause.str())
                idle(PAUSE_S)

    def _raise(self, what: str, cause: KafkaError, error: KafkaException) -> None:
        if cause.code() in _FENCED and cause.fatal() and not self._timed_out():
            self._producer = None
            raise Stop(
                f"another process has taken over the transactional id {self._id}: two members have one name"
            ) from error
        if self._resume and what == "commit":  # only the ledger topic knows whether it is committed
            raise Stop(
                f"the end of a transaction is unknown ({cause.str()}); run again to go on where it ended"
            ) from error
        if cause.code() in _REFUSED:
            of_topic = cause.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
            self._failed = cause, ", ".join(unwritable(self._config, self._known)) if of_topic else ""
        elif cause.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._known.clear()
        if cause.fatal() or not cause.txn_requires_abort():
            self._producer = None  # made anew at the next commit; that rolls the transaction back
        raise Aborted(f"{what}: {cause.str()}") from error

    def _timed_out(self) -> bool:
        """Tell whether Kafka has rolled back the transaction for its age: that fences us as another process would."""
        timeout_ms = int(librdkafka.producer(self._config, self._id)["transaction.timeout.ms"])
        return time.monotonic() - self._began > timeout_ms / 1000

    def _gone(self) -> list[str]:
        """Return topics of ours that are there no more; the next transaction makes those that it needs anew.

        librdkafka asks to add them to its transaction again and again, past every timeout (so does the client of
        Kafka's own, KAFKA-20077).
        """
        try:
            gone = missing(self._config, sorted(self._known), timeout_s=ASK_S)
        except TocsinError:  # it does not answer, or refuses us: the call itself says so in time
            return []
        self._known -= set(gone)
        return gone

    def _give_up(self, what: str, why: str) -> NoReturn:
        """Give up a producer that gets nowhere: a new one of the same name rolls its transaction back."""
        self._producer = None
        if self._resume and what == "commit":
            raise Stop("the end of a transaction is unknown; run again to go on where it ended")
        raise Aborted(f"{what}: {why}")

    def _abort(self, producer: Producer, idle: Idle) -> None:
        """Roll back, and stop where trying again would fail again."""
        failed, self._failed = self._failed, None
        if self._producer is not None:
            try:
                self._call("abort", lambda: producer.abort_transaction(CALL_S), idle)
            except Aborted as error:
                log.warning("the producer is made anew: %s", error)
                self._producer = None
        if self._producer is None:  # its name, taken anew, rolls back what the source would wait for
            with suppress(Wait):
                self._connect()
        if failed is None:
            return
        cause, topic = failed
        if cause.code() in _REFUSED:
            raise Stop(f"Kafka refuses {f'a message to {topic}' if topic else 'us'}: {cause.str()}")
        if cause.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._known.clear()

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and (self._failed is None or error.code() in _REFUSED):
            self._failed = error, message.topic()
            log.warning("a message to %s was not delivered: %s", message.topic(), error.str())

    # -- messages -----------------------------------------------------------------------------------------------

    def _messages(self, commit: Commit) -> list[tuple[int, list[Record]]]:
        """Return what to send at each numbered step, framed and with every topic there.

        Raises
        ------
        Wait, Stop
            The registry is away; a topic cannot be made.
        """
        batch, letters = commit.intake.batch, commit.outcomes.dead
        dead = [
            Record(
                letter.row,
                self._topics.dead_letters,
                f"{batch.topics[letter.row]}/{batch.partitions[letter.row]}/{batch.offsets[letter.row]}".encode(),
                self._deadletter.encode(deadletters.record(batch, letter)),
                self._deadletter.headers,
            )
            for letter in letters
        ]
        schema = fitting("ledger", commit.ledger)
        entry = schema.encode(commit.ledger)
        ledger = Record(-1, self._topics.ledger, commit.ledger["member"].encode(), entry, schema.headers)
        groups = [(4, commit.outcomes.records), (5, dead), (6, [ledger])]
        self._require({record.topic for _, records in groups for record in records})
        if self._registry is None:
            return groups
        return [(number, list(self._framed(records, self._registry))) for number, records in groups]

    def _framed(self, records: list[Record], registry: Registry) -> Iterator[Record]:
        for r in records:
            yield Record(r.row, r.topic, r.key, registry.frame(r.topic, r.value, r.headers), r.headers)

    def _require(self, names: set[str]) -> None:
        new = names - self._known
        if new:
            made = create(self._config, [spec(self._topics, name, self._partitions) for name in sorted(new)])
            if made:
                log.info("made the topics %s", ", ".join(made))
            self._known |= new

    def _send(self, producer: Producer, records: list[Record], idle: Idle) -> None:
        for record in records:
            while True:
                try:
                    producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
                    break
                except BufferError:  # the producer's queue is full: let it drain
                    producer.poll(PAUSE_S)
                    idle(0.0)
                except KafkaException as error:
                    cause = error.args[0]
                    if cause.code() in _REFUSED:
                        self._failed = cause, record.topic
                        raise Aborted(f"message of {len(record.value)} bytes: {cause.str()}") from error
                    self._raise("send", cause, error)
        producer.poll(0)


def _returns(call: Callable[[], None], idle: Idle) -> bool:
    """Make a call in a thread of its own; return False when it does not come back.

    ``send_offsets_to_transaction`` can ignore its timeout (librdkafka#5456). The thread keeps the producer alive.

    Raises
    ------
    KafkaException
        What the call raises.
    """
    raised: list[KafkaException] = []

    def target() -> None:
        try:
            call()
        except KafkaException as error:
            raised.append(error)

    thread = threading.Thread(target=target, name="transaction", daemon=True)
    thread.start()
    thread.join(1.0)
    end = time.monotonic() + HUNG_S - 1.0
    while thread.is_alive() and time.monotonic() < end:
        idle(0.05)
        thread.join(0.2)
    if raised:
        raise raised[0]
    return not thread.is_alive()
