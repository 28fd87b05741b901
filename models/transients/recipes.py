"""What `tocsin train NAME` does: examples, folds, the weights that ship, and the card that tells of both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from broker.core.bands import SURVEYS
from broker.core.batch import Ints
from broker.core.taxonomy import CLASSES
from broker.core.units import NJY_ZERO_POINT
from broker.models.networks import class_of, reads
from broker.models.transients import beginnings, calibrate, data, evaluate, examples, galaxies, raw, strange, train
from broker.models.transients.data import Labelled
from broker.models.transients.examples import Examples
from broker.models.transients.exposure import Task
from broker.models.transients.protocols import members
from broker.models.transients.sky import simulate
from broker.models.transients.train import Recipe
from broker.score import card as cards
from broker.score.card import Calibration, Card, ClassPrior, Training, Weights
from broker.score.epochs import names as raw_channels
from broker.score.tensors import channel_names, scalar_names
from broker.score.window import GridRule

VERSION = "0.1.0"
FOLDS = 5
EPOCHS = {"gru": 16, "transformer": 12, "supernnova": 12, "vrae": strange.EPOCHS}
BESIDE: dict[str, dict[str, Any]] = {"supernnova": {"perturb": "truncate", "share": 0.25, "batch": 128, "rate": 3e-3}}
"""Network to fields of its `Recipe` that are not the usual ones."""
SAME_AS = {"lsst-gru": "gru-early", "lsst-transformer": "transformer"}
"""Model to the row of protocol D whose recipe it has: with equal seeds the folds' networks are the same, and shared."""
SIMULATED = ("ztf",)
"""Surveys whose objects can be as many as one likes: a fifth is held out, and the very weights that it judges ship."""
HIDE_HOST = {"lsst": 0.5, "ztf": 0.75}
"""Share of examples whose redshift is hidden: few of ZTF's objects have one."""
GALAXIES = "lsst-agn-anomaly"
DATA = {
    GALAXIES: "simulated: damped random walks at the visits and with the errors of PLAsTiCC's active galaxies",
    "lsst": "PLAsTiCC training set (7,848 objects), from the PyPI wheel snmachine 2.0.0.post3",
    "ztf": "simulated for ZTF: PLAsTiCC supernovae (snmachine 2.0.0.post3) brought nearer, SALT3-F22 (jax-bandflux"
    " 1.0.0), transients of the Bright Transient Survey's half-times, variables; cadence and depth of real pointings",
}
LICENCE = "BSD-3-Clause"
DATA_LICENCE = "CC-BY-4.0 (PLAsTiCC), BSD-3-Clause (snmachine)"

MODELS = {
    "lsst-gru": ("lsst", "gru", "Recurrent classifier for Rubin alerts"),
    "lsst-transformer": ("lsst", "transformer", "Transformer classifier for Rubin alerts"),
    "lsst-supernnova": ("lsst", "supernnova", "Recurrent classifier of raw observations for Rubin alerts"),
    "lsst-anomaly": ("lsst", "vrae", "Judge exposed to warped curves, VRAE and isolation forest for Rubin alerts"),
    GALAXIES: ("lsst", "vrae", "Judge of active galaxies that change their state, VRAE and isolation forest for Rubin"),
    "ztf-gru": ("ztf", "gru", "Recurrent classifier for ZTF alerts"),
    "ztf-transformer": ("ztf", "transformer", "Transformer classifier for ZTF alerts"),
    "ztf-anomaly": ("ztf", "vrae", "Judge exposed to warped curves, VRAE and isolation forest for ZTF alerts"),
}
"""Name to survey, network and summary."""

Show = Callable[[str, int, int], None]
"""Told what is done, how much of it and of how much."""


@dataclass(frozen=True, slots=True)
class Options:
    """Arguments of `tocsin train`.

    Attributes
    ----------
    source : Path or None
        Wheel or folder of Parquet tables; None: the wheel, downloaded once into ``cache``.
    cache : Path
        Examples and checkpoints.
    out : Path or None
        Folder of models; None: the installed one.
    seed, epochs, folds, threads : int
        ``epochs`` 0 takes the recipe's; ``folds`` of the five folds are held out in turn before the weights that ship.
    """

    source: Path | None
    cache: Path
    out: Path | None = None
    seed: int = 0
    epochs: int = 0
    folds: int = 5
    threads: int = 1


