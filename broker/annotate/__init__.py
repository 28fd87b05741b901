"""What Tocsin says about an alert, as records of our annotation schema."""

from broker.annotate.annotation import Findings, annotation_records

__all__ = ["Findings", "annotation_records"]
