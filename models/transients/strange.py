"""Training and judging the anomaly score (protocol G): fitted on ordinary objects, it must find rare supernovae.

No weight, scaler, threshold or forest sees a rare object or its label, and the host's redshift is never read. What
ships knows all the other classes as ordinary, because a night is full of them; it is judged among supernovae.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broker.core.batch import Floats, Ints
from broker.core.taxonomy import COMMON, RARE
from broker.models.networks import create
from broker.models.networks.vrae import squared_error
from broker.models.transients import examples, exposure
from broker.models.transients.data import Labelled
from broker.models.transients.evaluate import PRIOR, area_under_curve, groups, recall_at
from broker.models.transients.examples import LAST_PACKET, Examples
from broker.models.transients.exposure import Task, member
from broker.models.transients.train import descend, one_cycle, resume, save, set_rate
from broker.score.anomaly import Models, Ranks, encode, forest_inputs, input_names, pack
from broker.score.boosted import Boosted
from broker.score.forest import Forest
from broker.score.tensors import Tensors, without_host

EPOCHS, BATCH, RATE, KL_WEIGHT = 8, 256, 4e-3, 0.02
EPOCH = 12_000
"""Examples of an epoch, at most."""
TREES, SAMPLES = 100, 256
NIGHT = 10_000
"""Alerts of the night that ranks are read from."""
WEIGHT: Mapping[str, float] = {"exposure": 1.0}
"""Of the parts in the score; chosen on seed 0 of protocol G."""
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Fitted:
    """Autoencoder, forest and judge, and the ranks of their answers."""

    models: Models
    ranks: Ranks

    def score(self, tensors: Tensors, names: tuple[str, ...]) -> dict[str, Floats]:
        """Return the score (N,) and its parts for tensors whose scalars are called ``names``."""
        parts = self.models.parts(tensors, names, CPU)
        return {"score": self.ranks.score(parts), **parts}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a card and a weight file need."""

    config: dict[str, int]
    metrics: dict[str, Any]
    inputs: tuple[str, ...]
    tensors: dict[str, torch.Tensor]
    known: Examples


def run(objects: Labelled, task: Task) -> Outcome:
    """Return the shipped score, fitted on all objects that are not rare, with protocol G's figures on its card."""
    made = usable(examples.make(task.survey, objects, task.seed, task.show))
    rows = []
    for k in (0, 1):
        known, judged = split(made, task.seed, k)
        fitted = fit(objects, known, task, f"half{k}")
        scores = fitted.score(judged.tensors, task.scalars)
        rows.append(figures(scores, judged, member(judged.label, RARE)))
    known = made.take(np.flatnonzero(~member(made.label, RARE)))
    return outcome(fit(objects, known, task, "all"), known, rows, task)


