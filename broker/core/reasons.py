"""How a packet ends, and why: the one list of outcome and reason codes.

Every packet ends as exactly one `Outcome`. Reasons are the words of the metrics, the ledger and the docs.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Outcome(IntEnum):
    """The four ends of a packet."""

    SCORED = 0
    UNSCORED = 1
    FILTERED = 2
    DEAD_LETTERED = 3


class Dead(StrEnum):
    """Why a packet cannot be understood; its bytes are kept."""

    EMPTY = "empty"  # 0 bytes
    BAD_MAGIC = "bad_magic"  # neither an Avro container nor the wire format
    MALFORMED = "malformed"  # the structure does not parse, or ends before it should
    TRAILING_BYTES = "trailing_bytes"  # the body does not end exactly at the packet's last byte
    UNKNOWN_SCHEMA = "unknown_schema"  # the registry answers 404; without a registry: not installed
    MISSING_FIELD = "missing_field"  # the writer schema lacks a field that we read
    BAD_SCHEMA = "bad_schema"  # the writer schema itself does not parse
    BOUND_EXCEEDED = "bound_exceeded"  # items, bytes, depth: more than any real packet has
    BAD_POSITION = "bad_position"  # the alert's ra or dec is not finite or not on the sky
    BAD_TIME = "bad_time"  # the alert's time is not finite
    UNKNOWN_KIND = "unknown_kind"  # a product of a kind that there is none of
    BAD_ARRAY = "bad_array"  # a product's array is not what its name, dtype, shape or number of records say
    BAD_URI = "bad_uri"  # a product's array lies where we may not, or cannot, read
    BAD_HASH = "bad_hash"  # what lies there is not what its hash says, or there is no hash
    INTERNAL = "internal"  # the packet at which our own code failed


class Unscored(StrEnum):
    """Why a scorer gave no number; never a fake 0.0."""

    SOLAR_SYSTEM = "solar_system"
    BOGUS = "bogus"
    NO_POINTS = "no_points"  # no usable point is left in the history
    TOO_FEW_DETECTIONS = "too_few_detections"
    BAD_FIT = "bad_fit"  # the interpolation or the network gave a number that is not finite
    NO_MODEL = "no_model"  # no model is configured for this survey
    SHADOW_FAILED = "shadow_failed"  # only on a shadow's topics: the candidate's own code raised an error


class Filtered(StrEnum):
    """Why an operator's cut leaves a packet out."""

    PROGRAMID = "programid"
    TEST_ALERT = "test_alert"
    REPEATED = "repeated"  # the survey sent the same alert id again, and repeats are dropped
