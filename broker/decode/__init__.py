"""Packets to columns: framing, schemas, compiled projection decoder. The only room that knows a survey."""

from broker.decode.decoder import Decoded, Decoder
from broker.decode.details import details
from broker.decode.limits import Limits, Reject
from broker.decode.packets import read, stamps
from broker.decode.schemas import Registry, SchemaStore

__all__ = ["Decoded", "Decoder", "Limits", "Registry", "Reject", "SchemaStore", "details", "read", "stamps"]
