"""The systems of the review, each a row on protocol D's folds: what was published, as near as our tensors allow."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from broker import gp
from broker.core.bands import SURVEYS
from broker.models.networks import class_of, reads
from broker.models.transients import augment, raw, spm, train
from broker.models.transients.data import Labelled
from broker.models.transients.examples import HISTORY_D, Examples
from broker.models.transients.protocols import members, plasticc, plots
from broker.models.transients.protocols.unit import Column, Context, Protocol, Result, Unit
from broker.models.transients.train import Recipe
from broker.score.classify import run as answer
from broker.score.tensors import build
from broker.score.window import GridRule, request

SEED = plasticc.SEED
PARTS = (0,)
"""One of the five folds: the spread over folds of the deployed networks is in protocol D."""
SIMULATED_EACH, SIMULATED_VERSIONS = 400, 2
"""Simulated objects of a class; alerts of each."""
TIMED = 256
"""Alerts of the batch whose time is told."""
DRAWN = ("flat_log_loss.no_host_z", "ms_per_alert")
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class System:
    """A row.

    Attributes
    ----------
    recipe : Recipe
        One for all, nothing tuned: rows to compare, not models to deploy.
    simulated : int
        Epochs on simulated curves before; 0 for none.
    """

    recipe: Recipe
    simulated: int = 0


SHORT = Recipe("", epochs=6, batch=128, rate=3e-3, share=0.25)
LONG = replace(SHORT, epochs=8, share=1.0)
SYSTEMS = {
    "lstm": System(replace(LONG, network="lstm")),
    "moss": System(replace(SHORT, network="phased", perturb="moss")),
    "supernnova": System(replace(SHORT, network="supernnova", perturb="truncate")),
    "focal": System(replace(members.RECIPES["gru"], focal=2.0)),
    "t2": System(replace(LONG, network="t2", rate=6e-3)),
    "timemod": System(replace(SHORT, network="timemod"), simulated=4),
    "timemod-real": System(replace(SHORT, network="timemod")),
}
"""Row to what is trained. ``focal`` is ``gru`` but for its loss, ``timemod-real`` has no simulations."""
OF_D = ("gru", "gru-early", "transformer", members.SHIPS)
"""Rows of protocol D."""


def units(row: str) -> tuple[Unit, ...]:
    """Return the folds of a row that are judged."""
    return tuple(Unit("systems", row, SEED, part) for part in PARTS)


def run(unit: Unit, context: Context) -> Result:
    """Train without one fold and judge on its objects' whole curves."""
    begun = time.monotonic()
    parts = members.split(unit.seed, context)
    each, cost = _of_d(unit, parts, context) if unit.row in OF_D else _system(unit, parts, context)
    label = parts.held(unit.part).label
    result = plasticc.judged(each, label, f"tocsin evaluate systems --row {unit.row}", time.monotonic() - begun)
    return {**result, "metrics": {**result["metrics"], **cost}}


def _of_d(unit: Unit, parts: members.Split, context: Context) -> tuple[dict[str, Any], dict[str, float]]:
    held = parts.held(unit.part)
    each = {
        name: members.heads(unit.row, parts, unit.part, held, host, context) for name, host in plasticc.INPUTS.items()
    }
    blended = members.BLENDS.get(unit.row, (unit.row,))
    networks = [members.network(name, parts, unit.part, context) for name in blended]
    return each, {"weights": sum(map(_weights, networks)), "ms_per_alert": sum(_ms(n, held) for n in networks)}


def _system(unit: Unit, parts: members.Split, context: Context) -> tuple[dict[str, Any], dict[str, float]]:
    system = SYSTEMS[unit.row]
    training, held = parts.training(unit.part), parts.held(unit.part)
    if reads(class_of(system.recipe.network)) == "epochs":
        training, held = (_with_epochs(made, parts, context) for made in (training, held))
    network, seconds = trained(unit, system, training, parts, context)
    each = {name: members.per_head(train.predict(network, held, host)) for name, host in plasticc.INPUTS.items()}
    return each, {"weights": _weights(network), "ms_per_alert": _ms(network, held), "train_seconds": round(seconds, 1)}


def trained(
    unit: Unit, system: System, training: Examples, parts: members.Split, context: Context
) -> tuple[Any, float]:
    """Return a row's network and the processor seconds that its training took, earlier sittings included."""
    recipe = replace(system.recipe, seed=unit.seed)
    digest = hashlib.sha256(repr((asdict(recipe), system.simulated)).encode()).hexdigest()[:8]
    folder = context.cache / "checkpoints" / "systems"
    stem = f"{unit.row}-seed{unit.seed}-fold{unit.part}-{digest}"
    begin: Mapping[str, Tensor] | None = None
    seconds = 0.0
    if system.simulated:
        first = replace(recipe, epochs=system.simulated, share=1.0)
        simulated = simulations(parts.objects.take(np.flatnonzero(_outside(parts, unit.part))), unit.seed)
        network, seconds = _timed(simulated, first, folder / f"{stem}-simulated.pt", context, None)
        begin = network.state_dict()
    network, more = _timed(training, recipe, folder / f"{stem}.pt", context, begin)
    return network, seconds + more


