"""Networks: torch only, tensors in, tensors out. One file each; listed here by the name that a card uses."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

NETWORKS = {
    "gru": "broker.models.networks.gru:Gru",
    "transformer": "broker.models.networks.transformer:Transformer",
    "nights": "broker.models.networks.nights:Nights",
    "t2": "broker.models.networks.t2:T2",
    "lstm": "broker.models.networks.lstm:Lstm",
    "phased": "broker.models.networks.phased:Phased",
    "supernnova": "broker.models.networks.supernnova:SuperNnova",
    "timemod": "broker.models.networks.timemod:TimeModulated",
    "vrae": "broker.models.networks.vrae:Vrae",
}
"""Name to module and class. A network's module has a ``Config`` dataclass beside it."""


def reads(network: Any) -> str:
    """Return what a network reads beside the scalars: "series" (the grid), or "epochs" (raw observations)."""
    return str(getattr(network, "READS", "series"))


def settings(name: str) -> frozenset[str]:
    """Return the fields of a network's ``Config``.

    Raises
    ------
    ValueError
        No such network.
    """
    return frozenset(field.name for field in dataclasses.fields(_module(name).Config))


def create(name: str, config: Mapping[str, Any]) -> Any:
    """Return an untrained network.

    Parameters
    ----------
    name : str
        Key of `NETWORKS`.
    config : mapping
        Fields of the network's ``Config``; fields left out take its defaults.

    Raises
    ------
    ValueError
        No such network, or a field that its configuration does not have.
    """
    if unknown := set(config) - settings(name):
        raise ValueError(f"the network {name} has no setting {', '.join(sorted(unknown))}")
    return class_of(name)(_module(name).Config(**config))


def class_of(name: str) -> Any:
    """Return a network's class.

    Raises
    ------
    ValueError
        No such network.
    """
    return getattr(_module(name), NETWORKS[name].split(":")[1])


def _module(name: str) -> Any:
    if name not in NETWORKS:
        raise ValueError(f"no network is called {name!r}: there are {', '.join(NETWORKS)}")
    return importlib.import_module(NETWORKS[name].split(":")[0])
