"""fastavro's answer to one packet, in a process of its own: it may take for ever, all memory, or the process down."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import resource
import signal
import warnings
from functools import lru_cache
from io import BytesIO
from multiprocessing.connection import Connection
from typing import Any

import fastavro

from broker.decode import lsst, ztf
from tests.decode.fuzz.seeds import Schemas
from tests.decode.oracle import Captured, expected

SECONDS, BYTES = 1.0, 2_000_000_000
Answer = tuple[bool, str, Captured | None]
"""Whether it reads the packet; if not, why; and what we should have captured, where it is a survey's."""

_STORE = Schemas()
_PROJECTIONS = {"ztf": ztf.PROJECTION, "lsst": lsst.PROJECTION}


class Oracle:
    """The process; another one where it died."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(theirs, self._connection), daemon=True
        )
        self._process.start()
        theirs.close()

    def ask(self, packet: bytes, survey: str) -> Answer:
        """fastavro's answer; ``survey`` says what we captured of it ('': nothing)."""
        try:
            self._connection.send((packet, survey))
            answer: Answer = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            why = "time" if self._process.exitcode == -signal.SIGALRM else f"exit {self._process.exitcode}"
            self._start()
            return False, f"killed: {why}", None
        return answer

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, ours: Connection) -> None:
    ours.close()  # else the end of the other process would not be noticed
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _address_space() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            packet, survey = connection.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        answer = _answer(packet, survey)
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(answer)


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _answer(packet: bytes, survey: str) -> Answer:
    try:
        record = _read(gzip.decompress(packet) if packet[:2] == b"\x1f\x8b" else packet)
        return True, "", expected(record, _PROJECTIONS[survey]) if survey else None
    except Exception as error:  # whatever it raises is its answer
        return False, f"{type(error).__name__}: {str(error)[:200]}", None


def _read(packet: bytes) -> Any:
    if packet[:1] == b"\0":
        return fastavro.schemaless_reader(BytesIO(packet[5:]), _schema(int.from_bytes(packet[1:5], "big")), None)
    return next(iter(fastavro.reader(BytesIO(packet))))


@lru_cache(maxsize=32)
def _schema(schema_id: int) -> Any:
    return fastavro.parse_schema(json.loads(_STORE.get(schema_id)))
