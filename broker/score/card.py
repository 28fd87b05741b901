"""Weights never travel alone: the card beside each weight file, and the checks before it is believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from broker.core.bands import SURVEYS
from broker.core.errors import TocsinError
from broker.core.taxonomy import CLASS_IDS
from broker.core.units import NJY_ZERO_POINT
from broker.score import epochs
from broker.score.tensors import channel_names, scalar_names
from broker.score.window import GridRule

WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "card.json"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassPrior(_Strict):
    """One column of a classifier: its class, and how common the published probabilities take it to be.

    Training is with even classes; the correction is a shift of the logits by ln prior.
    """

    id: int
    name: str
    prior: float


class Calibration(_Strict):
    """Logits are divided by the temperature, and the biases (one per class, or none) added, before the softmax."""

    method: Literal["temperature", "temperature and bias", "none"]
    temperature: float
    bias: tuple[float, ...] = ()
    fitted_on: str


class Training(_Strict):
    """Where the weights come from."""

    data: str
    licence: str
    command: str
    date: str
    seed: int
    epochs: int
    examples: int
    seconds: float


class Weights(_Strict):
    """The file beside the card."""

    file: str
    sha256: str
    bytes: int


class Card(_Strict):
    """Everything that a reader, or the service, must know to use a weight file.

    Attributes
    ----------
    schema_version : int
        Of this card.
    name, version, kind, survey, summary, licence : str
    bands : tuple of str
    wavelengths_aa : tuple of float
        As the Gaussian process used them.
    grid : dict
        Fields of `broker.score.window.GridRule`.
    flux_unit, zero_point
        Of the light curves that go in.
    channels, scalars : tuple of str
        Inputs by name, in order.
    network : str
        Key of `broker.models.networks.NETWORKS`.
    config : dict
        Fields of the network's ``Config``.
    classes : tuple of ClassPrior
        Order of the columns; empty for an anomaly score.
    calibration, training, weights
    forest_inputs : tuple of str
        Names of the isolation forest's inputs; empty for a classifier.
    metrics : dict
        Held-out figures, each under a name that says how it was made.
    """

    schema_version: Literal[1]
    name: str
    version: str
    kind: Literal["classifier", "anomaly"]
    survey: str
    summary: str
    licence: str
    bands: tuple[str, ...]
    wavelengths_aa: tuple[float, ...]
    grid: dict[str, float]
    flux_unit: Literal["nJy"]
    zero_point: float
    channels: tuple[str, ...]
    scalars: tuple[str, ...]
    network: str
    config: dict[str, float | int]
    classes: tuple[ClassPrior, ...]
    calibration: Calibration
    forest_inputs: tuple[str, ...]
    training: Training
    metrics: dict[str, Any]
    weights: Weights

    @property
    def rule(self) -> GridRule:
        """The window and grid that the weights were trained with."""
        values: dict[str, Any] = {**self.grid, "points": int(self.grid["points"])}
        return GridRule(**values)

    @property
    def headline(self) -> str:
        """The held-out figure to compare models by, in a few words; '' where none was made."""
        if self.kind == "anomaly":
            figures = self.metrics.get("mean_sd_over_halves", {})
            names = {"AUC": "auc.score.whole_curve", "reconstruction alone": "auc.reconstruction.whole_curve"}
            return ", ".join(f"{word} {figures[key][0]:.3f}" for word, key in names.items() if key in figures)
        names = {"log loss": "host_z.whole_curve", "without host z": "no_host_z.whole_curve"}
        found = {word: self.metrics[key]["flat_log_loss"][0] for word, key in names.items() if key in self.metrics}
        return ", ".join(f"{word} {value:.3f}" for word, value in found.items())

    def to_json(self) -> str:
        """Return the card as it lies beside the weights."""
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True), indent=2, ensure_ascii=False) + "\n"


def folder(name: str, root: Path | None = None) -> Path:
    """Return the folder of a model: below ``root``, or among the installed ones.

    Raises
    ------
    TocsinError
        There is no such model; the text names those there are.
    """
    place = _root(root) / name
    if not (place / CARD_FILE).is_file():
        raise TocsinError(f"no model is called {name!r}; there are: {', '.join(available(root)) or 'none'}")
    return place


def locate(model: str) -> tuple[str, Path | None]:
    """Return the name of a model and the folder of models that it is in (None: the installed ones).

    What has a ``/`` is the path of a model's own folder, which is called as the model is; anything else is a name.
    """
    path = Path(model).resolve()
    return (path.name, path.parent) if "/" in model else (model, None)


def available(root: Path | None = None) -> list[str]:
    """Return the names of the models that have a card, sorted."""
    return sorted(path.parent.name for path in _root(root).glob(f"*/{CARD_FILE}"))


def read(name: str, root: Path | None = None) -> Card:
    """Return a card, its own fields checked against this code; the weights are not read.

    Raises
    ------
    TocsinError
        The file does not follow the schema, or was made for other bands, classes, inputs or units than the code has.
    """
    path = folder(name, root) / CARD_FILE
    try:
        card = Card.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise TocsinError(f"the card {path} does not follow its schema: {error}") from error
    check(card, name)
    return card


def check(card: Card, name: str) -> None:
    """Refuse a card that this code cannot serve.

    Raises
    ------
    TocsinError
        It names what was expected and what the card says.
    """
    if card.survey not in SURVEYS:
        raise TocsinError(f"model {name}: the survey {card.survey!r} is not known")
    survey = SURVEYS[card.survey]
    classifier = card.kind == "classifier"
    _equal(name, "name", card.name, name)
    _equal(name, "bands", card.bands, survey.bands)
    _equal(name, "wavelengths_aa", card.wavelengths_aa, survey.wavelengths)
    _equal(name, "zero_point", card.zero_point, NJY_ZERO_POINT)
    _equal(name, "classes", tuple(c.id for c in card.classes), CLASS_IDS if classifier else ())
    if not (classifier and card.channels == epochs.names(card.survey)):  # of a network that reads raw observations
        _equal(name, "channels", card.channels, channel_names(card.survey))
    _equal(name, "scalars", card.scalars, scalar_names(card.survey, host=classifier))
    if not card.calibration.temperature > 0:
        raise TocsinError(f"model {name}: the temperature {card.calibration.temperature} is not positive")
    if len(card.calibration.bias) not in (0, len(card.classes)):
        raise TocsinError(f"model {name}: {len(card.calibration.bias)} biases for {len(card.classes)} classes")
    if any(not c.prior > 0 for c in card.classes):
        raise TocsinError(f"model {name}: the prior of a class is not positive")


def read_weights(card: Card, root: Path | None = None) -> bytes:
    """Return the weight file's bytes, their SHA-256 equal to the card's.

    Raises
    ------
    TocsinError
        The file is missing or is another one.
    """
    path = folder(card.name, root) / card.weights.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TocsinError(f"model {card.name}: cannot read {path}: {error.strerror}") from error
    _equal(card.name, "SHA-256 of the weights", hashlib.sha256(data).hexdigest(), card.weights.sha256)
    return data


def write(card: Card, weights: bytes, root: Path | None = None) -> Path:
    """Write weights and card, the card last and with the hash of what was written; return the folder."""
    place = _root(root) / card.name
    place.mkdir(parents=True, exist_ok=True)
    described = Weights(file=WEIGHTS_FILE, sha256=hashlib.sha256(weights).hexdigest(), bytes=len(weights))
    (place / WEIGHTS_FILE).write_bytes(weights)
    (place / CARD_FILE).write_text(card.model_copy(update={"weights": described}).to_json())
    return place


def same_rule(cards: Iterable[Card]) -> GridRule:
    """Return the one grid of all cards: they share one interpolation.

    Raises
    ------
    TocsinError
        Two cards were trained on different grids.
    """
    rules = {card.name: card.rule for card in cards}
    if len(set(rules.values())) > 1:
        raise TocsinError(f"these models do not share a grid: {rules}")
    return next(iter(rules.values()), GridRule())


def table(models: Iterable[Card]) -> str:
    """Return the held-out figures of models as Markdown: log losses of classifiers, areas of anomaly scores."""
    groups = ("whole_curve", "packet_of_last_alert", "packet_of_any_alert")
    rows = ["| model | input | whole curve | last alert's packet | any alert's packet |", "|---|---|---|---|---|"]
    for card in models:
        halves = card.metrics.get("mean_sd_over_halves", {})
        if card.kind == "anomaly" and halves:
            for part in ("score", "reconstruction", "forest"):
                figures = [_mean_sd(halves[f"auc.{part}.{group}"]) for group in groups]
                rows.append(f"| {card.name} | {part}: AUC | {' | '.join(figures)} |")
        for inputs, word in (("host_z", "host z"), ("no_host_z", "no host z")):
            if f"{inputs}.{groups[0]}" in card.metrics:
                figures = [_mean_sd(card.metrics[f"{inputs}.{group}"]["flat_log_loss"]) for group in groups]
                rows.append(f"| {card.name} | {word}: log loss | {' | '.join(figures)} |")
    return "\n".join(rows) + "\n"


def _mean_sd(figure: list[float]) -> str:
    return f"{figure[0]:.3f} ± {figure[1]:.3f}" if figure[1] > 0 else f"{figure[0]:.3f} (one fold)"


def _root(root: Path | None) -> Path:
    return Path(str(files("broker") / "models" / "weights")) if root is None else root


def _equal(name: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise TocsinError(f"model {name}: {what} is {found}, expected {expected}")
