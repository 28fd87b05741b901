"""Rates that other brokers have published, with where: not measured here."""

from __future__ import annotations

RATES = (
    (
        "BOOM (Rust), 29,142 ZTF alerts, cross-match, 6 networks, 25 filters",
        "141/s with 3 workers, 389/s with 7, 857/s with 16, of a 32-core EPYC",
        "[arXiv:2511.00164](https://arxiv.org/abs/2511.00164), boom-paper `results/boom.csv`",
    ),
    (
        "Kowalski (Python), the same work and machine",
        "21.6/s with 3 workers, 47.7/s with 7, 117.5/s with 25",
        "boom-paper `results/kowalski.csv`",
    ),
    (
        "BOOM, the floor of its own CI, 4 cores",
        "48.6/s (29,142 alerts in 600 s)",
        "boom `.github/workflows/test-throughput.yaml`",
    ),
    (
        "Fink, one module (host-less), one core",
        "10/s, 3,750/s after cuts that 114 of 401,831 alerts pass",
        "fink-science#656",
    ),
    ("Rubin's alert prototype, Kafka, one Python producer", "about 300/s", "DMTN-028"),
    ("AMPEL, ALeRCE, ANTARES, Lasair, Pitt-Google", "no rate found by us", ""),
)


def lines() -> list[str]:
    """Return the table's lines."""
    rows = [f"| {what} | {rate} | {source} |" for what, rate, source in RATES]
    return ["| published by others, not measured here | alerts | source |", "|---|---|---|", *rows]
