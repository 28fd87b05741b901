"""The run: batches by number through a worker that may die, with a watchdog, a state to resume from, and a report.

``python -m tests.decode.fuzz --inputs 1000000 --state fuzz.json`` runs it and prints what it found, by kind.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from tests.decode.fuzz import worker
from tests.decode.fuzz.explain import explain
from tests.decode.fuzz.worker import Found

BATCH = 1000
BATCH_LIMIT_S = 180.0  # a batch takes a second; fastavro may take a second for each of 120 sampled inputs
START_LIMIT_S = 300.0
SAVED_EVERY = 10


@dataclass(slots=True)
class Report:
    """The sum of all batches."""

    start: int
    batches: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    slowest_s: float = 0.0
    peak_bytes: int = 0
    peak_per_byte: float = 0.0
    resident_bytes: int = 0

    def add(self, found: Found, resident: int) -> None:
        """Add a batch."""
        self.batches += 1
        self.outcomes += found.outcomes
        self.verdicts += found.verdicts
        self.failures += found.failures
        self.seconds += found.seconds
        self.slowest_s = max(self.slowest_s, found.seconds)
        self.peak_bytes = max(self.peak_bytes, found.peak_bytes)
        self.peak_per_byte = max(self.peak_per_byte, found.peak_bytes / max(1, found.packets_bytes))
        self.resident_bytes = max(self.resident_bytes, resident)

    @property
    def inputs(self) -> int:
        """Mutated packets so far."""
        return sum(n for (kind, _), n in self.outcomes.items() if "." in kind)

    @property
    def compared(self) -> int:
        """Inputs that fastavro was asked about."""
        return sum(self.verdicts.values())

    def unexplained(self) -> list[str]:
        """One-sided cases that nobody has explained."""
        cases = [(verdict, why) for verdict, why in self.verdicts if verdict.startswith("only ")]
        return [f"{verdict}: {why}" for verdict, why in cases if not explain(verdict, why)]


class Watched:
    """A worker's process that is asked for batches, and started again where it dies or hangs."""

    def __init__(self, start: int, size: int, sampled: float) -> None:
        self._arguments = start, size, sampled
        self._process: SpawnProcess | None = None

    def batch(self, number: int) -> tuple[Found, int]:
        """Run a batch; what kills the worker is a failure of that batch."""
        if self._process is None:
            self._launch()
        self._connection.send(number)
        what = "hangs"
        try:
            if self._connection.poll(BATCH_LIMIT_S):
                answer: tuple[Found, int] = self._connection.recv()
                return answer
        except EOFError:
            what = "dies"
        code = self.close()
        return Found(failures=[f"batch {number}: the worker {what} ({code})"]), 0

    def _launch(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=worker.serve, args=(theirs, *self._arguments))
        self._process.start()
        theirs.close()
        if not self._connection.poll(START_LIMIT_S):
            raise TimeoutError("the worker does not start")
        self._connection.recv()

    def close(self) -> int | None:
        """End the process; return how it ended."""
        if self._process is None:
            return None
        self._process.kill()
        self._process.join()
        code, self._process = self._process.exitcode, None
        self._connection.close()
        return code


def fuzz(
    inputs: int, start: int = 1, *, state: Path | None = None, size: int = BATCH, sampled: float = 0.12, first: int = 0
) -> Report:
    """Run until ``inputs`` packets are done, those of an earlier run with the same ``state`` included."""
    if state is not None:
        state.parent.mkdir(parents=True, exist_ok=True)
    report = _load(state, start) if state is not None and state.exists() else Report(start)
    watched = Watched(start, size, sampled)
    try:
        for number in range(first + report.batches, first + -(-inputs // size)):
            report.add(*watched.batch(number))
            if state is not None and report.batches % SAVED_EVERY == 0:
                _save(state, report)
    finally:
        watched.close()
    if state is not None:
        _save(state, report)
    return report


def _save(path: Path, report: Report) -> None:
    plain: dict[str, Any] = {name: getattr(report, name) for name in Report.__slots__}
    for name in ("outcomes", "verdicts"):
        plain[name] = [[*key, count] for key, count in plain[name].items()]
    path.with_suffix(".part").write_text(json.dumps(plain))
    os.replace(path.with_suffix(".part"), path)


def _load(path: Path, start: int) -> Report:
    plain = json.loads(path.read_text())
    if plain["start"] != start:
        raise ValueError(f"{path} is of the run from {plain['start']}, not {start}")
    for name in ("outcomes", "verdicts"):
        plain[name] = Counter({(a, b): count for a, b, count in plain[name]})
    return Report(**plain)


def lines(report: Report) -> list[str]:
    """The report as text: outcomes by kind, verdicts beside fastavro, one-sided cases with their reasons."""
    reasons = sorted({reason for kind, reason in report.outcomes if kind != "shown"})
    out = [
        f"{report.inputs:,} inputs in {report.batches:,} batches, {report.compared:,} of them compared with fastavro"
    ]
    out += [f"decoder: {report.seconds:.0f} s in all, slowest batch {report.slowest_s:.2f} s; traced peak "]
    out[-1] += f"{report.peak_bytes / 1e6:.0f} MB ({report.peak_per_byte:.1f} bytes per byte of packets), resident "
    out[-1] += f"{report.resident_bytes / 1e6:.0f} MB"
    out += ["", f"{'outcome by kind':18}" + "".join(f"{reason:>16}" for reason in reasons)]
    for kind in sorted({kind for kind, _ in report.outcomes if kind != "shown"}):
        out.append(f"{kind:18}" + "".join(f"{report.outcomes[kind, reason]:16,}" for reason in reasons))
    out += ["", "beside fastavro"]
    for verdict in ("equal", "both refuse", "only ours", "only theirs", "DIFFERENT"):
        out.append(f"{verdict:18}{sum(n for (v, _), n in report.verdicts.items() if v == verdict):16,}")
    for verdict, title in (("only ours", "only we accept"), ("only theirs", "only fastavro accepts")):
        cases: Counter[str] = Counter()
        for (v, why), n in report.verdicts.items():
            if v == verdict:
                cases[explain(verdict, why) or f"NOT EXPLAINED: {why}"] += n
        out += ["", title, *(f"{n:10,}  {why}" for why, n in cases.most_common())]
    return [*out, "", f"failures: {len(report.failures)}", *report.failures[:50]]
