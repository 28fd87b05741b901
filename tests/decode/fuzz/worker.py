"""One batch: decoded as a whole, checked, and compared with fastavro in a sample; and the process that does it."""

from __future__ import annotations

import contextlib
import random
import re
import resource
import time
import traceback
import tracemalloc
import warnings
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np

from broker.core.outcomes import DeadLetter
from broker.decode import Decoded, Decoder, containers, framing
from broker.decode.decoder import WRONG, Bodies, run
from broker.decode.limits import Limits, Reject
from broker.decode.packets import body_of, read, stamps
from broker.decode.programs import Programs
from tests.decode.fuzz import mutate
from tests.decode.fuzz.frames import whole
from tests.decode.fuzz.mutate import Input
from tests.decode.fuzz.seeds import Schemas, Seed, seeds
from tests.decode.fuzz.theirs import Oracle
from tests.decode.oracle import Captured, batch, captured

SENTINEL_EVERY = 25
TRACED_EVERY = 40  # batches: tracemalloc makes a batch some three times slower
SHOWN = 8  # packets of a batch that are read as people read them
# The bound on what the decoder may hold: decompressed bodies and a packet; points that a small packet may have; and
# what a packet's bytes may become.
FIXED_BYTES, PACKET_BYTES, BYTE_BYTES = 100_000_000, 200_000, 20
HEADROOM = 3_000_000_000  # address space above what the process has when it begins


