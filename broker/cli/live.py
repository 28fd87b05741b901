"""What a person sees while alerts flow: a progress bar and a table of the latest alerts."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from broker.core import schemas
from broker.core.batch import PacketBatch
from broker.core.config import Settings
from broker.core.errors import TocsinError
from broker.core.metrics import Metrics
from broker.core.outcomes import Outcomes, Record, Step
from broker.core.reading import branches, probabilities
from broker.core.taxonomy import BY_ID

if TYPE_CHECKING:
    from broker.deliver.deadletters import Limits
    from broker.deliver.loop import Totals
    from broker.deliver.notes import Notes
    from broker.deliver.types import Bounds, Sink, Source

ROWS = 12
AGAIN = "stopped before the end; run the same command again to go on"


@dataclass(slots=True)
class Watched:
    """A `Step` around another one that shows what was committed.

    Attributes
    ----------
    step : Step
    primary : frozenset of str
        Topics of the annotations.
    total : int or None
        Packets expected, for the bar.
    what : str
        How packets are called.
    tabled : bool
        Show the latest annotations, too.
    """

    step: Step
    primary: frozenset[str]
    total: int | None
    console: Console
    what: str = "alerts"
    tabled: bool = True
    latest: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=ROWS))
    progress: Progress = field(init=False)
    live: Live | None = None

    def __post_init__(self) -> None:
        self.progress = Progress(
            TextColumn(self.what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f}/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.progress.add_task(self.what, total=self.total, rate=0.0)

    def __call__(self, batch: PacketBatch) -> Outcomes:
        """Run the step."""
        return self.step(batch)

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
        """Move the bar and show the batch's last scored alerts."""
        self.step.committed(batch, outcomes)
        if self.tabled:
            scored = [r for r in outcomes.records if r.topic in self.primary and outcomes.code[r.row] == 0]
            self.latest.extend(_annotation(record) for record in scored[-ROWS // 2 :])
        task = self.progress.tasks[0]
        rate = (task.completed + len(batch)) / max(task.elapsed or 0.0, 1e-3)
        self.progress.update(task.id, advance=len(batch), rate=rate)
        if self.live is not None:
            self.live.update(self._drawn())

    def _drawn(self) -> Group:
        return Group(table(self.latest), self.progress) if self.tabled else Group(self.progress)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the block runs; without a terminal, only the final state is printed."""
        try:
            with Live(self._drawn(), console=self.console, refresh_per_second=8) as self.live:
                yield
        finally:  # what is said of an error begins a line, too
            self.console.print()


def deliver(
    source: Source,
    view: Watched,
    sink: Sink,
    settings: Settings,
    metrics: Metrics,
    *,
    bounds: Bounds,
    notes: Notes,
    limits: Limits | None = None,
) -> Totals:
    """Run the delivery loop around a step that is shown, to the end or to a signal.

    Raises
    ------
    TocsinError
        A signal came before the end.
    """
    from broker.deliver.loop import run, stop_on_signals

    stop = threading.Event()
    with stop_on_signals(stop), view.shown():
        totals = run(
            source,
            view,
            sink,
            metrics=metrics,
            bounds=bounds,
            limits=limits,
            primary=view.primary,
            stop=stop,
            drain_s=settings.run.drain_s,
            notes=notes,
        )
    if stop.is_set():
        raise TocsinError(AGAIN)
    return totals


def table(annotations: Iterable[dict[str, Any]]) -> Table:
    """Return a table of annotations, latest last."""
    shown = Table(title="latest scored alerts", title_justify="left", expand=False)
    for name in ("object", "survey", "class", "p", "branch", "anomaly", "mag", "age, d"):
        shown.add_column(name, justify="left" if name in ("object", "survey", "class") else "right")
    for annotation in annotations:
        shown.add_row(*row(annotation))
    return shown


def row(annotation: dict[str, Any]) -> tuple[str, ...]:
    """Return an annotation as text: object, survey, class, its and its branch's p, anomaly, magnitude, age in days."""
    name, probability, branch = best_class(annotation)
    anomaly = (annotation["anomaly"] or {}).get("score")
    summary = annotation["summary"]
    mag = summary["lastMag"].get(annotation["band"])
    age = None if summary["firstMjd"] is None else annotation["mjd"] - summary["firstMjd"]
    return (
        annotation["objectId"],
        annotation["survey"],
        name,
        _number(probability, ".2f"),
        _number(branch, ".2f"),
        _number(anomaly, ".3f"),
        _number(mag, ".2f", f" {annotation['band']}"),
        _number(age, ".1f"),
    )


def best_class(annotation: dict[str, Any]) -> tuple[str, float | None, float | None]:
    """Return the likeliest class, its probability and that of the branch above it."""
    if not (found := probabilities(annotation)):
        return f"({annotation['unscoredReason'] or 'not scored'})", None, None
    best = max(found, key=found.__getitem__)
    if best not in BY_ID:
        return str(best), found[best], None
    return BY_ID[best].short, found[best], branches(annotation)[BY_ID[best].parent]


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else format(value, form) + unit


def _annotation(record: Record) -> dict[str, Any]:
    return schemas.decode(record.value, list(record.headers), "annotation")


def picture(path: Path, annotations: Iterable[dict[str, Any]], below: str) -> None:
    """Write the table of ``annotations`` and the text ``below`` it as an SVG picture of a terminal."""
    console = Console(record=True, width=86, file=StringIO())
    console.print(table(annotations))
    console.print(below, highlight=False)
    svg = console.export_svg(title="tocsin demo")
    # rich's style fetches a font from the network; a picture must not
    path.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))
