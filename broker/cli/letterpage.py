"""Dead letters for people and scripts: numbered, and as a line, a page or plain values."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from broker.core.errors import TocsinError

if TYPE_CHECKING:
    from broker.deliver.outputs import Outputs
    from broker.deliver.retry import Letter

HEAD = 64
_FIELD = re.compile(r"\(at (?P<at>[^)]+)\)|(?:the|no) field (?P<named>\w+(?:\.\w+)*)")


def every(outputs: Outputs) -> list[dict[str, Any]]:
    """Return every packet that has dead letters, by number; without the packets, which need not fit in memory."""
    from broker.deliver.ledger import place_of
    from broker.deliver.retry import letters

    last = {place_of(letter): letter for letter in map(_plain, outputs.dead_letters())}
    return [_numbered(letter, last[letter.place]) for letter in letters(outputs) if letter.place in last]


def fetch(outputs: Outputs, number: int) -> tuple[dict[str, Any], bytes]:
    """Return dead letter ``number`` and its packet: a first reading finds its place, a second one fetches it."""
    from broker.deliver.ledger import place_of
    from broker.deliver.retry import letters

    wanted = next((letter for letter in letters(outputs) if letter.number == number), None)
    if wanted is None:
        raise TocsinError(f"there is no dead letter {number}")
    *_, found = (letter for letter in outputs.dead_letters() if place_of(letter) == wanted.place)
    return _numbered(wanted, _plain(found)), found["packet"]


def _numbered(letter: Letter, plain: dict[str, Any]) -> dict[str, Any]:
    tries = [{"outcome": outcome, "reason": reason} for outcome, reason in letter.tries]
    return {"number": letter.number, **plain, "open": letter.is_open, "retried": tries}


def _plain(letter: dict[str, Any]) -> dict[str, Any]:
    """Return a dead letter for printing: times as ISO 8601, the packet as its size and its first bytes."""
    packet = letter["packet"]
    shown = {name: value for name, value in letter.items() if name != "packet"}
    for name in ("timestamp", "ingestTimestamp"):
        shown[name] = _iso(shown[name])
    found = _FIELD.search(letter["error"])
    field = (found["at"] or found["named"]) if found else None
    return {**shown, "field": field, "packetBytes": len(packet), "packetHead": packet[:HEAD].hex()}


def line(one: dict[str, Any]) -> str:
    """Return a dead letter as a line of a list."""
    what = f"{one['number']:>6}  {one['stage']:<8} {one['reason']:<15} {one['packetBytes']:>9} B  {_state(one):<12}"
    return f"{what}  {_place(one)}"


def page(one: dict[str, Any], where: str, packet: bytes) -> str:
    """Return all that a person needs of a dead letter, as lines."""
    rows = {
        "dead letter": f"{one['number']} of {where}",
        "reason": f"{one['reason']}, found by: {one['stage']}",
        "text": one["error"],
        "field": one["field"] or "not named",
        "packet": f"{one['topic']}, partition {one['partition']}, offset {one['offset']}",
        "size": f"{one['packetBytes']:,} bytes",
        "sent": one["timestamp"] or "the source has no time",
        "read": f"{one['ingestTimestamp']}, by tocsin {one['brokerVersion']}",
        "retried": ", then ".join(map(_end, one["retried"])) or "never",
        "now": _state(one),
        "to retry": f"tocsin dlq retry {where} --source {_place(one)}"
        if one["open"]
        else "it has another end: nothing is to do",
    }
    lines = [f"{name:<12} {value}" for name, value in rows.items()]
    return "\n".join([*lines, *_dump(packet[:HEAD])])


def _place(one: dict[str, Any]) -> str:
    return f"{one['topic']}/{one['partition']}/{one['offset']}"


def _state(one: dict[str, Any]) -> str:
    return "open" if one["open"] else _end(one["retried"][-1])


def _end(end: dict[str, str]) -> str:
    return end["outcome"].replace("_", " ") + (f" ({end['reason']})" if end["reason"] else "")


def _dump(head: bytes) -> list[str]:
    """Return bytes as lines of sixteen: offset, hexadecimal, and the letters among them."""
    lines = []
    for at in range(0, len(head), 16):
        row = head[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}     {row.hex(' '):<47}  |{text}|")
    return lines


def _iso(value: Any) -> str | None:
    """Return a time stamp (fastavro gives a datetime, or an int where it cannot) as ISO 8601; -1 ms is none."""
    time = value if isinstance(value, datetime) else datetime.fromtimestamp(value / 1000, UTC)
    return time.isoformat(timespec="milliseconds") if time.timestamp() >= 0 else None
