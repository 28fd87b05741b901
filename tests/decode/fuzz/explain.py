"""Why one of the two refuses what the other accepts: every case that may be, by a part of the refusal."""

from __future__ import annotations

import re

_BECAUSE: dict[str, tuple[tuple[str, str], ...]] = {
    "only ours": (
        ("^UnicodeDecodeError", "a text that we skip is not UTF-8"),
        (r"^OverflowError|year|hour|UUID|Decimal|[Ii]nvalid[Oo]peration|\) argument", "a logical type makes no value"),
        (r"zstandard codec is supported", "fastavro lacks a package for the codec"),
        (r"Unrecognized codec: $", "a codec without a name is none for us"),
        (r"Default value", "a default does not fit its type: defaults are for readers"),
        (r"^SchemaParseException|^ParseException|unhashable type|^KeyError", "names or symbols that decide nothing"),
        (r"^UnknownType", "a type within a type, or a name that is defined behind its use"),
        (r"^killed: time|^MemoryError|^RecursionError", "fastavro takes more than a second, or too much memory"),
    ),
    "only theirs": (
        (r"behind the end of the record", "fastavro does not look behind a record's end"),
        (r"behind the container's block|exactly one record", "fastavro reads the first record and stops"),
        (r"behind the end of the packet's gzip", "gzip may have several members; a packet has one"),
        (r"^bad_magic", "fastavro does not look at the magic"),
        (r"header does not parse", "a bound of ours: 64 entries in the header"),
        (r"no such branch|no such symbol", "a number below zero counts from the end in fastavro"),
        (r"container ends before|does not end with the sync", "fastavro reads the record before the block's end"),
        (r"does not decompress", "fastavro neither checks sums nor wants the end of a stream"),
        (r"longer than ten bytes", "fastavro reads numbers of any length"),
        (r"negative length", "fastavro reads nothing for a negative length"),
        (r"^bound_exceeded", "a bound of ours"),
        (r"^missing_field", "a schema of no survey, or a field in a type that we do not read"),
        (r"^bad_schema", "two fields of one name, or a name that is defined twice or never"),
    ),
}


def explain(verdict: str, why: str) -> str:
    """The explanation of a one-sided case; '' where there is none."""
    return next((text for pattern, text in _BECAUSE[verdict] if re.search(pattern, why)), "")
