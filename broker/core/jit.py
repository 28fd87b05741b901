"""numba's decorator with types that mypy --strict accepts, and the project's defaults.

Compiled code is kept in the user's cache directory, in a folder named after all sources that can be inlined into it:
those of its room and of core. numba itself looks at the function's own file alone, and would go on using code that a
change of another file has made stale.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])
KEPT = 4  # folders of other sources of a room: several checkouts may share the cache


def jit(**options: object) -> Callable[[F], F]:
    """Compile to machine code on first call: no GIL, cached on disk; ``options`` go to `numba.njit`."""
    settings: dict[str, object] = {"nogil": True, "cache": True, **options}

    def wrap(function: F) -> F:
        if "NUMBA_CACHE_DIR" not in os.environ:
            numba.config.CACHE_DIR = _folder(Path(function.__code__.co_filename).parent)
        return cast(F, numba.njit(**settings)(function))

    return wrap


@cache
def _folder(room: Path) -> str:
    """Return where numba keeps a room's compiled code; '' (beside the sources) where the home cannot be written."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted({*room.glob("*.py"), *Path(__file__).parent.glob("*.py")}):
        digest.update(path.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tocsin" / "jit"
    folder = home / f"{room.name}-{digest.hexdigest()[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [path for path in home.glob(f"{room.name}-*") if path != folder]
        for path in sorted(others, key=lambda path: path.stat().st_mtime)[: -KEPT or None]:
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return ""
    return str(folder)
