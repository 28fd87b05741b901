"""How long tasks say how far they are."""

from __future__ import annotations

from collections.abc import Callable

Show = Callable[[str, int, int], None]
"""Told what is done, how much of it and of how much."""


def silent(what: str, done: int, total: int) -> None:
    """Say nothing of the progress."""
