"""Two sets of models over the same alerts: what each published, compared alert by alert.

An alert's class is the likeliest by the average of the classifiers, which must all answer; its move is the largest
change of a class's probability or of the anomaly rank. Numbers are compared bit for bit: there is no tolerance.
"""

from __future__ import annotations

import csv
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.core.errors import TocsinError
from broker.core.reading import probabilities
from broker.core.taxonomy import CLASS_IDS, CLASSES

SLUGS = tuple(c.slug for c in CLASSES)
UNSCORED = "unscored"
NOTHING = array("d", [float("nan")] * len(CLASSES))

Key = tuple[str, int, int]
Table = dict[str, list[Any]]


@dataclass(slots=True)
class Side:
    """What one set of models published of N alerts, in columns.

    Attributes
    ----------
    row : dict
        Row of (survey, alert id, how often that id came before).
    objects, outcomes : list of str, (N,)
        Object ids; ``scored`` or the reason why not.
    probabilities : (N * K,) float64
        Of the average of the classifiers, or of the only one, K classes in the order of `CLASSES`; NaN where one of
        them gave no answer.
    anomaly : (N,) float32
        Percentile rank; NaN where there is none.
    """

    row: dict[Key, int] = field(default_factory=dict)
    objects: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    probabilities: array[float] = field(default_factory=lambda: array("d"))
    anomaly: array[float] = field(default_factory=lambda: array("f"))
    _seen: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, annotation: dict[str, Any]) -> None:
        """Take one annotation.

        Raises
        ------
        TocsinError
            It has a class that this version does not know.
        """
        alert = annotation["survey"], annotation["alertId"]
        self.row[*alert, self._seen[alert]] = len(self.objects)
        self._seen[alert] += 1
        self.objects.append(annotation["objectId"])
        self.outcomes.append(annotation["unscoredReason"] or annotation["outcome"])
        self.probabilities.extend(_columns(annotation))
        score = (annotation["anomaly"] or {}).get("score")
        self.anomaly.append(float("nan") if score is None else score)


def read(annotations: Iterable[dict[str, Any]]) -> Side:
    """Return annotations as columns; see `Side.add`."""
    side = Side()
    for annotation in annotations:
        side.add(annotation)
    return side


def _columns(annotation: dict[str, Any]) -> array[float]:
    """Return the probabilities (K,) that class topics go by; NaN where there are none."""
    if not (found := probabilities(annotation)):
        return NOTHING
    if foreign := found.keys() - set(CLASS_IDS):
        raise TocsinError(f"alert {annotation['alertId']} has the class {min(foreign)}, which is not known here")
    return array("d", (found.get(class_id, 0.0) for class_id in CLASS_IDS))


@dataclass(frozen=True, slots=True)
class Diff:
    """N alerts that both sides have, row by row.

    Attributes
    ----------
    keys : list of (survey, alert id, repeat), (N,)
    objects : list of str, (N,)
    only : (int, int)
        Alerts that only A, only B has.
    outcomes : (list of str, list of str), each (N,)
    probabilities : (2, N, K) float64
    anomaly : (2, N) float32
    """

    keys: list[Key]
    objects: list[str]
    only: tuple[int, int]
    outcomes: tuple[list[str], list[str]]
    probabilities: Floats
    anomaly: NDArray[np.float32]

    @property
    def top(self) -> NDArray[np.int64]:
        """The likeliest class of each alert on each side, (2, N); -1 where there is none."""
        none = np.isnan(self.probabilities).any(axis=2)
        return np.where(none, -1, np.nan_to_num(self.probabilities).argmax(axis=2))

    @property
    def dp(self) -> Floats:
        """The change of each class's probability from A to B, (N, K); NaN where a side has none."""
        return np.asarray(self.probabilities[1] - self.probabilities[0])

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Alerts whose likeliest class is another one, or is there on one side only, (N,)."""
        return np.asarray(self.top[0] != self.top[1])

    @property
    def move(self) -> Floats:
        """How far each alert moved, (N,): infinitely where its outcome changed or only one side has a number."""
        one_sided = np.isnan(self.anomaly[0]) != np.isnan(self.anomaly[1])
        one_sided |= np.isnan(self.probabilities[0]).any(axis=1) != np.isnan(self.probabilities[1]).any(axis=1)
        one_sided |= np.array(self.outcomes[0], dtype=object) != np.array(self.outcomes[1], dtype=object)
        ranks = np.nan_to_num(np.abs(self.anomaly[1] - self.anomaly[0]))
        far = np.maximum(np.nan_to_num(np.abs(self.dp)).max(axis=1, initial=0.0), ranks)
        return np.where(one_sided, np.inf, far)


def compare(a: Side, b: Side) -> Diff:
    """Match the alerts of two sides by survey, alert id and repeat.

    Raises
    ------
    TocsinError
        A side has no alert.
    """
    for name, side in (("A", a), ("B", b)):
        if not side.row:
            raise TocsinError(f"side {name} has no annotation: there is nothing to compare")
    keys = [key for key in a.row if key in b.row]
    rows = [np.array([side.row[key] for key in keys], np.int64) for side in (a, b)]

    def of(side: Side, row: Ints) -> Floats:
        return np.frombuffer(side.probabilities, np.float64).reshape(-1, len(CLASSES))[row]

    return Diff(
        keys,
        [a.objects[row] for row in rows[0].tolist()],
        (len(a.row) - len(keys), len(b.row) - len(keys)),
        ([a.outcomes[row] for row in rows[0].tolist()], [b.outcomes[row] for row in rows[1].tolist()]),
        np.stack([of(a, rows[0]), of(b, rows[1])]),
        np.stack([np.frombuffer(s.anomaly, np.float32)[row] for s, row in zip((a, b), rows, strict=True)]),
    )


def summary(diff: Diff, percentile: float) -> dict[str, Any]:
    """Return the whole comparison as one object that JSON can hold.

    Parameters
    ----------
    percentile : float
        Anomaly rank above which an alert is published as an anomaly.

    Returns
    -------
    dict
        ``matched``, ``only_a``, ``only_b``; ``changed`` (any number or outcome differs), ``one_sided`` (of them, those
        whose outcome changed or that have a number on one side only), ``class_moved``, and ``part_moved``: the part of
        all alerts whose class moved or that only one side has; ``outcomes`` and
        ``classes`` {A: {B: alerts}} of those that changed; ``dp`` {class: mean and max |change|} and ``max_dp``;
        ``anomaly``.
    """
    matched, moved = len(diff.keys), int(diff.moved.sum())
    far = np.abs(diff.dp[~np.isnan(diff.dp).any(axis=1)])
    names = [[SLUGS[t] if t >= 0 else UNSCORED for t in side] for side in diff.top.tolist()]
    return {
        "matched": matched,
        "only_a": diff.only[0],
        "only_b": diff.only[1],
        "changed": int((diff.move > 0).sum()),
        "one_sided": int(np.isinf(diff.move).sum()),
        "class_moved": moved,
        "part_moved": (moved + sum(diff.only)) / (matched + sum(diff.only)),
        "outcomes": _confusion(*diff.outcomes, changed_only=True),
        "classes": _confusion(names[0], names[1]),
        "dp": {
            slug: {"mean": float(column.mean()), "max": float(column.max())}
            for slug, column in zip(SLUGS, far.T, strict=True)
            if len(far)
        },
        "max_dp": float(far.max(initial=0.0)),
        "anomaly": _anomaly(diff.anomaly, percentile),
    }


def _confusion(a: list[str], b: list[str], *, changed_only: bool = False) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (before, after), alerts in Counter(zip(a, b, strict=True)).most_common():
        if not (changed_only and before == after):
            found.setdefault(before, {})[after] = alerts
    return found


def _anomaly(scores: NDArray[np.float32], percentile: float) -> dict[str, Any]:
    """Return how the anomaly ranks (2, N) compare: Spearman's correlation, and who enters and leaves the published."""
    a, b = scores[:, ~np.isnan(scores).any(axis=0)].astype(np.float64)
    published = scores > percentile  # NaN is not
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = float(np.corrcoef(_ranks(a), _ranks(b))[0, 1]) if len(a) > 1 else float("nan")
    return {
        "compared": len(a),
        "rank_correlation": correlation if np.isfinite(correlation) else None,
        "mean_move": float(np.abs(b - a).mean()) if len(a) else 0.0,
        "max_move": float(np.abs(b - a).max(initial=0.0)),
        "percentile": percentile,
        "published_a": int(published[0].sum()),
        "moved_in": int((published[1] & ~published[0]).sum()),
        "moved_out": int((published[0] & ~published[1]).sum()),
    }


