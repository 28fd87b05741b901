"""The errors that may cross a stage."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TocsinError(Exception):
    """Anything we say in one sentence to the operator; the command line prints it and exits with 1."""


class Wait(TocsinError):
    """Slow down: the whole batch waits and is tried again. Something outside (registry, Kafka) is away."""


class Stop(TocsinError):
    """The service must stop with this message: going on would do harm (a bad deploy dead-letters a night)."""


def unknown(what: str, name: str, known: Iterable[str], see: str) -> TocsinError:
    """Return the error of a name that nothing has: with those like it, and the command that shows all."""
    near = difflib.get_close_matches(name.partition("@")[0], sorted(known))
    like = f"like it: {', '.join(near)}; " if near else ""
    return TocsinError(f"no {what} is called {name!r}; {like}see {see}")