def simulations(templates: Labelled, seed: int) -> Examples:
    """Return examples of simulated transients at any of their alerts, with their epochs."""
    rng = np.random.default_rng((seed, 11))
    objects = spm.simulate(templates, SIMULATED_EACH, rng)
    repeated = objects.take(np.repeat(np.arange(len(objects)), SIMULATED_VERSIONS))
    curves = augment.any_epoch(repeated.curves, rng, len(SURVEYS["lsst"].bands), HISTORY_D["lsst"])
    grid = request(curves, GridRule())
    found = gp.interpolate(grid.curves, SURVEYS["lsst"].wavelengths_aa, grid.times)
    made = build(grid, found, host_z=repeated.host_z, host_z_err=repeated.host_z_err, epochs=True)
    version = np.tile(np.arange(SIMULATED_VERSIONS), len(objects))
    return Examples(made, repeated.label, repeated.object_id, version, augment.detections(curves))


def _outside(parts: members.Split, part: int) -> Any:
    """Return which objects (A,) are not of a fold."""
    return ~np.isin(parts.objects.object_id, parts.made.object_id[parts.fold == part])


def _with_epochs(made: Examples, parts: members.Split, context: Context) -> Examples:
    return raw.with_epochs(made, "lsst", parts.objects, parts.seed, context.cache, context.show)


def _timed(
    made: Examples, recipe: Recipe, path: Path, context: Context, begin: Mapping[str, Tensor] | None
) -> tuple[Any, float]:
    """Train; return the network and the processor seconds, which are kept beside the checkpoint."""
    kept = path.with_suffix(".seconds")
    before, begun = float(kept.read_text()) if kept.exists() else 0.0, time.process_time()

    def report(epoch: int, loss: float) -> None:
        context.show(f"{path.stem}, loss {loss:.3f}", epoch, recipe.epochs)
        kept.write_text(str(before + time.process_time() - begun))

    network = train.fit(made, recipe, path, report, begin)
    return network, float(kept.read_text())


def _weights(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _ms(network: Any, held: Examples) -> float:
    """Return the processor's milliseconds an alert in a batch, the best of five; what makes the inputs is not in it."""
    tensors = held.take(np.arange(min(TIMED, len(held)))).tensors
    times = []
    for _ in range(5):
        begun = time.process_time()
        answer(network, tensors, CPU)
        times.append(time.process_time() - begun)
    return round(1000.0 * min(times) / len(tensors), 4)


def draw(found: Mapping[Unit, Result], folder: Path) -> list[tuple[str, str]]:
    """Draw losses against times, and the confusion of the best row without the host's redshift."""
    mean = {
        row: {name: float(np.mean([r["metrics"][name] for u, r in found.items() if u.row == row])) for name in DRAWN}
        for row in dict.fromkeys(unit.row for unit in found)
    }
    plots.labelled(
        folder / "cost.svg",
        {row: (figures[DRAWN[1]], figures[DRAWN[0]]) for row, figures in mean.items()},
        ("milliseconds per alert", "flat log loss, no host z"),
    )
    out = [("cost.svg", "What a row loses without the host's redshift, and what its answer costs")]
    losses = {row: figures[DRAWN[0]] for row, figures in mean.items() if row in SYSTEMS}
    if not losses:
        return out
    best = min(losses, key=lambda row: losses[row])
    counts = np.sum([r["curves"]["confusion.no_host_z"] for u, r in found.items() if u.row == best], axis=0)
    plots.confusion(folder / "confusion.svg", counts, plasticc.SHORT)
    return [*out, ("confusion.svg", f"Confusion of {best}, the best of the review's systems here, no host z")]


PROTOCOL = Protocol(
    name="systems",
    title="Systems of the review, on a fold of protocol D",
    about=(
        "Each published system as near as the broker's tensors allow; the head of its file in models/networks tells "
        "what differs. One fold of five, so no spread: over the folds ``gru`` has a standard deviation of 0.02 with "
        "host z and 0.04 without. Nothing is tuned. ``lstm`` and ``t2`` (at its paper's higher rate) train eight "
        "epochs of all examples; ``moss``, ``supernnova`` and both ``timemod`` six epochs of a quarter of them, a "
        "fifth of that: those four rows say that the networks work, not how good they can be (``lstm`` had 1.328 and "
        "1.816 after as little). ``supernnova`` was timed with packed sequences, which its file does without now: they "
        "trained six times slower. "
        "``moss`` is the phased LSTM with noise, lost nights, time shifts and cuts; ``focal`` is ``gru`` "
        "with the focal loss, γ = 2, all else equal; ``timemod`` trains four epochs on simulated transients first, "
        "``timemod-real`` on none. ``gru``, ``gru-early``, ``transformer`` and ``average-early`` are those of protocol "
        "D. "
        "Milliseconds are of one core in batches of 256 and without the making of the inputs, which for epochs is "
        "0.01 ms and for the grid a Gaussian process; training seconds are of the processor, where others ran beside."
    ),
    columns=(
        Column("flat_log_loss.host_z", "flat log loss, host z", "0.507 (t2), 0.473 (t2, later)"),
        Column("flat_log_loss.no_host_z", "no host z", "0.873 (t2)"),
        Column("accuracy.host_z", "accuracy, host z", "0.780 (t2)"),
        Column("accuracy.no_host_z", "no host z", "0.662 (t2)"),
        Column("macro_auc.host_z", "macro AUC, host z"),
        Column("macro_auc.no_host_z", "no host z"),
        Column("train_seconds", "training, s"),
        Column("ms_per_alert", "ms per alert"),
        Column("weights", "weights"),
    ),
    rows=(*SYSTEMS, *OF_D),
    units=units,
    run=run,
    plots=draw,
)
