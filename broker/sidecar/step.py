"""The sidecar's step: products in, one result for each out; the delivery loop does the rest, as for the stream."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np

from broker.core import schemas
from broker.core.batch import PacketBatch
from broker.core.errors import Wait
from broker.core.metrics import Metrics
from broker.core.outcomes import DeadLetter, Outcomes, Record
from broker.core.reasons import Dead
from broker.core.topics import Topics
from broker.decode.schemas import Ids
from broker.sidecar import read, write
from broker.sidecar.answer import Model
from broker.sidecar.fetch import Fetch
from broker.sidecar.fitsimages import Images
from broker.sidecar.made import Made
from broker.sidecar.product import PRODUCT_BYTES, Kind, NoAnswer, Product
from broker.sidecar.write import Context, Said, split

RESULT_BYTES = 8_000_000
"""Of a result; what Kafka takes on the topics that we make."""
BATCH_BYTES = 128_000_000
"""Of results that are committed together, but for those of the last stretch."""
PART_S = 20.0
"""After so many seconds what is done of a batch is committed: Kafka drops a member that is away for too long."""
SHARE = 1024
"""Records that are worth a thread."""
LOGGED = 10
Answers = list[dict[str, Any]]
Stretch = tuple[dict[int, Product], list[DeadLetter]]
log = logging.getLogger("tocsin.sidecar")


@dataclass(slots=True)
class Sidecar:
    """What the delivery loop runs on every batch of products.

    Attributes
    ----------
    models : sequence of Model
        The rows that answer, in the order in which results name them.
    topics : Topics
        Results go to ``topics.results``.
    clock_ms : callable
        Unix ms UTC, for the results' publish time.
    fetch : callable
        Reads arrays that lie elsewhere.
    ids : Ids
        Writer schemas of products by wire id.
    images : Images, optional
        Reads FITS files, where packets may be such.
    threads : int
        That answer: the rows' networks leave the interpreter to others.
    stretch_bytes : int
        Arrays and records that are in memory together.
    batch_bytes : int
        Results that end what is committed together.
    part_s : float
        Seconds after which what is done is committed.
    timer : callable
        Seconds, for those, for wall times and the stages' metric.
    """

    models: Sequence[Model]
    topics: Topics
    metrics: Metrics
    version: str
    clock_ms: Callable[[], int]
    fetch: Fetch = field(default_factory=Fetch)
    ids: Ids = read.OURS
    images: Images | None = None
    threads: int = 1
    stretch_bytes: int = 2 * PRODUCT_BYTES
    batch_bytes: int = BATCH_BYTES
    part_s: float = PART_S
    timer: Callable[[], float] = time.perf_counter
    _ended: Counter[tuple[str, str]] = field(default_factory=Counter)  # records by row and reason
    _answered: Outcomes | None = None  # what that is of
    _most: dict[Kind, int] = field(default_factory=dict)  # records of a product

    def __call__(self, batch: PacketBatch) -> Outcomes:
        """Return one outcome per product of ``batch``, or of the first ones.

        That is where results are many bytes, where they take long, and where one must wait.

        Raises
        ------
        broker.core.errors.Wait
            What holds an array of the first product, or the schema registry, does not answer.
        """
        end, made = self.timer() + self.part_s, Made(batch)
        stretches = read.products(
            batch, self.fetch, self.ids, self.stretch_bytes, lambda: self.timer() >= end, self.images
        )
        ended = size = 0
        while size < self.batch_bytes and (self.timer() < end or not ended):
            if (stretch := self._next(stretches, ended)) is None:
                break
            ended += sum(map(len, stretch))
            products, dead = self._without_long(*stretch)
            kinds = {product.kind for product in products.values()}
            with self._timed("rows"):
                answers = {
                    kind: self._answers(kind, [p for p in products.values() if p.kind == kind]) for kind in kinds
                }
            with self._timed("result"):
                size += self._take(made, products, answers, dead)
        self._ended, self._answered = made.ended, made.outcomes(ended)
        return self._answered

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
        """Count the records that were answered, now that it is published; log dead letters.

        A packet may be given up, and committed, without this step; then nothing is counted.
        """
        if self._answered is outcomes:
            self._count_records()
            self._answered = None  # results can be large
        for letter in outcomes.dead[:LOGGED]:
            where = {"topic": batch.topics[letter.row], "partition": int(batch.partitions[letter.row])}
            place = {**where, "offset": int(batch.offsets[letter.row])}
            found = {"stage": letter.stage, "reason": letter.reason}
            log.warning("dead letter: %s", letter.text, extra={**place, **found})
        if len(outcomes.dead) > LOGGED:
            log.warning("%d more dead letters in this batch", len(outcomes.dead) - LOGGED)

    def _count_records(self) -> None:
        for (row, reason), n in self._ended.items():
            if reason:
                self.metrics.count("records_unanswered_total", n, row=row, reason=reason)
            else:
                self.metrics.count("records_answered_total", n, row=row)

    def _without_long(self, products: dict[int, Product], dead: list[DeadLetter]) -> Stretch:
        """Bury products whose results no topic takes, before they are answered."""
        for kind in {product.kind for product in products.values()} - self._most.keys():
            self._most[kind] = RESULT_BYTES // bytes_of_record(self.models, kind)
        long = {row: len(p) for row, p in products.items() if len(p) > self._most[p.kind]}
        kept = {row: product for row, product in products.items() if row not in long}
        return kept, dead + [_too_long(row, f"of {n:,} records") for row, n in long.items()]

    def _answers(self, kind: Kind, products: list[Product]) -> Iterator[Answers]:
        """Return what gives the answers of all rows to each product; each thread takes its share of the products."""
        shares = _shares(products, self.threads)
        if len(shares) == 1:
            return _by_product(self._said(kind, products), products)
        with ThreadPoolExecutor(self.threads, "rows") as pool:
            said = list(pool.map(lambda share: self._said(kind, share), shares))
        return chain.from_iterable(map(_by_product, said, shares))

    def _said(self, kind: Kind, products: list[Product]) -> list[Said]:
        """Return what every row that reads the kind says, in one forward pass for rows that share a trunk."""
        said: dict[int, Said] = {}
        for group in self._groups(kind):
            began = self.timer()
            embedded = self.models[group[0]].embed(products)
            shared = self.timer() - began
            for number in group:
                began = self.timer()
                answer = self.models[number].answer(embedded)
                seconds = (shared + self.timer() - began) / sum(map(len, products))
                said[number] = Said(self.models[number].provenance, answer, seconds)
        return [said[number] for number in sorted(said)]

    def _groups(self, kind: Kind) -> list[list[int]]:
        """Return the numbers of the models that read a kind, those with one trunk together."""
        groups: dict[str, list[int]] = {}
        for number, model in enumerate(self.models):
            if model.kind == kind:
                groups.setdefault(model.trunk, []).append(number)
        return list(groups.values())

    def _next(self, stretches: Iterator[Stretch], ended: int) -> Stretch | None:
        """Return the next stretch; None after the last, or where those that ``ended`` need not wait with a product."""
        try:
            with self._timed("product"):
                return next(stretches, None)
        except Wait:
            if ended:
                return None
            raise

    def _take(
        self, made: Made, products: dict[int, Product], answers: dict[Kind, Iterator[Answers]], dead: list[DeadLetter]
    ) -> int:
        """Add the outcomes of a stretch, and return the bytes of its results."""
        now, size = self.clock_ms(), 0
        for row, product in products.items():
            found = next(answers[product.kind])
            result = self._record(made.batch, row, product, found, now)
            if isinstance(result, Record):
                made.add(result, _why_unscored(found))
                size += len(result.value)
                for answer in found:
                    name = f"{answer['row']}@{answer['variant']}"
                    made.ended.update({(name, why): n for why, n in _reasons(answer, len(product)).items()})
            else:
                dead.append(result)
        made.bury(dead)
        return size

    def _record(
        self, batch: PacketBatch, row: int, product: Product, answers: Answers, now: int
    ) -> Record | DeadLetter:
        schema, context = schemas.latest("result"), Context(_source(batch, row), batch.ingest_ms, now, self.version)
        value = schema.encode(write.result(product, answers, _why_unscored(answers), context))
        if len(value) > RESULT_BYTES:
            return _too_long(row, f"of {len(value):,} bytes")
        key = (product.object_id or product.product_id).encode()
        return Record(row, self.topics.results, key, value, schema.headers)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = self.timer()
        yield
        self.metrics.observe("stage_seconds", self.timer() - began, stage=stage)


def bytes_of_record(models: Sequence[Model], kind: Kind) -> int:
    """Return how long a record's share of a result is at least, without its id [bytes]."""
    asked = [model for model in models if model.kind == kind]
    return 1 + sum(write.bytes_of_record(model.answer(model.embed([]))) for model in asked)


