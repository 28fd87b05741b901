"""Mutated packets, schemas and frames: no crash, no hang, no memory beyond the bound; what both read is equal.

``TOCSIN_FAULTS=full`` runs a million inputs; ``python -m tests.decode.fuzz`` is the same with a state to resume from.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.decode import oracle
from tests.decode.fuzz import bodies, frames, mutate, schemas, worker
from tests.decode.fuzz.mutate import Input
from tests.decode.fuzz.run import Report, lines
from tests.decode.fuzz.seeds import Seed, _small
from tests.decode.fuzz.theirs import Oracle
from tests.decode.fuzz.worker import Worker

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("TOCSIN_FAULTS") == "full"
INPUTS = 1_000_000 if FULL else 3_000
NULLS = b'{"type": "record", "name": "r", "fields": [{"name": "x", "type": {"type": "array", "items": "null"}}]}'


@pytest.mark.slow
def test_fuzz() -> None:
    command = [sys.executable, "-m", "tests.decode.fuzz", "--inputs", str(INPUTS), "--seed", "20261123"]
    done = subprocess.run(command, cwd=ROOT, capture_output=not FULL, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def small() -> list[Seed]:
    return _small()


def test_the_same_number_gives_the_same_inputs(small: list[Seed]) -> None:
    first, again, other = (mutate.batch(7, number, 50, [small] * 3) for number in (3, 3, 4))
    assert first == again != other


def test_marks_are_where_things_lie(small: list[Seed]) -> None:
    rich = small[0]
    assert Counter(mark.what for mark in rich.marks)["item"] == 13
    (first, second, *_) = [mark for mark in rich.marks if mark.what == "count"]
    assert [bodies.value_of(rich.body, mark) for mark in (first, second)] == [8, 0]


def test_every_mutation_does_something(small: list[Seed]) -> None:
    pick = random.Random(1)
    for change in (*bodies.ALL, *frames.ALL):
        good = {frames.whole(seed.schema, seed.body) for seed in small} | {seed.body for seed in small}
        assert {change(pick, pick.choice(small)) for _ in range(30)} - good, change
    for hurt in schemas.ALL:
        assert {hurt(pick, pick.choice(small)) for _ in range(30)} - {(s.schema, s.body) for s in small}, hurt


def test_the_run_would_notice(small: list[Seed], monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value, a good packet that changes, an unexplained refusal: each is a failure of the run."""
    monkeypatch.setattr(worker, "seeds", lambda: [small * 8] * 2)
    run = Worker(1, 1, 1.0)
    good = Input("body.untouched", frames.whole(small[0].schema, small[0].body), "small")
    found = run.decode([good], traced=True)
    run._compare([good], random.Random(), found)
    assert (found.failures, found.verdicts["equal", good.kind]) == ([], 1)
    captured = oracle.captured
    monkeypatch.setattr(worker, "captured", lambda *a: ({**captured(*a)[0], "candid": 1}, captured(*a)[1]))
    run._compare([good], random.Random(), found)
    assert "DIFFERENT" in found.failures[0]
    run._good[0] = run._good[1]
    assert "the good packet in row 0" in run.decode([good]).failures[0]
    run._oracle.close()
    report = Report(1, verdicts=Counter({("only ours", "a new reason"): 1}))
    assert report.unexplained() == ["only ours: a new reason"]
    assert any("NOT EXPLAINED" in line for line in lines(report))


def test_what_kills_or_stops_the_oracle_is_its_answer() -> None:
    theirs = Oracle()
    accepted, why, _ = theirs.ask(frames.whole(NULLS, bodies.varint(2**40) + b"\0"), "")
    assert not accepted
    assert why.startswith(("killed", "MemoryError"))
    assert theirs.ask(frames.whole(NULLS, b"\2\0"), "")[0]
    theirs.close()
