"""numba's decorator with types that mypy --strict accepts, and the project's defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def jit(**options: object) -> Callable[[F], F]:
    """Compile to machine code on first call: no GIL, cached on disk; ``options`` go to `numba.njit`."""
    settings: dict[str, object] = {"nogil": True, "cache": True, **options}

    def wrap(function: F) -> F:
        return cast(F, numba.njit(**settings)(function))

    return wrap
