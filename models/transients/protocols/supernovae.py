"""Who answers in protocols A, B, C and E (Ia, Ib/c, II), and what is said of the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.models.transients import dense, nights, salt, vary
from broker.models.transients.augment import Rng
from broker.models.transients.data import Labelled
from broker.models.transients.evaluate import area_under_curve, confusion
from broker.models.transients.examples import to_examples
from broker.models.transients.population import concatenated
from broker.models.transients.protocols import boosting, plots
from broker.models.transients.protocols.unit import Context, Result, Unit
from broker.models.transients.spcc import first_significant
from broker.score.window import GridRule

SHORT = ("SN Ia", "SN Ib/c", "SN II")
INPUTS = {"host_z": True, "no_host_z": False}
SNR = 5.0
RATES = np.linspace(0.0, 1.0, 51)
TREES = 200
GROWN_ON = 32_000
"""At most so many light curves for the trees."""
SOME = 0.2
"""Share of hundreds of features that a split sees."""
Answers = dict[str, Floats]
"""``view.input`` (as ``whole.host_z``) to probabilities (n, 3)."""
Read = Callable[[Labelled], dict[str, Floats]]
"""Returns features (n, F) for each of `INPUTS`."""
Learn = Callable[[Floats, Ints, int], Callable[[Floats], Floats]]
"""From features (n, F), classes (n,) and a seed to a function of features that returns probabilities."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a row is trained on.

    Attributes
    ----------
    name : str
        Of the training set, for the files in the cache: another set, another name.
    pool : Labelled
        Objects to draw from; augmented ones where the row has them.
    recipe : nights.Recipe
    per_epoch : int
        Objects that an epoch draws; 0: all, in turn.
    early : float
        Share of the objects of an epoch that are cut after six significant points, for a task that asks for them;
        where there is any, trees are grown on whole and on cut light curves.
    boxes : salt.Boxes
        The survey's bands, for the fit of SALT3.
    """

    name: str
    pool: Labelled
    recipe: nights.Recipe
    per_epoch: int = 0
    early: float = 0.0
    boxes: salt.Boxes = salt.DES_AA


def answers(system: str, task: Task, views: Mapping[str, Labelled], context: Context) -> Answers:
    """Return a system's answers; those of several with a plus between them are averaged.

    ``nights`` is the network of raw nights, ``gbm`` trees on features of the Gaussian process, ``salt`` trees that read
    SALT3's fit too, ``fit`` trees that read only that; ``dense`` is a network that reads what ``salt`` reads.
    """
    each = [_one(member, task, views, context) for member in system.split("+")]
    return {key: np.mean([one[key] for one in each], axis=0) for key in each[0]}


def judged(found: Answers, label: Ints, command: str, seconds: float) -> Result:
    """Return the result of answers on objects of the classes ``label`` (n,): figures per view and input."""
    metrics: dict[str, float] = {}
    curves: dict[str, list[float] | list[list[int]]] = {}
    for key, p in found.items():
        metrics |= {f"{name}.{key}": round(value, 5) for name, value in figures(p, label).items()}
        curves[f"roc.{key}"] = [round(v, 4) for v in roc(p[:, 0], label == 0).tolist()]
        curves[f"confusion.{key}"] = confusion(p.argmax(axis=1), label, len(SHORT)).tolist()
    return {"metrics": metrics, "curves": curves, "command": command, "seconds": round(seconds, 1)}


def figures(p: Floats, label: Ints) -> dict[str, float]:
    """Return the figures of probabilities (n, 3).

    Ia against the rest at p = 1/2: accuracy, purity, completeness and the challenge's figure of merit
    TP / (TP + FN) · TP / (TP + 3 FP) (Kessler et al. 2010); areas under the ROC curves; accuracy of the
    likeliest of three.
    """
    ia, said = label == 0, p[:, 0] > 0.5
    right, wrong = float((ia & said).sum()), float((~ia & said).sum())
    completeness = right / max(float(ia.sum()), 1.0)
    return {
        "accuracy": float((said == ia).mean()),
        "auc": area_under_curve(p[:, 0], ia),
        "fom": completeness * right / max(right + 3.0 * wrong, 1.0),
        "purity": right / max(right + wrong, 1.0),
        "completeness": completeness,
        "accuracy_three": float((p.argmax(axis=1) == label).mean()),
        "auc_ibc": area_under_curve(p[:, 1], label == 1),
        "auc_ii": area_under_curve(p[:, 2], label == 2),
    }


def roc(score: Floats, positive: NDArray[np.bool_]) -> Floats:
    """Return the true positive rate (51,) at the false positive rates `RATES`."""
    edges = np.quantile(score[~positive], 1.0 - RATES)
    return np.asarray((score[positive][:, None] >= edges).mean(axis=0))


def draw(found: Mapping[Unit, Result], folder: Path, views: Mapping[str, str]) -> list[tuple[str, str]]:
    """Draw the confusion of the last row and the ROC curves of all, for each of ``views`` (key to words)."""
    rows = list(dict.fromkeys(unit.row for unit in found))
    out = []
    for key, words in views.items():
        of_row = {row: [r["curves"] for unit, r in found.items() if unit.row == row] for row in rows}
        counts = np.sum([c[f"confusion.{key}"] for c in of_row[rows[-1]]], axis=0)
        name = key.replace(".", "-").replace("_", "-")
        plots.confusion(folder / f"confusion-{name}.svg", counts, SHORT)
        lines = {row: (RATES, np.mean([c[f"roc.{key}"] for c in every], axis=0)) for row, every in of_row.items()}
        plots.roc(folder / f"roc-{name}.svg", lines)
        out.append((f"confusion-{name}.svg", f"Confusion of {rows[-1]}, {words}: share of each true class (rows)"))
        out.append((f"roc-{name}.svg", f"Ia against the rest, {words}"))
    return out


def early(objects: Labelled, *, by_night: bool) -> Labelled:
    """Return objects cut after six points of more than 4 sigma, or after six nights with such a point."""
    return replace(objects, curves=first_significant(objects.curves, 6, 4.0, nights=by_night))


def _one(member: str, task: Task, views: Mapping[str, Labelled], context: Context) -> Answers:
    """Return a member's answers, found in the cache or made now."""
    path = _kept(member, task, views, context.cache)
    if not path.exists():
        made = _made(member, task, views, path.with_suffix(".pt"), context)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path.with_suffix(".part.npz"), **made)  # type: ignore[arg-type]
        path.with_suffix(".part.npz").replace(path)
    with np.load(path, allow_pickle=False) as saved:
        return {key: saved[key] for key in saved.files}


