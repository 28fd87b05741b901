"""Training and judging the anomaly score (protocol G): fitted on ordinary supernovae, it must find rare ones.

No weight, scaler, threshold or forest sees a rare object or its label, and the host's redshift is never read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broker.core.batch import Floats, Ints
from broker.core.taxonomy import CLASSES, COMMON, RARE
from broker.models.networks import create
from broker.models.networks.vrae import squared_error
from broker.models.transients.evaluate import area_under_curve, groups, recall_at
from broker.models.transients.examples import Examples
from broker.models.transients.train import descend, one_cycle, resume, save, set_rate
from broker.score.anomaly import Ranks, encode, forest_inputs, input_names, pack
from broker.score.forest import Forest
from broker.score.tensors import Tensors, without_host

EPOCHS, BATCH, RATE, KL_WEIGHT = 8, 256, 4e-3, 0.02
TREES, SAMPLES = 100, 256
CPU = torch.device("cpu")

Show = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A VRAE with its forest and ranks."""

    network: Any
    forest: Forest
    ranks: Ranks

    def score(self, tensors: Tensors, names: tuple[str, ...]) -> dict[str, Floats]:
        """Return the score (N,) and its parts for tensors without host scalars."""
        code, error = encode(self.network, tensors, CPU)
        isolation = self.forest.score(forest_inputs(code, tensors, names))
        return {"score": self.ranks.score(error, isolation), "forest": isolation, "reconstruction": error}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a card and a weight file need."""

    config: dict[str, int]
    metrics: dict[str, Any]
    inputs: tuple[str, ...]
    tensors: dict[str, torch.Tensor]


def run(made: Examples, names: tuple[str, ...], seed: int, epochs: int, folder: Path, show: Show) -> Outcome:
    """Return the shipped score, fitted on all ordinary supernovae, with protocol G's figures on its card.

    Parameters
    ----------
    made : Examples
        With host scalars, which are dropped here.
    names : tuple of str
        Names of the scalars that are left.
    epochs : int
        0 takes `EPOCHS`.
    """
    made = usable(made)
    epochs = epochs or EPOCHS
    common, rare = member(made, COMMON), member(made, RARE)
    half = halves(made, seed)
    rows = []
    for k in (0, 1):
        fitted = fit(made.take(np.flatnonzero(common & (half == k))), names, seed, epochs, folder / f"half{k}.pt", show)
        judged = made.take(np.flatnonzero(rare | (common & (half != k))))
        rows.append(figures(fitted.score(judged.tensors, names), judged))
    fitted = fit(made.take(np.flatnonzero(common)), names, seed, epochs, folder / "all.pt", show)
    weights = {f"network.{key}": value for key, value in fitted.network.state_dict().items()}
    weights |= {key: torch.from_numpy(np.ascontiguousarray(a)) for key, a in pack(fitted.forest, fitted.ranks).items()}
    metrics = {key: [round(float(f([row[key] for row in rows])), 4) for f in (np.mean, np.std)] for key in rows[0]}
    inputs = input_names(int(fitted.network.code.out_features) // 2, names)
    return Outcome(sizes(made), {"mean_sd_over_halves": metrics}, inputs, weights)


def usable(made: Examples) -> Examples:
    """Return the examples that the service would score, two detections or more, without the host's scalars."""
    rows = made.take(np.flatnonzero(made.n_detections >= 2))
    return Examples(without_host(rows.tensors), rows.label, rows.object_id, rows.version, rows.n_detections)


def member(made: Examples, classes: frozenset[int]) -> NDArray[np.bool_]:
    """Return which examples (N,) are of these class ids."""
    return np.isin(made.label, [k for k, c in enumerate(CLASSES) if c.id in classes])


def halves(made: Examples, seed: int) -> Ints:
    """Return 0 or 1 (N,) at random per object."""
    objects, place = np.unique(made.object_id, return_inverse=True)
    return np.random.default_rng((seed, 11)).permutation(np.arange(len(objects)) % 2)[place].astype(np.int64)


def sizes(made: Examples) -> dict[str, int]:
    """Return the fields of the VRAE's ``Config`` that the data fix."""
    channels = made.tensors.series.shape[2]
    return {"channels": channels, "bands": (channels - 2) // 2}


def fit(made: Examples, names: tuple[str, ...], seed: int, epochs: int, checkpoint: Path, show: Show) -> Fitted:
    """Return VRAE, forest and ranks fitted on the examples given, and on nothing else."""
    from sklearn.ensemble import IsolationForest

    network = _train(made, seed, epochs, checkpoint, show)
    code, error = encode(network, made.tensors, CPU)
    inputs = forest_inputs(code, made.tensors, names)
    forest = Forest.from_sklearn(
        IsolationForest(n_estimators=TREES, max_samples=min(SAMPLES, len(inputs)), random_state=seed).fit(inputs)
    )
    return Fitted(network, forest, Ranks.of(error, forest.score(inputs)))


def figures(scores: dict[str, Floats], judged: Examples) -> dict[str, float]:
    """Return AUC and recall at a 10 % false-positive rate of rare against ordinary, per part and group."""
    rare = member(judged, RARE)
    out = {}
    for group, rows in groups(judged).items():
        for part, values in scores.items():
            out[f"auc.{part}.{group}"] = area_under_curve(values[rows], rare[rows])
        out[f"recall_at_10_percent.score.{group}"] = recall_at(scores["score"][rows], rare[rows], 0.1)
    return out


def _train(made: Examples, seed: int, epochs: int, checkpoint: Path, show: Show) -> Any:
    torch.manual_seed(seed)
    network = create("vrae", sizes(made)).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    done = resume(network, optimiser, checkpoint)
    # Ordinary classes evened out by their root: a common class must not be all that "ordinary" means.
    chance = 1.0 / np.sqrt(np.bincount(made.label)[made.label])
    steps = math.ceil(len(made) / BATCH)
    for epoch in range(done, epochs):
        rng = np.random.default_rng((seed, epoch))
        torch.manual_seed(int(rng.integers(2**31)))
        total = 0.0
        for step, rows in enumerate(rng.choice(len(made), (steps, BATCH), p=chance / chance.sum())):
            set_rate(optimiser, RATE * one_cycle((epoch * steps + step) / (epochs * steps)))
            total += descend(network, optimiser, _batch_loss(network, made.tensors, rows))
        save(network, optimiser, epoch + 1, checkpoint)
        show(f"{checkpoint.stem}, loss {total / steps:.3f}", epoch + 1, epochs)
    return network.eval()


def _batch_loss(network: Any, tensors: Tensors, rows: Ints) -> Tensor:
    series, mask = torch.from_numpy(tensors.series[rows]), torch.from_numpy(tensors.mask[rows])
    mean, log_variance, flux = network(series, mask)
    divergence = -0.5 * (1.0 + log_variance - mean**2 - log_variance.exp()).sum(dim=1)
    # The logarithm, as Villar et al.: bright curves have tiny error bars and would else be all that counts.
    loss: Tensor = (torch.log(0.1 + squared_error(series, mask, flux)) + KL_WEIGHT * divergence).mean()
    return loss
