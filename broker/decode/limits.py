"""Bounds on what a packet may make us do, and the error that names a broken one."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.errors import TocsinError
from broker.core.reasons import Dead

_LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class Limits:
    """More than any real packet has; beyond a bound a packet is dead (`Dead.BOUND_EXCEEDED`).

    Attributes
    ----------
    packet_bytes : int
        Bytes of a packet, and of its body once decompressed (real ones: up to 0.3 MB).
    array_items : int
        Items of one array or map.
    packet_items : int
        Items of all arrays and maps of a packet.
    schema_bytes : int
        Bytes of a writer schema (real ones: up to 60 KB).
    schema_depth : int
        Records, arrays, maps and unions within each other.
    instructions : int
        Length of a compiled program (real ones: up to 200).
    held_bytes : int
        Decompressed bodies that are held at once; a batch with more is decoded in turns.
    """

    packet_bytes: int = 16_000_000
    array_items: int = 25_000
    packet_items: int = 50_000
    schema_bytes: int = 500_000
    schema_depth: int = 32
    instructions: int = 10_000
    held_bytes: int = 64_000_000


class Reject(TocsinError):
    """A packet that cannot become an alert; ``reason`` is a `Dead` code, the message one clause."""

    def __init__(self, reason: Dead, text: str) -> None:
        super().__init__(plain(text))
        self.reason = reason


def plain(text: str) -> str:
    """Return a sentence that can be published, whatever names a sender put into it: short, printable, valid UTF-8."""
    short = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " ..."
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in short)
