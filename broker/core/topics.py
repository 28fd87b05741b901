"""The one list of topics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of everything that is published under one prefix."""

    prefix: str = "tocsin"

    def all(self, survey: str) -> str:
        """One annotation per scored or unscored packet of a survey."""
        return f"{self.prefix}.{survey}.all"

    def of_class(self, survey: str, slug: str) -> str:
        """Copies of alerts whose class probability is above the configured one."""
        return f"{self.prefix}.{survey}.class.{slug}"

    def anomaly(self, survey: str) -> str:
        """Copies of alerts above the configured anomaly percentile."""
        return f"{self.prefix}.{survey}.anomaly"

    def raw(self, survey: str) -> str:
        """The survey's packets, untouched."""
        return f"{self.prefix}.{survey}.raw"

    def shadow(self, model: str, survey: str) -> str:
        """What a candidate says of a survey's alerts, beside the live annotation; nobody's end of a packet."""
        return f"{self.prefix}.shadow.{model}.{survey}"

    def product(self, kind: str) -> str:
        """What sidecars read: products of one kind."""
        return f"{self.prefix}.{kind}"

    @property
    def results(self) -> str:
        """One result per product that a sidecar scored or not."""
        return f"{self.prefix}.results"

    def is_operators(self, name: str) -> bool:
        """Tell whether a topic is the operator's own: it carries packets as they came, partnership data and all.

        Every other topic may be public.
        """
        return name in (self.dead_letters, self.ledger, self.in_flight) or name.endswith(".raw")

    @property
    def dead_letters(self) -> str:
        """Packets that cannot be understood, with bytes and reason."""
        return f"{self.prefix}.dead-letters"

    @property
    def ledger(self) -> str:
        """One record per transaction: sources, counts, filtered offsets, gaps."""
        return f"{self.prefix}.ledger"

    @property
    def in_flight(self) -> str:
        """Notes of what a member was working on, for the next one if it dies; compacted, and most often empty."""
        return f"{self.prefix}.in-flight"
