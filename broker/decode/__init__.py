"""Packets to columns: framing, schemas, compiled projection decoder. The only room that knows a survey."""

from broker.decode.decoder import Decoded, Decoder, read, stamps
from broker.decode.limits import Limits
from broker.decode.schemas import Registry, SchemaStore

__all__ = ["Decoded", "Decoder", "Limits", "Registry", "SchemaStore", "read", "stamps"]