def _shares(products: list[Product], threads: int) -> list[list[Product]]:
    """Return the products in as many parts as there are threads, alike in records; few records stay together."""
    ends = np.cumsum([len(product) for product in products])
    if threads == 1 or len(products) == 1 or ends[-1] < 2 * SHARE:
        return [products]
    cuts = [0, *np.searchsorted(ends, ends[-1] * np.arange(1, threads) / threads, side="right").tolist(), len(products)]
    return [products[begin:end] for begin, end in pairwise(cuts) if begin < end]


def _by_product(said: list[Said], products: list[Product]) -> Iterator[Answers]:
    """Yield the answers of all rows to each product."""
    sizes = [len(product) for product in products]
    parts = [split(one, sizes) for one in said]
    return (([next(part) for part in parts]) for _ in sizes)


def _why_unscored(answers: Answers) -> str:
    """Return '' where any record has an answer, else the first reason."""
    first = ""
    for answer in answers:
        reasons: list[str] = answer["reasons"]
        if not reasons or "" in reasons:
            return ""
        first = first or reasons[0]
    return first or str(NoAnswer.OTHER_KIND)


def _reasons(answer: dict[str, Any], records: int) -> dict[str, int]:
    """Return how many records have which reason, '' for an answer."""
    return Counter(answer["reasons"]) if answer["reasons"] else {"": records}


def _too_long(row: int, how: str) -> DeadLetter:
    text = f"the result {how} is more than {RESULT_BYTES:,} bytes: send fewer records a product"
    return DeadLetter(row, "result", Dead.BOUND_EXCEEDED, text)


def _source(batch: PacketBatch, row: int) -> tuple[str, int, int, int]:
    return batch.topics[row], int(batch.partitions[row]), int(batch.offsets[row]), int(batch.timestamps_ms[row])
