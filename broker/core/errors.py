"""The errors that may cross a stage."""

from __future__ import annotations


class TocsinError(Exception):
    """Anything we say in one sentence to the operator; the command line prints it and exits with 1."""


class Wait(TocsinError):
    """Slow down: the whole batch waits and is tried again. Something outside (registry, Kafka) is away."""


class Stop(TocsinError):
    """The service must stop with this message: going on would do harm (a bad deploy dead-letters a night)."""