@dataclass(slots=True)
class Found:
    """What a batch showed.

    Attributes
    ----------
    outcomes : Counter of (kind, reason)
        reason is 'alert' or a dead letter's.
    verdicts : Counter of (verdict, reason)
        Of the sampled inputs: 'equal', 'both refuse', 'only ours', 'only theirs', 'DIFFERENT'.
    failures : list of str
        What must not be; each a sentence.
    seconds, peak_bytes : float, int
        The decoder's time for the batch; its peak of traced memory, 0 where it was not traced.
    packets_bytes : int
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_bytes: int = 0
    packets_bytes: int = 0


Ours = tuple[str, Captured | None, str]
"""Why we refuse ('' where we do not), what we captured, and the survey."""


class Worker:
    """Runs batches; holds what is made once."""

    def __init__(self, start: int, size: int, sampled: float) -> None:
        self._start, self._size, self._sampled = start, size, sampled
        self._seeds = seeds()
        self._store = Schemas()
        self._decoder = Decoder(self._store)
        self._programs = Programs(Limits())
        self._sentinels = _sentinels(self._seeds)
        self._good = [_columns(self._decoder(batch([value]))[0], 0) for value in self._sentinels]
        self._oracle = Oracle()

    def batch(self, number: int) -> Found:
        """Run batch ``number``."""
        inputs = mutate.batch(self._start, number, self._size, self._seeds)
        found = self.decode(inputs, traced=number % TRACED_EVERY == 0)
        self._split([made for made in inputs if made.kind == "frame.many"], found)
        self._show(inputs[:: self._size // SHOWN or 1], found)
        self._compare(inputs, random.Random(f"sample {self._start}/{number}"), found)
        found.failures = [f"batch {number}: {text}" for text in found.failures]
        return found

    def decode(self, inputs: list[Input], *, traced: bool = False) -> Found:
        """Decode inputs with good packets between them, and check that each has one end and the good ones are good."""
        values, places = self._mixed(inputs)
        found = Found(packets_bytes=sum(map(len, values)))
        if traced:
            tracemalloc.start()
        began = time.perf_counter()
        decoded, dead = self._decoder(batch(values))
        found.seconds = time.perf_counter() - began
        if traced:
            found.peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            if found.peak_bytes > FIXED_BYTES + PACKET_BYTES * len(values) + BYTE_BYTES * found.packets_bytes:
                found.failures.append(f"{found.peak_bytes} bytes at once for {found.packets_bytes} bytes of packets")
        alive = [row for part in decoded for row in part.alerts.rows.tolist()]
        if sorted([*alive, *(letter.row for letter in dead)]) != list(range(len(values))):
            found.failures.append("a packet has no end, or two")
        reasons = {letter.row: str(letter.reason) for letter in dead}
        for row, made in zip(places, inputs, strict=True):
            found.outcomes[made.kind, reasons.get(row, "alert")] += 1
        found.failures += _bad_letters(dead)
        rows = sorted(set(range(len(values))) - set(places))
        for k, row in enumerate(rows):
            if row in reasons or _columns(decoded, row) != self._good[k % len(self._good)]:
                found.failures.append(f"the good packet in row {row} is not as it was")
        return found

    def _mixed(self, inputs: list[Input]) -> tuple[list[bytes], list[int]]:
        """The inputs with good packets between them, and the rows of the inputs."""
        values: list[bytes] = []
        places = []
        sentinels = 0
        for i, made in enumerate(inputs):
            if i % SENTINEL_EVERY == 0:
                values.append(self._sentinels[sentinels % len(self._sentinels)])
                sentinels += 1
            places.append(len(values))
            values.append(made.value)
        return values, places

    def _split(self, inputs: list[Input], found: Found) -> None:
        """Take containers apart: the pieces must be as few as their records can be, and each have one end."""
        for made in inputs:
            pieces = list(containers.split(made.value))
            decoded, dead = self._decoder(batch(pieces))
            if sum(len(part.alerts) for part in decoded) + len(dead) != len(pieces):
                found.failures.append("a piece of a container has no end, or two")
            found.outcomes["split", "alert"] += sum(len(part.alerts) for part in decoded)
            for letter in dead:
                found.outcomes["split", str(letter.reason)] += 1

    def _show(self, inputs: list[Input], found: Found) -> None:
        """Read packets as people do, whole and their stamps: a refusal is the only thing that may come instead."""
        for made in inputs:
            for reader in (read, stamps):
                with contextlib.suppress(Reject):
                    reader(made.value, self._store)
                found.outcomes["shown", reader.__name__] += 1

    def _compare(self, inputs: list[Input], pick: random.Random, found: Found) -> None:
        """Ask fastavro about a sample of the inputs."""
        sample = [made for made in inputs if pick.random() < self._sampled]
        for made, (refusal, ours, survey) in zip(sample, self._ours(sample), strict=True):
            accepted, why, theirs = self._oracle.ask(made.value, "" if refusal else survey)
            if not refusal and accepted:
                verdict = "equal" if ours == theirs else "DIFFERENT"
                found.verdicts[verdict, made.kind] += 1
                if verdict == "DIFFERENT":
                    found.failures.append(f"DIFFERENT from fastavro: {made.kind} {made.seed} {made.value[:9999].hex()}")
            elif refusal and not accepted:
                found.verdicts["both refuse", made.kind] += 1
            elif accepted:
                found.verdicts["only theirs", _general(refusal)] += 1
            else:
                found.verdicts["only ours", _general(why)] += 1

    def _ours(self, sample: list[Input]) -> list[Ours]:
        """What the machine makes of the sample, in batches by schema so that rows meet templates of others."""
        answers: list[Ours] = [("", None, "")] * len(sample)
        groups: dict[bytes, list[tuple[int, bytes]]] = {}
        for i, made in enumerate(sample):
            try:
                schema, body = body_of(made.value, self._store, Limits())
                groups.setdefault(schema, []).append((i, body))
            except Reject as reject:
                answers[i] = f"{reject.reason}: {reject}", None, ""
        for schema, bodies in groups.items():
            entry = self._programs.get(schema)
            if entry.program is None:
                for i, _ in bodies:
                    answers[i] = "{}: {}".format(*(entry.reject or ("internal", ""))), None, ""
                continue
            starts = np.array([framing.address_of(body) for _, body in bodies])
            spans = np.stack((starts, starts, starts + [len(body) for _, body in bodies]), axis=1)
            made_of = Bodies(np.arange(len(bodies)), [body for _, body in bodies], spans)
            tables, ends = run(entry.program, made_of, Limits())
            kept = iter(range(len(tables.rows)))
            for (i, _), end in zip(bodies, ends[:, 0].tolist(), strict=True):
                survey = entry.program.projection.survey
                if end:
                    answers[i] = f"{WRONG[end][0]}: {WRONG[end][1]}", None, survey
                else:
                    answers[i] = "", captured(tables, next(kept), entry.program.projection), survey
        return answers


def _sentinels(found: list[list[Seed]]) -> list[bytes]:
    """Good packets of several schemas and framings: simulated of both surveys, and small ones."""
    chosen = [found[0][4], found[0][5], found[0][14], *found[1]]
    return [whole(s.schema, s.body, s.wire_id) for s in chosen]


def _columns(decoded: list[Decoded], row: int) -> list[object]:
    """All that a packet became, bit by bit."""
    for part in decoded:
        at = np.flatnonzero(part.alerts.rows == row)
        if len(at):
            one, curve = part.alerts.take(at), part.curves.take(at)
            names = [name for name in type(one).__slots__ if name != "rows"]
            columns = [getattr(one, name) for name in names]
            columns += [curve.mjd, curve.flux_njy, curve.flux_err_njy, curve.band, curve.kind]
            return [column.tobytes() if isinstance(column, np.ndarray) else column for column in columns]
    return []


def _bad_letters(dead: list[DeadLetter]) -> list[str]:
    """Sentences that cannot be published, and failures of our own."""
    bad = [repr(d.text) for d in dead if not d.text.isprintable() or len(d.text) > 1500 or d.reason == "internal"]
    return [f"a dead letter's sentence is {text[:300]}" for text in bad]


def _general(reason: str) -> str:
    """A reason without the names and numbers that a sender puts into it."""
    reason = re.sub(r"'[^']*'|\"[^\"]*\"|b'[^']*'", "'..'", reason)
    return re.sub(r"-?\d+", "N", reason)[:110]


def serve(connection: Connection, start: int, size: int, sampled: float) -> None:
    """Run the batches whose numbers come through ``connection``: the body of the worker's process."""
    warnings.simplefilter("error")
    worker = Worker(start, size, sampled)
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    worker.decode(mutate.batch(start, 0, 40, worker._seeds))  # everything is compiled
    resource.setrlimit(resource.RLIMIT_AS, (now + HEADROOM,) * 2)
    connection.send("ready")
    while (number := connection.recv()) is not None:
        try:
            found = worker.batch(number)
        except Exception:  # it is what we look for
            found = Found(failures=[f"batch {number}: {traceback.format_exc()[-1500:]}"])
        connection.send((found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
