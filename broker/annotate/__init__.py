"""What Tocsin says about an alert, as records of our annotation schema."""

from broker.annotate.annotation import Findings, annotations

__all__ = ["Findings", "annotations"]
