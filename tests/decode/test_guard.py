"""The machine reads and writes by address: it must never touch what is behind a body or a table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEMAS = 2_000 if os.environ.get("TOCSIN_FAULTS") == "full" else 12
CHECKED = """
import numpy as np
from broker.core.jit import jit
@jit()
def f(a, i):
    return a[i]
try:
    f(np.zeros(3), 7)
except IndexError:
    from tests.decode.guard import main
    main(2, {n})
    raise SystemExit(0)
raise SystemExit(5)
"""


def test_no_touch_behind_the_end() -> None:
    command = [sys.executable, "-m", "tests.decode.guard", "1", str(SCHEMAS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_with_bounds_checks(tmp_path: Path) -> None:
    """The same with numba's own checks of every index, compiled apart: they are on, and none is broken."""
    script = tmp_path / "checked.py"
    script.write_text(CHECKED.format(n=SCHEMAS))
    environment = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr.decode()


def test_the_guard_would_notice() -> None:
    for script in (
        "ctypes.string_at(Guarded().end, 1)",
        "m = Guarded(); store(m.table(4).ctypes.data + 32, 1)",
        "m = Guarded(); varint(m.put(b'\\xff'), m.end + 1)",
    ):
        begin = "import ctypes; from broker.decode.memory import varint; from tests.decode.guard import Guarded; "
        begin += "from numba import njit; from broker.decode import memory; "
        begin += "store = njit(lambda p, v: memory.store(p, v)); "
        done = subprocess.run([sys.executable, "-c", begin + script], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode < 0, script