def run(name: str, options: Options, show: Show) -> Card:
    """Train, judge and write one of `MODELS`; return its card.

    Raises
    ------
    TocsinError
        The data cannot be had.
    """
    survey, network, _ = MODELS[name]
    torch.set_num_threads(options.threads)
    show("reading PLAsTiCC", 0, 1)
    objects = data.load(options.source or data.fetch(options.cache / "data"))
    if survey == "ztf":
        show("simulating ZTF", 0, 1)
        objects = simulate.simulate(simulate.sources(objects, options.cache / "data"), options.seed)
    if network == "vrae":
        card, weights = _anomaly(name, options, objects, show)
    else:
        made = examples.cached(survey, objects, options.seed, options.cache, show)
        if _reads_epochs(network):
            made = raw.with_epochs(made, survey, objects, options.seed, options.cache, show)
        card, weights = _classifier(name, options, made, objects, show)
    cards.write(card, weights, options.out)
    return cards.read(name, options.out)


def _anomaly(name: str, options: Options, objects: Labelled, show: Show) -> tuple[Card, bytes]:
    begun = time.monotonic()
    survey = MODELS[name][0]
    task = Task(survey, options.seed, options.epochs, _folder(name, options), show)
    outcome = (galaxies if name == GALAXIES else strange).run(objects, task)
    card = _card(name, options, outcome.known, outcome.config, outcome.metrics, time.monotonic() - begun)
    return card.model_copy(update={"forest_inputs": outcome.inputs}), save(outcome.tensors)


def _classifier(name: str, options: Options, made: Examples, objects: Labelled, show: Show) -> tuple[Card, bytes]:
    begun, simulated = time.monotonic(), MODELS[name][0] in SIMULATED
    recipe, folder = recipe_of(name, options), _folder(name, options)
    fold = evaluate.folds_of(made, FOLDS, options.seed)
    held = {inputs: [] for inputs in ("host_z", "no_host_z")}  # type: dict[str, list[NDArray[np.float32]]]
    rows: list[Ints] = []
    for k in range(min(options.folds, 1) if simulated else options.folds):
        kept = _of_protocol(name, recipe, k, options) or folder / f"fold{k}.pt"
        training = _with_beginnings(name, made.take(np.flatnonzero(fold != k)), objects, options)
        network = _fit(training, recipe, kept, f"fold {k + 1}", show)
        rows.append(np.flatnonzero(fold == k))
        for inputs, host in (("host_z", True), ("no_host_z", False)):
            held[inputs].append(train.predict(network, made.take(rows[-1]), host))
    training = _with_beginnings(name, made, objects, options)
    if not (simulated and rows):
        network = _fit(training, recipe, folder / "all.pt", "all objects", show)
    if simulated:
        # Halves of what was held out: each is judged with the calibrator of the other.
        fold = evaluate.folds_of(made, 2, options.seed + 1)
    metrics, fitted = _judged(made, fold, rows, held)
    config = train.sizes(recipe.network, made)
    card = _card(name, options, training, config, metrics, time.monotonic() - begun)
    return card.model_copy(update={"calibration": fitted}), save(dict(network.state_dict()))


def recipe_of(name: str, options: Options) -> Recipe:
    """Return how a classifier is trained."""
    survey, network, _ = MODELS[name]
    if name in SAME_AS:
        recipe = members.RECIPES[SAME_AS[name]]
        return replace(recipe, seed=options.seed, epochs=options.epochs or recipe.epochs)
    recipe = Recipe(network, hide_host=HIDE_HOST[survey], seed=options.seed)
    return replace(recipe, epochs=options.epochs or EPOCHS[network], **BESIDE.get(network, {}))


