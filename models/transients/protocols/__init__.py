"""Protocols A to G: what is trained on what, judged how, beside what was published; `tocsin evaluate` runs them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from broker.core.errors import TocsinError

if TYPE_CHECKING:
    from broker.models.transients.protocols.unit import Protocol

_HERE = "broker.models.transients.protocols."

PROTOCOLS = {
    "A": f"{_HERE}spcc:A",
    "B": f"{_HERE}spcc:B",
    "C": f"{_HERE}spcc:C",
    "D": f"{_HERE}plasticc:PROTOCOL",
    "E": f"{_HERE}shift:PROTOCOL",
    "F": f"{_HERE}early:PROTOCOL",
    "G": f"{_HERE}rare:PROTOCOL",
    "night": f"{_HERE}night:PROTOCOL",
    "agn": f"{_HERE}agn:PROTOCOL",
    "calibration": f"{_HERE}calibration:PROTOCOL",
    "curves": f"{_HERE}curves:PROTOCOL",
    "systems": f"{_HERE}systems:PROTOCOL",
    "sky": f"{_HERE}sky:PROTOCOL",
}
"""Name to module and attribute; `tocsin evaluate` lists them in this order."""


def load(name: str) -> Protocol:
    """Return a protocol, its module imported only now.

    Raises
    ------
    TocsinError
        There is no such protocol; the text names those there are.
    """
    if name not in PROTOCOLS:
        raise TocsinError(f"no protocol is called {name!r}; there are: {', '.join(PROTOCOLS)}")
    module, attribute = PROTOCOLS[name].split(":")
    protocol: Protocol = getattr(import_module(module), attribute)
    return protocol
