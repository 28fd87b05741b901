"""Where two cores go: CPU time of processes by kind of thread, and their resident set, out of /proc."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

EVERY_S = 0.5
MACHINE = "machine"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20

KINDS = {"rdk:": "kafka_client", "C1 Comp": "jit_compiler", "C2 Comp": "jit_compiler"}
"""First letters of a thread's name, and its kind; the first thread is ``main``, all others are ``others``."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one time: Unix seconds, CPU seconds by kind of thread since its start, resident MB."""

    when: float
    cpu_s: Mapping[str, float]
    resident_mb: float


def sample(pid: int) -> Sample | None:
    """Return the process as it is now, None when it has ended.

    ``others`` is the process's total without the kinds that have a name, so that threads which have ended count too.
    """
    try:
        total = _cpu_s(Path(f"/proc/{pid}/stat"))[1]
        found: defaultdict[str, float] = defaultdict(float)
        for task in Path(f"/proc/{pid}/task").iterdir():
            name, seconds = _cpu_s(task / "stat")
            kind = "main" if task.name == str(pid) else _kind(name)
            if kind:
                found[kind] += seconds
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB
    except (FileNotFoundError, ProcessLookupError):
        return None
    found["others"] = total - sum(found.values())
    return Sample(time.time(), found, resident)


def machine() -> Sample:
    """Return the machine: CPU seconds of all processes (``busy``) and those that its host took (``stolen``)."""
    user, nice, system, _, _, irq, softirq, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    busy = (user + nice + system + irq + softirq) / TICKS
    return Sample(time.time(), {"busy": busy, "stolen": stolen / TICKS}, 0.0)


@dataclass(slots=True)
class Watch:
    """Samples processes, and the machine as a whole, twice a second, in a thread; use it as a context manager.

    Attributes
    ----------
    pids : mapping of str to int
        By the name that the figures are told under.
    """

    pids: Mapping[str, int]
    _samples: dict[str, list[Sample]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._samples = {name: [] for name in (*self.pids, MACHINE)}
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def cpu_s(self, name: str, begin: float, end: float) -> dict[str, float]:
        """Return CPU seconds by kind of thread between two times (Unix seconds), of the samples nearest to them.

        They are scaled from the samples' distance to ``end - begin``.
        """
        first, last = self._at(name, begin), self._at(name, end)
        if last.when <= first.when:
            return {}
        scale = (end - begin) / (last.when - first.when)
        spent = {kind: scale * (seconds - first.cpu_s.get(kind, 0.0)) for kind, seconds in last.cpu_s.items()}
        return {kind: max(0.0, seconds) for kind, seconds in sorted(spent.items())}

    def resident_mb(self, name: str, when: float) -> float:
        """Return the resident set at a time, Unix seconds."""
        return self._at(name, when).resident_mb

    def peak_mb(self, name: str) -> float:
        """Return the largest resident set of all samples."""
        return max((sample.resident_mb for sample in self._samples.get(name, ())), default=0.0)

    def _at(self, name: str, when: float) -> Sample:
        return min(self._samples[name], key=lambda found: abs(found.when - when))

    def _run(self) -> None:
        while True:
            for name, pid in self.pids.items():
                found = sample(pid)
                if found is not None:
                    self._samples[name].append(found)
            self._samples[MACHINE].append(machine())
            if self._stop.wait(EVERY_S):
                return


def _kind(name: str) -> str | None:
    return next((kind for start, kind in KINDS.items() if name.startswith(start)), None)


def _cpu_s(stat: Path) -> tuple[str, float]:
    """Return name and CPU seconds, user and system, of a process or a thread."""
    text = stat.read_text()
    end = text.rindex(")")
    fields = text[end + 2 :].split()
    return text[text.index("(") + 1 : end], (int(fields[11]) + int(fields[12])) / TICKS
