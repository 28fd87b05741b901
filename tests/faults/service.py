"""Members of the service as processes, under watch: their batches, their memory, and the verdict on what they did."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from broker.sidecar.framing import Installed, record
from tests.conftest import RealKafka
from tests.deliver.fakes import packet
from tests.sidecar.rows import product

from .verifier import Report, verify_kafka

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("TOCSIN_FAULTS") == "full"
MEMORY_MB = 200.0
"""Bound on a member's resident set: Python and its libraries take 55 MB, the queue of packets up to 96 MB."""
SIDECAR_MB = 300.0
"""The same where products are read: numba, and the code that it compiled to walk a schema, take 120 MB more."""
PATIENCE_S = 180.0

peaks: dict[float, float] = {}
"""Largest resident set of a member of all services that were judged [MB], by the bound on it."""
recoveries: list[tuple[str, float]] = []
"""(fault, seconds until a batch was committed again), for the table at the end of the run."""


class Member:
    """A process of the service. A thread takes note of when each batch was finished and of the memory then."""

    def __init__(self, options: dict[str, Any], log: IO[str] | None = None, environ: dict[str, str] | None = None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.member", json.dumps(options)],
            cwd=ROOT, env={**os.environ, **(environ or {})}, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        self.name = str(options.get("member", "files"))
        self.batches: list[float] = []
        self.peak_mb = 0.0
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                assert "batch\n".startswith(line), line  # SIGKILL may cut it
                self.batches.append(time.monotonic())
                self.peak_mb = max(self.peak_mb, peak_mb(self.process.pid))

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_for_batches(self, count: int = 1, *, since: float = 0.0) -> None:
        """Wait until it has finished so many batches, those before ``since`` not counted."""
        wait_until(lambda: sum(at > since for at in self.batches) >= count or not self.alive, "a batch")
        assert sum(at > since for at in self.batches) >= count, f"the member has ended: {self.process.returncode}"

    def ends(self, code: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait for its end."""
        found = self.process.wait(timeout_s)
        self._listener.join()
        assert found == code

    def kill(self) -> None:
        self.process.kill()
        self.ends(-signal.SIGKILL)

    def leave(self) -> None:
        """Stop it cleanly."""
        self.process.send_signal(signal.SIGTERM)
        self.ends(0)


class Service:
    """Members of one group on one topic, and what they are fed."""

    def __init__(
        self,
        kafka: RealKafka,
        folder: Path,
        *,
        mode: str = "kafka",
        partitions: int = 4,
        more: Any = None,
        sidecar: bool = False,
    ):
        name = uuid.uuid4().hex[:8]
        self.kafka, self.folder, self.mode, self.sidecar = kafka, folder, mode, sidecar
        self.topic, self.group, self.prefix = kafka.topic("in", partitions), f"g{name}", f"t{name}"
        self.config = {**kafka.config, "session.timeout.ms": 1500, "heartbeat.interval.ms": 300, **(more or {})}
        self.sent = 0
        self.members: list[Member] = []
        self.log = folder / f"{name}.log"
        if sidecar:
            record(product(0), Installed())  # compiled and kept once, here: a member that compiles takes 80 MB more

    def feed(self, count: int, partition: int | None = None) -> None:
        made = product if self.sidecar else packet
        self.kafka.send(self.topic, [made(n) for n in range(self.sent, self.sent + count)], partition)
        self.sent += count

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Go on feeding, a few hundred packets a second, while the block runs."""
        done = threading.Event()

        def feed() -> None:
            while not done.wait(0.2):
                self.feed(60)

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            yield
        finally:
            done.set()
            feeder.join()

    def busy(self, *members: Member) -> None:
        """Feed until each member has finished two more batches, however late it joined, and then 2,500 packets more."""
        since = time.monotonic()
        with self.feeding():
            for member in members:
                member.wait_for_batches(2, since=since)
        self.feed(2500)

    def start(self, member: str = "one", *, environ: dict[str, str] | None = None, **more: Any) -> Member:
        options = {
            "mode": self.mode, "config": self.config, "group": self.group, "topics": [self.topic],
            "prefix": self.prefix, "cache": str(self.folder), "member": member,
            **({"step": "sidecar"} if self.sidecar else {}), **more,
        }  # fmt: skip
        with self.log.open("a") as log:
            self.members.append(Member(options, log, environ))
        return self.members[-1]

    def finish(self, *others: Member, timeout_s: float = PATIENCE_S) -> None:
        """Let a member (or those given) work until all is delivered, then stop it cleanly."""
        members = list(others) or [self.start()]
        wait_until(lambda: not (all(m.alive for m in members) and self.lag()), "the group to read all", timeout_s)
        assert all(member.alive for member in members), f"a member has died: {self.said()}"
        for member in members:
            member.leave()

    def said(self) -> str:
        """Return the end of what the members wrote to their standard error."""
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    def lag(self) -> int:
        """Return how many packets the group has not committed yet, by a plain client."""
        settings = {"bootstrap.servers": self.kafka.bootstrap, "group.id": self.group}
        # Without read_uncommitted it would wait for the open transaction of a member that was just killed.
        consumer = Consumer({**settings, "isolation.level": "read_uncommitted", "log_level": 0})
        try:
            partitions = consumer.list_topics(self.topic, timeout=10).topics[self.topic].partitions
            committed = consumer.committed([TopicPartition(self.topic, number) for number in partitions], timeout=10)
            ends = [consumer.get_watermark_offsets(partition, timeout=10)[1] for partition in committed]
        except KafkaException:  # the server has just come back
            return sys.maxsize
        finally:
            consumer.close()
        return sum(end - max(partition.offset, 0) for partition, end in zip(committed, ends, strict=True))

    def recovered(self, fault: str, since: float, *members: Member) -> float:
        """Wait until a batch is committed after ``since``; return, and note for the table, how long that took."""
        watched = members or self.members[-1:]
        wait_until(lambda: any(m.batches and m.batches[-1] > since for m in watched), f"a batch after: {fault}")
        seconds = min(at for m in watched for at in m.batches if at > since) - since
        recoveries.append((fault, seconds))
        return seconds

    def judge(self) -> Report:
        """Return the blind verifier's report, having asserted that it is sound and that memory was bounded."""
        report = verify_kafka(self.kafka.bootstrap, [self.topic], self.prefix, sidecar=self.sidecar)
        assert report.inputs == self.sent
        assert report.sound, str(report)
        peak, bound = max(member.peak_mb for member in self.members), SIDECAR_MB if self.sidecar else MEMORY_MB
        peaks[bound] = max(peak, peaks.get(bound, 0.0))
        assert 0 < peak < bound, f"a member took {peak:.0f} MB"
        return report

    def close(self) -> None:
        """End the members that a failed test left behind."""
        for member in self.members:
            if member.alive:
                member.process.send_signal(signal.SIGCONT)
                member.kill()


def wait_until(reached: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < end, f"waited {timeout_s:.0f} s in vain for {what}"
        time.sleep(0.05)


def peak_mb(pid: int) -> float:
    """Return the largest resident set that a process ever had, 0 where it is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except (OSError, ValueError):
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