def _of_protocol(name: str, recipe: Recipe, part: int, options: Options) -> Path | None:
    """Return where protocol D keeps the same network; None if it has none of it."""
    return members.checkpoint(SAME_AS[name], recipe, part, options.cache) if name in SAME_AS else None


def _with_beginnings(name: str, made: Examples, objects: Labelled, options: Options) -> Examples:
    """Return the examples to train on: beginnings of their objects behind them, where the recipe has some."""
    times = members.BEGINNINGS.get(SAME_AS.get(name, ""), 0)
    return beginnings.added(made, objects, times, options.seed, options.cache) if times else made


def _judged(
    made: Examples, fold: Ints, rows: list[Ints], held: dict[str, list[NDArray[np.float32]]]
) -> tuple[dict[str, Any], Calibration]:
    """Return the metrics and the calibrator of all out-of-fold predictions."""
    if not rows:
        return {}, calibrate.UNCALIBRATED
    order = np.concatenate(rows)
    judged = made.take(order)
    logits = {inputs: np.concatenate(parts) for inputs, parts in held.items()}
    metrics = evaluate.classifier_metrics(judged, fold[order], logits)
    both, label = np.concatenate(list(logits.values())), np.tile(judged.label, len(logits))
    on = "out-of-fold predictions at the prior of the classes, all epochs, with and without host redshift"
    return metrics, calibrate.fit(both, label, evaluate.PRIOR, on)


def _fit(made: Examples, recipe: Recipe, checkpoint: Path, what: str, show: Show) -> Any:
    def report(epoch: int, loss: float) -> None:
        show(f"{what}, loss {loss:.3f}", epoch, recipe.epochs)

    show(what, 0, recipe.epochs)
    return train.fit(made, recipe, checkpoint, report)


def _reads_epochs(network: str) -> bool:
    return reads(class_of(network)) == "epochs"


def _folder(name: str, options: Options) -> Path:
    """Return where checkpoints of this run lie: another seed or length is another run, and so are other examples."""
    run = f"{name}-seed{options.seed}-epochs{options.epochs}-folds{options.folds}"
    return options.cache / "checkpoints" / run / examples.fingerprint(MODELS[name][0])


def _card(
    name: str, options: Options, made: Examples, config: dict[str, int], metrics: dict[str, Any], seconds: float
) -> Card:
    survey, network, summary = MODELS[name]
    classifier = network != "vrae"
    epochs = recipe_of(name, options).epochs if classifier else options.epochs or EPOCHS[network]
    rule = GridRule()
    return Card(
        schema_version=1,
        name=name,
        version=VERSION,
        kind="classifier" if classifier else "anomaly",
        survey=survey,
        summary=summary,
        licence=LICENCE,
        bands=SURVEYS[survey].bands,
        wavelengths_aa=SURVEYS[survey].wavelengths,
        grid={field: getattr(rule, field) for field in GridRule.__dataclass_fields__},
        flux_unit="nJy",
        zero_point=NJY_ZERO_POINT,
        channels=raw_channels(survey) if _reads_epochs(network) else channel_names(survey),
        scalars=scalar_names(survey, host=classifier),
        network=network,
        config=config,
        classes=_classes() if classifier else (),
        calibration=calibrate.UNCALIBRATED,
        forest_inputs=(),
        training=Training(
            data=DATA.get(name, DATA[survey]),
            licence=DATA_LICENCE + (", MIT (SALT3 in jax-bandflux)" if survey == "ztf" else ""),
            command=f"tocsin train {name} --seed {options.seed} --epochs {epochs} --folds {options.folds}",
            date=datetime.now(UTC).date().isoformat(),
            seed=options.seed,
            epochs=epochs,
            examples=len(made),
            seconds=round(seconds, 1),
        ),
        metrics=metrics,
        weights=Weights(file="", sha256="", bytes=0),
    )


def _classes() -> tuple[ClassPrior, ...]:
    priors = zip(CLASSES, evaluate.PRIOR, strict=True)
    return tuple(ClassPrior(id=c.id, name=c.name, prior=round(float(prior), 5)) for c, prior in priors)
