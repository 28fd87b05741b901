"""Dead letters keep their numbers, in whatever order a reading meets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from broker.cli import where
from broker.cli.dlq import dlq
from broker.core.errors import TocsinError

PLACES = [("b", 0, 7), ("a", 1, 2), ("a", 0, 10), ("a", 0, 9)]


class Shuffled:
    """Outputs that give their dead letters in another order at each reading, as several partitions do."""

    def __init__(self) -> None:
        self.readings = 0

    def dead_letters(self) -> Iterator[dict[str, Any]]:
        self.readings += 1
        turn = self.readings % len(PLACES)
        for topic, partition, offset in PLACES[turn:] + PLACES[:turn]:
            place = {"topic": topic, "partition": partition, "offset": offset}
            times = dict.fromkeys(("timestamp", "ingestTimestamp"), datetime(2026, 1, 1, tzinfo=UTC))
            packet = f"{topic}{partition}{offset}".encode()
            yield {**place, **times, "stage": "decode", "reason": "malformed", "packet": packet}


@pytest.fixture(autouse=True)
def outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = Shuffled()
    monkeypatch.setattr(where, "outputs", lambda *_: shuffled)


def call(*arguments: str) -> str:
    return CliRunner().invoke(dlq, arguments, catch_exceptions=False).output


def test_the_number_of_a_letter_is_the_same_in_list_and_show(tmp_path: Path) -> None:
    listed = [json.loads(line) for line in call("list", "kafka", "--json").splitlines()]
    assert [(letter["topic"], letter["partition"], letter["offset"]) for letter in listed] == sorted(PLACES)
    assert [letter["number"] for letter in listed] == [0, 1, 2, 3]
    for letter in listed:
        out = tmp_path / "packet"
        shown = json.loads(call("show", "kafka", str(letter["number"]), "--json", "--out", str(out)))
        assert {"number": letter["number"], **shown} == letter
        assert out.read_bytes().hex() == letter["packetHead"]


def test_a_limit_takes_the_first() -> None:
    lines = call("list", "kafka", "--limit", "2").splitlines()
    assert [line.split()[-1] for line in lines] == ["a/0/9", "a/0/10"]


def test_a_number_that_is_not_there() -> None:
    with pytest.raises(TocsinError, match="no dead letter 4"):
        call("show", "kafka", "4")