def outcome(fitted: Fitted, known: Examples, rows: list[dict[str, float]], task: Task) -> Outcome:
    """Return what ships, fitted on ``known``, with the mean and the spread of its figures over ``rows``."""
    models = fitted.models
    weights = {f"network.{key}": value for key, value in models.network.state_dict().items()}
    arrays = pack(models.forest, models.judge, fitted.ranks)
    weights |= {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays.items()}
    metrics = {key: [round(float(f([row[key] for row in rows])), 4) for f in (np.mean, np.std)] for key in rows[0]}
    inputs = input_names(int(models.network.code.out_features) // 2, task.scalars)
    return Outcome(sizes(known), {"mean_sd_over_halves": metrics}, inputs, weights, known)


def split(made: Examples, seed: int, half: int) -> tuple[Examples, Examples]:
    """Return the ordinary examples of one half of the objects, and the other half's supernovae with all rare ones."""
    mine, judged = halves(made.object_id, made.label, seed, half)
    return made.take(mine), made.take(judged)


def halves(object_id: Ints, label: Ints, seed: int, half: int) -> tuple[Ints, Ints]:
    """Return the rows (of N) of one half that are not rare, and those to judge: supernovae of the other, all rare."""
    mine = in_half(object_id, seed, half)
    common, rare = member(label, COMMON), member(label, RARE)
    return np.flatnonzero(~rare & mine), np.flatnonzero(rare | (common & ~mine))


def in_half(object_id: Ints, seed: int, half: int) -> NDArray[np.bool_]:
    """Return which rows (N,) are of the objects of this half, drawn at random."""
    objects, place = np.unique(object_id, return_inverse=True)
    return np.asarray((np.random.default_rng((seed, 11)).permutation(np.arange(len(objects)) % 2) == half)[place])


def usable(made: Examples, host: bool = False) -> Examples:
    """Return the examples that the service would score, two detections or more, without the host's scalars."""
    rows = made.take(np.flatnonzero(made.n_detections >= 2))
    tensors = rows.tensors if host else without_host(rows.tensors)
    return Examples(tensors, rows.label, rows.object_id, rows.version, rows.n_detections)


def sizes(made: Examples) -> dict[str, int]:
    """Return the fields of the network's ``Config`` that the data fix."""
    channels = made.tensors.series.shape[2]
    return {"channels": channels, "bands": (channels - 2) // 2}


def fit(objects: Labelled, known: Examples, task: Task, name: str, weight: Mapping[str, float] = WEIGHT) -> Fitted:
    """Return models and ranks fitted on ordinary examples, and on nothing else.

    Parameters
    ----------
    objects : Labelled
        Where the objects of ``known`` are found; the others are not looked at.
    known : Examples
        Of ordinary classes only. Autoencoder and forest learn from the supernovae among them.
    name : str
        Of the checkpoints.
    weight : mapping of str to float
        Of the parts in the score.
    """
    own = objects.take(np.flatnonzero(np.isin(objects.object_id, known.object_id)))
    judge = exposure.train(exposure.make(own, task), task)
    supernovae = known.take(np.flatnonzero(member(known.label, COMMON)))
    return around(judge, supernovae, night(known, task.seed), task, name, weight)


def around(
    judge: Boosted, ordinary: Examples, reference: Tensors, task: Task, name: str, weight: Mapping[str, float] = WEIGHT
) -> Fitted:
    """Return a judge with autoencoder and forest, fitted on ordinary examples, and its ranks among a reference."""
    network = autoencoder(ordinary, task, name)
    inputs = forest_inputs(encode(network, ordinary.tensors, CPU)[0], ordinary.tensors, task.scalars)
    models = Models(network, forest_of(inputs, task.seed), judge)
    return Fitted(models, Ranks.of(models.parts(reference, task.scalars, CPU), weight))


def night(known: Examples, seed: int) -> Tensors:
    """Return what ranks are read from: histories cut at an alert, the classes as often as a night has them."""
    rows = np.flatnonzero(known.version > LAST_PACKET)
    label = known.label[rows]
    chance = PRIOR[label] / np.bincount(label)[label]
    return known.tensors.take(np.random.default_rng((seed, 19)).choice(rows, NIGHT, p=chance / chance.sum()))


def forest_of(inputs: NDArray[np.floating], seed: int) -> Forest:
    """Return an isolation forest fitted on inputs (n, F)."""
    from sklearn.ensemble import IsolationForest

    samples = min(SAMPLES, len(inputs))
    fitted = IsolationForest(n_estimators=TREES, max_samples=samples, random_state=seed).fit(inputs.astype(np.float32))
    return Forest.from_sklearn(fitted)


def figures(scores: dict[str, Floats], judged: Examples, rare: NDArray[np.bool_]) -> dict[str, float]:
    """Return AUC and recall at a 10 % false-positive rate of rare against ordinary (n,), per part and group."""
    out = {}
    for group, rows in groups(judged).items():
        for part, values in scores.items():
            out[f"auc.{part}.{group}"] = area_under_curve(values[rows], rare[rows])
        out[f"recall_at_10_percent.score.{group}"] = recall_at(scores["score"][rows], rare[rows], 0.1)
    return out


def autoencoder(made: Examples, task: Task, name: str) -> Any:
    """Return a VRAE trained on the examples; its checkpoints are called ``name``."""
    torch.manual_seed(task.seed)
    network = create("vrae", sizes(made))
    checkpoint = task.folder / f"{name}-vrae.pt"
    epochs = task.epochs or EPOCHS
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    done = resume(network.train(), optimiser, checkpoint)
    # Ordinary classes evened out by their root: a common class must not be all that "ordinary" means.
    chance = 1.0 / np.sqrt(np.bincount(made.label)[made.label])
    steps = math.ceil(min(len(made), EPOCH) / BATCH)
    for epoch in range(done, epochs):
        rng = np.random.default_rng((task.seed, epoch))
        torch.manual_seed(int(rng.integers(2**31)))
        total = 0.0
        for step, rows in enumerate(rng.choice(len(made), (steps, BATCH), p=chance / chance.sum())):
            set_rate(optimiser, RATE * one_cycle((epoch * steps + step) / (epochs * steps)))
            total += descend(network, optimiser, _batch_loss(network, made.tensors, rows))
        save(network, optimiser, epoch + 1, checkpoint)
        task.show(f"{checkpoint.stem}, loss {total / steps:.3f}", epoch + 1, epochs)
    return network.eval()


def _batch_loss(network: Any, tensors: Tensors, rows: Ints) -> Tensor:
    series, mask = torch.from_numpy(tensors.series[rows]), torch.from_numpy(tensors.mask[rows])
    mean, log_variance, flux = network(series, mask)
    divergence = -0.5 * (1.0 + log_variance - mean**2 - log_variance.exp()).sum(dim=1)
    # The logarithm, as Villar et al.: bright curves have tiny error bars and would else be all that counts.
    loss: Tensor = (torch.log(0.1 + squared_error(series, mask, flux)) + KL_WEIGHT * divergence).mean()
    return loss