def _kept(member: str, task: Task, views: Mapping[str, Labelled], cache: Path) -> Path:
    told = repr((member, task.name, len(task.pool), task.recipe, task.per_epoch, task.early, list(views), TREES))
    return cache / "checkpoints" / "supernovae" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.npz"


def _made(member: str, task: Task, views: Mapping[str, Labelled], checkpoint: Path, context: Context) -> Answers:
    if member == "nights":
        return _network(task, views, checkpoint, context)
    fits, both = (partial(read, boxes=task.boxes, cache=context.cache) for read in (_fits, _curves_and_fits))
    kinds: dict[str, tuple[Read, Learn]] = {
        "gbm": (_curves, partial(_trees, share=1.0)),
        "salt": (both, partial(_trees, share=SOME)),
        "fit": (fits, partial(_trees, share=SOME)),
        "dense": (both, _dense),
    }
    return _learnt(task, views, *kinds[member])


def _network(task: Task, views: Mapping[str, Labelled], checkpoint: Path, context: Context) -> Answers:
    torch.set_num_threads(1)

    def report(epoch: int, loss: float) -> None:
        context.show(f"{task.name}, loss {loss:.3f}", epoch, task.recipe.epochs)

    network = nights.fit(lambda rng: _epoch(task, rng), task.recipe, checkpoint, report)
    return {
        f"{view}.{word}": nights.predict(network, objects, host=host)
        for view, objects in views.items()
        for word, host in INPUTS.items()
    }


def _epoch(task: Task, rng: Rng) -> Labelled:
    """Return the objects of one epoch: thinner, noisier, some ending early, the redshift a little off."""
    pool = task.pool
    objects = pool.take(rng.choice(len(pool), task.per_epoch, replace=False)) if task.per_epoch else pool
    curves = vary.flagged(vary.fainter(vary.thin(objects.curves, rng, 0.5), rng, 0.4), SNR)
    curves = vary.cut(curves, rng, 0.15)
    curves = vary.either(first_significant(curves, 6, 4.0), curves, rng.random(len(curves)) < task.early)
    z = objects.host_z + 0.01 * rng.standard_normal(len(objects))
    return replace(objects, curves=curves, host_z=np.where(objects.host_z > 0, np.maximum(z, 0.005), objects.host_z))


def _learnt(task: Task, views: Mapping[str, Labelled], read: Read, learn: Learn) -> Answers:
    """Return the answers of what ``learn`` makes of the features that ``read`` returns."""
    rng = np.random.default_rng((task.recipe.seed, 13))
    pool = task.pool
    if task.early:
        # What reads features can't see an object cut afresh in every epoch: it sees it whole and early.
        pool = concatenated([pool, *(early(pool, by_night=by_night) for by_night in (False, True))])
    pool = pool.take(np.sort(rng.permutation(len(pool))[:GROWN_ON]))
    training, shown = read(pool), {view: read(objects) for view, objects in views.items()}
    out: Answers = {}
    for word in INPUTS:
        predict = learn(training[word], pool.label, task.recipe.seed)
        out |= {f"{view}.{word}": predict(features[word]) for view, features in shown.items()}
    return out


def _trees(features: Floats, label: Ints, seed: int, share: float) -> Callable[[Floats], Floats]:
    """Grow boosted trees, of which every split sees a ``share`` of the features."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(
        max_iter=TREES,
        learning_rate=0.08,
        max_leaf_nodes=24,
        l2_regularization=1.0,
        max_features=share,
        random_state=seed,
    )
    # scikit-learn refuses a column without a number: a band that the survey lacks.
    told = np.flatnonzero(np.isfinite(features).any(axis=0))
    trees.fit(features[:, told], label)
    return lambda shown: np.asarray(trees.predict_proba(shown[:, told]))


def _dense(features: Floats, label: Ints, seed: int) -> Callable[[Floats], Floats]:
    torch.set_num_threads(1)
    return dense.fit(features, label, dense.Recipe(seed=seed)).predict


def _curves(objects: Labelled) -> dict[str, Floats]:
    """Return what trees read of the Gaussian process, for each of `INPUTS`."""
    tensors = to_examples(objects.curves, "lsst", GridRule(), objects.host_z, objects.host_z_err)
    return {word: boosting.features(tensors, host) for word, host in INPUTS.items()}


def _fits(objects: Labelled, boxes: salt.Boxes, cache: Path) -> dict[str, Floats]:
    """Return what trees read of the fits of SALT3."""
    fits = salt.kept(objects.curves, objects.host_z, objects.host_z_err, boxes, cache)
    return {word: fits.all if host else fits.free for word, host in INPUTS.items()}


def _curves_and_fits(objects: Labelled, boxes: salt.Boxes, cache: Path) -> dict[str, Floats]:
    fits = _fits(objects, boxes, cache)
    return {word: np.concatenate((each, fits[word]), axis=1) for word, each in _curves(objects).items()}
