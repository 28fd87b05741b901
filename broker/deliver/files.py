"""Files to files, exactly once: atomic segments and a manifest whose synced line is the commit.

::

    DIR/annotations/00000000-annotation-1.0.avro   Avro containers, one per batch (or Parquet); of a sidecar: results/
    DIR/products/00000000-catalog-1.0.avro         what the stream sends to sidecars, where it is asked to
    DIR/dead_letters/00000000-deadletter-1.0.avro
    DIR/manifest.jsonl                             one line per batch: its ledger record and its segments
    DIR/.lock                                      one writer at a time

A process killed at any moment leaves at most a torn last line and segments that no line names; opening the directory
removes both. The manifest also says which packets are done: a second run over the same input adds nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from broker.core.batch import FilePacket, PacketBatch
from broker.core.errors import Stop, TocsinError
from broker.core.schemas import HEADER, OwnSchema, by_fingerprint, latest
from broker.deliver import deadletters
from broker.deliver.container import container
from broker.deliver.types import Bounds, Commit, Done, Hook, Idle, Intake, no_hook

Packets = Iterable[FilePacket | None]
Parquet = Callable[[OwnSchema, Sequence[bytes]], bytes]
MANIFEST, LOCK = "manifest.jsonl", ".lock"
FOLDERS = {"annotation": "annotations", "result": "results", "product": "products", "deadletter": "dead_letters"}


class Skip(Protocol):
    """Tells whether a packet is done, by its identity."""

    def __call__(self, path: str, record: int, partition: int = 0) -> bool:
        """Return whether it is done."""
        ...


class FileSource:
    """Packets from an iterator, each of them once; the sink's progress is skipped before anything is decoded.

    Parameters
    ----------
    packets : iterable of FilePacket, or a function that makes one
        See `broker.archive.read`. It must not name the same packet twice. A function is given
        ``skip(path, record, partition)``, which tells what is done, so that a reader need not even copy it. A None
        among the packets says that the next one is not due yet.
    """

    def __init__(self, packets: Packets | Callable[[Skip], Packets]) -> None:
        self._given = packets
        self._packets: Iterator[FilePacket | None] = iter(())
        self._done: Done = {}
        self._held: FilePacket | None = None
        self._again: Intake | None = None
        self._last: Intake | None = None
        self._exhausted = False
        self.skipped = 0

    @property
    def exhausted(self) -> bool:
        """True when the iterator has ended and nothing is left to repeat."""
        return self._exhausted and self._again is None

    def open(self, done: Done) -> None:
        """Skip what is in ``done``."""
        self._done = {where: _disjoint(ranges) for where, ranges in done.items()}
        self._packets = iter(self._given(self._is_done) if callable(self._given) else self._given)

    def read(self, bounds: Bounds) -> Intake | None:
        """Return the next packets that are not done; None at the end, or where none is due yet."""
        if self._again is not None:
            self._last, self._again = self._again, None
            return self._last
        packets: list[FilePacket] = []
        size, ingest_ms, began = 0, int(time.time() * 1000), time.monotonic()
        while len(packets) < bounds.max_alerts:
            packet = self._next()
            if packet is None or (packets and size + len(packet.value) > bounds.max_bytes):
                self._held = packet
                break
            if self._is_done(packet.path, packet.record, packet.partition):
                self.skipped += 1
            else:
                packets.append(packet)
                size += len(packet.value)
            if time.monotonic() - began > bounds.max_wait_s:
                break
        self._last = Intake(batch_of(packets, ingest_ms)) if packets else None
        return self._last

    def _next(self) -> FilePacket | None:
        if self._held is not None:
            held, self._held = self._held, None
            return held
        try:
            return next(self._packets)
        except StopIteration:
            self._exhausted = True
            return None

    def _is_done(self, path: str, record: int, partition: int = 0) -> bool:
        done = self._done.get((path, partition), [])
        at = bisect_right(done, (record, sys.maxsize)) - 1
        return at >= 0 and record <= done[at][1]

    def owns(self, intake: Intake) -> bool:
        """Tell that nobody else takes them."""
        return True

    def idle(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def rewind(self) -> None:
        """Give what is left of the last batch again."""
        self._again = self._last

    def committed(self, intake: Intake) -> None:
        """Forget the batch, or this part of it."""
        if self._last is not None:
            done, size = len(intake.batch), len(self._last.batch)
            self._last = self._last.part(done, size) if done < size else None

    def close(self) -> None:
        """Do nothing: the iterator belongs to the caller."""


def _disjoint(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same records as ranges in order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def batch_of(packets: list[FilePacket], ingest_ms: int) -> PacketBatch:
    """Return packets of files as a batch that was read at ``ingest_ms``, Unix ms UTC."""
    return PacketBatch(
        values=[packet.value for packet in packets],
        topics=[packet.path for packet in packets],
        partitions=np.array([packet.partition for packet in packets], np.int32),
        offsets=np.array([packet.record for packet in packets], np.int64),
        timestamps_ms=np.array([packet.timestamp_ms for packet in packets], np.int64),
        ingest_ms=ingest_ms,
        members=[packet.member for packet in packets],
    )


class FileSink:
    """Annotations or results, dead letters and the manifest in one directory.

    Parameters
    ----------
    directory : Path
        Made where it does not exist.
    primary : frozenset of str
        Topics whose records are written. Copies on other topics are not: the annotation says it all.
    parquet : callable
        Given a schema and Avro records in it, returns a Parquet file (`broker.deliver.parquet`), which those records
        are then written as.
    schema : str
        Of the records on the primary topics: annotation or result.
    products : frozenset of str
        Topics of products, which are written too.
    """

    def __init__(
        self,
        directory: Path,
        *,
        primary: frozenset[str],
        parquet: Parquet | None = None,
        schema: str = "annotation",
        products: frozenset[str] = frozenset(),
        at: Hook = no_hook,
    ) -> None:
        self.directory = directory
        self._primary, self._products, self._schema, self._parquet = primary, products, schema, parquet
        self._folders = (FOLDERS[schema], *([FOLDERS["product"]] if products else []), FOLDERS["deadletter"])
        self._at = at
        self._lock: BinaryIO | None = None
        self._manifest: BinaryIO | None = None
        self._sequence = 0

    def open(self) -> Done:
        """Lock the directory, remove what a kill left behind, and return what is committed.

        Raises
        ------
        TocsinError
            Another process writes here, or the manifest is damaged before its last line.
        """
        for folder in self._folders:
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        self._lock = (self.directory / LOCK).open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TocsinError(f"another process writes to {self.directory}") from error
        lines = list(read_manifest(self.directory))
        manifest = self.directory / MANIFEST
        self._manifest = manifest.open("ab")
        self._manifest.truncate(lines[-1][1] if lines else 0)
        os.fsync(self._manifest.fileno())
        _sync_directory(self.directory)
        self._sequence = len(lines)
        self._remove_orphans({name for line, _ in lines for name in line["segments"]})
        return done_in(line["ledger"] for line, _ in lines)

    def _remove_orphans(self, named: set[str]) -> None:
        for folder in self._folders:
            for path in (self.directory / folder).iterdir():
                if path.suffix in (".avro", ".parquet", ".tmp") and f"{folder}/{path.name}" not in named:
                    path.unlink()

    def commit(self, commit: Commit, idle: Idle) -> None:
        """Commit one batch.

        3. Write and sync its segments under temporary names. 4. Rename the records. 5. Rename the dead letters.
        6. Sync the directories. 7. Append its line to the manifest. 8. Sync it: committed.

        Raises
        ------
        Stop
            The disk refuses.
        """
        if self._manifest is None:
            raise RuntimeError("open the sink before committing")
        try:
            segments = self._segments(commit)
            for name, content in segments.items():
                _write_synced(self.directory / (name + ".tmp"), content)
            self._at(3)
            for number, folders in ((4, self._folders[:-1]), (5, self._folders[-1:])):
                for name in segments:
                    if name.split("/")[0] in folders:
                        (self.directory / (name + ".tmp")).rename(self.directory / name)
                self._at(number)
            for folder in {name.split("/")[0] for name in segments}:
                _sync_directory(self.directory / folder)
            self._at(6)
            line = json.dumps({"ledger": commit.ledger, "segments": list(segments)}, separators=(",", ":"))
            self._manifest.write(line.encode() + b"\n")
            self._manifest.flush()
            self._at(7)
            os.fsync(self._manifest.fileno())
            self._at(8)
        except OSError as error:
            raise Stop(f"cannot write to {self.directory}: {error}; run again and nothing is lost") from error
        self._sequence += 1

    def _segments(self, commit: Commit) -> dict[str, bytes]:
        """Return the content of each segment of a batch by its name under the directory."""
        bodies: dict[tuple[bytes, str], list[bytes]] = {}
        for record in commit.outcomes.records:
            if record.topic in self._primary | self._products:
                kind = "" if record.topic in self._primary else record.topic.rsplit(".", 1)[-1]
                bodies.setdefault((dict(record.headers)[HEADER], kind), []).append(record.value[5:])
        dead = latest("deadletter")
        for letter in commit.outcomes.dead:
            value = dead.encode(deadletters.record(commit.intake.batch, letter))
            bodies.setdefault((dead.fingerprint, ""), []).append(value[5:])
        segments = {}
        for (fingerprint, kind), found in bodies.items():
            schema = by_fingerprint()[fingerprint]
            folder = FOLDERS[schema.name]
            name = f"{folder}/{self._sequence:08d}-{kind or schema.name}-{schema.version}"
            if self._parquet is not None and schema.name == self._schema:
                segments[f"{name}.parquet"] = self._parquet(schema, found)
            else:
                segments[f"{name}.avro"] = container(schema.text, found, f"{name}.avro")
        return segments

    def close(self) -> None:
        """Release the directory."""
        for handle in (self._manifest, self._lock):
            if handle is not None:
                handle.close()
        self._manifest = self._lock = None


def read_manifest(directory: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each committed line of a directory's manifest, and where it ends; a torn last line is not one.

    Raises
    ------
    TocsinError
        A line other than the last is damaged.
    """
    path = directory / MANIFEST
    if not path.exists():
        return
    end = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                parsed = json.loads(line)
            except ValueError as error:
                if lines.read(1):
                    raise TocsinError(f"line {number} of {path} is damaged: {error}") from error
                return
            end += len(line)
            yield parsed, end


def done_in(ledgers: Iterable[dict[str, Any]]) -> Done:
    """Return the sources that ledger records cover: (first, last) ranges by (topic, partition)."""
    done: Done = {}
    for ledger in ledgers:
        for source in ledger["sources"]:
            found = done.setdefault((source["topic"], source["partition"]), [])
            if found and found[-1][1] + 1 == source["first"]:
                found[-1] = (found[-1][0], source["last"])
            else:
                found.append((source["first"], source["last"]))
    return done


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; what was there stays until then."""
    temporary = path.with_name(path.name + ".tmp")
    _write_synced(temporary, content)
    temporary.rename(path)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
