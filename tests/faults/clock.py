"""A wall clock that a test sets, for one process: a small library that is loaded before the others (``clock.c``)."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

HOUR_S = 3600.0


class Clock:
    """Start a process with ``environ``; its clock shows `now`."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler: the clock of a process cannot be set")
        library, self._file = folder / "clock.so", folder / "clock"
        source = Path(__file__).with_suffix(".c")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        self._shift_s = 0.0
        self.shift(0.0)
        self.environ = {"LD_PRELOAD": str(library), "TOCSIN_CLOCK": str(self._file)}

    def shift(self, seconds: float) -> None:
        """Set it forward, or back."""
        self._shift_s += seconds
        with self._file.open("r+b" if self._file.exists() else "wb") as file:  # in place: it is mapped
            os.pwrite(file.fileno(), struct.pack("q", int(self._shift_s * 1e9)), 0)

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self._shift_s, UTC)

    def set_to(self, when: datetime) -> None:
        self.shift((when - self.now) / timedelta(seconds=1))
