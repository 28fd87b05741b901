"""The machine reads by address: it must never read behind a body, whatever the body says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_no_read_behind_the_end() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.decode.guard", "1", "60"], cwd=root, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_guard_would_notice() -> None:
    root = Path(__file__).parents[2]
    script = "import ctypes; from tests.decode.guard import Guarded; ctypes.string_at(Guarded().end, 1)"
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, check=False)
    assert done.returncode < 0
