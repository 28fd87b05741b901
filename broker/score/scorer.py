"""All scorers of one survey behind two calls: which grid to interpolate on, and the scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from broker.core.batch import ClassScores, Floats, Interpolated, Ints, LightCurves, Scores
from broker.core.errors import TocsinError
from broker.models.networks import reads
from broker.score import card as cards
from broker.score.anomaly import Anomaly
from broker.score.average import average
from broker.score.classify import Classifier
from broker.score.tensors import Tensors, build, without_host
from broker.score.window import GridRequest, GridRule, request


@dataclass(frozen=True, slots=True)
class Scorer:
    """Classifiers and an anomaly score that share one grid; several classifiers are averaged.

    No row's scores depend on the other rows of a batch or on their order.

    Attributes
    ----------
    survey : str
    rule : GridRule
    classifiers : tuple of Classifier
    anomaly : Anomaly or None
    min_detections_classify, min_detections_anomaly : int
        An alert with fewer detections is unscored by that scorer.
    """

    survey: str
    rule: GridRule
    classifiers: tuple[Classifier, ...]
    anomaly: Anomaly | None
    min_detections_classify: int = 1
    min_detections_anomaly: int = 2

    @classmethod
    def load(
        cls,
        survey: str,
        classifiers: list[str],
        anomaly: str | None,
        *,
        device: str = "auto",
        threads: int = 1,
        min_detections_classify: int = 1,
        min_detections_anomaly: int = 2,
        root: Path | None = None,
    ) -> Scorer:
        """Load the models named, each checked against its card.

        Parameters
        ----------
        classifiers, anomaly : list of str, str or None
            Names of models, or the paths of their folders (`broker.score.card.locate`).
        device : {"auto", "cpu", "cuda"}
            ``auto`` takes a GPU where there is one.
        threads : int
            Threads of torch in this process. On a busy machine two were slower than one.
        root : Path, optional
            Folder of the models that are named; default the installed ones.

        Raises
        ------
        TocsinError
            A model is missing, is not what its card says, is of another survey, or has another grid.
        """
        torch.set_num_threads(threads)
        place = choose_device(device)

        def located(model: str) -> tuple[str, torch.device, Path | None]:
            name, folder = cards.locate(model)
            return name, place, folder or root

        loaded = tuple(Classifier.load(*located(model)) for model in classifiers)
        strange = None if anomaly is None else Anomaly.load(*located(anomaly))
        models = [m.card for m in loaded] + ([] if strange is None else [strange.card])
        for card in models:
            if card.survey != survey:
                raise TocsinError(f"the model {card.name} is for {card.survey}, not for {survey}")
        rule = cards.same_rule(models)
        return cls(survey, rule, loaded, strange, min_detections_classify, min_detections_anomaly)

    @property
    def reads_epochs(self) -> bool:
        """A network reads raw observations, which `build` makes when it is told."""
        return any(reads(classifier.network) == "epochs" for classifier in self.classifiers)

    def grid(self, curves: LightCurves) -> GridRequest:
        """Return the windowed curves and the grid times (A, T) to interpolate, of clean curves."""
        return request(curves, self.rule)

    def __call__(
        self,
        grid: GridRequest,
        interpolated: Interpolated,
        *,
        host_z: Floats | None = None,
        host_z_err: Floats | None = None,
    ) -> Scores:
        """Return every scorer's answer for A alerts: `answer` on the tensors of an interpolation.

        Parameters
        ----------
        grid : GridRequest
            From `grid`.
        interpolated : Interpolated
            Of ``grid.curves`` at ``grid.times``, with variance.
        host_z, host_z_err : (A,) float64, optional
            Redshift of the host galaxy and its error; NaN where not known.
        """
        tensors = build(grid, interpolated, host_z=host_z, host_z_err=host_z_err, epochs=self.reads_epochs)
        return self.answer(tensors, grid.n_detections)

    def answer(self, tensors: Tensors, n_detections: Ints) -> Scores:
        """Return every scorer's answer for A alerts, whose tensors other scorers on the same grid may share.

        Parameters
        ----------
        tensors : Tensors
            With the host's scalars.
        n_detections : (A,) int64
        """
        classes = self.classify(tensors, n_detections)
        if self.anomaly is None:
            return Scores(classes, None)
        return Scores(classes, self.anomaly.score(without_host(tensors), n_detections, self.min_detections_anomaly))

    def classify(self, tensors: Tensors, n_detections: Ints) -> list[ClassScores]:
        """Return every classifier's answer for A alerts, and of several their average as the last."""
        found = [c.score(tensors, n_detections, self.min_detections_classify) for c in self.classifiers]
        return [*found, average(self.survey, found)] if len(found) > 1 else found


def choose_device(name: str) -> torch.device:
    """Return the torch device of a setting; on a GPU, float32 is then float32.

    torch lets cuDNN shorten the inputs of convolutions and of GRUs to ten bits (TF32), which moves probabilities in
    the third decimal.

    Raises
    ------
    TocsinError
        A GPU is asked for and there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise TocsinError("device = cuda, but torch finds no GPU; use auto or cpu")
    if name == "cpu" or not there:
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")
