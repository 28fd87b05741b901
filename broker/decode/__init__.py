"""Packets to columns: framing, schemas, compiled projection decoder. The only room that knows a survey."""
