"""What Tocsin says about an alert, encoded in our annotation schema."""

from broker.annotate.annotation import Findings, messages, schema

__all__ = ["Findings", "messages", "schema"]
