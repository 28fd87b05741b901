"""Simulated groups, galaxies in haloes, and histories as examples of rows: toys, whose modules say of what.

A simulator draws a table of named columns; a row's inputs and targets say which of them are seen, and which are the
truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from broker.core.errors import TocsinError
from broker.models.simulators import assembly, halos_galaxies, halos_groups
from broker.models.survey.row import Columns, Data, Examples, Target
from broker.sidecar.product import Input

REDSHIFTS = (0.0, 0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class Simulator:
    """What draws a table.

    Attributes
    ----------
    draw : callable
        ``draw(n, seed)`` returns columns (n,).
    data : Data
    """

    draw: Callable[[int, int], Columns]
    data: Data

    def of(self, inputs: tuple[Input, ...], targets: tuple[Target, ...]) -> Callable[[int, int, Path | None], Examples]:
        """Return what makes a variant's examples: columns by the inputs' names, truths by the targets'."""
        return partial(_make, self, inputs, targets)


def _make(
    simulator: Simulator, inputs: tuple[Input, ...], targets: tuple[Target, ...], n: int, seed: int, data: Path | None
) -> Examples:
    drawn = simulator.draw(n, seed)
    named = [*(wanted.name for wanted in inputs), *(target.name for target in targets)]
    if absent := [name for name in named if name not in drawn]:
        raise TocsinError(f"{simulator.data.id} draws no {', '.join(absent)}, but {', '.join(drawn)}")
    seen = {wanted.name: drawn[wanted.name] for wanted in inputs}
    truth = np.stack([drawn[target.name] for target in targets], axis=1)
    return Examples(seen, truth, simulator.data, {name: x for name, x in drawn.items() if name not in named})


def _galaxies(code: str, redshifts: tuple[float, ...]) -> Simulator:
    about = Data(f"halo-galaxies-{code}", halos_galaxies.VERSION, halos_galaxies.PRIOR, toy=True)
    return Simulator(partial(halos_galaxies.galaxies, code=code, redshifts=redshifts), about)


GROUPS = Simulator(halos_groups.groups, Data("halo-groups", halos_groups.VERSION, halos_groups.PRIOR, toy=True))
HISTORIES = Simulator(assembly.histories, Data("assembly-histories", assembly.VERSION, assembly.PRIOR, toy=True))
SUBHALOES, OTHER_SUBHALOES = (_galaxies(code, REDSHIFTS) for code in ("kinetic", "jet"))
UNIVERSES, OTHER_UNIVERSES = (_galaxies(code, (0.0,)) for code in ("kinetic", "jet"))
