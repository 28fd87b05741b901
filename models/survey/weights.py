"""A row's networks as bytes and back: parameters in half precision, which training has rounded them to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn

from broker.models.survey import domain
from broker.models.survey.fitted import Trunks
from broker.models.survey.row import Row

DOMAIN = "domain."


def rounded(network: nn.Module) -> None:
    """Round a network's parameters to half precision: what is measured is what the file will hold."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half())


def pack_trunks(trunks: Trunks) -> bytes:
    """Return the file of an ensemble's trunks and of where their training set lies."""
    places = {DOMAIN + name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in trunks.domain.items()}
    return bytes(save(_states(trunks.networks) | places))


def pack_heads(heads: Sequence[nn.Module]) -> bytes:
    """Return the file of an ensemble's heads."""
    return bytes(save(_states(heads)))


def unpack_trunks(row: Row, data: bytes) -> Trunks:
    """Return the trunks of a file.

    Raises
    ------
    RuntimeError, ValueError
        The weights do not fit the networks that the row's file describes, or know something else of their training set.
    """
    tensors = load(data)
    place = {name.removeprefix(DOMAIN): x.numpy() for name, x in tensors.items() if name.startswith(DOMAIN)}
    if set(place) != set(domain.ARRAYS):
        raise ValueError(f"they know {sorted(place)} of the training set, not {sorted(domain.ARRAYS)}")
    states = {name: x for name, x in tensors.items() if not name.startswith(DOMAIN)}
    shapes = {wanted.name: tuple(max(size, 1) for size in wanted.shape) for wanted in row.inputs}
    example = row.trunk.prepare({name: np.zeros((2, *shape)) for name, shape in shapes.items()}, row.inputs)
    networks = [row.trunk.build(example) for _ in range(_members(states))]
    return Trunks(_filled(networks, states), place)


def unpack_heads(row: Row, data: bytes) -> list[nn.Module]:
    """Return the heads of a file.

    Raises
    ------
    RuntimeError
        The weights do not fit the networks that the row's file describes.
    """
    states = load(data)
    networks: list[Any] = [row.head.build(row.trunk.width, row, _truth(row)) for _ in range(_members(states))]
    return _filled(networks, states)


def _truth(row: Row) -> NDArray[Any]:
    """Return any truth that the row could be trained on: heads take their scales from it, which the file replaces."""
    if row.classes:
        return np.arange(len(row.classes))
    return np.stack([np.linspace(target.low, target.high, 64) for target in row.targets], axis=1)


def _states(networks: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return all tensors of an ensemble, ``0.`` before those of the first member."""
    return {
        f"{k}.{name}": (x.half() if name in dict(network.named_parameters()) else x).contiguous()
        for k, network in enumerate(networks)
        for name, x in network.state_dict().items()
    }


def _members(states: dict[str, Tensor]) -> int:
    return len({name.partition(".")[0] for name in states})


def _filled(networks: list[nn.Module], states: dict[str, Tensor]) -> list[nn.Module]:
    for k, network in enumerate(networks):
        own = {name.partition(".")[2]: x for name, x in states.items() if name.partition(".")[0] == str(k)}
        network.load_state_dict(own)
    return [network.eval() for network in networks]