def _ranks(values: Floats) -> Floats:
    """Return ranks (n,), those of equal values their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - 0.5 * (count - 1.0))[place])


def table(diff: Diff, limit: int | None = None) -> Table:
    """Return the alerts that differ in anything, biggest move first, as columns by name; ``limit``: only so many."""
    move, top, dp = diff.move, diff.top, diff.dp
    order = np.lexsort((np.arange(len(move)), -move))
    rows = order[: int((move > 0).sum())][:limit]
    where = np.nan_to_num(np.abs(dp)).argmax(axis=1)
    largest = dp[np.arange(len(dp)), where]
    keys = [diff.keys[row] for row in rows]
    columns: Table = {name: [key[i] for key in keys] for i, name in enumerate(("survey", "alert_id", "repeat"))}
    columns["object_id"] = [diff.objects[row] for row in rows]
    for name, side in (("a", 0), ("b", 1)):
        likeliest = np.take_along_axis(diff.probabilities[side], np.maximum(top[side], 0)[:, None], axis=1)[:, 0]
        columns[f"outcome_{name}"] = [diff.outcomes[side][row] for row in rows]
        columns[f"class_{name}"] = [SLUGS[t] if t >= 0 else None for t in top[side][rows].tolist()]
        columns[f"probability_{name}"] = _numbers(likeliest[rows])
        columns[f"anomaly_{name}"] = _numbers(diff.anomaly[side][rows])
    columns["moved_class"] = [SLUGS[where[row]] if np.isfinite(largest[row]) else None for row in rows]
    columns["dp"] = _numbers(largest[rows])
    columns["anomaly_move"] = _numbers(diff.anomaly[1][rows] - diff.anomaly[0][rows])
    return columns


def _numbers(values: NDArray[np.floating]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def write(columns: Table, path: Path) -> None:
    """Write a table as ``.parquet`` or ``.csv``.

    Raises
    ------
    TocsinError
        The path's suffix is neither, or it cannot be written.
    """
    try:
        if path.suffix == ".csv":
            with path.open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(columns)
                rows.writerows(zip(*columns.values(), strict=True))
        elif path.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(_arrow(columns), path)
        else:
            raise TocsinError(f"{path}: a table is .parquet or .csv")
    except OSError as error:
        raise TocsinError(f"cannot write {path}: {error.strerror or error}") from error


def _arrow(columns: Table) -> Any:
    """Return the columns with types that do not depend on the rows, so that an empty table has them too."""
    import pyarrow

    integers, texts = ("alert_id", "repeat"), ("survey", "object_id", "outcome", "class", "moved_class")
    types = {
        name: pyarrow.int64() if name in integers else pyarrow.string() if name.startswith(texts) else pyarrow.float32()
        for name in columns
    }
    return pyarrow.table({name: pyarrow.array(values, types[name]) for name, values in columns.items()})
