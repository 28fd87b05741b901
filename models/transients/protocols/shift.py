"""Protocol E: PLAsTiCC's training supernovae to 5,000 of its test set, with redshift augmentation and without."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from broker.models.transients import data, population, salt
from broker.models.transients.data import Labelled
from broker.models.transients.nights import Recipe
from broker.models.transients.protocols import members
from broker.models.transients.protocols.supernovae import Answers, Task, answers, draw, judged
from broker.models.transients.protocols.unit import Column, Context, Protocol, Result, Unit

SEED = 1
PARTS = 2
CLASSES = (0, 1, 2)
"""Columns of `broker.core.taxonomy.CLASSES`: Ia, Ib/c, II."""
POOL = 12_000
WIDE = population.Survey(farthest=1.2, most_points=200)
"""Deep-field objects have more points than 200: the test set's 5,000 are from the wide survey."""
RECIPE = Recipe(epochs=14)
PER_EPOCH = 6000
_TABLES, _NAMES = "snmachine/example_data/sniabcii_test", ("lightcurves", "metadata")
_WORDS = {"whole.host_z": "whole curves, host z", "whole.no_host_z": "whole curves, no host z"}


def run(unit: Unit, context: Context) -> Result:
    """Train on the training set's supernovae, judge on the 5,000."""
    begun = time.monotonic()
    test = test_supernovae(data.fetch(context.cache / "data"), context.cache / "data" / "plasticc-test")
    found = answered(unit, test, context)
    return judged(found, test.label, f"tocsin evaluate E --row {unit.row}", time.monotonic() - begun)


def answered(unit: Unit, test: Labelled, context: Context) -> Answers:
    """Return a row's answers on ``test``."""
    train = supernovae(context)
    system, _, augmented = unit.row.partition("-")
    pool = train
    if augmented:
        # The test set has near ones too: the training objects stay beside what is made of them.
        pool = population.concatenated([_moved(train, unit, context), train])
    recipe = replace(RECIPE, seed=100 * unit.seed + unit.part)
    name, boxes = f"E seed {unit.seed} part {unit.part} {augmented}", salt.LSST_AA
    if augmented:
        task = Task(name, pool, recipe, per_epoch=PER_EPOCH, boxes=boxes)
    else:
        task = Task(name, pool, replace(recipe, epochs=2 * recipe.epochs), boxes=boxes)
    return answers(system, task, {"whole": test}, context)


def _moved(train: Labelled, unit: Unit, context: Context) -> Labelled:
    def make() -> Labelled:
        return population.draw(train, POOL, WIDE, np.random.default_rng((unit.seed, unit.part, 23)))

    # Four rows learn from them, and they take minutes to make.
    return population.kept(f"E {unit.seed} {unit.part} {len(train)} {POOL} {WIDE}", make, context.cache)


def test_supernovae(wheel: Path, folder: Path) -> Labelled:
    """Return the 5,000 supernovae of the test set in the wheel, unpacked once into the tables of ``folder``.

    Their type is in the column ``true_target``: ``target`` is 0, as the contestants saw it.
    """
    import pandas as pd

    if not (folder / "objects.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            points, objects = (pd.read_csv(archive.open(f"{_TABLES}_{name}_example.csv")) for name in _NAMES)
        names = {"object_id": "obj", "flux_err": "fluxerr", "detected_bool": "det"}
        bands = points["passband"].map(dict(enumerate("ugrizy")))
        points.rename(columns=names).assign(band=bands).drop(columns="passband").to_parquet(folder / "lc.parquet")
        types = objects["true_target"].astype(int)
        objects.rename(columns=names).assign(target=types).to_parquet(folder / "objects.parquet")
    return data.load(folder)


def supernovae(context: Context) -> Labelled:
    """Return the Ia, Ib/c and II of the training set."""
    objects = data.load(members.source(context))
    return objects.take(np.flatnonzero(np.isin(objects.label, CLASSES)))


def units(row: str) -> tuple[Unit, ...]:
    """Return the two starts of a row."""
    return tuple(Unit("E", row, SEED, part) for part in range(PARTS))


def plotted(found: Mapping[Unit, Result], folder: Path) -> list[tuple[str, str]]:
    """Draw confusion and ROC curves."""
    return draw(found, folder, _WORDS)


PROTOCOL = Protocol(
    name="E",
    title="PLAsTiCC training supernovae to 5,000 of the test set: Ia, Ib/c, II",
    about=(
        "Trained on the 3,990 Ia, Ib/c and II of the training set, which are bright and near for they had spectra; "
        "judged once on the 5,000 of the test set that ship with snmachine. The rows called far move the training "
        "objects with the two-dimensional Gaussian process to where volumetric rates put supernovae, with the wide "
        "survey's visits and noise (Boone 2019), and keep the training objects beside them; the others are the "
        "ablation. Trees called salt read SALT3's fit too. Choices were made on the training set: train on the "
        "brighter half of each class, judge on the wide survey's fainter ones."
    ),
    columns=(
        Column("auc.whole.host_z", "AUC Ia, host z", "0.957 (avocado, whole test set)", "≥ 0.95"),
        Column("auc_ii.whole.host_z", "AUC II", "0.936"),
        Column("auc_ibc.whole.host_z", "AUC Ib/c", "0.929"),
        Column("accuracy.whole.host_z", "accuracy, Ia against the rest"),
        Column("accuracy_three.whole.host_z", "three classes"),
        Column("purity.whole.host_z", "purity"),
        Column("completeness.whole.host_z", "completeness"),
        Column("auc.whole.no_host_z", "AUC Ia, no host z"),
        Column("accuracy.whole.no_host_z", "accuracy, no host z"),
    ),
    rows=("nights", "gbm", "salt", "nights-far", "gbm-far", "salt-far", "nights+salt-far"),
    units=units,
    run=run,
    plots=plotted,
)
